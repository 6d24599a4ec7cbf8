//! AdamW (Loshchilov and Hutter 2019) with the norm of the gradient bounded, and the running
//! average of the weights that is released.
//!
//! Torch's own optimiser hides its moments, and without them a resumed run is another run.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::parameters::Parameters;

/// How weights follow gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerRecipe {
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises from zero.
    pub warmup: u64,
    /// Pull of weight matrices towards zero.
    pub weight_decay: f64,
    /// How much of the two moments each step keeps.
    pub betas: [f64; 2],
    /// Largest norm of the gradient.
    pub clip: f64,
    /// How much of the average each step keeps, once the average is older than that.
    pub averaging: f64,
}

/// The learning rate at `step` of `steps`: rises in a line over the warm-up, then falls along a
/// half cosine to a hundredth.
pub(super) fn learning_rate(recipe: &OptimizerRecipe, step: u64, steps: u64) -> f64 {
    if step < recipe.warmup {
        return recipe.learning_rate * (step + 1) as f64 / recipe.warmup as f64;
    }
    let span = (steps.max(recipe.warmup + 2) - 1 - recipe.warmup) as f64;
    let along = ((step - recipe.warmup) as f64 / span).min(1.0);
    recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * along).cos()))
}

/// Moments and average of the weights, flat like them.
#[derive(Debug)]
pub(super) struct Optimizer {
    /// f32 `[n]` each.
    pub(super) first: Tensor,
    pub(super) second: Tensor,
    pub(super) average: Tensor,
    /// 1 where a number belongs to a matrix, whose size decay bounds; 0 for biases, norms and
    /// embeddings.
    decays: Tensor,
}

/// Whether weight decay applies to a tensor.
fn decays(name: &str, shape: &[i64]) -> bool {
    let embeds = [
        "class_emb",
        "lvl_embed",
        "pos_",
        "n_d_embed.weight",
        "embedding",
        "scale_mul",
        "scale_shift",
    ];
    shape.len() >= 2 && !embeds.iter().any(|part| name.contains(part))
}

impl Optimizer {
    /// An optimiser that has seen nothing.
    pub(super) fn new(parameters: &Parameters) -> Self {
        let _no_grad = tch::no_grad_guard();
        let flat = parameters.flat();
        let mask: Vec<Tensor> = parameters
            .layout()
            .entries()
            .iter()
            .map(|(name, shape)| {
                let value = f64::from(u8::from(decays(name, shape)));
                Tensor::full([shape.iter().product::<i64>()], value, (Kind::Float, flat.device()))
            })
            .collect();
        Self {
            first: flat.zeros_like(),
            second: flat.zeros_like(),
            average: flat.detach().copy(),
            decays: Tensor::cat(&mask, 0),
        }
    }

    /// Takes the gradient that a backward pass left, moves the weights and the average, and gives
    /// the norm that the gradient had. `step` counts from 0.
    ///
    /// A gradient that is not finite moves nothing; the norm tells.
    pub(super) fn step(
        &mut self,
        parameters: &Parameters,
        recipe: &OptimizerRecipe,
        step: u64,
        rate: f64,
    ) -> f64 {
        let _no_grad = tch::no_grad_guard();
        let mut flat = parameters.flat().shallow_clone();
        let mut gradient = flat.grad();
        let norm = gradient.norm().double_value(&[]);
        if norm.is_finite() {
            if norm > recipe.clip {
                let _ = gradient.g_mul_scalar_(recipe.clip / norm);
            }
            let [beta1, beta2] = recipe.betas;
            let _ = self.first.lerp_(&gradient, 1.0 - beta1);
            let _ = self.second.g_mul_scalar_(beta2);
            let _ = self.second.g_add_(&(gradient.square() * (1.0 - beta2)));
            let age = (step + 1).min(1 << 20) as i32;
            let (seen1, seen2) = (1.0 - beta1.powi(age), 1.0 - beta2.powi(age));
            let reach = self.second.sqrt() / seen2.sqrt() + 1e-8;
            if recipe.weight_decay > 0.0 {
                let _ = flat.g_sub_(&(&flat * &self.decays * (rate * recipe.weight_decay)));
            }
            let _ = flat.g_sub_(&(&self.first / reach * (rate / seen1)));
            // A young average is the mean of what there was, so that the start does not linger in
            // it.
            let keep = recipe.averaging.min((step + 1) as f64 / (step + 10) as f64);
            let _ = self.average.lerp_(&flat, 1.0 - keep);
        }
        let _ = gradient.zero_();
        norm
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{train::parameters::Layout, weights::StateDict};

    fn recipe() -> OptimizerRecipe {
        OptimizerRecipe {
            learning_rate: 0.1,
            warmup: 10,
            weight_decay: 0.0,
            betas: [0.9, 0.99],
            clip: 1e9,
            averaging: 0.9,
        }
    }

    #[test]
    fn the_learning_rate_rises_then_falls_to_a_hundredth() {
        let at = |step| learning_rate(&recipe(), step, 100);
        assert!(
            (at(0) - 0.01).abs() < 1e-12
                && (at(9) - 0.1).abs() < 1e-12
                && (at(10) - 0.1).abs() < 1e-12
        );
        assert!((1..90).all(|i| at(10 + i) < at(9 + i)));
        assert!((at(99) - 0.001).abs() < 1e-9, "{}", at(99));
        assert!(learning_rate(&recipe(), 3, 2).is_finite());
    }

    #[test]
    fn steps_are_those_of_adamw() {
        // The first step of Adam moves by the learning rate against the sign; decay is apart from
        // it.
        let layout = Layout::of(|at| {
            let _ = at.tensor("x.weight", &[2, 1]);
        });
        let start = StateDict::from([(
            "x.weight".to_owned(),
            Tensor::from_slice(&[2f32, -1.0]).view([2, 1]),
        )]);
        let parameters = Parameters::new(layout, 0, &start, Device::Cpu);
        let mut optimizer = Optimizer::new(&parameters);
        let recipe = OptimizerRecipe { weight_decay: 0.5, ..recipe() };
        let run = || {
            let weights = Tensor::from_slice(&[3f32, -4.0]).view([2, 1]);
            (&parameters.live()["x.weight"] * weights).sum(Kind::Float).backward();
        };
        run();
        let norm = optimizer.step(&parameters, &recipe, 0, 0.1);
        assert!((norm - 5.0).abs() < 1e-6);
        let found = Vec::<f32>::try_from(parameters.flat().detach()).unwrap();
        let expected = [2.0 - 0.05 * 2.0 - 0.1, -1.0 + 0.05 + 0.1];
        assert!(
            found.iter().zip(expected).all(|(a, b): (&f32, f64)| (f64::from(*a) - b).abs() < 1e-6),
            "{found:?}"
        );
        // The gradient does not add up over steps.
        run();
        assert!((optimizer.step(&parameters, &recipe, 1, 0.1) - 5.0).abs() < 1e-6);
    }

    #[test]
    fn a_gradient_that_is_no_number_moves_nothing() {
        let layout = Layout::of(|at| {
            let _ = at.tensor("x.weight", &[1, 1]);
        });
        let parameters = Parameters::new(layout, 0, &StateDict::new(), Device::Cpu);
        let before = parameters.flat().detach().copy();
        (&parameters.live()["x.weight"] / 0.0 * 0.0).sum(Kind::Float).backward();
        let mut optimizer = Optimizer::new(&parameters);
        assert!(!optimizer.step(&parameters, &recipe(), 0, 0.1).is_finite());
        assert_eq!(parameters.flat().detach(), before);
    }
}
