//! Model bundles: what a model is on disk, and how released checkpoints become one.
//!
//! A bundle is a directory with `config.json`, `student.safetensors`, `vae.safetensors` and, if the
//! model carries its teacher, `teacher.safetensors`. Tensor names are those of the released
//! checkpoints.

pub mod checkpoint;
pub mod convert;
pub mod fingerprint;
pub mod weight_file;

use std::path::{Path, PathBuf};

use tch::Kind;

use crate::{
    config::{Config, ConfigError},
    graphs::Graphs,
    net::{student::Student, teacher::Teacher, vae::Vae},
    ops::Ops,
    sample::Sampler,
    weights::{Weights, WeightsError},
};

/// A model on disk whose configuration is read and sound.
#[derive(Clone, Debug)]
pub struct Bundle {
    directory: PathBuf,
    /// Sizes, names and plans.
    pub config: Config,
}

/// A model that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Its `config.json`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// One of its weight files.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl Bundle {
    /// Opens the bundle in `directory`; weights are read later.
    ///
    /// # Errors
    /// When `config.json` cannot be read or is not sound.
    pub fn open(directory: &Path) -> Result<Self, BundleError> {
        Ok(Self { directory: directory.to_owned(), config: Config::read(directory)? })
    }

    /// Whether the model carries its teacher. A link to nowhere counts: opening it says what it is,
    /// where a model without its teacher would say nothing.
    pub fn has_teacher(&self) -> bool {
        self.file("teacher").symlink_metadata().is_ok()
    }

    /// A digest of configuration and weights, 16 hexadecimal digits: equal for the same model,
    /// whatever its directory.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn fingerprint(&self) -> std::io::Result<String> {
        let mut files =
            vec![self.directory.join("config.json"), self.file("student"), self.file("vae")];
        files.extend(self.has_teacher().then(|| self.file("teacher")));
        fingerprint::fingerprint(files.iter().map(PathBuf::as_path))
    }

    fn file(&self, network: &str) -> PathBuf {
        self.directory.join(network).with_extension("safetensors")
    }

    /// Loads every network onto the device of `ops` in `kind` (f32, bf16 or f16).
    ///
    /// # Errors
    /// When a file cannot be read, or its tensors are not exactly those of the network.
    pub fn sampler(&self, ops: &Ops, kind: Kind) -> Result<Sampler, BundleError> {
        let weights = |network| Weights::open(&self.file(network), ops, kind);
        let student = weights("student")?;
        let vae = weights("vae")?;
        let teacher = if self.has_teacher() { Some(weights("teacher")?) } else { None };
        Ok(load(&self.config, student, vae, teacher, ops)?)
    }
}

/// Networks of the sizes in `config` whose weights come from their names, with or without a
/// teacher: for tests and timings.
pub fn formula_sampler(
    config: &Config,
    teacher: bool,
    ops: &Ops,
    kind: Kind,
) -> Result<Sampler, WeightsError> {
    let weights = || Weights::from_formula(ops, kind);
    load(config, weights(), weights(), teacher.then(weights), ops)
}

/// The networks of a sampler from their weights, strictly.
///
/// # Errors
/// Every tensor that is missing, misshaped or unknown, per network.
pub fn load(
    config: &Config,
    student_weights: Weights,
    vae_weights: Weights,
    teacher_weights: Option<Weights>,
    ops: &Ops,
) -> Result<Sampler, WeightsError> {
    let _no_grad = tch::no_grad_guard();
    let student = Student::load(&student_weights.root(), config);
    let asked = student_weights.finish()?;
    let parameters = asked.iter().map(|(_, shape)| shape.iter().product::<i64>() as u64).sum();
    let vae = Vae::load(&vae_weights.root(), config);
    vae_weights.finish()?;
    let teacher = match teacher_weights {
        Some(weights) => {
            let teacher = Teacher::load(&weights.root(), config);
            weights.finish()?;
            Some(teacher)
        }
        None => None,
    };
    let (device, graphs) = (ops.device(), Graphs::on(ops));
    Ok(Sampler { config: config.clone(), student, teacher, vae, device, parameters, graphs })
}
