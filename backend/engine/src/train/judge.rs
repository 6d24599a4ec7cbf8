//! The judge: a small classifier of drawn pictures, used only to score.
//!
//! Convolutions of stride 2 with group norm and SiLU; the mean over the last map is the feature vector in which Fréchet
//! distances are measured, and one linear layer names the class.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Kind, Reduction, Tensor};

use super::{
    Outcome, TrainError, Watch, Workplace, atomic_file,
    feed::{Drawn, Feed, Stream},
    metrics::Figures,
    parameters::Layout,
    product::{self, build},
    recipe::Recipe,
    sheet::to_network,
    stage::{Exam, Lesson, Stage, outcome},
};
use crate::bundle::weights::{Cursor, StateDict, Weights, read_safetensors};

/// Channels normalised together.
const GROUPS: i64 = 8;

/// Pictures judged together.
const TOGETHER: usize = 128;

/// What a judge knows, as `judge.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeConfig {
    /// Class names, in order.
    pub classes: Vec<String>,
    /// Side of its pictures.
    pub side: i64,
    /// Channels of each level; the last are the features.
    pub channels: Vec<i64>,
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
        let path = directory.join("judge.json");
        let advice = || "`var-dd train judge` makes it".to_owned();
        if !path.exists() {
            return Err(TrainError::Missing { path, advice: advice() });
        }
        let text = std::fs::read(&path).map_err(|source| TrainError::Read { path: path.clone(), source })?;
        let config: JudgeConfig = serde_json::from_slice(&text)
            .map_err(|error| TrainError::Damaged { path: path.clone(), reason: error.to_string() })?;
        if config.channels.iter().any(|n| *n < GROUPS || n % GROUPS != 0 || *n > 1 << 16)
            || config.classes.is_empty()
        {
            return Err(TrainError::Damaged { path, reason: "its channels or classes are none".into() });
        }
        let file = directory.join("judge.safetensors");
        let weights = Weights::from_tensors(
            file.display().to_string(),
            read_safetensors(&file)?,
            place.device,
            Kind::Float,
        );
        let judge = Self::load(&weights.root(), &config);
        weights.finish()?;
        Ok((judge, config))
    }

    /// Judges pictures, `[B, 3, side, side]` in −1…1.
    pub fn judge(&self, pictures: &Tensor) -> Verdict {
        let mut x = pictures.shallow_clone();
        for level in &self.levels {
            let kind = level.weight.kind();
            let convolved =
                x.to_kind(kind).conv2d(&level.weight, Some(&level.bias), [2, 2], [1, 1], [1, 1], 1);
            x = convolved
                .group_norm(GROUPS, Some(&level.norm_weight), Some(&level.norm_bias), 1e-5, true)
                .silu();
        }
        let features = x.to_kind(Kind::Float).mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        let logits =
            features.to_kind(self.weight.kind()).linear(&self.weight, Some(&self.bias)).to_kind(Kind::Float);
        Verdict { features, logits }
    }
}

/// Trains the judge of a run.
///
/// # Errors
/// When the recipe cannot be followed, a checkpoint is damaged or of another recipe, or a file cannot be written.
pub fn train(recipe: &Recipe, place: &Workplace, watch: &mut dyn Watch) -> Result<Outcome, TrainError> {
    recipe.validate()?;
    let model = recipe.config();
    let config = JudgeConfig {
        classes: model.classes.clone(),
        side: model.image_size(),
        channels: recipe.judge.channels.clone(),
    };
    let stream = Stream {
        // Other pictures than those that the VAE learns.
        seed: recipe.seed.wrapping_add(0x6a75_6467_0000),
        classes: config.classes.len(),
        side: config.side as u32,
    };
    let stage = Stage {
        name: "judge",
        place,
        run: &recipe.judge.run,
        settings: json!({
            "seed": recipe.seed,
            "judge": recipe.judge,
            "side": config.side,
            "num_classes": config.classes.len(),
            "dtype": crate::device::kind_name(place.kind),
        }),
        initial: StateDict::new(),
        layout: Layout::of(|at| {
            Judge::load(at, &config);
        }),
        seed: recipe.seed,
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
        let directory = place.directory.join("judge");
        product::write_half(&directory.join("judge.safetensors"), weights)?;
        let mut text =
            serde_json::to_vec_pretty(&config).map_err(|error| TrainError::Recipe(error.to_string()))?;
        text.push(b'\n');
        atomic_file::write(&directory.join("judge.json"), &text)?;
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
        let judge = build(weights, self.place.device, self.place.kind, |at| Judge::load(at, &self.config));
        let classes = Tensor::from_slice(&drawn.classes).to_device(self.place.device);
        let logits = judge.judge(&x).logits;
        let right = share_right(&logits, &classes);
        let loss = logits.cross_entropy_loss::<Tensor>(&classes, None, Reduction::Mean, -100, 0.0);
        Ok((loss, vec![("named_right", right)]))
    }

    fn examine(&mut self, weights: StateDict) -> Result<Exam, TrainError> {
        let judge = build(weights, self.place.device, Kind::Float, |at| Judge::load(at, &self.config));
        let logits: Vec<Tensor> = self
            .held_out
            .pictures
            .chunks(TOGETHER)
            .map(|some| judge.judge(&to_network(some, self.config.side, self.place.device)).logits)
            .collect();
        let classes = Tensor::from_slice(&self.held_out.classes).to_device(self.place.device);
        Ok(Exam {
            figures: vec![("held_out_named_right", share_right(&Tensor::cat(&logits, 0), &classes))],
            sheet: None,
        })
    }
}

/// Share of pictures whose most likely class is theirs.
pub(super) fn share_right(logits: &Tensor, classes: &Tensor) -> f64 {
    logits.argmax(-1, false).eq_tensor(classes).to_kind(Kind::Float).mean(Kind::Float).double_value(&[])
}
