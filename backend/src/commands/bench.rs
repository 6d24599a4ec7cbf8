//! `var-dd bench`: how fast a model draws here, and how close that is to what the machine can do.

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use var_dd_engine::{
    bundle::Bundle,
    device::{device_name, kind_name},
    sample::{cost, plan::Plan},
};

use super::{
    engine::Engine,
    info,
    model::{ModelArgs, PlanArgs, check_teacher},
    picture_file::write_whole,
};
use crate::{
    cli::UsageError,
    generator::{BatchRequest, Generator, GeneratorEvent, PictureRequest},
    scheduler::encoded_bytes,
};

/// Side of the matrices that the machine's rate is measured with.
const MATRIX_SIDE: i64 = 2048;

/// How long the rate is measured.
const RATE_TIME: Duration = Duration::from_secs(2);

/// Flags of `var-dd bench`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Each row is one plan at one batch size: milliseconds from the call to the first and the last frame, where they went,\n\
pictures per second, memory, and the share of the rate at which this machine multiplies matrices of that number type.\n\n\
Examples:\n  \
var-dd bench --model models/d16 --bs 1,4\n  \
var-dd bench --plan \"1 step\" --frames last --json before.json\n  \
var-dd bench --plan \"1 step\" --frames last --compare-to before.json")]
pub struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
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
    /// Runs that are counted.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Runs before those.
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = value_parser!(u32).range(..=1_000))]
    warm_up: u32,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Hold the figures against those of an earlier run; fails if a median is slower by more than --tolerance.
    #[arg(long, value_name = "FILE")]
    compare_to: Option<PathBuf>,
    /// Slow-down that is let pass, as a share.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    tolerance: f64,
}

/// Which frames of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Frames {
    /// Every scale of every pass, as in the playground.
    All,
    /// The finished picture alone.
    Last,
}

/// Figures of all rows.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    version: String,
    model: String,
    device: String,
    dtype: String,
    threads: i32,
    /// Measured rate of matrix products, in 10⁹ operations per second.
    matrix_gflop_per_s: f64,
    rows: Vec<Row>,
}

/// Figures of one plan at one batch size. Times are medians over the runs unless they say otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    plan: String,
    batch: u32,
    frames: Frames,
    first_frame_ms: f64,
    last_frame_ms: f64,
    last_frame_p95_ms: f64,
    transformer_ms: f64,
    decode_ms: f64,
    encode_ms: f64,
    pictures_per_s: f64,
    gflop: f64,
    /// Operations per second in transformer and decoder over the measured rate of the machine.
    share_of_matrix_rate: f64,
    /// Most memory that the program had, in MB.
    peak_memory_mb: Option<f64>,
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
/// When a plan does not fit the model, the device fails, a file cannot be read or written, or something became slower.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let directory = args.model.directory();
    let bundle = Bundle::open(&directory)?;
    let plans = args.plans(&bundle)?;
    let before = args.compare_to.as_deref().map(read).transpose()?;
    let device = args.model.device.open()?;
    let kind = args.model.dtype.kind(device);
    let mut engine = Engine::load(&directory, args.model.device, args.model.dtype)?;
    let matrix_rate = matrix_rate(device, kind);
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION").into(),
        model: bundle.config.name.clone(),
        device: device_name(device),
        dtype: kind_name(kind).into(),
        threads: tch::get_num_threads(),
        matrix_gflop_per_s: matrix_rate / 1e9,
        rows: Vec::new(),
    };
    println!(
        "{} on {} in {}, {} threads; matrices of {MATRIX_SIDE} multiply at {:.0} GFLOP/s",
        report.model, report.device, report.dtype, report.threads, report.matrix_gflop_per_s
    );
    println!("{HEADING}");
    let progress = progress(plans.len() * args.bs.len() * (args.runs + args.warm_up) as usize);
    for (name, plan) in &plans {
        for &batch in &args.bs {
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
                Frames::All => plan.passes(bundle.config.scales()).iter().map(|pass| pass.scales.len()).sum(),
                Frames::Last => 1,
            };
            let flops = cost::transformer_flops(plan, &bundle.config)
                + frames as f64 * cost::decoder_flops(&bundle.config);
            let row = Row::of(name, batch, args.frames, &samples, flops * f64::from(batch), matrix_rate);
            progress.suspend(|| println!("{}", row.line()));
            report.rows.push(row);
        }
    }
    progress.finish_and_clear();
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        write_whole(path, text.as_bytes())?;
    }
    before.map_or(Ok(()), |before| compare(&before, &report, args.tolerance))
}

impl BenchArgs {
    fn plans(&self, bundle: &Bundle) -> Result<Vec<(String, Plan)>, UsageError> {
        let config = &bundle.config;
        let plans = if self.flags.is_given() {
            let plan = self.flags.resolve(config)?;
            vec![(info::flags(&plan), plan)]
        } else {
            let all = || config.plans.iter().map(|preset| preset.name.clone()).collect();
            let names: Vec<String> = if self.plan.is_empty() { all() } else { self.plan.clone() };
            names
                .into_iter()
                .map(|name| Ok((name.clone(), self.flags.preset(&name, config)?)))
                .collect::<Result<Vec<_>, UsageError>>()?
        };
        for (_, plan) in &plans {
            check_teacher(plan, bundle)?;
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

/// Operations per second of matrix products: the best of several, so that others on the machine count little.
fn matrix_rate(device: Device, kind: Kind) -> f64 {
    let matrix = || Tensor::randn([MATRIX_SIDE, MATRIX_SIDE], (Kind::Float, device)).to_kind(kind);
    let (a, b) = (matrix(), matrix());
    let flops = 2.0 * (MATRIX_SIDE as f64).powi(3);
    let began = Instant::now();
    let mut best = Duration::MAX;
    while began.elapsed() < RATE_TIME {
        let start = Instant::now();
        let product = a.matmul(&b);
        // Waits for the device.
        let _ = product.get(0).get(0).to_kind(Kind::Float).double_value(&[]);
        best = best.min(start.elapsed());
    }
    flops / best.as_secs_f64()
}

fn measure(engine: &mut Engine, plan: &Plan, batch: u32, frames: Frames) -> anyhow::Result<Sample> {
    let classes = engine.info().classes.len() as u32;
    let pictures =
        (0..batch).map(|index| PictureRequest { class: index % classes, seed: 0, index }).collect();
    let request = BatchRequest { plan: plan.clone(), pictures };
    let began = Instant::now();
    let elapsed_ms = || began.elapsed().as_secs_f64() * 1e3;
    let mut sample = Sample::default();
    if frames == Frames::Last {
        let timed = engine.timed_final_pictures(&request)?;
        (sample.transformer_ms, sample.decode_ms) = (timed.transformer_ms, timed.decode_ms);
        let start = elapsed_ms();
        for picture in &timed.pictures {
            encoded_bytes(picture, true)?;
        }
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
            GeneratorEvent::PassEnded { transformer_ms, .. } => sample.transformer_ms += transformer_ms,
            GeneratorEvent::Decoded { pictures, decode_ms, .. } => {
                sample.decode_ms += decode_ms;
                let start = elapsed_ms();
                for picture in &pictures {
                    if let Err(error) = encoded_bytes(picture, false) {
                        failure = Some(error);
                        return std::ops::ControlFlow::Break(());
                    }
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
    for picture in &waiting {
        encoded_bytes(picture, true)?;
    }
    sample.encode_ms += elapsed_ms() - start;
    sample.last_ms = elapsed_ms();
    Ok(sample)
}

const HEADING: &str = "plan                      batch  frames  first ms   last ms    p95 ms  transf.   decode   encode  pictures/s  GFLOP  share  peak MB";

impl Row {
    fn of(plan: &str, batch: u32, frames: Frames, samples: &[Sample], flops: f64, matrix_rate: f64) -> Self {
        let of = |what: fn(&Sample) -> f64, share| quantile(samples.iter().map(what).collect(), share);
        let last_frame_ms = of(|sample| sample.last_ms, 0.5);
        let device_ms = of(|sample| sample.transformer_ms + sample.decode_ms, 0.5);
        Self {
            plan: plan.to_owned(),
            batch,
            frames,
            first_frame_ms: of(|sample| sample.first_ms, 0.5),
            last_frame_ms,
            last_frame_p95_ms: of(|sample| sample.last_ms, 0.95),
            transformer_ms: of(|sample| sample.transformer_ms, 0.5),
            decode_ms: of(|sample| sample.decode_ms, 0.5),
            encode_ms: of(|sample| sample.encode_ms, 0.5),
            pictures_per_s: f64::from(batch) / last_frame_ms * 1e3,
            gflop: flops / 1e9,
            share_of_matrix_rate: flops / (device_ms / 1e3) / matrix_rate,
            peak_memory_mb: peak_memory_mb(),
        }
    }

    fn line(&self) -> String {
        let frames = if self.frames == Frames::All { "all" } else { "last" };
        let memory = self.peak_memory_mb.map_or_else(|| "-".into(), |mb| format!("{mb:.0}"));
        format!(
            "{:<24}  {:>5}  {frames:>6}  {:>8.1}  {:>8.1}  {:>8.1}  {:>7.1}  {:>7.1}  {:>7.1}  {:>10.2}  {:>5.1}  {:>4.0} %  {memory:>7}",
            self.plan,
            self.batch,
            self.first_frame_ms,
            self.last_frame_ms,
            self.last_frame_p95_ms,
            self.transformer_ms,
            self.decode_ms,
            self.encode_ms,
            self.pictures_per_s,
            self.gflop,
            self.share_of_matrix_rate * 100.0
        )
    }
}

/// The value below which a share of the values lies.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((share * last as f64).round() as usize).copied().unwrap_or(0.0)
}

/// Most memory that this program had so far; known on Linux.
fn peak_memory_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes / 1000.0)
}

fn read(path: &Path) -> anyhow::Result<Report> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not what --json of an earlier run wrote", path.display()))
}

/// Prints each row beside its earlier self.
fn compare(before: &Report, now: &Report, tolerance: f64) -> anyhow::Result<()> {
    if (&before.device, &before.dtype, &before.model) != (&now.device, &now.dtype, &now.model) {
        tracing::warn!(
            "the earlier run was {} on {} in {}; times may not compare",
            before.model,
            before.device,
            before.dtype
        );
    }
    let mut slower = Vec::new();
    for row in &now.rows {
        let same = |old: &&Row| (&old.plan, old.batch, old.frames) == (&row.plan, row.batch, row.frames);
        let Some(old) = before.rows.iter().find(same) else {
            println!("{}, batch {}: not in the earlier run", row.plan, row.batch);
            continue;
        };
        let ratio = row.last_frame_ms / old.last_frame_ms;
        println!(
            "{}, batch {}: {:.1} ms after {:.1} ms, ratio {ratio:.2}",
            row.plan, row.batch, row.last_frame_ms, old.last_frame_ms
        );
        if ratio > 1.0 + tolerance {
            slower.push(format!("{} at batch {} ({ratio:.2} times)", row.plan, row.batch));
        }
    }
    if slower.is_empty() {
        return Ok(());
    }
    bail!("slower than before by more than {:.0} %: {}", tolerance * 100.0, slower.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(last_ms: f64) -> Report {
        let sample = Sample { first_ms: 1.0, last_ms, transformer_ms: 2.0, decode_ms: 3.0, encode_ms: 0.5 };
        let row = Row::of("1 step", 2, Frames::All, &[sample; 3], 1e9, 1e12);
        Report {
            version: "0".into(),
            model: "m".into(),
            device: "cpu".into(),
            dtype: "f32".into(),
            threads: 1,
            matrix_gflop_per_s: 1000.0,
            rows: vec![row],
        }
    }

    #[test]
    fn the_median_and_the_slow_end_are_those_of_the_sorted_values() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!((quantile(values.clone(), 0.5), quantile(values, 0.95)), (50.0, 95.0));
        assert_eq!(quantile(Vec::new(), 0.5), 0.0);
    }

    #[test]
    fn a_row_holds_its_rate_against_the_machine() {
        let row = &report(10.0).rows[0];
        assert_eq!((row.pictures_per_s, row.gflop), (200.0, 1.0));
        assert!((row.share_of_matrix_rate - 0.2).abs() < 1e-9, "1 GFLOP in 5 ms is 200 of 1000 GFLOP/s");
    }

    #[test]
    fn what_became_slower_is_an_error_that_names_it() {
        assert!(compare(&report(10.0), &report(10.5), 0.1).is_ok());
        let error = compare(&report(10.0), &report(12.0), 0.1).unwrap_err().to_string();
        assert!(error.contains("1 step at batch 2 (1.20 times)"), "{error}");
    }

    #[test]
    fn figures_survive_their_file() {
        let text = serde_json::to_string(&report(10.0)).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap().rows[0].last_frame_ms, 10.0);
    }
}
