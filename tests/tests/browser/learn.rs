//! How it works: eight lessons with figures that follow their sliders.

use anyhow::{Result, ensure};
use serde_json::json;
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

const ARROW_RIGHT: &str = "\u{e014}";

async fn check(playground: &Playground, what: &str) -> Result<()> {
    let problems = playground.page.accessibility_problems().await?;
    ensure!(problems.is_empty(), "{what}: {problems:?}");
    let wide = "return document.documentElement.scrollWidth - innerWidth";
    let wide = playground.page.value(wide).await?;
    ensure!(wide.as_i64().is_some_and(|wide| wide <= 0), "{what} scrolls sideways by {wide}");
    Ok(())
}

/// What the figure shows, as far as it can differ.
const SHOWN: &str = "return document.querySelector('[data-testid=lesson-figure]').innerHTML";

#[tokio::test]
async fn every_lesson_has_a_figure_that_follows_its_slider() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::PHONE.dark(), Look::NARROW] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            // Who never was there is offered it, once.
            playground.page.click(".learn-offer").await?;
            for lesson in 1..=8 {
                let what = format!("lesson {lesson}, {look:?}");
                playground.wait_for_attribute("lesson", "lesson", &lesson.to_string()).await?;
                playground.wait_for_attribute("lesson-figure", "followed", "true").await?;
                let drawn = "return document.querySelector( \
                    '[data-testid=lesson-figure] :is(img, svg)') !== null";
                playground.page.wait_for(&format!("a figure, {what}"), drawn).await?;
                check(&playground, &what).await?;
                let slider = "document.querySelector('[data-testid=lesson-slider]').focus()";
                playground.page.value(slider).await?;
                let before = playground.page.value(SHOWN).await?;
                let at = playground.attribute("lesson-figure", "at").await?;
                playground.page.keys(ARROW_RIGHT).await?;
                playground.wait_for_other("lesson-figure", "at", &at).await?;
                playground.wait_for_attribute("lesson-figure", "followed", "true").await?;
                let other = format!("{SHOWN} !== {before}");
                playground.page.wait_for(&format!("another figure, {what}"), &other).await?;
                playground.choose("lesson-formulae").await?;
                // What is fixed to the window does not make the page wider: it is cut off.
                let cut = "return [...document.querySelectorAll('.lesson-steps :is(button, a)')] \
                    .map(step => step.getBoundingClientRect()) \
                    .some(box => box.left < 0 || box.right > innerWidth)";
                ensure!(playground.page.value(cut).await? == false, "cut off: {what}");
                if lesson < 8 {
                    playground.choose("lesson-on").await?;
                }
            }
            playground.choose("lesson-2").await?;
            playground.wait_for_attribute("lesson", "lesson", "2").await?;
            let title = "return document.activeElement?.id === 'lesson-title'";
            playground.page.wait_for("the focus on the title", title).await?;
            let address = playground.page.address().await?;
            ensure!(address.ends_with("/learn?lesson=2"), "the address is {address}");
            playground.goto("/").await?;
            playground.wait_until_ready().await?;
            let offer = "return document.querySelector('.learn-offer') === null";
            ensure!(playground.page.value(offer).await? == true, "it is offered again");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_link_to_a_lesson_that_is_not_there_says_so() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for number in ["99", "0", "two"] {
            let path = format!("/learn?lesson={number}");
            let playground = Playground::open(browsers, &program, Look::NARROW, &path).await?;
            playground.wait_for_attribute("lesson", "lesson", "1").await?;
            playground.page.wait_for_text(&format!("There is no lesson “{number}”")).await?;
            check(&playground, "a lesson that is not there").await?;
            playground.choose("lesson-2").await?;
            let gone = "return document.querySelector('[data-testid=no-lesson]') === null";
            playground.page.wait_for("the note to go", gone).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn lessons_lead_to_the_text_on_the_method() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::NARROW.dark()] {
            let playground = Playground::open(browsers, &program, look, "/learn").await?;
            let mut links = Vec::new();
            for lesson in 1..=8 {
                playground.choose(&format!("lesson-{lesson}")).await?;
                playground.wait_for_attribute("lesson", "lesson", &lesson.to_string()).await?;
                let link = "return document.querySelector( \
                    '[data-testid=lesson-formulae] a').getAttribute('href')";
                links.push(playground.page.value(link).await?);
            }
            playground.goto("/method.html").await?;
            let missing = format!(
                "return {}.filter(link => !document.getElementById(link.split('#')[1]))",
                json!(links)
            );
            let missing = playground.page.value(&missing).await?;
            ensure!(missing == json!([]), "nothing is at {missing}");
            check(&playground, "the text on the method").await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_ways_between_lessons_stay_in_one_place() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::LAPTOP, Look::PHONE, Look::NARROW.dark()] {
            let playground = Playground::open(browsers, &program, look, "/learn").await?;
            playground.element_appears("lesson-on").await?;
            let place = "return ['lesson-back', 'lesson-on'].map(name => { \
                const box = document.querySelector(`[data-testid=${name}]`) \
                    .getBoundingClientRect(); \
                return [box.left, box.top, box.bottom <= innerHeight].join(); })";
            let first = playground.page.value(place).await?;
            ensure!(!first.to_string().contains("false"), "{look:?}: out of sight, {first}");
            for lesson in 2..=7 {
                playground.choose("lesson-on").await?;
                playground.wait_for_attribute("lesson", "lesson", &lesson.to_string()).await?;
                let now = playground.page.value(place).await?;
                ensure!(now == first, "{look:?}, lesson {lesson}: from {first} to {now}");
            }
        }
        Ok(())
    })
    .await
}
