//! The page in real Chromium.

mod accessibility;
mod connection;
mod controls;
mod explore;
mod faults;
mod focus;
mod frames;
mod grid;
mod hands;
mod history;
mod keeping;
mod learn;
mod opened;
mod origins;
mod places;
mod sharing;
mod stage;

use anyhow::{Context, Result};
use var_dd_protocol::{JobId, ModelInfo, Plan};
use var_dd_tests::{
    browser::{Browsers, Look},
    playground::Playground,
    program::Program,
};

/// The model and the number of the preset that takes longest, for tests that need a job to be still
/// running.
async fn slowest_plan(program: &Program) -> Result<(ModelInfo, usize)> {
    let model = program.info().await?.models.remove(0);
    let slow = model.plans.iter().position(|preset| matches!(preset.plan, Plan::Teacher { .. }));
    let slow = slow.context("the demo model offers no plan for its teacher alone")?;
    Ok((model, slow))
}

/// The playground with so many pictures by the fastest plan, finished, and their name.
async fn open_drawn(
    browsers: &Browsers,
    program: &Program,
    look: Look,
    count: u32,
) -> Result<(Playground, JobId)> {
    let playground = Playground::open(browsers, program, look, "/").await?;
    set_up(&playground, 0, count).await?;
    let job = playground.draw().await?;
    Ok((playground, job))
}

/// Fills in the controls for a preset and a number of pictures.
async fn set_up(playground: &Playground, plan: usize, count: u32) -> Result<()> {
    playground.wait_until_ready().await?;
    playground.choose(&format!("plan-{plan}")).await?;
    playground.choose(&format!("count-{count}")).await
}
