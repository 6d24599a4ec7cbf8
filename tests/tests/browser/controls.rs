//! The controls: first visit, plans of one's own, the seed's lock, several pictures, colours,
//! deleting.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use var_dd_protocol::Plan;
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

use crate::{open_drawn, set_up};

#[tokio::test]
async fn the_first_visit_shows_a_finished_example() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_for_attribute("job-state", "state", "finished").await?;
        let example = program.info().await?.example.context("the server has no example")?;
        playground.wait_for_state(&example, "finished").await?;
        ensure!(playground.on_stage().await?.len() == 1, "the example is not on the stage");
        ensure!(playground.accepted().await?.is_empty(), "the page asked for pictures by itself");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_plan_of_ones_own_is_checked_and_drawn() -> Result<()> {
    let program = Program::start(&[])?;
    let scales = program.info().await?.models[0].scales();
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, 1, 1).await?;
        playground.choose("plan-custom").await?;
        let shut = "return document.querySelector('[data-testid=generate]:disabled') !== null";
        for (field, wrong, words) in [
            ("custom-t-list", "0, 2, 2", "t_list goes from 2 to 2"),
            ("custom-t-list", &format!("0, {scales}"), &format!("step {scales} is out of range")),
            ("custom-split", "99", &format!("loss_split_t is 99; the model has {scales} scales")),
        ] {
            let before = playground.attribute(field, "value").await?;
            playground.fill(field, wrong).await?;
            playground.page.wait_for_text(words).await?;
            ensure!(playground.page.value(shut).await? == true, "{field} {wrong} can be asked for");
            playground.fill(field, &before).await?;
        }
        playground.fill("custom-t-list", "0, 1, 3").await?;
        playground.wait_until_ready().await?;
        let job = playground.draw().await?;
        let view: var_dd_protocol::JobView =
            reqwest::get(program.url(&format!("/api/results/{job}"))).await?.json().await?;
        let Plan::FewStep { t_list, .. } = &view.request.plan else {
            anyhow::bail!("{:?}", view.request)
        };
        ensure!(*t_list == [0, 1, 3], "{t_list:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_locked_seed_stays_and_an_unlocked_one_changes() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, 0, 1).await?;
        playground.fill("seed", "12345").await?;
        let mut seeds = Vec::new();
        // A seed that was typed is locked at first.
        for is_unlocked in [false, true, true] {
            if is_unlocked && seeds.len() == 1 {
                playground.choose("seed-lock").await?;
            }
            playground.draw().await?;
            seeds.push(playground.attribute("seed", "value").await?);
        }
        ensure!(seeds[0] == "12345", "the seed that was typed is not used: {}", seeds[0]);
        ensure!(seeds[1] != seeds[0], "the seed did not change");
        ensure!(seeds[2] != seeds[1], "the seed did not change again");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_picture_of_several_is_brought_forward_and_back() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let (playground, _) = open_drawn(browsers, &program, Look::PHONE, 3).await?;
        playground.wait_for_attribute("stage", "focusing", "false").await?;
        let all = playground.on_stage().await?;
        ensure!(all.len() == 3, "{} pictures", all.len());
        playground.page.click("[data-testid=stage] button:nth-child(2)").await?;
        playground.wait_for_attribute("stage", "picture", "1").await?;
        let one = playground.on_stage().await?;
        ensure!(one.len() == 1 && one[0].digest == all[1].digest, "another picture came forward");
        playground.page.click("[data-testid=stage] button").await?;
        playground
            .page
            .wait_for(
                "all pictures",
                "return document.querySelectorAll('[data-testid=stage-picture]').length === 3",
            )
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn chosen_colours_are_kept() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_until_ready().await?;
        let paper = "return getComputedStyle(document.body).backgroundColor";
        let light = playground.page.value(paper).await?;
        for theme in ["light", "dark"] {
            playground.choose("theme").await?;
            playground.wait_for_attribute("theme", "theme", theme).await?;
        }
        let dark = playground.page.value(paper).await?;
        ensure!(light != dark, "dark paper is as light as light: {dark}");
        playground.page.reload().await?;
        playground.wait_for_attribute("theme", "theme", "dark").await?;
        let kept = format!("{paper} === {}", json!(dark).to_string().replace('"', "'"));
        playground.page.wait_for("dark paper", &kept).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_result_is_gone_once_it_cannot_be_taken_back() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let (playground, job) = open_drawn(browsers, &program, Look::DESKTOP, 1).await?;

        let stranger =
            Playground::open(browsers, &program, Look::PHONE, &format!("/r/{job}")).await?;
        stranger.wait_for_state(&job, "finished").await?;
        let offered = "return document.querySelector('[data-testid=delete]') !== null";
        ensure!(stranger.page.value(offered).await? == false, "a stranger may delete it");

        playground.choose("delete").await?;
        playground.element_appears("undo").await?;
        let over = "return document.querySelector('[data-testid=undo]') === null";
        playground.page.wait_for("the end of the time to take it back", over).await?;
        stranger.page.reload().await?;
        stranger.element_appears("missing").await?;
        let status = reqwest::get(program.url(&format!("/api/results/{job}"))).await?.status();
        ensure!(status == 404, "it is still there: {status}");
        Ok(())
    })
    .await
}

/// Fields of a place without a word of explanation near them: a term that opens one, a line that
/// says what it is for, or a description of its own. Some say all of it themselves.
const UNEXPLAINED: &str = "return [...document.querySelectorAll('main :is(input, select)')] \
    .filter(field => field.checkVisibility() && !field.closest('.recent, .tick')) \
    .filter(field => { \
        const about = field.getAttribute('aria-describedby'); \
        if (about && document.getElementById(about)?.textContent.trim()) return false; \
        const near = field.closest('.field, .label-line, .order, .open-file, .line, \
            .player, .walk, .history, .pad-table, .desk, .swipe'); \
        return !near?.querySelector('.term, .hint, small'); }) \
    .map(field => field.dataset.testid || field.getAttribute('aria-label') || field.outerHTML)";

#[tokio::test]
async fn every_field_has_its_explanation_at_hand() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::NARROW] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            set_up(&playground, 0, 1).await?;
            playground.choose("plan-custom").await?;
            playground.choose("plan-numbers").await?;
            for place in ["/", "/compare", "/grid", "/history", "/explore"] {
                if place != "/" {
                    playground.goto(place).await?;
                    playground
                        .page
                        .wait_for("the place", "return !!document.querySelector('main h1')")
                        .await?;
                    let ready = "return !document.querySelector('main').textContent \
                        .includes('Waiting for the server')";
                    playground.page.wait_for("its models", ready).await?;
                }
                let unexplained = playground.page.value(UNEXPLAINED).await?;
                ensure!(unexplained == json!([]), "{place}, {look:?}: {unexplained}");
                // Each explanation opens, by the keyboard as well, and says something.
                let terms = "return [...new Set([...document.querySelectorAll('main .term')] \
                    .filter(term => term.checkVisibility()) \
                    .map(term => term.dataset.testid))]";
                let terms = playground.page.value(terms).await?;
                for term in terms.as_array().into_iter().flatten().filter_map(|term| term.as_str())
                {
                    let opened = format!(
                        "const term = document.querySelector('main [data-testid={term}]'); \
                         term.focus(); term.click(); \
                         const told = document.querySelector(':popover-open'); \
                         const words = told?.textContent.length ?? 0; told?.hidePopover(); \
                         return words"
                    );
                    let words = playground.page.value(&opened).await?;
                    ensure!(words.as_i64().is_some_and(|words| words > 40), "{term}: {words}");
                }
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_link_in_words_sets_parts_of_a_plan_too() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let model = program.info().await?.models.remove(0);
        let teacher = model.plans.iter().find(|preset| preset.plan.needs_teacher());
        let teacher = teacher.context("the demo model offers no plan with its teacher")?;
        let address = format!("/?plan={}&cfg=3.5&top-k=77&seed=5&count=2", teacher.name);
        let address = address.replace(' ', "-");
        let playground = Playground::open(browsers, &program, Look::DESKTOP, &address).await?;
        playground.wait_until_ready().await?;
        playground.choose("plan-numbers").await?;
        for (field, value) in [("custom-cfg", "3.5"), ("custom-top-k", "77"), ("seed", "5")] {
            let now = playground.attribute(field, "value").await?;
            ensure!(now == value, "{field} is {now}");
        }
        playground.goto("/?cfg=much").await?;
        playground.page.wait_for_text("much").await
    })
    .await
}

#[tokio::test]
async fn a_class_that_is_half_typed_is_taken_if_it_leaves_no_doubt_or_said_to_be_none() -> Result<()>
{
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::NARROW, "/").await?;
        playground.wait_until_ready().await?;
        playground.choose_class(3).await?;
        let missed = "return document.querySelector('[data-testid=class-missed]').textContent";
        let focus = "document.querySelector('[data-testid=class-search]').focus()";
        for (typed, class, why) in [
            ("snowm", "snowman", ""),
            ("zzz", "snowman", "No class is called “zzz”. It is still snowman."),
            ("a", "snowman", "“a” fits"),
        ] {
            playground.page.value(focus).await?;
            playground.fill("class-search", typed).await?;
            playground.leave_field().await?;
            let there = format!("{missed}.includes({})", json!(why));
            playground.page.wait_for(&format!("what is said of {typed}"), &there).await?;
            let is_silent = playground.page.value(missed).await? == "";
            ensure!(is_silent == why.is_empty(), "{typed}");
            let now = playground.attribute("class-search", "value").await?;
            ensure!(now == class, "{typed} makes it {now}");
        }
        let problems = playground.page.accessibility_problems().await?;
        ensure!(problems.is_empty(), "{}", problems.join("\n"));

        // At a corner of the pad too.
        playground.goto("/explore").await?;
        playground.element_appears("corner-0").await?;
        let before = playground.attribute("corner-0", "class").await?;
        playground.fill("corner-0", "zzz").await?;
        let changed = "document.querySelector('[data-testid=corner-0]') \
            .dispatchEvent(new Event('change', { bubbles: true }))";
        playground.page.value(changed).await?;
        playground.page.wait_for_text("No class is called “zzz”. It is still").await?;
        ensure!(playground.attribute("corner-0", "class").await? == before, "the corner changed");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn whoever_generates_by_keyboard_keeps_the_focus_on_the_button() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, 0, 1).await?;
        let focus = "const button = document.querySelector('[data-testid=generate]'); \
            window.left = 0; button.addEventListener('blur', () => window.left++); button.focus()";
        playground.page.value(focus).await?;
        for drawn in 1..=2 {
            playground.page.keys("\u{e007}").await?;
            let job = playground.accepted_after(drawn - 1).await?;
            playground.wait_for_state(&job, "finished").await?;
        }
        let stayed = "return window.left === 0 && document.activeElement.dataset.testid";
        ensure!(playground.page.value(stayed).await? == "generate", "the focus is lost");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn on_a_phone_one_tap_leads_from_what_will_be_drawn_to_its_controls() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::PHONE, Look::NARROW.dark()] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            playground.page.click("[data-testid=to-controls]").await?;
            let in_sight = "const field = document.querySelector('[data-testid=class-search]') \
                .getBoundingClientRect(); \
                const bar = document.querySelector('.generate-bar').getBoundingClientRect(); \
                return field.top >= 0 && field.bottom <= bar.top";
            playground.page.wait_for("the class in sight", in_sight).await?;
        }
        let desktop = Playground::open(browsers, &program, Look::LAPTOP, "/").await?;
        desktop.wait_until_ready().await?;
        let hidden = "return document.querySelector('[data-testid=to-controls]').offsetWidth === 0";
        ensure!(desktop.page.value(hidden).await? == true, "beside them it is of no use");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_cannot_be_taken_of_a_link_stays_told_until_it_is_closed() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::LAPTOP.dark(), Look::NARROW] {
            let address = "/?class=snowmann&plan=7-steps&seed=x&cuont=2";
            let playground = Playground::open(browsers, &program, look, address).await?;
            playground.element_appears("link-note").await?;
            let told = "return document.querySelector('[data-testid=link-note]')?.textContent";
            let words = playground.page.value(told).await?.to_string();
            for part in ["“snowmann” was taken for snowman", "“7-steps”", "“x”", "“count” is one"]
            {
                ensure!(words.contains(part), "{look:?}: {words}");
            }
            // A click of the pointer: it fails where something lies over the button.
            playground.draw().await?;
            let after = playground.page.value(told).await?.to_string();
            ensure!(after == words, "{look:?}: after Generate it says {after}");
            let problems = playground.page.accessibility_problems().await?;
            ensure!(problems.is_empty(), "{look:?}: {}", problems.join("\n"));
            playground.page.click("[data-testid=link-note] button").await?;
            let gone = "return !document.querySelector('[data-testid=link-note]')";
            playground.page.wait_for("the note to go", gone).await?;
        }
        Ok(())
    })
    .await
}
