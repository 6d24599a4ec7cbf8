//! What a person does with the page: cancel, share, compare, keys.

use anyhow::{Context, Result, ensure};
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

use crate::{set_up, slowest_plan};

#[tokio::test]
async fn a_running_job_is_cancelled_by_its_button() -> Result<()> {
    let program = Program::start(&[])?;
    let (_, slow) = slowest_plan(&program).await?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, slow, 8).await?;
        let job = playground.generate().await?;
        playground.choose("cancel").await?;
        playground.wait_for_state(&job, "cancelled").await
    })
    .await
}

#[tokio::test]
async fn a_shared_link_shows_the_same_picture_in_a_fresh_profile() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, 0, 1).await?;
        playground.choose_class(3).await?;
        let job = playground.draw().await?;
        let last = playground.received(&job).await?.pop().context("no frame was received")?;
        playground.click("share").await?;
        let link = playground.attribute("share-link", "value").await?;
        ensure!(link == program.url(&format!("/r/{job}")), "the link is {link}");

        let path = link.strip_prefix(&program.url("")).context("the link leads elsewhere")?;
        let other = Playground::open(browsers, &program, Look::DESKTOP, path).await?;
        other.wait_for_state(&job, "finished").await?;
        // Whoever comes by a link is told what this is, and where to read on.
        other.element_appears("learn-offer").await?;
        let tiles = other.drawn_tiles().await?.len();
        other.choose_tile(tiles - 1).await?;
        let picture = other.settled_on_stage(tiles - 1).await?;
        ensure!(picture.digest == last.digest, "the link shows other bytes");

        other.click("make-your-own").await?;
        other.wait_until_ready().await?;
        for (control, attribute) in [("seed", "value"), ("class-search", "class")] {
            let own = playground.attribute(control, attribute).await?;
            other
                .page
                .wait_for(
                    control,
                    &format!(
                        "const found = document.querySelector('[data-testid={control}]'); \
                 return (found.dataset['{attribute}'] ?? found.value) === {own:?}"
                    ),
                )
                .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_keyboard_is_enough() -> Result<()> {
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    let class = model.classes.len() - 1;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_until_ready().await?;
        playground.page.keys("/").await?;
        playground.page.keys(model.classes[class].as_str()).await?;
        playground.element_appears(&format!("class-option-{class}")).await?;
        playground.page.keys(ENTER).await?;
        playground.wait_for_attribute("class-search", "class", &class.to_string()).await?;
        playground.leave_field().await?;

        let seed = playground.attribute("seed", "value").await?;
        playground.page.keys("r").await?;
        let changed =
            format!("return document.querySelector('[data-testid=seed]').value !== {seed:?}");
        playground.page.wait_for("another seed", &changed).await?;

        let before = playground.accepted().await?.len();
        playground.page.keys(ENTER).await?;
        let job = playground.accepted_after(before).await?;
        playground.wait_for_state(&job, "finished").await?;
        let view: var_dd_protocol::JobView =
            reqwest::get(program.url(&format!("/api/results/{job}"))).await?.json().await?;
        ensure!(view.request.class as usize == class, "class {} was drawn", view.request.class);

        let last = playground.drawn_tiles().await?.len() - 1;
        playground.choose_tile(last).await?;
        playground.settled_on_stage(last).await?;
        playground.leave_field().await?;
        playground.page.keys(ARROW_LEFT).await?;
        playground.settled_on_stage(last - 1).await?;

        playground.page.keys("?").await?;
        playground.element_appears("keys").await
    })
    .await
}

#[tokio::test]
async fn plans_are_compared_side_by_side_on_one_seed() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/compare").await?;
        playground.element_appears("compare-start").await?;
        for plan in ["compare-plan-0", "compare-plan-1"] {
            playground.tick(plan).await?;
        }
        playground.click("compare-start").await?;
        let done = "const columns = [...document.querySelectorAll('[data-testid=compare-column]')]; \
            return columns.length >= 2 && columns.every(column => column.dataset.state === \
            'finished') && \
                columns.map(column => column.dataset.job)";
        let jobs = playground.page.wait_for("finished columns", done).await?;
        let mut requests = Vec::new();
        for job in jobs.as_array().context("the jobs of the columns")? {
            let url = program.url(&format!("/api/results/{}", job.as_str().unwrap_or_default()));
            let view: var_dd_protocol::JobView = reqwest::get(url).await?.json().await?;
            requests.push(view.request);
        }
        let (first, others) = requests.split_first().context("no column")?;
        for other in others {
            ensure!(
                other.class == first.class && other.seed == first.seed,
                "{other:?} is not on the seed of {first:?}"
            );
            ensure!(other.plan != first.plan, "two columns show one plan");
        }
        Ok(())
    })
    .await
}

/// Keys by the numbers that WebDriver gives them.
const ENTER: &str = "\u{e007}";
const ARROW_LEFT: &str = "\u{e012}";
