//! Weights by name, strictly: every tensor that a network asks for must be there in the shape it
//! asks for, and nothing may be left over. What a network asks for while it is built is the only
//! list of names and shapes; opening a bundle, converting a checkpoint and inventing weights for
//! tests all go through it.

mod finite;
pub mod formula;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display},
    path::Path,
};

use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

pub use self::finite::{first_not_finite, number_at};
use crate::{
    input_file::{self, FileKind, shown},
    ops::Ops,
};

/// Buffers that only training needs. They may be present with any size, or absent (DESIGN: model
/// bundle).
pub const TRAINING_ONLY: [&str; 4] =
    ["attn_bias_for_masking", "lvl_1L", "zero_k_bias", "ema_vocab_hit_SV"];

/// Whether `name` is one of the buffers that only training needs.
pub fn is_training_only(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| TRAINING_ONLY.contains(&last))
}

/// Named tensors, as read from a file or given by a training run.
pub type StateDict = BTreeMap<String, Tensor>;

/// Where tensors come from, and what was asked of it.
pub struct Weights {
    source: WeightSource,
    ops: Ops,
    kind: Kind,
    asked: RefCell<Vec<(String, Vec<i64>)>>,
    problems: RefCell<Vec<Problem>>,
}

enum WeightSource {
    Tensors { origin: String, tensors: StateDict },
    Formula,
}

/// One tensor that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Asked for and not there.
    Missing {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<i64>,
    },
    /// There in another shape.
    Shape {
        /// Its name.
        name: String,
        /// The shape asked for.
        expected: Vec<i64>,
        /// The shape it has.
        found: Vec<i64>,
    },
    /// There with numbers that are no weights.
    Kind {
        /// Its name.
        name: String,
        /// The number type.
        found: String,
    },
    /// There and not asked for.
    Unknown {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<i64>,
    },
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing { name, shape } => write!(f, "{} {shape:?} is missing", shown(name)),
            Problem::Shape { name, expected, found } => {
                write!(f, "{} is {found:?} and should be {expected:?}", shown(name))
            }
            Problem::Kind { name, found } => {
                write!(
                    f,
                    "{} holds {found}; weights are f32, f16 or bf16, as in Python \
                     `tensor.to(torch.bfloat16)` makes them",
                    shown(name)
                )
            }
            Problem::Unknown { name, shape } => write!(f, "{} {shape:?} is unknown", shown(name)),
        }
    }
}

/// Weights that cannot be used. The messages hold their causes, which are therefore no `source`.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {cause}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is something else.
    #[error("{path} is no safetensors file: {what}")]
    Other {
        /// The file.
        path: String,
        /// What it is.
        what: FileKind,
    },
    /// The file is cut off or damaged.
    #[error("{path} is not a whole safetensors file: {reason}; copy or convert it again")]
    Format {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A weight that is infinite or no number.
    #[error(
        "{path}: {name} holds a number that is not finite ({value}): the training that made it has \
         failed, or the file is damaged; pictures drawn with it would be black"
    )]
    NotFinite {
        /// The file.
        path: String,
        /// The tensor.
        name: String,
        /// The first such number.
        value: f64,
    },
    /// Tensors that do not fit the network.
    #[error("{origin} does not fit the network: {}", list(.problems))]
    Mismatch {
        /// The file.
        origin: String,
        /// Every tensor that is not as it should be.
        problems: Vec<Problem>,
    },
}

/// The first few problems in words.
fn list(problems: &[Problem]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = problems.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = problems.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    shown.join("; ") + &rest
}

/// The number type of a safetensors entry, if it is one of a weight or an index.
pub fn kind_of(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F64 => Kind::Double,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::U8 => Kind::Uint8,
        _ => return None,
    })
}

/// Every tensor of a safetensors file, on the CPU, as stored.
///
/// # Errors
/// [`WeightsError::Read`] when the file cannot be read, [`WeightsError::Other`] when it is another
/// one, [`WeightsError::Format`] when it is cut off, [`WeightsError::Mismatch`] when a tensor's
/// numbers are no weights, and [`WeightsError::NotFinite`] when one is infinite or no number.
pub fn read_safetensors(path: &Path) -> Result<StateDict, WeightsError> {
    let origin = || path.display().to_string();
    let bytes =
        input_file::read(path).map_err(|cause| WeightsError::Read { path: origin(), cause })?;
    let format = |reason: String| WeightsError::Format { path: origin(), reason };
    match FileKind::of_start(bytes.get(..input_file::START).unwrap_or(&bytes)) {
        None | Some(FileKind::Safetensors) => {}
        Some(other) => return Err(WeightsError::Other { path: origin(), what: other }),
    }
    // Checks every size against the length of the file before anything is allocated.
    let file = SafeTensors::deserialize(&bytes).map_err(|error| format(error.to_string()))?;
    let mut tensors = StateDict::new();
    for (name, view) in file.iter() {
        let kind = kind_of(view.dtype()).ok_or_else(|| {
            let found = format!("{:?}", view.dtype()).to_lowercase();
            let problems = vec![Problem::Kind { name: name.to_owned(), found }];
            WeightsError::Mismatch { origin: origin(), problems }
        })?;
        if let Some(at) = first_not_finite(view.dtype(), view.data())
            && !is_training_only(name)
        {
            let value = number_at(view.dtype(), view.data(), at);
            return Err(WeightsError::NotFinite { path: origin(), name: shown(name), value });
        }
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
            .map_err(|error| format(format!("{}: {error}", shown(name))))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

impl Weights {
    /// Weights from a safetensors file, given out on the device of `ops` in `kind`.
    ///
    /// # Errors
    /// As [`read_safetensors`].
    pub fn open(path: &Path, ops: &Ops, kind: Kind) -> Result<Self, WeightsError> {
        Ok(Self::from_tensors(path.display().to_string(), read_safetensors(path)?, ops, kind))
    }

    /// Weights from tensors at hand; `origin` names them in errors. A tensor that already is of
    /// `kind` on the device is given out as it is, so that gradients reach it.
    pub fn from_tensors(origin: String, tensors: StateDict, ops: &Ops, kind: Kind) -> Self {
        Self::new(WeightSource::Tensors { origin, tensors }, ops, kind)
    }

    /// Weights from their names (see [`formula`]): for tests and timings.
    pub fn from_formula(ops: &Ops, kind: Kind) -> Self {
        Self::new(WeightSource::Formula, ops, kind)
    }

    fn new(source: WeightSource, ops: &Ops, kind: Kind) -> Self {
        Self {
            source,
            ops: ops.clone(),
            kind,
            asked: RefCell::default(),
            problems: RefCell::default(),
        }
    }

    /// Where a network begins to ask.
    pub fn root(&self) -> Cursor<'_> {
        Cursor { weights: self, prefix: String::new() }
    }

    /// Ends the asking: names and shapes of what was asked for, in order.
    ///
    /// # Errors
    /// Every tensor that was missing, misshaped or left over.
    pub fn finish(self) -> Result<Vec<(String, Vec<i64>)>, WeightsError> {
        let asked = self.asked.into_inner();
        let mut problems = self.problems.into_inner();
        let WeightSource::Tensors { origin, tensors } = self.source else { return Ok(asked) };
        let known: BTreeSet<_> = asked.iter().map(|(name, _)| name.as_str()).collect();
        let left = tensors
            .iter()
            .filter(|(name, _)| !known.contains(name.as_str()) && !is_training_only(name));
        problems.extend(
            left.map(|(name, tensor)| Problem::Unknown {
                name: name.clone(),
                shape: tensor.size(),
            }),
        );
        if problems.is_empty() {
            Ok(asked)
        } else {
            Err(WeightsError::Mismatch { origin, problems })
        }
    }

    fn take(&self, name: String, shape: &[i64], kind: Kind) -> Tensor {
        let found = match &self.source {
            WeightSource::Formula => Ok(formula::tensor(&name, shape)),
            WeightSource::Tensors { tensors, .. } => match tensors.get(&name) {
                None => Err(Problem::Missing { name: name.clone(), shape: shape.to_vec() }),
                Some(tensor) if tensor.size() != shape => Err(Problem::Shape {
                    name: name.clone(),
                    expected: shape.to_vec(),
                    found: tensor.size(),
                }),
                Some(tensor) if !tensor.is_floating_point() => {
                    Err(Problem::Kind { name: name.clone(), found: format!("{:?}", tensor.kind()) })
                }
                Some(tensor) => Ok(tensor.shallow_clone()),
            },
        };
        self.asked.borrow_mut().push((name, shape.to_vec()));
        match found {
            Ok(tensor) => tensor.to_device(self.ops.device()).to_kind(kind),
            Err(problem) => {
                self.problems.borrow_mut().push(problem);
                // Stands in until `finish` reports it; one number, whatever the shape.
                Tensor::zeros([1], (kind, self.ops.device())).expand(shape, false)
            }
        }
    }
}

/// A place in the tree of names, as `blocks.3.attn`.
#[derive(Clone)]
pub struct Cursor<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Cursor<'_> {
    /// The place `part` below this one.
    pub fn enter(&self, part: impl Display) -> Self {
        Self { weights: self.weights, prefix: self.name(part) }
    }

    /// The tensor `name` here, in the number type of the networks.
    ///
    /// One that is missing or misshaped is noted, and reported by [`Weights::finish`].
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Tensor {
        self.weights.take(self.name(name), shape, self.weights.kind)
    }

    /// The tensor `name` here in f32, where precision matters.
    pub fn tensor_f32(&self, name: &str, shape: &[i64]) -> Tensor {
        self.weights.take(self.name(name), shape, Kind::Float)
    }

    /// The operations that the weights are for.
    pub fn ops(&self) -> &Ops {
        &self.weights.ops
    }

    /// Device of the tensors given out.
    pub fn device(&self) -> Device {
        self.weights.ops.device()
    }

    /// Number type of the networks.
    pub fn kind(&self) -> Kind {
        self.weights.kind
    }

    fn name(&self, part: impl Display) -> String {
        if self.prefix.is_empty() { part.to_string() } else { format!("{}.{part}", self.prefix) }
    }
}
