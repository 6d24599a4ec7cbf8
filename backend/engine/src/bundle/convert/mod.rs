//! From released checkpoints to a bundle (`var-dd convert`).
//!
//! Every size comes from the tensors; names and shapes are checked by the networks' own loading, so
//! that what is written is what can be opened. Nothing is written unless everything is.

mod network;
mod place;
mod sizes;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use self::network::Role;
use self::{network::Network, sizes::Model};
use super::{checkpoint::CheckpointError, weight_file::WeightFile};
use crate::{
    config::{Config, ConfigError, published},
    input_file::shown,
    net::{student::Student, teacher::Teacher, vae::Vae},
    weights::WeightsError,
};

/// Which of the weights of a training checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrainedWeights {
    /// The exponential moving average (`trainer.ema_parameters`), with which the published scores
    /// were made.
    #[default]
    Ema,
    /// The weights as last trained (`trainer.var_wo_ddp`).
    Raw,
}

/// What to convert.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// Checkpoint of the student.
    pub student: PathBuf,
    /// Checkpoint of the VAE.
    pub vae: PathBuf,
    /// Checkpoint of the teacher, if the bundle is to carry it.
    pub teacher: Option<PathBuf>,
    /// Directory to make. It must not exist, or be empty.
    pub output: PathBuf,
    /// Name of the model; the student file's stem if absent.
    pub name: Option<String>,
    /// Sides of the scales; read off the files if absent.
    pub patch_nums: Option<Vec<i64>>,
    /// Groups of channels that the norms of the VAE take together, which no tensor shows; those of
    /// the released code, 32, if absent.
    pub norm_groups: Option<i64>,
    /// Weights of a training checkpoint.
    pub weights: TrainedWeights,
    /// Class names; ImageNet's for 1,000 classes, else numbers, if absent.
    pub classes: Option<Vec<String>>,
}

/// A bundle that has been made.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// Its configuration.
    pub config: Config,
    /// What was taken off around the weights, a sentence for each file.
    pub notes: Vec<String>,
}

/// Checkpoints that do not become a bundle. Nothing has been written.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A checkpoint or one of its tensors cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A weight that is infinite or no number.
    #[error(
        "{origin}: {} {shape:?} holds a number that is not finite ({value} at {index:?}): the \
         training that made it has failed, or the file is damaged; pictures drawn with it would be \
         black",
        shown(.name)
    )]
    NotFinite {
        /// The file.
        origin: String,
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Where in it the first such number is.
        index: Vec<usize>,
        /// That number.
        value: f64,
    },
    /// A checkpoint holds something else than weights.
    #[error("{path} {reason}")]
    Contents {
        /// The file.
        path: String,
        /// What it holds instead.
        reason: String,
    },
    /// Tensors that do not fit the networks, by name.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Weights(Vec<WeightsError>),
    /// A size that no tensor shows.
    #[error(
        "the {what} of the model cannot be told: tensor {looked_at} is missing in {path}; there \
         are: {names}"
    )]
    Unknown {
        /// Which size.
        what: &'static str,
        /// Where it was looked for.
        looked_at: String,
        /// The file.
        path: String,
        /// The first few names that it holds.
        names: String,
    },
    /// A size that no model has.
    #[error("the {what} is {value}; more than {limit} is absurd")]
    Absurd {
        /// Which size.
        what: &'static str,
        /// Its value.
        value: i64,
        /// The bound.
        limit: i64,
    },
    /// Norms of the VAE that no level can have.
    #[error(
        "the norms of a VAE of {channels} channels cannot take them in {groups} groups; give the \
         number that it was trained with, which divides {channels}, by --norm-groups"
    )]
    NormGroups {
        /// Channels of its first level.
        channels: i64,
        /// The groups that were asked for, or those of the released code.
        groups: i64,
    },
    /// Scales that are unknown or contradict each other.
    #[error("{0}")]
    Scales(String),
    /// A configuration that no model has.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Class names that are too few or too many.
    #[error("{found} class names are given, and the model has {expected} classes; each needs one")]
    Classes {
        /// Names given.
        found: usize,
        /// Classes of the model.
        expected: i64,
    },
    /// Where the bundle should go.
    #[error("{path}: {reason}")]
    Output {
        /// The directory.
        path: String,
        /// What is in the way.
        reason: String,
    },
}

/// The scales that everything agrees on.
fn scales(
    conversion: &Conversion,
    model: Model<'_>,
    found: &[(&str, Vec<i64>)],
) -> Result<Vec<i64>, ConvertError> {
    let given = conversion.patch_nums.iter().map(|sides| ("--patch-nums", sides.clone()));
    let sources: Vec<(&str, Vec<i64>)> = given.chain(found.iter().cloned()).collect();
    if let Some(pair) = sources.windows(2).find(|pair| pair[0].1 != pair[1].1) {
        return Err(ConvertError::Scales(format!(
            "the scales are {:?} by {} and {:?} by {}",
            pair[0].1, pair[0].0, pair[1].1, pair[1].0
        )));
    }
    let published: i64 = published::SCALES.iter().map(|side| side * side).sum();
    let sides = match sources.into_iter().next() {
        Some((_, sides)) => sides,
        None => match model.student.shapes.get("pos_1LC").map(Vec::as_slice) {
            Some(&[_, positions, _]) if positions == published + 1 => published::SCALES.to_vec(),
            Some(shape) => {
                return Err(ConvertError::Scales(format!(
                    "the scales are in none of the files (pos_1LC is {shape:?}, lvl_1L is absent \
                     or no list of levels); give them, as in --patch-nums 1,2,3,4"
                )));
            }
            None => {
                return Err(model.student.unknown("scales", "pos_1LC"));
            }
        },
    };
    model.check_tokens(&sides)?;
    Ok(sides)
}

/// Reads a file of one network's weights to its end: whether it holds them, each tensor whole and
/// of finite numbers. Whether they fit another network is told by [`convert`].
///
/// # Errors
/// When the file cannot be read, is damaged, or holds something else.
pub fn check_weights(path: &Path, role: Role) -> Result<(), ConvertError> {
    let file = WeightFile::open(path)?;
    let network = Network::find(&file, role, TrainedWeights::Ema)?;
    network.tensors.keys().try_for_each(|name| network.read(name).map(drop))
}

/// Converts checkpoints to a bundle.
///
/// # Errors
/// When a file cannot be read, does not hold exactly the network's tensors, or contradicts another
/// one; and when the output cannot be written or holds something already. Nothing is written then.
pub fn convert(conversion: &Conversion) -> Result<Converted, ConvertError> {
    let output = |reason: String| ConvertError::Output {
        path: conversion.output.display().to_string(),
        reason,
    };
    place::check(&conversion.output).map_err(output)?;
    let open = |path: &PathBuf| WeightFile::open(path);
    let student = open(&conversion.student)?;
    let vae = open(&conversion.vae)?;
    let teacher = conversion.teacher.as_ref().map(open).transpose()?;
    let find = |file, role| Network::find(file, role, conversion.weights);
    let student = find(&student, Role::Student)?;
    let vae = find(&vae, Role::Vae)?;
    let teacher = teacher.as_ref().map(|file| find(file, Role::Teacher)).transpose()?;
    let networks = [Some(&student), Some(&vae), teacher.as_ref()];
    let notes = networks.into_iter().flatten().filter_map(|network| {
        let taken = network.wrapping.as_ref()?;
        Some(format!("{}: took {taken}", network.of().origin))
    });
    let notes = notes.collect();
    let model =
        Model { student: student.of(), vae: vae.of(), teacher: teacher.as_ref().map(Network::of) };

    let mut found = Vec::new();
    if let Some(sides) = &student.sides {
        // The student's first level is the class token.
        match sides.as_slice() {
            [1, rest @ ..] if !rest.is_empty() => {
                found.push(("the student's lvl_1L", rest.to_vec()))
            }
            _ => {}
        }
    }
    if let Some(sides) = teacher.as_ref().and_then(|teacher| teacher.sides.clone()) {
        found.push(("the teacher's lvl_1L", sides));
    }
    // Of a checkpoint in several files, each lacks what shows some size.
    let told = |error: ConvertError| match error {
        ConvertError::Unknown { .. } | ConvertError::Scales(_) => {
            networks.into_iter().flatten().find_map(Network::as_part).unwrap_or(error)
        }
        other => other,
    };
    let patch_nums = scales(conversion, model, &found).map_err(told)?;
    let mut sizes = model.sizes().map_err(told)?;
    if let Some(groups) = conversion.norm_groups {
        sizes.vae.norm_groups = groups;
    }
    let (channels, groups) = (sizes.vae.channels, sizes.vae.norm_groups);
    if groups < 1 || channels % groups != 0 {
        return Err(ConvertError::NormGroups { channels, groups });
    }
    let stem = conversion.student.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let mut config = Config {
        name: conversion.name.clone().or(stem).unwrap_or_default(),
        patch_nums,
        vocabulary: sizes.vocabulary,
        latent_channels: sizes.latent_channels,
        vae: sizes.vae,
        transformer: sizes.transformer,
        num_classes: sizes.num_classes,
        classes: Vec::new(),
        plans: Vec::new(),
    };
    config.classes = match &conversion.classes {
        Some(names) if names.len() as i64 != config.num_classes => {
            return Err(ConvertError::Classes { found: names.len(), expected: config.num_classes });
        }
        Some(names) => names.clone(),
        None => published::class_names(config.num_classes),
    };
    config.plans = published::plans(&config, teacher.is_some());
    config.validate()?;

    let checked = [
        Some((
            "student",
            &student,
            student.check(|weights| drop(Student::load(&weights.root(), &config))),
        )),
        Some(("vae", &vae, vae.check(|weights| drop(Vae::load(&weights.root(), &config))))),
        teacher.as_ref().map(|teacher| {
            (
                "teacher",
                teacher,
                teacher.check(|weights| drop(Teacher::load(&weights.root(), &config))),
            )
        }),
    ];
    let mut files = Vec::new();
    let mut refused = Vec::new();
    for (name, network, outcome) in checked.into_iter().flatten() {
        match outcome {
            Ok(mut names) => {
                // Wide numbers first: every tensor begins at a multiple of its element's size.
                names
                    .sort_by_key(|name| std::cmp::Reverse(network.tensors[name].dtype().bitsize()));
                files.push((name, network, names));
            }
            Err(error) => match network.as_part() {
                Some(part) => return Err(part),
                None => refused.push(error),
            },
        }
    }
    if !refused.is_empty() {
        return Err(ConvertError::Weights(refused));
    }
    for (_, network, names) in &files {
        network.check_length(names)?;
    }
    place::write(&conversion.output, &config, &files)?;
    Ok(Converted { config, notes })
}
