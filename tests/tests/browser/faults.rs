//! What goes wrong between page and server, and in the page: silence, proxies, faults, no network,
//! a page that is translated.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, ensure};
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
    proxy::{Head, Proxy},
};

use crate::set_up;

#[tokio::test]
async fn a_connection_gone_silent_is_noticed_and_taken_up_again() -> Result<()> {
    let program = Program::start(&[])?;
    let proxy = Proxy::start(program.address()).await?;
    with_browsers(async |browsers| {
        let playground =
            Playground::open_at(browsers, &proxy.origin(), Look::DESKTOP, "", "/").await?;
        set_up(&playground, 0, 1).await?;
        proxy.silence();
        let shown = playground.attribute("job-state", "job").await?;
        playground.click("generate").await?;
        playground.wait_for_attribute("connection", "connection", "lost").await?;
        // What was asked into the silence is asked again, and not drawn twice.
        let job = playground.wait_for_other("job-state", "job", &shown).await?.parse()?;
        playground.wait_for_state(&job, "finished").await?;
        playground.draw().await.map(drop)
    })
    .await
}

#[tokio::test]
async fn where_a_proxy_lets_no_websocket_through_pictures_come_over_plain_http() -> Result<()> {
    let program = Program::start(&[])?;
    // The first answer to what is asked for is lost as well.
    let is_first = AtomicBool::new(true);
    let without_upgrade = move |head: Head| {
        let mut head = head.without("Upgrade").without("Connection");
        head.loses_answer =
            head.line.starts_with("POST /api/jobs ") && is_first.swap(false, Ordering::Relaxed);
        head
    };
    let proxy = Proxy::editing(program.address(), without_upgrade).await?;
    with_browsers(async |browsers| {
        let playground =
            Playground::open_at(browsers, &proxy.origin(), Look::DESKTOP, "", "/").await?;
        playground.wait_for_attribute("connection", "connection", "http").await?;
        playground.page.wait_for_text("It must pass on the headers Host, Upgrade and").await?;
        let before = "return document.querySelector('[data-testid=generate]:enabled') !== null";
        playground.page.wait_for("the button Generate", before).await?;
        let example = playground.attribute("job-state", "job").await?;
        let results = "return (await (await fetch('/api/results')).json()).results.length";
        let before = playground.page.value(results).await?;
        playground.choose("generate").await?;
        let job = playground.wait_for_other("job-state", "job", &example).await?.parse()?;
        playground.wait_for_state(&job, "finished").await?;
        // Asked for twice, drawn once.
        let after = playground.page.value(results).await?;
        ensure!(after.as_u64() == before.as_u64().map(|count| count + 1), "{before}, {after}");
        playground.goto("/explore").await?;
        playground.wait_for_attribute("connection", "connection", "http").await?;
        playground.wait_for_attribute("pad", "followed", "true").await
    })
    .await
}

#[tokio::test]
async fn where_a_proxy_changes_the_host_the_page_and_the_log_say_so() -> Result<()> {
    let program = Program::start(&[])?;
    let other_host = |head: var_dd_tests::proxy::Head| head.with("Host", "localhost:1");
    let proxy = Proxy::editing(program.address(), other_host).await?;
    with_browsers(async |browsers| {
        let playground =
            Playground::open_at(browsers, &proxy.origin(), Look::DESKTOP, "", "/").await?;
        playground.wait_for_attribute("connection", "connection", "http").await?;
        playground.page.wait_for_text("It must pass on the headers Host").await?;
        let log = program.log();
        let told = log.lines().filter(|line| line.contains("localhost:1")).count();
        ensure!(told == 1, "told {told} times:\n{log}");
        Ok(())
    })
    .await
}

/// A proxy that does not find a file of the program, until what is returned with it is false.
async fn proxy_without(program: &Program, file: &'static str) -> Result<(Proxy, Arc<AtomicBool>)> {
    let is_missing = Arc::new(AtomicBool::new(true));
    let missing = is_missing.clone();
    let proxy = Proxy::editing(program.address(), move |mut head| {
        if missing.load(Ordering::Relaxed) {
            head.line = head.line.replace(file, "nothing.wasm");
        }
        head
    });
    Ok((proxy.await?, is_missing))
}

#[tokio::test]
async fn a_place_whose_code_does_not_arrive_says_so_and_is_there_once_it_does() -> Result<()> {
    let program = Program::start(&[])?;
    let (proxy, is_missing) = proxy_without(&program, "split_learn.wasm").await?;
    with_browsers(async |browsers| {
        let playground =
            Playground::open_at(browsers, &proxy.origin(), Look::DESKTOP, "", "/").await?;
        playground.wait_until_ready().await?;
        playground.page.click(".learn-offer").await?;
        playground.element_appears("part-missing").await?;
        is_missing.store(false, Ordering::Relaxed);
        playground.page.click("[data-testid=part-missing] button").await?;
        playground.wait_for_attribute("lesson", "lesson", "1").await?;
        // Other places were there all along.
        playground.goes_to("nav a[href='/']", "/").await?;
        playground.wait_until_ready().await
    })
    .await
}

#[tokio::test]
async fn a_tool_whose_code_does_not_arrive_says_so_and_is_there_once_it_does() -> Result<()> {
    let program = Program::start(&[])?;
    let (proxy, is_missing) = proxy_without(&program, "split_tools.wasm").await?;
    with_browsers(async |browsers| {
        let playground =
            Playground::open_at(browsers, &proxy.origin(), Look::DESKTOP, "", "/").await?;
        set_up(&playground, 0, 1).await?;
        playground.draw().await?;
        playground.wait_until_shown().await?;
        playground.choose("desk-open").await?;
        playground.element_appears("part-missing").await?;
        // What is drawn is there all the same.
        playground.draw().await?;
        is_missing.store(false, Ordering::Relaxed);
        playground.page.click("[data-testid=part-missing] button").await?;
        playground.element_appears("gain-0").await?;
        // The others came with it.
        playground.choose("look-closer").await?;
        playground.element_appears("lightbox").await
    })
    .await
}

#[tokio::test]
async fn under_a_path_that_a_proxy_takes_off_everything_works() -> Result<()> {
    let program = Program::start(&[])?;
    let proxy = Proxy::editing(program.address(), |mut head| {
        head.line = match head.line.contains(" /play/") {
            true => head.line.replacen(" /play/", " /", 1),
            false => head.line.replacen(" /", " /outside/", 1),
        };
        head
    })
    .await?;
    with_browsers(async |browsers| {
        let origin = format!("{}/play", proxy.origin());
        let playground = Playground::open_at(browsers, &origin, Look::DESKTOP, "", "/").await?;
        set_up(&playground, 0, 1).await?;
        let job = playground.draw().await?;
        playground.goes_to("nav a[href='/play/compare']", "/play/compare").await?;
        playground.element_appears("compare-start").await?;
        playground.goes_to("nav a[href='/play/']", "/play/").await?;
        playground.wait_for_state(&job, "finished").await?;
        // Pictures of the list and of the result come from there too.
        let loaded = "const image = document.querySelector('[data-testid=recent-item] img'); \
            return image && image.complete && image.naturalWidth > 0";
        playground.page.wait_for("the picture in the list", loaded).await?;
        playground.goto(&format!("/r/{job}")).await?;
        playground.wait_for_state(&job, "finished").await?;
        let shown = "const image = document.querySelector('[data-testid=stage-picture]'); \
            return image && image.complete && image.naturalWidth > 0";
        playground.page.wait_for("the picture of the result", shown).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_fault_of_the_page_is_told_on_the_page_with_a_way_on() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for fault in [
            "dispatchEvent(new CustomEvent('var-dd-panic', { detail: 'panicked at x' }))",
            "dispatchEvent(new ErrorEvent('error', { error: new WebAssembly.RuntimeError('trap') }))",
        ] {
            let playground = Playground::open(browsers, &program, Look::PHONE, "/").await?;
            playground.wait_until_ready().await?;
            playground.page.value(fault).await?;
            playground.element_appears("stopped").await?;
            let problems = playground.page.accessibility_problems().await?;
            ensure!(problems.is_empty(), "{}", problems.join("\n"));
            playground.page.click("[data-testid=stopped] button").await?;
            playground.wait_until_ready().await?;
        }
        Ok(())
    })
    .await
}

/// Whether the page is kept for when there is no network.
const IS_KEPT: &str = "return navigator.serviceWorker.controller !== null";

#[tokio::test]
async fn a_page_is_kept_for_later_once_all_its_files_arrive() -> Result<()> {
    let program = Program::start(&[])?;
    let (proxy, is_missing) = proxy_without(&program, "split_learn.wasm").await?;
    with_browsers(async |browsers| {
        // What becomes of the first try is seen before the files are there.
        let before = "window.tries = 0; const register = ServiceWorkerContainer.prototype.register; \
            ServiceWorkerContainer.prototype.register = async function (...all) { \
            const registration = await register.apply(this, all); const worker = \
            registration.installing; worker?.addEventListener('statechange', () => { \
            if (worker.state === 'redundant') tries += 1; }); return registration }";
        let playground =
            Playground::open_at(browsers, &proxy.origin(), Look::DESKTOP, before, "/").await?;
        playground.wait_until_ready().await?;
        playground.page.wait_for("a try without success", "return tries > 0").await?;
        is_missing.store(false, Ordering::Relaxed);
        playground.page.wait_for("the page to be kept", IS_KEPT).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn without_a_network_the_page_opens_and_says_that_there_is_none() -> Result<()> {
    let mut program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_until_ready().await?;
        playground.page.wait_for("the page to be kept", IS_KEPT).await?;
        program.kill()?;
        for path in ["/", "/compare", &format!("/r/{}", "0".repeat(32))] {
            playground.goto(path).await?;
            playground.wait_for_attribute("connection", "connection", "lost").await?;
            playground.page.wait_for_text("Connection lost").await?;
        }
        playground.goto("/method.html").await?;
        let is_text = "return document.querySelectorAll('h2').length > 3";
        playground.page.wait_for("the text on the method", is_text).await?;
        program.restart()?;
        playground.goto("/").await?;
        playground.wait_until_ready().await
    })
    .await
}

#[tokio::test]
async fn chosen_colours_hold_from_the_first_paint() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        // Every colour of the paper that could be seen, from the beginning of the document on.
        let watch = "window.papers = []; const look = () => { if (document.body) { const paper = \
            getComputedStyle(document.documentElement).backgroundColor; \
            if (paper !== 'rgba(0, 0, 0, 0)' && papers.at(-1) !== paper) papers.push(paper); } \
            requestAnimationFrame(look) }; requestAnimationFrame(look)";
        let playground =
            Playground::open_at(browsers, &program.url(""), Look::DESKTOP, watch, "/").await?;
        playground.wait_until_ready().await?;
        playground.page.value("localStorage.setItem('var-dd.theme', '\"dark\"')").await?;
        playground.page.reload().await?;
        playground.wait_until_ready().await?;
        let papers = playground.page.value("return papers").await?;
        ensure!(papers.as_array().is_some_and(|papers| papers.len() == 1), "seen: {papers}");
        ensure!(papers[0] == "rgb(20, 19, 18)", "{papers}");
        Ok(())
    })
    .await
}

/// What translation in a browser does: an element for every text.
const TRANSLATE: &str = "const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); \
    const texts = []; while (walker.nextNode()) { const text = walker.currentNode; \
    if (text.data.trim() && !['SCRIPT', 'STYLE', 'NOSCRIPT', 'FONT'].includes(text.parentNode.tagName)) \
    texts.push(text); } for (const text of texts) { const outer = document.createElement('font'); \
    const inner = document.createElement('font'); inner.textContent = '*' + text.data; \
    outer.append(inner); text.replaceWith(outer); } return texts.length";

#[tokio::test]
async fn a_page_that_the_browser_translates_goes_on() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, 0, 1).await?;
        playground.page.value(TRANSLATE).await?;
        let state = "return document.querySelector('[data-testid=job-state]').textContent";
        for _ in 0..2 {
            let before = playground.page.value(state).await?;
            playground.draw().await?;
            let other = format!(
                "const words = (() => {{ {state} }})(); \
                return words.includes('Finished') && words !== {before}"
            );
            playground.page.wait_for("other words", &other).await?;
            playground.page.value(TRANSLATE).await?;
        }
        playground.goes_to("nav a[href='/compare']", "/compare").await?;
        playground.element_appears("compare-start").await?;
        playground.page.value(TRANSLATE).await?;
        playground.back().await?;
        playground.draw().await?;
        let complaints = playground.page.complaints().await?;
        ensure!(complaints.is_empty(), "{complaints:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_the_server_offers_is_asked_for_once() -> Result<()> {
    let program = Program::start(&[])?;
    // A page asks again for an example that is still being drawn.
    while program.info().await?.example.is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_for_attribute("job-state", "state", "finished").await?;
        playground.page.wait_for("the list", "return document.querySelector('[data-testid=recent]')").await?;
        let asked = playground
            .page
            .value(
                "return performance.getEntriesByType('resource').map(({ name }) => new URL(name)) \
                 .filter(({ pathname }) => /^\\/api\\/(info|results)$/.test(pathname)).map(url => url.pathname)",
            )
            .await?;
        ensure!(asked == serde_json::json!(["/api/info", "/api/results"])
            || asked == serde_json::json!(["/api/results", "/api/info"]), "{asked}");
        Ok(())
    })
    .await
}
