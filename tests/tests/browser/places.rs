//! Places and their links: the comparison, chosen pictures, what is not there, the focus.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use var_dd_protocol::{Comparison, JobView, Plan};
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::{Program, demo_model},
};

use crate::{open_drawn, set_up};

/// A small laptop.
const LAPTOP: Look = Look { width: 1366, height: 650, phone: false, dark: false };

const DONE: &str = "const columns = [...document.querySelectorAll('[data-testid=compare-column]')]; \
    return columns.length >= 2 && columns.every(column => column.querySelector('.race-times')) && \
    columns.map(column => column.dataset.job)";

/// The requests of the columns, once all are drawn.
async fn drawn(playground: &Playground, program: &Program) -> Result<Vec<JobView>> {
    let jobs = playground.page.wait_for("measured columns", DONE).await?;
    let mut views = Vec::new();
    for job in jobs.as_array().context("the jobs of the columns")? {
        let url = program.url(&format!("/api/results/{}", job.as_str().unwrap_or_default()));
        views.push(reqwest::get(url).await?.error_for_status()?.json().await?);
    }
    Ok(views)
}

async fn tiles(playground: &Playground) -> Result<serde_json::Value> {
    let script = "return [...document.querySelectorAll('[data-testid=compare-column]')].map(column \
                  => \
        Number(column.dataset.tile ?? -1))";
    playground.page.value(script).await
}

#[tokio::test]
async fn a_comparison_starts_from_what_is_set_and_gets_an_address_of_its_own() -> Result<()> {
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, LAPTOP, "/").await?;
        set_up(&playground, 1, 1).await?;
        playground.choose_class(3).await?;
        playground.fill("seed", "4242").await?;
        playground.goes_to("nav a[href='/compare']", "/compare").await?;
        let ticked = "return document.querySelector('[data-testid=compare-plan-1]')?.checked";
        playground.page.wait_for("the plan of the playground", ticked).await?;
        playground.choose("compare-start").await?;
        let views = drawn(&playground, &program).await?;
        ensure!(views.iter().all(|view| view.request.class == 3 && view.request.seed == Some(4242)));
        let plans: Vec<Plan> = views.iter().map(|view| view.request.plan.clone()).collect();
        ensure!(plans.contains(&model.plans[1].plan), "{plans:?}");
        let address = playground.page.address().await?;
        let expected = Comparison::new(&model.name, 3, &model.classes[3], 4242, plans.clone());
        ensure!(address == program.url(&format!("/{expected}")), "{address}");

        // All of it is in sight, captions included.
        let inside = "const column = document.querySelector('[data-testid=compare-column]'); \
            const times = column.querySelector('.race-times').getBoundingClientRect(); \
            const clock = document.querySelector('[data-testid=compare-scrubber]').getBoundingClientRect(); \
            return scrollY === 0 && times.bottom <= innerHeight && clock.bottom <= innerHeight";
        ensure!(playground.page.value(inside).await? == true, "it does not fit the screen");

        // Another class is another comparison, which the captions do not claim to show.
        playground.choose_class(1).await?;
        playground.page.wait_for_text("controls have changed since").await?;
        let heading = playground.page.value("return \
                                             document.querySelector('h1').textContent").await?;
        ensure!(heading.as_str().is_some_and(|text| text.contains(&model.classes[3])), "{heading}");

        // The link draws the same for somebody else.
        let other = Playground::open(browsers, &program, Look::PHONE, &format!("/{expected}")).await?;
        let again = drawn(&other, &program).await?;
        ensure!(again.iter().map(|view| view.request.plan.clone()).collect::<Vec<_>>() == plans);
        ensure!(again.iter().all(|view| view.request.class == 3 && view.request.seed == Some(4242)));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_comparison_is_scrubbed_stepped_wiped_and_measured_again() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, LAPTOP, "/compare").await?;
        playground.element_appears("compare-start").await?;
        playground.choose("compare-start").await?;
        drawn(&playground, &program).await?;
        playground.leave_field().await?;

        let seek = "const field = document.querySelector('[data-testid=compare-scrubber]'); \
            field.value = field.max; field.dispatchEvent(new InputEvent('input', { bubbles: true \
            }))";
        playground.page.value(seek).await?;
        let end = tiles(&playground).await?;
        playground.page.keys("\u{e012}").await?;
        playground
            .page
            .wait_for("a step back", &format!("{TILES} !== {}", json!(end.to_string())))
            .await?;
        playground.page.keys("\u{e014}").await?;
        playground
            .page
            .wait_for("a step on", &format!("{TILES} === {}", json!(end.to_string())))
            .await?;

        playground.choose("compare-wipe").await?;
        let wiped = "return document.querySelectorAll('.wipe img').length >= 2";
        playground.page.wait_for("two pictures over each other", wiped).await?;
        let problems = playground.page.accessibility_problems().await?;
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        playground.choose("compare-wipe").await?;

        playground.choose("compare-again").await?;
        playground.page.wait_for_text("median of 5 runs").await?;
        let results: serde_json::Value =
            reqwest::get(program.url("/api/results?limit=100")).await?.json().await?;
        // The example, and one result a plan: what was drawn to be measured is not kept.
        for _ in 0..200 {
            let results: serde_json::Value =
                reqwest::get(program.url("/api/results?limit=100")).await?.json().await?;
            if results["results"].as_array().is_some_and(|results| results.len() == 3) {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        anyhow::bail!("{results}");
    })
    .await
}

#[tokio::test]
async fn a_comparison_is_as_it_was_after_a_reload_and_on_the_way_back_to_it() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, LAPTOP, "/compare").await?;
        playground.element_appears("compare-start").await?;
        playground.choose("compare-start").await?;
        drawn(&playground, &program).await?;
        playground.choose("compare-again").await?;
        playground.page.wait_for_text("median of 5 runs").await?;
        let shown = "return JSON.stringify([...document.querySelectorAll( \
            '[data-testid=compare-column]')].map(column => \
            [column.dataset.job, column.querySelector('.race-times')?.innerText]))";
        let before = playground.page.value(shown).await?;
        let as_before = format!("{shown} === {before}");
        playground.page.reload().await?;
        playground.page.wait_for("the same after a reload", &as_before).await?;
        playground.page.wait_for_text("median of 5 runs").await?;

        playground.page.value("document.querySelector('.race-steps a').click()").await?;
        playground.element_appears("stage").await?;
        playground.back().await?;
        playground.page.wait_for("the same on the way back", &as_before).await?;
        let drawn = playground.accepted().await?;
        ensure!(drawn.is_empty(), "drawn anew: {drawn:?}");

        // The place itself begins anew, and the comparison is still at its address.
        playground.goes_to("nav a[href='/compare']", "/compare").await?;
        playground.element_appears("compare-to-be").await?;
        playground.back().await?;
        playground.page.wait_for("the same at its address", &as_before).await?;

        // Whoever has only the link has times of their own, and is told so.
        let path = playground.page.address().await?.replace(&program.url(""), "");
        let other = Playground::open(browsers, &program, Look::PHONE, &path).await?;
        other.page.wait_for_text("whoever sent the link had other times").await
    })
    .await
}

#[tokio::test]
async fn on_a_phone_a_wipe_is_in_sight_and_what_is_scrubbed_stays_so() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::PHONE, "/compare").await?;
        playground.element_appears("compare-start").await?;
        for plan in 0..4 {
            let ticked = format!(
                "return document.querySelector('[data-testid=compare-plan-{plan}]').checked"
            );
            if playground.page.value(&ticked).await? == false {
                playground.choose(&format!("compare-plan-{plan}")).await?;
            }
        }
        playground.choose("compare-start").await?;
        let there = "return document.querySelector('[data-testid=compare-again]:enabled') !== null";
        playground.page.wait_for("four plans", there).await?;
        let top = "document.querySelector('.race').scrollIntoView({ behavior: 'instant' }); \
            const slider = document.querySelector('[data-testid=compare-scrubber]') \
                .getBoundingClientRect(); \
            const bar = document.querySelector('.generate-bar').getBoundingClientRect(); \
            return slider.bottom <= bar.top + 1 && slider.top > 0";
        playground.page.wait_for("the slider beside the first pictures", top).await?;
        playground
            .page
            .value(
                "document.querySelector('[data-testid=compare-wipe]') \
            .scrollIntoView({ block: 'center', behavior: 'instant' })",
            )
            .await?;
        playground.page.click("[data-testid=compare-wipe]").await?;
        let in_sight = "const wipe = document.querySelector('[data-testid=wipe-square]') \
            ?.getBoundingClientRect(); return wipe && wipe.top >= 0 && wipe.bottom <= innerHeight";
        playground.page.wait_for("the wipe in sight", in_sight).await?;
        let is_off = "return document.querySelector('[data-testid=race-against]').disabled";
        ensure!(playground.page.value(is_off).await? == true, "it would change nothing");

        // Where nothing can be copied, all of the address is to be read.
        let denied = "Object.defineProperty(window, 'isSecureContext', { value: false }); \
            document.execCommand = () => false";
        playground.page.value(denied).await?;
        playground.choose("compare-share").await?;
        let readable = "const notice = document.querySelector('[data-testid=notice]'); \
            const box = notice?.getBoundingClientRect(); \
            return notice?.textContent.includes('/c/') && box.left >= 0 && \
                box.right <= innerWidth && notice.scrollWidth <= notice.clientWidth";
        playground.page.wait_for("the whole address", readable).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_arrow_keys_take_the_slider_of_a_comparison_from_change_to_change() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, LAPTOP, "/compare").await?;
        playground.element_appears("compare-start").await?;
        playground.choose("compare-start").await?;
        drawn(&playground, &program).await?;
        let over = "const line = document.querySelector('[data-testid=compare-scrubber]'); \
            line.focus(); return Number(line.value) >= Number(line.max) - 0.2";
        playground.page.wait_for("the end of the race", over).await?;
        let mut seen = vec![tiles(&playground).await?.to_string()];
        for _ in 0..3 {
            playground.page.keys("\u{e012}").await?;
            let last = seen.last().map(|tiles| json!(tiles).to_string()).unwrap_or_default();
            playground.page.wait_for("a change", &format!("{TILES} !== {last}")).await?;
            seen.push(tiles(&playground).await?.to_string());
        }
        for tiles in seen.iter().rev().skip(1) {
            playground.page.keys("\u{e014}").await?;
            playground.page.wait_for("it back", &format!("{TILES} === {}", json!(tiles))).await?;
        }
        Ok(())
    })
    .await
}

const TILES: &str = "return JSON.stringify([...document.querySelectorAll('[data-testid=compare-column]')] \
    .map(column => Number(column.dataset.tile ?? -1)))";

#[tokio::test]
async fn who_asks_for_stillness_sees_the_comparison_at_its_end() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/compare").await?;
        let still = json!({"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]});
        playground.page.devtools("Emulation.setEmulatedMedia", still).await?;
        playground.element_appears("compare-start").await?;
        playground.choose("compare-start").await?;
        drawn(&playground, &program).await?;
        let moving = "return document.querySelector('[data-testid=compare-play]').textContent.includes('Pause')";
        for _ in 0..10 {
            ensure!(playground.page.value(moving).await? == false, "it plays by itself");
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_link_to_one_picture_of_several_shows_that_one() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let (_, job) = open_drawn(browsers, &program, Look::DESKTOP, 3).await?;
        let path = format!("/r/{job}?picture=2");
        let other = Playground::open(browsers, &program, Look::DESKTOP, &path).await?;
        other.wait_for_attribute("stage", "picture", "1").await?;
        // From there to its neighbours, around the end, and to all of them.
        for index in ["2", "0"] {
            other.choose("picture-after").await?;
            other.wait_for_attribute("stage", "picture", index).await?;
        }
        other.choose("picture-before").await?;
        other.wait_for_attribute("stage", "picture", "2").await?;
        other.choose("all-pictures").await?;
        other
            .page
            .wait_for(
                "all pictures",
                "return document.querySelectorAll('.stage .cell').length === 3",
            )
            .await?;
        for odd in ["0", "9", "x"] {
            other.goto(&format!("/r/{job}?picture={odd}")).await?;
            other.wait_for_state(&job, "finished").await?;
            ensure!(other.on_stage().await?.len() == 3, "{odd}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_place_is_opened_at_its_top() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::PHONE, "/").await?;
        playground.wait_until_ready().await?;
        for (place, words) in
            [("/explore", "Explore"), ("/compare", "Compare"), ("/", "Playground")]
        {
            playground.click("more-places").await?;
            playground.page.click(&format!("#places a[href='{place}']")).await?;
            let opened =
                format!("return location.pathname === '{place}' && !!document.querySelector('h1')");
            playground.page.wait_for(words, &opened).await?;
            let top = playground.page.value("return scrollY").await?;
            ensure!(top == 0, "{words} is opened {top} pixels down");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_place_that_is_opened_has_the_focus_a_title_and_its_mark() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_until_ready().await?;
        let current = "return document.querySelector('nav [aria-current=page]')?.textContent";
        ensure!(playground.page.value(current).await? == "Playground");
        playground.goes_to("nav a[href='/compare']", "/compare").await?;
        let focus = "return document.activeElement?.tagName === 'MAIN'";
        playground.page.wait_for("the focus", focus).await?;
        ensure!(playground.page.value(current).await? == "Compare");
        playground.page.wait_for("a title", "return document.title.startsWith('Compare')").await?;

        // The first stop leads past the top.
        playground.goto("/").await?;
        playground.wait_until_ready().await?;
        playground.page.value("document.querySelector('.skip').focus()").await?;
        playground.page.keys("\u{e007}").await?;
        playground.page.wait_for("the focus", focus).await?;

        for path in ["/nope", "/r/nothing", &format!("/r/{}", "0".repeat(32))] {
            playground.goto(path).await?;
            playground.element_appears("missing").await?;
            let titled = "return document.title.startsWith('Nothing here')";
            playground.page.wait_for("a title that says so", titled).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_buttons_of_a_comparison_are_in_sight_and_stay_where_they_are() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look { height: 768, ..LAPTOP }, Look::DESKTOP.dark()] {
            let playground = Playground::open(browsers, &program, look, "/compare").await?;
            playground.element_appears("compare-start").await?;
            playground.choose("compare-start").await?;
            playground.element_appears("compare-share").await?;
            let place = "const box = document.querySelector('[data-testid=compare-share]') \
                .getBoundingClientRect(); return [box.top + scrollY, box.bottom, innerHeight]";
            let running = playground.page.value(place).await?;
            drawn(&playground, &program).await?;
            let done = playground.page.value(place).await?;
            ensure!(running[0] == done[0], "{look:?}: they move from {running} to {done}");
            let [bottom, height] = [1, 2].map(|at| done[at].as_f64().unwrap_or(f64::NAN));
            ensure!(bottom <= height - 32.0, "{look:?}: at the very bottom, {done}");
        }
        Ok(())
    })
    .await
}

/// The demo model with a published FID for each plan.
fn with_published_fids() -> Result<TempDir> {
    let folder = TempDir::new()?;
    for file in fs::read_dir(demo_model())? {
        let file = file?;
        fs::copy(file.path(), folder.path().join(file.file_name()))?;
    }
    let path = folder.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
    for plan in config["plans"].as_array_mut().context("the plans of the demo model")? {
        plan["fid"] = json!(7.82);
    }
    fs::write(&path, config.to_string())?;
    Ok(folder)
}

#[tokio::test]
async fn nothing_moves_while_a_comparison_with_published_numbers_is_drawn_and_measured()
-> Result<()> {
    let model = with_published_fids()?;
    let program = Program::start_with(model.path(), &[])?;
    with_browsers(async |browsers| {
        for look in [Look { height: 768, ..LAPTOP }, Look::PHONE, Look::NARROW.dark()] {
            let playground = Playground::open(browsers, &program, look, "/compare").await?;
            playground.element_appears("compare-start").await?;
            playground.choose("compare-start").await?;
            playground.element_appears("compare-share").await?;
            let place = "return ['compare-play', 'compare-again', 'compare-share'].map(name => \
                document.querySelector(`[data-testid=${name}]`).getBoundingClientRect().top \
                    + scrollY)";
            let running = playground.page.value(place).await?;
            drawn(&playground, &program).await?;
            playground.element_appears("race-fid").await?;
            let done = playground.page.value(place).await?;
            ensure!(running == done, "{look:?}: drawn, they move from {running} to {done}");
            playground.choose("compare-again").await?;
            playground.page.wait_for_text("median of 5 runs").await?;
            let measured = playground.page.value(place).await?;
            ensure!(done == measured, "{look:?}: measured, they move from {done} to {measured}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_comparison_says_in_words_which_plan_is_faster() -> Result<()> {
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/compare").await?;
        playground.element_appears("compare-start").await?;
        let said = "return document.querySelector('[data-testid=compare-verdict]') \
            ?.innerText.trim() || null";
        // One step against all of the teacher's, which are further apart than runs of either.
        for plan in ["1", "3"] {
            playground.choose(&format!("compare-plan-{plan}")).await?;
        }
        playground.choose("compare-start").await?;
        let views = drawn(&playground, &program).await?;
        let told = playground.page.wait_for("what came of it", said).await?;
        let told = told.as_str().unwrap_or_default();
        let took = |view: &JobView| {
            view.timings.map_or(f64::NAN, |timings| timings.last_frame_ms - timings.queue_ms)
        };
        ensure!(views.len() == 2, "{} plans", views.len());
        let (first, second) = (&model.plans[0].name, &model.plans[3].name);
        let ratio = took(&views[1]) / took(&views[0]);
        let expected = match ratio {
            ratio if ratio >= 1.1 => format!("{first} was {ratio:.1}× as fast as {second}."),
            ratio if ratio <= 1.0 / 1.1 => {
                format!("{second} was {:.1}× as fast as {first}.", ratio.recip())
            }
            _ => "about equally fast".to_owned(),
        };
        // The first letter of the sentence is large, and a name with a comma is quoted.
        let plain = told.replace(['“', '”'], "").to_lowercase();
        ensure!(plain.contains(&expected.to_lowercase()), "{told:?}, and not {expected:?}");
        let problems = playground.page.accessibility_problems().await?;
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_icon_that_browsers_ask_for_by_themselves_is_there() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        let icon = "const answer = await fetch('/favicon.ico'); \
            const picture = await createImageBitmap(await answer.blob()); \
            return [answer.status, answer.headers.get('content-type'), picture.width]";
        let icon = playground.page.value(icon).await?;
        ensure!(icon == json!([200, "image/x-icon", 180]), "{icon}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_comparison_tells_its_warm_up_the_parts_of_its_times_and_the_quality() -> Result<()> {
    let folder = with_published_fids()?;
    let published = Program::start_with(folder.path(), &[])?;
    let unpublished = Program::start(&[])?;
    with_browsers(async |browsers| {
        for (program, quality, row) in [
            (&published, "lower is better): 1 step 7.82, 2 steps 7.82.", Some("7.82")),
            (&unpublished, "no FID (Fréchet distance to real pictures, lower is better)", None),
        ] {
            let playground = Playground::open(browsers, program, Look::DESKTOP, "/compare").await?;
            playground.element_appears("compare-start").await?;
            let watch = "window.said = new Set(); window.warming = 0; window.early = 0; \
                new MutationObserver(() => { \
                    const all = [...document.querySelectorAll('.column .status-words')] \
                        .map(words => words.textContent); \
                    all.forEach(words => window.said.add(words)); \
                    const warming = all.filter(words => words.startsWith('Warming up')); \
                    window.warming = Math.max(window.warming, warming.length); \
                    const length = document.querySelector('[data-testid=compare-scrubber]')?.max; \
                    if (warming.length) window.early = Math.max(window.early, length); \
                }).observe(document.body, \
                    { childList: true, characterData: true, attributes: true, subtree: true });";
            playground.page.value(watch).await?;
            playground.choose("compare-start").await?;
            drawn(&playground, program).await?;
            let said = playground.page.value("return [...window.said].join()").await?;
            let said = said.as_str().unwrap_or_default();
            ensure!(said.contains("Warming up, not counted"), "{said}");
            // One plan at a time, and what is not counted is not on the clock.
            let warming = playground.page.value("return [window.warming, window.early]").await?;
            ensure!(warming == json!([1, 1]), "{warming}");

            let told = "return document.querySelector('[data-testid=compare-quality]').textContent";
            let told = playground.page.value(told).await?;
            ensure!(told.as_str().is_some_and(|told| told.contains(quality)), "{told}");
            let fid = "return document.querySelector('[data-testid=race-fid]') \
                ?.textContent ?? null";
            ensure!(playground.page.value(fid).await? == json!(row));

            // As they are read, so that they may be off by what is rounded.
            let times = "const ms = words => \
                    parseFloat(words) * (words.includes(' s') ? 1000 : 1); \
                return [...document.querySelectorAll('.race-times')].map(times => { \
                    const read = [...times.querySelectorAll('dd:not([data-testid])')] \
                        .map(time => ms(time.textContent)); \
                    const all = read.pop(); \
                    return { read, all, off: Math.abs(read.reduce((a, b) => a + b) - all) }; })";
            let times = playground.page.value(times).await?;
            for times in times.as_array().context("times")? {
                let most = if times["all"].as_f64() >= Some(1000.0) { 100.0 } else { 1.6 };
                ensure!(times["off"].as_f64() <= Some(most), "{times}");
            }
        }
        Ok(())
    })
    .await
}
