//! `var-dd bench`: how fast a model draws here, and how close that is to what the machine can do.

mod accuracy;
mod load;
mod report;
mod serve;

use std::{
    io::IsTerminal,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand, ValueEnum, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use tch::Kind;
use var_dd_engine::{
    bundle::{Bundle, BundleError, formula_sampler},
    config::Config,
    config::published,
    device::{device_name, kind_name, matrix_rate},
    ops::Ops,
    sample::{self, Sampler, cost, plan::Plan},
    tensor_file,
};

use self::report::{HEADING, Report, Row};
use super::{
    model::{ModelArgs, PlanArgs, check_teacher},
    picture_file::write_whole,
};
use crate::{
    generator::{BatchRequest, Generator, GeneratorEvent, PictureRequest, engine::Engine},
    output,
    scheduler::encoded_bytes,
    usage_error::UsageError,
};

/// Side of the matrices that the machine's rate is measured with, on a CPU and on a GPU, which
/// small ones do not fill.
const MATRIX_SIDES: [i64; 2] = [2048, 8192];

/// How long the rate is measured.
const RATE_TIME: Duration = Duration::from_secs(2);

/// Flags of `var-dd bench`.
#[derive(Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Each row is one plan at one batch size: milliseconds from the call to the first and the last \
frame, where they went, pictures per second, memory, and the share of the rate at which this \
machine multiplies matrices of that number type.\n\n\
Examples:\n  \
var-dd bench --model models/d16 --bs 1,4\n  \
var-dd bench --invented d16 --plan \"1 step\" --frames last --dtype bf16\n  \
var-dd bench --accuracy 64 --dtype bf16\n  \
var-dd bench --plan \"1 step\" --frames last --json before.json\n  \
var-dd bench --plan \"1 step\" --frames last --compare-to before.json"
)]
pub struct BenchArgs {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    model: ModelArgs,
    /// A published model with invented weights in place of --model: `d16`, `d20` or `d24`. Its
    /// times are those of the true weights.
    #[arg(long, value_name = "NAME", conflicts_with = "model", value_parser = depth)]
    invented: Option<i64>,
    /// A plan of the model by its name; may be repeated [default: all plans].
    #[arg(long, value_name = "NAME", conflicts_with_all = ["t_list", "autoregressive"])]
    plan: Vec<String>,
    #[command(flatten)]
    flags: PlanArgs,
    /// Pictures drawn together.
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', default_value = "1",
          value_parser = value_parser!(u32).range(1..=4096))]
    bs: Vec<u32>,
    /// Frames that are decoded and encoded.
    #[arg(long, value_enum, default_value_t = Frames::All)]
    frames: Frames,
    /// Instead of times: draw this many pictures in these numbers and in f32, and tell how far they
    /// differ.
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..=10_000))]
    accuracy: Option<u32>,
    /// Runs that are counted.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 10,
        value_parser = value_parser!(u32).range(1..=10_000),
    )]
    runs: u32,
    /// Runs before those; on a GPU three see, capture and check what then runs as a graph.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 3,
        value_parser = value_parser!(u32).range(..=1_000),
    )]
    warm_up: u32,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Hold the figures against those of an earlier run; fails if a median is slower by more than
    /// --tolerance.
    #[arg(long, value_name = "FILE")]
    compare_to: Option<PathBuf>,
    /// Slow-down that is let pass, as a share.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    tolerance: f64,
}

/// What is measured in place of the engine.
#[derive(Clone, Debug, Subcommand)]
enum Other {
    /// Measure the served playground beside the engine alone: rate, latency, and how late frames
    /// arrive.
    Serve(serve::ServeBenchArgs),
}

/// Which frames of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Frames {
    /// Every scale of every pass, as in the playground.
    All,
    /// The same with the finished picture before the others.
    LastFirst,
    /// The finished picture alone.
    Last,
}

/// The depth of a published model.
fn depth(name: &str) -> Result<i64, String> {
    let depth = name.strip_prefix('d').and_then(|depth| depth.parse().ok());
    depth.filter(|depth| published::DEPTHS.contains(depth)).ok_or_else(|| {
        let names: Vec<String> =
            published::DEPTHS.iter().map(|depth| format!("d{depth}")).collect();
        format!("there are {}", names.join(", "))
    })
}

/// One run.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    first_ms: f64,
    last_ms: f64,
    transformer_ms: f64,
    decode_ms: f64,
    encode_ms: f64,
}

/// Measures and prints.
///
/// # Errors
/// When a plan does not fit the model, the device fails, a file cannot be read or written, or
/// something became slower.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    if let Some(Other::Serve(args)) = &args.other {
        return serve::run(args);
    }
    args.json.as_deref().map_or(Ok(()), tensor_file::check_place)?;
    let source = args.source()?;
    let config = source.config();
    let plans = args.plans(&source)?;
    let before = args.compare_to.as_deref().map(report::read).transpose()?;
    let ops = args.model.network.open()?;
    let device = ops.device();
    let kind = args.model.network.kind_for(device, config);
    if let Some(count) = args.accuracy {
        return accuracy::run(&source, &plans, count, &ops, kind);
    }
    let mut engine = Engine::of(source.sampler(&plans, &ops, kind)?, kind);
    let side = MATRIX_SIDES[usize::from(device.is_cuda())];
    let matrix_rate = matrix_rate(device, kind, side, RATE_TIME);
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION").into(),
        model: config.name.clone(),
        device: device_name(device),
        dtype: kind_name(kind).into(),
        threads: tch::get_num_threads(),
        matrix_gflop_per_s: matrix_rate / 1e9,
        graphs: 0,
        rows: Vec::new(),
    };
    let is_kept = args.json.is_some();
    let heading = format_args!(
        "{} on {} in {}, {} threads; matrices of {side} multiply at {:.0} GFLOP/s\n{HEADING}",
        report.model, report.device, report.dtype, report.threads, report.matrix_gflop_per_s
    );
    output::report(is_kept, heading)?;
    let progress = progress(plans.len() * args.bs.len() * (args.runs + args.warm_up) as usize);
    for (name, plan) in &plans {
        for &batch in &args.bs {
            report::reset_peak_memory(device);
            let mut samples = Vec::new();
            for run in 0..args.warm_up + args.runs {
                progress.set_message(format!("{name}, batch {batch}"));
                let sample = measure(&mut engine, plan, batch, args.frames)?;
                progress.inc(1);
                if run >= args.warm_up {
                    samples.push(sample);
                }
            }
            let frames = match args.frames {
                Frames::All | Frames::LastFirst => {
                    config.passes(plan).iter().map(|pass| pass.scales().len()).sum()
                }
                Frames::Last => 1,
            };
            let flops =
                cost::transformer_flops(plan, config) + frames as f64 * cost::decoder_flops(config);
            let flops = flops * f64::from(batch);
            let memory = report::peak_memory_mb(device);
            let row = Row::of(name, batch, args.frames, &samples, flops, matrix_rate, memory);
            progress.suspend(|| output::report(is_kept, format_args!("{}", row.line())))?;
            report.rows.push(row);
        }
    }
    progress.finish_and_clear();
    report.graphs = engine.graphs();
    if device.is_cuda() {
        let graphs = report.graphs;
        let words =
            format_args!("{graphs} captured graphs in use (--cuda-graphs off does without)");
        output::report(is_kept, words)?;
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        write_whole(path, text.as_bytes())?;
    }
    before.map_or(Ok(()), |before| report::compare(&before, &report, args.tolerance))
}

/// Where the networks come from.
enum BenchedModel {
    /// A model on disk.
    Bundle(Bundle),
    /// Published sizes with weights from their names.
    Invented(Config),
}

impl BenchedModel {
    fn config(&self) -> &Config {
        match self {
            Self::Bundle(bundle) => &bundle.config,
            Self::Invented(config) => config,
        }
    }

    /// The networks that the plans need.
    fn sampler(
        &self,
        plans: &[(String, Plan)],
        ops: &Ops,
        kind: Kind,
    ) -> Result<Sampler, BundleError> {
        match self {
            Self::Bundle(bundle) => bundle.sampler(ops, kind),
            Self::Invented(config) => {
                let teacher = plans.iter().any(|(_, plan)| plan.needs_teacher());
                Ok(formula_sampler(config, teacher, ops, kind)?)
            }
        }
    }
}

impl BenchArgs {
    fn source(&self) -> anyhow::Result<BenchedModel> {
        Ok(match self.invented {
            Some(depth) => BenchedModel::Invented(published::config(depth)),
            None => BenchedModel::Bundle(Bundle::open(&self.model.directory())?),
        })
    }

    fn plans(&self, source: &BenchedModel) -> Result<Vec<(String, Plan)>, UsageError> {
        let config = source.config();
        let plans = if self.flags.is_given() {
            let plan = self.flags.resolve(config)?;
            vec![(plan.flags().to_string(), plan)]
        } else {
            let all = || config.plans.iter().map(|preset| preset.name.clone()).collect();
            let names: Vec<String> = if self.plan.is_empty() { all() } else { self.plan.clone() };
            names
                .into_iter()
                .map(|name| Ok((name.clone(), self.flags.preset(&name, config)?)))
                .collect::<Result<Vec<_>, UsageError>>()?
        };
        if let BenchedModel::Bundle(bundle) = source {
            for (_, plan) in &plans {
                check_teacher(plan, bundle)?;
            }
        }
        Ok(plans)
    }
}

fn progress(runs: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden(); // The rows themselves tell how far it is.
    }
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}, {eta} left");
    let bar = ProgressBar::new(runs as u64);
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}

fn measure(engine: &mut Engine, plan: &Plan, batch: u32, frames: Frames) -> anyhow::Result<Sample> {
    let classes = engine.info().classes.len() as u32;
    let pictures =
        (0..batch).map(|index| PictureRequest { class: index % classes, seed: 0, index }).collect();
    let order = match frames {
        Frames::LastFirst => sample::Frames::LastFirst,
        _ => sample::Frames::InOrder,
    };
    let request = BatchRequest { plan: plan.clone(), explore: None, frames: order, pictures };
    let began = Instant::now();
    let elapsed_ms = || began.elapsed().as_secs_f64() * 1e3;
    let mut sample = Sample::default();
    if frames == Frames::Last {
        let timed = engine.timed_final_pictures(&request)?;
        (sample.transformer_ms, sample.decode_ms) = (timed.transformer_ms, timed.decode_ms);
        let start = elapsed_ms();
        encode(&timed.pictures, true)?;
        sample.encode_ms = elapsed_ms() - start;
        sample.last_ms = elapsed_ms();
        sample.first_ms = sample.last_ms;
        return Ok(sample);
    }
    let mut failure = None;
    let mut waiting: Vec<image::RgbImage> = Vec::new();
    let mut sink = |event: GeneratorEvent| {
        match event {
            GeneratorEvent::PassBegan { .. } => {}
            GeneratorEvent::PassEnded { transformer_ms, .. } => {
                sample.transformer_ms += transformer_ms
            }
            GeneratorEvent::Decoded { pictures, decode_ms, .. } => {
                sample.decode_ms += decode_ms;
                let start = elapsed_ms();
                // The finished picture is kept without loss; where it comes first, that is what
                // comes first.
                let finished = frames == Frames::LastFirst && sample.first_ms == 0.0;
                if let Err(error) = encode(&pictures, finished) {
                    failure = Some(error);
                    return std::ops::ControlFlow::Break(());
                }
                waiting = pictures;
                sample.encode_ms += elapsed_ms() - start;
                if sample.first_ms == 0.0 {
                    sample.first_ms = elapsed_ms();
                }
            }
        }
        std::ops::ControlFlow::Continue(())
    };
    engine.generate(&request, &mut sink)?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    let start = elapsed_ms();
    if frames == Frames::All {
        encode(&waiting, true)?;
    }
    sample.encode_ms += elapsed_ms() - start;
    sample.last_ms = elapsed_ms();
    Ok(sample)
}

/// Encodes pictures side by side, as the server and `sample` do.
fn encode(pictures: &[image::RgbImage], finished: bool) -> Result<(), image::ImageError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let share = pictures.len().div_ceil(cores).max(1);
    let each = |pictures: &[image::RgbImage]| {
        pictures.iter().try_for_each(|picture| encoded_bytes(picture, finished).map(drop))
    };
    let mut shares = pictures.chunks(share);
    let own = shares.next().unwrap_or_default();
    thread::scope(|scope| {
        let others: Vec<_> = shares.map(|share| scope.spawn(move || each(share))).collect();
        let outcome = each(own);
        others.into_iter().try_fold((), |(), other| {
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        outcome
    })
}
