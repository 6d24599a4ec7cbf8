//! Lets mixed clients, well-behaved and not, use one server for a long time, and looks whether
//! anything grows: `cargo xtask soak --minutes 60`.

use std::{
    env, fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use var_dd_protocol::{ClientMessage, GenerateRequest, Guidance, JobState, Plan};
use var_dd_tests::{
    client::{Client, request},
    program::Program,
};

/// Between two looks at the server.
const LOOK: Duration = Duration::from_secs(2);

/// Longer than any answer may take while everybody is at it.
const LIMIT: Duration = Duration::from_secs(180);

/// Resident memory that may come on top of the first fifth's, beside a tenth of that.
const MORE_MEMORY_MB: f64 = 48.0;

/// Descriptors that may come on top.
const MORE_DESCRIPTORS: f64 = 16.0;

#[tokio::main]
async fn main() -> Result<()> {
    let minutes: f64 = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => 60.0,
        [flag, minutes] if flag == "--minutes" => {
            minutes.parse().with_context(|| format!("--minutes {minutes} is not a number"))?
        }
        _ => bail!("usage: soak [--minutes MINUTES]"),
    };
    ensure!((0.1..=10_000.0).contains(&minutes), "--minutes {minutes}: from 0.1 to 10000");
    let mut program = Program::start(&[
        "--jobs-per-minute=0",
        "--requests-per-second=0",
        "--connections-per-client=1024",
        "--keep-results=50",
        "--queue-limit=64",
    ])?;
    let count = Arc::new(Count::default());
    let (stop, stopping) = watch::channel(false);
    let mut clients = JoinSet::new();
    let address = program.address().to_owned();
    for number in 0..3 {
        let work = Work { address: address.clone(), count: count.clone(), number };
        let of = || (stopping.clone(), work.clone());
        clients.spawn(repeat("one that watches", of(), watches));
        clients.spawn(repeat("one that posts and deletes", of(), posts_and_deletes));
        clients.spawn(repeat("one that cancels", of(), cancels));
        clients.spawn(repeat("one that goes away", of(), goes_away));
        clients.spawn(repeat("one that browses", of(), browses));
        clients.spawn(repeat("one that misbehaves", of(), misbehaves));
    }

    let began = Instant::now();
    let total = Duration::from_secs_f64(minutes * 60.0);
    let mut samples = Vec::new();
    while began.elapsed() < total {
        sleep(LOOK.min(total.saturating_sub(began.elapsed()))).await;
        samples.push(Sample::take(&program, began).await?);
    }
    stop.send_replace(true);
    let mut problems = Vec::new();
    while let Some(ended) = timeout(LIMIT, clients.join_next()).await.context("clients hang")? {
        if let Err(error) = ended? {
            problems.push(format!("{error:#}"));
        }
    }
    let rest = until_at_rest(&program, began).await?;
    report(&samples, &rest, &count);
    problems.extend(growth(&samples, &rest));
    let status = program.stop()?;
    if !status.success() {
        problems.push(format!("told to stop, the server ended with {status}"));
    }
    if problems.is_empty() {
        println!("flat: nothing grew in {minutes} minutes");
        return Ok(());
    }
    bail!("{}\nthe server said at last:\n{}", problems.join("\n"), tail(&program.log(), 30))
}

/// What was done.
#[derive(Debug, Default)]
struct Count {
    rounds: AtomicU64,
    finished: AtomicU64,
    refused: AtomicU64,
    faults: AtomicU64,
}

impl Count {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct Work {
    address: String,
    count: Arc<Count>,
    number: u64,
}

impl Work {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request that differs from round to round.
    fn wish(&self, round: u64) -> GenerateRequest {
        let plan = match round % 4 {
            0 => Plan::FewStep { t_list: vec![0, 3], loss_split_t: 3 },
            1 => Plan::Teacher { guidance: Guidance { cfg: 2.0, top_k: 100, top_p: 0.95 } },
            _ => Plan::FewStep { t_list: vec![0], loss_split_t: 3 },
        };
        let count = 1 + (round % 3) as u32;
        GenerateRequest { count, ..request(plan, self.number << 32 | round) }
    }
}

/// Does the same again and again until told to stop; ends at the first error.
async fn repeat<F: Future<Output = Result<()>>>(
    who: &'static str,
    (stopping, work): (watch::Receiver<bool>, Work),
    does: impl Fn(Work, u64) -> F,
) -> Result<()> {
    let mut round = 0;
    while !*stopping.borrow() {
        let done = timeout(LIMIT, does(work.clone(), round)).await;
        let done = done.unwrap_or_else(|_| bail!("hangs for {} s", LIMIT.as_secs()));
        done.with_context(|| format!("{who}, round {round}"))?;
        Count::add(&work.count.rounds);
        round += 1;
        sleep(Duration::from_millis(20 + 37 * (round % 7))).await;
    }
    Ok(())
}

/// Watches a job to its end.
async fn watches(work: Work, round: u64) -> Result<()> {
    let mut client = Client::connect_to(&work.address, None).await?;
    let wish = work.wish(round);
    let Ok(accepted) = client.generate(wish.clone()).await else {
        Count::add(&work.count.refused);
        return Ok(());
    };
    let events = client.events(&accepted.job).await?;
    let state = events.last().and_then(|event| event.final_state());
    ensure!(state == Some(JobState::Finished), "a watched job ended as {state:?}");
    for picture in 0..wish.count {
        var_dd_tests::client::finished_picture(&events, picture)?;
    }
    Count::add(&work.count.finished);
    Ok(())
}

/// Posts, twice under one key, asks until it is done, fetches and deletes.
async fn posts_and_deletes(work: Work, round: u64) -> Result<()> {
    let http = reqwest::Client::new();
    let key = format!("soak-{}-{round}", work.number);
    let post = || {
        http.post(work.url("/api/jobs"))
            .header("Idempotency-Key", &key)
            .json(&work.wish(round))
            .send()
    };
    let (first, second) = tokio::try_join!(post(), post())?;
    if first.status() != StatusCode::ACCEPTED || second.status() != StatusCode::ACCEPTED {
        for response in [first, second] {
            ensure!(!response.status().is_server_error(), "POST gave {}", response.status());
        }
        Count::add(&work.count.refused);
        return Ok(());
    }
    let (first, second): (Value, Value) = tokio::try_join!(first.json(), second.json())?;
    ensure!(first == second, "one key gave {first} and {second}");
    let path = format!("/api/results/{}", first["job"].as_str().unwrap_or_default());
    loop {
        let view: Value =
            http.get(work.url(&path)).send().await?.error_for_status()?.json().await?;
        match view["state"].as_str() {
            Some("finished") => break,
            Some("queued" | "running") => sleep(Duration::from_millis(100)).await,
            other => bail!("a posted job is {other:?}"),
        }
    }
    let picture = http.get(work.url(&format!("{path}/pictures/0.png"))).send().await?;
    ensure!(picture.status() == StatusCode::OK, "a picture gave {}", picture.status());
    picture.bytes().await?;
    if round.is_multiple_of(2) {
        let token = first["owner_token"].as_str().unwrap_or_default();
        let gone = http.delete(work.url(&path)).bearer_auth(token).send().await?;
        ensure!(gone.status() == StatusCode::NO_CONTENT, "DELETE gave {}", gone.status());
    }
    Count::add(&work.count.finished);
    Ok(())
}

/// Cancels a job at some moment, or gives it a deadline that passes.
async fn cancels(work: Work, round: u64) -> Result<()> {
    let mut client = Client::connect_to(&work.address, None).await?;
    let deadline_ms = round.is_multiple_of(3).then_some(1 + round % 400);
    let wish = GenerateRequest { deadline_ms, ..work.wish(round) };
    let Ok(accepted) = client.generate(wish).await else {
        Count::add(&work.count.refused);
        return Ok(());
    };
    sleep(Duration::from_millis(round % 300)).await;
    if deadline_ms.is_none() {
        let job = accepted.job.clone();
        let owner_token = accepted.owner_token;
        client.send(&ClientMessage::Cancel { job, owner_token }).await?;
    }
    // The answer may be that it has just ended; the end comes in any case.
    loop {
        match client.event(&accepted.job).await {
            Ok(event) if event.final_state().is_some() => break,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Count::add(&work.count.faults);
    Ok(())
}

/// Asks for a job and breaks the connection off.
async fn goes_away(work: Work, round: u64) -> Result<()> {
    let mut client = Client::connect_to(&work.address, None).await?;
    let _ = client.generate(work.wish(round)).await;
    sleep(Duration::from_millis(round % 200)).await;
    Count::add(&work.count.faults);
    Ok(())
}

/// Looks at pages and lists.
async fn browses(work: Work, round: u64) -> Result<()> {
    for path in ["/", "/api/info", "/api/results?limit=20", "/metrics", "/readyz", "/nothing.js"] {
        let response = reqwest::get(work.url(path)).await?;
        ensure!(!response.status().is_server_error(), "{path} gave {}", response.status());
        response.bytes().await?;
    }
    // A debug build may be without a page.
    let _ = round;
    Ok(())
}

/// Does what a broken or hostile client does.
async fn misbehaves(work: Work, round: u64) -> Result<()> {
    let handshake = format!(
        "GET /api/ws HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        work.address
    );
    let post = format!(
        "POST /api/jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\n{{\r\n",
        work.address
    );
    let mut bytes = match round % 7 {
        0 => b"GET /livez HTTP/1.1\r\nHost: loc".to_vec(),
        1 => post.into_bytes(),
        2 => [handshake.as_bytes(), &[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0]].concat(),
        3 => [handshake.as_bytes(), &[0xf1, 0x80, 0, 0, 0, 0]].concat(),
        4 => vec![0; 4096],
        5 => handshake.into_bytes(),
        _ => Vec::new(),
    };
    if round % 7 == 2 {
        bytes.extend(vec![0x55; 1 << 20]);
    }
    let mut socket = TcpStream::connect(&work.address).await?;
    // The server may hang up at any moment.
    let _ = socket.write_all(&bytes).await;
    if round.is_multiple_of(5) {
        // Waits until it is given up.
        let mut sink = Vec::new();
        let _ = timeout(Duration::from_secs(60), socket.read_to_end(&mut sink))
            .await
            .context("a connection that stands still was not closed within a minute")?;
    }
    Count::add(&work.count.faults);
    Ok(())
}

/// The server at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at_s: f64,
    memory_mb: f64,
    descriptors: f64,
    threads: f64,
    queued: f64,
    running: f64,
    viewers: f64,
    connections: f64,
    accepted: f64,
    ended: f64,
}

impl Sample {
    async fn take(program: &Program, began: Instant) -> Result<Self> {
        let process = format!("/proc/{}", program.id());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
                .with_context(|| format!("{process}/status has no {name}"))
        };
        let metrics =
            reqwest::get(program.url("/metrics")).await?.error_for_status()?.text().await?;
        let sum = |name: &str| -> f64 {
            let of_name = |line: &&str| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
            };
            let values = metrics.lines().filter(of_name);
            values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Ok(Self {
            at_s: began.elapsed().as_secs_f64(),
            memory_mb: field("VmRSS:")? / 1024.0,
            descriptors: fs::read_dir(format!("{process}/fd"))?.count() as f64,
            threads: field("Threads:")?,
            queued: sum("var_dd_jobs_queued"),
            running: sum("var_dd_jobs_running"),
            viewers: sum("var_dd_viewers"),
            connections: sum("var_dd_connections"),
            accepted: sum("var_dd_jobs_accepted_total"),
            ended: sum("var_dd_jobs_ended_total"),
        })
    }

    fn print(&self, name: &str) {
        println!(
            "{name:>10} {:>8.0} {:>9.0} {:>7.0} {:>7.0} {:>7.0} {:>7.0} {:>7.0} {:>9.0} {:>9.0}",
            self.memory_mb,
            self.descriptors,
            self.threads,
            self.queued,
            self.running,
            self.viewers,
            self.connections,
            self.accepted,
            self.ended
        );
    }
}

/// Waits until no job is left and every connection that stood still is closed.
async fn until_at_rest(program: &Program, began: Instant) -> Result<Sample> {
    let start = Instant::now();
    loop {
        sleep(Duration::from_secs(1)).await;
        let sample = Sample::take(program, began).await?;
        let at_rest = sample.queued + sample.running == 0.0 && sample.connections <= 2.0;
        if at_rest || start.elapsed() > LIMIT {
            return Ok(sample);
        }
    }
}

fn report(samples: &[Sample], rest: &Sample, count: &Count) {
    println!(
        "{:>10} {:>8} {:>9} {:>7} {:>7} {:>7} {:>7} {:>7} {:>9} {:>9}",
        "second",
        "RSS MB",
        "files",
        "threads",
        "queued",
        "running",
        "viewers",
        "conns",
        "accepted",
        "ended"
    );
    let step = samples.len().div_ceil(12).max(1);
    for sample in samples.iter().step_by(step) {
        sample.print(&format!("{:.0}", sample.at_s));
    }
    rest.print("at rest");
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let summary = json!({
        "rounds": of(&count.rounds),
        "finished": of(&count.finished),
        "refused": of(&count.refused),
        "faults": of(&count.faults),
    });
    println!("{summary}");
}

/// What grew from the second fifth of the time to the last one, or did not come to rest.
fn growth(samples: &[Sample], rest: &Sample) -> Vec<String> {
    let fifth = samples.len() / 5;
    let mut problems = Vec::new();
    if fifth > 0 {
        let median = |part: &[Sample], of: fn(&Sample) -> f64| {
            let mut values: Vec<_> = part.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let early = &samples[fifth..2 * fifth];
        let late = &samples[samples.len() - fifth..];
        for (what, of, more, times) in [
            ("memory in MB", (|s| s.memory_mb) as fn(&Sample) -> f64, MORE_MEMORY_MB, 1.1),
            ("descriptors", |s| s.descriptors, MORE_DESCRIPTORS, 1.1),
            ("threads", |s| s.threads, 4.0, 1.0),
            ("connections", |s| s.connections, MORE_DESCRIPTORS, 1.1),
        ] {
            let (before, after) = (median(early, of), median(late, of));
            if after > before * times + more {
                problems.push(format!("{what} grew from {before:.0} to {after:.0}"));
            }
        }
    }
    if rest.queued + rest.running + rest.viewers > 0.0 || rest.connections > 2.0 {
        problems.push(format!("it does not come to rest: {rest:?}"));
    }
    if rest.accepted != rest.ended {
        problems.push(format!("{} jobs were accepted and {} ended", rest.accepted, rest.ended));
    }
    problems
}

fn tail(log: &str, lines: usize) -> String {
    let all: Vec<_> = log.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
