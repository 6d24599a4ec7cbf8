//! The first stage: a VQ-VAE learns drawn pictures, by the losses of VAR's tokenizer: pixels, what
//! a classifier sees, and from some step on a discriminator ([`super::discriminator`]).

use serde_json::json;
use tch::{Kind, Tensor};

use super::{
    Outcome, TrainError, Watch, Workplace,
    checkpoint::Checkpoint,
    codebook::{Codebook, STAGE},
    discriminator::Discriminator,
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
    config::Config,
    net::{quantizer::Quantizer, vae::Vae},
    sample::to_rgb8,
    weights::StateDict,
};

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
        settings: json!({
            "common": product::common_settings(recipe, place.kind),
            "vae": recipe.vae,
            "start": start.as_ref().map(|start| start.1),
        }),
        initial: start.map(|start| start.0).unwrap_or_default(),
        layout: Layout::of(|at| {
            Vae::load(at, &config);
        }),
        seed: recipe.seed,
        curves: &["loss", "pixels", "look", "quantizer", "discriminator", "held_out_mse"],
    };
    let discriminator = recipe.vae.discriminator.as_ref().map(|discriminator| {
        Discriminator::new(discriminator, recipe.vae.run.steps, place, recipe.seed)
    });
    let stream = stream(recipe, &config);
    let held_out = stream.held_out().draw(0, recipe.vae.held_out)?;
    let path = product::model_directory(&place.directory).join("vae.safetensors");
    // What is there then may have a decoder that has learned on.
    let is_there = stage.is_done()? && path.exists();
    let weights = stage.run(watch, |begin| {
        Ok(VaeLesson {
            recipe: recipe.clone(),
            feed: Feed::new(stream, begin, recipe.vae.run.batch),
            codebook: Codebook::new(&recipe.vae, &config, place.device),
            discriminator,
            held_out,
            config: config.clone(),
            place: place.clone(),
            likeness,
        })
    })?;
    if let Some(weights) = weights.as_ref().filter(|_| !is_there) {
        product::write_half(&path, weights)?;
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
    let vae = build(weights, &place.ops(), Kind::Float, |at| Vae::load(at, config));
    let side = config.image_size();
    let (mut psnr, mut square, mut sheet) = (0.0, 0.0, Vec::new());
    let (mut made_edges, mut drawn_edges) = (0.0, 0.0);
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
        made_edges += steepness(&last).sum(Kind::Double).double_value(&[]);
        drawn_edges += steepness(&((&x + 1.0) * 0.5)).sum(Kind::Double).double_value(&[]);
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
            ("edges_of_drawn", made_edges / drawn_edges.max(1e-9)),
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
    codebook: Codebook,
    discriminator: Option<Discriminator>,
    held_out: Drawn,
    likeness: Likeness,
}

/// The drawn pictures that a run's VAE learns.
pub(super) fn stream(recipe: &Recipe, config: &Config) -> Stream {
    Stream {
        seed: recipe.seed,
        classes: recipe.sizes.num_classes as usize,
        side: config.image_size() as u32,
        variety: recipe.variety as f32,
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

/// How steep the steepest edges of pictures `[B, 3, side, side]` are, `[B]`: the mean of the
/// largest hundredth of differences of neighbours in a row.
fn steepness(pictures: &Tensor) -> Tensor {
    let grey = pictures.mean_dim([1i64].as_slice(), false, Kind::Float);
    let width = grey.size()[2];
    let steps = (grey.narrow(2, 1, width - 1) - grey.narrow(2, 0, width - 1)).abs().flatten(1, 2);
    let steepest = (steps.size()[1] / 100).max(1);
    steps.topk(steepest, 1, true, false).0.mean_dim([1i64].as_slice(), false, Kind::Float)
}

/// Up to which scale the decoder sees each picture of a batch: the last, and for some pictures an
/// earlier one.
pub(super) fn shown(
    seed: u64,
    stage: u64,
    prefix_share: f64,
    (batch, scales): (i64, usize),
    step: u64,
) -> Vec<usize> {
    let chances = product::chances(seed, stage, 2 * step, 2 * batch as usize);
    let prefix = |pair: &[f64]| {
        let shortened = pair[0] < prefix_share;
        if shortened {
            ((pair[1] * (scales - 1) as f64) as usize).min(scales - 2)
        } else {
            scales - 1
        }
    };
    chances.chunks_exact(2).map(prefix).collect()
}

/// The pictures of a batch that are shown with all scales.
pub(super) fn whole(shown: &[usize], scales: usize) -> Vec<i64> {
    (0..).zip(shown).filter(|row| *row.1 == scales - 1).map(|row| row.0).collect()
}

/// What the decoder sees: of each picture the sum of the scales up to the one that is `shown`.
pub(super) fn seen(sums: &[Tensor], shown: &[usize]) -> Tensor {
    let batch = sums[0].size()[0];
    let rows: Vec<i64> =
        (0..batch).zip(shown).map(|(row, &scale)| scale as i64 * batch + row).collect();
    let rows = Tensor::from_slice(&rows).to_device(sums[0].device());
    Tensor::cat(sums, 0).index_select(0, &rows)
}

/// The layer whose gradients tell how the discriminator's part is weighed.
pub(super) const LAST_LAYER: &str = "decoder.conv_out.weight";

impl Lesson for VaeLesson {
    fn loss(&mut self, weights: StateDict, step: u64) -> Result<(Tensor, Figures), TrainError> {
        let drawn = self.feed.next()?;
        let (recipe, scales) = (&self.recipe.vae, self.config.scales());
        let x = to_network(&drawn.pictures, self.config.image_size(), self.place.device);
        let last_layer = weights.get(LAST_LAYER).map(Tensor::shallow_clone);
        let vae =
            build(weights, &self.place.ops(), self.place.kind, |at| Vae::load(at, &self.config));
        let latent = vae.encode(&x);
        let (rests, codes) = quantize(&vae.quantize, &latent, scales);
        let all_codes = Tensor::cat(&codes, 1);
        let sums = vae.quantize.partial_sums(&self.codebook.lookup(&vae.quantize, &all_codes));
        self.codebook.see(&vae.quantize, rests, &all_codes);
        // Codewords and φ move to the latents, latents to the codewords.
        let distance = |sum: &Tensor| {
            let square = |a: &Tensor, b: &Tensor| (a - b).square().mean(Kind::Float);
            square(sum, &latent.detach()) + square(&sum.detach(), &latent) * recipe.commitment
        };
        let quantizer = sums.iter().map(distance).sum::<Tensor>() / scales as f64;
        // Straight through: the decoder sees codewords, the encoder its gradient.
        let (seed, share) = (self.recipe.seed, recipe.prefix_share);
        let shown = shown(seed, STAGE, share, (x.size()[0], scales), step);
        let seen = seen(&sums, &shown);
        let pictures = vae.decode_unclamped(&(&latent + (seen - &latent).detach()));
        let (mut loss, mut figures) = self.likeness.loss(&pictures, &x);
        figures.push(("quantizer", quantizer.double_value(&[])));
        if let (Some(discriminator), Some(last_layer)) = (&mut self.discriminator, last_layer) {
            let whole = whole(&shown, scales);
            let own = discriminator.judge(loss, (&pictures, &x), &whole, &last_layer, step)?;
            loss = own.0;
            figures.extend(own.1);
        }
        loss += quantizer;
        Ok((loss, figures))
    }

    fn after(
        &mut self,
        weights: &Parameters,
        optimizer: &mut Optimizer,
        step: u64,
    ) -> Result<(), TrainError> {
        self.codebook.step(weights, optimizer, &self.recipe, step);
        Ok(())
    }

    fn examine(&mut self, weights: StateDict) -> Result<Exam, TrainError> {
        examine(weights, &self.held_out, &self.config, &self.place)
    }

    fn memory(&self) -> Vec<(String, Tensor)> {
        let discriminator = self.discriminator.iter().flat_map(Discriminator::memory);
        self.codebook.memory().into_iter().chain(discriminator).collect()
    }

    fn remember(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        self.codebook.remember(checkpoint)?;
        self.discriminator
            .iter_mut()
            .try_for_each(|discriminator| discriminator.remember(checkpoint))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn the_decoder_sees_each_picture_up_to_the_scale_that_is_shown() {
        let all = shown(1, STAGE, 0.1, (1000, 3), 7);
        assert_eq!(all, shown(1, STAGE, 0.1, (1000, 3), 7));
        assert_eq!(whole(&all, 3).len(), all.iter().filter(|&&scale| scale == 2).count());
        let shortened = all.iter().filter(|&&scale| scale < 2).count();
        assert!((60..140).contains(&shortened), "a tenth is {shortened} of 1000");
        assert!(all.contains(&0) && all.contains(&1) && all.iter().all(|&scale| scale <= 2));
        let sums: Vec<Tensor> = (0..3i64)
            .map(|scale| Tensor::arange(4, (Kind::Float, Device::Cpu)) + 10 * scale)
            .collect();
        let found = Vec::<f32>::try_from(seen(&sums, &[2, 0, 1, 2])).unwrap();
        assert_eq!(found, [20.0, 1.0, 12.0, 23.0]);
    }

    #[test]
    fn soft_pictures_have_edges_less_steep_by_as_much_as_they_are_soft() {
        let columns = Tensor::arange(40, (Kind::Float, Device::Cpu)) - 19.5;
        let edge = |width: f64| {
            ((&columns / width).clamp(-0.5, 0.5) + 0.5)
                .view([1, 1, 1, 40])
                .expand([2, 3, 40, 40], false)
        };
        let of = |width| steepness(&edge(width)).double_value(&[1]);
        // One difference of a row of 39 is a fortieth; the largest hundredth lies within it.
        assert!((of(1.0) - 1.0).abs() < 1e-5, "{}", of(1.0));
        assert!((of(4.0) - 0.25).abs() < 1e-5, "{}", of(4.0));
    }
}
