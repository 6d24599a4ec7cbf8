//! Convolutions.

pub(in crate::ops) mod bias;
mod cuda;
#[cfg(avx512)]
mod winograd;

use tch::{Device, Kind, Tensor};

use self::bias::Bias;
#[cfg(avx512)]
use self::winograd::Winograd;
#[cfg(not(avx512))]
use super::elsewhere::Winograd;
use super::{group_norm::GroupNorm, is_fixed, open};
use crate::weights::Cursor;

/// A convolution that keeps the side.
#[derive(Debug)]
pub(crate) enum Conv2d {
    /// By libtorch.
    Plain(Convolution),
    /// By libtorch on a GPU, with the bias added by the engine's own kernels.
    Biased(Convolution, Bias),
    /// By this processor's own code, where it is there.
    Winograd(Winograd),
}

impl Conv2d {
    /// `size` is odd.
    pub(crate) fn load(at: &Cursor, from: i64, to: i64, size: i64) -> Self {
        let (weight, bias) = weight_and_bias(at, from, to, size);
        if let Some(winograd) = Winograd::of(&weight, &bias, false) {
            return Self::Winograd(winograd);
        }
        match Bias::new(&bias) {
            Some(bias) => Self::Biased(Convolution::new(widened(weight), None), bias),
            None => Self::Plain(Convolution::new(weight, Some(bias))),
        }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Plain(conv) => conv.forward(x),
            Self::Biased(conv, bias) => {
                let channels = bias.of_channels.size()[0];
                bias.add_to(conv.forward(x).narrow(1, 0, channels), None)
            }
            Self::Winograd(conv) => conv.forward(x, None),
        }
    }

    /// The convolution of `x`, and `plus`.
    pub(crate) fn forward_plus(&self, x: &Tensor, plus: &Tensor) -> Tensor {
        match self {
            Self::Plain(conv) => conv.forward(x) + plus,
            Self::Biased(conv, bias) => bias.add_to(conv.forward(x), Some(plus)),
            Self::Winograd(conv) => conv.forward(x, Some(plus)),
        }
    }

    /// The convolution of `x`, then a norm and SiLU.
    pub(crate) fn then_norm(&self, x: &Tensor, norm: &GroupNorm) -> Tensor {
        match self {
            Self::Biased(conv, bias) => norm.then_silu_after(&conv.forward(x), &bias.of_channels),
            _ => norm.then_silu(&self.forward(x)),
        }
    }
}

/// A convolution by libtorch.
#[derive(Debug)]
pub(crate) struct Convolution {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
    padding: i64,
}

fn weight_and_bias(at: &Cursor, from: i64, to: i64, size: i64) -> (Tensor, Tensor) {
    (at.tensor("weight", &[to, from, size, size]), at.tensor("bias", &[to]))
}

impl Convolution {
    /// One that keeps the side, of a weight `[to, from, size, size]` with an odd size and a bias
    /// `[to]`.
    fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        let padding = weight.size()[2] / 2;
        Self { weight: laid_out(weight), bias, stride: 1, padding }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x.to_kind(self.weight.kind());
        x.conv2d(&self.weight, self.bias.as_ref(), [self.stride; 2], [self.padding; 2], [1, 1], 1)
    }
}

/// A weight as convolutions run fastest with it. That is with channels last, which everything after
/// the first convolution follows; not on a GPU whose group norm would turn every map round, and not
/// in training, since gradients run slower so.
fn laid_out(weight: Tensor) -> Tensor {
    let last = |device| device == Device::Cpu || open::ready(device).is_ok();
    if is_fixed(&weight) && last(weight.device()) { channels_last(&weight) } else { weight }
}

/// As many channels as a GPU's matrix units take at once; what has a few is convolved without them,
/// fifteen times as slowly.
const FEWEST_CHANNELS: i64 = 64;

/// A few channels.
const FEW_CHANNELS: i64 = 8;

/// A weight with that many channels out if it has a few; those that are added are 0.
fn widened(weight: Tensor) -> Tensor {
    let channels = weight.size()[0];
    let lacking = FEWEST_CHANNELS - channels;
    if channels < FEW_CHANNELS {
        weight.constant_pad_nd([0, 0, 0, 0, 0, 0, 0, lacking])
    } else {
        weight
    }
}

/// The same maps `[B, C, H, W]` with the numbers of one place side by side in memory.
fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

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
    pub(crate) fn load(at: &Cursor, channels: i64) -> Self {
        let (weight, bias) = weight_and_bias(&at.enter("conv"), channels, channels, 3);
        match Winograd::of(&weight, &bias, true) {
            Some(winograd) => Self::Winograd(winograd),
            None if is_fixed(&weight) => Self::phases(&weight, &bias),
            None => Self::Doubling(Convolution::new(weight, Some(bias))),
        }
    }

    /// Of the nine places that an output place looks at on the doubled map, several are copies of
    /// one: four weights, the sums of those nine, remain for each of the four places that a place
    /// becomes. `[4·C, C, 2, 2]`, of which the quarter `2·row + column` makes the places at odd or
    /// even rows and columns.
    fn phases(weight: &Tensor, bias: &Tensor) -> Self {
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
        match Bias::new(bias) {
            Some(later) => Self::Phases(Convolution::new(weight, None), Some(later)),
            None => Self::Phases(Convolution::new(weight, Some(bias.repeat([4]))), None),
        }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let (b, c, height, width) = x.size4().unwrap_or_default();
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

/// A row and a column of zeros at the bottom and the right, then a convolution with stride 2.
#[derive(Debug)]
pub(crate) struct Downsample {
    conv: Convolution,
}

impl Downsample {
    pub(crate) fn load(at: &Cursor, channels: i64) -> Self {
        let (weight, bias) = weight_and_bias(&at.enter("conv"), channels, channels, 3);
        Self { conv: Convolution { stride: 2, padding: 0, ..Convolution::new(weight, Some(bias)) } }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        self.conv.forward(&x.constant_pad_nd([0, 1, 0, 1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Weights;

    #[test]
    fn the_four_phases_are_the_doubled_map_convolved() {
        let _no_grad = tch::no_grad_guard();
        let weights = Weights::from_formula(Device::Cpu, Kind::Float);
        let at = weights.root().enter("decoder.up.1.upsample");
        let (weight, bias) = weight_and_bias(&at.enter("conv"), 32, 32, 3);
        let phases = Upsample::phases(&weight, &bias);
        let doubling = Upsample::Doubling(Convolution::new(weight, Some(bias)));
        for (height, width) in [(1, 1), (2, 5), (8, 8)] {
            let x = Tensor::randn([2, 32, height, width], (Kind::Float, Device::Cpu));
            let (one, other) = (phases.forward(&x), doubling.forward(&x));
            assert_eq!(one.size(), other.size());
            let off = (one - other).abs().max().double_value(&[]);
            assert!(off < 1e-5, "{height}×{width}: {off}");
        }
    }
}
