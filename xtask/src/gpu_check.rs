//! `cargo xtask gpu-check`: is the engine right on this machine's GPU, and how fast is it? One
//! command for a machine that one has for minutes only.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    chores, libtorch,
    stage::seconds,
    workspace::{self, shown},
};

/// All checks and measurements, without building and training.
const BUDGET: Duration = Duration::from_secs(8 * 60);

/// The demo model's training.
const TRAINING: Duration = Duration::from_secs(3 * 60 * 60);

/// Batch sizes of the ratios to the released sampler.
const BATCHES: &str = "1,64";

/// Checks the engine on a GPU and measures it, within eight minutes after building. Figures go to
/// target/gpu-check: gpu-check.json, and a table for docs/performance.md.
#[derive(Args)]
pub(crate) struct GpuCheck {
    /// Checkout of the released code; without it there are no ratios to the released sampler
    #[arg(long, value_name = "DIR", env = "VAR_DD_RELEASED")]
    released: Option<PathBuf>,
    /// A Python that has torch with CUDA, for the released sampler
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
    /// Afterwards train the demo model from nothing and time it
    #[arg(long)]
    train: bool,
}

/// How one step came out.
#[derive(Debug)]
enum Outcome {
    Passed,
    Failed(String),
    NotSeen(String),
}

#[derive(Debug)]
struct Step {
    name: String,
    outcome: Outcome,
    took: Duration,
    figures: Value,
}

/// What runs, and what has come of it.
struct Check {
    program: PathBuf,
    libtorch: PathBuf,
    output: PathBuf,
    ends: Instant,
    steps: Vec<Step>,
}

/// Builds, checks, measures and writes the figures.
///
/// # Errors
/// When set-up or a check fails; what could not be seen is told and is no error.
pub(crate) fn run(arguments: &GpuCheck) -> Result<()> {
    let libtorch = libtorch::ensure()?;
    let program = chores::program(&libtorch, true)?;
    let output = workspace::target().join("gpu-check");
    fs::create_dir_all(&output).with_context(|| format!("cannot create {}", output.display()))?;
    let mut check =
        Check { program, libtorch, output, ends: Instant::now() + BUDGET, steps: Vec::new() };
    check.build_tests()?;
    let card = card();
    check.ends = Instant::now() + BUDGET;
    match &card {
        None => {
            let why = "no GPU here: nvidia-smi names none";
            eprintln!("{:>10}  {why}; what needs one is left out", "gpu");
            check.without_gpu(arguments, why);
        }
        Some(card) => {
            eprintln!("{:>10}  {card}", "gpu");
            check.on_gpu(arguments);
        }
    }
    check.report(card.as_deref())
}

/// Name, driver and memory of the first GPU.
fn card() -> Option<String> {
    let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
    workspace::first_line(Command::new("nvidia-smi").args(query))
}

/// Steps that need a GPU, by name.
const STEPS: [&str; 11] = [
    "parity in f32, kernels and graphs",
    "bf16 beside f32",
    "released sampler",
    "released sampler, tuned",
    "ours",
    "ours without graphs",
    "teacher",
    "all frames",
    "demo model",
    "served",
    "training of the demo model",
];

impl Check {
    /// Compiled before the clock runs.
    fn build_tests(&self) -> Result<()> {
        let mut cargo = self.cargo();
        cargo.args(["--no-run"]);
        workspace::run(&mut cargo).context("the engine's tests do not build")
    }

    /// The engine's parity tests.
    fn cargo(&self) -> Command {
        let mut cargo = workspace::cargo();
        cargo.args(["test", "--release", "--package", "var-dd-engine", "--test", "parity"]);
        cargo.env("LIBTORCH", &self.libtorch).env("RUST_LIB_BACKTRACE", "0");
        cargo
    }

    /// As far as one comes without: everything is built, and Python can load the script.
    fn without_gpu(&mut self, arguments: &GpuCheck, why: &str) {
        let mut script = Command::new(&arguments.python);
        script.arg(released_script()).arg("--help").stdout(Stdio::null());
        self.step("script of the released sampler", &mut script, None);
        for name in STEPS {
            self.not_seen(name, why);
        }
    }

    fn on_gpu(&mut self, arguments: &GpuCheck) {
        let mut parity = self.cargo();
        // cuDNN otherwise rounds to TF32 in convolutions.
        parity.env("NVIDIA_TF32_OVERRIDE", "0").env("VAR_DD_TEST_DEVICE", "cuda");
        // Tests beside one another would share the memory of one GPU.
        self.step(STEPS[0], parity.args(["--", "--test-threads", "1"]), None);

        let mut accuracy = self.bench(&["--accuracy", "64", "--dtype", "bf16"]);
        self.step(STEPS[1], &mut accuracy, None);

        match &arguments.released {
            None => {
                let why = "no checkout of the released code was given (--released DIR)";
                self.not_seen(STEPS[2], why);
                self.not_seen(STEPS[3], why);
            }
            Some(checkout) => {
                let plain: &[&str] = &[];
                let tuned: &[&str] = &["--autocast", "bf16", "--channels-last", "--compile"];
                for (name, flags) in [(STEPS[2], plain), (STEPS[3], tuned)] {
                    let json = self.json(name);
                    let mut script = Command::new(&arguments.python);
                    script.arg(released_script()).arg(checkout).args(["--device", "cuda"]);
                    script.args(["--bs", BATCHES, "--runs", "10", "--warm-up", "3"]).args(flags);
                    self.step(name, script.arg("--json").arg(&json), Some(&json));
                }
            }
        }
        let last = ["--invented", "d16", "--plan", "1 step", "--frames", "last", "--runs", "20"];
        let last = [&last[..], &["--bs", BATCHES]].concat();
        self.measure(STEPS[4], &last, &[]);
        self.measure(STEPS[5], &last, &[("VAR_DD_CUDA_GRAPHS", "off")]);
        let teacher = ["--invented", "d16", "--autoregressive", "--frames", "last", "--bs", "1,8"];
        self.measure(STEPS[6], &[&teacher[..], &["--runs", "5"]].concat(), &[]);
        self.measure(STEPS[7], &["--invented", "d16", "--plan", "1 step"], &[]);
        self.measure(STEPS[8], &["--bs", "1,8,64", "--runs", "20"], &[]);

        let mut served = Command::new(&self.program);
        let json = self.json(STEPS[9]);
        served.args(["bench", "serve", "--device", "cuda", "--clients", "1,8,64"]);
        served.args(["--max-batch", "64", "--jobs", "400", "--warm-up", "64", "--json"]);
        self.step(STEPS[9], served.arg(&json), Some(&json));

        if arguments.train {
            self.ends = Instant::now() + TRAINING;
            let mut train = Command::new(&self.program);
            train.args(["train", "all", "--preset", "demo", "--device", "cuda", "--output"]);
            let directory = self.output.join("training");
            self.step(STEPS[10], train.arg(directory), None);
        } else {
            self.not_seen(STEPS[10], "not asked for (--train)");
        }
    }

    fn bench(&self, flags: &[&str]) -> Command {
        let mut bench = Command::new(&self.program);
        bench.args(["bench", "--device", "cuda"]).args(flags);
        bench
    }

    fn measure(&mut self, name: &str, flags: &[&str], variables: &[(&str, &str)]) {
        let json = self.json(name);
        let mut bench = self.bench(flags);
        bench.envs(variables.iter().copied()).arg("--json").arg(&json);
        self.step(name, &mut bench, Some(&json));
    }

    fn json(&self, name: &str) -> PathBuf {
        self.output.join(format!("{}.json", name.replace([' ', ','], "-")))
    }

    fn not_seen(&mut self, name: &str, why: &str) {
        let (outcome, took) = (Outcome::NotSeen(why.to_owned()), Duration::ZERO);
        self.steps.push(Step { name: name.to_owned(), outcome, took, figures: Value::Null });
    }

    /// Runs one program to its end, or to that of the time there is; its figures are read from
    /// `json`.
    fn step(&mut self, name: &str, command: &mut Command, json: Option<&Path>) {
        let left = self.ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return self.not_seen(name, "no time was left");
        }
        eprintln!("{name:>10}  {}", shown(command));
        if let Some(json) = json {
            // Figures of an earlier run must not pass for this one's.
            let _ = fs::remove_file(json);
        }
        let began = Instant::now();
        let outcome = match limited(command, left) {
            Ok(true) => Outcome::Passed,
            Ok(false) => Outcome::NotSeen("it was stopped: no time was left".into()),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        let figures = json
            .and_then(|json| fs::read(json).ok())
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or(Value::Null);
        self.steps.push(Step { name: name.to_owned(), outcome, took: began.elapsed(), figures });
    }

    fn report(&self, card: Option<&str>) -> Result<()> {
        let table = table(card, &self.steps);
        let json = self.output.join("gpu-check.json");
        let text = serde_json::to_string_pretty(&as_json(card, &self.steps))?;
        fs::write(&json, text).with_context(|| format!("cannot write {}", json.display()))?;
        let path = self.output.join("gpu-check.md");
        fs::write(&path, &table).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{table}");
        eprintln!("{:>10}  {} and {}", "written", json.display(), path.display());
        let failed: Vec<_> = self
            .steps
            .iter()
            .filter(|step| matches!(step.outcome, Outcome::Failed(_)))
            .map(|step| step.name.as_str())
            .collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}

fn released_script() -> PathBuf {
    workspace::root().join("backend/engine/benches/released_sampler.py")
}

/// Runs a program for at most `time`; whether it came to its end.
fn limited(command: &mut Command, time: Duration) -> Result<bool> {
    let shown = shown(command);
    let mut child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("{shown}: {status}");
            }
            return Ok(true);
        }
        if began.elapsed() > time {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn as_json(card: Option<&str>, steps: &[Step]) -> Value {
    let step = |step: &Step| {
        let (outcome, why) = match &step.outcome {
            Outcome::Passed => ("passed", None),
            Outcome::Failed(why) => ("failed", Some(why)),
            Outcome::NotSeen(why) => ("not seen", Some(why)),
        };
        json!({
            "name": step.name,
            "outcome": outcome,
            "why": why,
            "took_s": step.took.as_secs_f64(),
            "figures": step.figures,
        })
    };
    json!({ "gpu": card, "steps": steps.iter().map(step).collect::<Vec<_>>() })
}

/// What docs/performance.md has room for: the steps, then batch by batch times and ratios.
fn table(card: Option<&str>, steps: &[Step]) -> String {
    let mut text =
        format!("Measured on {}.\n\n| step | outcome |\n|---|---|\n", card.unwrap_or("no GPU"));
    for step in steps {
        let outcome = match &step.outcome {
            Outcome::Passed => format!("passed in {}", seconds(step.took)),
            Outcome::Failed(why) => format!("**failed**: {why}"),
            Outcome::NotSeen(why) => format!("not seen: {why}"),
        };
        text.push_str(&format!("| {} | {outcome} |\n", step.name));
    }
    let rows_of = |step: &Step| step.figures["rows"].as_array().cloned().unwrap_or_default();
    let drawn = |row: &Value| {
        let ms = |name: &str| row[name].as_f64();
        Some(ms("last_frame_ms")? - ms("encode_ms")?)
    };
    let measured: Vec<_> =
        steps.iter().filter(|step| step.figures["rows"][0]["last_frame_ms"].is_number()).collect();
    if measured.is_empty() {
        return text;
    }
    text.push_str(
        "\n| what | plan | batch | until the bytes are there | transformer | decoder | peak memory \
         | times as fast as released | as tuned |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for step in measured {
        for row in rows_of(step) {
            let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
            let beside = |name: &str| {
                let other =
                    steps.iter().find(|other| other.name == name && other.name != step.name)?;
                let same = |other: &Value| {
                    other["batch"] == row["batch"]
                        && other["frames"] == row["frames"]
                        && other["plan"] == row["plan"]
                        && other_model(step) == "d16"
                };
                let other = rows_of(other).into_iter().find(same)?;
                Some(format!("{:.2}", drawn(&other)? / drawn(&row)?))
            };
            text.push_str(&format!(
                "| {} | {} | {} | {:.1} ms | {:.1} ms | {:.1} ms | {:.0} MB | {} | {} |\n",
                step.name,
                row["plan"].as_str().unwrap_or("?"),
                row["batch"],
                drawn(&row).unwrap_or(f64::NAN),
                number("transformer_ms"),
                number("decode_ms"),
                number("peak_memory_mb"),
                beside("released sampler").unwrap_or_default(),
                beside("released sampler, tuned").unwrap_or_default(),
            ));
        }
    }
    if let Some(served) = steps.iter().find(|step| step.name == "served") {
        text.push_str(
            "\n| served | pictures per second | of offline | last frame, median | late, 95 of 100 |\
             \n|---|---|---|---|---|\n",
        );
        for row in rows_of(served) {
            text.push_str(&format!(
                "| {} | {:.1} | {} | {:.1} ms | {:.1} ms |\n",
                row["load"].as_str().unwrap_or("?"),
                row["pictures_per_s"].as_f64().unwrap_or(f64::NAN),
                row["rate_ratio"]
                    .as_f64()
                    .map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")),
                row["last_frame_ms"]["p50"].as_f64().unwrap_or(f64::NAN),
                row["late_ms"]["p95"].as_f64().unwrap_or(f64::NAN),
            ));
        }
    }
    text
}

fn other_model(step: &Step) -> &str {
    step.figures["model"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, last_ms: f64) -> Step {
        let row = |batch: u32| {
            json!({
                "plan": "1 step", "batch": batch, "frames": "last", "last_frame_ms": last_ms * f64::from(batch),
                "encode_ms": 0.0, "transformer_ms": 1.0, "decode_ms": 2.0, "peak_memory_mb": 3.0,
            })
        };
        let figures = json!({ "model": "d16", "rows": [row(1), row(64)] });
        Step { name: name.into(), outcome: Outcome::Passed, took: Duration::from_secs(2), figures }
    }

    #[test]
    fn the_table_holds_ratios_at_each_batch_and_names_the_card() {
        let steps = [step(STEPS[2], 30.0), step(STEPS[3], 15.0), step(STEPS[4], 5.0)];
        let table = table(Some("a card"), &steps);
        assert!(table.starts_with("Measured on a card."), "{table}");
        for row in ["| ours | 1 step | 1 | 5.0 ms", "| ours | 1 step | 64 | 320.0 ms"] {
            let line = table.lines().find(|line| line.starts_with(row)).unwrap_or_default();
            assert!(line.ends_with("| 6.00 | 3.00 |"), "{table}");
        }
    }

    #[test]
    fn what_was_not_seen_is_told_with_its_reason_and_is_no_failure() {
        let not_seen = Step {
            name: "served".into(),
            outcome: Outcome::NotSeen("no GPU here".into()),
            took: Duration::ZERO,
            figures: Value::Null,
        };
        let steps = [not_seen];
        assert!(table(None, &steps).contains("| served | not seen: no GPU here |"));
        assert_eq!(as_json(None, &steps)["steps"][0]["outcome"], "not seen");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let check = Check {
            program: "none".into(),
            libtorch: "none".into(),
            output: directory.path().into(),
            ends: Instant::now(),
            steps: steps.into(),
        };
        check.report(None).expect("nothing failed");
        assert!(directory.path().join("gpu-check.json").exists());
    }

    #[test]
    fn a_step_that_fails_makes_the_whole_fail_and_one_without_time_is_not_begun() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut check = Check {
            program: "none".into(),
            libtorch: "none".into(),
            output: directory.path().into(),
            ends: Instant::now() + Duration::from_secs(60),
            steps: Vec::new(),
        };
        check.step("fails", &mut Command::new("false"), None);
        check.ends = Instant::now();
        check.step("late", &mut Command::new("false"), None);
        assert!(matches!(&check.steps[1].outcome, Outcome::NotSeen(why) if why.contains("time")));
        let error = check.report(None).expect_err("a step failed").to_string();
        assert_eq!(error, "failed: fails");
    }
}
