//! More than one machine, as processes of this one: what becomes of jobs when parts go down.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use reqwest::StatusCode;
use var_dd_protocol::{GenerateRequest, JobEvent, JobId, JobState, JobView};
use var_dd_tests::{
    client::{Client, Event, What, finished_picture, frames, request},
    cluster::{Cluster, Gateway},
    program::{PATIENCE, Program},
};

use crate::slow_plan;

/// Scales of the demo model.
async fn scales(gateway: &Gateway) -> Result<u32> {
    let info: var_dd_protocol::ServerInfo =
        reqwest::get(gateway.url("/api/info")).await?.error_for_status()?.json().await?;
    Ok(info.models[0].scales())
}

async fn connect(gateway: &Gateway) -> Result<Client> {
    Client::connect_to(&gateway.address, None).await
}

async fn view(gateway: &Gateway, job: &JobId) -> Result<JobView> {
    let url = gateway.url(&format!("/api/results/{job}"));
    Ok(reqwest::get(url).await?.error_for_status()?.json().await?)
}

fn ends(events: &[Event]) -> usize {
    events.iter().filter(|event| event.final_state().is_some()).count()
}

/// Reads until the first frame of a job.
async fn until_frame(client: &mut Client, job: &JobId) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    loop {
        let event = client.event(job).await?;
        ensure!(event.final_state().is_none(), "the job ended too soon");
        let is_frame = matches!(event.what, What::Frame(..));
        events.push(event);
        if is_frame {
            return Ok(events);
        }
    }
}

#[tokio::test]
async fn a_cluster_draws_what_one_program_draws_and_a_killed_worker_loses_nothing() -> Result<()> {
    let cluster = Cluster::start()?;
    let mut first = cluster.worker("first")?;
    let gateway = cluster.gateway()?;
    let plan = slow_plan(scales(&gateway).await?);
    let mut client = connect(&gateway).await?;
    let mut jobs = Vec::new();
    for seed in 0..3 {
        let wanted = GenerateRequest { count: 4, ..request(plan.clone(), seed) };
        jobs.push(client.generate(wanted).await?.job);
    }
    let mut before = until_frame(&mut client, &jobs[0]).await?;
    first.kill()?;
    let killed = Instant::now();
    let _second = cluster.worker("second")?;
    let began_anew = loop {
        let event = client.event(&jobs[0]).await?;
        let is_start = matches!(event.what, What::Control(JobEvent::Started { .. }));
        before.push(event);
        if is_start {
            break killed.elapsed();
        }
    };
    println!("drawn anew {:.1} s after the worker was killed", began_anew.as_secs_f64());

    let alone = Program::start(&[])?;
    let mut reference = Client::connect(&alone).await?;
    for (seed, job) in jobs.iter().enumerate() {
        let mut events = client.events(job).await?;
        if seed == 0 {
            before.append(&mut events);
            events = before.split_off(0);
        }
        ensure!(ends(&events) == 1, "{job} ended {} times", ends(&events));
        let finished = view(&gateway, job).await?;
        ensure!(finished.state == JobState::Finished, "{:?}", finished.error);
        ensure!(finished.pictures.len() == 4, "{} pictures", finished.pictures.len());
        let wanted = GenerateRequest { count: 4, ..request(plan.clone(), seed as u64) };
        let same = reference.generate(wanted).await?.job;
        let same = reference.events(&same).await?;
        for picture in 0..4 {
            ensure!(
                finished_picture(&events, picture)? == finished_picture(&same, picture)?,
                "picture {picture} of seed {seed} is another one"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_that_was_taken_for_dead_is_refused_when_it_comes_back() -> Result<()> {
    let cluster = Cluster::start()?;
    let zombie = cluster.worker("zombie")?;
    let gateway = cluster.gateway()?;
    let plan = slow_plan(scales(&gateway).await?);
    let mut client = connect(&gateway).await?;
    let wanted = GenerateRequest { count: 8, ..request(plan, 1) };
    let job = client.generate(wanted).await?.job;
    let mut seen = until_frame(&mut client, &job).await?;
    zombie.signal("STOP")?;
    let _second = cluster.worker("second")?;
    seen.extend(client.events(&job).await?);
    ensure!(
        ends(&seen) == 1 && seen.last().and_then(Event::final_state) == Some(JobState::Finished)
    );
    let kept = view(&gateway, &job).await?;

    zombie.signal("CONT")?;
    // Time enough for whatever it still wants to say.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let again = view(&gateway, &job).await?;
    ensure!(again == kept, "the result changed");
    let mut other = connect(&gateway).await?;
    other.watch(&job, None).await?;
    let replayed = other.events(&job).await?;
    ensure!(ends(&replayed) == 1);
    let after: Vec<_> =
        seen.iter().filter(|event| replayed.iter().any(|e| e.seq == event.seq)).collect();
    ensure!(
        after
            .iter()
            .all(|event| replayed.iter().any(|e| e.seq == event.seq && e.wire == event.wire))
    );
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_dies_leaves_its_viewers_to_another() -> Result<()> {
    let cluster = Cluster::start()?;
    let _worker = cluster.worker("one")?;
    let (mut first, second) = (cluster.gateway()?, cluster.gateway()?);
    let plan = slow_plan(scales(&first).await?);
    let mut client = connect(&first).await?;
    let wanted = GenerateRequest { count: 4, ..request(plan, 3) };
    let job = client.generate(wanted).await?.job;
    let mut events = until_frame(&mut client, &job).await?;
    first.process.kill()?;
    let mut client = connect(&second).await?;
    client.watch(&job, events.last().map(|event| event.seq)).await?;
    events.extend(client.events(&job).await?);

    client.watch(&job, None).await?;
    let whole = client.events(&job).await?;
    let numbers = |events: &[Event]| events.iter().map(|event| event.seq).collect::<Vec<_>>();
    ensure!(numbers(&events) == numbers(&whole), "{:?} {:?}", numbers(&events), numbers(&whole));
    for picture in 0..4 {
        ensure!(frames(&events, picture) == frames(&whole, picture));
    }
    Ok(())
}

#[tokio::test]
async fn what_brings_workers_down_is_not_tried_for_ever() -> Result<()> {
    let cluster = Cluster::start()?;
    let mut worker = cluster.worker("one")?;
    let gateway = cluster.gateway()?;
    let plan = slow_plan(scales(&gateway).await?);
    let mut client = connect(&gateway).await?;
    let wanted = GenerateRequest { count: 8, ..request(plan, 3) };
    let job = client.generate(wanted).await?.job;
    for name in ["two", "three", "four"] {
        loop {
            let event = client.event(&job).await?;
            ensure!(event.final_state().is_none(), "it ended too soon");
            if matches!(event.what, What::Control(JobEvent::Started { .. })) {
                break;
            }
        }
        worker.kill()?;
        worker = cluster.worker(name)?;
    }
    let events = client.events(&job).await?;
    match &events.last().map(|event| &event.what) {
        Some(What::Control(JobEvent::Failed { error })) => {
            ensure!(error.message.contains("3 workers went down"), "{error}");
        }
        other => bail!("{other:?}"),
    }
    ensure!(view(&gateway, &job).await?.state == JobState::Failed);
    Ok(())
}

#[tokio::test]
async fn parts_that_are_away_for_a_while_are_waited_for_and_told_of() -> Result<()> {
    let mut cluster = Cluster::start()?;
    let _worker = cluster.worker("one")?;
    let gateway = cluster.gateway()?;
    let plan = slow_plan(scales(&gateway).await?);
    let mut client = connect(&gateway).await?;
    let job = client.generate(GenerateRequest { count: 1, ..request(plan.clone(), 3) }).await?.job;
    until_frame(&mut client, &job).await?;
    // The object store: the end waits, and says so.
    cluster.store.signal("STOP")?;
    loop {
        let event = client.event(&job).await?;
        ensure!(event.final_state().is_none(), "it was told before it was kept");
        if matches!(event.what, What::Control(JobEvent::NotKept { .. })) {
            break;
        }
    }
    cluster.store.signal("CONT")?;
    let events = client.events(&job).await?;
    ensure!(events.last().and_then(Event::final_state) == Some(JobState::Finished));

    // The broker: no job is taken, with word when to come again.
    cluster.broker.kill()?;
    let began = Instant::now();
    let body = serde_json::to_value(request(plan, 4))?;
    loop {
        let answer =
            reqwest::Client::new().post(gateway.url("/api/jobs")).json(&body).send().await?;
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            ensure!(answer.headers().contains_key("retry-after"));
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "{}", answer.status());
    }
    let ready = reqwest::get(gateway.url("/readyz")).await?.status();
    ensure!(ready == StatusCode::SERVICE_UNAVAILABLE, "{ready}");
    Ok(())
}

#[tokio::test]
async fn check_cluster_says_what_is_there_and_what_is_not() -> Result<()> {
    let mut cluster = Cluster::start()?;
    let output = cluster.member("check-cluster")?.output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for part in ["results", "broker", "JOBS", "EVENTS", "FRAMES", "made", "clock", "none yet"] {
        ensure!(text.contains(part), "{part}: {text}");
    }
    let again = cluster.member("check-cluster")?.arg("--cluster-jobs=7").output()?;
    let text = String::from_utf8(again.stdout)?;
    ensure!(text.contains("brought up to date") && text.contains("at most 7 messages"), "{text}");
    cluster.broker.kill()?;
    let broken = cluster.member("check-cluster")?.output()?;
    let text = String::from_utf8(broken.stdout)?;
    ensure!(!broken.status.success() && text.contains("FAULT"), "{text}");
    ensure!(text.contains("is nats-server running there"), "{text}");
    Ok(())
}
