//! The last stage: the decoder alone learns on, from tokens as they are. Pictures get sharper, and
//! nothing that teacher and student have learned changes, since tokens depend on encoder and
//! quantizer alone.

use serde_json::json;
use tch::{Kind, Tensor};

use super::{
    Outcome, TrainError, Watch, Workplace,
    checkpoint::Checkpoint,
    discriminator::Discriminator,
    feed::{Drawn, Feed},
    metrics::Figures,
    parameters::Layout,
    product::{self, build},
    recipe::Recipe,
    sheet::to_network,
    stage::{Exam, Lesson, Stage, outcome},
    vae::{LAST_LAYER, Likeness, examine, seen, shown, stream, whole},
};
use crate::{config::Config, net::vae::Vae, weights::StateDict};

/// Number of this stage among those that draw chances.
const STAGE: u64 = 5;

/// Trains the decoder of a run's VAE on and puts it in the run's bundle, in place of the one that
/// was there.
///
/// # Errors
/// When the recipe has no such stage or cannot be followed, the VAE is missing, a checkpoint is
/// damaged or of another recipe, or a file cannot be written.
pub fn train(
    recipe: &Recipe,
    place: &Workplace,
    watch: &mut dyn Watch,
) -> Result<Outcome, TrainError> {
    recipe.validate()?;
    let Some(decoder) = &recipe.decoder else {
        return Err(TrainError::Recipe(
            "the recipe has no \"decoder\"; give it one, or leave this stage out".into(),
        ));
    };
    let config = recipe.config();
    let Some(likeness) = Likeness::prepare(recipe, place, watch)? else {
        return Ok(Outcome::Stopped);
    };
    let model = product::model_directory(&place.directory);
    let vae = product::load_vae(&model, place, &config, Kind::Float)?;
    let start = product::start("vae", place, |at| {
        Vae::load(at, &config);
    })?;
    let learns = |name: &str| !product::makes_tokens(name);
    let fixed = select(&vae.tensors, product::makes_tokens);
    let from = start.as_ref().map_or(&vae.tensors, |(tensors, _)| tensors);
    let initial = select(from, learns);
    let stage = Stage {
        name: "decoder",
        place,
        run: &decoder.run,
        settings: json!({
            "common": product::common_settings(recipe, place.kind),
            "decoder": decoder,
            "likeness": [recipe.vae.gradient_loss, recipe.vae.look_loss],
            "vae": vae.fingerprint,
            "start": start.as_ref().map(|start| start.1),
        }),
        initial,
        layout: Layout::of(|at| {
            Vae::load(at, &config);
        })
        .only(learns),
        seed: recipe.seed,
        curves: &["loss", "pixels", "look", "discriminator", "held_out_mse"],
    };
    let discriminator = decoder.discriminator.as_ref().map(|discriminator| {
        Discriminator::new(discriminator, decoder.run.steps, place, recipe.seed)
    });
    let stream = stream(recipe, &config);
    // Pictures after those that the VAE has seen.
    let seen_before =
        recipe.vae.run.steps * recipe.vae.run.batch as u64 / decoder.run.batch as u64 + 1;
    let held_out = stream.held_out().draw(0, recipe.vae.held_out)?;
    let weights = stage.run(watch, |begin| {
        Ok(DecoderLesson {
            recipe: recipe.clone(),
            feed: Feed::new(stream, seen_before + begin, decoder.run.batch),
            fixed: fixed
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.to_device(place.device)))
                .collect(),
            held_out,
            config: config.clone(),
            place: place.clone(),
            vae: vae.network,
            likeness,
            prefix_share: decoder.prefix_share,
            discriminator,
        })
    })?;
    let weights = weights.map(|learned| together(&fixed, learned));
    if let Some(weights) = &weights {
        product::write_half(&model.join("vae.safetensors"), weights)?;
    }
    Ok(outcome(weights))
}

/// The tensors whose names are wanted.
fn select(tensors: &StateDict, wanted: impl Fn(&str) -> bool) -> StateDict {
    let wanted = tensors.iter().filter(|(name, _)| wanted(name));
    wanted.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

/// A whole VAE.
fn together(fixed: &StateDict, mut learned: StateDict) -> StateDict {
    learned.extend(select(fixed, |_| true));
    learned
}

#[derive(Debug)]
struct DecoderLesson {
    recipe: Recipe,
    config: Config,
    place: Workplace,
    feed: Feed,
    held_out: Drawn,
    /// Makes the tokens.
    vae: Vae,
    /// Weights that do not learn.
    fixed: StateDict,
    likeness: Likeness,
    prefix_share: f64,
    discriminator: Option<Discriminator>,
}

impl Lesson for DecoderLesson {
    fn loss(&mut self, weights: StateDict, step: u64) -> Result<(Tensor, Figures), TrainError> {
        let drawn = self.feed.next()?;
        let x = to_network(&drawn.pictures, self.config.image_size(), self.place.device);
        let (scales, share) = (self.config.scales(), self.prefix_share);
        let shown = shown(self.recipe.seed, STAGE, share, (x.size()[0], scales), step);
        let f_hat = {
            let _no_grad = tch::no_grad_guard();
            let quantize = &self.vae.quantize;
            let codes = Tensor::cat(&self.vae.tokenize(&x), 1);
            seen(&quantize.partial_sums(&quantize.lookup(&codes)), &shown)
        };
        let last_layer = weights.get(LAST_LAYER).map(Tensor::shallow_clone);
        let weights = together(&self.fixed, weights);
        let vae =
            build(weights, &self.place.ops(), self.place.kind, |at| Vae::load(at, &self.config));
        let pictures = vae.decode_unclamped(&f_hat);
        let (mut loss, mut figures) = self.likeness.loss(&pictures, &x);
        if let (Some(discriminator), Some(last_layer)) = (&mut self.discriminator, last_layer) {
            let whole = whole(&shown, scales);
            let own = discriminator.judge(loss, (&pictures, &x), &whole, &last_layer, step)?;
            loss = own.0;
            figures.extend(own.1);
        }
        Ok((loss, figures))
    }

    fn examine(&mut self, weights: StateDict) -> Result<Exam, TrainError> {
        examine(together(&self.fixed, weights), &self.held_out, &self.config, &self.place)
    }

    fn memory(&self) -> Vec<(String, Tensor)> {
        self.discriminator.iter().flat_map(Discriminator::memory).collect()
    }

    fn remember(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        self.discriminator
            .iter_mut()
            .try_for_each(|discriminator| discriminator.remember(checkpoint))
    }
}
