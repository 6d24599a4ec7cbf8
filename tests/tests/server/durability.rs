//! What is kept when the server ends.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail, ensure};
use var_dd_protocol::{GenerateRequest, JobEvent, JobId, JobState, JobView};
use var_dd_tests::{
    client::{Client, Event, What, request},
    program::{PATIENCE, Program},
};

use crate::{since_start, slow_plan};

async fn view(program: &Program, job: &JobId) -> Result<JobView> {
    let url = program.url(&format!("/api/results/{job}"));
    Ok(reqwest::get(url).await?.error_for_status()?.json().await?)
}

async fn view_at_end(program: &Program, job: &JobId) -> Result<JobView> {
    let start = std::time::Instant::now();
    while start.elapsed() < PATIENCE {
        let view = view(program, job).await?;
        if view.state.is_final() {
            return Ok(view);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("job {job} does not end; the server said:\n{}", program.log())
}

#[tokio::test]
async fn every_accepted_job_ends_exactly_once_after_a_kill_in_mid_job() -> Result<()> {
    // Nobody watches them after the kill, however long a slow machine takes.
    let mut program = Program::start(&["--unwatched-grace-s", "3600"])?;
    let scales = program.info().await?.models[0].scales();
    let mut client = Client::connect(&program).await?;
    let mut jobs = Vec::new();
    for seed in 0..5 {
        let heavy = GenerateRequest { count: 8, ..request(slow_plan(scales), seed) };
        jobs.push(client.generate(heavy).await?.job);
    }
    // In the middle of the first one, the others waiting.
    loop {
        let event = client.event(&jobs[0]).await?;
        if matches!(event.what, What::Frame(..)) {
            break;
        }
        ensure!(
            event.final_state().is_none(),
            "the first job ended before the server could be killed"
        );
    }
    program.kill()?;
    drop(client);
    program.restart()?;

    let mut timings = BTreeMap::new();
    for job in &jobs {
        let view = view_at_end(&program, job).await?;
        ensure!(view.state == JobState::Finished, "{job} is {:?}: {:?}", view.state, view.error);
        ensure!(view.pictures.len() == 8, "{job} has {} pictures", view.pictures.len());
        timings.insert(job.clone(), view.timings);
    }
    let mut viewer = Client::connect(&program).await?;
    for job in &jobs {
        viewer.watch(job, None).await?;
        let events = viewer.events(job).await?;
        let started = events
            .iter()
            .filter(|event| matches!(event.what, What::Control(JobEvent::Started { .. })))
            .count();
        let ended = events.iter().filter_map(Event::final_state).count();
        ensure!(
            (started, ended) == (1, 1),
            "{job} started {started} times and ended {ended} times"
        );
        let finals = events
            .iter()
            .filter(|event| matches!(&event.what, What::Frame(header, _) if header.last));
        ensure!(finals.count() == 8, "{job} does not have one last frame per picture");
    }
    let list: serde_json::Value =
        reqwest::get(program.url("/api/results?limit=50")).await?.json().await?;
    for job in &jobs {
        let times = list["results"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|result| result["id"] == job.as_str());
        ensure!(times.count() == 1, "{job} is not exactly once in the list of results");
    }

    // A job that has ended is not drawn again.
    drop(viewer);
    program.kill()?;
    program.restart()?;
    for job in &jobs {
        ensure!(
            view(&program, job).await?.timings == timings[job],
            "{job} was drawn a second time"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_result_and_its_bytes_outlive_the_server() -> Result<()> {
    let mut program = Program::start(&[])?;
    let scales = program.info().await?.models[0].scales();
    let mut client = Client::connect(&program).await?;
    // One ahead, so that the other moves up in the queue: places that are kept only until the next.
    client.generate(request(slow_plan(scales), 8)).await?;
    let accepted = client.generate(request(slow_plan(scales), 9)).await?;
    let before = client.events(&accepted.job).await?;
    let status = program.stop()?;
    ensure!(status.success(), "told to stop, the server ended with {status}:\n{}", program.log());
    program.restart()?;
    let mut client = Client::connect(&program).await?;
    client.watch(&accepted.job, None).await?;
    let after = client.events(&accepted.job).await?;
    let (before, after) = (since_start(&before)?, since_start(&after)?);
    ensure!(before.len() == after.len(), "{} events became {}", before.len(), after.len());
    for (before, after) in before.iter().zip(after) {
        ensure!(before.what == after.what, "event {} changed", before.seq);
    }
    Ok(())
}
