//! All results of a browser: kept, found, starred, compared, deleted, taken along; and the queue.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use var_dd_protocol::JobId;
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

use crate::{set_up, slowest_plan};

const ENTER: &str = "\u{e007}";

/// Whether a result has its star.
const STARRED: &str = "return document.querySelector( \
    '[data-testid=history-item-star][aria-pressed=true] svg:not(.outlined)') !== null";

/// Keeps what the page hands to the browser as a download.
const CATCH: &str = "window.kept = []; const make = URL.createObjectURL; \
    URL.createObjectURL = blob => { \
        if (/json|zip/.test(blob.type)) window.kept.push(blob); return make(blob); };";

/// Results of classes 1 and 3, the second starred or not.
async fn drawn(playground: &Playground) -> Result<[JobId; 2]> {
    set_up(playground, 0, 1).await?;
    playground.choose_class(1).await?;
    playground.fill("seed", "41").await?;
    let one = playground.draw().await?;
    playground.choose("plan-1").await?;
    playground.choose("count-2").await?;
    playground.choose_class(3).await?;
    playground.fill("seed", "42").await?;
    let other = playground.draw().await?;
    Ok([one, other])
}

async fn check(playground: &Playground, what: &str) -> Result<()> {
    let problems = playground.page.accessibility_problems().await?;
    ensure!(problems.is_empty(), "{what}: {problems:?}");
    let wide = "return document.documentElement.scrollWidth - innerWidth";
    let wide = playground.page.value(wide).await?;
    ensure!(wide.as_i64().is_some_and(|wide| wide <= 0), "{what} scrolls sideways by {wide}");
    Ok(())
}

/// Opens the history without a new document, which a tab without storage would not survive.
async fn open(playground: &Playground, count: usize) -> Result<()> {
    playground.goes_to("nav a[href='/history']", "/history").await?;
    found(playground, count).await
}

async fn found(playground: &Playground, count: usize) -> Result<()> {
    playground.wait_for_attribute("history-count", "found", &count.to_string()).await
}

/// The results in the list.
async fn listed(playground: &Playground) -> Result<Value> {
    playground
        .page
        .value(
            "return [...document.querySelectorAll('[data-testid=history-item]')].map( \
                item => item.dataset.job)",
        )
        .await
}

/// Presses something within the item of a result.
async fn press(playground: &Playground, job: &JobId, what: &str) -> Result<()> {
    let selector = format!("[data-testid=history-item][data-job='{job}'] [data-testid={what}]");
    let script = format!(
        "const found = document.querySelector({}); found?.click(); return found !== null",
        json!(selector)
    );
    playground.page.wait_for(&selector, &script).await?;
    Ok(())
}

#[tokio::test]
async fn results_are_found_starred_and_compared() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::PHONE.dark(), Look::NARROW] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            let [one, other] = drawn(&playground).await?;
            playground.goto("/history").await?;
            found(&playground, 2).await?;
            ensure!(listed(&playground).await? == json!([other, one]), "the newest is not first");
            check(&playground, "the history").await?;
            let cut = "return [...document.querySelectorAll('.history-bar :is(p, button)')] \
                .filter(element => { const box = element.getBoundingClientRect(); \
                    return box.left < 0 || box.right > innerWidth; }) \
                .map(element => element.textContent)";
            let cut = playground.page.value(cut).await?;
            ensure!(cut == json!([]), "{look:?}: cut off: {cut}");

            playground.fill("history-text", "41").await?;
            found(&playground, 1).await?;
            ensure!(listed(&playground).await? == json!([one]), "found something else");
            playground.fill("history-text", "").await?;
            found(&playground, 2).await?;
            playground.fill("history-from", "2020-01-01").await?;
            found(&playground, 2).await?;
            playground.fill("history-to", "2020-01-02").await?;
            found(&playground, 0).await?;
            playground.page.wait_for_text("Nothing here is what you look for").await?;
            playground.fill("history-to", "").await?;

            // A star stays over a reload.
            press(&playground, &one, "history-item-star").await?;
            playground.page.wait_for("a star", STARRED).await?;
            playground.page.reload().await?;
            found(&playground, 2).await?;
            playground.tick("history-starred").await?;
            found(&playground, 1).await?;
            ensure!(listed(&playground).await? == json!([one]), "another star");
            playground.choose("history-starred").await?;
            found(&playground, 2).await?;

            // Two compared, by a link that others can open.
            press(&playground, &one, "history-choice").await?;
            press(&playground, &other, "history-choice").await?;
            playground.choose("history-compare").await?;
            playground.element_appears("history-pair").await?;
            check(&playground, "two results compared").await?;
            let seeds = "return document.querySelector('[data-testid=history-pair]').innerText \
                .split('seed ').length - 1";
            let seeds = playground.page.value(seeds).await?;
            ensure!(seeds == json!(2), "{look:?}: two results are named {seeds} times");
            let address = playground.page.address().await?;
            let path = address.strip_prefix(&program.url("")).context("elsewhere")?.to_owned();
            let stranger = Playground::open(browsers, &program, look, &path).await?;
            stranger.element_appears("history-pair").await?;
            found(&stranger, 0).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn whoever_comes_back_from_a_result_finds_the_list_as_it_was() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        let [one, _] = drawn(&playground).await?;
        open(&playground, 2).await?;
        playground.fill("history-text", "41").await?;
        found(&playground, 1).await?;
        press(&playground, &one, "history-choice").await?;
        // The button says what it does to those chosen.
        let star = "document.querySelector('[data-testid=history-star]')";
        let named = |name: &str| format!("return {star}.textContent === '{name}'");
        playground.page.wait_for("a star to give", &named("Star")).await?;
        playground.choose("history-star").await?;
        playground.page.wait_for("a star to take", &named("Take the star off")).await?;

        let result = format!("/r/{one}");
        playground.goes_to("[data-testid=history-item] a", &result).await?;
        playground.wait_for_state(&one, "finished").await?;
        playground.back().await?;
        found(&playground, 1).await?;
        let text = playground.attribute("history-text", "value").await?;
        ensure!(text == "41", "it looks for {text:?}");
        let is_chosen = "return document.querySelector('[data-testid=history-choice]').checked";
        ensure!(playground.page.value(is_chosen).await? == true, "the choice is lost");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn many_results_are_deleted_unless_that_is_taken_back() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        let [one, other] = drawn(&playground).await?;
        playground.goto("/history").await?;
        found(&playground, 2).await?;
        playground.choose("history-choose-all").await?;
        playground.page.click("[data-testid=history-delete]").await?;
        found(&playground, 0).await?;
        // What had the focus is gone; it is where one can take that back, then at the place.
        let focused = |what: &str| format!("return document.activeElement.matches('{what}')");
        playground.page.wait_for("the focus on Undo", &focused("[data-testid=undo]")).await?;
        playground.page.keys(ENTER).await?;
        found(&playground, 2).await?;
        playground.page.wait_for("the focus on the place", &focused("main")).await?;

        // Done at the latest when one leaves.
        press(&playground, &one, "history-choice").await?;
        playground.choose("history-delete").await?;
        found(&playground, 1).await?;
        playground.page.goto("about:blank").await?;
        let url = program.url(&format!("/api/results/{one}"));
        for _ in 0..400 {
            if reqwest::get(&url).await?.status() == 404 {
                playground.goto("/history").await?;
                playground.page.wait_for_text("42").await?;
                let there = program.url(&format!("/api/results/{other}"));
                ensure!(reqwest::get(there).await?.status() == 200, "the other is gone too");
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        anyhow::bail!("it is still there");
    })
    .await
}

#[tokio::test]
async fn results_are_taken_to_another_browser_and_their_pictures_as_one_file() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let looks = [Look::DESKTOP, Look::DESKTOP];
        let mut opened = Vec::new();
        for look in looks {
            opened.push(Playground::open_prepared(browsers, &program, look, "/", &[CATCH]).await?);
        }
        let [playground, other] = &opened[..] else { anyhow::bail!("two browsers") };
        let [one, _] = drawn(playground).await?;
        open(playground, 2).await?;
        press(playground, &one, "history-item-star").await?;
        playground.page.wait_for("a star", STARRED).await?;
        playground.choose("history-export").await?;
        let text = "return window.kept[0] ? await window.kept[0].text() : null";
        let text = playground.page.wait_for("the file", text).await?;

        other.wait_until_ready().await?;
        open(other, 0).await?;
        let import = |name: &str, text: &Value| {
            format!(
                "const data = new DataTransfer(); \
                 data.items.add(new File([{text}], '{name}', {{ type: 'application/json' }})); \
                 const input = document.querySelector('[data-testid=history-import]'); \
                 input.files = data.files; \
                 input.dispatchEvent(new Event('change', {{ bubbles: true }}))"
            )
        };
        other.page.value(&import("broken.json", &json!("{}"))).await?;
        other.page.wait_for_text("“broken.json” is no history").await?;
        other.page.value(&import("mine.json", &text)).await?;
        found(other, 2).await?;
        other.page.wait_for_text("2 results added").await?;
        ensure!(listed(other).await? == listed(playground).await?, "another order");
        ensure!(other.page.value(STARRED).await? == true, "the star stayed behind");
        other.page.value(&import("mine.json", &text)).await?;
        other.page.wait_for_text("2 were here already").await?;
        // What came along can be deleted: the secret came too.
        press(other, &one, "history-choice").await?;
        other.choose("history-delete").await?;
        other.element_appears("undo").await?;
        other.choose("undo").await?;
        found(other, 2).await?;
        press(other, &one, "history-choice").await?;

        playground.choose("history-zip").await?;
        playground.page.wait_for_text("3 pictures downloaded").await?;
        // The names in it, and that each file is as long as it says.
        let names = "const bytes = new Uint8Array(await window.kept[1].arrayBuffer()); \
            const view = new DataView(bytes.buffer); const names = []; \
            let end = bytes.length - 22; let at = view.getUint32(end + 16, true); \
            while (at < end) { \
                const name = view.getUint16(at + 28, true); \
                const more = view.getUint16(at + 30, true) + view.getUint16(at + 32, true); \
                const text = new TextDecoder().decode(bytes.slice(at + 46, at + 46 + name)); \
                const local = view.getUint32(at + 42, true); \
                const data = local + 30 + view.getUint16(local + 26, true) \
                    + view.getUint16(local + 28, true); \
                names.push([text, bytes[data] === 0x89 && bytes[data + 1] === 0x50]); \
                at += 46 + name + more; } \
            return names";
        let names = playground.page.value(names).await?;
        let names = names.as_array().context("no list")?;
        ensure!(
            names.len() == 3 && names.iter().all(|name| name[1] == true),
            "the file holds {names:?}"
        );
        ensure!(
            names.iter().any(|name| name[0].as_str().is_some_and(|name| name.contains("-41-")))
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_storage_the_history_lasts_as_long_as_the_tab_and_says_so() -> Result<()> {
    let program = Program::start(&[])?;
    let storages = [
        (
            "denied",
            "Object.defineProperty(window, 'indexedDB', \
                { get() { throw new DOMException('denied', 'SecurityError') } })",
        ),
        ("absent", "Object.defineProperty(window, 'indexedDB', { get() { return null } })"),
        (
            "full",
            "IDBObjectStore.prototype.put = () => { \
                throw new DOMException('full', 'QuotaExceededError') }",
        ),
    ];
    with_browsers(async |browsers| {
        for (storage, script) in storages {
            let playground =
                Playground::open_at(browsers, &program.url(""), Look::DESKTOP, script, "/").await?;
            let [one, _] = drawn(&playground).await?;
            open(&playground, 2).await.with_context(|| storage.to_owned())?;
            playground.element_appears("history-unkept").await?;
            press(&playground, &one, "history-item-star").await?;
            playground
                .page
                .wait_for("a star", STARRED)
                .await
                .with_context(|| storage.to_owned())?;
            check(&playground, "a history without storage").await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_was_remembered_before_there_was_a_history_is_in_it() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        let jobs = drawn(&playground).await?;
        // As an older page left it.
        let forget = "return await new Promise(done => { \
            const open = indexedDB.open('var-dd'); open.onsuccess = () => { \
                const work = open.result.transaction('results', 'readwrite'); \
                work.objectStore('results').clear(); work.oncomplete = () => done(true); } })";
        ensure!(playground.page.value(forget).await? == true);
        playground.goto("/history").await?;
        found(&playground, 2).await?;
        let [one, other] = jobs;
        ensure!(listed(&playground).await? == json!([other, one]), "another order");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_queue_shows_the_jobs_of_all_tabs_and_stops_them() -> Result<()> {
    let program = Program::start(&[])?;
    let (_, slow) = slowest_plan(&program).await?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::NARROW.dark()] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            set_up(&playground, slow, 8).await?;
            for _ in 0..3 {
                playground.generate().await?;
            }
            // Another tab of the same browser.
            playground.page.new_tab(&program.url("/compare")).await?;
            playground.choose("queue-open").await?;
            let some = "return document.querySelectorAll('[data-testid=queued]').length";
            playground.page.wait_for("jobs of the other tab", some).await?;
            check(&playground, "the queue").await?;
            let narrow = "return [...document.querySelectorAll('[data-testid=queue] button')] \
                .filter(button => button.scrollWidth > button.clientWidth) \
                .map(button => button.textContent)";
            let narrow = playground.page.value(narrow).await?;
            ensure!(narrow == json!([]), "{look:?}: {narrow} do not fit their buttons");
            let all = "const open = document.querySelector('[data-testid=queue]'); \
                open.querySelector('[data-testid=queue-cancel]')?.click(); \
                return open.innerText.includes('Nothing waits or runs')";
            playground.page.wait_for("an empty queue", all).await?;
            playground.page.keys("\u{e00c}").await?;
            let closed = "return document.querySelector('[data-testid=queue-open]') === null";
            playground.page.wait_for("no queue", closed).await?;
            // What had the focus before went with the last job.
            let focused = "return document.activeElement.matches('main')";
            playground.page.wait_for("the focus on the place", focused).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn on_a_narrow_phone_results_are_in_sight_and_filters_a_tap_away() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::NARROW, Look::PHONE.dark()] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            drawn(&playground).await?;
            playground.goto("/history").await?;
            found(&playground, 2).await?;
            let sight = "return innerHeight - document.querySelector('[data-testid=history-item]') \
                .getBoundingClientRect().top";
            let sight = playground.page.value(sight).await?;
            ensure!(sight.as_f64().is_some_and(|sight| sight > 150.0), "{look:?}: {sight} px");
            check(&playground, &format!("the list, {look:?}")).await?;
            let seen = "document.querySelector('[data-testid=history-plan]').checkVisibility()";
            let is_seen = playground.page.value(&format!("return {seen}")).await?;
            ensure!(is_seen == false, "{look:?}: the filters are there before they are asked for");
            playground.choose("history-filters").await?;
            playground.page.wait_for("the filters", &format!("return {seen}")).await?;
            playground.choose("history-starred").await?;
            playground.page.wait_for_text("Filters · 1").await?;
            found(&playground, 0).await?;
            check(&playground, &format!("the filters, {look:?}")).await?;
        }
        Ok(())
    })
    .await
}
