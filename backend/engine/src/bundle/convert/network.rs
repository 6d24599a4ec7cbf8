//! The weights of one network in a file: found by their names, checked against the network.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::{
    ConvertError, TrainedWeights,
    sizes::{Dictionary, Shapes, sides_of_levels},
};
use crate::{
    bundle::{
        checkpoint::Dtype,
        weight_file::{SavedTensor, TensorDictionary, WeightFile},
    },
    input_file::listed,
    ops::Ops,
    weights::{Problem, Weights, WeightsError, first_not_finite, is_training_only, number_at},
};

/// Which network of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The few-step network.
    Student,
    /// The tokenizer.
    Vae,
    /// The network that the student has learned from.
    Teacher,
}

/// Names that one network surely has and no other.
const STUDENT: [&str; 4] = [
    "n_d_embed.weight",
    "layerwise_n_d_embed.0.weight",
    "final_layer_conti.linear.weight",
    "final_layer_conti.scale_shift_table",
];
const VAE: [&str; 4] = [
    "quantize.embedding.weight",
    "post_quant_conv.weight",
    "decoder.conv_in.weight",
    "encoder.conv_in.weight",
];
/// Names of a teacher, which a student has too.
const TRANSFORMER: [&str; 4] = ["pos_1LC", "pos_start", "word_embed.weight", "head.weight"];

/// How names of a latent diffusion model begin.
const LATENT_DIFFUSION: &str = "model.diffusion_model.";

impl Role {
    /// The network's weights in a dictionary, without wrappers around their names; several where
    /// several may be meant.
    fn found_in<'a>(self, dictionary: &TensorDictionary<'a>) -> Vec<TensorDictionary<'a>> {
        // Its autoencoder has names of a VAE of VAR.
        if dictionary.names().any(|name| name.starts_with(LATENT_DIFFUSION)) {
            return Vec::new();
        }
        match self {
            Self::Student => dictionary.unwrapped(&STUDENT),
            Self::Vae => dictionary.unwrapped(&VAE),
            Self::Teacher => {
                let mut found = dictionary.unwrapped(&TRANSFORMER);
                found.retain(|found| !found.names().any(|name| STUDENT.contains(&name)));
                found
            }
        }
    }

    /// Whether one of some dictionaries holds the network's weights.
    fn is_in(self, dictionaries: &[TensorDictionary<'_>]) -> bool {
        dictionaries.iter().any(|dictionary| !self.found_in(dictionary).is_empty())
    }

    /// The network and the flag that it is given with.
    fn in_words(self) -> (&'static str, &'static str) {
        match self {
            Self::Student => ("student", "--student"),
            Self::Vae => ("VAE", "--vae"),
            Self::Teacher => ("teacher", "--teacher"),
        }
    }
}

/// What somebody gave in the place of a network's weights, and what to do with it.
fn recognise(file: &WeightFile) -> Option<String> {
    let all = file.dictionaries();
    let mut roles = [Role::Student, Role::Vae, Role::Teacher].into_iter();
    if let Some(role) = roles.find(|role| role.is_in(&all)) {
        let (what, flag) = role.in_words();
        return Some(format!("it holds a {what}; give it with {flag}"));
    }
    let has = |part: &str| all.iter().any(|found| found.names().any(|name| name.contains(part)));
    if has("Conv2d_1a_3x3.conv.weight") {
        Some("it holds the network of FID, which `var-dd evaluate --weights` takes".into())
    } else if has("lora_A.") || has("lora_up.") || has(".lora_") {
        Some("it holds a LoRA, changes to another network's weights; give the whole weights".into())
    } else if has(LATENT_DIFFUSION) || has("cond_stage_model.") {
        Some("it holds a latent diffusion model, which is another kind of network".into())
    } else if has("exp_avg") {
        Some("it holds the state of an optimiser, not weights".into())
    } else if has("text_model.") || has("visual.") {
        Some("it holds a network of language and pictures (CLIP), not one of VAR".into())
    } else {
        None
    }
}

/// Whether a file's name says that it is one of several, as `model-00001-of-00002.bin`.
fn part_of_several(file: &WeightFile) -> Option<String> {
    let stem = file.path().file_stem()?.to_str()?;
    let (before, all) = stem.rsplit_once("-of-")?;
    let (_, number) = before.rsplit_once('-')?;
    let (number, all): (u32, u32) = (number.parse().ok()?, all.parse().ok()?);
    (all > 1).then(|| {
        format!(
            "it is part {number} of {all} of a checkpoint; load all parts in Python and save them \
             as one file with torch.save or safetensors' save_file"
        )
    })
}

/// The weights of one network in a file.
pub(super) struct Network<'a> {
    origin: String,
    /// Length of the file.
    length: u64,
    pub(super) tensors: BTreeMap<String, SavedTensor<'a>>,
    pub(super) shapes: Shapes,
    /// Names of entries that are no tensors.
    others: Vec<String>,
    /// Sides of the scales, if the file says them.
    pub(super) sides: Option<Vec<i64>>,
    /// What was taken off to find the weights, in words.
    pub(super) wrapping: Option<String>,
    /// Which part of a checkpoint in several files this is, if it is one by its name.
    part: Option<String>,
}

impl<'a> Network<'a> {
    /// Finds the dictionary that holds the network's weights, wherever in the file it is. Of
    /// several, `weights` says which: the moving average or the weights as last trained.
    ///
    /// # Errors
    /// [`ConvertError::Contents`] when there is none, or there are several equally good ones, with
    /// what the file holds instead; [`ConvertError::Checkpoint`] when a tensor is damaged.
    pub(super) fn find(
        file: &'a WeightFile,
        role: Role,
        weights: TrainedWeights,
    ) -> Result<Self, ConvertError> {
        let contents = |reason: String| ConvertError::Contents {
            path: file.path().display().to_string(),
            reason,
        };
        let all = file.dictionaries();
        let fitting: Vec<_> = all.iter().flat_map(|found| role.found_in(found)).collect();
        let chosen = match choose(&fitting, weights) {
            Ok(Some(chosen)) => chosen,
            Ok(None) => {
                return Err(contents(what_instead(file, role, &all)));
            }
            Err(places) => {
                let (what, _) = role.in_words();
                return Err(contents(format!(
                    "holds weights of a {what} in several places ({}); save the ones that are \
                     meant as a file of their own",
                    listed(places.iter().map(String::as_str))
                )));
            }
        };
        if role == Role::Student && chosen.place.starts_with("trainer.") {
            let (key, advice) = match weights {
                TrainedWeights::Ema => {
                    ("ema_parameters", " (use --weights raw for the weights as last trained)")
                }
                TrainedWeights::Raw => ("var_wo_ddp", ""),
            };
            if !is_meant(chosen, weights) {
                return Err(contents(format!(
                    "has no trainer.{key}{advice}; trainer has: {}",
                    listed(trainer_keys(file).iter().map(String::as_str))
                )));
            }
        }
        let mut network = Self {
            origin: file.path().display().to_string(),
            length: file.length(),
            tensors: BTreeMap::new(),
            shapes: Shapes::new(),
            others: Vec::new(),
            sides: None,
            wrapping: chosen.wrapping(),
            part: part_of_several(file),
        };
        for entry in chosen.tensors() {
            let (name, tensor) = entry?;
            if is_training_only(name) {
                continue;
            }
            match tensor {
                Some(tensor) => {
                    let shape = tensor.shape().iter().map(|&size| size as i64).collect();
                    network.shapes.insert(name.to_owned(), shape);
                    network.tensors.insert(name.to_owned(), tensor);
                }
                None => network.others.push(name.to_owned()),
            }
        }
        // Averages are kept of parameters alone, so the levels may stand beside them.
        let places = std::iter::once(chosen).chain(&fitting).chain(&all);
        network.sides = places.into_iter().find_map(levels);
        Ok(network)
    }

    /// The elements of a tensor, row-major and little-endian.
    ///
    /// # Errors
    /// [`ConvertError::Checkpoint`] when the file is damaged there, [`ConvertError::NotFinite`]
    /// when one of the elements is infinite or no number.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, ConvertError> {
        let tensor = &self.tensors[name];
        let bytes = tensor.read()?;
        let Some(at) = first_not_finite(tensor.dtype(), &bytes) else { return Ok(bytes) };
        let shape = tensor.shape().to_vec();
        let mut index = vec![0; shape.len()];
        let mut rest = at;
        for (place, &size) in index.iter_mut().zip(&shape).rev() {
            (*place, rest) = (rest % size, rest / size);
        }
        Err(ConvertError::NotFinite {
            origin: self.origin.clone(),
            name: name.to_owned(),
            shape,
            index,
            value: number_at(tensor.dtype(), &bytes, at),
        })
    }

    /// The refusal of a file that is one of several by its name: what it lacks another one holds.
    pub(super) fn as_part(&self) -> Option<ConvertError> {
        let reason = format!("is not whole: {}", self.part.as_ref()?);
        Some(ConvertError::Contents { path: self.origin.clone(), reason })
    }

    /// Checks names and shapes by letting the network ask for them: names in the order of asking.
    pub(super) fn check(&self, ask: impl FnOnce(&Weights)) -> Result<Vec<String>, WeightsError> {
        let stand_in = |(name, tensor): (&String, &SavedTensor<'_>)| {
            let is_weight = matches!(tensor.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16);
            let kind = if is_weight { Kind::Float } else { Kind::Int64 };
            // One number, whatever the shape: the bytes stay in the file.
            let one = Tensor::zeros([], (kind, Device::Cpu));
            (name.clone(), one.expand(self.shapes[name].as_slice(), false))
        };
        let tensors = self.tensors.iter().map(stand_in).collect();
        // What is missing may stand elsewhere in the file.
        let origin = match &self.wrapping {
            Some(taken) => format!("{} (took {taken})", self.origin),
            None => self.origin.clone(),
        };
        let weights =
            Weights::from_tensors(origin.clone(), tensors, &Ops::plain(Device::Cpu), Kind::Float);
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
            Ok(_) => Err(WeightsError::Mismatch { origin, problems }),
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
    pub(super) fn of(&self) -> Dictionary<'_> {
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
    pub(super) fn check_length(&self, names: &[String]) -> Result<(), ConvertError> {
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

/// Whether a place is that of a moving average.
fn is_average(place: &str) -> bool {
    let last = place.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    last.contains("ema") || last.contains("average")
}

/// Whether one of the keys that lead to a dictionary is that of the weights that are wanted. A loop
/// that keeps no average of its own may save its weights under both.
fn is_meant(dictionary: &TensorDictionary<'_>, weights: TrainedWeights) -> bool {
    let by_prefix = dictionary.prefix.split('.').any(is_average);
    let mut places = std::iter::once(&dictionary.place).chain(&dictionary.also);
    places.any(|place| (by_prefix || is_average(place)) == (weights == TrainedWeights::Ema))
}

/// The dictionary that is meant. The error is the places of several that may be.
fn choose<'d, 'a>(
    fitting: &'d [TensorDictionary<'a>],
    weights: TrainedWeights,
) -> Result<Option<&'d TensorDictionary<'a>>, Vec<String>> {
    let mut candidates: Vec<_> =
        fitting.iter().filter(|dictionary| is_meant(dictionary, weights)).collect();
    if candidates.is_empty() {
        candidates = fitting.iter().collect();
    }
    // A state dict beside a copy of itself deeper down is the one that is meant.
    let depth = |dictionary: &TensorDictionary<'_>| match dictionary.place.as_str() {
        "" => 0,
        place => 1 + place.matches('.').count(),
    };
    let least = candidates.iter().map(|found| depth(found)).min();
    candidates.retain(|found| Some(depth(found)) == least);
    match candidates.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => {
            let place = |found: &&TensorDictionary<'_>| {
                let parts = [found.place.as_str(), found.prefix.trim_end_matches('.')];
                parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
            };
            Err(several.iter().map(place).collect())
        }
    }
}

/// Keys below `trainer`, where training loops of VAR keep everything.
fn trainer_keys(file: &WeightFile) -> Vec<String> {
    match file {
        WeightFile::Checkpoint(checkpoint) => {
            let trainer = checkpoint.root().get("trainer").and_then(|trainer| trainer.entries());
            trainer.into_iter().flatten().map(|(key, _)| key.to_owned()).collect()
        }
        WeightFile::Safetensors(_) => Vec::new(),
    }
}

/// Why a file is not the one with a network's weights: what it holds instead.
fn what_instead(file: &WeightFile, role: Role, all: &[TensorDictionary<'_>]) -> String {
    let (what, _) = role.in_words();
    if let Some(reason) = part_of_several(file) {
        return format!("is not a whole {what}: {reason}");
    }
    let lacks = match role {
        Role::Student => {
            if Role::Teacher.is_in(all) {
                return "holds no student: n_d_embed.weight and final_layer_conti.linear.weight \
                        are missing, as in a teacher's checkpoint; give it with --teacher"
                    .into();
            }
            STUDENT[0]
        }
        Role::Vae => VAE[0],
        Role::Teacher => {
            if Role::Student.is_in(all) {
                return "holds no teacher: n_d_embed.weight or final_layer_conti is unknown there, \
                        as in a student's checkpoint; give it with --student"
                    .into();
            }
            TRANSFORMER[0]
        }
    };
    if let Some(reason) = recognise(file) {
        return format!("holds no {what}: {reason}");
    }
    let names = |names: Vec<&str>| listed(names.into_iter());
    match all {
        [] => match file {
            WeightFile::Checkpoint(checkpoint) => match checkpoint.root().entries() {
                None => file.instead_of_state_dict(),
                Some(entries) if entries.is_empty() => {
                    "holds no tensors where the weights should be; it is empty".into()
                }
                Some(entries) => format!(
                    "holds no tensors where the weights should be; there are: {}",
                    names(entries.iter().map(|(name, _)| *name).collect())
                ),
            },
            WeightFile::Safetensors(_) => "holds no tensors; it is empty".into(),
        },
        [one] => {
            let found: Vec<_> = one.names().filter(|name| !is_training_only(name)).collect();
            if found.is_empty() {
                return "holds no tensors where the weights should be; only buffers of training \
                        are there"
                    .into();
            }
            format!("holds no {what}: {lacks} is missing; there are: {}", names(found))
        }
        several => format!(
            "holds no {what}: {lacks} is in none of its dictionaries of tensors: {}",
            names(several.iter().map(|found| found.place.as_str()).collect())
        ),
    }
}

/// The sides of the scales by the buffer `lvl_1L` of a dictionary.
fn levels(dictionary: &TensorDictionary<'_>) -> Option<Vec<i64>> {
    let name = dictionary.names().find(|name| *name == "lvl_1L" || name.ends_with(".lvl_1L"))?;
    // A buffer that training alone uses: what is no list of levels is no error.
    let tensor = dictionary.tensor(name).ok()??;
    let bytes = tensor.read().ok()?;
    let levels: Vec<i64> = match tensor.dtype() {
        Dtype::I64 => {
            bytes.as_chunks::<8>().0.iter().map(|&level| i64::from_le_bytes(level)).collect()
        }
        Dtype::I32 => {
            bytes.as_chunks::<4>().0.iter().map(|&level| i32::from_le_bytes(level).into()).collect()
        }
        Dtype::I16 => {
            bytes.as_chunks::<2>().0.iter().map(|&level| i16::from_le_bytes(level).into()).collect()
        }
        Dtype::U8 | Dtype::I8 => bytes.iter().map(|&level| level.into()).collect(),
        // Whoever made all of a checkpoint half precision made this so, too.
        dtype @ (Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) => {
            let count = bytes.len() * 8 / dtype.bitsize();
            let levels = (0..count).map(|at| number_at(dtype, &bytes, at));
            levels
                .map(|level| (level.fract() == 0.0).then_some(level as i64))
                .collect::<Option<_>>()?
        }
        _ => return None,
    };
    sides_of_levels(&levels)
}
