//! Pictures as an instrument: the desk, a family, and the pad.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use var_dd_protocol::TokenReport;
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

use crate::set_up;

const ARROW_LEFT: &str = "\u{e012}";
const ARROW_DOWN: &str = "\u{e015}";

/// Looks that differ for what is touched.
const LOOKS: [Look; 2] = [Look::DESKTOP, Look::PHONE];

async fn check(playground: &Playground, what: &str) -> Result<()> {
    let problems = playground.page.accessibility_problems().await?;
    ensure!(problems.is_empty(), "{what}: {problems:?}");
    let wide = "return document.documentElement.scrollWidth - innerWidth";
    let wide = playground.page.value(wide).await?;
    ensure!(wide.as_i64().is_some_and(|wide| wide <= 0), "{what} scrolls sideways by {wide}");
    Ok(())
}

/// Moves a pointer over the pad, to parts of its width and height.
async fn drag(playground: &Playground, to: &[(f64, f64)]) -> Result<()> {
    let script = format!(
        "const pad = document.querySelector('[data-testid=pad]'); \
         const box = pad.getBoundingClientRect(); \
         pad.setPointerCapture = () => {{}}; \
         const at = (kind, [x, y]) => pad.dispatchEvent(new PointerEvent(kind, {{ \
            bubbles: true, pointerId: 1, buttons: 1, pointerType: 'touch', \
            clientX: box.left + x * box.width, clientY: box.top + y * box.height }})); \
         const places = {}; at('pointerdown', places[0]); \
         for (const place of places) at('pointermove', place); at('pointerup', places.at(-1));",
        json!(to)
    );
    playground.page.value(&script).await.map(drop)
}

#[tokio::test]
async fn a_picture_follows_the_finger_over_the_pad_and_its_link_brings_it_back() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in LOOKS {
            let playground = Playground::open(browsers, &program, look, "/explore").await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;
            // Many moves at once: the newest counts, and those between are not drawn.
            let before = count(&playground).await?;
            let moves: Vec<_> = (0..=60).map(|at| (0.1 + f64::from(at) * 0.0125, 0.2)).collect();
            drag(&playground, &moves).await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;
            let drawn = count(&playground).await? - before;
            ensure!((1..=4).contains(&drawn), "{drawn} pictures for one place");
            let place = (
                playground.attribute("pad", "x").await?.parse::<i64>()?,
                playground.attribute("pad", "y").await?.parse::<i64>()?,
            );
            ensure!(place.0 > 80 && (10..25).contains(&place.1), "the pad is at {place:?}");

            // The keys, from where the finger left it.
            playground.page.value("document.querySelector('[data-testid=pad]').focus()").await?;
            playground.page.keys(ARROW_LEFT).await?;
            playground.page.keys(ARROW_DOWN).await?;
            let (x, y) = ((place.0 - 5).to_string(), (place.1 + 5).to_string());
            playground.wait_for_attribute("pad", "x", &x).await?;
            playground.wait_for_attribute("pad", "y", &y).await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;

            // Another seed in a corner is another picture.
            let seed = playground.attribute("corner-1", "seed").await?;
            playground.choose("corner-seed-1").await?;
            playground.wait_for_other("corner-1", "seed", &seed).await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;
            let at = format!("return location.search.includes('at={x}-{y}')");
            playground.page.wait_for("an address that says where it is", &at).await?;
            check(&playground, "the pad").await?;

            let corners = playground.attribute("corner-1", "seed").await?;
            let address = playground.page.address().await?;
            let path = address.strip_prefix(&program.url("")).unwrap_or_default();
            let other = Playground::open(browsers, &program, Look::NARROW.dark(), path).await?;
            other.wait_for_attribute("pad", "x", &x).await?;
            other.wait_for_attribute("corner-1", "seed", &corners).await?;
            other.wait_for_attribute("pad", "followed", "true").await?;
            check(&other, "the pad on the narrowest screen").await?;

            // Kept, it is a result like any other.
            playground.choose("pad-keep").await?;
            let job = playground.accepted_after(0).await?;
            playground.wait_for_state(&job, "finished").await?;
        }
        Ok(())
    })
    .await
}

/// Pictures that the pad has shown.
async fn count(playground: &Playground) -> Result<i64> {
    Ok(playground.attribute("pad", "count").await?.parse()?)
}

/// The words about the difference.
const TOLD: &str = "document.querySelector('[data-testid=desk-told]').innerText";

#[tokio::test]
async fn scales_are_weighed_on_the_desk_and_a_picture_is_drawn_anew_from_one_on() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in LOOKS {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            set_up(&playground, 0, 1).await?;
            let first = playground.generate().await?;
            playground.wait_for_state(&first, "finished").await?;
            let parent = playground.generate().await?;
            playground.wait_for_state(&parent, "finished").await?;
            playground.wait_until_shown().await?;
            playground.choose("desk-open").await?;
            let same = format!("return {TOLD}.includes('same picture')");
            playground.page.wait_for("the untouched picture", &same).await?;
            ensure!(previews(&playground).await? == 1, "a desk at rest asks once");
            check(&playground, "the desk").await?;
            // Scrolled to, nothing lies over it.
            let free = "const desk = document.querySelector('[data-testid=desk-picture]'); \
                desk.scrollIntoView(); \
                const stage = document.querySelector('[data-testid=stage]'); \
                const fixed = getComputedStyle(stage).position === 'fixed'; \
                return innerWidth > 899 || (fixed && getComputedStyle(stage).visibility === 'hidden')";
            playground.page.wait_for("a desk that nothing covers", free).await?;

            playground.fill("gain-1", "0.25").await?;
            let differs = format!("return {TOLD}.includes('dB')");
            playground.page.wait_for("a difference", &differs).await?;
            playground.choose("desk-reset").await?;
            playground.page.wait_for("the untouched picture again", &same).await?;
            playground.choose("mute-0").await?;
            playground.page.wait_for("a difference by a muted scale", &differs).await?;
            playground.choose("mute-0").await?;
            playground.choose("solo-0").await?;
            playground.page.wait_for("a difference by one scale alone", &differs).await?;
            playground.choose("desk-reset").await?;

            // Crossed with the picture before, from the first scale on it is that picture.
            let cross = format!(
                "const list = document.querySelector('[data-testid=cross-with]'); \
                 if (![...list.options].some(option => option.value === '{first}')) return false; \
                 list.value = '{first}'; list.dispatchEvent(new Event('change', {{ bubbles: true }})); \
                 return true"
            );
            playground.page.wait_for("the picture before in the list", &cross).await?;
            playground.element_appears("cut").await?;
            playground.fill("cut", "0").await?;
            playground.page.wait_for("a difference by another picture", &differs).await?;
            check(&playground, "a crossing").await?;
            playground.choose("desk-keep").await?;
            let crossed = playground.accepted_after(2).await?;
            playground.wait_for_state(&crossed, "finished").await?;
            ensure!(family(&playground).await? == json!([parent, first]), "both are its parents");

            // Drawn anew from the fourth scale on: the scales before are the parent's.
            playground.goto(&format!("/r/{parent}")).await?;
            playground.wait_for_state(&parent, "finished").await?;
            playground.choose("desk-open").await?;
            playground.choose("reroll-3").await?;
            let child = playground.accepted_after(0).await?;
            playground.wait_for_state(&child, "finished").await?;
            ensure!(family(&playground).await? == json!([parent]), "its parent is told");
            check(&playground, "a child").await?;
        }
        Ok(())
    })
    .await
}

/// Previews that were asked for since the document was loaded.
async fn previews(playground: &Playground) -> Result<i64> {
    let count = "return performance.getEntriesByType('resource') \
        .filter(entry => entry.name.endsWith('/api/preview')).length";
    let count = playground.page.value(count).await?;
    count.as_i64().with_context(|| format!("{count} is no number"))
}

/// The results in the family strip.
async fn family(playground: &Playground) -> Result<Value> {
    playground.element_appears("family").await?;
    let script =
        "return [...document.querySelectorAll('[data-testid=ancestor]')].map(of => of.dataset.job)";
    playground.page.value(script).await
}

#[tokio::test]
async fn the_plan_that_fits_a_time_is_offered_by_this_machine_s_own_times() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in LOOKS {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            set_up(&playground, 0, 1).await?;
            let job = playground.generate().await?;
            playground.wait_for_state(&job, "finished").await?;
            let words = "document.querySelector('[data-testid=budget-words]').innerText";
            for (typed, told) in [("0.001", "fastest takes"), ("soon", "milliseconds")] {
                playground.fill("budget", typed).await?;
                let is_told = format!("return {words}.includes('{told}')");
                playground.page.wait_for(told, &is_told).await?;
            }
            playground.fill("budget", "600000").await?;
            playground.choose("budget-take").await?;
            let fits = format!(
                "const chosen = document.querySelector('[name=plan]:checked').closest('label'); \
                 return {words}.startsWith(chosen.querySelector('.plan-name').innerText + ' fits')"
            );
            playground.page.wait_for("the plan that is offered", &fits).await?;
            check(&playground, "a time to fit").await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_tokens_of_a_place_are_told_by_pointer_tap_and_keys() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in LOOKS {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            set_up(&playground, 0, 1).await?;
            let job = playground.generate().await?;
            playground.wait_for_state(&job, "finished").await?;
            playground.wait_until_shown().await?;
            let address = program.url(&format!("/api/results/{job}/tokens"));
            let report: TokenReport = reqwest::get(address).await?.json().await?;
            let finest = report.scales.last().map_or(1, |scale| scale.side);

            playground.choose("inspector-open").await?;
            playground.element_appears("inspected").await?;
            for (x, y) in [(0.1, 0.1), (0.9, 0.55)] {
                let point = format!(
                    "const square = document.querySelector('[data-testid=inspected]'); \
                     const box = square.getBoundingClientRect(); \
                     square.dispatchEvent(new PointerEvent('pointerdown', {{ bubbles: true, \
                        clientX: box.left + {x} * box.width, clientY: box.top + {y} * box.height }}))"
                );
                playground.page.value(&point).await?;
                let column = ((x * f64::from(finest)) as u32).to_string();
                playground.wait_for_attribute("inspected", "column", &column).await?;
            }
            playground.page.value("document.querySelector('[data-testid=inspected]').focus()").await?;
            let before = playground.attribute("inspected", "row").await?.parse::<u32>()?;
            playground.page.keys(ARROW_DOWN).await?;
            let row = before + 1;
            playground.wait_for_attribute("inspected", "row", &row.to_string()).await?;

            // What is told is what the server computed for the tokens that cover the place.
            let column = playground.attribute("inspected", "column").await?.parse::<u32>()?;
            let told = "return [...document.querySelectorAll('[data-testid=codeword]')].map(of => of.innerText)";
            let told = playground.page.value(told).await?;
            let expected: Vec<String> = report
                .scales
                .iter()
                .map(|scale| {
                    let on = |at: u32| (2 * at + 1) * scale.side / (2 * finest);
                    scale.codes[(on(row) * scale.side + on(column)) as usize].to_string()
                })
                .collect();
            ensure!(told == json!(expected), "{told} instead of {expected:?}");
            check(&playground, "the tokens").await?;
        }
        Ok(())
    })
    .await
}
