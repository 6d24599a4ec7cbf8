//! `var-dd convert`: a model directory from released checkpoints.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use var_dd_engine::{
    bundle::convert::{Conversion, TrainedWeights, convert},
    input_file,
};

use crate::usage_error::UsageError;
use crate::{outln, tell};

/// Flags of `var-dd convert`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
The checkpoints are read as data: nothing in them is ever run, and what is not needed is not \
looked at. Every size is read off the tensors, but for --norm-groups. Unknown, missing and \
misshaped tensors are refused by name, and then nothing is written.\n\n\
Example:\n  \
var-dd convert --student var-d16.pth --vae vae_ch160v4096z32.pth --teacher var_d16.pth --output models/d16")]
pub struct ConvertArgs {
    /// Checkpoint of the student: a training checkpoint (`trainer.ema_parameters`) or a plain state
    /// dict.
    #[arg(long, value_name = "FILE")]
    student: PathBuf,
    /// Checkpoint of the VAE.
    #[arg(long, value_name = "FILE")]
    vae: PathBuf,
    /// Checkpoint of the teacher (VAR), for plans in which it draws.
    #[arg(long, value_name = "FILE")]
    teacher: Option<PathBuf>,
    /// Directory to make; it must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Name shown to people [default: name of the student's file].
    #[arg(long)]
    name: Option<String>,
    /// Sides of the scales, as in 1,2,3,4 [default: read off the files, else the published ten].
    #[arg(long, value_name = "SIDE,…", value_delimiter = ',', allow_hyphen_values = true)]
    patch_nums: Option<Vec<i64>>,
    /// Groups of channels that the norms of the VAE take together, which no tensor shows
    /// [default: the released 32].
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    norm_groups: Option<i64>,
    /// Which weights of a training checkpoint.
    #[arg(long, value_enum, default_value_t = WeightsArg::Ema)]
    weights: WeightsArg,
    /// File of class names, one a line, in the order of their numbers [default: ImageNet's for
    /// 1,000 classes, else `class 0`, `class 1`, …].
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WeightsArg {
    /// The moving average, with which the published scores were made.
    Ema,
    /// The weights as last trained.
    Raw,
}

/// Converts.
///
/// # Errors
/// When a checkpoint is not whole or not the network's, or the output is in use; nothing is written
/// then.
pub fn run(args: ConvertArgs) -> anyhow::Result<()> {
    if let Some(sides) = &args.patch_nums {
        let increasing = sides.windows(2).all(|pair| pair[0] < pair[1]);
        if sides.len() < 2 || sides[0] != 1 || !increasing {
            let reason = format!(
                "--patch-nums is {sides:?}; it must be two or more increasing sides, the first one \
                 1"
            );
            return Err(UsageError(reason).into());
        }
    }
    if args.name.as_ref().is_some_and(|name| name.trim().is_empty()) {
        return Err(UsageError("--name is empty; give the name that people see".into()).into());
    }
    let classes = args.classes.as_ref().map(|path| -> anyhow::Result<Vec<String>> {
        let text = input_file::read_text(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        // Some editors begin a file with a mark of its encoding.
        let text = text.trim_start_matches('\u{feff}');
        let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        match names.iter().position(String::is_empty) {
            Some(line) => {
                anyhow::bail!(
                    "line {} of {} is empty; each line names a class",
                    line + 1,
                    path.display()
                )
            }
            None => Ok(names),
        }
    });
    let converted = convert(&Conversion {
        student: args.student,
        vae: args.vae,
        teacher: args.teacher,
        output: args.output.clone(),
        name: args.name,
        patch_nums: args.patch_nums,
        norm_groups: args.norm_groups,
        weights: match args.weights {
            WeightsArg::Ema => TrainedWeights::Ema,
            WeightsArg::Raw => TrainedWeights::Raw,
        },
        classes: classes.transpose()?,
    })?;
    for note in &converted.notes {
        tell!("note: {note}");
    }
    let config = converted.config;
    outln!(
        "{}: {:?}, scales {:?}, depth {}, {} codewords, {} classes",
        args.output.display(),
        config.name,
        config.patch_nums,
        config.transformer.depth,
        config.vocabulary,
        config.num_classes
    )?;
    Ok(())
}
