//! The playground around its pictures: looking closely, sharing, explaining, choosing classes and
//! plans, keys.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use var_dd_protocol::{JobView, Plan};
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

use crate::{open_drawn, set_up, slowest_plan};

/// The break-down of a time, where it is seen.
const PARTS: &str = "[...document.querySelectorAll('[data-testid=times] dl')] \
    .find(list => list.checkVisibility())";

#[tokio::test]
async fn what_has_the_focus_never_lies_behind_the_button_at_the_foot() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::NARROW, Look { width: 1366, height: 768, ..Look::DESKTOP }] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            playground.wait_for_attribute("job-state", "state", "finished").await?;
            let mut seen = 0;
            for _ in 0..60 {
                playground.page.keys(TAB).await?;
                // Scrolling takes its time.
                let script = "const focused = document.activeElement; \
                     const foot = document.querySelector('.generate-bar'); \
                     if (focused === document.body || foot.contains(focused)) return 'foot'; \
                     const [its, bar] = [focused, foot].map(of => of.getBoundingClientRect()); \
                     const hidden = its.bottom > bar.top && its.top < bar.bottom && \
                         its.right > bar.left && its.left < bar.right; \
                     return hidden ? null : 'in sight'";
                let place = playground.page.wait_for("the focus to be in sight", script).await;
                if place.is_err() {
                    let told = "const focused = document.activeElement, box = \
                        focused.getBoundingClientRect(); return [focused.outerHTML.slice(0, 200), \
                        box.top, box.bottom, scrollY, document.body.scrollHeight]";
                    let told = playground.page.value(told).await?;
                    return place.map(drop).with_context(|| format!("{look:?}: {told}"));
                }
                seen += usize::from(place? == "in sight");
            }
            ensure!(seen > 20, "only {seen} had the focus");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn where_the_time_went_hides_no_tool_and_closes_when_it_is_left() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let wide = |width, height| Look { width, height, ..Look::DESKTOP };
        for look in [Look::NARROW, Look::PHONE, wide(768, 1024), wide(1366, 768)] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            playground.wait_for_attribute("job-state", "state", "finished").await?;
            let open = async || {
                playground.click("times-open").await?;
                let opened = format!("return {PARTS} !== undefined");
                playground.page.wait_for("the parts of the time", &opened).await
            };
            let is_shut = async |after: &str| {
                let shut = format!("return {PARTS} === undefined");
                playground.page.wait_for(&format!("it to close after {after}"), &shut).await
            };
            open().await?;
            // On a low phone the strip stands between the picture and what opens this.
            let tiles = if look == Look::NARROW { "" } else { ".tile, " };
            let place = format!(
                "const box = {PARTS}.parentElement.getBoundingClientRect(); \
                 const total = {PARTS}.querySelector('.total dd').getBoundingClientRect(); \
                 const over = [...document.querySelectorAll( \
                     '{tiles}.tools button, .tools label, .generate, [data-testid=times-open]')] \
                     .filter(tool => {{ \
                         const its = tool.getBoundingClientRect(); \
                         return its.width > 0 && its.left < box.right && its.right > box.left && \
                             its.top < box.bottom && its.bottom > box.top; \
                     }}).map(tool => tool.textContent); \
                 return {{ over, \
                     is_whole: box.left >= 0 && box.top >= 0 && box.right <= innerWidth && \
                         box.bottom <= innerHeight && total.right <= box.right - 8 }}"
            );
            let place = playground.page.value(&place).await?;
            ensure!(place["over"] == json!([]), "{look:?}: it hides {place}");
            ensure!(place["is_whole"] == true, "{look:?}: not all of it is in sight");

            playground.page.keys(ESCAPE).await?;
            is_shut("Escape").await?;
            open().await?;
            playground.page.click("h1").await?;
            is_shut("a click elsewhere").await?;
            open().await?;
            playground.page.keys(TAB).await?;
            is_shut("the focus has left").await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_lies_over_the_page_closes_before_anything_else_is_done() -> Result<()> {
    let program = Program::start(&[])?;
    let (_, slow) = slowest_plan(&program).await?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, slow, 8).await?;
        let job = playground.generate().await?;
        playground.element_appears("cancel").await?;
        let is_open = "return document.querySelector(':popover-open') !== null";
        let is_shut = "return document.querySelector(':popover-open') === null";
        playground.click("explain-student").await?;
        ensure!(playground.page.value(is_open).await? == true, "no explanation");
        // Escape is for what is open, and the job goes on.
        playground.page.keys(ESCAPE).await?;
        playground.page.wait_for("the explanation to close", is_shut).await?;
        // Whoever goes on by keyboard does not look for the focus under it.
        playground.page.keys(ENTER).await?;
        playground.page.wait_for("the explanation again", is_open).await?;
        playground.page.keys(TAB).await?;
        playground.page.wait_for("the explanation to close", is_shut).await?;
        playground.wait_for_state(&job, "finished").await
    })
    .await
}

#[tokio::test]
async fn scales_are_timed_from_when_drawing_began_and_the_parts_say_so() -> Result<()> {
    let program = Program::start(&[])?;
    let (_, slow) = slowest_plan(&program).await?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        // One that is in the way, so that the next one waits.
        set_up(&playground, slow, 8).await?;
        playground.generate().await?;
        set_up(&playground, 0, 1).await?;
        let job = playground.draw().await?;
        playground.wait_until_shown().await?;
        let url = program.url(&format!("/api/results/{job}"));
        let view: JobView = reqwest::get(url).await?.error_for_status()?.json().await?;
        let timings = view.timings.context("no timings")?;
        ensure!(timings.queue_ms > 5.0, "it did not wait: {timings:?}");

        let told = "return [...document.querySelectorAll('[data-testid=tile][data-drawn=true]')] \
            .map(tile => Number(tile.dataset.ms))";
        let told: Vec<f64> = serde_json::from_value(playground.page.value(told).await?)?;
        let drawn: Vec<f64> =
            view.frames.iter().map(|frame| frame.header.at_ms - timings.queue_ms).collect();
        let is_near = told.iter().zip(&drawn).all(|(told, drawn)| (told - drawn).abs() < 0.2);
        ensure!(told.len() == drawn.len() && is_near, "the strip says {told:?} for {drawn:?}");
        playground.page.wait_for_text("since drawing began").await?;

        // What was drawn, and the waiting before it, are told apart in the parts of the total.
        playground.click("times-open").await?;
        let parts = format!(
            "return [{PARTS}.querySelector('.drawing dd').textContent, \
             [...document.querySelectorAll('[data-testid=tile] .ms')].at(-1).textContent.trim()]"
        );
        let parts = playground.page.value(&parts).await?;
        ensure!(parts[0] == parts[1], "the parts say {} and the strip {}", parts[0], parts[1]);

        // Whoever sees it later is told the same.
        playground.goto(&format!("/r/{job}")).await?;
        playground.wait_for_state(&job, "finished").await?;
        let later = "return [...document.querySelectorAll('[data-testid=tile][data-drawn=true]')] \
            .map(tile => Number(tile.dataset.ms))";
        let later: Vec<f64> = serde_json::from_value(playground.page.value(later).await?)?;
        ensure!(later == told, "later the strip says {later:?}, and not {told:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_large_picture_is_closed_from_the_corner_on_a_phone() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::NARROW, Look::PHONE.dark()] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            playground.wait_for_attribute("job-state", "state", "finished").await?;
            playground.choose("look-closer").await?;
            playground.element_appears("lightbox").await?;
            let place = "const close = document.querySelector('[data-testid=lightbox-close]') \
                .getBoundingClientRect(); \
                return { top: close.top, beside: innerWidth - close.right }";
            let place = playground.page.value(place).await?;
            let [top, beside] = ["top", "beside"].map(|at| place[at].as_f64().unwrap_or(f64::NAN));
            ensure!(top <= 24.0 && beside <= 24.0, "{look:?}: {place}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn words_of_the_trade_explain_themselves_by_tap_and_by_keyboard() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::PHONE] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            playground.choose("plan-custom").await?;
            for term in ["scale", "token", "pass", "student", "teacher", "step", "guidance"] {
                let button = format!("document.querySelector('[data-testid=explain-{term}]')");
                let open = format!(
                    "return document.querySelector('[data-testid=explanation-{term}]').matches(':popover-open')"
                );
                playground.element_appears(&format!("explain-{term}")).await?;
                playground.page.value(&format!("{button}.focus()")).await?;
                playground.page.keys(ENTER).await?;
                ensure!(playground.page.value(&open).await? == true, "{term} stays shut");
                let inside = format!(
                    "const box = document.querySelector('[data-testid=explanation-{term}]').getBoundingClientRect(); \
                     return box.left >= 0 && box.top >= 0 && box.right <= innerWidth && box.bottom \
                     <= innerHeight"
                );
                playground.page.wait_for(&format!("{term} in sight"), &inside).await?;
                playground.page.keys(ESCAPE).await?;
                ensure!(playground.page.value(&open).await? == false, "{term} stays open");
                let focused = format!("return document.activeElement === {button}");
                ensure!(playground.page.value(&focused).await? == true, "{term}: the focus is \
                    lost");
                playground.choose(&format!("explain-{term}")).await?;
                ensure!(playground.page.value(&open).await? == true, "{term}: no tap opens it");
                playground.page.keys(ESCAPE).await?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_on_the_stage_is_named_and_explained() -> Result<()> {
    let program = Program::start(&[])?;
    let example = program.info().await?.example;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_for_attribute("job-state", "state", "finished").await?;
        let example = example.or(program.info().await?.example).context("no example")?;
        let view: JobView =
            reqwest::get(program.url(&format!("/api/results/{example}"))).await?.json().await?;
        let named = "return document.querySelector('[data-testid=on-stage]').innerText";
        let named = playground.page.value(named).await?;
        let named = named.as_str().unwrap_or_default();
        let seed = view.request.seed.map(|seed| seed.to_string()).unwrap_or_default();
        for part in [view.class_name.as_str(), view.plan_name.as_deref().unwrap_or(""), &seed] {
            ensure!(named.contains(part), "{named:?} does not name {part:?}");
        }
        playground.page.wait_for_text("Watch a picture come into focus").await
    })
    .await
}

#[tokio::test]
async fn a_picture_is_looked_at_closely_and_shared_by_itself() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::PHONE] {
            let (playground, job) = open_drawn(browsers, &program, look, 3).await?;
            playground.wait_until_shown().await?;
            playground
                .page
                .value("document.querySelector('[data-testid=look-closer]').focus()")
                .await?;
            playground.page.keys(ENTER).await?;
            playground.wait_for_attribute("lightbox", "picture", "0").await?;
            playground.choose("next-picture").await?;
            playground.wait_for_attribute("lightbox", "picture", "1").await?;
            playground.page.keys(ARROW_DOWN).await?;
            playground.wait_for_attribute("lightbox", "picture", "2").await?;
            playground.page.keys(ARROW_UP).await?;
            playground.wait_for_attribute("lightbox", "picture", "1").await?;
            swipe(&playground, -150).await?;
            playground.wait_for_attribute("lightbox", "picture", "2").await?;
            let scale =
                "return document.querySelector('[data-testid=lightbox-image]').dataset.scale";
            let before = playground.page.value(scale).await?;
            let at_the_end = "const is_off = id => document.querySelector(`[data-testid=${id}]`) \
                .getAttribute('aria-disabled') === 'true'; return is_off('next-scale') && \
                is_off('next-picture') && !is_off('previous-scale') && !is_off('previous-picture')";
            playground.page.wait_for("no way on at the end", at_the_end).await?;
            playground.page.keys(ARROW_LEFT).await?;
            let earlier = format!("{scale} !== {before}");
            playground.page.wait_for("the scale before", &earlier).await?;

            // Enlarged to whole multiples, with crisp pixels.
            playground.page.keys("+").await?;
            playground.wait_for_attribute("lightbox", "zoom", "1:1").await?;
            playground.page.keys("p").await?;
            let pixels = "const image = document.querySelector('[data-testid=lightbox-image]'); \
                return image.getBoundingClientRect().width === image.naturalWidth && \
                    getComputedStyle(image).imageRendering === 'pixelated'";
            playground.page.wait_for("its own pixels", pixels).await?;

            playground.choose("share-this").await?;
            let link = playground.attribute("share-link", "value").await?;
            ensure!(link == program.url(&format!("/r/{job}?picture=3")), "the link is {link}");
            playground.choose("lightbox-close").await?;
            let gone = "return document.querySelector('[data-testid=lightbox]') === null";
            playground.page.wait_for("a closed dialog", gone).await?;
            let focus = "return document.activeElement !== document.body";
            ensure!(playground.page.value(focus).await? == true, "the focus is lost");
        }
        Ok(())
    })
    .await
}

/// Draws a finger over the enlarged picture.
async fn swipe(playground: &Playground, by: i32) -> Result<()> {
    playground
        .page
        .value(&format!(
            "const picture = document.querySelector('.lightbox-picture'); \
             const at = (type, x) => picture.dispatchEvent(new PointerEvent(type, \
                {{ bubbles: true, pointerType: 'touch', clientX: x, clientY: 300 }})); \
             at('pointerdown', 300); at('pointerup', 300 + {by});"
        ))
        .await
        .map(drop)
}

#[tokio::test]
async fn a_link_is_copied_or_shown_for_copying_in_view() -> Result<()> {
    let program = Program::start(&[])?;
    let plain = "Object.defineProperty(window, 'isSecureContext', { value: false }); \
        window.allow = true; document.execCommand = () => window.allow;";
    with_browsers(async |browsers| {
        for look in [Look::LAPTOP, Look::PHONE] {
            let playground =
                Playground::open_prepared(browsers, &program, look, "/", &[plain]).await?;
            playground.wait_until_ready().await?;
            playground.wait_for_attribute("job-state", "state", "finished").await?;
            playground.choose("share").await?;
            playground.page.wait_for_text("Link copied").await?;
            playground.page.value("window.allow = false").await?;
            for _ in 0..2 {
                playground.choose("share").await?;
                playground.page.wait_for_text("Copy this link").await?;
                let selected = "const field = document.querySelector('[data-testid=share-link]'); \
                    const box = field.getBoundingClientRect(); \
                    return document.activeElement === field && field.selectionEnd === \
                    field.value.length && \
                        field.selectionStart === 0 && box.top >= 0 && box.bottom <= innerHeight";
                playground.page.wait_for("a selected field in view", selected).await?;
                playground.leave_field().await?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn classes_are_found_in_spite_of_slips_and_by_chance() -> Result<()> {
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    let snowman =
        model.classes.iter().position(|class| class == "snowman").context("no snowman")?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_until_ready().await?;
        playground.page.keys("/").await?;
        playground.page.keys("snwoman").await?;
        playground.element_appears(&format!("class-option-{snowman}")).await?;
        playground.page.keys(ENTER).await?;
        playground.wait_for_attribute("class-search", "class", &snowman.to_string()).await?;

        // The list is shut and the field has the focus: Enter draws.
        let before = playground.accepted().await?.len();
        playground.page.keys(ENTER).await?;
        let job = playground.accepted_after(before).await?;
        playground.wait_for_state(&job, "finished").await?;
        playground.choose("random-class").await?;
        let other = format!(
            "return document.querySelector('[data-testid=class-search]').dataset.class !== \
             '{snowman}'"
        );
        playground.page.wait_for("another class", &other).await?;

        // Tab goes on to the next control and nowhere else.
        playground
            .page
            .value("document.querySelector('[data-testid=class-search]').focus()")
            .await?;
        playground.page.keys(TAB).await?;
        let next = "return document.activeElement.dataset.testid";
        let next = playground.page.value(next).await?;
        ensure!(next == "random-class", "Tab leads to {next}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_plan_is_put_together_on_the_row_of_scales() -> Result<()> {
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    let scales = model.scales();
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::PHONE, "/").await?;
        set_up(&playground, 0, 1).await?;
        playground.choose("plan-custom").await?;
        // The preset is where it starts: one pass. What cannot be says why, at once.
        playground.choose("begin-0").await?;
        playground.page.wait_for_text("nothing is drawn before it").await?;
        playground.choose("begin-2").await?;
        playground.choose("chip-1").await?;
        playground.wait_for_attribute("chip-1", "who", "teacher").await?;
        playground.wait_for_attribute("chip-2", "who", "student").await?;
        playground.choose("begin-3").await?;
        playground.page.wait_for_text("one pass before it and one after it").await?;
        playground.choose("chip-3").await?;
        playground.wait_for_attribute("chip-2", "who", "teacher").await?;
        playground.fill("split", "2").await?;

        // The picture of it tells the same.
        let told = "return document.querySelector('[data-testid=plan-picture]').getAttribute('aria-label')";
        let told = playground.page.value(told).await?;
        ensure!(
            told.as_str().is_some_and(|told| told.contains("the student drafts 1×1")
                && told.contains("the teacher draws, one pass each, 2×2 to 4×4")),
            "{told}"
        );
        let job = playground.draw().await?;
        let view: JobView =
            reqwest::get(program.url(&format!("/api/results/{job}"))).await?.json().await?;
        let Plan::TeacherInvolved { t_list, teacher_start, loss_split_t, .. } = view.request.plan
        else {
            anyhow::bail!("{:?}", view.request.plan)
        };
        ensure!((t_list, teacher_start, loss_split_t) == ([0, 4], 1, 2), "{:?}", view.request.plan);
        ensure!(scales > 4, "the demo model has {scales} scales");

        // Going to a preset and back loses nothing; starting from one is asked for.
        playground.choose("plan-1").await?;
        playground.choose("plan-custom").await?;
        playground.wait_for_attribute("chip-2", "who", "teacher").await?;
        playground.choose("start-from-0").await?;
        playground.wait_for_attribute("chip-2", "who", "student").await
    })
    .await
}

#[tokio::test]
async fn a_held_key_asks_once_and_letters_can_be_turned_off() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_until_ready().await?;
        let press = |key: &str, code: &str, more: &str| {
            format!(
                "document.body.dispatchEvent(new KeyboardEvent('keydown', \
                 {{ key: '{key}', code: '{code}', bubbles: true, cancelable: true{more} }}))"
            )
        };
        // Held down, and ending a composition: nothing is asked for.
        for more in [", repeat: true", ", isComposing: true"] {
            for _ in 0..5 {
                playground.page.value(&press("Enter", "Enter", more)).await?;
            }
        }
        // What has a use of its own for it keeps it: the choice of a file, and the split of a plan.
        playground.choose("plan-custom").await?;
        for field in ["open-file", "split"] {
            playground.element_appears(field).await?;
            let press = format!(
                "const field = document.querySelector('[data-testid={field}]'); field.focus(); \
                 const enter = {{ key: 'Enter', code: 'Enter', bubbles: true, cancelable: true }}; \
                 return field.dispatchEvent(new KeyboardEvent('keydown', enter))"
            );
            ensure!(playground.page.value(&press).await? == true, "Enter draws from {field}");
        }
        playground.leave_field().await?;
        playground.page.value(&press("Enter", "Enter", "")).await?;
        let job = playground.accepted_after(0).await?;
        playground.wait_for_state(&job, "finished").await?;
        ensure!(playground.accepted().await?.len() == 1, "one key asked more than once");

        // A Cyrillic layout: the key of the letter r.
        let seed = playground.attribute("seed", "value").await?;
        playground.page.value(&press("к", "KeyR", "")).await?;
        let changed = |seed: &str| {
            format!("return document.querySelector('[data-testid=seed]').value !== {seed:?}")
        };
        playground.page.wait_for("another seed", &changed(&seed)).await?;

        playground.page.keys("?").await?;
        playground.choose("letters").await?;
        playground.page.keys(ESCAPE).await?;
        playground.leave_field().await?;
        let seed = playground.attribute("seed", "value").await?;
        playground.page.keys("r").await?;
        ensure!(playground.page.value(&changed(&seed)).await? == false, "a letter is a key still");
        playground.page.reload().await?;
        playground.wait_until_ready().await?;
        playground.page.keys("?").await?;
        let shut = "return document.querySelector('[data-testid=keys]') === null";
        ensure!(playground.page.value(shut).await? == true, "a sign is a key after a reload");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn on_a_phone_the_stage_follows_and_generate_brings_it_back() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::PHONE, "/").await?;
        playground.wait_until_ready().await?;
        playground.wait_for_attribute("job-state", "state", "finished").await?;
        playground
            .page
            .value("document.querySelector('[data-testid=seed]').scrollIntoView({ behavior: \
                    'instant' })")
            .await?;
        playground.wait_for_attribute("stage", "docked", "true").await?;
        let inside = "const box = document.querySelector('[data-testid=stage]').getBoundingClientRect(); \
            return box.top >= 0 && box.bottom <= innerHeight && box.width > 50";
        ensure!(playground.page.value(inside).await? == true, "the small stage is out of sight");
        let job = playground.generate().await?;
        playground.wait_for_attribute("stage", "docked", "false").await?;
        playground.page.wait_for("the stage in sight", inside).await?;
        playground.wait_for_state(&job, "finished").await
    })
    .await
}

#[tokio::test]
async fn the_button_at_the_foot_says_what_it_draws_and_by_which_seed() -> Result<()> {
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    with_browsers(async |browsers| {
        for look in [Look::NARROW, Look::PHONE.dark(), Look { height: 768, ..Look::LAPTOP }] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_for_attribute("job-state", "state", "finished").await?;
            set_up(&playground, 1, 1).await?;
            playground.choose_class(3).await?;
            let told = "const line = document.querySelector('[data-testid=to-draw]'); \
                const box = line.getBoundingClientRect(); \
                return { words: line.textContent, \
                    is_seen: box.height > 0 && box.top >= 0 && box.bottom <= innerHeight, \
                    of_seed: document.querySelector('[data-testid=seed-told]').textContent }";
            // The seed in the field is that of the example, and the next picture gets another.
            let now = playground.page.value(told).await?;
            let words = format!("{} · {} · new seed", model.classes[3], model.plans[1].name);
            ensure!(now["words"] == words.as_str() && now["is_seen"] == true, "{look:?}: {now}");
            let of_seed = now["of_seed"].as_str().unwrap_or_default();
            ensure!(of_seed.contains("the next gets a new seed"), "{look:?}: {of_seed}");

            playground.choose("seed-dice").await?;
            let named = "return document.querySelector('[data-testid=to-draw]').textContent \
                .includes(`seed ${document.querySelector('[data-testid=seed]').value}`)";
            playground.page.wait_for("the seed of the field", named).await?;
            let seed = playground.attribute("seed", "value").await?;
            let job = playground.draw().await?;
            let url = program.url(&format!("/api/results/{job}"));
            let view: JobView = reqwest::get(url).await?.error_for_status()?.json().await?;
            let drawn = view.request.seed.map(|seed| seed.to_string());
            ensure!(drawn.as_ref() == Some(&seed), "{look:?}: {drawn:?} and not {seed}");
            let again = playground.page.value(told).await?;
            ensure!(again["words"] == words.as_str(), "{look:?}: {again}");
            // The field is not behind the bar.
            let is_clear = "const box = name => document.querySelector(name).getBoundingClientRect(); \
                if (innerWidth > 899) scrollTo({ top: 0, behavior: 'instant' }); \
                else document.querySelector('#seed-told') \
                    .scrollIntoView({ block: 'center', behavior: 'instant' }); \
                return box('#seed-told').bottom <= box('.generate-bar').top - 20";
            playground.page.wait_for("the seed beside the bar", is_clear).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_link_is_shown_as_a_code_for_a_camera_until_it_is_closed() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::LAPTOP.dark(), Look::NARROW] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            playground.wait_for_attribute("job-state", "state", "finished").await?;
            playground.choose("share").await?;
            playground.click("share-code").await?;
            let there = "const code = document.querySelector('[data-testid=share-code-picture]'); \
                const box = code.getBoundingClientRect(); \
                return code.complete && code.naturalWidth > 0 && box.width >= 160 && \
                    box.left >= 0 && box.top >= 0 && box.right <= innerWidth && \
                    box.bottom <= innerHeight";
            playground.page.wait_for("the code in sight", there).await?;
            let problems = playground.page.accessibility_problems().await?;
            ensure!(problems.is_empty(), "{look:?}: {}", problems.join("\n"));
            playground.click("share-close").await?;
            let gone = "return !document.querySelector('[data-testid=share-code-picture]')";
            playground.page.wait_for("the code to go", gone).await?;
            // In the menu it is a file; none opens in place of the page.
            let is_file = "return document.querySelector('[data-testid=qr]').download";
            let name = playground.page.value(is_file).await?;
            ensure!(name.as_str().is_some_and(|name| name.ends_with(".svg")), "{name}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn on_a_phone_the_strip_is_in_sight_and_the_small_stage_covers_nothing() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::NARROW, Look::PHONE.dark()] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            // One pass, whose tiles are wider than the window.
            set_up(&playground, 0, 1).await?;
            playground.draw().await?;
            playground.wait_until_shown().await?;
            let places = "const box = name => \
                    document.querySelector(name).getBoundingClientRect(); \
                const [strip, bar] = [box('.strip'), box('.generate-bar')]; \
                const name = box('.pass-name strong'); \
                return { seen: strip.top >= 0 && strip.bottom <= bar.top, \
                    named: name.left >= 0 && name.right <= innerWidth, \
                    strip: strip.bottom, bar: bar.top, name: name.left }";
            let places = playground.page.value(places).await?;
            ensure!(places["seen"] == true, "{look:?}: the strip is out of sight, {places}");
            ensure!(places["named"] == true, "{look:?}: its heading is cut off, {places}");
            let seed = "document.querySelector('[data-testid=seed]') \
                .scrollIntoView({ behavior: 'instant' })";
            playground.page.value(seed).await?;
            playground.wait_for_attribute("stage", "docked", "true").await?;
            let covered = "const box = name => \
                    document.querySelector(name).getBoundingClientRect(); \
                const [stage, bar] = [box('.stage'), box('.generate-bar')]; \
                const button = box('[data-testid=generate]'); \
                return stage.top < bar.top || stage.right > button.left";
            ensure!(
                playground.page.value(covered).await? == false,
                "{look:?}: it covers something"
            );
            let problems = playground.page.accessibility_problems().await?;
            ensure!(problems.is_empty(), "{look:?}: {}", problems.join("\n"));
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_grey_button_says_why() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::PHONE, "/").await?;
        playground.wait_until_ready().await?;
        playground.fill("seed", "none").await?;
        let told = "const reason = document.querySelector('[data-testid=generate-reason]'); \
            return reason.checkVisibility() && reason.textContent";
        let told = playground.page.wait_for("a reason", told).await?;
        ensure!(told.as_str().is_some_and(|told| told.contains("none")), "{told}");
        playground.fill("seed", "7").await?;
        playground.wait_until_ready().await?;
        let shown = "return document.querySelector('[data-testid=generate-reason]') !== null";
        ensure!(playground.page.value(shown).await? == false, "the reason stays");

        // Enter in the field draws.
        playground.page.value("document.querySelector('[data-testid=seed]').focus()").await?;
        let before = playground.accepted().await?.len();
        playground.page.keys(ENTER).await?;
        let job = playground.accepted_after(before).await?;
        playground.wait_for_state(&job, "finished").await
    })
    .await
}

#[tokio::test]
async fn what_is_chosen_is_seen_in_forced_colours() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, 1, 1).await?;
        playground.choose("seed-lock").await?;
        let features = json!({ "features": [{ "name": "forced-colors", "value": "active" }] });
        playground.page.devtools("Emulation.setEmulatedMedia", features).await?;
        let differ = "const look = (element) => { const style = getComputedStyle(element); \
                return [style.backgroundColor, style.outlineStyle, style.borderColor, \
                style.color].join(); }; \
            const span = (id) => document.querySelector(`[data-testid=${id}]`).nextElementSibling; \
            const plan = (id) => document.querySelector(`[data-testid=${id}]`).closest('label'); \
            return look(span('pace-scales')) !== look(span('pace-true')) && \
                look(span('count-1')) !== look(span('count-2')) && look(plan('plan-1')) !== \
                look(plan('plan-0')) && \
                look(document.querySelector('[data-testid=seed-lock]')) !== \
                look(document.querySelector('[data-testid=seed-dice]'))";
        playground.page.wait_for("marks of what is chosen", differ).await.map(drop)
    })
    .await
}

/// Keys by the numbers that WebDriver gives them.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const ARROW_LEFT: &str = "\u{e012}";
const ARROW_UP: &str = "\u{e013}";
const ARROW_DOWN: &str = "\u{e015}";

#[tokio::test]
async fn a_message_leaves_the_button_for_more_pictures_free() -> Result<()> {
    let program = Program::start(&[])?;
    let plain = "Object.defineProperty(window, 'isSecureContext', { value: false }); \
        document.execCommand = () => false;";
    with_browsers(async |browsers| {
        for look in [Look { width: 940, ..Look::LAPTOP }, Look::LAPTOP, Look::PHONE] {
            let playground =
                Playground::open_prepared(browsers, &program, look, "/", &[plain]).await?;
            playground.wait_until_ready().await?;
            playground.wait_for_attribute("job-state", "state", "finished").await?;
            playground.choose("share").await?;
            playground.element_appears("share-link").await?;
            let over = "const box = name => document.querySelector(name).getBoundingClientRect(); \
                const message = box('.toast'), button = box('[data-testid=generate]'); \
                return message.width > 0 && message.right > button.left && \
                    message.bottom > button.top && message.left < button.right && \
                    message.top < button.bottom";
            ensure!(playground.page.value(over).await? == false, "{look:?}: it lies over Generate");
        }
        Ok(())
    })
    .await
}
