//! `var-dd evaluate`: scores of a set of pictures.

mod container;
mod jpeg_end;
mod pictures;
mod report;
mod scorer;
mod tally;
mod target;

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use var_dd_engine::{
    atomic_file,
    bundle::{Bundle, fingerprint::fingerprint},
    device::kind_name,
    evaluate::{
        features::{FeatureNetwork, InceptionFeatures},
        npz::{Npz, write_tensors},
    },
    input_file, tensor_file,
    train::judge_features::JudgeFeatures,
};

use self::{
    pictures::{Pictures, check_size},
    scorer::{Files, WEIGHTS_PARAMETER, remove},
    tally::Tally,
};
pub(super) use self::{
    scorer::{Scorer, Scores},
    target::Target,
};
use super::{
    download,
    model::ModelArgs,
    parameters,
    picture_file::write_whole_with,
    series::{Series, SeriesArgs},
};
use crate::{generator::engine::Engine, hub::Lock, usage_error::UsageError};
use crate::{outln, output::OutputError};

/// Pictures drawn if neither pictures nor a number is given: those of published scores.
const DEFAULT_PICTURES: u32 = 50_000;

/// Flags of `var-dd evaluate`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Scores a folder of pictures, an .npz archive (`arr_0`, u8 [N, H, W, 3]), or pictures that it \
draws itself and keeps nowhere; interrupted while drawing, the same command goes on where it \
stood. References: .npz with `mu` and `sigma` (pytorch-fid), or with `mu_s`, `sigma_s` and \
`arr_0` too (ADM's reference batches); `statistic.pth` of Distilled Decoding; or pictures (a \
folder or `arr_0`). Precision and recall need reference pictures, sFID pictures or `mu_s`.\n\n\
Writes scores.json, scores.html and contact-sheet.png. Frechet distances are computed in \
float64, as running statistics: memory does not grow with the number of pictures.\n\n\
Examples:\n  \
var-dd evaluate d16-1-step --reference statistic.pth --weights pt_inception-2015-12-05-6726825d.pth\n  \
var-dd evaluate --model models/d16 --plan \"1 step\" --bs 64 --sample-num 50000 --reference statistic.pth --output d16-1\n  \
var-dd evaluate samples.npz --reference VIRTUAL_imagenet256_labeled.npz\n\n\
With nothing but this program (the judge takes ten minutes on two cores):\n  \
var-dd train judge && var-dd train pictures --count 1000 --output real\n  \
var-dd evaluate --features judge --reference real/images --sample-num 1000")]
pub struct EvaluateArgs {
    /// Folder or .npz archive of pictures [default: draw them].
    #[arg(value_name = "PICTURES")]
    pictures: Option<PathBuf>,
    #[command(flatten)]
    compared: ComparedArgs,
    /// Directory to write to; made if there is none.
    #[arg(long, value_name = "DIR", default_value = "scores")]
    output: PathBuf,
    /// Write mean and covariance of the pictures' features as a reference for others: `mu`,
    /// `sigma`, `mu_s`, `sigma_s`.
    #[arg(long, value_name = "FILE.npz")]
    save_statistics: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Number of pictures to draw [default: 50000].
    #[arg(long, value_name = "COUNT", conflicts_with = "pictures")]
    sample_num: Option<u32>,
    #[command(flatten)]
    series: SeriesArgs,
    /// Discard scores of pictures that were drawn with other parameters, or, if pictures are given,
    /// drawn at all.
    #[arg(long)]
    overwrite: bool,
}

/// Where `var-dd train` puts a judge if it is told nothing else.
const JUDGE: &str = "training/judge/judge.safetensors";

/// Flags that say what pictures are compared with, and by what.
#[derive(Args, Clone, Debug)]
pub struct ComparedArgs {
    /// Statistics or pictures to compare with [default: the published statistics, as
    /// `var-dd download statistics` fetches them].
    #[arg(long, value_name = "FILE|DIR")]
    reference: Option<PathBuf>,
    /// Network whose features are compared.
    #[arg(long, value_enum, default_value_t = FeaturesChoice::Inception)]
    features: FeaturesChoice,
    /// Weights of that network: `.pth` or `.safetensors` with the names of pytorch-fid's network
    /// [default: the variable VAR_DD_INCEPTION, else what `var-dd download inception` fetches], or
    /// the judge's `judge.safetensors` [default: training/judge/judge.safetensors].
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Look into all folders below a folder of pictures, as those of classes.
    #[arg(long)]
    recursive: bool,
    /// Points of the curve of FID against the number of pictures; 0 for none.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    curve_points: usize,
    /// Pictures that precision and recall look at, of either set; 0 for none. They take 8 KB each.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pr_pictures: usize,
}

/// A network whose features are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FeaturesChoice {
    /// The network that FID is defined by.
    Inception,
    /// The judge of drawn pictures, as `var-dd train judge` makes it.
    Judge,
}

impl ComparedArgs {
    /// The files, given or by default.
    ///
    /// # Errors
    /// Every file that is missing, with the way to it.
    pub(super) fn resolve(&self) -> Result<Compared, Missing> {
        let (usual, way) = match self.features {
            FeaturesChoice::Inception => (
                download::inception_path(),
                "weights of the FID network: run `var-dd download inception`",
            ),
            FeaturesChoice::Judge => (PathBuf::from(JUDGE), "a judge: run `var-dd train judge`"),
        };
        let given = self.weights.clone().or_else(|| match self.features {
            FeaturesChoice::Inception => inception_of_variable(),
            // The variable names the other network's file.
            FeaturesChoice::Judge => None,
        });
        let weights = match given {
            Some(path) if path.is_file() => Ok(path),
            Some(path) => Err(format!("the weights {} are not there", path.display())),
            None if usual.is_file() => Ok(usual),
            None => Err(format!("{way}, or give --weights")),
        };
        let reference = self.reference.clone().filter(|path| path.exists()).ok_or(&self.reference);
        let reference = reference.or_else(|given| match given {
            Some(path) => Err(format!("the reference {} is not there", path.display())),
            None => download::statistics_path().ok_or_else(|| {
                "a reference: run `var-dd download statistics`, or give --reference".to_owned()
            }),
        });
        match (weights, reference) {
            (Ok(weights), Ok(reference)) => Ok(Compared {
                reference,
                weights,
                features: self.features,
                recursive: self.recursive,
                curve_points: self.curve_points,
                pr_pictures: self.pr_pictures,
            }),
            (weights, reference) => {
                Err(Missing(weights.err().into_iter().chain(reference.err()).collect()))
            }
        }
    }
}

/// The Inception weights that the variable names; an empty one counts as unset.
fn inception_of_variable() -> Option<PathBuf> {
    env::var_os("VAR_DD_INCEPTION").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Files that are not there, and the way to each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub(super) struct Missing(pub(super) Vec<String>);

/// What pictures are compared with, and by what: files that are there.
pub(super) struct Compared {
    reference: PathBuf,
    weights: PathBuf,
    features: FeaturesChoice,
    recursive: bool,
    curve_points: usize,
    pr_pictures: usize,
}

impl Compared {
    /// The network, on a device.
    pub(super) fn network(&self, device: tch::Device) -> anyhow::Result<Box<dyn FeatureNetwork>> {
        match self.features {
            FeaturesChoice::Inception => {
                Ok(Box::new(InceptionFeatures::open(&self.weights, device)?))
            }
            FeaturesChoice::Judge => Ok(Box::new(JudgeFeatures::open(&self.weights, device)?)),
        }
    }

    /// The reference as the network sees it.
    pub(super) fn target(&self, network: &dyn FeatureNetwork) -> anyhow::Result<Target> {
        Target::open(&self.reference, network, self.pr_pictures, self.recursive)
    }

    pub(super) fn scorer<'a>(
        &self,
        network: &'a dyn FeatureNetwork,
        target: &'a Target,
    ) -> Scorer<'a> {
        Scorer {
            network,
            target,
            curve_points: self.curve_points,
            keep: self.pr_pictures,
            all_statistics: false,
        }
    }

    /// Everything that the scores depend on beside the pictures, by name.
    pub(super) fn parameters(&self) -> anyhow::Result<Map<String, Value>> {
        let digest = |path: &Path| {
            fingerprint([path]).with_context(|| format!("cannot read {}", path.display()))
        };
        let reference = if self.reference.is_dir() {
            format!(
                "{} ({} pictures)",
                self.reference.display(),
                Pictures::open(&self.reference, self.recursive)?.count()
            )
        } else {
            digest(&self.reference)?
        };
        let parameters = [
            ("reference", json!(reference)),
            (WEIGHTS_PARAMETER, json!(digest(&self.weights)?)),
            ("curve_points", json!(self.curve_points)),
            ("pr_pictures", json!(self.pr_pictures)),
        ];
        Ok(parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

/// Scores pictures.
///
/// # Errors
/// When pictures, reference or weights are not what they should be, or the places to write to
/// (nothing is written then); or a file cannot be written in the end (the scores have been told
/// then).
pub fn run(args: &EvaluateArgs) -> anyhow::Result<()> {
    args.save_statistics.as_deref().map_or(Ok(()), tensor_file::check_place)?;
    let compared = args.compared.resolve()?;
    args.check_statistics_file(&compared)?;
    let device = args.model.network.open()?.device();
    match &args.pictures {
        Some(path) => {
            // What can be told without a network first.
            check_output(&args.output)?;
            args.check_room()?;
            let pictures = Pictures::open(path, args.compared.recursive)?;
            let network = compared.network(device)?;
            pictures.check_size(&*network, path)?;
            let target = compared.target(&*network)?;
            let scorer = args.scorer(&compared, &*network, &target);
            let tally = scorer.of_pictures(pictures)?;
            args.report(&path.display().to_string(), &scorer, &tally)
        }
        None => {
            let directory = args.model.directory();
            let bundle = Bundle::open(&directory)?;
            let series =
                args.series.resolve(args.sample_num.unwrap_or(DEFAULT_PICTURES), &bundle)?;
            let dtype = kind_name(args.model.network.kind_for(device, &bundle.config));
            let drawing = Drawing { bundle: &bundle, series: &series, dtype, model: &args.model };
            let parameters = drawing.parameters(device, &compared)?;
            if let Some(scores) = finished(&args.output, &parameters, args.overwrite)? {
                outln!("scored already: {}", args.output.display())?;
                print(&scores)?;
                return Ok(());
            }
            check_output(&args.output)?;
            let network = compared.network(device)?;
            drawing.check_size(&*network)?;
            let target = compared.target(&*network)?;
            let scorer = args.scorer(&compared, &*network, &target);
            let _claim = claim(&args.output)?;
            let tally = drawing.tally(&scorer, &parameters, &args.output)?;
            args.report(&drawing.title(), &scorer, &tally)?;
            finish(&args.output, &parameters)
        }
    }
}

impl EvaluateArgs {
    fn scorer<'a>(
        &self,
        compared: &Compared,
        network: &'a dyn FeatureNetwork,
        target: &'a Target,
    ) -> Scorer<'a> {
        Scorer {
            all_statistics: self.save_statistics.is_some(),
            ..compared.scorer(network, target)
        }
    }

    /// Refuses to put statistics in the place of a file that is read, or holds anything else.
    fn check_statistics_file(&self, compared: &Compared) -> Result<(), UsageError> {
        let Some(path) = self.save_statistics.as_deref().filter(|path| path.is_file()) else {
            return Ok(());
        };
        let reason = if path.canonicalize().ok() == compared.reference.canonicalize().ok() {
            "the file that pictures are compared with"
        } else if !holds_statistics_only(path) {
            "a file that is there and holds anything but statistics"
        } else {
            return Ok(());
        };
        Err(UsageError(format!(
            "--save-statistics is {}, {reason}; give another name",
            path.display()
        )))
    }

    /// Refuses to put scores of given pictures in the place of those of drawn ones, which may be
    /// unfinished, unless these may be discarded.
    fn check_room(&self) -> Result<(), UsageError> {
        if self.overwrite || !Files::of(&self.output).are_of_drawn() {
            return Ok(());
        }
        Err(UsageError(format!(
            "{} has scores of pictures that were drawn, or what is known of them so far; choose \
             another --output, or discard what is there with --overwrite",
            self.output.display()
        )))
    }

    /// Makes room for scores of given pictures: what says with which parameters pictures were drawn
    /// would be taken for theirs.
    fn make_room(&self) -> anyhow::Result<Lock> {
        let claim = claim(&self.output)?;
        self.check_room()?;
        let files = Files::of(&self.output);
        if files.are_of_drawn() {
            files.remove()?;
        }
        Ok(claim)
    }

    fn report(&self, title: &str, scorer: &Scorer<'_>, tally: &Tally) -> anyhow::Result<()> {
        let scores = scorer.scores(tally)?;
        // Told first, and written where nobody can be told: much time may be in them.
        let told = print(&scores);
        let _claim = self.pictures.as_ref().map(|_| self.make_room()).transpose()?;
        report::write(&self.output, title, &scores, tally)?;
        if let Some(path) = &self.save_statistics {
            let pooled = tally.pooled.covariance()?;
            let spatial = tally.spatial.as_ref().map(|spatial| spatial.covariance()).transpose()?;
            let mut tensors = vec![("mu", tally.pooled.mean()), ("sigma", &pooled)];
            if let (Some(statistics), Some(covariance)) = (&tally.spatial, &spatial) {
                tensors.extend([("mu_s", statistics.mean()), ("sigma_s", covariance)]);
            }
            write_whole_with(path, |file| write_tensors(std::io::BufWriter::new(file), &tensors))?;
        }
        told?;
        outln!("{}", self.output.join("scores.html").display())?;
        Ok(())
    }
}

/// Refuses a directory that scores could not be written to in the end.
///
/// # Errors
/// When no file can be made there.
pub(super) fn check_output(output: &Path) -> anyhow::Result<()> {
    atomic_file::probe_directory(output)
        .with_context(|| format!("cannot write scores to {}", output.display()))
}

/// Whether a file may make room for statistics: there is nothing else in it.
fn holds_statistics_only(path: &Path) -> bool {
    let is_empty = path.metadata().is_ok_and(|found| found.len() == 0);
    is_empty || Npz::open(path).is_ok_and(|archive| archive.has("mu") && !archive.has("arr_0"))
}

/// Drawing pictures only to score them.
pub(super) struct Drawing<'a> {
    pub(super) bundle: &'a Bundle,
    pub(super) series: &'a Series,
    pub(super) dtype: &'a str,
    pub(super) model: &'a ModelArgs,
}

impl Drawing<'_> {
    pub(super) fn parameters(
        &self,
        device: tch::Device,
        compared: &Compared,
    ) -> anyhow::Result<Map<String, Value>> {
        let drawing = self.series.parameters(self.bundle, device, self.dtype);
        let mut parameters = drawing.context("cannot read the model's weights")?;
        parameters.extend(compared.parameters()?);
        Ok(parameters)
    }

    fn title(&self) -> String {
        format!("{} {}", self.bundle.config.name, self.series.plan.flags())
    }

    /// Refuses a model whose pictures the network does not take.
    ///
    /// # Errors
    /// When they are of another size.
    pub(super) fn check_size(&self, network: &dyn FeatureNetwork) -> anyhow::Result<()> {
        let side = self.bundle.config.image_size();
        let named = format!("a picture of {}", self.bundle.config.name);
        check_size(network, side, side, &named)
    }

    fn tally(
        &self,
        scorer: &Scorer<'_>,
        parameters: &Map<String, Value>,
        output: &Path,
    ) -> anyhow::Result<Tally> {
        let model = self.model;
        let load = || {
            let ops = model.network.open()?;
            Ok(Engine::load(&model.directory(), &ops, model.network.dtype())?)
        };
        scorer.of_series(self.series, &load, parameters, output)
    }

    /// Draws, scores and writes the report; also the seconds that it took, in all runs.
    pub(super) fn score(
        &self,
        scorer: &Scorer<'_>,
        parameters: &Map<String, Value>,
        output: &Path,
    ) -> anyhow::Result<(Scores, f64)> {
        let _claim = claim(output)?;
        let tally = self.tally(scorer, parameters, output)?;
        let scores = scorer.scores(&tally)?;
        report::write(output, &self.title(), &scores, &tally)?;
        finish(output, parameters)?;
        Ok((scores, tally.seconds))
    }
}

/// Keeps other processes from scoring drawn pictures to a directory, so that what one keeps of its
/// pictures is never taken for another one's.
///
/// # Errors
/// When another process is at work there.
fn claim(output: &Path) -> Result<Lock, UsageError> {
    let lock = Lock::try_acquire(&output.join(".lock")).ok_or_else(|| {
        UsageError(format!(
            "another var-dd is scoring pictures to {}; wait for it, or choose another --output",
            output.display()
        ))
    })?;
    Ok(lock.removed_in_the_end())
}

/// The scores of an earlier, finished call with the same parameters. With `overwrite`, what is
/// there is discarded if it belongs to others.
///
/// # Errors
/// When what is there belongs to other parameters, or cannot be read.
pub(super) fn finished(
    output: &Path,
    parameters: &Map<String, Value>,
    overwrite: bool,
) -> anyhow::Result<Option<Scores>> {
    let files = Files::of(output);
    let advice = "choose another --output, or discard what is there with --overwrite";
    let found = match parameters::compare(&files.parameters, parameters, advice) {
        Ok(parameters::Found::Same) if files.scores.is_file() => {
            read_scores(&files.scores, advice).map(Some)
        }
        Ok(_) => Ok(None),
        Err(error) => Err(error),
    };
    match found {
        Err(_) if overwrite => files.remove().map(|()| None),
        found => found,
    }
}

fn read_scores(path: &Path, advice: &str) -> anyhow::Result<Scores> {
    let bytes =
        input_file::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let scores = input_file::parse_json(&bytes).map_err(|error| {
        UsageError(format!("{} holds no scores: {error}; {advice}", path.display()))
    })?;
    Ok(scores)
}

/// Marks scores of drawn pictures as finished.
fn finish(output: &Path, parameters: &Map<String, Value>) -> anyhow::Result<()> {
    let files = Files::of(output);
    parameters::write(&files.parameters, parameters)?;
    // There is none if everything went faster than the first checkpoint.
    remove(&files.checkpoint)
}

fn print(scores: &Scores) -> Result<(), OutputError> {
    for (name, value) in report::rows(scores) {
        outln!("{name:<18}{value}")?;
    }
    for note in &scores.notes {
        outln!("note: {note}")?;
    }
    Ok(())
}
