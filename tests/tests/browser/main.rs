//! The page in real Chromium.

use anyhow::{Result, ensure};
use var_dd_tests::browser::{Look, with_browsers};

#[tokio::test]
async fn the_accessibility_checker_finds_a_known_fault() -> Result<()> {
    with_browsers(async |browsers| {
        let page = browsers.open(Look::DESKTOP).await?;
        page.goto(
            "data:text/html,<html lang=en><title>t</title><main><h1>Title</h1><img src='data:,'></main>",
        )
        .await?;
        let problems = page.accessibility_problems().await?;
        ensure!(problems.len() == 1 && problems[0].starts_with("image-alt"), "{problems:?}");
        Ok(())
    })
    .await
}
