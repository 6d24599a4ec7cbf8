//! Whether the flow's ends follow the teacher's laws, measured on a model.

use std::path::Path;

use tch::{Kind, Tensor};

use super::{
    TrainError, Workplace, flow::Flow, recipe::TrajectoryRecipe, trajectory::TrajectorySource,
};
use crate::{
    evaluate::chi_square::{ChiSquare, chi_square},
    sample::noise::PictureSeed,
};

/// Noise vectors solved together.
const ROWS: u64 = 10_000;

/// One law of the teacher and how the flow's ends follow it.
#[derive(Clone, Debug)]
pub struct LawCheck {
    /// Scale.
    pub scale: usize,
    /// Position in the scale.
    pub position: i64,
    /// Codewords that the law allows.
    pub codes: usize,
    /// Its entropy in nats.
    pub entropy: f64,
    /// Outcome for each number of solver steps.
    pub outcomes: Vec<(usize, ChiSquare)>,
}

/// What to test.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Class of the picture on whose way the laws are.
    pub class: i64,
    /// Seed of all noise.
    pub seed: u64,
    /// Noise vectors per law.
    pub draws: u64,
    /// Numbers of solver steps.
    pub steps: Vec<usize>,
}

/// Takes laws of the teacher in `model` at an early, a middle and a late scale, on the way to a
/// picture of the trial's class, and tests the ends of the noise vectors against each, for every
/// number of solver steps; `found` is shown each law.
///
/// At each scale the position whose law has the largest entropy is taken: a law of one codeword
/// tests nothing.
///
/// # Errors
/// When the model has no teacher, or the class is out of range.
pub fn verify_flow(
    model: &Path,
    recipe: &TrajectoryRecipe,
    trial: &Trial,
    place: &Workplace,
    found: &mut dyn FnMut(&LawCheck),
) -> Result<(), TrainError> {
    let Trial { class: label, seed, draws, ref steps } = *trial;
    let _no_grad = tch::no_grad_guard();
    let source = TrajectorySource::open(model, recipe, seed, place)?;
    let config = source.config();
    if !(0..config.num_classes).contains(&label) {
        return Err(TrainError::Mismatch(format!(
            "class {label} is out of range; the model has {} classes, 0 to {}",
            config.num_classes,
            config.num_classes - 1
        )));
    }
    let noise =
        PictureSeed { seed, index: 0 }.noise(config.tokens(), config.latent_channels).unsqueeze(0);
    let scales = config.scales();
    let wanted = [1.min(scales - 1), scales / 2, scales - 1];
    let mut laws: Vec<(usize, i64, f64, Tensor)> = Vec::new();
    let _ = source.follow(&[label], &noise, &mut |k, probs| {
        if wanted.contains(&k) {
            let probs = probs.get(0).to_kind(Kind::Double);
            let entropy =
                -probs.xlogy(&probs).sum_dim_intlist([-1i64].as_slice(), false, Kind::Double);
            let position = entropy.argmax(0, false).int64_value(&[]);
            laws.push((k, position, entropy.double_value(&[position]), probs.get(position)));
        }
    });
    let codebook = source.codebook();
    for (scale, position, entropy, probs) in laws {
        let probs = &probs / probs.sum(Kind::Double);
        let law: Vec<f64> = Vec::try_from(probs.to_device(tch::Device::Cpu))?;
        let log_probs = probs.log().to_kind(Kind::Float).unsqueeze(0);
        let mut outcomes = Vec::new();
        for &steps in steps {
            let flow = Flow::new(codebook, steps);
            let mut counts = vec![0u64; law.len()];
            for from in (0..draws).step_by(ROWS as usize) {
                let rows = ROWS.min(draws - from) as i64;
                // Noise of its own for each scale and part, the same for every number of steps.
                let index = (1 + scale as u64) << 32 | from;
                let noise = PictureSeed { seed, index }
                    .noise(rows, config.latent_channels)
                    .to_device(place.device);
                let ends = flow.solve(&noise, &log_probs.expand([rows, -1], false));
                let some = ends.bincount(None::<&Tensor>, law.len() as i64);
                let some: Vec<i64> = some.to_device(tch::Device::Cpu).try_into()?;
                counts.iter_mut().zip(some).for_each(|(sum, count)| *sum += count as u64);
            }
            outcomes.push((steps, chi_square(&counts, &law)));
        }
        let codes = law.iter().filter(|p| **p > 0.0).count();
        found(&LawCheck { scale, position, codes, entropy, outcomes });
    }
    Ok(())
}
