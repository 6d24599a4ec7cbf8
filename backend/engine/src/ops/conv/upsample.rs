//! Doubling a map's side, then a convolution: as it is written, and as one convolution of the map
//! before it is doubled.

use tch::{Kind, Tensor};

#[cfg(avx512)]
use super::winograd::Winograd;
use super::{Bias, Convolution, winograd};
#[cfg(not(avx512))]
use crate::ops::elsewhere::Winograd;
use crate::ops::{Ops, is_fixed, map_size};

/// Nearest-neighbour doubling, then a convolution.
#[derive(Debug)]
pub(crate) enum Upsample {
    /// As it is written: in training, and where only sizes count.
    Doubling(Convolution),
    /// By this processor's own code, which reads the map as if it were doubled.
    Winograd(Winograd),
    /// One convolution of the map before it is doubled, with four ninths of the multiplications. On
    /// a GPU its bias is added by the engine's own kernels.
    Phases(Convolution, Option<Bias>),
}

impl Upsample {
    /// With weight `[C, C, 3, 3]` and bias `[C]`.
    pub(crate) fn new(ops: &Ops, weight: Tensor, bias: Tensor) -> Self {
        match winograd(ops, &weight, &bias, true) {
            Some(winograd) => Self::Winograd(winograd),
            None if is_fixed(&weight) => Self::phases(ops, &weight, &bias),
            None => Self::Doubling(Convolution::new(ops, weight, Some(bias))),
        }
    }

    /// Of the nine places that an output place looks at on the doubled map, several are copies of
    /// one: four weights, the sums of those nine, remain for each of the four places that a place
    /// becomes. `[4·C, C, 2, 2]`, of which the quarter `2·row + column` makes the places at odd or
    /// even rows and columns.
    fn phases(ops: &Ops, weight: &Tensor, bias: &Tensor) -> Self {
        let (kind, weight) = (weight.kind(), weight.to_kind(Kind::Float));
        // Along one direction: an even place sees the place before its own once and its own twice,
        // an odd one the reverse.
        let halves = |weight: &Tensor, dim: i64, odd: bool| {
            let tap = |i| weight.narrow(dim, i, 1);
            let pair = if odd { [tap(0) + tap(1), tap(2)] } else { [tap(0), tap(1) + tap(2)] };
            Tensor::cat(&pair, dim)
        };
        let quarter = |i: usize| halves(&halves(&weight, 2, i >= 2), 3, i % 2 == 1);
        let weight = Tensor::cat(&std::array::from_fn::<_, 4, _>(quarter), 0).to_kind(kind);
        match Bias::new(ops, bias) {
            Some(later) => Self::Phases(Convolution::new(ops, weight, None), Some(later)),
            None => Self::Phases(Convolution::new(ops, weight, Some(bias.repeat([4]))), None),
        }
    }

    /// Maps `[B, C, H, W]` at twice the side, `[B, C, 2H, 2W]`.
    ///
    /// # Panics
    /// If `x` has another number of dimensions.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let [b, c, height, width] = map_size(x);
        let (phases, bias) = match self {
            Self::Doubling(conv) => {
                // Torch's own doubling takes thirty times as long on a CPU.
                let doubled = x
                    .reshape([b, c, height, 1, width, 1])
                    .expand([b, c, height, 2, width, 2], false);
                return conv.forward(&doubled.reshape([b, c, 2 * height, 2 * width]));
            }
            Self::Winograd(winograd) => return winograd.forward(x, None),
            Self::Phases(phases, bias) => (phases, bias),
        };
        let each = phases.forward(x);
        if let Some(whole) = bias.as_ref().and_then(|bias| bias.interleave(&each)) {
            return whole;
        }
        let each = each.permute([0, 2, 3, 1]); // [B, H + 1, W + 1, 4C]
        let places = Tensor::empty([b, height, 2, width, 2, c], (each.kind(), each.device()));
        for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let quarter = each.narrow(3, (2 * row + column) * c, c);
            let quarter = quarter.narrow(1, row, height).narrow(2, column, width);
            places.select(2, row).select(3, column).copy_(&quarter);
        }
        let places = places.view([b, 2 * height, 2 * width, c]).permute([0, 3, 1, 2]);
        bias.as_ref().map_or(places.shallow_clone(), |bias| bias.add_to(places, None))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn the_four_phases_are_the_doubled_map_convolved() {
        let _no_grad = tch::no_grad_guard();
        let ops = Ops::plain(Device::Cpu);
        let any = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        let (weight, bias) = (any(&[32, 32, 3, 3]) * 0.06, any(&[32]));
        let phases = Upsample::phases(&ops, &weight, &bias);
        let doubling = Upsample::Doubling(Convolution::new(&ops, weight, Some(bias)));
        for (height, width) in [(1, 1), (2, 5), (8, 8)] {
            let x = Tensor::randn([2, 32, height, width], (Kind::Float, Device::Cpu));
            let (one, other) = (phases.forward(&x), doubling.forward(&x));
            assert_eq!(one.size(), other.size());
            let off = (one - other).abs().max().double_value(&[]);
            assert!(off < 1e-5, "{height}×{width}: {off}");
        }
    }
}
