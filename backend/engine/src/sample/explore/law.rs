//! What a network made of each token: the law that it was drawn by, and how far it lies from a
//! codeword.

use tch::{Device, Kind, Tensor};

use super::super::sampler::Sampler;

/// Codewords told of each law.
const TOP: i64 = 5;

/// The laws of the tokens of one scale, on the CPU.
#[derive(Debug)]
pub struct Law {
    /// In bits, f32 `[B, p²]`.
    pub entropy: Tensor,
    /// Numbers of the most probable codewords, the best first, i64 `[B, p², 5]` (fewer where the
    /// vocabulary is smaller).
    pub top: Tensor,
    /// Their probabilities, f32 of the same shape.
    pub probabilities: Tensor,
}

impl Law {
    /// Sums up probabilities, f32 `[B, p², V]`.
    pub(in crate::sample) fn of(probabilities: &Tensor) -> Self {
        let p = probabilities.to_kind(Kind::Float);
        // 0 · log 0 is 0.
        let bits = -(&p * p.clamp_min(f64::from(f32::MIN_POSITIVE)).log2());
        let vocabulary = p.size().last().copied().unwrap_or(1);
        let (best, top) = p.topk(TOP.min(vocabulary), -1, true, true);
        Self {
            entropy: bits
                .sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)
                .to_device(Device::Cpu),
            top: top.to_device(Device::Cpu),
            probabilities: best.to_device(Device::Cpu),
        }
    }

    /// Laws of several groups of pictures as one.
    pub(in crate::sample) fn together(laws: &[Self]) -> Self {
        let all =
            |of: fn(&Self) -> &Tensor| Tensor::cat(&laws.iter().map(of).collect::<Vec<_>>(), 0);
        Self {
            entropy: all(|law| &law.entropy),
            top: all(|law| &law.top),
            probabilities: all(|law| &law.probabilities),
        }
    }
}

/// Every token of some pictures.
#[derive(Debug)]
pub struct Inspected {
    /// The tokens, f32 `[B, N, Cv]`.
    pub tokens: Tensor,
    /// Number of the codeword nearest to each, i64 `[B, N]`, on the CPU.
    pub codes: Tensor,
    /// Euclidean distance to it, f32 `[B, N]`, on the CPU: 0 for a token that is a codeword.
    pub distances: Tensor,
    /// The law of each scale, by the pass that drew it; none where no network did.
    pub laws: Vec<Option<Law>>,
}

impl Sampler {
    pub(in crate::sample) fn inspected(&self, tokens: Tensor, laws: Vec<Option<Law>>) -> Inspected {
        let quantize = &self.vae.quantize;
        let codes = quantize.nearest(&tokens);
        let off = (&tokens - quantize.lookup(&codes)).square();
        let distances = off.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float).sqrt();
        Inspected {
            codes: codes.to_device(Device::Cpu),
            distances: distances.to_device(Device::Cpu),
            tokens,
            laws,
        }
    }
}
