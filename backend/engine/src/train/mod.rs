//! Training: from drawn pictures to a student.
//!
//! Every stage is a function of its recipe, its seed and what the stages before it made. Data order
//! and noise are functions of (seed, step), so a stage that was killed and goes on from its
//! checkpoint repeats, on a CPU to the bit, what it would have done. A run is a directory:
//!
//! ```text
//! vae/ teacher/ student/ decoder/ judge/   checkpoint.safetensors · NAME.safetensors (averaged) ·
//!                                 metrics.jsonl · curve.png · sheet-NNNNNN.png
//! tokens/ trajectories/           shards of (label, seed, codes)
//! model/                          the bundle, filled as stages end
//! judge/                          judge.safetensors · judge.json
//! ```

mod checkpoint;
mod claim;
mod codebook;
mod curve;
mod deck;
pub mod decoder;
pub mod discriminator;
mod feed;
pub mod flow;
mod initial;
pub mod judge;
pub mod judge_features;
mod metrics;
mod optimizer;
mod parameters;
pub mod pictures;
pub mod product;
pub mod recipe;
pub mod score;
pub mod shards;
mod sheet;
mod stage;
pub mod student;
pub mod teacher;
pub mod trajectory;
pub mod vae;
pub mod verify;

use std::{
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use tch::{Device, Kind};

pub use optimizer::OptimizerRecipe;
pub use sheet::write_sheet;

use crate::{
    atomic_file::{self, Lasts},
    bundle::BundleError,
    config::ConfigError,
    ops::{Ops, Settings},
    sample::SampleError,
    weights::WeightsError,
};

/// Where a stage works and in which numbers.
#[derive(Clone, Debug)]
pub struct Workplace {
    /// Directory of the run.
    pub directory: PathBuf,
    /// Where the networks run.
    pub device: Device,
    /// Number type of the networks; master weights, sums and losses are f32 whatever it is.
    pub kind: Kind,
    /// A bundle whose networks a stage begins with, instead of anew: to train on where another run
    /// has ended.
    pub start: Option<PathBuf>,
    /// Which faster ways the networks take that are not learnt.
    pub settings: Settings,
}

impl Workplace {
    /// The operations of the networks.
    pub(crate) fn ops(&self) -> Ops {
        Ops::open(self.device, self.settings)
    }
}

/// Follows a stage: shows its progress, and may stop it.
pub trait Watch {
    /// A stage begins, or goes on after `done` of `total`.
    fn begin(&mut self, stage: &str, done: u64, total: u64, unit: &'static str);
    /// `done` of the total are done; `figures` are the latest. `Break` ends the stage as a kill
    /// would: what is not in a checkpoint is lost.
    fn advance(&mut self, done: u64, figures: &[(&str, f64)]) -> ControlFlow<()>;
    /// Something worth a line.
    fn tell(&mut self, text: &str);
    /// The stage is at its end.
    fn end(&mut self);
}

/// Whether a stage came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did.
    Done,
    /// The watcher stopped it.
    Stopped,
}

/// A stage that cannot go on. What checkpoints and shards hold is kept.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A file cannot be written.
    #[error("cannot write {}: {source}; nothing that was written before is lost: make room or \
        choose another --output, then run the same command again", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is cut off or something else.
    #[error("{} is damaged: {reason}; delete it to begin this stage again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another process is at work there.
    #[error(
        "another process is at work in {}; wait for it, or choose another --output",
        .path.display()
    )]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// A stage was begun with other settings.
    #[error("{} was made with other settings: {}; go on with those, or choose another --output (or \
        delete the file to begin this stage again)", .path.display(), .changes.join(", "))]
    OtherSettings {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        changes: Vec<String>,
    },
    /// Something that an earlier stage makes is not there.
    #[error("{} is missing; {advice}", .path.display())]
    Missing {
        /// The file or directory.
        path: PathBuf,
        /// What makes it.
        advice: String,
    },
    /// A recipe that no run can follow.
    #[error("{0}")]
    Recipe(String),
    /// Sizes that do not fit together.
    #[error("{0}")]
    Mismatch(String),
    /// The loss is no number.
    #[error(
        "the loss of {stage} is {loss} at step {step}; the checkpoint before it is whole. Use a \
         smaller learning rate, or f32"
    )]
    NotFinite {
        /// The stage.
        stage: &'static str,
        /// Steps done.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// A picture that cannot be drawn or written.
    #[error("a picture failed: {0}")]
    Picture(String),
    /// Sizes out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A bundle that cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Weights that cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Sampling failed.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(#[from] tch::TchError),
}

/// Writes a file of a run, and its directory if there is none yet. It appears whole or not at all.
///
/// # Errors
/// When directory or file cannot be written, a full disk included. Nothing has changed then.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        atomic_file::write(path, Lasts::ThroughPowerLoss, bytes)
    };
    write().map_err(|source| TrainError::Write { path: path.to_owned(), source })
}
