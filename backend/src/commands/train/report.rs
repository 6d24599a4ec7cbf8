//! `var-dd train score` and `var-dd train verify-flow`: what came of the training.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::{Args, value_parser};
use tch::Kind;
use var_dd_engine::{
    ops::Ops,
    sample::plan::Guidance,
    train::{
        Workplace,
        flow::DEFAULT_STEPS,
        product::model_directory,
        recipe::{Recipe, TrajectoryRecipe},
        score::{self, Score},
        verify,
    },
};

use super::{
    super::model::{default_model, seed},
    stages::Stages,
};
use crate::device_args::{DeviceArgs, NetworkArgs};
use crate::{out, outln, usage_error::UsageError};

/// Pictures of each way in the scores of a whole run.
const RUN_PICTURES: u32 = 1600;

/// Flags of `var-dd train score`.
#[derive(Args, Clone, Debug)]
pub(super) struct ScoreArgs {
    /// Directory of the model [default: the demo model].
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Directory of the judge, as `var-dd train judge` makes it.
    #[arg(long, value_name = "DIR", default_value = "training/judge")]
    judge: PathBuf,
    /// Pictures of each way; classes take turns.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = RUN_PICTURES,
        value_parser = value_parser!(u32).range(2..=1_000_000),
    )]
    count: u32,
    /// Seed of all randomness.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = seed)]
    seed: u64,
    /// Write the scores to this file as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    network: NetworkArgs,
}

/// Flags of `var-dd train verify-flow`.
#[derive(Args, Clone, Debug)]
pub(super) struct VerifyFlowArgs {
    /// Directory of a model with a teacher [default: the demo model].
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Class of the picture on whose way the laws are.
    #[arg(long, default_value_t = 0)]
    class: i64,
    /// Noise vectors per law.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 100_000,
        value_parser = value_parser!(u64).range(100..=100_000_000),
    )]
    draws: u64,
    /// Numbers of solver steps to try.
    #[arg(
        long,
        value_name = "STEPS,…",
        value_delimiter = ',',
        default_values_t = [5, 10, 20, 30, 40, DEFAULT_STEPS],
    )]
    steps: Vec<usize>,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = seed)]
    seed: u64,
    /// Strength of guidance at the last scale.
    #[arg(long, value_name = "NUMBER", default_value_t = 2.0)]
    cfg: f64,
    /// Codewords kept; 0 keeps all.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    top_k: u32,
    /// Probability mass kept; 0 keeps all.
    #[arg(long, value_name = "MASS", default_value_t = 0.95)]
    top_p: f64,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A place without a run.
fn workplace(ops: &Ops, kind: Kind) -> Workplace {
    Workplace {
        directory: PathBuf::new(),
        device: ops.device(),
        kind,
        start: None,
        settings: ops.settings(),
    }
}

/// Scores a model.
///
/// # Errors
/// When model or judge cannot be used, or are of other pictures than each other.
pub(super) fn score(args: &ScoreArgs) -> anyhow::Result<()> {
    let ops = args.network.open()?;
    let kind = args.network.dtype().kind(ops.device());
    let place = workplace(&ops, kind);
    let model = args.model.clone().unwrap_or_else(default_model);
    let scores = score::score(
        &model,
        &args.judge,
        args.count as usize,
        args.seed,
        &place,
        &mut Stages::new(),
    )?;
    out!("{}", table(&scores))?;
    if let Some(path) = &args.json {
        fs::write(path, json(&scores)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Scores what a whole run made.
pub(super) fn score_run(
    recipe: &Recipe,
    place: &Workplace,
    progress: &mut Stages,
) -> anyhow::Result<()> {
    let model = model_directory(&place.directory);
    let count = (RUN_PICTURES as usize).min(recipe.judge.held_out);
    let scores =
        score::score(&model, &place.directory.join("judge"), count, recipe.seed, place, progress)?;
    out!("{}", table(&scores))?;
    let path = place.directory.join("scores.json");
    fs::write(&path, json(&scores)?).with_context(|| format!("cannot write {}", path.display()))?;
    outln!("model: {}", model.display())?;
    Ok(())
}

fn table(scores: &[Score]) -> String {
    let mut text = String::from("| way | named right | Fréchet distance |\n|---|---|---|\n");
    for Score { way, named_right, frechet } in scores {
        text += &format!("| {way} | {:.1} % | {frechet:.3} |\n", 100.0 * named_right);
    }
    text
}

fn json(scores: &[Score]) -> anyhow::Result<String> {
    let rows: Vec<_> = scores
        .iter()
        .map(|score| serde_json::json!({"way": score.way, "named_right": score.named_right, "frechet": score.frechet}))
        .collect();
    Ok(serde_json::to_string_pretty(&rows)? + "\n")
}

/// Tests the flow on a model.
///
/// # Errors
/// When the model has no teacher or the class is out of range.
pub(super) fn verify_flow(args: &VerifyFlowArgs) -> anyhow::Result<()> {
    let place = workplace(&args.device.open()?, Kind::Float);
    let guidance = Guidance { cfg: args.cfg, top_k: args.top_k, top_p: args.top_p };
    guidance.validate().map_err(|error| UsageError(error.to_string()))?;
    let recipe =
        TrajectoryRecipe { pairs: 1, shard: 1, batch: 1, flow_steps: DEFAULT_STEPS, guidance };
    let model = args.model.clone().unwrap_or_else(default_model);
    outln!(
        "| scale | codewords | entropy | steps | χ² | cells | p |\n|---|---|---|---|---|---|---|"
    )?;
    let mut printed = Ok(());
    let mut print = |check: &verify::LawCheck| {
        for (steps, outcome) in &check.outcomes {
            let row = outln!(
                "| {} | {} | {:.2} | {steps} | {:.1} | {} | {:.4} |",
                check.scale,
                check.codes,
                check.entropy,
                outcome.statistic,
                outcome.cells,
                outcome.p
            );
            printed = std::mem::replace(&mut printed, Ok(())).and(row);
        }
    };
    let trial = verify::Trial {
        class: args.class,
        seed: args.seed,
        draws: args.draws,
        steps: args.steps.clone(),
    };
    verify::verify_flow(&model, &recipe, &trial, &place, &mut print)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_become_a_table_and_json() {
        let scores = [Score { way: "1 step".into(), named_right: 0.9137, frechet: 1.23456 }];
        assert!(table(&scores).ends_with("| 1 step | 91.4 % | 1.235 |\n"));
        let value: serde_json::Value = serde_json::from_str(&json(&scores).unwrap()).unwrap();
        assert_eq!(value[0]["named_right"], 0.9137);
    }
}
