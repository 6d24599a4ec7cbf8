//! What drawn pictures are compared with.

use std::{ops::ControlFlow, path::Path};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tch::Tensor;
use var_dd_engine::evaluate::{
    features::FeatureNetwork,
    frechet::Statistics,
    npz::Npz,
    reference::{Reference, is_npz},
};

use super::{
    pictures::Pictures,
    tally::{Tally, Wants},
};

/// Reference pictures, as far as the scores need them.
pub(in super::super) struct Target {
    pub(super) pooled: Statistics,
    pub(super) spatial: Option<Statistics>,
    /// Pool features of single pictures, f32 `[n, d]`, where there are any.
    pub(super) features: Option<Tensor>,
    pub(super) about: AboutTarget,
}

/// Where the reference comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct AboutTarget {
    /// The file or folder.
    pub(in super::super) path: String,
    /// What it is.
    pub(in super::super) kind: String,
    /// Pictures, where the file tells.
    pub(super) pictures: Option<u64>,
}

impl Target {
    /// Opens statistics, or makes them of pictures. Of single pictures the features of the first
    /// `keep` are kept.
    ///
    /// # Errors
    /// When the file holds neither, or its features are not the network's.
    pub(in super::super) fn open(
        path: &Path,
        network: &dyn FeatureNetwork,
        keep: usize,
        recursive: bool,
    ) -> anyhow::Result<Self> {
        let about = |kind: &str, pictures| AboutTarget {
            path: path.display().to_string(),
            kind: kind.to_owned(),
            pictures,
        };
        if !path.exists() {
            bail!("the reference {} is not there", path.display());
        }
        let has_pictures = path.is_dir() || is_npz(path) && Npz::open(path)?.has("arr_0");
        let has_statistics = !path.is_dir() && (!is_npz(path) || Npz::open(path)?.has("mu"));
        if !has_pictures && !has_statistics {
            let names = Npz::open(path)?.names().map(str::to_owned).collect::<Vec<_>>().join(", ");
            bail!(
                "the reference {} has neither statistics (mu, sigma) nor pictures (arr_0); it has: \
                 {names}; save pictures as numpy.savez(file, arr_0=pictures)",
                path.display()
            );
        }
        if !has_statistics {
            let tally =
                tally_of(path, network, Wants { spatial: true, keep }, usize::MAX, recursive)?;
            let statistics = tally.pooled.statistics();
            let pooled = statistics.with_context(|| format!("the reference {}", path.display()))?;
            let spatial = tally.spatial.as_ref().map(|spatial| spatial.statistics()).transpose()?;
            return Ok(Self {
                pooled,
                spatial,
                features: tally.kept()?,
                about: about("pictures", Some(tally.pictures)),
            });
        }
        let reference = Reference::open(path)?;
        if reference.features != network.features() {
            bail!(
                "the reference {} has statistics of {} features, and the {} network has {}; both \
                 must come from the same network",
                path.display(),
                reference.features,
                network.name(),
                network.features()
            );
        }
        let spatial = match (reference.spatial, network.spatial_features()) {
            (Some((spatial, found)), Some(expected)) if found == expected => Some(spatial),
            (Some((_, found)), Some(expected)) => bail!(
                "the reference {} has statistics of {found} spatial features, and the {} network \
                 has {expected}",
                path.display(),
                network.name()
            ),
            _ => None,
        };
        let features = if has_pictures && keep > 0 {
            tally_of(path, network, Wants { spatial: false, keep }, keep, recursive)?.kept()?
        } else {
            None
        };
        Ok(Self { pooled: reference.pooled, spatial, features, about: about(reference.kind, None) })
    }
}

/// The first `most` pictures of a reference.
fn tally_of(
    path: &Path,
    network: &dyn FeatureNetwork,
    wants: Wants,
    most: usize,
    recursive: bool,
) -> anyhow::Result<Tally> {
    let pictures = Pictures::open(path, recursive)?;
    pictures.check_size(network, path)?;
    tracing::info!(pictures = pictures.count().min(most), reference = %path.display(), "looking at \
        the reference pictures");
    let mut tally = Tally::new(network, wants);
    pictures.for_each(&mut |chunk| {
        tally.push(chunk, network)?;
        let enough = tally.pictures >= most as u64;
        Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(tally)
}
