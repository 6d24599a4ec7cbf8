//! The flow from noise to token: a deterministic map whose output follows the teacher's law.
//!
//! At one position the teacher gives a law `p` over codewords `c_j`: a mixture of point masses.
//! Along the straight path `x_t = (1 − t)·c + t·z` from a Gaussian `z` (`t = 1`) to a codeword
//! (`t = 0`) the flow-matching velocity of this mixture has a closed form (Lipman et al., *Flow
//! Matching for Generative Modeling*; Liu et al., *Distilled Decoding*, section 3.2): with weights
//! `w_j ∝ p_j · exp(((1−t)·⟨x, c_j⟩ − (1−t)²·‖c_j‖²/2) / t²)` and posterior mean `x̂ = Σ_j w_j c_j`
//! it is `(x − x̂) / t`. Following it from `z` ends at exactly one codeword, and over many `z`
//! these ends follow `p`.
//!
//! Here `t` is the flow's time, not a scale.

use tch::{Kind, Tensor};

/// Solver of the flow for one codebook.
///
/// The linear part of the equation is integrated exactly and `x̂` is extrapolated linearly in
/// `λ = ln((1−t)/t)` from the last two evaluations (second-order multistep; Lu et al.,
/// *DPM-Solver++*), with times evenly spaced in `λ`. One step is attention with the codebook as
/// keys and values.
#[derive(Debug)]
pub struct Flow {
    /// `[Cv, V]`
    keys: Tensor,
    /// `[V, Cv]`
    values: Tensor,
    /// `‖c_j‖²`, `[1, V]`
    square_norms: Tensor,
    /// Times from just below 1 down to a small part of the codewords' spread.
    times: Vec<f64>,
}

/// Steps that suffice: over 100,000 draws from laws of 8 to 512 codewords χ² passes from 40 steps
/// on, and 99.5 % or more of the ends are those of 400 steps at 50.
pub const DEFAULT_STEPS: usize = 50;

impl Flow {
    /// A solver with `steps` evaluations (at least 2) for the codewords `codebook`, f32 `[V, Cv]`.
    pub fn new(codebook: &Tensor, steps: usize) -> Self {
        let values = codebook.to_kind(Kind::Float);
        let spread = f64::try_from(
            (&values - values.mean_dim(0, true, Kind::Float)).square().mean(Kind::Float).sqrt(),
        )
        .unwrap_or(1.0)
        .max(1e-6);
        // r = t/(1−t) is the noise relative to the signal: from where codewords cannot be told
        // apart …
        let (far, near) = ((40.0 * spread).ln(), (spread / 50.0).ln());
        let last = steps.max(2) - 1;
        let times = (0..=last)
            .map(|i| {
                let ratio = (far + (near - far) * i as f64 / last as f64).exp();
                ratio / (1.0 + ratio)
            })
            // … to where every decision has fallen.
            .collect();
        Self {
            keys: values.tr().contiguous(),
            square_norms: values
                .square()
                .sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
                .unsqueeze(0),
            values,
            times,
        }
    }

    /// Where each noise vector ends: codeword numbers, i64 `[M]`.
    ///
    /// `noise` is `[M, Cv]`; `log_probs` is the teacher's law after guidance and filter, `[M, V]`
    /// (dropped codewords −∞). Every row is solved on its own.
    pub fn solve(&self, noise: &Tensor, log_probs: &Tensor) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let log_probs = log_probs.to_kind(Kind::Float);
        // From t = 1, where every weight is the law itself, to the first time in one exact
        // first-order step.
        let mut mean = log_probs.softmax(-1, Kind::Float).matmul(&self.values);
        let mut before: Option<(Tensor, f64)> = None;
        let mut x = noise.to_kind(Kind::Float) * self.times[0] + &mean * (1.0 - self.times[0]);
        for pair in self.times.windows(2) {
            let (t, s) = (pair[0], pair[1]);
            mean =
                self.log_weights(&x, &log_probs, t).softmax(-1, Kind::Float).matmul(&self.values);
            let step = log_snr(s) - log_snr(t);
            let ahead = match &before {
                Some((previous, previous_step)) => {
                    let lean = 0.5 * step / previous_step;
                    &mean * (1.0 + lean) - previous * lean
                }
                None => mean.shallow_clone(),
            };
            x = x * (s / t) + ahead * (1.0 - s / t);
            before = Some((mean, step));
        }
        let last = self.times[self.times.len() - 1];
        self.log_weights(&x, &log_probs, last).argmax(-1, false)
    }

    /// `ln w_j` up to a constant per row, `[M, V]`.
    fn log_weights(&self, x: &Tensor, log_probs: &Tensor, t: f64) -> Tensor {
        let (near, square) = ((1.0 - t) / (t * t), (1.0 - t).powi(2) / (2.0 * t * t));
        (log_probs - &self.square_norms * square).addmm(&(x * near), &self.keys)
    }
}

fn log_snr(t: f64) -> f64 {
    ((1.0 - t) / t).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: i64 = 100_000;

    /// Largest χ² of `cells` cells that chance exceeds in one of a hundred (Wilson and Hilferty's
    /// approximation).
    fn chi_square_bound(cells: usize) -> f64 {
        let freedom = (cells - 1) as f64;
        let spread = 2.0 / (9.0 * freedom);
        freedom * (1.0 - spread + 2.326 * spread.sqrt()).powi(3)
    }

    /// χ² of codes drawn against the law `p`, cells under 5 expected pooled, and the number of
    /// cells.
    fn chi_square(codes: &Tensor, p: &[f64]) -> (f64, usize) {
        let mut counts = vec![0.0; p.len()];
        for code in Vec::<i64>::try_from(codes).unwrap() {
            counts[code as usize] += 1.0;
        }
        let n: f64 = counts.iter().sum();
        let (mut cells, mut pooled) = (Vec::new(), (0.0, 0.0));
        for (&count, &p) in counts.iter().zip(p) {
            if p * n < 5.0 {
                pooled = (pooled.0 + count, pooled.1 + p * n);
            } else {
                cells.push((count, p * n));
            }
        }
        if pooled.1 > 0.0 || pooled.0 > 0.0 {
            cells.push((pooled.0, pooled.1.max(1e-9)));
        }
        (
            cells.iter().map(|(seen, expected)| (seen - expected).powi(2) / expected).sum(),
            cells.len(),
        )
    }

    /// A codebook of `codes` Gaussian codewords and a law over them with a long tail, some
    /// codewords dropped.
    fn law(codes: i64, channels: i64, sharpness: f64, seed: i64) -> (Tensor, Tensor, Vec<f64>) {
        tch::manual_seed(seed);
        let codebook = Tensor::randn([codes, channels], (Kind::Float, tch::Device::Cpu));
        let logits = Tensor::randn([codes], (Kind::Float, tch::Device::Cpu)) * sharpness;
        let floor = logits.topk(codes * 2 / 3, 0, true, true).0.min();
        let logits = logits.masked_fill(&logits.lt_tensor(&floor), f64::NEG_INFINITY);
        let log_probs = logits.log_softmax(0, Kind::Double);
        let p = Vec::<f64>::try_from(log_probs.exp()).unwrap();
        (codebook, log_probs.to_kind(Kind::Float), p)
    }

    fn ends(codebook: &Tensor, log_probs: &Tensor, noise: &Tensor, steps: usize) -> Tensor {
        let flow = Flow::new(codebook, steps);
        let rows: Vec<_> = noise
            .split(10_000, 0)
            .iter()
            .map(|rows| {
                flow.solve(rows, &log_probs.unsqueeze(0).expand([rows.size()[0], -1], false))
            })
            .collect();
        Tensor::cat(&rows, 0)
    }

    #[test]
    fn ends_of_the_flow_follow_the_law() {
        for (codes, channels, sharpness, seed) in [(8, 2, 1.0, 1), (64, 8, 1.5, 2), (64, 8, 4.0, 3)]
        {
            let (codebook, log_probs, p) = law(codes, channels, sharpness, seed);
            let noise = Tensor::randn([DRAWS, channels], (Kind::Float, tch::Device::Cpu));
            let (found, cells) =
                chi_square(&ends(&codebook, &log_probs, &noise, DEFAULT_STEPS), &p);
            let bound = chi_square_bound(cells);
            assert!(
                found < bound,
                "χ² = {found:.1} over {cells} cells, bound {bound:.1} (V {codes}, Cv {channels})"
            );
        }
    }

    #[test]
    fn the_check_can_fail() {
        let (codebook, log_probs, p) = law(64, 8, 1.5, 2);
        let noise = Tensor::randn([DRAWS, 8], (Kind::Float, tch::Device::Cpu));
        let (found, cells) = chi_square(&ends(&codebook, &log_probs, &noise, 4), &p);
        assert!(found > chi_square_bound(cells), "four steps cannot suffice, yet χ² = {found}");
    }

    #[test]
    fn near_noise_ends_alike() {
        let (codebook, log_probs, _) = law(64, 8, 1.5, 5);
        let noise = Tensor::randn([2_000, 8], (Kind::Float, tch::Device::Cpu));
        let moved = &noise + noise.randn_like() * 1e-4;
        let (a, b) =
            (ends(&codebook, &log_probs, &noise, 50), ends(&codebook, &log_probs, &moved, 50));
        let same = f64::try_from(a.eq_tensor(&b).to_kind(Kind::Double).mean(Kind::Double)).unwrap();
        assert!(same > 0.99, "only {same} of the ends stay where they were");
    }

    #[test]
    fn a_law_of_one_codeword_ends_there() {
        let codebook = Tensor::randn([16, 4], (Kind::Float, tch::Device::Cpu));
        let log_probs = Tensor::full([5, 16], f64::NEG_INFINITY, (Kind::Float, tch::Device::Cpu));
        let _ = log_probs.select(1, 11).fill_(0.0);
        let noise = Tensor::randn([5, 4], (Kind::Float, tch::Device::Cpu));
        assert_eq!(
            Vec::<i64>::try_from(Flow::new(&codebook, 10).solve(&noise, &log_probs)).unwrap(),
            [11; 5]
        );
    }
}
