//! Nothing gets lost: settings, pictures and own results, from place to place, over reloads, in
//! other tabs, and in browsers that keep nothing.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use var_dd_protocol::{Comparison, JobId, plan_words};
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

use crate::{open_drawn, set_up, slowest_plan};

/// Ways in which a browser keeps nothing, or kept something else.
const STORAGES: [(&str, &str); 4] = [
    (
        "denied",
        "for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, \
         { get() { throw new DOMException('denied', 'SecurityError') } })",
    ),
    (
        "absent",
        "for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, \
         { get() { return null } })",
    ),
    (
        "full",
        "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }",
    ),
    (
        "of something else",
        "localStorage.setItem('var-dd.owned', '{\"x\":'); localStorage.setItem('var-dd.mine', '7'); \
         localStorage.setItem('var-dd.theme', '\"purple\"'); \
         sessionStorage.setItem('var-dd.settings', '[1]'); \
         sessionStorage.setItem('var-dd.current', '\"nonsense\"')",
    ),
];

#[tokio::test]
async fn a_browser_that_keeps_nothing_draws_all_the_same() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for (storage, script) in STORAGES {
            let playground =
                Playground::open_at(browsers, &program.url(""), Look::DESKTOP, script, "/").await?;
            set_up(&playground, 0, 1).await.with_context(|| storage.to_owned())?;
            playground.fill("seed", "77").await?;
            let job = playground.draw().await?;
            // Whoever drew it may delete it: the secret is not lost.
            playground.element_appears("delete").await.with_context(|| storage.to_owned())?;
            playground.goes_to("nav a[href='/compare']", "/compare").await?;
            playground.back().await?;
            playground.wait_for_state(&job, "finished").await?;
            let seed = playground.attribute("seed", "value").await?;
            ensure!(seed == "77", "storage {storage}: the seed became {seed}");
        }
        Ok(())
    })
    .await
}

async fn settings(playground: &Playground) -> Result<[String; 2]> {
    Ok([
        playground.attribute("class-search", "class").await?,
        playground.attribute("seed", "value").await?,
    ])
}

#[tokio::test]
async fn what_was_set_stays_from_place_to_place_and_over_a_reload() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, 1, 2).await?;
        playground.choose_class(3).await?;
        playground.fill("seed", "4242").await?;
        let expected = ["3".to_owned(), "4242".to_owned()];
        let chosen = "return document.querySelector('[data-testid=plan-1]').checked && \
            document.querySelector('[data-testid=count-2]').checked";

        playground.goes_to("nav a[href='/compare']", "/compare").await?;
        playground.element_appears("compare-start").await?;
        ensure!(settings(&playground).await? == expected, "the comparison starts elsewhere");
        playground.back().await?;
        playground.wait_until_ready().await?;
        ensure!(settings(&playground).await? == expected, "lost on the way back");
        ensure!(playground.page.value(chosen).await? == true, "plan or count are lost");

        playground.page.reload().await?;
        playground.wait_until_ready().await?;
        ensure!(settings(&playground).await? == expected, "lost by a reload");
        ensure!(playground.page.value(chosen).await? == true, "plan or count are lost by a reload");

        // A seed that was typed is meant: it stays.
        for _ in 0..2 {
            playground.draw().await?;
        }
        ensure!(settings(&playground).await? == expected, "the typed seed was replaced");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_address_with_settings_is_used_once_as_far_as_it_can_be_read() -> Result<()> {
    let program = Program::start(&[])?;
    let classes = program.info().await?.models.remove(0).classes;
    with_browsers(async |browsers| {
        let path = format!("/?class={}&seed=abc&utm_source=x", classes[2].replace(' ', "-"));
        let playground = Playground::open(browsers, &program, Look::DESKTOP, &path).await?;
        playground.wait_until_ready().await?;
        playground.wait_for_attribute("class-search", "class", "2").await?;
        playground.page.wait_for_text("“abc” is no seed").await?;
        let address = playground.page.address().await?;
        ensure!(address == program.url("/"), "the address stays {address}");

        playground.choose_class(1).await?;
        playground.page.reload().await?;
        playground.wait_until_ready().await?;
        playground.wait_for_attribute("class-search", "class", "1").await
    })
    .await
}

/// Whether seeds are kept from picture to picture.
const LOCKED: &str =
    "return document.querySelector('[data-testid=seed-lock]').getAttribute('aria-pressed')";

#[tokio::test]
async fn a_link_with_settings_keeps_no_seed_and_can_be_taken_back() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::NARROW.dark()] {
            let path = "/?class=2&seed=5";
            let note = "return document.querySelector('[data-testid=link-note]') !== null";
            let stranger = Playground::open(browsers, &program, look, path).await?;
            stranger.wait_until_ready().await?;
            stranger.wait_for_attribute("class-search", "class", "2").await?;
            stranger.page.wait_for_text("Generate draws its picture").await?;
            let undo = "return document.querySelector('[data-testid=link-undo]') !== null";
            ensure!(stranger.page.value(undo).await? == false, "nothing to go back to");
            stranger.draw().await?;
            ensure!(stranger.page.value(note).await? == false, "drawn, and the note stays");

            let playground = Playground::open(browsers, &program, look, "/").await?;
            set_up(&playground, 1, 1).await?;
            playground.choose_class(3).await?;
            playground.choose("seed-dice").await?;
            let own = settings(&playground).await?;
            playground.goto(path).await?;
            playground.wait_until_ready().await?;
            playground.element_appears("link-undo").await?;
            ensure!(settings(&playground).await? == ["2", "5"], "not those of the link");
            ensure!(playground.page.value(LOCKED).await? == "false", "the link locks the seed");
            let problems = playground.page.accessibility_problems().await?;
            ensure!(problems.is_empty(), "{look:?}: {}", problems.join("\n"));
            // Its seed is for one picture.
            for is_linked in [true, false] {
                playground.draw().await?;
                let [_, seed] = settings(&playground).await?;
                ensure!((seed == "5") == is_linked, "{look:?}: {seed}");
            }
            playground.choose("link-undo").await?;
            playground.wait_for_attribute("class-search", "class", "3").await?;
            ensure!(settings(&playground).await? == own, "other settings than before");
            ensure!(playground.page.value(note).await? == false, "the note stays");
            let plan = "return document.querySelector('[data-testid=plan-1]').checked";
            ensure!(playground.page.value(plan).await? == true, "another plan than before");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_look_at_what_others_drew_leaves_ones_own_settings_alone() -> Result<()> {
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    let plans: Vec<_> = model.plans.iter().take(2).map(|preset| preset.plan.clone()).collect();
    let comparison = Comparison::new(&model.name, 5, &model.classes[5], 4242, plans);
    let grid = "grid?class=5&seed=4242&across=seed%3A+1-2&down=class%3A+3%2C4";
    with_browsers(async |browsers| {
        for (look, address, there) in [
            (Look::DESKTOP, comparison.to_string(), "compare-column"),
            (Look::NARROW.dark(), comparison.to_string(), "compare-column"),
            (Look::DESKTOP, grid.to_owned(), "grid-cell"),
        ] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            set_up(&playground, 1, 1).await?;
            playground.choose_class(3).await?;
            playground.choose("seed-dice").await?;
            let own = settings(&playground).await?;
            let visit = async || {
                playground.goto(&format!("/{address}")).await?;
                playground.element_appears(there).await?;
                playground.element_appears("visit").await?;
                let theirs = settings(&playground).await?;
                ensure!(theirs == ["5", "4242"], "{address} shows {theirs:?}");
                anyhow::Ok(())
            };
            let leave = async || {
                let to = "document.querySelector(\"nav a[href='/']\").click()";
                playground.page.value(to).await?;
                playground.wait_until_ready().await
            };
            visit().await?;
            let problems = playground.page.accessibility_problems().await?;
            ensure!(problems.is_empty(), "{address}, {look:?}: {}", problems.join("\n"));
            // What is changed there is changed there.
            playground.choose_class(1).await?;
            leave().await?;
            ensure!(settings(&playground).await? == own, "{address} left its settings");
            ensure!(playground.page.value(LOCKED).await? == "false", "{address} locks the seed");

            visit().await?;
            playground.choose("visit-keep").await?;
            let gone = "return document.querySelector('[data-testid=visit]') === null";
            playground.page.wait_for("the visit to be over", gone).await?;
            leave().await?;
            ensure!(settings(&playground).await? == ["5", "4242"], "they were not taken");
            ensure!(playground.page.value(LOCKED).await? == "false", "{address} locks the seed");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn of_a_link_to_a_comparison_all_is_taken_that_can_be_read() -> Result<()> {
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    let (first, second) = (&model.plans[0], &model.plans[1]);
    let words = plan_words(&first.plan);
    let both = vec![first.plan.clone(), second.plan.clone()];
    let misnamed = Comparison::new(&model.name, 5, "mistyped", 4242, both);
    let query =
        |plans: String| format!("compare?class=5&seed=4242&plans={}", plans.replace(' ', "+"));
    with_browsers(async |browsers| {
        for (address, ticked, told) in [
            (
                format!("c/{}/5-mistyped/4242/{words}/nonsense", model.name),
                &[0][..],
                "nonsense is no plan",
            ),
            (misnamed.to_string(), &[0, 1], "The link says “mistyped”"),
            (query(format!("{};{}", first.name, second.name)), &[0, 1], ""),
            (query(format!("{};nothing", second.name)), &[1], "nothing"),
        ] {
            let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
            set_up(&playground, 1, 1).await?;
            playground.choose_class(3).await?;
            playground.choose("seed-dice").await?;
            let own = settings(&playground).await?;
            playground.goto(&format!("/{address}")).await?;
            playground.element_appears("visit").await?;
            let theirs = settings(&playground).await?;
            ensure!(theirs == ["5", "4242"], "{address} shows {theirs:?}");
            let plans = "return [...document.querySelectorAll('[data-testid^=compare-plan-]')] \
                .flatMap((plan, index) => plan.checked ? [index] : [])";
            let plans = playground.page.value(plans).await?;
            ensure!(plans == json!(ticked), "{address} has the plans {plans}");
            if !told.is_empty() {
                playground.page.wait_for_text(told).await?;
            }
            playground.goes_to("nav a[href='/']", "/").await?;
            playground.wait_until_ready().await?;
            ensure!(settings(&playground).await? == own, "{address} left its settings");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_comparison_is_remembered_when_it_is_asked_for_and_not_when_it_is_looked_at() -> Result<()>
{
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    let plans: Vec<_> = model.plans.iter().take(2).map(|preset| preset.plan.clone()).collect();
    let comparison = Comparison::new(&model.name, 5, &model.classes[5], 4242, plans);
    let remembered = |count: usize| {
        format!("return JSON.parse(localStorage.getItem('var-dd.mine') ?? '[]').length === {count}")
    };
    let drawn = "return document.querySelector('[data-testid=compare-again]:enabled') !== null";
    with_browsers(async |browsers| {
        let path = format!("/{comparison}");
        let playground = Playground::open(browsers, &program, Look::DESKTOP, &path).await?;
        for _ in 0..2 {
            playground.page.wait_for("the comparison to be drawn", drawn).await?;
            let is_left_out = playground.page.value(&remembered(0)).await?;
            ensure!(is_left_out == true, "what was looked at is remembered");
            playground.goto(&path).await?;
        }
        playground.page.wait_for("the comparison to be drawn", drawn).await?;
        playground.choose("compare-start").await?;
        playground.page.wait_for("one's own to be remembered", &remembered(2)).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_received_picture_stays_when_one_makes_ones_own() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let giver = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&giver, 1, 1).await?;
        giver.choose_class(3).await?;
        giver.fill("seed", "99").await?;
        let job = giver.draw().await?;

        let path = format!("/r/{job}");
        let receiver = Playground::open(browsers, &program, Look::DESKTOP, &path).await?;
        receiver.wait_for_state(&job, "finished").await?;
        receiver.click("make-your-own").await?;
        receiver.wait_until_ready().await?;
        receiver.wait_for_state(&job, "finished").await?;
        ensure!(settings(&receiver).await? == ["3", "99"], "other settings");
        let address = receiver.page.address().await?;
        ensure!(address == program.url("/"), "the address is {address}");
        receiver.page.reload().await?;
        receiver.wait_for_state(&job, "finished").await
    })
    .await
}

async fn status(program: &Program, job: &JobId) -> Result<u16> {
    let url = program.url(&format!("/api/results/{job}"));
    Ok(reqwest::get(url).await?.status().as_u16())
}

#[tokio::test]
async fn deleting_can_be_taken_back_and_is_done_at_the_latest_when_one_leaves() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let (playground, job) = open_drawn(browsers, &program, Look::DESKTOP, 1).await?;
        playground.choose("delete").await?;
        playground.choose("undo").await?;
        playground.wait_for_state(&job, "finished").await?;
        ensure!(status(&program, &job).await? == 200, "it was deleted all the same");

        playground.choose("delete").await?;
        playground.element_appears("undo").await?;
        playground.page.goto("about:blank").await?;
        for _ in 0..200 {
            if status(&program, &job).await? == 404 {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        anyhow::bail!("it is still there");
    })
    .await
}

#[tokio::test]
async fn what_was_deleted_stays_so_after_a_reload() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let (playground, first) = open_drawn(browsers, &program, Look::DESKTOP, 1).await?;
        let second = playground.draw().await?;
        playground.goto("/history").await?;
        let listed = "return JSON.stringify([...document.querySelectorAll( \
            '[data-testid=history-item]')].map(item => item.dataset.job))";
        let list = |jobs: &[&JobId]| format!("{listed} === {}", json!(json!(jobs).to_string()));
        playground.page.wait_for("both results", &list(&[&second, &first])).await?;
        let delete = format!(
            "document.querySelector(\"[data-testid=history-item][data-job='{second}'] \
                input[type=checkbox]\").click()"
        );
        playground.page.value(&delete).await?;
        playground.choose("history-delete").await?;
        playground.element_appears("undo").await?;
        for _ in 0..2 {
            playground.page.reload().await?;
            playground.page.wait_for("the other result alone", &list(&[&first])).await?;
        }
        ensure!(status(&program, &second).await? == 404, "the server still has it");
        ensure!(status(&program, &first).await? == 200, "the other one is gone");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn whoever_deletes_a_result_on_its_page_is_told_what_they_did() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let (playground, job) = open_drawn(browsers, &program, Look::DESKTOP, 1).await?;
        playground.goto(&format!("/r/{job}")).await?;
        playground.wait_for_state(&job, "finished").await?;
        playground.choose("delete").await?;
        playground.page.wait_for_text("You deleted this result").await?;
        playground.choose("undo-here").await?;
        playground.wait_for_state(&job, "finished").await
    })
    .await
}

#[tokio::test]
async fn own_and_everyones_results_are_apart_and_other_tabs_follow() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let (_, others) = open_drawn(browsers, &program, Look::DESKTOP, 1).await?;

        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, 0, 1).await?;
        playground.page.new_tab(&program.url("/")).await?;
        playground.wait_until_ready().await?;
        playground.page.use_tab(0).await?;
        let own = playground.draw().await?;
        let listed = |job: &JobId| format!("[data-testid=recent-item][data-job='{job}']");
        let script = |own: &JobId, other: &JobId| {
            format!(
                "return document.querySelector({}) !== null && document.querySelector({}) === null",
                json!(listed(own)),
                json!(listed(other))
            )
        };
        playground.choose("recent-mine").await?;
        playground.page.wait_for("only own results", &script(&own, &others)).await?;
        // The tab in which nothing was drawn knows of it too.
        playground.page.use_tab(1).await?;
        playground.choose("recent-mine").await?;
        playground.page.wait_for("the other tab's result", &script(&own, &others)).await?;
        playground.choose("recent-all").await?;
        let all = format!(
            "return document.querySelector({}) !== null && document.querySelector({}) !== null",
            json!(listed(&own)),
            json!(listed(&others))
        );
        playground.page.wait_for("everyone's results", &all).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn settings_of_a_recent_result_are_used_in_place() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, 0, 1).await?;
        playground.choose_class(2).await?;
        playground.fill("seed", "31").await?;
        let job = playground.draw().await?;
        playground.choose_class(4).await?;
        playground.fill("seed", "5").await?;
        playground.choose("recent-reuse").await?;
        playground.wait_for_attribute("class-search", "class", "2").await?;
        ensure!(settings(&playground).await? == ["2", "31"], "other settings");
        playground.wait_for_state(&job, "finished").await
    })
    .await
}

#[tokio::test]
async fn every_own_job_can_be_stopped_also_after_a_reload() -> Result<()> {
    let program = Program::start(&[])?;
    let (_, slow) = slowest_plan(&program).await?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, slow, 8).await?;
        let mut jobs = Vec::new();
        for _ in 0..3 {
            jobs.push(playground.generate().await?);
        }
        let waiting = "return Number(document.querySelector('[data-testid=queue-open]') \
            ?.dataset.count) >= 2";
        playground.page.wait_for("jobs besides the one shown", waiting).await?;
        playground.page.reload().await?;
        playground.element_appears("queue-open").await?;
        playground.choose("queue-open").await?;
        playground.element_appears("queue-cancel").await?;
        playground.choose("queue-cancel").await?;
        let states = async || -> Result<Vec<String>> {
            let mut states = Vec::new();
            for job in &jobs {
                let url = program.url(&format!("/api/results/{job}"));
                let view: serde_json::Value = reqwest::get(url).await?.json().await?;
                states.push(view["state"].as_str().unwrap_or_default().to_owned());
            }
            Ok(states)
        };
        for _ in 0..400 {
            if states().await?.iter().any(|state| state == "cancelled") {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        anyhow::bail!("none was stopped: {:?}", states().await?);
    })
    .await
}
