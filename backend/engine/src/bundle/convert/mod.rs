//! From released checkpoints to a bundle (`var-dd convert`).
//!
//! Every size comes from the tensors; names and shapes are checked by the networks' own loading, so that what is written
//! is what can be opened. Nothing is written unless everything is.

mod presets;
mod sizes;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use safetensors::tensor::{Metadata, TensorInfo};
use tch::{Device, Kind, Tensor};

use self::sizes::{Model, PUBLISHED_SCALES, Shapes, sides_of_levels};
use super::{
    checkpoint::{Checkpoint, CheckpointError, CheckpointTensor, Dtype, Item},
    config::{Config, ConfigError},
    weights::{Problem, Weights, WeightsError, is_training_only},
};
use crate::net::{student::Student, teacher::Teacher, vae::Vae};

/// Which of the weights of a training checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The exponential moving average (`trainer.ema_parameters`), with which the published scores were made.
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
    pub weights: Choice,
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
    #[error("the {what} of the model cannot be told: tensor {looked_at} is missing")]
    Unknown {
        /// Which size.
        what: &'static str,
        /// Where it was looked for.
        looked_at: String,
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
    #[error("this is not a model that can run: {0}")]
    Config(#[from] ConfigError),
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
    /// Finds the state dict: the checkpoint itself, or `trainer.<key>` for the first of `keys` that is there.
    fn find(checkpoint: &'a Checkpoint, keys: &[&str], advice: &str) -> Result<Self, ConvertError> {
        let root = checkpoint.root();
        let contents =
            |reason: String| ConvertError::Contents { path: checkpoint.path().display().to_string(), reason };
        let trainer = root.get("trainer").and_then(Item::entries);
        let entries = match &trainer {
            None => root.entries(),
            Some(trainer) => {
                let find = |key| trainer.iter().find(|(name, _)| name == key);
                let (_, found) = keys.iter().find_map(find).ok_or_else(|| {
                    let names: Vec<_> = trainer.iter().map(|(name, _)| *name).collect();
                    contents(format!("has no trainer.{}{advice}; trainer has: {}", keys[0], names.join(", ")))
                })?;
                found.entries()
            }
        };
        let entries =
            entries.ok_or_else(|| contents("holds no state dict (a dictionary of tensors)".into()))?;
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
            return Err(contents("holds no tensors where the weights should be".into()));
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
            Ok(asked) if problems.is_empty() => Ok(asked.into_iter().map(|(name, _)| name).collect()),
            Ok(_) => Err(WeightsError::Mismatch { origin: self.origin.clone(), problems }),
            Err(WeightsError::Mismatch { origin, problems: found }) => {
                problems.extend(found.into_iter().map(|problem| self.name_kind(problem)));
                Err(WeightsError::Mismatch { origin, problems })
            }
            Err(other) => Err(other),
        }
    }

    /// Names the element type in the file, not the stand-in's.
    fn name_kind(&self, problem: Problem) -> Problem {
        match problem {
            Problem::Kind { name, .. } => {
                let found =
                    self.tensors.get(&name).map(|tensor| format!("{:?}", tensor.dtype()).to_lowercase());
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

/// The sides of the scales from `lvl_1L`, wherever in the file it is.
fn levels(root: Item<'_>, trainer: Option<&[(&str, Item<'_>)]>) -> Option<Vec<i64>> {
    let nested = trainer.into_iter().flatten().filter_map(|(_, item)| item.get("lvl_1L"));
    let found = nested.chain(root.get("lvl_1L")).next()?;
    // A buffer that training alone uses: what is no list of levels is no error.
    let tensor = found.tensor("lvl_1L").ok()??;
    let bytes = tensor.read().ok()?;
    let levels: Vec<i64> = match tensor.dtype() {
        Dtype::I64 => bytes.as_chunks::<8>().0.iter().map(|&level| i64::from_le_bytes(level)).collect(),
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
    let published: i64 = PUBLISHED_SCALES.iter().map(|side| side * side).sum();
    let sides = match sources.into_iter().next() {
        Some((_, sides)) => sides,
        None => match model.student.get("pos_1LC").map(Vec::as_slice) {
            Some(&[_, positions, _]) if positions == published + 1 => PUBLISHED_SCALES.to_vec(),
            Some(shape) => {
                return Err(ConvertError::Scales(format!(
                    "the scales are in none of the files (pos_1LC is {shape:?}, lvl_1L is absent or no list of levels); give them, as in --patch-nums 1,2,3,4"
                )));
            }
            None => {
                return Err(ConvertError::Unknown { what: "scales", looked_at: "pos_1LC".into() });
            }
        },
    };
    model.check_tokens(&sides)?;
    Ok(sides)
}

/// Converts checkpoints to a bundle.
///
/// # Errors
/// When a file cannot be read, does not hold exactly the network's tensors, or contradicts another one; and when the
/// output cannot be written or holds something already. Nothing is written then.
pub fn convert(conversion: &Conversion) -> Result<Config, ConvertError> {
    let output =
        |reason: String| ConvertError::Output { path: conversion.output.display().to_string(), reason };
    check_output(&conversion.output).map_err(output)?;
    let open = |path: &PathBuf| Checkpoint::open(path);
    let student = open(&conversion.student)?;
    let vae = open(&conversion.vae)?;
    let teacher = conversion.teacher.as_ref().map(open).transpose()?;
    let (wanted, advice) = match conversion.weights {
        Choice::Ema => ("ema_parameters", " (use --weights raw for the weights as last trained)"),
        Choice::Raw => ("var_wo_ddp", ""),
    };
    let student = Network::find(&student, &[wanted], advice)?;
    let vae = Network::find(&vae, &["vae_local"], "")?;
    // The teacher's own training keeps no average.
    let teacher =
        teacher.as_ref().map(|file| Network::find(file, &[wanted, "var_wo_ddp"], "")).transpose()?;
    let model = Model {
        student: &student.shapes,
        vae: &vae.shapes,
        teacher: teacher.as_ref().map(|network| &network.shapes),
    };

    let mut found = Vec::new();
    if let Some(sides) = &student.sides {
        // The student's first level is the class token.
        match sides.as_slice() {
            [1, rest @ ..] if !rest.is_empty() => found.push(("the student's lvl_1L", rest.to_vec())),
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
    config.classes = conversion.classes.clone().unwrap_or_else(|| presets::class_names(config.num_classes));
    config.plans = presets::plans(&config, teacher.is_some());
    config.validate()?;

    let checked = [
        Some(("student", &student, student.check(|weights| drop(Student::load(&weights.root(), &config))))),
        Some(("vae", &vae, vae.check(|weights| drop(Vae::load(&weights.root(), &config))))),
        teacher.as_ref().map(|teacher| {
            ("teacher", teacher, teacher.check(|weights| drop(Teacher::load(&weights.root(), &config))))
        }),
    ];
    let mut files = Vec::new();
    let mut refused = Vec::new();
    for (name, network, outcome) in checked.into_iter().flatten() {
        match outcome {
            Ok(mut names) => {
                // Wide numbers first: every tensor begins at a multiple of its element's size.
                names.sort_by_key(|name| std::cmp::Reverse(network.tensors[name].dtype().bitsize()));
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
    write(&conversion.output, &config, &files)?;
    Ok(config)
}

/// A place where a bundle may go: nothing, or an empty directory.
fn check_output(path: &Path) -> Result<(), String> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => {
                Err("there is something here already; give another --output, or remove it first".into())
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("no bundle can be made here: {error}")),
    }
}

/// Writes the bundle beside its place and moves it there when it is whole.
fn write(
    place: &Path,
    config: &Config,
    files: &[(&str, &Network<'_>, Vec<String>)],
) -> Result<(), ConvertError> {
    let failed = |error: io::Error| ConvertError::Output {
        path: place.display().to_string(),
        reason: format!("the bundle cannot be written: {error}"),
    };
    let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(failed)?;
    let directory = tempfile::Builder::new()
        .prefix(".var-dd-convert-")
        .permissions(directory_permissions())
        .tempdir_in(parent)
        .map_err(failed)?;
    for (name, network, names) in files {
        let path = directory.path().join(name).with_extension("safetensors");
        let mut file = BufWriter::with_capacity(1 << 20, File::create_new(path).map_err(failed)?);
        file.write_all(&header(network, names).map_err(failed)?).map_err(failed)?;
        for name in names {
            file.write_all(&network.tensors[name].read()?).map_err(failed)?;
        }
        file.flush().and_then(|()| file.get_ref().sync_all()).map_err(failed)?;
    }
    let text = serde_json::to_string_pretty(config).map_err(|error| failed(error.into()))?;
    let mut file = File::create_new(directory.path().join("config.json")).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    // A rename replaces an empty directory and nothing else.
    fs::rename(directory.path(), place).map_err(failed)?;
    // Nothing is left under the temporary name, so nothing is to be removed.
    let _ = directory.keep();
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
}

/// What any new directory gets, less the process's mask.
fn directory_permissions() -> Permissions {
    use std::os::unix::fs::PermissionsExt;
    Permissions::from_mode(0o777)
}

/// Length and header of a safetensors file of these tensors, in this order.
fn header(network: &Network<'_>, names: &[String]) -> io::Result<Vec<u8>> {
    let mut end = 0;
    let infos = names.iter().map(|name| {
        let tensor = &network.tensors[name];
        let begin = end;
        end += tensor.byte_length();
        let info =
            TensorInfo { dtype: tensor.dtype(), shape: tensor.shape().to_vec(), data_offsets: (begin, end) };
        (name.clone(), info)
    });
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos.collect()).map_err(io::Error::other)?;
    let mut json = serde_json::to_vec(&metadata)?;
    // Tensors begin at a multiple of eight bytes.
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok([&(json.len() as u64).to_le_bytes()[..], &json].concat())
}
