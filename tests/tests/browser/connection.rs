//! The page when the server goes and comes back, and where there is nothing.

use anyhow::Result;
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

use crate::{set_up, slowest_plan};

#[tokio::test]
async fn a_lost_connection_is_told_and_mends_itself() -> Result<()> {
    let mut program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_until_ready().await?;
        program.kill()?;
        playground.wait_for_attribute("connection", "connection", "lost").await?;
        playground.page.wait_for_text("Connection lost").await?;
        program.restart()?;
        playground.wait_for_attribute("connection", "connection", "open").await?;
        playground.draw().await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_job_whose_server_is_killed_finishes_in_the_page_after_the_restart() -> Result<()> {
    let mut program = Program::start(&[])?;
    let (_, slow) = slowest_plan(&program).await?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, slow, 8).await?;
        let job = playground.generate().await?;
        program.kill()?;
        playground.wait_for_attribute("connection", "connection", "lost").await?;
        playground.page.wait_for_text("Interrupted: it goes on once the connection").await?;
        program.restart()?;
        playground.wait_for_state(&job, "finished").await
    })
    .await
}

#[tokio::test]
async fn a_link_without_a_picture_says_so() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let path = format!("/r/{}", "0".repeat(32));
        let playground = Playground::open(browsers, &program, Look::PHONE, &path).await?;
        playground.element_appears("missing").await?;
        playground.page.wait_for_text("This link has no picture").await
    })
    .await
}
