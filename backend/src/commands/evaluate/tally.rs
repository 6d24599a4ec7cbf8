//! What is known of the pictures seen so far, and how it outlives the program.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail};
use image::RgbImage;
use tch::{Device, Kind, Tensor};
use var_dd_engine::{
    evaluate::{
        features::FeatureNetwork,
        scores::{self, InceptionScore},
        statistics::RunningStatistics,
    },
    tensor_file::{self, TensorFile},
};

use super::{
    super::picture_file::{SHEET_PICTURES, sheet_tile},
    pictures::{TOGETHER, picture_of},
};

/// What is gathered beside the pool statistics.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants {
    /// Statistics of the spatial features.
    pub(super) spatial: bool,
    /// Pictures whose pool features are kept.
    pub(super) keep: usize,
}

/// A point of the curve of FID against the number of pictures.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(in super::super) struct CurvePoint {
    pub(super) pictures: u64,
    pub(super) fid: f64,
}

/// Everything that the scores are computed from.
pub(super) struct Tally {
    pub(super) pictures: u64,
    pub(super) pooled: RunningStatistics,
    pub(super) spatial: Option<RunningStatistics>,
    pub(super) inception: Option<InceptionScore>,
    pub(super) curve: Vec<CurvePoint>,
    /// The first pictures, as the contact sheet shows them.
    pub(super) tiles: Vec<RgbImage>,
    /// Time that went into it, in all runs.
    pub(super) seconds: f64,
    kept: Vec<Tensor>,
    keep: usize,
}

impl Tally {
    pub(super) fn new(network: &dyn FeatureNetwork, wants: Wants) -> Self {
        let spatial =
            network.spatial_features().filter(|_| wants.spatial).map(RunningStatistics::new);
        Self {
            pictures: 0,
            pooled: RunningStatistics::new(network.features()),
            spatial,
            inception: network.classes().map(|classes| InceptionScore::new(classes, scores::SPLIT)),
            curve: Vec::new(),
            tiles: Vec::new(),
            seconds: 0.0,
            kept: Vec::new(),
            keep: wants.keep,
        }
    }

    /// Adds pictures, u8 `[B, H, W, 3]`.
    pub(super) fn push(
        &mut self,
        pictures: &Tensor,
        network: &dyn FeatureNetwork,
    ) -> anyhow::Result<()> {
        for part in pictures.f_split(TOGETHER as i64, 0)? {
            let count = part.size()[0];
            let features = network.describe(&part)?;
            self.pooled.push(&features.pooled)?;
            if let (Some(statistics), Some(spatial)) = (&mut self.spatial, &features.spatial) {
                statistics.push(spatial)?;
            }
            if let (Some(score), Some(probabilities)) =
                (&mut self.inception, &features.probabilities)
            {
                score.push(probabilities)?;
            }
            let room = self.keep.saturating_sub(self.pictures as usize).min(count as usize);
            if room > 0 {
                self.kept
                    .push(features.pooled.f_narrow(0, 0, room as i64)?.f_to_device(Device::Cpu)?);
            }
            let shown = SHEET_PICTURES.saturating_sub(self.tiles.len()).min(count as usize);
            self.tiles.extend(
                (0..shown as i64).filter_map(|index| picture_of(&part, index)).map(sheet_tile),
            );
            self.pictures += count as u64;
        }
        Ok(())
    }

    /// Pool features of the first pictures, f32 `[n, d]`, if any were kept.
    pub(super) fn kept(&self) -> anyhow::Result<Option<Tensor>> {
        Ok(if self.kept.is_empty() { None } else { Some(Tensor::f_cat(&self.kept, 0)?) })
    }

    /// Keeps everything in a file, with the number of batches that it comes from.
    pub(super) fn save(&self, path: &Path, batches: usize) -> anyhow::Result<()> {
        let mut tensors = BTreeMap::from([
            ("progress", Tensor::from_slice(&[batches as i64, self.pictures as i64])),
            ("pooled.mean", self.pooled.mean().shallow_clone()),
            ("pooled.scatter", self.pooled.scatter().shallow_clone()),
            ("curve.pictures", numbers(self.curve.iter().map(|point| point.pictures as f64))),
            ("seconds", Tensor::from_slice(&[self.seconds])),
            ("curve.fid", numbers(self.curve.iter().map(|point| point.fid))),
            ("tiles", tiles_tensor(&self.tiles)?),
        ]);
        tensors.extend(self.pooled.rows().map(|rows| ("pooled.rows", rows)));
        tensors.extend(self.kept()?.map(|kept| ("kept", kept)));
        if let Some(spatial) = &self.spatial {
            tensors.insert("spatial.mean", spatial.mean().shallow_clone());
            tensors.insert("spatial.scatter", spatial.scatter().shallow_clone());
            tensors.extend(spatial.rows().map(|rows| ("spatial.rows", rows)));
        }
        if let Some(inception) = &self.inception {
            let parts = inception.parts();
            tensors.insert("inception.finished", numbers(parts.finished.into_iter()));
            tensors.insert("inception.sum", parts.sum);
            tensors.insert(
                "inception.open",
                numbers([parts.count as f64, parts.negative_entropy].into_iter()),
            );
        }
        let tensors: Vec<_> =
            tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        Ok(tensor_file::write(path, &tensors)?)
    }

    /// Reads what [`Tally::save`] kept; also the number of batches.
    pub(super) fn open(
        path: &Path,
        network: &dyn FeatureNetwork,
        wants: Wants,
    ) -> anyhow::Result<(Self, usize)> {
        let file = TensorFile::open(path)?;
        let names = file.names();
        let has = |name: &str| names.iter().any(|found| found == name);
        let floats = |name| -> anyhow::Result<Vec<f64>> { Ok(Vec::try_from(&file.tensor(name)?)?) };
        let progress = Vec::<i64>::try_from(&file.tensor("progress")?)?;
        let &[batches, pictures] = progress.as_slice() else {
            bail!("{} is no checkpoint", path.display())
        };
        let running = |name: &str| -> anyhow::Result<RunningStatistics> {
            let part = |part: &str| file.tensor(&format!("{name}.{part}"));
            let rows = has(&format!("{name}.rows")).then(|| part("rows")).transpose()?;
            let parts = RunningStatistics::from_parts(
                pictures as u64,
                part("mean")?,
                part("scatter")?,
                rows,
            );
            parts.with_context(|| format!("{} is no checkpoint of this scoring", path.display()))
        };
        let mut tally = Self::new(network, wants);
        tally.pictures = pictures as u64;
        tally.pooled = running("pooled")?;
        if tally.spatial.is_some() {
            tally.spatial = Some(running("spatial")?);
        }
        if tally.inception.is_some() {
            let open = floats("inception.open")?;
            let parts = scores::Parts {
                finished: floats("inception.finished")?,
                count: open.first().copied().unwrap_or(0.0) as u64,
                sum: file.tensor("inception.sum")?,
                negative_entropy: open.get(1).copied().unwrap_or(0.0),
            };
            tally.inception = Some(InceptionScore::from_parts(parts, scores::SPLIT));
        }
        tally.seconds = floats("seconds")?.first().copied().unwrap_or_default();
        let points = floats("curve.pictures")?.into_iter().zip(floats("curve.fid")?);
        tally.curve =
            points.map(|(pictures, fid)| CurvePoint { pictures: pictures as u64, fid }).collect();
        let tiles = file.tensor("tiles")?.to_kind(Kind::Uint8);
        tally.tiles = (0..tiles.size()[0]).filter_map(|index| picture_of(&tiles, index)).collect();
        if has("kept") {
            tally.kept.push(file.tensor("kept")?);
        }
        Ok((tally, batches as usize))
    }
}

fn numbers(numbers: impl Iterator<Item = f64>) -> Tensor {
    Tensor::from_slice(&numbers.collect::<Vec<_>>())
}

/// u8 `[n, H, W, 3]`.
fn tiles_tensor(tiles: &[RgbImage]) -> anyhow::Result<Tensor> {
    if tiles.is_empty() {
        return Ok(Tensor::zeros([0, 1, 1, 3], (Kind::Uint8, Device::Cpu)));
    }
    super::pictures::stacked(tiles)
}
