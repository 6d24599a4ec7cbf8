//! The command line as typed, and what becomes of its outcome.

use std::{io::IsTerminal, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::{
    commands::{bench, convert, download, evaluate, info, reproduce, sample, serve, trace, train},
    usage_error::UsageError,
};

/// Few-step image generation with VAR and Distilled Decoding.
#[derive(Debug, Parser)]
#[command(name = "var-dd", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the playground in the browser.
    Serve(serve::ServeArgs),
    /// Draw pictures to files.
    Sample(sample::SampleArgs),
    /// Fetch released weights and statistics by name.
    Download(download::DownloadArgs),
    /// Score pictures: FID, Inception Score, precision and recall, sFID.
    Evaluate(evaluate::EvaluateArgs),
    /// Draw and score the published settings: the paper's tables, measured beside published.
    Reproduce(reproduce::ReproduceArgs),
    /// Measure how fast a model draws, and how close that is to what the machine can do.
    Bench(bench::BenchArgs),
    /// Show device, model, sizes and plans.
    Info(info::InfoArgs),
    /// Make a model directory from released PyTorch checkpoints.
    Convert(convert::ConvertArgs),
    /// Train a model from nothing: pictures, tokenizer, teacher, trajectories, student.
    Train(train::TrainArgs),
    /// Run one sampling on given noise and write every tensor on the way.
    Trace(trace::TraceArgs),
    /// Apply top-k and top-p to given `logits` […, V]; writes `probs`.
    TraceFilter(trace::TraceFilterArgs),
    /// Measure the Fréchet distance between given `act_a` and `act_b` [n, d]; writes `distance` f64
    /// [1].
    TraceFrechet(trace::FileArgs),
    /// Compute the Inception features of given `images` [B, 3, H, W] in 0…1; writes `features` [B,
    /// 2048].
    TraceInception(trace::TraceInceptionArgs),
}

impl Cli {
    /// Runs the command. Codes: 0 done, 1 failed, 2 not a valid request.
    pub fn run(self) -> ExitCode {
        tracing_subscriber::fmt()
            .with_env_filter(
                EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
            )
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
        let outcome = match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Sample(args) => sample::run(&args),
            Command::Download(args) => download::run(&args),
            Command::Evaluate(args) => evaluate::run(&args),
            Command::Reproduce(args) => reproduce::run(&args),
            Command::Bench(args) => bench::run(&args),
            Command::Info(args) => info::run(&args),
            Command::Convert(args) => convert::run(args),
            Command::Train(args) => train::run(&args),
            Command::Trace(args) => trace::run(&args),
            Command::TraceFilter(args) => trace::filter(&args),
            Command::TraceFrechet(args) => trace::frechet(&args),
            Command::TraceInception(args) => trace::inception(&args),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // `{:#}` prints the causes in one line: "cannot read x: no such file".
                eprintln!("error: {error:#}");
                let code = if error.is::<UsageError>() { 2 } else { 1 };
                ExitCode::from(code)
            }
        }
    }
}
