//! The page for everyone: axe-core finds nothing at all, and every screen shows what matters.

use anyhow::{Result, ensure};
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

use crate::set_up;

#[tokio::test]
async fn the_accessibility_checker_finds_a_known_fault() -> Result<()> {
    with_browsers(async |browsers| {
        let page = browsers.open(Look::DESKTOP).await?;
        let html = "<html lang=en><title>t</title><main><h1>Title</h1><img src='data:,'></main>";
        page.goto(&format!("data:text/html,{html}")).await?;
        let problems = page.accessibility_problems().await?;
        ensure!(problems.len() == 1 && problems[0].starts_with("image-alt"), "{problems:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn no_page_has_a_fault_on_any_screen_in_any_colours() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::DESKTOP.dark(), Look::PHONE.dark(), Look::NARROW] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            check(&playground, "the first visit", look).await?;
            set_up(&playground, 0, 2).await?;
            let job = playground.draw().await?;
            check(&playground, "a picture that comes into focus", look).await?;
            playground.wait_until_shown().await?;
            check(&playground, "a finished job", look).await?;
            playground.click("times-open").await?;
            check(&playground, "where the time went", look).await?;
            playground.page.keys("\u{e00c}").await?;
            playground.choose("share").await?;
            playground.element_appears("share-link").await?;
            playground.choose("downloads").await?;
            check(&playground, "link and menu open", look).await?;
            playground.choose("downloads").await?;
            playground.choose("plan-custom").await?;
            playground.choose("plan-numbers").await?;
            playground.choose("begin-0").await?;
            check(&playground, "a plan of one's own", look).await?;
            playground.choose("explain-student").await?;
            check(&playground, "an explanation", look).await?;
            playground.page.keys("\u{e00c}").await?;
            playground
                .page
                .value("document.querySelector('[data-testid=class-search]').focus()")
                .await?;
            playground.element_appears("class-option-1").await?;
            check(&playground, "the list of classes", look).await?;
            playground.page.keys("\u{e00c}").await?;
            playground.choose("look-closer").await?;
            playground.element_appears("lightbox").await?;
            check(&playground, "a picture looked at closely", look).await?;
            playground.choose("lightbox-close").await?;
            playground.choose("settings").await?;
            check(&playground, "settings and keys", look).await?;
            playground.page.keys("\u{e00c}").await?;
            playground.goto(&format!("/r/{job}")).await?;
            playground.wait_for_state(&job, "finished").await?;
            check(&playground, "a result", look).await?;
            playground.choose("desk-open").await?;
            playground.element_appears("desk-picture").await?;
            check(&playground, "the desk of a result", look).await?;
            playground.goto("/explore").await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;
            check(&playground, "the pad", look).await?;
            playground.goto("/compare").await?;
            playground.element_appears("compare-start").await?;
            check(&playground, "the comparison", look).await?;
            playground.choose("compare-start").await?;
            playground.page.wait_for("measured columns", MEASURED).await?;
            check(&playground, "a drawn comparison", look).await?;
            playground.goto(&format!("/r/{}", "0".repeat(32))).await?;
            playground.element_appears("missing").await?;
            check(&playground, "a link without a picture", look).await?;
        }
        Ok(())
    })
    .await
}

/// Whether all columns of a comparison were measured.
const MEASURED: &str = "const columns = [...document.querySelectorAll('[data-testid=compare-column]')]; \
    return columns.length >= 2 && columns.every(column => column.querySelector('.race-times'))";

async fn check(playground: &Playground, place: &str, look: Look) -> Result<()> {
    let problems = playground.page.accessibility_problems().await?;
    ensure!(problems.is_empty(), "{place}, {look:?}:\n{}", problems.join("\n"));
    let too_wide =
        "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
    ensure!(
        playground.page.value(too_wide).await? == false,
        "{place}, {look:?}: it scrolls sideways"
    );
    Ok(())
}

#[tokio::test]
async fn stage_actions_strip_and_generate_are_in_sight_on_a_laptop_and_a_phone() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::LAPTOP, Look::DESKTOP, Look::PHONE] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            playground.wait_for_attribute("job-state", "state", "finished").await?;
            let hidden = "return ['stage', 'strip', '.play', 'look-closer', 'share', 'downloads', 'generate'] \
                .filter(name => { \
                    const box = document.querySelector(name[0] === '.' ? name : `[data-testid=${name}]`).getBoundingClientRect(); \
                    return scrollY !== 0 || box.top < 0 || box.bottom > innerHeight || box.left < 0 || \
                        (name !== 'strip' && box.right > innerWidth) || box.height < 24; \
                })";
            let hidden = playground.page.value(hidden).await?;
            ensure!(hidden == serde_json::json!([]), "{look:?}: out of sight: {hidden}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_pressed_is_large_enough_for_a_finger() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::PHONE, "/").await?;
        playground.wait_until_ready().await?;
        playground.wait_for_attribute("job-state", "state", "finished").await?;
        playground.choose("plan-custom").await?;
        playground.element_appears("plan-builder").await?;
        // Links and words within a line are free of it, but ours are as high as a line.
        let small = "return [...document.querySelectorAll('button, a, summary, select, input, label.tick')] \
            .filter(element => element.checkVisibility()) \
            .map(element => [element, (element.closest('label') ?? element).getBoundingClientRect()]) \
            .filter(([, box]) => box.width > 0 && (box.height < 24 || box.width < 24)) \
            .map(([element, box]) => `${element.outerHTML.slice(0, 80)} ${box.width}×${box.height}`)";
        let small = playground.page.value(small).await?;
        ensure!(small == serde_json::json!([]), "too small: {small}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nothing_jumps_while_the_page_loads_and_a_picture_comes() -> Result<()> {
    let program = Program::start(&[])?;
    let count = "window.shifted = 0; new PerformanceObserver(list => { \
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value; \
    }).observe({ type: 'layout-shift', buffered: true });";
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::LAPTOP, Look::PHONE, Look::NARROW] {
            let playground =
                Playground::open_prepared(browsers, &program, look, "/", &[count]).await?;
            playground.wait_until_ready().await?;
            playground.wait_for_attribute("job-state", "state", "finished").await?;
            playground.draw().await?;
            playground.wait_until_shown().await?;
            let shifted = playground.page.value("return window.shifted").await?;
            ensure!(shifted.as_f64().is_some_and(|shifted| shifted < 0.05), "{look:?}: {shifted}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_scroll_bar_moves_no_place_sideways() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let look = Look { width: 1366, height: 768, ..Look::DESKTOP };
        let open = Playground::open_with_scroll_bars;
        let playground = open(browsers, &program, look, "/").await?;
        playground.wait_until_ready().await?;
        playground.wait_for_attribute("job-state", "state", "finished").await?;
        // Places are long and short: the bar comes and goes, and what stands on all of them stays.
        let stands = "const box = document.querySelector('.page').getBoundingClientRect(); \
            const root = document.documentElement; \
            return [root.scrollHeight > root.clientHeight, box.left, box.right]";
        let mut seen = vec![playground.page.value(stands).await?];
        for (place, sign) in [
            ("compare", "main.compare:not(.grid-page)"),
            ("explore", "main.explore"),
            ("grid", "main.grid-page"),
            ("history", "main.history"),
            ("learn", "main.learn"),
        ] {
            let link = format!("nav a[href='/{place}']");
            playground.goes_to(&link, &format!("/{place}")).await?;
            playground.page.element(sign).await?;
            seen.push(playground.page.value(stands).await?);
        }
        let is_long = |place: &serde_json::Value| place[0] == true;
        ensure!(seen.iter().any(is_long) && !seen.iter().all(is_long), "all alike: {seen:?}");
        ensure!(
            seen.iter().all(|place| (&place[1], &place[2]) == (&seen[0][1], &seen[0][2])),
            "places stand elsewhere: {seen:?}"
        );

        // What lies over the whole window fits beside the bar, and so does a narrow page.
        for width in [320, 390, 768] {
            playground.page.look(Look { width, ..look }).await?;
            playground.goto("/").await?;
            playground.wait_until_ready().await?;
            playground.wait_for_attribute("job-state", "state", "finished").await?;
            let fits = "const root = document.documentElement; \
                return root.scrollWidth <= root.clientWidth";
            ensure!(playground.page.value(fits).await? == true, "{width}: it scrolls sideways");
            playground.choose("look-closer").await?;
            playground.element_appears("lightbox").await?;
            let fits = "const dialog = document.querySelector('[data-testid=lightbox]'); \
                return dialog.getBoundingClientRect().right <= \
                    document.documentElement.clientWidth && \
                    dialog.scrollWidth <= dialog.clientWidth";
            ensure!(playground.page.value(fits).await? == true, "{width}: the dialog is too wide");
        }

        // A phone's bars take no room, and none is kept for them.
        let phone =
            Playground::open_with_scroll_bars(browsers, &program, Look::NARROW, "/").await?;
        phone.wait_until_ready().await?;
        let whole = "return document.documentElement.clientWidth === innerWidth";
        ensure!(phone.page.value(whole).await? == true, "a phone loses room to a bar");
        Ok(())
    })
    .await
}
