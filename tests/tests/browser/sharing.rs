//! Results that leave the page: as files, and in frames of other sites.

use anyhow::{Result, ensure};
use serde_json::json;
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

use crate::set_up;

#[tokio::test]
async fn a_result_leaves_as_one_file_from_the_menu() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_until_ready().await?;
        set_up(&playground, 0, 2).await?;
        let job = playground.generate().await?;
        playground.wait_for_state(&job, "finished").await?;
        playground.wait_until_shown().await?;
        playground.choose("downloads").await?;
        let fetched = "const found = []; \
            for (const name of ['export-gif', 'export-apng', 'export-webp', 'export-filmstrip', \
                'export-sheet', 'qr']) { \
                const link = document.querySelector(`[data-testid=${name}]`); \
                const response = await fetch(link.href); \
                found.push(`${response.status} ${response.headers.get('content-type')}`); \
            } \
            return found";
        let found = playground.page.value(fetched).await?;
        ensure!(
            found
                == json!([
                    "200 image/gif",
                    "200 image/apng",
                    "200 image/webp",
                    "200 image/png",
                    "200 image/png",
                    "200 image/svg+xml"
                ]),
            "{found}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_player_plays_in_a_frame_and_shows_any_scale_without_a_script() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_until_ready().await?;
        set_up(&playground, 0, 1).await?;
        let job = playground.generate().await?;
        playground.wait_for_state(&job, "finished").await?;
        for look in [Look::DESKTOP, Look::DESKTOP.dark(), Look::PHONE, Look::NARROW] {
            playground.page.look(look).await?;
            playground.goto(&format!("/embed/{job}")).await?;
            // What is opaque and uppermost; the finished picture, once all have been played.
            let seen = "return [...document.querySelectorAll('.stage img')] \
                .map(image => getComputedStyle(image).opacity).join('')";
            let count = playground.page.value("return document.images.length").await?;
            let count = count.as_u64().unwrap_or_default() as usize;
            ensure!(count > 3, "{count} scales");
            let at_end = format!("{}1", "0".repeat(count - 1));
            let ended = format!("{seen} === {}", json!(at_end));
            playground.page.wait_for("the finished picture", &ended).await?;
            // By the keyboard, as any choice.
            playground.page.click("label:first-of-type input").await?;
            let first = format!("1{}", "0".repeat(count - 1));
            let shown = playground.page.value(seen).await?;
            ensure!(shown == json!(first), "{look:?}: {shown}");
            playground.page.keys("\u{e014}").await?;
            let shown = playground.page.value(seen).await?;
            ensure!(shown == json!(format!("01{}", "0".repeat(count - 2))), "{look:?}: {shown}");
            let loaded = "return [...document.images].every(image => image.naturalWidth > 0)";
            playground.page.wait_for("every scale", loaded).await?;
            let problems = playground.page.accessibility_problems().await?;
            ensure!(problems.is_empty(), "{look:?}:\n{}", problems.join("\n"));
            let too_wide =
                "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
            ensure!(playground.page.value(too_wide).await? == false, "{look:?}: too wide");
        }
        let complaints = playground.page.complaints().await?;
        let of_policy: Vec<_> =
            complaints.iter().filter(|complaint| complaint.contains("Content Security")).collect();
        ensure!(of_policy.is_empty(), "{of_policy:?}");
        Ok(())
    })
    .await
}
