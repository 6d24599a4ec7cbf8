//! A grid of pictures: filled, told of what is amiss, gone on with, shared and kept as a sheet.

use anyhow::{Context, Result, ensure};
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

/// Keeps what the page hands to the browser as a download.
const CATCH: &str = "window.kept = []; const make = URL.createObjectURL; \
    URL.createObjectURL = blob => { \
        if (blob.type === 'image/png') window.kept.push(blob); return make(blob); };";

async fn check(playground: &Playground, what: &str) -> Result<()> {
    let problems = playground.page.accessibility_problems().await?;
    ensure!(problems.is_empty(), "{what}: {problems:?}");
    let wide = "return document.documentElement.scrollWidth - innerWidth";
    let wide = playground.page.value(wide).await?;
    ensure!(wide.as_i64().is_some_and(|wide| wide <= 0), "{what} scrolls sideways by {wide}");
    Ok(())
}

/// Previews that were asked for since the document was loaded.
async fn asked(playground: &Playground) -> Result<i64> {
    let count = "return performance.getEntriesByType('resource') \
        .filter(entry => entry.name.endsWith('/api/preview')).length";
    let count = playground.page.value(count).await?;
    count.as_i64().with_context(|| format!("{count} is no number"))
}

async fn choose_axis(playground: &Playground, side: &str, axis: &str) -> Result<()> {
    let script = format!(
        "const list = document.querySelector('[data-testid=grid-{side}]'); \
         if (!list) return false; list.value = '{axis}'; \
         list.dispatchEvent(new Event('change', {{ bubbles: true }})); return true"
    );
    playground.page.wait_for(side, &script).await?;
    Ok(())
}

#[tokio::test]
async fn a_grid_fills_goes_on_after_a_reload_and_has_a_link_and_a_sheet() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::PHONE.dark(), Look::NARROW] {
            let playground =
                Playground::open_prepared(browsers, &program, look, "/grid", &[CATCH]).await?;
            choose_axis(&playground, "across", "seed").await?;
            playground.fill("grid-across-values", "1-3").await?;
            choose_axis(&playground, "down", "class").await?;
            playground.fill("grid-down-values", "2, 5").await?;
            check(&playground, "a grid that is to be").await?;
            playground.choose("grid-start").await?;
            playground.wait_for_attribute("grid-told", "there", "6").await?;
            ensure!(asked(&playground).await? == 6, "not one picture for each cell");
            check(&playground, "a full grid").await?;

            // What is there is not drawn again.
            playground.page.reload().await?;
            playground.wait_for_attribute("grid-told", "there", "6").await?;
            ensure!(asked(&playground).await? == 0, "the browser forgot its pictures");

            playground.choose("grid-sheet").await?;
            let sheet = "if (!window.kept.length) return null; \
                const sheet = await createImageBitmap(window.kept[0]); \
                return [sheet.width, sheet.height]";
            let sheet = playground.page.wait_for("the sheet", sheet).await?;
            let (wide, high) = (sheet[0].as_i64(), sheet[1].as_i64());
            let side = i64::from(program.info().await?.models[0].image_size);
            ensure!(
                wide.is_some_and(|wide| wide > 3 * side)
                    && high.is_some_and(|high| high > 2 * side),
                "the sheet has {sheet}"
            );

            // Its address is a link in words.
            let address = playground.page.address().await?;
            ensure!(address.contains("across=seed") && address.contains("down=class"));
            let path = address.strip_prefix(&program.url("")).context("elsewhere")?.to_owned();
            let other = Playground::open(browsers, &program, look, &path).await?;
            other.wait_for_attribute("grid-told", "there", "6").await?;
            let names = "return [...document.querySelectorAll('[data-testid=grid-cell] img')] \
                .map(image => image.alt)";
            ensure!(
                other.page.value(names).await? == playground.page.value(names).await?,
                "another grid"
            );
            // A picture leads to its settings.
            let last = "document.querySelectorAll('[data-testid=grid-cell] a')[5].click()";
            other.page.value(last).await?;
            other.wait_for_attribute("class-search", "class", "5").await?;
            ensure!(other.attribute("seed", "value").await? == "3", "another seed");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_grid_that_cannot_be_says_why_and_a_stopped_one_goes_on() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/grid").await?;
        choose_axis(&playground, "down", "class").await?;
        choose_axis(&playground, "across", "cfg").await?;
        playground.page.wait_for_text("the teacher’s").await?;
        let off = "return document.querySelector('[data-testid=grid-start]').disabled";
        ensure!(playground.page.value(off).await? == true, "it can be pressed");
        choose_axis(&playground, "across", "seed").await?;
        playground.fill("grid-across-values", "1-99").await?;
        playground.page.wait_for_text("at most 12 values").await?;
        playground.fill("grid-across-values", "1-12").await?;
        playground.fill("grid-down-values", "0, 1, 2, 3").await?;
        playground.choose("grid-start").await?;
        playground.choose("grid-stop").await?;
        playground.element_appears("grid-go-on").await?;
        let there = playground.attribute("grid-told", "there").await?;
        ensure!(there != "48", "it was too fast to stop");
        playground.choose("grid-go-on").await?;
        playground.wait_for_attribute("grid-told", "there", "48").await?;

        playground.goto("/grid?across=colour:red&down=seed:1").await?;
        playground.page.wait_for_text("nothing that can change across").await
    })
    .await
}

#[tokio::test]
async fn where_the_pictures_of_a_grid_will_be_is_seen_before_they_are_drawn() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/grid").await?;
        playground.element_appears("grid-to-be").await?;
        playground.fill("grid-across-values", "1-3").await?;
        let columns = "return document.querySelectorAll('[data-testid=grid-to-be] thead th') \
            .length === 3";
        playground.page.wait_for("a column for each value", columns).await?;
        check(&playground, "the grid to be").await?;
        playground.choose("grid-start").await?;
        playground.element_appears("grid").await?;
        let gone = "return !document.querySelector('[data-testid=grid-to-be]')";
        playground.page.wait_for("pictures in its place", gone).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn keys_draw_a_grid_and_copy_its_link_and_what_is_not_drawn_yet_stays() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/grid").await?;
        playground.element_appears("grid-to-be").await?;
        // A plan of one's own is offered once there is one.
        let own = "return document.querySelector('[data-testid=grid-plan] [value=custom]')";
        ensure!(playground.page.value(own).await?.is_null(), "a plan that nobody built");
        choose_axis(&playground, "down", "class").await?;
        playground.fill("grid-across-values", "1-2").await?;
        playground.fill("grid-down-values", "3").await?;
        playground.goes_to("nav a[href='/']", "/").await?;
        playground.wait_until_ready().await?;
        playground.goes_to("nav a[href='/grid']", "/grid").await?;
        playground.element_appears("grid-to-be").await?;
        for (field, text) in [("grid-across-values", "1-2"), ("grid-down-values", "3")] {
            let now = playground.attribute(field, "value").await?;
            ensure!(now == text, "{field} is {now}");
        }

        playground.page.element("[data-testid=grid-start]:enabled").await?;
        playground.leave_field().await?;
        playground.page.keys("\u{e007}").await?;
        playground.wait_for_attribute("grid-told", "there", "2").await?;
        playground.page.keys("s").await?;
        playground.element_appears("notice").await
    })
    .await
}
