//! How a cluster grows: rate by workers, waiting against theory, many watchers; with a stand-in
//! whose every picture takes the same time.
//!
//! ```text
//! VAR_DD_NATS_SERVER=nats-server cargo run --release --example scale
//! ```

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use futures_util::future::join_all;
use tempfile::TempDir;
use var_dd::{
    cluster::{ClusterArgs, Gateway, GatewayConfig, Worker, WorkerConfig},
    generator::fake::{self, FakeGenerator, few_step},
    jobs::{Asking, Client, Jobs, Unwatched, ViewerEvent},
    scheduler::{Scheduler, SchedulerConfig},
    storage::Store,
};
use var_dd_protocol::{GenerateRequest, JobEvent, JobId, JobState};

/// What a picture takes.
const SERVICE: Duration = Duration::from_millis(50);
/// Pictures of a worker in the measurement of rates.
const PICTURES: usize = 200;
/// Arrivals in the measurement of waiting.
const ARRIVALS: usize = 600;
/// Share of the time in which the workers have something to do in it.
const LOAD: f64 = 0.7;
const WATCHERS: usize = 1000;
/// Jobs that come to idle workers.
const ALONE: u64 = 20;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ClusterArgs,
}

/// A broker that ends with the program.
struct Broker {
    child: Child,
    url: String,
    directory: TempDir,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Broker {
    fn start() -> Result<Self> {
        let program = std::env::var_os("VAR_DD_NATS_SERVER").unwrap_or("nats-server".into());
        let directory = TempDir::new()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (config, store) = (directory.path().join("nats.conf"), directory.path().join("js"));
        let listen = format!("listen: \"127.0.0.1:{port}\"");
        let text =
            format!("{listen}\njetstream {{ store_dir: {store:?}, sync_interval: always }}\n");
        std::fs::write(&config, text)?;
        let child = Command::new(&program)
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be run", program.display()))?;
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                bail!("nats-server does not listen");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { child, url: format!("nats://127.0.0.1:{port}"), directory })
    }

    fn args(&self) -> ClusterArgs {
        let results = self.directory.path().join("results");
        let line = [
            "scale".to_owned(),
            format!("--nats={}", self.url),
            format!("--results=file://{}", results.display()),
        ];
        Line::parse_from(line).args
    }
}

fn generator() -> FakeGenerator {
    FakeGenerator::new(fake::model("stand-in")).with_pass_time(SERVICE)
}

fn scheduler() -> SchedulerConfig {
    SchedulerConfig { max_batch: 1, ..SchedulerConfig::default() }
}

struct Cluster {
    workers: Vec<Worker>,
    gateway: Arc<dyn Jobs>,
    _broker: Broker,
}

impl Cluster {
    async fn start(workers: usize) -> Result<Self> {
        let broker = Broker::start()?;
        let args = broker.args();
        let mut started = Vec::new();
        for number in 0..workers {
            let config = WorkerConfig::new(format!("worker-{number}"), scheduler());
            let connection = args.connect("worker").await?;
            started.push(Worker::start(config, connection, vec![Box::new(generator())]).await?);
        }
        let config = GatewayConfig { jobs_per_client: usize::MAX, ..GatewayConfig::default() };
        let gateway = Gateway::start(config, args.connect("gateway").await?).await;
        Ok(Self { workers: started, gateway: Arc::new(gateway), _broker: broker })
    }

    async fn submit(&self, seed: u64) -> Result<JobId> {
        submit(&self.gateway, seed).await
    }

    async fn stop(self) {
        self.gateway.shutdown().await;
        for worker in &self.workers {
            worker.stop(Duration::from_secs(5)).await;
        }
    }
}

async fn submit(jobs: &Arc<dyn Jobs>, seed: u64) -> Result<JobId> {
    let request = GenerateRequest { seed: Some(seed), ..GenerateRequest::new(1, few_step(&[0])) };
    let asking = Asking { unwatched: Unwatched::Stays, client: Client::default(), key: None };
    let accepted = jobs.submit_as(request, asking).await;
    Ok(accepted.map_err(|error| anyhow::anyhow!("{error}"))?.job)
}

/// Milliseconds that a job waited, once it has finished; looks so often.
async fn waited_ms(jobs: Arc<dyn Jobs>, job: JobId, every: Duration) -> Result<f64> {
    loop {
        let view = jobs.view(&job).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        match (view.state, view.timings) {
            (JobState::Finished, Some(timings)) => return Ok(timings.queue_ms),
            (state, _) if state.is_final() => bail!("a job is {state:?}"),
            _ => tokio::time::sleep(every).await,
        }
    }
}

/// Pictures a second of so many jobs.
async fn rate(jobs: &Arc<dyn Jobs>, count: usize) -> Result<f64> {
    let began = Instant::now();
    let mut accepted = Vec::new();
    for seed in 0..count {
        accepted.push(submit(jobs, seed as u64).await?);
    }
    for job in &accepted {
        waited_ms(jobs.clone(), job.clone(), Duration::from_millis(20)).await?;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Pictures a second of the same stand-in in one program without a broker.
async fn rate_embedded() -> Result<f64> {
    let directory = TempDir::new()?;
    let store = Store::open(directory.path()).await?;
    let config = SchedulerConfig { queue_limit: PICTURES, ..scheduler() };
    let scheduler = Scheduler::start(config, store, vec![Box::new(generator())]).await?;
    let jobs: Arc<dyn Jobs> = Arc::new(scheduler);
    let rate = rate(&jobs, PICTURES).await?;
    jobs.shutdown().await;
    Ok(rate)
}

async fn rate_clustered(workers: usize) -> Result<f64> {
    let cluster = Cluster::start(workers).await?;
    let rate = rate(&cluster.gateway, PICTURES * workers).await?;
    cluster.stop().await;
    Ok(rate)
}

/// Mean milliseconds that a job waits which comes to idle workers.
async fn alone_ms(cluster: &Cluster) -> Result<f64> {
    let mut sum = 0.0;
    for seed in 0..ALONE {
        let job = cluster.submit(seed).await?;
        sum += waited_ms(cluster.gateway.clone(), job, Duration::from_millis(20)).await?;
        // Until its end is kept and the worker at rest.
        tokio::time::sleep(SERVICE).await;
    }
    Ok(sum / ALONE as f64)
}

/// Erlang's formula for the probability to wait in M/M/c, at a load of `offered` servers.
fn erlang_c(servers: usize, offered: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..servers {
        term *= offered / k as f64;
        sum += term;
    }
    let last = term * offered / servers as f64 / (1.0 - offered / servers as f64);
    last / (sum + last)
}

/// Mean milliseconds of waiting in M/D/c: half of that of M/M/c, with the correction of Cosmetatos
/// (1975).
fn theory_ms(servers: usize, load: f64) -> f64 {
    let service_ms = SERVICE.as_secs_f64() * 1000.0;
    let (c, offered) = (servers as f64, servers as f64 * load);
    let mmc = erlang_c(servers, offered) * service_ms / (c * (1.0 - load));
    let correction =
        1.0 + (1.0 - load) * (c - 1.0) * ((4.0 + 5.0 * c).sqrt() - 2.0) / (16.0 * load * c);
    0.5 * mmc * correction
}

/// Mean milliseconds that jobs wait: alone, under load, and in theory.
async fn waiting(workers: usize) -> Result<(f64, f64, f64)> {
    let cluster = Cluster::start(workers).await?;
    let alone_ms = alone_ms(&cluster).await?;
    let mean = SERVICE.as_secs_f64() / (LOAD * workers as f64);
    let mut state = 1_u64;
    let mut tasks = Vec::new();
    let began = Instant::now();
    let mut at = 0.0;
    for seed in 0..ARRIVALS {
        // Knuth's linear congruential generator; the gaps are exponential.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        at += -mean * uniform.ln();
        let pause = Duration::from_secs_f64(at).saturating_sub(began.elapsed());
        tokio::time::sleep(pause).await;
        let jobs = cluster.gateway.clone();
        tasks.push(tokio::spawn(async move {
            let job = submit(&jobs, seed as u64).await?;
            waited_ms(jobs, job, Duration::from_millis(500)).await
        }));
    }
    let mut waits = Vec::new();
    for task in tasks {
        waits.push(task.await??);
    }
    // The first ones come to an empty system.
    let settled = &waits[ARRIVALS / 10..];
    let mean_ms = settled.iter().sum::<f64>() / settled.len() as f64;
    cluster.stop().await;
    Ok((alone_ms, mean_ms, theory_ms(workers, LOAD)))
}

async fn watchers() -> Result<(f64, f64)> {
    let cluster = Cluster::start(1).await?;
    // Something before it, so that all are there when it begins.
    for seed in 0..100 {
        cluster.submit(seed).await?;
    }
    let job = cluster.submit(1000).await?;
    let mut viewers = Vec::new();
    for _ in 0..WATCHERS {
        let viewer = cluster.gateway.watch(&job, None).await;
        viewers.push(viewer.map_err(|error| anyhow::anyhow!("{error}"))?);
    }
    let ends = join_all(viewers.into_iter().map(|mut viewer| {
        tokio::spawn(async move {
            let mut events = 0;
            let mut finished = None;
            while let Some(event) = viewer.next().await {
                events += 1;
                if let ViewerEvent::Control { event: JobEvent::Finished { .. }, .. } = event {
                    finished = Some(Instant::now());
                }
            }
            (events, finished)
        })
    }))
    .await;
    let mut times = Vec::new();
    let mut counts = Vec::new();
    for end in ends {
        let (events, finished) = end?;
        times.push(finished.context("a watcher did not see the end")?);
        counts.push(events);
    }
    let (first, last) = (times.iter().min(), times.iter().max());
    let spread_ms = match (first, last) {
        (Some(first), Some(last)) => (*last - *first).as_secs_f64() * 1000.0,
        _ => 0.0,
    };
    let same = counts.iter().all(|count| *count == counts[0]);
    if !same {
        bail!("watchers saw different numbers of events");
    }
    cluster.stop().await;
    Ok((counts[0] as f64, spread_ms))
}

#[tokio::main]
async fn main() -> Result<()> {
    println!("a picture takes {} ms in the stand-in", SERVICE.as_millis());
    println!("one program without a broker: {:.1} pictures a second", rate_embedded().await?);
    let mut one = None;
    for workers in [1, 2, 4] {
        let rate = rate_clustered(workers).await?;
        let one = *one.get_or_insert(rate);
        let ideal = workers as f64 / SERVICE.as_secs_f64();
        println!(
            "{workers} workers: {rate:.1} pictures a second, {:.3} of {workers} times one worker's, \
             {:.3} of the ideal",
            rate / one / workers as f64,
            rate / ideal
        );
    }
    for workers in [1, 2, 4] {
        let (alone, measured, theory) = waiting(workers).await?;
        println!(
            "{workers} workers: a job waits {alone:.1} ms where all are idle, and at a load of \
             {LOAD} {measured:.1} ms in the mean; {theory:.1} ms by M/D/{workers}"
        );
    }
    let (events, spread_ms) = watchers().await?;
    println!(
        "{WATCHERS} watchers of one job at one gateway: {events} events each, the last hears of \
         the end {spread_ms:.1} ms after the first"
    );
    Ok(())
}
