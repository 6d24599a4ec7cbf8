//! The judge: a small classifier of drawn pictures, used only to score.
//!
//! Convolutions of stride 2 with group norm and SiLU; the mean over the last map is the feature
//! vector in which Fréchet distances are measured, and one linear layer names the class.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Kind, Reduction, Tensor};

use super::{
    Outcome, TrainError, Watch, Workplace,
    feed::{Drawn, Feed, Stream},
    metrics::Figures,
    parameters::Layout,
    product::{self, build},
    recipe::{self, Recipe},
    sheet::to_network,
    stage::{Exam, Lesson, Stage, outcome},
    write_file,
};
use crate::{
    input_file,
    weights::{Cursor, StateDict, Weights, read_safetensors},
};

/// Channels normalised together.
const GROUPS: i64 = 8;

/// Pictures judged together.
const TOGETHER: usize = 128;

/// What a judge knows, as `judge.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeConfig {
    /// Class names, in order.
    pub classes: Vec<String>,
    /// Side of its pictures.
    pub side: i64,
    /// Channels of each level; the last are the features.
    pub channels: Vec<i64>,
    /// How varied its pictures are; see [`super::pictures::draw`].
    #[serde(default = "recipe::one", skip_serializing_if = "recipe::is_one")]
    pub variety: f64,
}

/// The classifier.
#[derive(Debug)]
pub struct Judge {
    levels: Vec<Level>,
    weight: Tensor,
    bias: Tensor,
}

#[derive(Debug)]
struct Level {
    weight: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
}

/// What the judge says of pictures.
#[derive(Debug)]
pub struct Verdict {
    /// f32 `[B, F]`.
    pub features: Tensor,
    /// f32 `[B, classes]`.
    pub logits: Tensor,
}

impl Judge {
    fn load(at: &Cursor, config: &JudgeConfig) -> Self {
        let mut from = 3;
        let level = |(index, &to): (usize, &i64)| {
            let at = at.enter("levels").enter(index);
            let (conv, norm) = (at.enter("conv"), at.enter("norm"));
            let weight = conv.tensor("weight", &[to, std::mem::replace(&mut from, to), 3, 3]);
            Level {
                weight,
                bias: conv.tensor("bias", &[to]),
                norm_weight: norm.tensor("weight", &[to]),
                norm_bias: norm.tensor("bias", &[to]),
            }
        };
        let levels = config.channels.iter().enumerate().map(level).collect();
        let classes = config.classes.len() as i64;
        let head = at.enter("classifier");
        Self {
            levels,
            weight: head.tensor("weight", &[classes, from]),
            bias: head.tensor("bias", &[classes]),
        }
    }

    /// Opens the judge in `directory`.
    ///
    /// # Errors
    /// When there is none, or its files do not fit each other.
    pub fn open(directory: &Path, place: &Workplace) -> Result<(Self, JudgeConfig), TrainError> {
        Self::open_weights(&directory.join("judge.safetensors"), place)
    }

    /// Opens the judge with the weights in `file`, beside which `judge.json` lies.
    ///
    /// # Errors
    /// As [`Judge::open`].
    pub fn open_weights(file: &Path, place: &Workplace) -> Result<(Self, JudgeConfig), TrainError> {
        let path = file.with_file_name("judge.json");
        let advice = || "`var-dd train judge` makes it".to_owned();
        if !path.exists() {
            return Err(TrainError::Missing { path, advice: advice() });
        }
        let text = input_file::read(&path)
            .map_err(|source| TrainError::Read { path: path.clone(), source })?;
        let config: JudgeConfig = input_file::parse_json(&text)
            .map_err(|reason| TrainError::Damaged { path: path.clone(), reason })?;
        if config.channels.iter().any(|n| *n < GROUPS || n % GROUPS != 0 || *n > 1 << 16)
            || config.classes.is_empty()
        {
            return Err(TrainError::Damaged {
                path,
                reason: "its channels or classes are none".into(),
            });
        }
        let weights = Weights::from_tensors(
            file.display().to_string(),
            read_safetensors(file)?,
            &place.ops(),
            Kind::Float,
        );
        let judge = Self::load(&weights.root(), &config);
        weights.finish()?;
        Ok((judge, config))
    }

    /// What each level makes of pictures `[B, 3, side, side]` in −1…1.
    pub(super) fn levels(&self, pictures: &Tensor) -> Vec<Tensor> {
        let mut x = pictures.shallow_clone();
        let level = |level: &Level| {
            let kind = level.weight.kind();
            let convolved =
                x.to_kind(kind).conv2d(&level.weight, Some(&level.bias), [2, 2], [1, 1], [1, 1], 1);
            let norm = (Some(&level.norm_weight), Some(&level.norm_bias));
            x = convolved.group_norm(GROUPS, norm.0, norm.1, 1e-5, true).silu();
            x.shallow_clone()
        };
        self.levels.iter().map(level).collect()
    }

    /// Judges pictures, `[B, 3, side, side]` in −1…1.
    pub fn judge(&self, pictures: &Tensor) -> Verdict {
        let last = self.levels(pictures).pop().unwrap_or_default();
        let features = last.to_kind(Kind::Float).mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        let logits = features
            .to_kind(self.weight.kind())
            .linear(&self.weight, Some(&self.bias))
            .to_kind(Kind::Float);
        Verdict { features, logits }
    }
}

/// How different two sets of pictures look to a classifier: the mean squared distance of its maps,
/// each place's vector made of length 1, summed over the levels (Zhang et al. 2018, without their
/// weights).
pub(super) fn look_apart(eye: &Judge, a: &Tensor, b: &Tensor) -> Tensor {
    let unit = |x: &Tensor| {
        let x = x.to_kind(Kind::Float);
        let length =
            (x.square().sum_dim_intlist([1i64].as_slice(), true, Kind::Float) + 1e-6).sqrt();
        x / length
    };
    let distance = |(a, b): (&Tensor, &Tensor)| {
        (unit(a) - unit(b))
            .square()
            .sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
            .mean(Kind::Float)
    };
    eye.levels(a).iter().zip(&eye.levels(b)).map(distance).sum()
}

/// Trains the judge of a run.
///
/// # Errors
/// When the recipe cannot be followed, a checkpoint is damaged or of another recipe, or a file
/// cannot be written.
pub fn train(
    recipe: &Recipe,
    place: &Workplace,
    watch: &mut dyn Watch,
) -> Result<Outcome, TrainError> {
    train_classifier("judge", 0x6a75_6467_0000, recipe, place, watch)
}

/// Trains a classifier that the VAE is shown its pictures through. It has seen other pictures than
/// the judge and began elsewhere, so that scores are still given by a stranger.
pub(super) fn train_eye(
    recipe: &Recipe,
    place: &Workplace,
    watch: &mut dyn Watch,
) -> Result<Outcome, TrainError> {
    train_classifier("eye", 0x6579_6500_0000, recipe, place, watch)
}

fn train_classifier(
    name: &'static str,
    apart: u64,
    recipe: &Recipe,
    place: &Workplace,
    watch: &mut dyn Watch,
) -> Result<Outcome, TrainError> {
    recipe.validate()?;
    let model = recipe.config();
    let config = JudgeConfig {
        classes: model.classes.clone(),
        side: model.image_size(),
        variety: recipe.variety,
        channels: recipe.judge.channels.clone(),
    };
    let stream = Stream {
        // Other pictures than those that the VAE learns.
        seed: recipe.seed.wrapping_add(apart),
        classes: config.classes.len(),
        side: config.side as u32,
        variety: config.variety as f32,
    };
    let stage = Stage {
        name,
        place,
        run: &recipe.judge.run,
        settings: json!({
            "seed": recipe.seed,
            "judge": recipe.judge,
            "side": config.side,
            "variety": config.variety,
            "num_classes": config.classes.len(),
            "dtype": crate::device::kind_name(place.kind),
        }),
        initial: StateDict::new(),
        layout: Layout::of(|at| {
            Judge::load(at, &config);
        }),
        // The judge's weights began with the recipe's own seed.
        seed: if name == "judge" { recipe.seed } else { recipe.seed.wrapping_add(apart) },
        curves: &["loss"],
    };
    let held_out = stream.held_out().draw(0, recipe.judge.held_out)?;
    let weights = stage.run(watch, |begin| {
        Ok(JudgeLesson {
            feed: Feed::new(stream, begin, recipe.judge.run.batch),
            config: config.clone(),
            place: place.clone(),
            held_out,
        })
    })?;
    if let Some(weights) = &weights {
        let directory = place.directory.join(name);
        product::write_half(&directory.join("judge.safetensors"), weights)?;
        let mut text = serde_json::to_vec_pretty(&config)
            .map_err(|error| TrainError::Recipe(error.to_string()))?;
        text.push(b'\n');
        write_file(&directory.join("judge.json"), &text)?;
    }
    Ok(outcome(weights))
}

#[derive(Debug)]
struct JudgeLesson {
    config: JudgeConfig,
    place: Workplace,
    feed: Feed,
    held_out: Drawn,
}

impl Lesson for JudgeLesson {
    fn loss(&mut self, weights: StateDict, _step: u64) -> Result<(Tensor, Figures), TrainError> {
        let drawn = self.feed.next()?;
        let x = to_network(&drawn.pictures, self.config.side, self.place.device);
        let judge =
            build(weights, &self.place.ops(), self.place.kind, |at| Judge::load(at, &self.config));
        let classes = Tensor::from_slice(&drawn.classes).to_device(self.place.device);
        let logits = judge.judge(&x).logits;
        let right = share_right(&logits, &classes);
        let loss = logits.cross_entropy_loss::<Tensor>(&classes, None, Reduction::Mean, -100, 0.0);
        Ok((loss, vec![("named_right", right)]))
    }

    fn examine(&mut self, weights: StateDict) -> Result<Exam, TrainError> {
        let judge =
            build(weights, &self.place.ops(), Kind::Float, |at| Judge::load(at, &self.config));
        let logits: Vec<Tensor> = self
            .held_out
            .pictures
            .chunks(TOGETHER)
            .map(|some| judge.judge(&to_network(some, self.config.side, self.place.device)).logits)
            .collect();
        let classes = Tensor::from_slice(&self.held_out.classes).to_device(self.place.device);
        Ok(Exam {
            figures: vec![(
                "held_out_named_right",
                share_right(&Tensor::cat(&logits, 0), &classes),
            )],
            sheet: None,
        })
    }
}

/// Share of pictures whose most likely class is theirs.
pub(super) fn share_right(logits: &Tensor, classes: &Tensor) -> f64 {
    logits
        .argmax(-1, false)
        .eq_tensor(classes)
        .to_kind(Kind::Float)
        .mean(Kind::Float)
        .double_value(&[])
}
