//! Which pictures a command draws: a numbered series, cut into batches.
//!
//! Picture `i` belongs to batch `⌊i / bs⌋`, and a batch is always drawn whole. So a picture is the
//! same to the last bit however often the drawing was interrupted, and whichever process drew it.

use std::{
    ops::{ControlFlow, Range},
    sync::mpsc,
    thread,
};

use clap::{Args, ValueEnum, value_parser};
use image::RgbImage;
use serde_json::json;
use tch::Tensor;
use var_dd_engine::{
    bundle::Bundle,
    config::Config,
    sample::{
        Frames,
        noise::{self, PictureSeed},
        plan::Plan,
        released_stream::ReleasedStream,
    },
};
use var_dd_protocol::GenerateRequest;

use super::{
    model::{PlanArgs, check_teacher, seed},
    suggestion::did_you_mean,
};
use crate::{
    generator::{
        BatchRequest, GeneratorError, PictureRequest,
        engine::{self, Engine},
    },
    usage_error::UsageError,
};

/// Flags that say what to draw.
#[derive(Args, Clone, Debug)]
pub struct SeriesArgs {
    /// A plan of the model by its name, as `var-dd info` lists them [default: the model's first
    /// plan].
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with_all = ["t_list", "autoregressive", "loss_split_t", "causal_prefix"],
    )]
    plan: Option<String>,
    #[command(flatten)]
    flags: PlanArgs,
    /// Class of every picture: its number or its name.
    #[arg(long, value_name = "CLASS", conflicts_with = "classes", allow_negative_numbers = true)]
    class: Option<String>,
    /// Classes of the pictures: numbers or names [default: all classes].
    #[arg(long, value_name = "CLASS,…", value_delimiter = ',', allow_hyphen_values = true)]
    classes: Vec<String>,
    /// How pictures come by their class: in turn, so that all are equally frequent (50,000 pictures
    /// of 1,000 classes: 50 each), or at random [default: turn; random with --rng torch].
    #[arg(long, value_enum, value_name = "HOW")]
    labels: Option<Labels>,
    /// Seed of all randomness.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = seed)]
    seed: u64,
    /// Where labels and noise come from: each picture's own stream, or PyTorch's CPU generator in
    /// the order of the released scripts (labels of all pictures, then noise batch by batch). The
    /// teacher's draws are each picture's own.
    #[arg(long, value_enum, default_value_t = Rng::Picture)]
    rng: Rng,
    /// Pictures drawn together. Changes speed and memory; the pictures only by rounding on a GPU,
    /// or with --rng torch.
    #[arg(long, value_name = "COUNT", default_value_t = 8, allow_negative_numbers = true,
          value_parser = value_parser!(u32).range(1..=4096))]
    bs: u32,
}

/// How pictures come by their class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Labels {
    /// Picture i has class i, beginning anew after the last class.
    Turn,
    /// Each class as likely as any other.
    Random,
}

/// Where labels and noise come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rng {
    /// A stream for each picture.
    Picture,
    /// PyTorch's CPU generator, as the released scripts use it.
    Torch,
}

/// What to draw, sound for a model.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) plan: Plan,
    /// Class of each picture.
    classes: Vec<u32>,
    seed: u64,
    batch: usize,
    tokens: i64,
    channels: i64,
    /// With `--rng torch`.
    stream: Option<ReleasedStream>,
    /// How the classes came about, for [`Series::parameters`].
    labels: serde_json::Value,
}

fn bounded(flag: &str, value: u32, limit: u32) -> Result<usize, UsageError> {
    if (1..=limit).contains(&value) {
        Ok(value as usize)
    } else {
        Err(UsageError(format!("{flag} is {value}; it must be from 1 to {limit}")))
    }
}

impl SeriesArgs {
    /// The plan: as the flags describe it, or the preset of the given name, or the model's first
    /// one.
    fn plan(&self, config: &Config) -> Result<Plan, UsageError> {
        if self.flags.is_given() {
            return self.flags.resolve(config);
        }
        let first = config.plans.first().map(|preset| preset.name.as_str());
        let name = self.plan.as_deref().or(first).ok_or_else(|| {
            UsageError(format!(
                "model {:?} lists no plan; give one, as in --t-list 0 --loss-split-t {}",
                config.name,
                config.scales() / 2
            ))
        })?;
        self.flags.preset(name, config)
    }

    /// All classes by a preset of this name.
    pub(super) fn of_preset(name: &str, batch: u32, seed: u64, rng: Rng) -> Self {
        Self {
            plan: Some(name.to_owned()),
            flags: PlanArgs::default(),
            class: None,
            classes: Vec::new(),
            labels: None,
            seed,
            rng,
            bs: batch,
        }
    }

    /// `count` pictures of a model.
    ///
    /// # Errors
    /// When a number, the plan or a class does not fit the model.
    pub(super) fn resolve(&self, count: u32, bundle: &Bundle) -> Result<Series, UsageError> {
        let config = &bundle.config;
        let count = bounded("--sample-num", count, 10_000_000)?;
        let batch = bounded("--bs", self.bs, 4096)?;
        let plan = self.plan(config)?;
        check_teacher(&plan, bundle)?;
        let chosen: Vec<u32> = self
            .class
            .iter()
            .chain(&self.classes)
            .map(|class| find_class(class, config))
            .collect::<Result<_, _>>()?;
        let (tokens, channels) = (config.tokens(), config.latent_channels);
        let all = config.num_classes as u64;
        let stream = (self.rng == Rng::Torch)
            .then(|| ReleasedStream::new(self.seed, count, all, batch, tokens, channels));
        let among: Vec<u32> =
            if chosen.is_empty() { (0..all as u32).collect() } else { chosen.clone() };
        let (classes, labels) = match (&stream, self.labels) {
            (Some(_), Some(Labels::Turn)) => {
                let reason = "--rng torch draws the labels at random, as the released scripts do; \
                    leave out --labels turn";
                return Err(UsageError(reason.into()));
            }
            (Some(_), _) if !chosen.is_empty() => {
                let reason = "--rng torch draws the labels among all classes, as the released \
                    scripts do; leave out --class and --classes";
                return Err(UsageError(reason.into()));
            }
            (Some(stream), _) => {
                (stream.labels().iter().map(|&class| class as u32).collect(), json!("torch"))
            }
            (None, Some(Labels::Random)) => {
                let class = |index| {
                    let place = PictureSeed { seed: self.seed, index }.class(among.len() as u64);
                    among[place as usize]
                };
                ((0..count as u64).map(class).collect(), json!({ "random": chosen }))
            }
            (None, _) => {
                let class = |index: usize| among[index % among.len()];
                ((0..count).map(class).collect(), json!({ "turn": chosen }))
            }
        };
        Ok(Series { plan, classes, seed: self.seed, batch, tokens, channels, stream, labels })
    }
}

impl Series {
    /// Number of pictures.
    pub(super) fn pictures(&self) -> usize {
        self.classes.len()
    }

    /// Number of batches.
    pub(super) fn batches(&self) -> usize {
        self.pictures().div_ceil(self.batch)
    }

    /// Numbers of the pictures of a batch.
    pub(super) fn pictures_of(&self, batch: usize) -> Range<usize> {
        batch * self.batch..((batch + 1) * self.batch).min(self.pictures())
    }

    /// One picture as the generator is asked for it.
    pub(super) fn picture(&self, index: usize) -> PictureRequest {
        PictureRequest { class: self.classes[index], seed: self.seed, index: index as u32 }
    }

    /// The request that draws a picture again; none if its noise comes from a stream that all
    /// pictures share.
    pub(super) fn request_of(&self, index: usize, config: &Config) -> Option<GenerateRequest> {
        let picture = self.picture(index);
        self.stream.is_none().then(|| GenerateRequest {
            model: Some(config.name.clone()),
            seed: Some(picture.seed),
            ..GenerateRequest::new(picture.class, self.plan.clone())
        })
    }

    fn request(&self, batch: usize) -> BatchRequest {
        let pictures = self.pictures_of(batch).map(|index| self.picture(index)).collect();
        BatchRequest { plan: self.plan.clone(), explore: None, frames: Frames::None, pictures }
    }

    /// Everything that the pictures depend on, by name.
    ///
    /// # Errors
    /// When the model's files cannot be read.
    pub(super) fn parameters(
        &self,
        bundle: &Bundle,
        device: tch::Device,
        dtype: &str,
    ) -> std::io::Result<serde_json::Map<String, serde_json::Value>> {
        let parameters = [
            ("model", json!(bundle.config.name)),
            ("weights", json!(bundle.fingerprint()?)),
            ("plan", json!(self.plan.flags().to_string())),
            ("sample_num", json!(self.pictures())),
            ("bs", json!(self.batch)),
            ("seed", json!(self.seed)),
            ("labels", self.labels.clone()),
            ("rng", json!(if self.stream.is_some() { "torch" } else { "picture" })),
            // Rounding differs between kinds of devices.
            ("device", json!(if device.is_cuda() { "cuda" } else { "cpu" })),
            ("dtype", json!(dtype)),
        ];
        Ok(parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

/// Draws batches of a series in the order given. Their noise is made on a thread of its own, so
/// that the device need not wait for it.
///
/// # Errors
/// When the device fails, or the receiver of the pictures does.
pub(super) fn draw(
    engine: &Engine,
    series: &Series,
    batches: &[usize],
    each: &mut dyn FnMut(usize, Vec<RgbImage>) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<(usize, BatchRequest, Option<Tensor>)>(1);
        scope.spawn(move || {
            let mut stream = series.stream.clone();
            for &batch in batches {
                let request = series.request(batch);
                let noise = match (&series.plan, &mut stream) {
                    (Plan::Teacher { .. }, _) => None,
                    (_, Some(stream)) => Some(stream.noise(batch)),
                    (_, None) => {
                        Some(noise::noise(&engine::seeds(&request), series.tokens, series.channels))
                    }
                };
                // Nobody listens any more if the drawing has ended early.
                if sender.send((batch, request, noise)).is_err() {
                    break;
                }
            }
        });
        for (batch, request, noise) in receiver {
            let pictures = engine.final_pictures(&request, noise).map_err(advise)?;
            if each(batch, pictures)?.is_break() {
                break;
            }
        }
        Ok(())
    })
}

fn advise(error: GeneratorError) -> anyhow::Error {
    match error {
        GeneratorError::OutOfMemory { pictures, .. } if pictures > 1 => anyhow::Error::new(error)
            .context(format!("--bs {pictures} is too much for the device; give less")),
        _ => error.into(),
    }
}

/// A model with no more classes than these has all of them named where one is not found.
const MOST_NAMED: usize = 40;

/// The number of a class that is given by number or name.
fn find_class(text: &str, config: &Config) -> Result<u32, UsageError> {
    let text = text.trim();
    if let Ok(class) = text.parse::<i64>() {
        if (0..config.num_classes).contains(&class) {
            return Ok(class as u32);
        }
        return Err(UsageError(format!(
            "class {class} is out of range; the model has {} classes, 0 to {}",
            config.num_classes,
            config.num_classes - 1
        )));
    }
    let lower = text.to_lowercase();
    let position = config.classes.iter().position(|name| name.to_lowercase() == lower);
    position.map(|class| class as u32).ok_or_else(|| {
        let near = did_you_mean(text, config.classes.iter().map(String::as_str));
        let advice = if near.is_empty() {
            let known = match config.classes.as_slice() {
                few if few.len() <= MOST_NAMED && !few.is_empty() => {
                    format!(" ({})", few.join(", "))
                }
                _ => String::new(),
            };
            let last = config.num_classes - 1;
            format!("; classes are numbers from 0 to {last} or their names{known}")
        } else {
            near
        };
        UsageError(format!("the model has no class {text:?}{advice}"))
    })
}
