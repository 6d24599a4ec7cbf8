//! A server whose surroundings fail.

use std::{
    fs,
    io::Read,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use var_dd_protocol::JobState;
use var_dd_tests::{
    ports::free_port,
    program::{PATIENCE, Program, demo_model, var_dd},
};

fn wish(seed: u64) -> Value {
    json!({"class": 1, "seed": seed, "plan": {"kind": "few_step", "t_list": [0], "loss_split_t": 3}})
}

/// Posts a job and waits for its end.
async fn draw(address: &str, seed: u64) -> Result<JobState> {
    let http = reqwest::Client::new();
    let posted = http.post(format!("http://{address}/api/jobs")).json(&wish(seed)).send().await?;
    let posted: Value = posted.error_for_status()?.json().await?;
    let url = format!("http://{address}/api/results/{}", posted["job"].as_str().unwrap_or(""));
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let view: Value = http.get(&url).send().await?.error_for_status()?.json().await?;
        let state: JobState = serde_json::from_value(view["state"].clone())?;
        if state.is_final() {
            return Ok(state);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the job does not end")
}

/// Waits until the server at an address answers.
async fn until_alive(address: &str) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if reqwest::get(format!("http://{address}/livez")).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the server does not answer")
}

/// An address that is free now.
fn free_address() -> Result<String> {
    Ok(format!("127.0.0.1:{}", free_port()?))
}

/// A server whose log goes wherever `command` was told.
async fn serves_whatever_becomes_of_its_log(mut command: Command) -> Result<()> {
    let data = TempDir::new()?;
    let address = free_address()?;
    command.args(["serve", "--listen", &address, "--model"]).arg(demo_model());
    command.arg("--data-dir").arg(data.path()).env("RUST_LOG", "debug");
    let mut child = command.spawn()?;
    // The reader, if there was one, is gone by now.
    drop((child.stdout.take(), child.stderr.take()));
    let outcome = async {
        until_alive(&address).await?;
        for seed in 0..3 {
            ensure!(draw(&address, seed).await? == JobState::Finished);
        }
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "the server ended with {status}");
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("the server does not stop")
    };
    let outcome = outcome.await;
    let _ = child.kill();
    let _ = child.wait();
    outcome
}

#[tokio::test]
async fn a_log_that_nobody_reads_costs_nobody_an_answer() -> Result<()> {
    let mut command = var_dd()?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    serves_whatever_becomes_of_its_log(command).await
}

#[tokio::test]
async fn a_log_on_a_full_disk_costs_nobody_an_answer() -> Result<()> {
    let full = || fs::File::options().write(true).open("/dev/full");
    let mut command = var_dd()?;
    command.stdout(full()?).stderr(full()?);
    serves_whatever_becomes_of_its_log(command).await
}

#[tokio::test]
async fn a_log_whose_reader_stands_still_holds_nobody_up() -> Result<()> {
    let (mut reader, writer) = std::io::pipe()?;
    let mut command = var_dd()?;
    // Held open, and read by nobody.
    command.stdout(Stdio::null()).stderr(writer);
    serves_whatever_becomes_of_its_log(command).await?;
    let mut log = String::new();
    reader.read_to_string(&mut log)?;
    ensure!(log.contains("loaded"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_limit_of_file_sizes_does_not_end_the_server() -> Result<()> {
    let data = TempDir::new()?;
    let address = free_address()?;
    let program = var_dd()?;
    // In blocks of 512 or 1024 bytes: enough for the database to begin, and not for long.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 1600; exec \"$@\"", "sh"]).arg(program.get_program());
    command.args(["serve", "--listen", &address, "--model"]).arg(demo_model());
    command.arg("--data-dir").arg(data.path());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().context("sh cannot be started")?;
    let outcome = async {
        until_alive(&address).await?;
        let http = reqwest::Client::new();
        for seed in 0..40 {
            let mut big = wish(seed);
            big["count"] = json!(8);
            let url = format!("http://{address}/api/jobs");
            let status = http.post(url).json(&big).send().await?.status();
            ensure!(
                status.is_success()
                    || matches!(
                        status,
                        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
                    ),
                "{status}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ensure!(child.try_wait()?.is_none(), "the server has ended");
        until_alive(&address).await
    };
    let outcome = outcome.await;
    let _ = child.kill();
    let _ = child.wait();
    outcome
}

#[tokio::test]
async fn told_to_stop_the_server_ends_what_runs_and_is_not_ready_meanwhile() -> Result<()> {
    let mut program = Program::start(&[])?;
    let scales = program.info().await?.models[0].scales();
    // A connection kept from before the restart would be a dead one after it.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
    let slow = json!({"class": 1, "seed": 5, "count": 8, "plan": crate::slow_plan(scales)});
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let posted = http.post(program.url("/api/jobs")).json(&slow).send().await?;
        let posted: Value = posted.error_for_status()?.json().await?;
        jobs.push(posted["job"].as_str().unwrap_or("").to_owned());
    }
    let state = async |program: &Program, job: &str| -> Result<String> {
        let url = program.url(&format!("/api/results/{job}"));
        let view: Value = http.get(url).send().await?.error_for_status()?.json().await?;
        Ok(view["state"].as_str().unwrap_or("").to_owned())
    };
    while state(&program, &jobs[0]).await? == "queued" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    program.terminate()?;
    // Either it says so or it has ended already.
    while let Ok(ready) = http.get(program.url("/readyz")).send().await {
        if ready.status() == StatusCode::SERVICE_UNAVAILABLE {
            break;
        }
    }
    ensure!(program.wait()?.success());
    program.restart()?;
    ensure!(state(&program, &jobs[0]).await? == "finished", "what ran was not ended");
    let start = Instant::now();
    while state(&program, &jobs[1]).await? != "finished" {
        ensure!(start.elapsed() < PATIENCE, "what waited was lost");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
