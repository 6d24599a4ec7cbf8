//! From pictures to scores.

use std::{
    fs,
    io::ErrorKind,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use var_dd_engine::evaluate::{
    features::FeatureNetwork,
    neighbours::{NEIGHBOUR, precision_and_recall},
};

use super::{
    super::{
        parameters::{self, Found},
        progress::Progress,
        series::{self, Series},
    },
    pictures::{Pictures, stacked},
    tally::{CurvePoint, Tally, Wants},
    target::{AboutTarget, Target},
};
use crate::generator::engine::Engine;
use crate::mention;

/// The share of the time that checkpoints may take: one part in this many.
const CHECKPOINT_SHARE: u32 = 50;

/// The parameter that only scores have: the fingerprint of the feature network's weights.
pub(super) const WEIGHTS_PARAMETER: &str = "feature_weights";

/// The number of pictures of published scores.
const PUBLISHED_PICTURES: u64 = 50_000;

/// Compares pictures with a reference.
pub(in super::super) struct Scorer<'a> {
    pub(in super::super) network: &'a dyn FeatureNetwork,
    pub(in super::super) target: &'a Target,
    /// Points of the curve of FID against the number of pictures, the last one included.
    pub(in super::super) curve_points: usize,
    /// Pictures that precision and recall look at.
    pub(in super::super) keep: usize,
    /// Whether spatial statistics are gathered without being compared.
    pub(in super::super) all_statistics: bool,
}

/// The scores of a set of pictures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Scores {
    /// Number of pictures.
    pub(in super::super) pictures: u64,
    pub(in super::super) fid: f64,
    /// Of the spatial features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) sfid: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) inception_score: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) precision_and_recall: Option<PrecisionAndRecall>,
    /// FID of the first pictures.
    pub(in super::super) curve: Vec<CurvePoint>,
    pub(in super::super) features: String,
    pub(in super::super) protocol: String,
    pub(in super::super) reference: AboutTarget,
    /// What to bear in mind when comparing.
    pub(in super::super) notes: Vec<String>,
}

impl Scores {
    /// What the Fréchet distance is called: FID is defined by the Inception network.
    pub(in super::super) fn distance_name(&self) -> &'static str {
        if self.features == "inception" { "FID" } else { "Fréchet distance" }
    }
}

/// A mean over splits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in super::super) struct Spread {
    pub(in super::super) mean: f64,
    pub(in super::super) deviation: f64,
}

/// Shares of pictures near those of the other set.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in super::super) struct PrecisionAndRecall {
    pub(in super::super) precision: f64,
    pub(in super::super) recall: f64,
    /// Drawn pictures looked at.
    pub(in super::super) pictures: i64,
    /// Reference pictures looked at.
    pub(in super::super) reference_pictures: i64,
}

impl Scorer<'_> {
    fn wants(&self) -> Wants {
        let keep = if self.target.features.is_some() { self.keep } else { 0 };
        Wants { spatial: self.target.spatial.is_some() || self.all_statistics, keep }
    }

    /// Looks at all pictures of a folder or archive.
    pub(super) fn of_pictures(&self, pictures: Pictures) -> anyhow::Result<Tally> {
        let total = enough(pictures.count())?;
        let progress = Progress::of_pictures(total, 0);
        let mut tally = Tally::new(self.network, self.wants());
        pictures.for_each(&mut |chunk| {
            tally.push(chunk, self.network)?;
            self.extend_curve(&mut tally, total)?;
            progress.advance(chunk.size()[0] as usize);
            Ok(ControlFlow::Continue(()))
        })?;
        mention!("{}", progress.finish())?;
        Ok(tally)
    }

    /// Draws a series and looks at its pictures, which are kept nowhere. What is known of them is
    /// kept in `directory`, so that the same call goes on where it was interrupted.
    pub(super) fn of_series(
        &self,
        series: &Series,
        load: &dyn Fn() -> anyhow::Result<Engine>,
        parameters: &Map<String, Value>,
        directory: &Path,
    ) -> anyhow::Result<Tally> {
        let total = enough(series.pictures())?;
        let files = Files::of(directory);
        let advice = "choose another --output, or discard what is there with --overwrite";
        let same = parameters::compare(&files.parameters, parameters, advice)? == Found::Same;
        let (mut tally, done) = if same && files.checkpoint.is_file() {
            Tally::open(&files.checkpoint, self.network, self.wants())?
        } else {
            (Tally::new(self.network, self.wants()), 0)
        };
        let progress = Progress::of_pictures(total, tally.pictures as usize);
        let todo: Vec<usize> = (done..series.batches()).collect();
        if !todo.is_empty() {
            let engine = load()?;
            let mut next = Checkpoints::new();
            let (began, before) = (Instant::now(), tally.seconds);
            series::draw(&engine, series, &todo, &mut |batch, pictures| {
                tally.push(&stacked(&pictures)?, self.network)?;
                self.extend_curve(&mut tally, total)?;
                progress.advance(pictures.len());
                tally.seconds = before + began.elapsed().as_secs_f64();
                next.when_due(|| {
                    if !files.parameters.exists() {
                        fs::create_dir_all(directory)
                            .with_context(|| format!("cannot make {}", directory.display()))?;
                        // Scores that are there are of other pictures, and would be taken for
                        // these ones'.
                        remove(&files.scores)?;
                        parameters::write(&files.parameters, parameters)?;
                    }
                    tally.save(&files.checkpoint, batch + 1)
                })?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        mention!("{}", progress.finish())?;
        Ok(tally)
    }

    /// Measures a point of the curve where one is due.
    fn extend_curve(&self, tally: &mut Tally, total: usize) -> anyhow::Result<()> {
        let last = tally.curve.last().map_or(0, |point| point.pictures);
        let step = total as f64 / self.curve_points.max(1) as f64;
        let first = (last.max(1) as f64 / step) as usize;
        let due = (first.max(1)..self.curve_points)
            .map(|k| (k as f64 * step).ceil() as u64)
            .find(|&due| due > last.max(1));
        if due.is_some_and(|due| due <= tally.pictures) && tally.pictures < total as u64 {
            let fid = tally.pooled.statistics()?.distance(&self.target.pooled)?;
            tally.curve.push(CurvePoint { pictures: tally.pictures, fid });
        }
        Ok(())
    }

    /// The scores of what has been seen.
    pub(super) fn scores(&self, tally: &Tally) -> anyhow::Result<Scores> {
        let fid = tally.pooled.statistics()?.distance(&self.target.pooled)?;
        let sfid = match (&tally.spatial, &self.target.spatial) {
            (Some(spatial), Some(target)) => Some(spatial.statistics()?.distance(target)?),
            _ => None,
        };
        let inception =
            tally.inception.as_ref().map(|inception| inception.score()).transpose()?.flatten();
        let precision_and_recall = match (tally.kept()?, &self.target.features) {
            (Some(drawn), Some(reference)) => {
                let (pictures, reference_pictures) = (drawn.size()[0], reference.size()[0]);
                if pictures.min(reference_pictures) > NEIGHBOUR {
                    let (precision, recall) = precision_and_recall(&drawn, reference)?;
                    Some(PrecisionAndRecall { precision, recall, pictures, reference_pictures })
                } else {
                    None
                }
            }
            _ => None,
        };
        let mut curve = tally.curve.clone();
        if self.curve_points > 0 {
            curve.push(CurvePoint { pictures: tally.pictures, fid });
        }
        Ok(Scores {
            pictures: tally.pictures,
            fid,
            sfid,
            inception_score: inception.map(|(mean, deviation)| Spread { mean, deviation }),
            precision_and_recall,
            curve,
            features: self.network.name().to_owned(),
            protocol: self.network.protocol().to_owned(),
            reference: self.target.about.clone(),
            notes: self.notes(tally),
        })
    }

    fn notes(&self, tally: &Tally) -> Vec<String> {
        let mut notes = Vec::new();
        if tally.pictures != PUBLISHED_PICTURES {
            notes.push(format!(
                "Published scores are of {PUBLISHED_PICTURES} pictures, these of {}. The Fréchet \
                 distance of few pictures is too large; compare numbers of equally many pictures \
                 only.",
                tally.pictures
            ));
        }
        if tally.pictures <= self.network.features() as u64 {
            notes.push(format!(
                "With no more pictures than features ({}) the covariance is of deficient rank: \
                 the distance is exact, and says little.",
                self.network.features()
            ));
        }
        if self.network.name() != "inception" {
            notes.push(
                "Published scores are by Inception features; these are not comparable with them."
                    .into(),
            );
        } else if self.target.about.kind != "statistic.pth (m, s)" {
            notes.push(
                "The published scores of Distilled Decoding were measured against its \
                 statistic.pth; this reference is another one."
                    .into(),
            );
        }
        if tally.inception.is_none() {
            notes.push(
                "The weights have no classifier (fc.weight), so there is no Inception Score."
                    .into(),
            );
        }
        if self.target.features.is_none() {
            notes.push(
                "The reference has no single pictures, so there is neither precision nor recall."
                    .into(),
            );
        }
        notes
    }
}

/// At least two pictures.
fn enough(pictures: usize) -> anyhow::Result<usize> {
    if pictures < 2 {
        bail!("there is {pictures} picture; a distance between distributions takes two or more");
    }
    Ok(pictures)
}

/// Files of a scoring of drawn pictures.
pub(in super::super) struct Files {
    pub(in super::super) parameters: PathBuf,
    pub(in super::super) checkpoint: PathBuf,
    pub(in super::super) scores: PathBuf,
}

impl Files {
    pub(in super::super) fn of(directory: &Path) -> Self {
        Self {
            parameters: directory.join("parameters.json"),
            checkpoint: directory.join("checkpoint.safetensors"),
            scores: directory.join("scores.json"),
        }
    }

    /// Whether a scoring of drawn pictures, finished or not, has left its parameters. Those of
    /// another command, as `sample` writes them, are none.
    pub(in super::super) fn are_of_drawn(&self) -> bool {
        parameters::has(&self.parameters, WEIGHTS_PARAMETER)
    }

    /// Removes those that are there.
    pub(in super::super) fn remove(&self) -> anyhow::Result<()> {
        let all = [&self.scores, &self.checkpoint, &self.parameters];
        all.into_iter().try_for_each(|path| remove(path))
    }
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("cannot remove {}", path.display())),
    }
}

/// When to write the next checkpoint: so that all of them together take little of the time.
struct Checkpoints {
    last: Instant,
    took: Duration,
}

impl Checkpoints {
    fn new() -> Self {
        Self { last: Instant::now(), took: Duration::ZERO }
    }

    fn when_due(&mut self, write: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        if self.last.elapsed() >= self.took * CHECKPOINT_SHARE {
            let began = Instant::now();
            write()?;
            *self = Self { last: Instant::now(), took: began.elapsed() };
        }
        Ok(())
    }
}
