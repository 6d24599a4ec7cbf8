//! The first stage: a VQ-VAE learns drawn pictures (the losses of VAR's tokenizer without its
//! critic).

use serde_json::json;
use tch::{Kind, Tensor};

use super::{
    Outcome, TrainError, Watch, Workplace,
    checkpoint::Checkpoint,
    feed::{Drawn, Feed, Stream},
    judge::{self, Judge},
    metrics::Figures,
    optimizer::Optimizer,
    parameters::{Layout, Parameters},
    product::{self, build},
    recipe::{Recipe, VaeRecipe},
    sheet::to_network,
    stage::{Exam, Lesson, Stage, outcome},
};
use crate::{
    bundle::{config::Config, weights::StateDict},
    net::{quantizer::Quantizer, vae::Vae},
    sample::to_rgb8,
};

/// Number of this stage among those that draw chances.
const STAGE: u64 = 1;

/// A codeword is dead if it is used less than this share of the mean.
const DEAD: f64 = 0.03;

/// Pictures looked at together on held-out data.
const TOGETHER: usize = 64;

/// Trains the VAE of a run and puts it in the run's bundle.
///
/// # Errors
/// When the recipe cannot be followed, a checkpoint is damaged or of another recipe, or a file
/// cannot be written.
pub fn train(
    recipe: &Recipe,
    place: &Workplace,
    watch: &mut dyn Watch,
) -> Result<Outcome, TrainError> {
    recipe.validate()?;
    let config = recipe.config();
    let Some(likeness) = Likeness::prepare(recipe, place, watch)? else {
        return Ok(Outcome::Stopped);
    };
    let start = product::start("vae", place, |at| {
        Vae::load(at, &config);
    })?;
    let stage = Stage {
        name: "vae",
        place,
        run: &recipe.vae.run,
        settings: json!({"common": product::common_settings(recipe, place.kind), "vae": recipe.vae, "start": start.as_ref().map(|start| start.1)}),
        initial: start.map(|start| start.0).unwrap_or_default(),
        layout: Layout::of(|at| {
            Vae::load(at, &config);
        }),
        seed: recipe.seed,
        curves: &["loss", "pixels", "look", "quantizer", "held_out_mse"],
    };
    let stream = stream(recipe, &config);
    let held_out = stream.held_out().draw(0, recipe.vae.held_out)?;
    let weights = stage.run(watch, |begin| {
        Ok(VaeLesson {
            recipe: recipe.clone(),
            feed: Feed::new(stream, begin, recipe.vae.run.batch),
            usage: Tensor::zeros([config.vocabulary], (Kind::Float, place.device)),
            rests: Vec::new(),
            held_out,
            config: config.clone(),
            place: place.clone(),
            likeness,
        })
    })?;
    if let Some(weights) = &weights {
        product::write_half(
            &product::model_directory(&place.directory).join("vae.safetensors"),
            weights,
        )?;
        product::write_config(&place.directory, &config)?;
    }
    Ok(outcome(weights))
}

/// What a VAE does on held-out pictures, with a sheet of them: as they are, then from each prefix
/// of the scales.
pub(super) fn examine(
    weights: StateDict,
    held_out: &Drawn,
    config: &Config,
    place: &Workplace,
) -> Result<Exam, TrainError> {
    // Held-out figures are of the weights as they will be used: in f32.
    let vae = build(weights, place.device, Kind::Float, |at| Vae::load(at, config));
    let side = config.image_size();
    let (mut psnr, mut square, mut sheet) = (0.0, 0.0, Vec::new());
    let used = Tensor::zeros([config.vocabulary], (Kind::Float, place.device));
    for (part, pictures) in held_out.pictures.chunks(TOGETHER).enumerate() {
        let x = to_network(pictures, side, place.device);
        let codes = Tensor::cat(&vae.tokenize(&x), 1);
        let _ = used.shallow_clone().g_add_(
            &codes.view([-1]).bincount(None::<&Tensor>, config.vocabulary).to_kind(Kind::Float),
        );
        let sums = vae.quantize.partial_sums(&vae.quantize.lookup(&codes));
        let shown = |sum: &Tensor| (vae.decode(sum) + 1.0) * 0.5;
        let last = shown(&sums[sums.len() - 1]);
        let each = (&last - (&x + 1.0) * 0.5).square().mean_dim(
            [1i64, 2, 3].as_slice(),
            false,
            Kind::Float,
        );
        square += each.sum(Kind::Double).double_value(&[]);
        psnr += (each.log10() * -10.0).sum(Kind::Double).double_value(&[]);
        if part == 0 {
            let rows = config.num_classes.min(x.size()[0]);
            let first = |tensor: Tensor| to_rgb8(&tensor.narrow(0, 0, rows));
            let mut columns = vec![first((&x + 1.0) * 0.5)?];
            for sum in &sums {
                columns.push(first(shown(&sum.narrow(0, 0, rows)))?);
            }
            sheet = (0..rows as usize)
                .flat_map(|row| columns.iter().map(move |column| column[row].clone()))
                .collect();
        }
    }
    let n = held_out.pictures.len() as f64;
    let in_use = used.gt(0.0).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
    Ok(Exam {
        figures: vec![
            ("held_out_psnr_db", psnr / n),
            ("held_out_mse", square / n),
            ("codes_in_use", in_use),
        ],
        sheet: Some((sheet, side as usize, config.scales() + 1)),
    })
}

#[derive(Debug)]
struct VaeLesson {
    recipe: Recipe,
    config: Config,
    place: Workplace,
    feed: Feed,
    /// Uses of each codeword since the last revival, f32 `[V]`.
    usage: Tensor,
    /// What each scale of the last batch had to quantize, f32 `[B, p², Cv]`.
    rests: Vec<Tensor>,
    held_out: Drawn,
    likeness: Likeness,
}

/// The drawn pictures that a run's VAE learns.
pub(super) fn stream(recipe: &Recipe, config: &Config) -> Stream {
    Stream {
        seed: recipe.seed,
        classes: recipe.sizes.num_classes as usize,
        side: config.image_size() as u32,
    }
}

/// How unlike pictures are to those that they should be.
#[derive(Debug)]
pub(super) struct Likeness {
    gradient_loss: f64,
    look_loss: f64,
    /// A classifier through which pictures are compared.
    eye: Option<Judge>,
}

impl Likeness {
    /// As the recipe wants it, after the classifier is trained; `None` if the watcher stopped that.
    pub(super) fn prepare(
        recipe: &Recipe,
        place: &Workplace,
        watch: &mut dyn Watch,
    ) -> Result<Option<Self>, TrainError> {
        let VaeRecipe { gradient_loss, look_loss, .. } = recipe.vae;
        let eye = if look_loss > 0.0 {
            if judge::train_eye(recipe, place, watch)? == Outcome::Stopped {
                return Ok(None);
            }
            Some(Judge::open(&place.directory.join("eye"), place)?.0)
        } else {
            None
        };
        Ok(Some(Self { gradient_loss, look_loss, eye }))
    }

    /// The loss of `pictures` against `x`, `[B, 3, side, side]` in −1…1, and its parts.
    pub(super) fn loss(&self, pictures: &Tensor, x: &Tensor) -> (Tensor, Figures) {
        let difference = pictures - x;
        let pixels = difference.abs().mean(Kind::Float) + difference.square().mean(Kind::Float);
        let edges = gradient_difference(pictures, x) * self.gradient_loss;
        let mut figures =
            vec![("pixels", pixels.double_value(&[])), ("edges", edges.double_value(&[]))];
        let mut loss = pixels + edges;
        if let Some(eye) = &self.eye {
            let look = judge::look_apart(eye, pictures, x);
            figures.push(("look", look.double_value(&[])));
            loss += look * self.look_loss;
        }
        (loss, figures)
    }
}

/// What each scale has to quantize and the codewords nearest to it: f32 `[B, p², Cv]` and i64
/// `[B, p²]` a scale.
fn quantize(quantizer: &Quantizer, latent: &Tensor, scales: usize) -> (Vec<Tensor>, Vec<Tensor>) {
    let _no_grad = tch::no_grad_guard();
    let mut rest = latent.detach();
    (0..scales)
        .map(|k| {
            let wanted = quantizer.downsample(&rest, k);
            let codes = quantizer.nearest(&wanted);
            rest = &rest - quantizer.contribution(k, &quantizer.lookup(&codes));
            (wanted, codes)
        })
        .unzip()
}

/// Mean absolute difference of neighbouring pixels' differences, along both axes.
fn gradient_difference(a: &Tensor, b: &Tensor) -> Tensor {
    let along = |x: &Tensor, axis: i64| {
        let n = x.size()[axis as usize];
        x.narrow(axis, 1, n - 1) - x.narrow(axis, 0, n - 1)
    };
    let one = |axis| (along(a, axis) - along(b, axis)).abs().mean(Kind::Float);
    (one(2) + one(3)) * 0.5
}

/// What the decoder sees: the sum of all scales, and for some pictures of a prefix of them.
pub(super) fn seen(recipe: &Recipe, stage: u64, sums: &[Tensor], step: u64) -> Tensor {
    let batch = sums[0].size()[0];
    let scales = sums.len();
    let chances = product::chances(recipe.seed, stage, 2 * step, 2 * batch as usize);
    let prefix = |pair: &[f64]| {
        let shortened = pair[0] < recipe.vae.prefix_share;
        if shortened {
            ((pair[1] * (scales - 1) as f64) as usize).min(scales - 2)
        } else {
            scales - 1
        }
    };
    let rows: Vec<i64> = (0..batch)
        .zip(chances.chunks_exact(2))
        .map(|(row, pair)| prefix(pair) as i64 * batch + row)
        .collect();
    let rows = Tensor::from_slice(&rows).to_device(sums[0].device());
    Tensor::cat(sums, 0).index_select(0, &rows)
}

impl Lesson for VaeLesson {
    fn loss(&mut self, weights: StateDict, step: u64) -> Result<(Tensor, Figures), TrainError> {
        let drawn = self.feed.next()?;
        let (recipe, scales) = (&self.recipe.vae, self.config.scales());
        let x = to_network(&drawn.pictures, self.config.image_size(), self.place.device);
        let vae =
            build(weights, self.place.device, self.place.kind, |at| Vae::load(at, &self.config));
        let latent = vae.encode(&x);
        let (rests, codes) = quantize(&vae.quantize, &latent, scales);
        self.rests = rests;
        let all_codes = Tensor::cat(&codes, 1);
        self.usage =
            &self.usage + all_codes.view([-1]).bincount(None::<&Tensor>, self.config.vocabulary);
        let sums = vae.quantize.partial_sums(&vae.quantize.lookup(&all_codes));
        // Codewords and φ move to the latents, latents to the codewords.
        let distance = |sum: &Tensor| {
            let square = |a: &Tensor, b: &Tensor| (a - b).square().mean(Kind::Float);
            square(sum, &latent.detach()) + square(&sum.detach(), &latent) * recipe.commitment
        };
        let quantizer = sums.iter().map(distance).sum::<Tensor>() / scales as f64;
        // Straight through: the decoder sees codewords, the encoder its gradient.
        let seen = seen(&self.recipe, STAGE, &sums, step);
        let pictures = vae.decode_unclamped(&(&latent + (seen - &latent).detach()));
        let (mut loss, mut figures) = self.likeness.loss(&pictures, &x);
        figures.push(("quantizer", quantizer.double_value(&[])));
        loss += quantizer;
        Ok((loss, figures))
    }

    fn after(
        &mut self,
        weights: &Parameters,
        optimizer: &mut Optimizer,
        step: u64,
    ) -> Result<(), TrainError> {
        let done = step + 1;
        if done.is_multiple_of(self.recipe.vae.revive_every) && done <= self.recipe.vae.revive_until
        {
            self.revive(weights, optimizer, step);
            let _ = self.usage.zero_();
        }
        Ok(())
    }

    fn examine(&mut self, weights: StateDict) -> Result<Exam, TrainError> {
        examine(weights, &self.held_out, &self.config, &self.place)
    }

    fn memory(&self) -> Vec<(String, Tensor)> {
        vec![("usage".into(), self.usage.shallow_clone())]
    }

    fn remember(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        self.usage = checkpoint.tensor("usage", &self.usage.size())?.to_device(self.place.device);
        Ok(())
    }
}

impl VaeLesson {
    /// Puts dead codewords where latents of the last batch are.
    fn revive(&self, weights: &Parameters, optimizer: &mut Optimizer, step: u64) {
        let _no_grad = tch::no_grad_guard();
        let usage = Vec::<f32>::try_from(&self.usage).unwrap_or_default();
        let mean = usage.iter().sum::<f32>() / usage.len().max(1) as f32;
        let dead: Vec<i64> = (0..)
            .zip(&usage)
            .filter(|(_, uses)| f64::from(**uses) < DEAD * f64::from(mean))
            .map(|(code, _)| code)
            .collect();
        let Some(range) = weights.layout().range("quantize.embedding.weight") else { return };
        if dead.is_empty() {
            return;
        }
        let chances = product::chances(self.recipe.seed, STAGE, 2 * step + 1, 2 * dead.len());
        let pick = |chance: f64, n: usize| ((chance * n as f64) as usize).min(n - 1);
        let latent = self.config.latent_channels;
        let found: Vec<Tensor> = chances
            .chunks_exact(2)
            .map(|pair| {
                // Scales in equal parts: the coarse ones have few tokens and the largest latents.
                let rest = self.rests[pick(pair[0], self.rests.len())].reshape([-1, latent]);
                rest.get(pick(pair[1], rest.size()[0] as usize) as i64)
            })
            .collect();
        let (rows, found) =
            (Tensor::from_slice(&dead).to_device(self.place.device), Tensor::stack(&found, 0));
        let place = |flat: &Tensor, with: &Tensor| {
            let mut codebook =
                flat.detach().narrow(0, range.start, range.end - range.start).view([-1, latent]);
            let _ = codebook.index_copy_(0, &rows, with);
        };
        place(weights.flat(), &found);
        place(&optimizer.average, &found);
        place(&optimizer.first, &found.zeros_like());
        place(&optimizer.second, &found.zeros_like());
    }
}
