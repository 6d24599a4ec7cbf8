//! From released checkpoints to a bundle (`var-dd convert`).
//!
//! Every size comes from the tensors; names and shapes are checked by the networks' own loading, so
//! that what is written is what can be opened. Nothing is written unless everything is.

mod place;
mod sizes;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf};

use tch::{Device, Kind, Tensor};

use self::sizes::{Dictionary, Model, Shapes, sides_of_levels};
use super::{
    checkpoint::{Checkpoint, CheckpointError, CheckpointTensor, Dtype, Item},
    config::{Config, ConfigError},
    published,
    weights::{Problem, Weights, WeightsError, is_training_only},
};
use crate::net::{student::Student, teacher::Teacher, vae::Vae};

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
    /// Weights of a training checkpoint.
    pub weights: TrainedWeights,
    /// Class names; ImageNet's for 1,000 classes, else numbers, if absent.
    pub classes: Option<Vec<String>>,
}

/// Checkpoints that do not become a bundle. Nothing has been written.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A checkpoint or one of its tensors cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
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

/// The weights of one network in a checkpoint.
struct Network<'a> {
    origin: String,
    /// Length of the file.
    length: u64,
    tensors: BTreeMap<String, CheckpointTensor<'a>>,
    shapes: Shapes,
    /// Names of entries that are no tensors.
    others: Vec<String>,
    /// Sides of the scales, if the file says them.
    sides: Option<Vec<i64>>,
}

impl<'a> Network<'a> {
    /// Finds the state dict: the checkpoint itself, or `trainer.<key>` for the first of `keys` that
    /// is there.
    fn find(checkpoint: &'a Checkpoint, keys: &[&str], advice: &str) -> Result<Self, ConvertError> {
        let root = checkpoint.root();
        let contents = |reason: String| ConvertError::Contents {
            path: checkpoint.path().display().to_string(),
            reason,
        };
        let trainer = root.get("trainer").and_then(Item::entries);
        let entries = match &trainer {
            None => root.entries(),
            Some(trainer) => {
                let find = |key| trainer.iter().find(|(name, _)| name == key);
                let (_, found) = keys.iter().find_map(find).ok_or_else(|| {
                    let names = some_names(trainer.iter().map(|(name, _)| *name));
                    contents(format!("has no trainer.{}{advice}; trainer has: {names}", keys[0]))
                })?;
                found.entries()
            }
        };
        let entries = entries
            .ok_or_else(|| contents("holds no state dict (a dictionary of tensors)".into()))?;
        let mut network = Self {
            origin: checkpoint.path().display().to_string(),
            length: checkpoint.length(),
            tensors: BTreeMap::new(),
            shapes: Shapes::new(),
            others: Vec::new(),
            sides: None,
        };
        for (name, item) in entries {
            if is_training_only(name) {
                continue;
            }
            match item.tensor(name)? {
                Some(tensor) => {
                    let shape = tensor.shape().iter().map(|&size| size as i64).collect();
                    network.shapes.insert(name.to_owned(), shape);
                    network.tensors.insert(name.to_owned(), tensor);
                }
                None => network.others.push(name.to_owned()),
            }
        }
        if network.tensors.is_empty() {
            let there = match network.others.len() {
                0 => "it is empty".to_owned(),
                _ => {
                    format!("there are: {}", some_names(network.others.iter().map(String::as_str)))
                }
            };
            return Err(contents(format!("holds no tensors where the weights should be; {there}")));
        }
        network.sides = levels(root, trainer.as_deref());
        Ok(network)
    }

    /// Checks names and shapes by letting the network ask for them: names in the order of asking.
    fn check(&self, ask: impl FnOnce(&Weights)) -> Result<Vec<String>, WeightsError> {
        let stand_in = |(name, tensor): (&String, &CheckpointTensor<'_>)| {
            let is_weight = matches!(tensor.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16);
            let kind = if is_weight { Kind::Float } else { Kind::Int64 };
            // One number, whatever the shape: the bytes stay in the file.
            let one = Tensor::zeros([], (kind, Device::Cpu));
            (name.clone(), one.expand(self.shapes[name].as_slice(), false))
        };
        let tensors = self.tensors.iter().map(stand_in).collect();
        let weights = Weights::from_tensors(self.origin.clone(), tensors, Device::Cpu, Kind::Float);
        {
            let _no_grad = tch::no_grad_guard();
            ask(&weights);
        }
        let mut problems: Vec<Problem> = self
            .others
            .iter()
            .map(|name| Problem::Kind { name: name.clone(), found: "no tensor".into() })
            .collect();
        match weights.finish() {
            Ok(asked) if problems.is_empty() => {
                Ok(asked.into_iter().map(|(name, _)| name).collect())
            }
            Ok(_) => Err(WeightsError::Mismatch { origin: self.origin.clone(), problems }),
            Err(WeightsError::Mismatch { origin, problems: found }) => {
                // What is there but is no tensor is said once.
                let found = found.into_iter().filter(
                    |problem| !matches!(problem, Problem::Missing { name, .. } if self.others.contains(name)),
                );
                problems.extend(found.map(|problem| self.name_kind(problem)));
                Err(WeightsError::Mismatch { origin, problems })
            }
            Err(other) => Err(other),
        }
    }

    /// Names and shapes, and where they are from.
    fn of(&self) -> Dictionary<'_> {
        Dictionary { origin: &self.origin, shapes: &self.shapes }
    }

    /// Names the element type in the file, not the stand-in's.
    fn name_kind(&self, problem: Problem) -> Problem {
        match problem {
            Problem::Kind { name, .. } => {
                let found = self
                    .tensors
                    .get(&name)
                    .map(|tensor| format!("{:?}", tensor.dtype()).to_lowercase());
                Problem::Kind { found: found.unwrap_or_default(), name }
            }
            other => other,
        }
    }

    /// Refuses a small file whose tensors share their numbers to become a huge one.
    fn check_length(&self, names: &[String]) -> Result<(), ConvertError> {
        let sum: u64 = names.iter().map(|name| self.tensors[name].byte_length() as u64).sum();
        let limit = self.length.saturating_mul(2).saturating_add(64 << 20);
        if sum > limit {
            return Err(ConvertError::Contents {
                path: self.origin.clone(),
                reason: format!(
                    "has {} bytes, and its tensors would take {sum}: they share their numbers",
                    self.length
                ),
            });
        }
        Ok(())
    }
}

/// The first few of some names, in words.
fn some_names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.take(SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown}, and {more} more") } else { shown }
}

/// Refuses the teacher's checkpoint in the student's place, and the other way round.
fn check_roles(student: &Network<'_>, teacher: Option<&Network<'_>>) -> Result<(), ConvertError> {
    // What a student has and VAR has not.
    const OWN: [&str; 3] = ["n_d_embed.", "layerwise_n_d_embed.", "final_layer_conti."];
    let is_student = |network: &Network<'_>| {
        network.shapes.keys().any(|name| OWN.iter().any(|own| name.starts_with(own)))
    };
    let wrong = |network: &Network<'_>, reason: &str| {
        Err(ConvertError::Contents { path: network.origin.clone(), reason: reason.into() })
    };
    if student.shapes.contains_key("pos_1LC") && !is_student(student) {
        return wrong(
            student,
            "holds no student: n_d_embed.weight and final_layer_conti.linear.weight are missing, \
             as in a teacher's checkpoint",
        );
    }
    match teacher.filter(|teacher| is_student(teacher)) {
        Some(teacher) => wrong(
            teacher,
            "holds no teacher: n_d_embed.weight or final_layer_conti is unknown there, as in a \
             student's checkpoint",
        ),
        None => Ok(()),
    }
}

/// The sides of the scales from `lvl_1L`, wherever in the file it is.
fn levels(root: Item<'_>, trainer: Option<&[(&str, Item<'_>)]>) -> Option<Vec<i64>> {
    let nested = trainer.into_iter().flatten().filter_map(|(_, item)| item.get("lvl_1L"));
    let found = nested.chain(root.get("lvl_1L")).next()?;
    // A buffer that training alone uses: what is no list of levels is no error.
    let tensor = found.tensor("lvl_1L").ok()??;
    let bytes = tensor.read().ok()?;
    let levels: Vec<i64> = match tensor.dtype() {
        Dtype::I64 => {
            bytes.as_chunks::<8>().0.iter().map(|&level| i64::from_le_bytes(level)).collect()
        }
        Dtype::I32 => {
            bytes.as_chunks::<4>().0.iter().map(|&level| i32::from_le_bytes(level).into()).collect()
        }
        _ => return None,
    };
    sides_of_levels(&levels)
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

/// Converts checkpoints to a bundle.
///
/// # Errors
/// When a file cannot be read, does not hold exactly the network's tensors, or contradicts another
/// one; and when the output cannot be written or holds something already. Nothing is written then.
pub fn convert(conversion: &Conversion) -> Result<Config, ConvertError> {
    let output = |reason: String| ConvertError::Output {
        path: conversion.output.display().to_string(),
        reason,
    };
    place::check(&conversion.output).map_err(output)?;
    let open = |path: &PathBuf| Checkpoint::open(path);
    let student = open(&conversion.student)?;
    let vae = open(&conversion.vae)?;
    let teacher = conversion.teacher.as_ref().map(open).transpose()?;
    let (wanted, advice) = match conversion.weights {
        TrainedWeights::Ema => {
            ("ema_parameters", " (use --weights raw for the weights as last trained)")
        }
        TrainedWeights::Raw => ("var_wo_ddp", ""),
    };
    let student = Network::find(&student, &[wanted], advice)?;
    let vae = Network::find(&vae, &["vae_local"], "")?;
    // The teacher's own training keeps no average.
    let teacher = teacher
        .as_ref()
        .map(|file| Network::find(file, &[wanted, "var_wo_ddp"], ""))
        .transpose()?;
    check_roles(&student, teacher.as_ref())?;
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
    let patch_nums = scales(conversion, model, &found)?;
    let sizes = model.sizes()?;
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
            Err(error) => refused.push(error),
        }
    }
    if !refused.is_empty() {
        return Err(ConvertError::Weights(refused));
    }
    for (_, network, names) in &files {
        network.check_length(names)?;
    }
    place::write(&conversion.output, &config, &files)?;
    Ok(config)
}
