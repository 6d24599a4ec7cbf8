//! Statistics of reference pictures, as others have published them.

use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

use super::{
    frechet::{FrechetError, Statistics},
    npz::{Npz, NpzError},
};
use crate::{
    bundle::checkpoint::{Checkpoint, CheckpointError, Dtype, Item},
    input_file::shown,
};

/// Mean and covariance of reference pictures.
#[derive(Debug)]
pub struct Reference {
    /// Of the pool features.
    pub pooled: Statistics,
    /// Number of pool features.
    pub features: i64,
    /// Of the spatial features, with their number, where the file has them.
    pub spatial: Option<(Statistics, i64)>,
    /// Which kind of file it is.
    pub kind: &'static str,
}

/// A file that holds no statistics.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// It is a damaged archive.
    #[error(transparent)]
    Npz(#[from] NpzError),
    /// It is a damaged checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It holds something else.
    #[error("{} holds no statistics: {reason}", .path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What it holds.
        reason: String,
    },
    /// Its numbers are no statistics.
    #[error("{}: {names}: {reason}", .path.display())]
    Statistics {
        /// The file.
        path: PathBuf,
        /// Which of them, as `mu and sigma`.
        names: String,
        /// What is wrong with them.
        reason: FrechetError,
    },
}

/// Whether the file is NumPy's, an archive or a single array; others are PyTorch's. Its contents
/// tell, and its name where it cannot be read.
pub fn is_npz(path: &Path) -> bool {
    let named_so = path
        .extension()
        .is_some_and(|ending| ["npz", "npy"].iter().any(|name| ending.eq_ignore_ascii_case(name)));
    // Checkpoints are zip archives too, of other files.
    let has_arrays = Npz::open(path).is_ok_and(|archive| archive.names().next().is_some());
    has_arrays || named_so && Checkpoint::open(path).is_err()
}

impl Reference {
    /// Reads `.npz` with `mu` and `sigma` (pytorch-fid; with `mu_s` and `sigma_s`, a reference
    /// batch of ADM), or a PyTorch file with `m` and `s` (as the `statistic.pth` of Distilled
    /// Decoding).
    ///
    /// # Errors
    /// [`ReferenceError::Npz`] and [`ReferenceError::Checkpoint`] when the file cannot be read,
    /// [`ReferenceError::Contents`] when it holds something else, and
    /// [`ReferenceError::Statistics`] when its numbers are no mean and covariance.
    pub fn open(path: &Path) -> Result<Self, ReferenceError> {
        if is_npz(path) { Self::open_npz(path) } else { Self::open_checkpoint(path) }
    }

    fn open_npz(path: &Path) -> Result<Self, ReferenceError> {
        let archive = Npz::open(path)?;
        if !archive.has("mu") || !archive.has("sigma") {
            let names: Vec<_> = archive.names().collect();
            let reason = format!("it needs the arrays mu and sigma, and has: {}", names.join(", "));
            return Err(ReferenceError::Contents { path: path.to_owned(), reason });
        }
        let tensor = |name: &str| -> Result<Tensor, ReferenceError> {
            let tensor = archive.array(name)?.tensor()?;
            if matches!(tensor.kind(), Kind::Half | Kind::Float | Kind::Double) {
                return Ok(tensor);
            }
            let reason = format!("{name} holds {:?}; statistics are floats", tensor.kind());
            Err(ReferenceError::Contents { path: path.to_owned(), reason })
        };
        let moments = |mean, covariance| {
            statistics(path, (mean, &tensor(mean)?), (covariance, &tensor(covariance)?))
        };
        let (pooled, features) = moments("mu", "sigma")?;
        let has_spatial = archive.has("mu_s") && archive.has("sigma_s");
        let spatial = if has_spatial { Some(moments("mu_s", "sigma_s")?) } else { None };
        let kind = if has_spatial {
            "reference batch of ADM (mu, sigma, mu_s, sigma_s)"
        } else {
            "pytorch-fid (mu, sigma)"
        };
        Ok(Self { pooled, features, spatial, kind })
    }

    fn open_checkpoint(path: &Path) -> Result<Self, ReferenceError> {
        let checkpoint = Checkpoint::open(path)?;
        let root = checkpoint.root();
        let contents = |reason: String| ReferenceError::Contents { path: path.to_owned(), reason };
        let pair = [("m", "s"), ("mu", "sigma")].into_iter().find_map(|(mean, covariance)| {
            Some(((mean, root.get(mean)?), (covariance, root.get(covariance)?)))
        });
        let Some((mean, covariance)) = pair else {
            let names: Vec<_> = root
                .entries()
                .unwrap_or_default()
                .into_iter()
                .map(|(name, _)| shown(name))
                .take(8)
                .collect();
            let has = if names.is_empty() {
                "is no dictionary".into()
            } else {
                format!("has: {}", names.join(", "))
            };
            return Err(contents(format!("it needs the entries m and s, and {has}")));
        };
        let tensor = |(name, item): (&str, Item<'_>)| -> Result<Tensor, ReferenceError> {
            let array =
                item.tensor(name)?.ok_or_else(|| contents(format!("{name} is no array")))?;
            let kind = match array.dtype() {
                Dtype::F64 => Kind::Double,
                Dtype::F32 => Kind::Float,
                Dtype::F16 => Kind::Half,
                Dtype::BF16 => Kind::BFloat16,
                other => {
                    return Err(contents(format!("{name} holds {other:?}; statistics are floats")));
                }
            };
            let shape: Vec<i64> = array.shape().iter().map(|&size| size as i64).collect();
            Tensor::f_from_data_size(&array.read()?, &shape, kind)
                .map_err(|error| contents(error.to_string()))
        };
        let (pooled, features) =
            statistics(path, (mean.0, &tensor(mean)?), (covariance.0, &tensor(covariance)?))?;
        Ok(Self { pooled, features, spatial: None, kind: "statistic.pth (m, s)" })
    }
}

/// Statistics by mean and covariance, each with its name in the file; also the number of features.
fn statistics(
    path: &Path,
    (mean_name, mean): (&str, &Tensor),
    (covariance_name, covariance): (&str, &Tensor),
) -> Result<(Statistics, i64), ReferenceError> {
    let features = mean.size().first().copied().unwrap_or(0);
    let statistics = Statistics::of_moments(mean, covariance).map_err(|reason| {
        let names = format!("{mean_name} and {covariance_name}");
        ReferenceError::Statistics { path: path.to_owned(), names, reason }
    })?;
    Ok((statistics, features))
}
