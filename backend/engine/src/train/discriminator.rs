//! The discriminator of a VAE's pictures (Esser et al. 2021, the patch discriminator of Isola et
//! al. 2017): it learns to tell patches of drawn pictures from those that a decoder made, and the
//! decoder learns to be taken for the drawn ones. Losses of pixels leave an edge that may lie here
//! or there soft; a soft edge is what the discriminator sees first.
//!
//! The decoder's share of it is weighed so that at the decoder's last layer its gradient is as long
//! as that of all other losses, times a share. It begins when pictures are already like, and rises
//! from nothing.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{
    OptimizerRecipe, TrainError, Workplace,
    checkpoint::Checkpoint,
    metrics::Figures,
    optimizer::{Optimizer, learning_rate},
    parameters::{Layout, Parameters, build},
};
use crate::weights::{Cursor, StateDict};

/// How a discriminator takes part in the VAE's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscriminatorRecipe {
    /// Steps of the VAE before it begins; with no fewer than all of them it never does.
    pub start: u64,
    /// Steps over which its part in the decoder's loss then rises from nothing.
    pub rise: u64,
    /// Length of its gradient at the decoder's last layer, beside that of all other losses.
    pub weight: f64,
    /// Channels of each level, which halves the side; multiples of 8.
    pub channels: Vec<i64>,
    /// How its weights follow gradients.
    pub optimizer: OptimizerRecipe,
}

/// Channels normalised together.
const GROUPS: i64 = 8;

/// Slope of what is below zero.
const SLOPE: f64 = 0.2;

/// Added to the length of a gradient that divides.
const LEAST: f64 = 1e-4;

/// The largest weight.
const MOST: f64 = 1e4;

/// Added to the seed of the VAE's own weights.
const APART: u64 = 0x6469_7363_0000;

/// Convolutions of 4×4 with stride 2 and one with stride 1 at the end: a number for every patch.
#[derive(Debug)]
struct Network {
    levels: Vec<Level>,
    last: Convolution,
}

#[derive(Debug)]
struct Level {
    convolution: Convolution,
    /// Weight and bias; the first level has none, so that it sees colours as they are.
    norm: Option<[Tensor; 2]>,
}

#[derive(Debug)]
struct Convolution {
    weight: Tensor,
    bias: Tensor,
}

impl Convolution {
    fn load(at: &Cursor, from: i64, to: i64) -> Self {
        Self { weight: at.tensor("weight", &[to, from, 4, 4]), bias: at.tensor("bias", &[to]) }
    }

    fn forward(&self, x: &Tensor, stride: i64) -> Tensor {
        let x = x.to_kind(self.weight.kind());
        x.conv2d(&self.weight, Some(&self.bias), [stride; 2], [1; 2], [1; 2], 1)
    }
}

impl Network {
    fn load(at: &Cursor, channels: &[i64]) -> Self {
        let mut from = 3;
        let levels = (0..).zip(channels).map(|(index, &to)| {
            let at = at.enter("levels").enter(index);
            let norm = at.enter("norm");
            Level {
                convolution: Convolution::load(
                    &at.enter("conv"),
                    std::mem::replace(&mut from, to),
                    to,
                ),
                norm: (index > 0)
                    .then(|| [norm.tensor("weight", &[to]), norm.tensor("bias", &[to])]),
            }
        });
        let levels = levels.collect();
        Self { levels, last: Convolution::load(&at.enter("last"), from, 1) }
    }

    /// How drawn each patch of pictures `[B, 3, side, side]` in −1…1 looks, f32
    /// `[B, 1, patches, patches]`: above 0 for drawn ones.
    fn forward(&self, pictures: &Tensor) -> Tensor {
        let x = self.levels.iter().fold(pictures.shallow_clone(), |x, level| {
            let x = level.convolution.forward(&x, 2);
            let x = match &level.norm {
                Some([weight, bias]) => x.group_norm(GROUPS, Some(weight), Some(bias), 1e-5, true),
                None => x,
            };
            // LeakyReLU, which the bindings give no slope of its own.
            x.maximum(&(&x * SLOPE))
        });
        self.last.forward(&x, 1).to_kind(Kind::Float)
    }
}

/// A discriminator in training.
#[derive(Debug)]
pub(super) struct Discriminator {
    recipe: DiscriminatorRecipe,
    /// Steps of the VAE.
    steps: u64,
    place: Workplace,
    parameters: Parameters,
    optimizer: Optimizer,
}

impl Discriminator {
    /// One that has seen nothing, beside a VAE of `steps` steps whose weights are of `seed`.
    pub(super) fn new(
        recipe: &DiscriminatorRecipe,
        steps: u64,
        place: &Workplace,
        seed: u64,
    ) -> Self {
        let layout = Layout::of(|at| {
            Network::load(at, &recipe.channels);
        });
        let seed = seed.wrapping_add(APART);
        let parameters = Parameters::new(layout, seed, &StateDict::new(), place.device);
        let optimizer = Optimizer::new(&parameters);
        Self { recipe: recipe.clone(), steps, place: place.clone(), parameters, optimizer }
    }

    fn network(&self, weights: StateDict) -> Network {
        let channels = &self.recipe.channels;
        build(weights, &self.place.ops(), self.place.kind, |at| Network::load(at, channels))
    }

    /// Whether it takes part in step `step`.
    fn takes_part(&self, step: u64) -> bool {
        step >= self.recipe.start
    }

    /// Takes part in a decoder's step: its share of the loss of `pictures` `[B, 3, side, side]`
    /// against the drawn `x`, with the figures of its own, after which it has learned a step.
    /// `whole` are the rows whose pictures lack no scale: one that does is soft rightly, and told
    /// that it is not, the decoder invents edges of its own there. `last_layer` is the decoder's.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn judge(
        &mut self,
        loss: Tensor,
        (pictures, x): (&Tensor, &Tensor),
        whole: &[i64],
        last_layer: &Tensor,
        step: u64,
    ) -> Result<(Tensor, Figures), TrainError> {
        if !self.takes_part(step) || whole.is_empty() {
            return Ok((loss, Figures::new()));
        }
        let whole = Tensor::from_slice(whole).to_device(self.place.device);
        let whole_of = |pictures: &Tensor| pictures.index_select(0, &whole);
        let own = self.loss_of_maker(&whole_of(pictures));
        let [of_others, of_own] = [&loss, &own].map(|loss| gradient(loss, pictures));
        let length = |of_pictures: &Tensor| -> Result<f64, TrainError> {
            let through = (pictures * of_pictures).sum(Kind::Float);
            Ok(gradient(&through, last_layer)?.norm().double_value(&[]))
        };
        let (of_others, of_own) = (of_others?, of_own?);
        let weight = self.weight(step, length(&of_others)?, length(&of_own)?);
        let fooled = own.double_value(&[]);
        // Both gradients are at hand: no second way back through classifier and discriminator. The
        // value stays that of the other losses, so that the curve goes on.
        let way = (pictures * (of_others + of_own * weight)).sum(Kind::Float);
        let loss = &way - way.detach() + loss.detach();
        let own_loss = self.learn(&whole_of(x), &whole_of(pictures), step)?;
        let figures = vec![
            ("discriminator", own_loss),
            ("discriminator_weight", weight),
            ("discriminator_score", -fooled),
        ];
        Ok((loss, figures))
    }

    /// What a decoder loses by being seen through, `[]`: less the more drawn its pictures look. Its
    /// gradient goes to the pictures alone.
    fn loss_of_maker(&self, pictures: &Tensor) -> Tensor {
        let fixed = self.parameters.live();
        let fixed = fixed.into_iter().map(|(name, tensor)| (name, tensor.detach())).collect();
        -self.network(fixed).forward(pictures).mean(Kind::Float)
    }

    /// The weight of that loss at `step`, from the lengths of both gradients at the last layer.
    fn weight(&self, step: u64, length_of_others: f64, length_of_own: f64) -> f64 {
        let since = (step + 1).saturating_sub(self.recipe.start) as f64;
        let risen = (since / self.recipe.rise.max(1) as f64).min(1.0);
        let even = (length_of_others / (length_of_own + LEAST)).clamp(0.0, MOST);
        self.recipe.weight * risen * even
    }

    /// Learns to tell drawn pictures from made ones (hinge loss); gives the loss.
    ///
    /// # Errors
    /// When the device fails.
    fn learn(&mut self, drawn: &Tensor, made: &Tensor, step: u64) -> Result<f64, TrainError> {
        let network = self.network(self.parameters.live());
        let both = network.forward(&Tensor::cat(&[drawn, &made.detach()], 0));
        let count = drawn.size()[0];
        let (drawn, made) = (both.narrow(0, 0, count), both.narrow(0, count, count));
        let margin = |sure: Tensor| (sure + 1.0).relu().mean(Kind::Float);
        let loss = (margin(-drawn) + margin(made)) * 0.5;
        loss.f_backward()?;
        let since = |step: u64| step.saturating_sub(self.recipe.start);
        let (done, steps) = (since(step), since(self.steps));
        let rate = learning_rate(&self.recipe.optimizer, done, steps);
        self.optimizer.step(&self.parameters, &self.recipe.optimizer, done, rate);
        Ok(loss.double_value(&[]))
    }

    /// What its next step depends on.
    pub(super) fn memory(&self) -> Vec<(String, Tensor)> {
        let Optimizer { first, second, average, .. } = &self.optimizer;
        let parts = [
            ("weights", self.parameters.flat()),
            ("first_moment", first),
            ("second_moment", second),
            ("average", average),
        ];
        let name = |part| format!("discriminator.{part}");
        parts.into_iter().map(|(part, tensor)| (name(part), tensor.detach())).collect()
    }

    /// Takes that back.
    ///
    /// # Errors
    /// When the checkpoint lacks some of it.
    pub(super) fn remember(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let _no_grad = tch::no_grad_guard();
        for (name, tensor) in self.memory() {
            tensor.shallow_clone().f_copy_(checkpoint.tensor(&name, &tensor.size())?)?;
        }
        Ok(())
    }
}

/// The gradient of a loss at a tensor on the way to it. The way stays for others.
fn gradient(loss: &Tensor, at: &Tensor) -> Result<Tensor, TrainError> {
    let found = Tensor::f_run_backward(&[loss], &[at], true, false)?;
    Ok(found.into_iter().next().unwrap_or_else(|| at.zeros_like()))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::ops::Settings;

    fn recipe() -> DiscriminatorRecipe {
        DiscriminatorRecipe {
            start: 10,
            rise: 4,
            weight: 0.5,
            channels: vec![16, 16],
            optimizer: OptimizerRecipe {
                learning_rate: 4e-3,
                warmup: 1,
                weight_decay: 0.0,
                betas: [0.5, 0.9],
                clip: 10.0,
                averaging: 0.0,
            },
        }
    }

    fn discriminator() -> Discriminator {
        let place = Workplace {
            directory: std::path::PathBuf::new(),
            device: Device::Cpu,
            kind: Kind::Float,
            start: None,
            settings: Settings::default(),
        };
        Discriminator::new(&recipe(), 100, &place, 1)
    }

    /// Pictures of an edge, sharp or soft, at any height.
    fn edges(soft: bool) -> Tensor {
        let rows = Tensor::arange(16, (Kind::Float, Device::Cpu)).view([1, 1, 16, 1]);
        let heights = Tensor::arange(8, (Kind::Float, Device::Cpu)).view([8, 1, 1, 1]) + 4.0;
        let steep = if soft { 0.3 } else { 5.0 };
        ((rows - heights) * steep).tanh().expand([8, 3, 16, 16], false).contiguous()
    }

    #[test]
    fn it_learns_to_see_soft_edges_and_its_gradient_sharpens_them() {
        let mut discriminator = discriminator();
        let (sharp, soft) = (edges(false), edges(true));
        let first = discriminator.learn(&sharp, &soft, 10).unwrap();
        let last =
            (11..60).map(|step| discriminator.learn(&sharp, &soft, step).unwrap()).last().unwrap();
        assert!(last < 0.5 * first, "{first} to {last}");
        assert!(
            discriminator.loss_of_maker(&sharp).double_value(&[])
                < discriminator.loss_of_maker(&soft).double_value(&[])
        );
        // A step against the gradient makes the soft ones look more drawn, and the discriminator
        // itself gets none.
        let pictures = soft.copy().set_requires_grad(true);
        let before = discriminator.loss_of_maker(&pictures);
        before.backward();
        let moved = soft - pictures.grad() * 10.0;
        assert!(discriminator.loss_of_maker(&moved).double_value(&[]) < before.double_value(&[]));
        assert_eq!(
            discriminator.parameters.flat().grad().abs().sum(Kind::Float).double_value(&[]),
            0.0
        );
    }

    #[test]
    fn its_weight_rises_after_the_start_and_makes_both_gradients_alike() {
        let discriminator = discriminator();
        assert!(!discriminator.takes_part(9) && discriminator.takes_part(10));
        let weights: Vec<f64> = (10..16).map(|step| discriminator.weight(step, 3.0, 1.5)).collect();
        let expected = [0.125, 0.25, 0.375, 0.5, 0.5, 0.5].map(|risen| risen * 2.0);
        assert!(
            weights.iter().zip(expected).all(|(a, b)| (a / b - 1.0).abs() < 1e-3),
            "{weights:?}"
        );
        // A decoder that the discriminator is sure of gives no gradient: the weight stays a number.
        assert_eq!(discriminator.weight(20, 3.0, 0.0), 0.5 * MOST);
    }

    #[test]
    fn it_goes_on_where_it_was_to_the_bit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint");
        let (sharp, soft) = (edges(false), edges(true));
        let mut whole = discriminator();
        whole.learn(&sharp, &soft, 10).unwrap();
        let settings = serde_json::json!({});
        let vae = Parameters::new(
            Layout::of(|at| drop(at.tensor("x.weight", &[1, 1]))),
            1,
            &StateDict::new(),
            Device::Cpu,
        );
        let moments = Optimizer::new(&vae);
        super::super::checkpoint::save(&path, 11, &settings, &vae, &moments, &whole.memory())
            .unwrap();
        let mut resumed = discriminator();
        let found = Checkpoint::find(&path, &settings).unwrap().unwrap();
        resumed.remember(&found).unwrap();
        let losses = [&mut whole, &mut resumed]
            .map(|discriminator| discriminator.learn(&sharp, &soft, 11).unwrap().to_bits());
        assert_eq!(losses[0], losses[1]);
        assert_eq!(whole.parameters.flat().detach(), resumed.parameters.flat().detach());
    }
}
