//! `var-dd train`: from nothing to a model.

mod pictures;
mod report;
mod stages;

use std::{fs, path::PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use var_dd_engine::{
    device::DtypeChoice,
    input_file,
    train::{
        Outcome, Watch, Workplace, decoder, judge,
        recipe::{PRESETS, Recipe},
        student, teacher,
        trajectory::{self, TrajectorySource},
        vae,
    },
};

use var_dd_protocol::MAX_SEED;

use self::stages::Stages;
use super::model;
use crate::outln;
use crate::{device_args::NetworkArgs, usage_error::UsageError};

/// `var-dd train`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
The stages in order: vae, teacher, trajectories, student, decoder; judge and score tell how \
good the outcome is. Each one goes on where it was, after a kill too, and does nothing when it \
is done.\n\n\
Examples:\n  \
var-dd train all --preset demo --output training --dtype bf16\n  \
var-dd train trajectories --model models/d16 --output pairs --pairs 1000 --device cuda\n  \
var-dd train recipe --preset demo > mine.json; var-dd train all --recipe mine.json --output mine")]
pub struct TrainArgs {
    #[command(subcommand)]
    stage: Stage,
}

#[derive(Clone, Debug, Subcommand)]
enum Stage {
    /// Draw the pictures that everything is learned from, with a contact sheet.
    Pictures(pictures::PicturesArgs),
    /// Train the tokenizer (VQ-VAE) on drawn pictures.
    Vae(RunArgs),
    /// Train the teacher (VAR) on tokens of drawn pictures.
    Teacher(RunArgs),
    /// Follow the teacher's flow from noise to tokens, in shards that an interruption does not
    /// lose.
    Trajectories(TrajectoriesArgs),
    /// Train the student from the teacher's weights on the trajectories.
    Student(RunArgs),
    /// Train the tokenizer's decoder on, at the end: sharper pictures of the same tokens.
    Decoder(RunArgs),
    /// Train the classifier that scores pictures.
    Judge(RunArgs),
    /// Score a model with the judge: share of pictures named right, and Fréchet distance, for every
    /// plan.
    Score(report::ScoreArgs),
    /// Test with χ² whether the flow's ends follow laws of a model's teacher.
    VerifyFlow(report::VerifyFlowArgs),
    /// Print a preset as JSON, to change and to give with --recipe.
    Recipe(RecipeArgs),
    /// Every stage in order, then the scores.
    All(RunArgs),
}

/// Which recipe.
#[derive(Args, Clone, Debug)]
struct RecipeArgs {
    /// A built-in recipe: `demo` (128×128, half a day on two cores) or `smoke` (a minute or two,
    /// learns next to nothing).
    #[arg(long, value_name = "NAME", default_value = "demo")]
    preset: String,
    /// A recipe of one's own, as `var-dd train recipe` prints one.
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    recipe: Option<PathBuf>,
    /// Seed of all randomness [default: the recipe's].
    #[arg(long, allow_negative_numbers = true, value_parser = model::seed)]
    seed: Option<u64>,
    /// Run two steps of each stage with just the data for them, to see that all of it works here.
    #[arg(long)]
    rehearse: bool,
}

/// A run and where it happens.
#[derive(Args, Clone, Debug)]
struct RunArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Directory and device of a run.
#[derive(Args, Clone, Debug)]
struct PlaceArgs {
    /// Directory of the run: checkpoints, figures, curves, contact sheets, and the model.
    #[arg(long, value_name = "DIR", default_value = "training")]
    output: PathBuf,
    #[command(flatten)]
    network: NetworkArgs,
    /// Begin the stage with the network in this directory instead of anew, to train on where
    /// another run stands: a model, or a stage's directory such as `training/vae`. Refused by
    /// `judge`, which begins anew, and `trajectories`, which are a teacher's.
    #[arg(long, value_name = "DIR")]
    start: Option<PathBuf>,
}

/// Flags of `var-dd train trajectories`.
#[derive(Args, Clone, Debug)]
struct TrajectoriesArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Take the teacher of this model instead of the run's; its scales, codewords and classes count
    /// then, and shards go to the output directory itself.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Pairs in all [default: the recipe's].
    #[arg(long, value_name = "COUNT")]
    pairs: Option<u64>,
    /// Pairs in a file [default: the recipe's].
    #[arg(long, value_name = "COUNT")]
    shard: Option<u64>,
    /// Pairs made together [default: the recipe's].
    #[arg(long, value_name = "COUNT")]
    bs: Option<usize>,
    /// Solver steps [default: the recipe's].
    #[arg(long, value_name = "COUNT")]
    flow_steps: Option<usize>,
    /// Strength of guidance at the last scale [default: the recipe's].
    #[arg(long, value_name = "NUMBER")]
    cfg: Option<f64>,
    /// Codewords kept [default: the recipe's].
    #[arg(long, value_name = "COUNT")]
    top_k: Option<u32>,
    /// Probability mass kept [default: the recipe's].
    #[arg(long, value_name = "MASS")]
    top_p: Option<f64>,
}

impl RecipeArgs {
    fn resolve(&self) -> anyhow::Result<Recipe> {
        let mut recipe = match &self.recipe {
            Some(path) => {
                let text =
                    fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                input_file::parse_json(&text).map_err(|reason| {
                    let file = path.display();
                    anyhow!("{file} is not a recipe: {reason}; `var-dd train recipe` prints one")
                })?
            }
            None => Recipe::preset(&self.preset).map_err(|_| {
                UsageError(format!(
                    "there is no preset {:?}; there are: {}",
                    self.preset,
                    PRESETS.join(", ")
                ))
            })?,
        };
        if let Some(seed) = self.seed {
            recipe.seed = seed;
        }
        if recipe.seed > MAX_SEED {
            let seed = recipe.seed;
            let reason = format!("the recipe's seed is {seed}; it must be at most {MAX_SEED}");
            return Err(UsageError(reason).into());
        }
        if self.rehearse {
            recipe = recipe.rehearsal();
        }
        recipe.validate().map_err(|error| UsageError(error.to_string()))?;
        Ok(recipe)
    }
}

impl PlaceArgs {
    /// Refuses `--start` where nothing begins with it.
    fn without_start(&self, why: &str) -> Result<(), UsageError> {
        match &self.start {
            Some(start) => {
                let start = start.display();
                Err(UsageError(format!("--start is {start}, and {why}; leave it out")))
            }
            None => Ok(()),
        }
    }

    fn open(&self) -> anyhow::Result<Workplace> {
        let ops = self.network.open()?;
        if self.network.dtype() == DtypeChoice::F16 {
            return Err(UsageError(
                "--dtype f16 cannot train: small gradients vanish in it; use bf16 or f32".into(),
            )
            .into());
        }
        fs::create_dir_all(&self.output)
            .with_context(|| format!("cannot make {}", self.output.display()))?;
        Ok(Workplace {
            directory: self.output.clone(),
            device: ops.device(),
            kind: self.network.dtype().kind(ops.device()),
            start: self.start.clone(),
            settings: ops.settings(),
        })
    }
}

/// Runs a stage.
///
/// # Errors
/// When the recipe is not sound, an earlier stage has not run, or the stage fails.
pub fn run(args: &TrainArgs) -> anyhow::Result<()> {
    match &args.stage {
        Stage::Pictures(args) => pictures::run(args),
        Stage::Recipe(args) => {
            outln!("{}", serde_json::to_string_pretty(&args.resolve()?)?)?;
            Ok(())
        }
        Stage::Score(args) => report::score(args),
        Stage::VerifyFlow(args) => report::verify_flow(args),
        Stage::Trajectories(args) => trajectories(args),
        Stage::Vae(args) => args.stage(vae::train),
        Stage::Teacher(args) => args.stage(teacher::train),
        Stage::Student(args) => args.stage(student::train),
        Stage::Decoder(args) => args.stage(decoder::train),
        Stage::Judge(args) => {
            args.place.without_start("a judge begins anew, so that it knows no run")?;
            args.stage(judge::train)
        }
        Stage::All(args) => all(args),
    }
}

type Train =
    fn(&Recipe, &Workplace, &mut dyn Watch) -> Result<Outcome, var_dd_engine::train::TrainError>;

impl RunArgs {
    fn stage(&self, train: Train) -> anyhow::Result<()> {
        let recipe = self.recipe.resolve()?;
        train(&recipe, &self.place.open()?, &mut Stages::new())?;
        Ok(())
    }
}

fn all(args: &RunArgs) -> anyhow::Result<()> {
    let recipe = args.recipe.resolve()?;
    let place = args.place.open()?;
    let mut progress = Stages::new();
    // A bundle that is not yet whole starts what it has; the decoder learns on from this run's VAE.
    let start = place.start.clone();
    let starting = |network: &str| {
        let has = |model: &PathBuf| model.join(network).with_extension("safetensors").is_file();
        Workplace { start: start.clone().filter(has), ..place.clone() }
    };
    if let Some(model) = &start
        && ["vae", "teacher", "student"].iter().all(|network| starting(network).start.is_none())
    {
        let model = model.display();
        return Err(UsageError(format!(
            "--start is {model}; it must be a directory with vae.safetensors, teacher.safetensors \
             or student.safetensors in it"
        ))
        .into());
    }
    vae::train(&recipe, &starting("vae"), &mut progress)?;
    teacher::train(&recipe, &starting("teacher"), &mut progress)?;
    let place = Workplace { start: None, ..place.clone() };
    trajectory::make(&recipe, &place, &mut progress)?;
    student::train(&recipe, &starting("student"), &mut progress)?;
    if recipe.decoder.is_some() {
        decoder::train(&recipe, &place, &mut progress)?;
    }
    judge::train(&recipe, &place, &mut progress)?;
    report::score_run(&recipe, &place, &mut progress)
}

fn trajectories(args: &TrajectoriesArgs) -> anyhow::Result<()> {
    let mut recipe = args.run.recipe.resolve()?;
    let settings = &mut recipe.trajectories;
    settings.pairs = args.pairs.unwrap_or(settings.pairs);
    settings.shard = args.shard.unwrap_or(settings.shard);
    settings.batch = args.bs.unwrap_or(settings.batch);
    settings.flow_steps = args.flow_steps.unwrap_or(settings.flow_steps);
    settings.guidance.cfg = args.cfg.unwrap_or(settings.guidance.cfg);
    settings.guidance.top_k = args.top_k.unwrap_or(settings.guidance.top_k);
    settings.guidance.top_p = args.top_p.unwrap_or(settings.guidance.top_p);
    let least = [
        ("--pairs", settings.pairs, 1),
        ("--shard", settings.shard, 1),
        ("--bs", settings.batch as u64, 1),
        ("--flow-steps", settings.flow_steps as u64, 2),
    ];
    if let Some((flag, value, least)) = least.iter().find(|(_, value, least)| value < least) {
        return Err(UsageError(format!("{flag} is {value}; it must be at least {least}")).into());
    }
    settings.guidance.validate().map_err(|error| UsageError(error.to_string()))?;
    args.run.place.without_start("trajectories are a teacher's: of the run, or of --model")?;
    let place = args.run.place.open()?;
    let mut progress = Stages::new();
    match &args.model {
        Some(model) => {
            let source = TrajectorySource::open(model, &recipe.trajectories, recipe.seed, &place)?;
            source.fill(&place.directory, &mut progress)?;
            Ok(())
        }
        None => {
            trajectory::make(&recipe, &place, &mut progress)?;
            Ok(())
        }
    }
}
