//! The codewords of a VAE in training: how they follow the latents, and how dead ones come back.
//!
//! A codeword is the running mean of the vectors nearest to it (van den Oord et al. 2017, appendix
//! A.1), or follows the gradient of its distance to them where the recipe says so. One that next to
//! nothing is nearest to is put where a vector of the last batch is.

use tch::{Device, Kind, Tensor};

use super::{
    TrainError,
    checkpoint::Checkpoint,
    optimizer::Optimizer,
    parameters::Parameters,
    product,
    recipe::{Recipe, VaeRecipe},
};
use crate::{config::Config, net::quantizer::Quantizer};

/// Number of the VAE's stage among those that draw chances.
pub(super) const STAGE: u64 = 1;

/// A codeword is dead if it is used less than this share of the mean.
const DEAD: f64 = 0.03;

/// How many vectors a codeword counts for before it was nearest to any. The means so begin where
/// the codewords are, be they new or of a bundle that learns on.
const BEGIN: f64 = 1.0;

/// A codeword that counts for fewer than this stays where it is: its sum has no digits left.
const FEWEST: f64 = 1e-3;

/// Name of the codewords among the weights.
const CODEWORDS: &str = "quantize.embedding.weight";

/// What is known of the codewords beside where they are.
#[derive(Debug)]
pub(super) struct Codebook {
    latent: i64,
    /// Uses of each codeword since the last revival, f32 `[V]`.
    usage: Tensor,
    /// What each scale of the last batch had to quantize, f32 `[B, p², Cv]`.
    rests: Vec<Tensor>,
    means: Option<Means>,
}

/// Running sums of the vectors nearest to each codeword.
#[derive(Debug)]
struct Means {
    /// How much a step keeps.
    keep: f64,
    /// f32 `[V]`.
    counts: Tensor,
    /// f32 `[V, Cv]`; empty until the first batch shows where the codewords are.
    sums: Tensor,
}

impl Codebook {
    /// Of codewords that nothing was nearest to yet.
    pub(super) fn new(recipe: &VaeRecipe, config: &Config, device: Device) -> Self {
        let options = (Kind::Float, device);
        let keep = recipe.codebook_averaging;
        let means = (keep > 0.0).then(|| Means {
            keep,
            counts: Tensor::full([config.vocabulary], BEGIN, options),
            sums: Tensor::zeros([0, config.latent_channels], options),
        });
        Self {
            latent: config.latent_channels,
            usage: Tensor::zeros([config.vocabulary], options),
            rests: Vec::new(),
            means,
        }
    }

    /// The codewords of `codes`; gradients flow to them unless they are means.
    pub(super) fn lookup(&self, quantizer: &Quantizer, codes: &Tensor) -> Tensor {
        let found = quantizer.lookup(codes);
        if self.means.is_some() { found.detach() } else { found }
    }

    /// Takes in what each scale of a batch had to quantize, f32 `[B, p², Cv]`, and the codewords
    /// nearest to it, i64 `[B, N]`.
    pub(super) fn see(&mut self, quantizer: &Quantizer, rests: Vec<Tensor>, codes: &Tensor) {
        let _no_grad = tch::no_grad_guard();
        let vocabulary = self.usage.size()[0];
        let codes = codes.view([-1]);
        let uses = codes.bincount(None::<&Tensor>, vocabulary).to_kind(Kind::Float);
        self.usage += &uses;
        if let Some(Means { keep, counts, sums }) = &mut self.means {
            if sums.size()[0] == 0 {
                *sums = quantizer.embedding.detach() * BEGIN;
            }
            let vectors = Tensor::cat(&rests, 1).reshape([-1, self.latent]);
            let sum = sums.zeros_like().index_add(0, &codes, &vectors);
            *counts = &*counts * *keep + uses * (1.0 - *keep);
            *sums = &*sums * *keep + sum * (1.0 - *keep);
        }
        self.rests = rests;
    }

    /// Moves the codewords after step `step` (from 0), and every so often puts dead ones elsewhere.
    pub(super) fn step(
        &mut self,
        weights: &Parameters,
        optimizer: &mut Optimizer,
        recipe: &Recipe,
        step: u64,
    ) {
        let _no_grad = tch::no_grad_guard();
        if let Some(Means { counts, sums, .. }) = &self.means {
            let (counts, codewords) =
                (counts.unsqueeze(1), self.codewords(weights, weights.flat()));
            let Some(mut codewords) = codewords else { return };
            let moved =
                (sums / counts.clamp_min(FEWEST)).where_self(&counts.ge(FEWEST), &codewords);
            codewords.copy_(&moved);
        }
        let done = step + 1;
        if done.is_multiple_of(recipe.vae.revive_every) && done <= recipe.vae.revive_until {
            self.revive(weights, optimizer, recipe.seed, step);
            let _ = self.usage.zero_();
        }
    }

    /// The codewords in a buffer like that of the weights, `[V, Cv]`.
    fn codewords(&self, weights: &Parameters, flat: &Tensor) -> Option<Tensor> {
        let range = weights.layout().range(CODEWORDS)?;
        let part = flat.detach().narrow(0, range.start, range.end - range.start);
        Some(part.view([-1, self.latent]))
    }

    /// Puts dead codewords where vectors of the last batch are.
    fn revive(&mut self, weights: &Parameters, optimizer: &Optimizer, seed: u64, step: u64) {
        let usage = Vec::<f32>::try_from(&self.usage).unwrap_or_default();
        let mean = usage.iter().sum::<f32>() / usage.len().max(1) as f32;
        let dead: Vec<i64> = (0..)
            .zip(&usage)
            .filter(|(_, uses)| f64::from(**uses) < DEAD * f64::from(mean))
            .map(|(code, _)| code)
            .collect();
        if dead.is_empty() || self.rests.is_empty() {
            return;
        }
        let chances = product::chances(seed, STAGE, 2 * step + 1, 2 * dead.len());
        let pick = |chance: f64, n: usize| ((chance * n as f64) as usize).min(n - 1);
        let found: Vec<Tensor> = chances
            .chunks_exact(2)
            .map(|pair| {
                // Scales in equal parts: the coarse ones have few tokens and the largest latents.
                let rest = self.rests[pick(pair[0], self.rests.len())].reshape([-1, self.latent]);
                rest.get(pick(pair[1], rest.size()[0] as usize) as i64)
            })
            .collect();
        let (rows, found) =
            (Tensor::from_slice(&dead).to_device(self.usage.device()), Tensor::stack(&found, 0));
        let nothing = found.zeros_like();
        for (flat, with) in [
            (weights.flat(), &found),
            (&optimizer.average, &found),
            (&optimizer.first, &nothing),
            (&optimizer.second, &nothing),
        ] {
            if let Some(mut codewords) = self.codewords(weights, flat) {
                let _ = codewords.index_copy_(0, &rows, with);
            }
        }
        if let Some(Means { counts, sums, .. }) = &mut self.means {
            let _ = counts.index_fill_(0, &rows, BEGIN);
            let _ = sums.index_copy_(0, &rows, &(found * BEGIN));
        }
    }

    /// What the next step depends on.
    pub(super) fn memory(&self) -> Vec<(String, Tensor)> {
        let mut memory = vec![("usage".to_owned(), self.usage.shallow_clone())];
        if let Some(Means { counts, sums, .. }) = &self.means {
            memory.push(("codeword_counts".to_owned(), counts.shallow_clone()));
            memory.push(("codeword_sums".to_owned(), sums.shallow_clone()));
        }
        memory
    }

    /// Takes that back.
    ///
    /// # Errors
    /// When the checkpoint lacks some of it.
    pub(super) fn remember(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let device = self.usage.device();
        let vocabulary = self.usage.size()[0];
        let take = |name: &str, shape: &[i64]| -> Result<Tensor, TrainError> {
            Ok(checkpoint.tensor(name, shape)?.f_to_device(device)?)
        };
        self.usage = take("usage", &[vocabulary])?;
        if let Some(Means { counts, sums, .. }) = &mut self.means {
            *counts = take("codeword_counts", &[vocabulary])?;
            *sums = take("codeword_sums", &[vocabulary, self.latent])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::vae::Vae,
        ops::Ops,
        train::parameters::{Layout, build},
        weights::StateDict,
    };

    /// A recipe whose codewords are means, its weights and its quantizer.
    fn fixture() -> (Recipe, Config, Parameters) {
        let mut recipe = Recipe::preset("smoke").unwrap();
        recipe.vae.codebook_averaging = 0.5;
        recipe.vae.revive_every = 3;
        recipe.vae.revive_until = 3;
        let config = recipe.config();
        let layout = Layout::of(|at| {
            Vae::load(at, &config);
        });
        let parameters = Parameters::new(layout, 1, &StateDict::new(), Device::Cpu);
        (recipe, config, parameters)
    }

    fn quantizer(parameters: &Parameters, config: &Config) -> Quantizer {
        build(parameters.live(), &Ops::plain(Device::Cpu), Kind::Float, |at| Vae::load(at, config))
            .quantize
    }

    #[test]
    fn codewords_move_to_the_mean_of_the_vectors_nearest_to_them() {
        let (recipe, config, parameters) = fixture();
        let mut optimizer = Optimizer::new(&parameters);
        let mut codebook = Codebook::new(&recipe.vae, &config, Device::Cpu);
        let before = quantizer(&parameters, &config).embedding.detach().copy();
        let vector = |at: f32| Tensor::from_slice(&[at, -at, 1.0, 0.5]);
        for step in 0..2 {
            // Codeword 3 is nearest to two vectors, codeword 5 to one, the others to none.
            let rests = Tensor::stack(&[vector(1.0), vector(3.0), vector(9.0)], 0).unsqueeze(0);
            let codes = Tensor::from_slice(&[3i64, 3, 5]).unsqueeze(0);
            codebook.see(&quantizer(&parameters, &config), vec![rests], &codes);
            codebook.step(&parameters, &mut optimizer, &recipe, step);
        }
        let after = quantizer(&parameters, &config).embedding.detach();
        // Of one at first and two a step: a quarter of the start is left beside the vectors' sums.
        let (kept, came) = (0.25, 0.25 + 0.5);
        let expected = |row: i64, sum: Tensor, count: f64| {
            (before.get(row) * kept + sum * came) / (kept + came * count)
        };
        let close = |row: i64, wanted: Tensor| {
            let off = (after.get(row) - wanted).abs().max().double_value(&[]);
            assert!(off < 1e-5, "codeword {row} is off by {off}");
        };
        close(3, expected(3, vector(1.0) + vector(3.0), 2.0));
        close(5, expected(5, vector(9.0), 1.0));
        close(4, before.get(4));
    }

    #[test]
    fn dead_codewords_come_back_where_vectors_are_and_stay_there() {
        let (recipe, config, parameters) = fixture();
        let mut optimizer = Optimizer::new(&parameters);
        let mut codebook = Codebook::new(&recipe.vae, &config, Device::Cpu);
        let far = Tensor::from_slice(&[7f32, 7.0, 7.0, 7.0]).view([1, 1, 4]);
        let codes = Tensor::from_slice(&[0i64]).unsqueeze(0);
        for step in 0..4 {
            let quantizer = quantizer(&parameters, &config);
            codebook.see(&quantizer, vec![far.shallow_clone()], &codes);
            codebook.step(&parameters, &mut optimizer, &recipe, step);
        }
        let after = quantizer(&parameters, &config).embedding.detach();
        let off = (after.narrow(0, 1, 31) - 7.0).abs().max().double_value(&[]);
        assert!(off < 1e-4, "a dead codeword is {off} away");
    }

    #[test]
    fn gradients_reach_codewords_only_where_they_are_no_means() {
        let (mut recipe, config, parameters) = fixture();
        for (averaging, learns) in [(0.9, false), (0.0, true)] {
            recipe.vae.codebook_averaging = averaging;
            let codebook = Codebook::new(&recipe.vae, &config, Device::Cpu);
            let quantizer = quantizer(&parameters, &config);
            let codes = Tensor::from_slice(&[1i64, 2]).unsqueeze(0);
            assert_eq!(codebook.lookup(&quantizer, &codes).requires_grad(), learns);
        }
    }
}
