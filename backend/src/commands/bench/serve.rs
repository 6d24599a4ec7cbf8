//! `var-dd bench serve`: what of the engine's speed is left at the other end of a WebSocket.

use std::{
    env, fs, hint,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, value_parser};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use var_dd_protocol::{GenerateRequest, JobView, PlanPreset, ServerInfo};

use super::{
    load::{Arrivals, Load, Outcome},
    report::{self, Report, Row, quantile},
};
use crate::{
    commands::{model::ModelArgs, picture_file::write_whole},
    output,
    usage_error::UsageError,
};

/// Share of the offline rate at which jobs come where no --rate is given.
const CALM: f64 = 0.5;

/// Flags of `var-dd bench serve`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
First `var-dd bench` measures the engine alone (offline), then the same program serves and \
clients ask it for pictures over WebSockets. Each row is one load: pictures per second and their \
share of the offline rate at the same batch; milliseconds from the request to the first and last \
frame, and the median's ratio to offline; and how late frames arrive, from the time they are encoded. With --busy, ratios to the same load without busy loops follow.\n\n\
Examples:\n  \
var-dd bench serve --json served.json\n  \
var-dd bench serve --clients 1 --busy 0,1,2,3 --rate 5\n  \
var-dd bench serve --model models/d16 --plan \"1 step\" --clients 1,64 --max-batch 64")]
pub(super) struct ServeBenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// A plan of the model by its name [default: the first one].
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    /// Clients that each ask for a picture when their last one is there; a row for each number.
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', default_value = "1,8",
          value_parser = value_parser!(u32).range(1..=256))]
    clients: Vec<u32>,
    /// Pictures asked for per second, whether or not earlier ones are there; a row for each number
    /// [default: half of the offline rate].
    #[arg(long, value_name = "PER-SECOND,…", value_delimiter = ',', value_parser = rate,
          allow_negative_numbers = true)]
    rate: Vec<f64>,
    /// Busy loops that run beside all this, each of which would take a core; all rows for each
    /// number.
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', default_value = "0",
          value_parser = value_parser!(u32).range(..=256))]
    busy: Vec<u32>,
    /// Pictures of each row.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 50,
        value_parser = value_parser!(u32).range(1..=100_000),
    )]
    jobs: u32,
    /// Pictures before each row that are not counted.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 5,
        value_parser = value_parser!(u32).range(..=1_000),
    )]
    warm_up: u32,
    /// Most pictures that the server draws together.
    #[arg(
        long,
        value_name = "PICTURES",
        default_value_t = 8,
        value_parser = value_parser!(u32).range(1..=1024),
    )]
    max_batch: u32,
    /// Measure another build of this program in place of this one, as before a change.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=100_000.0).contains(rate));
    rate.ok_or_else(|| "it must be a number from 0.001 to 100000".into())
}

/// Figures of all loads.
#[derive(Debug, Serialize, Deserialize)]
struct ServedReport {
    version: String,
    processor: Option<String>,
    cores: usize,
    model: String,
    device: String,
    dtype: String,
    plan: String,
    max_batch: u32,
    /// The engine alone, one row a batch size.
    offline: Vec<Row>,
    rows: Vec<ServedRow>,
}

/// The value below which a half, 95 and 99 of a hundred lie, and the largest.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Spread {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

impl Spread {
    fn of(values: Vec<f64>) -> Self {
        let at = |share| quantile(values.clone(), share);
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}

/// Figures of one load.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ServedRow {
    load: String,
    busy: u32,
    jobs: usize,
    pictures_per_s: f64,
    /// Served over offline; none where the load was below what the server can do.
    rate_ratio: Option<f64>,
    first_frame_ms: Spread,
    last_frame_ms: Spread,
    /// Medians, served over offline. Several clients wait for each other.
    first_ratio: f64,
    last_ratio: f64,
    /// From when a frame was encoded until it was here.
    late_ms: Spread,
    /// The last frame over that of the same load without busy loops: medians, and the slowest
    /// over the median.
    beside_idle: Option<[f64; 2]>,
}

const HEADING: &str = "load         busy   jobs  pictures/s  of offline  \
     first p50    p95    p99  of offline  last p50    p95    p99    max  of offline  \
     late p50    p95    p99    max";

impl ServedRow {
    fn line(&self) -> String {
        let (first, last, late) = (self.first_frame_ms, self.last_frame_ms, self.late_ms);
        let share = self.rate_ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
        let beside = self.beside_idle.map_or_else(String::new, |[median, slowest]| {
            format!("  {median:.2} times alone, slowest {slowest:.2}")
        });
        format!(
            "{:<12} {:>4}  {:>5}  {:>10.2}  {share:>10}  {:>9.1}  {:>5.1}  {:>5.1}  {:>10.2}  \
             {:>8.1}  {:>5.1}  {:>5.1}  {:>5.1}  {:>10.2}  {:>8.1}  {:>5.1}  {:>5.1}  \
             {:>5.1}{beside}",
            self.load,
            self.busy,
            self.jobs,
            self.pictures_per_s,
            first.p50,
            first.p95,
            first.p99,
            self.first_ratio,
            last.p50,
            last.p95,
            last.p99,
            last.max,
            self.last_ratio,
            late.p50,
            late.p95,
            late.p99,
            late.max,
        )
    }
}

/// Measures and prints.
///
/// # Errors
/// When the server does not start, a job is not drawn, or a file cannot be written.
pub(super) fn run(args: &ServeBenchArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("the system gives no threads for the clients")?;
    let offline = offline(args)?;
    let server = Server::start(args)?;
    let info: ServerInfo = server.get("/api/info")?;
    let model = info.models.first().context("the server offers no model")?;
    let plan = args.plan_of(&model.plans)?;
    let request = GenerateRequest {
        model: Some(model.name.clone()),
        class: 0,
        plan: plan.plan.clone(),
        seed: None,
        count: 1,
        last_frame_first: false,
        deadline_ms: None,
        explore: None,
    };
    let load = Load::new(server.address.clone(), request);
    let mut report = ServedReport {
        version: info.version.clone(),
        processor: report::processor(),
        cores: thread::available_parallelism().map_or(1, usize::from),
        model: model.name.clone(),
        device: model.device.clone(),
        dtype: model.dtype.clone(),
        plan: plan.name.clone(),
        max_batch: args.max_batch,
        offline: offline.rows,
        rows: Vec::new(),
    };
    let is_kept = args.json.is_some();
    let heading = format_args!(
        "{} on {} in {}, {:?}, served at {} on {} cores{}",
        report.model,
        report.device,
        report.dtype,
        report.plan,
        server.address,
        report.cores,
        report.processor.as_ref().map(|name| format!(" of {name}")).unwrap_or_default()
    );
    output::report(is_kept, heading)?;
    for row in &report.offline {
        let line = format_args!(
            "offline, batch {}: {:.2} pictures per second, first frame {:.1} ms, last {:.1} ms",
            row.batch, row.pictures_per_s, row.first_frame_ms, row.last_frame_ms
        );
        output::report(is_kept, line)?;
    }
    output::report(is_kept, format_args!("{HEADING}"))?;
    let alone = report.offline.first().map_or(1.0, |row| row.pictures_per_s);
    let rates = if args.rate.is_empty() { vec![alone * CALM] } else { args.rate.clone() };
    let closed = args.clients.iter().map(|&clients| Arrivals::Closed(clients));
    let arrivals: Vec<_> = closed.chain(rates.into_iter().map(Arrivals::Open)).collect();
    let mut seed = 1;
    for &busy in &args.busy {
        let _loops = BusyLoops::start(busy);
        for &arrivals in &arrivals {
            let outcomes = runtime.block_on(async {
                load.run(arrivals, args.warm_up, seed).await?;
                seed += u64::from(args.warm_up);
                load.run(arrivals, args.jobs, seed).await
            })?;
            seed += u64::from(args.jobs);
            let row = args.row(&report, &server, arrivals, busy, &outcomes)?;
            output::report(is_kept, format_args!("{}", row.line()))?;
            report.rows.push(row);
        }
    }
    if let Some(path) = &args.json {
        write_whole(path, serde_json::to_string_pretty(&report)?.as_bytes())?;
    }
    Ok(())
}

impl ServeBenchArgs {
    fn plan_of<'a>(&self, plans: &'a [PlanPreset]) -> anyhow::Result<&'a PlanPreset> {
        let Some(name) = &self.plan else {
            return plans.first().context("the model has no plans");
        };
        plans.iter().find(|plan| plan.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names: Vec<_> = plans.iter().map(|plan| format!("{:?}", plan.name)).collect();
            UsageError(format!("there is no plan {name:?}; there are {}", names.join(", "))).into()
        })
    }

    /// Batches that the loads can fill, the single picture first.
    fn batches(&self) -> Vec<u32> {
        let most = |&clients: &u32| clients.min(self.max_batch);
        let mut batches: Vec<u32> = self.clients.iter().map(most).chain([1]).collect();
        batches.sort_unstable();
        batches.dedup();
        batches
    }

    fn row(
        &self,
        report: &ServedReport,
        server: &Server,
        arrivals: Arrivals,
        busy: u32,
        outcomes: &[Outcome],
    ) -> anyhow::Result<ServedRow> {
        let (load, batch) = match arrivals {
            Arrivals::Closed(1) => ("1 client".into(), 1),
            Arrivals::Closed(n) => (format!("{n} clients"), n.min(self.max_batch)),
            Arrivals::Open(rate) => (format!("{rate:.1} a second"), 1),
        };
        let offline = report.offline.iter().find(|row| row.batch == batch);
        let offline = offline.context("the offline run has no such batch")?;
        let begun = outcomes.iter().map(|outcome| outcome.wanted).min();
        let ended = outcomes.iter().map(|outcome| outcome.ended).max();
        let took = ended.zip(begun).map(|(ended, begun)| (ended - begun).as_secs_f64());
        let pictures_per_s = outcomes.len() as f64 / took.unwrap_or(f64::INFINITY);
        let mut late = Vec::new();
        for outcome in outcomes {
            let view: JobView = server.get(&format!("/api/results/{}", outcome.job))?;
            late.extend(
                outcome.frames.iter().map(|(at, here)| here - (view.created_ms as f64 + at)),
            );
        }
        let first_frame_ms = Spread::of(outcomes.iter().map(|job| job.first_ms).collect());
        let last_frame_ms = Spread::of(outcomes.iter().map(|job| job.last_ms).collect());
        let idle = report.rows.iter().find(|row| row.busy == 0 && row.load == load);
        Ok(ServedRow {
            rate_ratio: matches!(arrivals, Arrivals::Closed(_))
                .then_some(pictures_per_s / offline.pictures_per_s),
            first_ratio: first_frame_ms.p50 / offline.first_frame_ms,
            last_ratio: last_frame_ms.p50 / offline.last_frame_ms,
            beside_idle: idle.filter(|_| busy > 0).map(|idle| {
                let alone = idle.last_frame_ms.p50;
                [last_frame_ms.p50 / alone, last_frame_ms.max / alone]
            }),
            load,
            busy,
            jobs: outcomes.len(),
            pictures_per_s,
            first_frame_ms,
            last_frame_ms,
            late_ms: Spread::of(late),
        })
    }

    /// This program, with the flags that say what draws and where.
    fn program(&self, command: &str) -> anyhow::Result<Command> {
        let own = || env::current_exe().context("this program does not know where it lies");
        let mut program = Command::new(self.program.clone().map_or_else(own, Ok)?);
        program.arg(command).arg("--model").arg(self.model.directory());
        let network = &self.model.network;
        program.args(["--device", &network.device.device.to_string()]);
        program.args(["--dtype", &network.dtype().to_string()]);
        if env::var_os("RUST_LOG").is_none() {
            program.env("RUST_LOG", "warn");
        }
        Ok(program)
    }
}

/// The engine alone, in a program of its own.
fn offline(args: &ServeBenchArgs) -> anyhow::Result<Report> {
    let directory = TempDir::new().context("there is no room for a temporary file")?;
    let json = directory.path().join("offline.json");
    let mut program = args.program("bench")?;
    let plan = match &args.plan {
        Some(name) => name.clone(),
        None => {
            let path = args.model.directory();
            let bundle = var_dd_engine::bundle::Bundle::open(&path)?;
            let first = bundle.config.plans.first();
            first
                .context("the model has no plans; give one a name in its config.json")?
                .name
                .clone()
        }
    };
    let batches: Vec<_> = args.batches().iter().map(u32::to_string).collect();
    program.args(["--plan", &plan, "--bs", &batches.join(","), "--frames", "all", "--json"]);
    let status = program.arg(&json).stdout(Stdio::null()).status()?;
    if !status.success() {
        // What was wrong it has said itself.
        bail!("the engine cannot be measured alone");
    }
    Ok(serde_json::from_slice(&fs::read(&json)?)?)
}

/// A server of this program with a data directory of its own; gone when dropped.
struct Server {
    child: Child,
    address: String,
    _data: TempDir,
}

impl Server {
    fn start(args: &ServeBenchArgs) -> anyhow::Result<Self> {
        let data = TempDir::new().context("there is no room for a temporary directory")?;
        let mut program = args.program("serve")?;
        program.args(["--listen", "127.0.0.1:0", "--max-batch", &args.max_batch.to_string()]);
        // The load is one client's, and more than any person's.
        program.args(["--jobs-per-minute", "0", "--requests-per-second", "0"]);
        program.args(["--connections-per-client", "2048", "--queue-limit", "100000"]);
        program.args(["--keep-results", "0"]).arg("--data-dir").arg(data.path());
        let mut child = program.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("the server has no standard output")?;
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            let (_, rest) = line.split_once("http://")?;
            rest.split_once('/').map(|(address, _)| address.to_owned())
        });
        let Some(address) = address else {
            let status = child.wait()?;
            bail!("the server did not start ({status})");
        };
        // Read to the end: a full pipe would stop the server.
        thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, address, _data: data })
    }

    fn get<T: for<'a> Deserialize<'a>>(&self, path: &str) -> anyhow::Result<T> {
        let mut answer = ureq::get(format!("http://{}{path}", self.address)).call()?;
        Ok(serde_json::from_str(&answer.body_mut().read_to_string()?)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; its data is for nobody.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Threads that do nothing as fast as they can, until dropped.
struct BusyLoops {
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl BusyLoops {
    fn start(count: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..count).map(|_| {
            let over = over.clone();
            thread::spawn(move || {
                let mut turns = 0u64;
                while !over.load(Ordering::Relaxed) {
                    for _ in 0..1000 {
                        turns = hint::black_box(turns.wrapping_add(1));
                    }
                }
            })
        });
        let loops = Self { threads: threads.collect(), over };
        // The scheduler of the system needs a moment to see them.
        if count > 0 {
            thread::sleep(Duration::from_millis(300));
        }
        loops
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A loop cannot panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ServeBenchArgs,
    }

    #[test]
    fn the_engine_is_measured_at_the_batches_that_the_clients_can_fill() {
        let batches =
            |flags: &[&str]| Line::parse_from([&["serve"], flags].concat()).args.batches();
        assert_eq!(batches(&[]), [1, 8]);
        assert_eq!(batches(&["--clients=3,64,16", "--max-batch=16"]), [1, 3, 16]);
    }

    #[test]
    fn a_spread_is_that_of_the_sorted_values() {
        let spread = Spread::of((0..=100).rev().map(f64::from).collect());
        assert_eq!((spread.p50, spread.p95, spread.p99, spread.max), (50.0, 95.0, 99.0, 100.0));
    }

    #[test]
    fn a_rate_that_cannot_be_is_refused_with_its_bounds() {
        for bad in ["0", "-1", "nan", "x", "1e9"] {
            let error = Line::try_parse_from(["serve", "--rate", bad]).unwrap_err().to_string();
            assert!(error.contains("0.001 to 100000") || error.contains("--rate"), "{error}");
        }
    }
}
