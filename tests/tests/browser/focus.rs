//! A picture comes into focus: what the stage, the strip and the words show of it, with frames made
//! slow and very fast by a stand-in.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use var_dd_tests::{
    browser::{Browsers, Look, with_browsers},
    playground::Playground,
    program::Program,
};

use crate::{open_drawn, set_up, slowest_plan};

/// What was to be seen at one moment of a show.
#[derive(Debug, PartialEq, Deserialize)]
struct Moment {
    focusing: bool,
    /// The tile with the ring.
    current: Option<usize>,
    /// Tiles that show a picture, and tiles whose picture is there.
    seen: usize,
    drawn: usize,
    /// Lines of the grid over the picture.
    grid: bool,
    caption: String,
    /// Pictures on the stage.
    pictures: usize,
}

/// Notes every change of what is to be seen from now on.
const WATCH: &str = "window.moments = []; \
    const look = () => { \
        const all = (what) => [...document.querySelectorAll(what)]; \
        const tiles = all('[data-testid=tile]'); \
        const stage = document.querySelector('[data-testid=stage]'); \
        const current = tiles.findIndex(tile => tile.dataset.current === 'true'); \
        const moment = { focusing: stage.dataset.focusing === 'true', current: current < 0 ? null \
        : current, \
            seen: tiles.filter(tile => tile.querySelector('img')).length, \
            drawn: tiles.filter(tile => tile.dataset.drawn === 'true').length, \
            grid: stage.querySelector('.arriving path') !== null, \
            caption: document.querySelector('[data-testid=scale-caption]').textContent, \
            pictures: all('[data-testid=stage-picture]').length }; \
        const last = window.moments.at(-1); \
        if (JSON.stringify(last) !== JSON.stringify(moment)) window.moments.push(moment); \
    }; \
    look(); \
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, \
    attributes: true, characterData: true });";

/// Draws with a plan at a pace; returns the moments of the show and the digests that were received
/// and shown.
async fn watched(
    browsers: &Browsers,
    program: &Program,
    plan: usize,
    pace: &str,
) -> Result<(Playground, Vec<Moment>, Vec<String>, Vec<String>)> {
    let playground = Playground::open_paced(browsers, program, Look::DESKTOP, "/", "{}").await?;
    set_up(&playground, plan, 1).await?;
    playground.wait_for_attribute("job-state", "state", "finished").await?;
    playground.page.value(&format!("window.pace = {pace}; {WATCH}")).await?;
    let job = playground.draw().await?;
    playground.wait_until_shown().await?;
    let moments = playground.page.value("return window.moments").await?;
    let moments: Vec<Moment> = serde_json::from_value(moments)?;
    let received: Vec<String> =
        playground.received(&job).await?.into_iter().map(|frame| frame.digest).collect();
    let shown = playground.shown().await?.into_iter().filter(|shown| shown.job == job.to_string());
    let shown = shown.map(|shown| shown.digest).collect();
    Ok((playground, moments, received, shown))
}

#[tokio::test]
async fn every_scale_is_seen_in_order_however_fast_they_come() -> Result<()> {
    let program = Program::start(&[])?;
    let (model, slow) = slowest_plan(&program).await?;
    with_browsers(async |browsers| {
        for (plan, pace) in
            [(0, "{}"), (1, "{ burst: true }"), (slow, "{ burst: true }"), (0, "{ everyMs: 450 }")]
        {
            let (_, moments, received, shown) = watched(browsers, &program, plan, pace).await?;
            let context = || format!("plan {plan} at {pace}: {moments:#?}");
            ensure!(shown == received, "{}: not every scale was on the stage", context());
            let show: Vec<_> = moments.iter().filter(|moment| moment.focusing).collect();
            let currents: Vec<_> = show.iter().filter_map(|moment| moment.current).collect();
            ensure!(currents.is_sorted(), "{}: tiles out of order", context());
            ensure!(show.iter().any(|moment| moment.grid), "{}: no token grid", context());
            for moment in show {
                // The strip fills in step, whatever is there already.
                if let Some(current) = moment.current {
                    ensure!(moment.seen <= current + 1, "{}: {moment:?}", context());
                    ensure!(moment.drawn > current, "{}: {moment:?}", context());
                }
            }
            let side = model.patch_nums[1];
            ensure!(
                moments.iter().any(|moment| moment
                    .caption
                    .starts_with(&format!("{side}×{side} · {} tokens · ", side * side))),
                "{}: the scale is not told in words",
                context()
            );
            let last = moments.last().context("nothing was seen")?;
            ensure!(!last.grid && last.seen == received.len(), "{}: the end", context());
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_link_begins_with_its_first_scale_and_not_with_its_end() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let (playground, job) = open_drawn(browsers, &program, Look::DESKTOP, 1).await?;
        let frames = playground.received(&job).await?;
        playground.goto(&format!("/r/{job}")).await?;
        let at_end = format!(
            "return recorded.shown.some(shown => shown.job === '{job}' && shown.seq === {})",
            frames.last().context("no frame came")?.seq
        );
        playground.page.wait_for("the finished picture", &at_end).await?;
        let shown: Vec<u64> = playground.shown().await?.iter().map(|shown| shown.seq).collect();
        ensure!(shown.is_sorted(), "frames were on the stage in the order {shown:?}");
        ensure!(shown.len() == frames.len(), "{} of {} frames", shown.len(), frames.len());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_picture_before_stays_until_the_first_tile_of_the_new_one() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for pace in ["{ everyMs: 900 }", "{}", "{ burst: true }"] {
            let (_, moments, ..) = watched(browsers, &program, 0, pace).await?;
            ensure!(moments.len() > 3, "{pace}: {moments:#?}");
            ensure!(
                moments.iter().all(|moment| moment.pictures == 1),
                "{pace}: the stage was empty: {moments:#?}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn while_a_picture_is_waited_for_the_one_before_is_told_from_it() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::NARROW.dark()] {
            let playground = Playground::open_paced(browsers, &program, look, "/", "{}").await?;
            set_up(&playground, 0, 1).await?;
            playground.fill("seed", "41").await?;
            let before = playground.draw().await?;
            let last = playground.received(&before).await?.pop().context("no frame came")?;
            // Nothing of the next one comes; the show of the one before is not over.
            playground.page.value("window.pace = { everyMs: 3600000 }").await?;
            playground.fill("seed", "42").await?;
            let unsaid = format!(
                "window.unsaid = []; new MutationObserver(() => {{ \
                    const of = name => document.querySelector(`[data-testid=${{name}}]`); \
                    const state = of('job-state').dataset.state; \
                    const caption = of('scale-caption').textContent; \
                    if (['asking', 'queued', 'running'].includes(state) && \
                        of('stage-picture')?.dataset.job === '{before}' && \
                        !caption.startsWith('Waiting for the new picture')) \
                        window.unsaid.push(`${{state}}: ${{caption}}`); \
                 }}).observe(document.body, {{ subtree: true, childList: true, attributes: true, \
                    characterData: true }})"
            );
            playground.page.value(&unsaid).await?;
            playground.generate().await?;
            playground.page.wait_for_text("Waiting for the new picture").await?;
            let faded = "return document.querySelector('.stage.before') !== null";
            playground.page.wait_for("the picture before to fade", faded).await?;
            let unsaid = playground.page.value("return window.unsaid").await?;
            ensure!(unsaid == json!([]), "{look:?}: the caption lags: {unsaid}");
            let told = "return ['scale-caption', 'on-stage'].map( \
                name => document.querySelector(`[data-testid=${name}]`).textContent)";
            let told = playground.page.value(told).await?;
            let (caption, name) = (told[0].to_string(), told[1].to_string());
            ensure!(caption.contains("seed 41"), "{look:?}: under the stage: {caption}");
            ensure!(name.contains("seed 42"), "{look:?}: what is waited for is {name}");
            let left = "return document.querySelector('[data-testid=strip]').scrollLeft";
            let left = playground.page.value(left).await?;
            ensure!(left == 0, "{look:?}: the strip is not at its beginning but at {left}");
            // It is shown whole, wherever its own show stood.
            let whole = playground.on_stage().await?;
            ensure!(
                whole.iter().map(|shown| &shown.digest).eq([&last.digest]),
                "{look:?}: the stage has {whole:?}"
            );
            let problems = playground.page.accessibility_problems().await?;
            ensure!(problems.is_empty(), "{look:?}: {}", problems.join("\n"));
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_key_a_tap_and_the_button_each_skip_to_the_finished_picture() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground =
            Playground::open_paced(browsers, &program, Look::DESKTOP, "/", "{ burst: true }")
                .await?;
        // So slow that no test ends before it.
        playground.choose("settings").await?;
        playground
            .page
            .value(
                "const hold = document.querySelector('[data-testid=hold-time]'); hold.value = \
                 'long'; hold.dispatchEvent(new Event('change', { bubbles: true }))",
            )
            .await?;
        playground.page.keys(ESCAPE).await?;
        for skip in ["key", "tap", "button"] {
            set_up(&playground, 0, 1).await?;
            let job = playground.draw().await?;
            playground.wait_for_attribute("stage", "focusing", "true").await?;
            match skip {
                "key" => {
                    playground.leave_field().await?;
                    playground.page.keys(" ").await?;
                }
                "tap" => playground.page.click("[data-testid=stage] button").await?,
                _ => playground.click("skip").await?,
            }
            playground.wait_until_shown().await?;
            let last = playground.received(&job).await?.pop().context("no frame")?;
            let at = playground.drawn_tiles().await?.len() - 1;
            let shown = playground.settled_on_stage(at).await?;
            ensure!(shown.digest == last.digest, "{skip}: another picture is on the stage");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn whoever_wants_less_motion_or_no_show_has_none_and_a_button() -> Result<()> {
    let program = Program::start(&[])?;
    let stillness = "const match = window.matchMedia.bind(window); \
        window.matchMedia = (query) => query.includes('reduced-motion: reduce') \
            ? { matches: true, addEventListener() {}, removeEventListener() {} } : match(query);";
    let no_show = "localStorage.setItem('var-dd.hold', JSON.stringify('off'));";
    with_browsers(async |browsers| {
        for script in [stillness, no_show] {
            let playground = Playground::open_prepared(
                browsers,
                &program,
                Look::DESKTOP,
                "/",
                &["window.pace = { burst: true };", include_str!("../../src/pacer.js"), script],
            )
            .await?;
            set_up(&playground, 0, 1).await?;
            playground.wait_for_attribute("job-state", "state", "finished").await?;
            playground.page.value(WATCH).await?;
            playground.draw().await?;
            let focused = "return window.moments.some(moment => moment.focusing)";
            ensure!(playground.page.value(focused).await? == false, "{script}: there was a show");
            let at = playground.drawn_tiles().await?.len() - 1;
            playground.settled_on_stage(at).await?;
            playground.click("play").await?;
            playground.settled_on_stage(0).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_true_time_is_told_with_its_parts_and_a_fast_job_is_read_out_once() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground =
            Playground::open_paced(browsers, &program, Look::DESKTOP, "/", "{ burst: true }")
                .await?;
        set_up(&playground, 0, 1).await?;
        // What stays a moment is said: first of the example.
        let told = "const said = document.querySelector('[data-testid=said]').textContent; \
            return said === document.querySelector('[data-testid=job-state]').textContent && said";
        playground.wait_for_attribute("job-state", "state", "finished").await?;
        playground.page.wait_for("words of the example", told).await?;
        let said = "window.said = []; const region = document.querySelector('[data-testid=said]'); \
            const options = { childList: true, characterData: true, subtree: true }; \
            new MutationObserver(() => window.said.push(region.textContent)) \
                .observe(region, options); \
            window.lines = []; const line = document.querySelector('[data-testid=job-state]'); \
            new MutationObserver(() => window.lines.push(line.textContent)).observe(line, options);";
        playground.page.value(said).await?;
        let job = playground.draw().await?;
        let told = playground.page.wait_for("the last words", told).await?;
        let told = told.as_str().unwrap_or_default().to_owned();
        let count = playground.page.value("return window.said.length").await?;
        ensure!(count.as_u64().is_some_and(|count| count <= 3), "it spoke {count} times");

        // While an eye still follows, the line says that it is shown slowed; that is not read out.
        let lines = playground.page.value("return window.lines").await?;
        let place = |end: &str| {
            lines.as_array().and_then(|lines| {
                lines.iter().position(|line| line.as_str().is_some_and(|line| line.contains(end)))
            })
        };
        let (slowed, finished) = (place("shown slowed"), place("Finished in"));
        ensure!(slowed.is_some() && slowed < finished, "the line said {lines}");
        let read_out = playground.page.value("return window.said.join()").await?;
        ensure!(!read_out.as_str().is_some_and(|said| said.contains("slowed")), "{read_out}");

        // One total: what the line says is what the parts make.
        playground.click("times-open").await?;
        let shown = playground
            .page
            .value("return document.querySelector('[data-testid=times] .total dd').textContent")
            .await?;
        ensure!(
            told == format!("Finished in {}", shown.as_str().unwrap_or_default()),
            "{told}: {shown}"
        );
        let parts = "return document.querySelectorAll('[data-testid=times] rect').length";
        ensure!(playground.page.value(parts).await? == json!(4), "the bar has other parts");

        // Opened again, the same is told of it.
        playground.goto(&format!("/r/{job}")).await?;
        playground.wait_for_state(&job, "finished").await?;
        let again = "return document.querySelector('[data-testid=job-state]').textContent";
        let again = playground.page.value(again).await?;
        ensure!(again == json!(told), "{told}, and later {again}");
        Ok(())
    })
    .await
}

/// Keys by the numbers that WebDriver gives them.
const ESCAPE: &str = "\u{e00c}";
