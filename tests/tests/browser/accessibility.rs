//! The page for everyone: axe-core finds nothing serious, and a phone shows all of it.

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
async fn no_page_has_a_serious_fault_on_any_screen_in_any_colours() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::DESKTOP.dark(), Look::PHONE, Look::PHONE.dark()] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            check(&playground, "the first visit", look).await?;
            set_up(&playground, 0, 2).await?;
            let job = playground.generate().await?;
            playground.wait_for_state(&job, "finished").await?;
            check(&playground, "a finished job", look).await?;
            playground.goto(&format!("/r/{job}")).await?;
            playground.wait_for_state(&job, "finished").await?;
            check(&playground, "a result", look).await?;
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
async fn generate_is_within_reach_on_a_phone_without_scrolling() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::PHONE, "/").await?;
        playground.wait_until_ready().await?;
        let inside = "const box = document.querySelector('[data-testid=generate]').getBoundingClientRect(); \
            return scrollY === 0 && box.top >= 0 && box.bottom <= innerHeight && box.height >= 24";
        ensure!(playground.page.value(inside).await? == true, "Generate is outside the screen");
        Ok(())
    })
    .await
}
