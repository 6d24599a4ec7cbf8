//! Convolutions of maps `[B, C, H, W]`, and what follows them: a bias, a sum, a norm.
//!
//! The definition is libtorch's `conv2d`. On processors with AVX-512 a 3×3 convolution runs by
//! Winograd's filtering (`winograd.rs`); on a GPU cuDNN convolves and a kernel of the engine's
//! (`maps.cu`) adds the bias together with whatever comes next.

mod bias;
mod cuda;
mod upsample;
#[cfg(avx512)]
mod winograd;

use tch::{Cuda, Device, Tensor};

use self::bias::Bias;
pub(in crate::ops) use self::bias::check;
pub(crate) use self::upsample::Upsample;
#[cfg(avx512)]
use self::winograd::Winograd;
#[cfg(not(avx512))]
use super::elsewhere::Winograd;
use super::{Ops, group_norm::GroupNorm, is_fixed};

/// A convolution by libtorch.
#[derive(Debug)]
pub(crate) struct Convolution {
    /// `[to, from, size, size]`.
    weight: Tensor,
    /// `[to]`.
    bias: Option<Tensor>,
    stride: i64,
    padding: i64,
}

impl Convolution {
    /// One that keeps the side, of a weight `[to, from, size, size]` with an odd size and a bias
    /// `[to]`.
    fn new(ops: &Ops, weight: Tensor, bias: Option<Tensor>) -> Self {
        let padding = weight.size()[2] / 2;
        Self { weight: laid_out(ops, weight), bias, stride: 1, padding }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x.to_kind(self.weight.kind());
        x.conv2d(&self.weight, self.bias.as_ref(), [self.stride; 2], [self.padding; 2], [1, 1], 1)
    }
}

/// A convolution that keeps the side.
#[derive(Debug)]
pub(crate) enum Conv2d {
    /// By libtorch.
    Plain(Convolution),
    /// By libtorch on a GPU, with the bias added by the engine's own kernels.
    Biased(Convolution, Bias),
    /// By code for this processor.
    Winograd(Winograd),
}

impl Conv2d {
    /// A convolution with weight `[to, from, size, size]`, `size` odd, and bias `[to]`.
    pub(crate) fn new(ops: &Ops, weight: Tensor, bias: Tensor) -> Self {
        if let Some(winograd) = winograd(ops, &weight, &bias, false) {
            return Self::Winograd(winograd);
        }
        match Bias::new(ops, &bias) {
            Some(bias) => Self::Biased(Convolution::new(ops, widened(weight), None), bias),
            None => Self::Plain(Convolution::new(ops, weight, Some(bias))),
        }
    }

    /// The convolution of `x`, `[B, from, H, W]` of any floating-point type: `[B, to, H, W]` of the
    /// weight's.
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

    /// The convolution of `x`, and `plus`, `[B, to, H, W]`.
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

/// A 3×3 convolution by code for this processor, of the map or of the doubled map; `None` where it
/// is not made for the processor, the sizes or the number type, or is not wanted.
fn winograd(ops: &Ops, weight: &Tensor, bias: &Tensor, doubles: bool) -> Option<Winograd> {
    if ops.settings().avx512 { Winograd::of(weight, bias, doubles) } else { None }
}

/// A weight as convolutions run fastest with it. That is with channels last, which everything after
/// the first convolution follows; not on a GPU whose group norm would turn every map round, and not
/// in training, since gradients run slower so.
fn laid_out(ops: &Ops, weight: Tensor) -> Tensor {
    let last = weight.device() == Device::Cpu || ops.kernels().is_ok();
    if is_fixed(&weight) && last { channels_last(&weight) } else { weight }
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

/// A row and a column of zeros at the bottom and the right, then a convolution with stride 2.
#[derive(Debug)]
pub(crate) struct Downsample {
    conv: Convolution,
}

impl Downsample {
    /// With weight `[to, from, 3, 3]` and bias `[to]`.
    pub(crate) fn new(ops: &Ops, weight: Tensor, bias: Tensor) -> Self {
        let conv = Convolution::new(ops, weight, Some(bias));
        Self { conv: Convolution { stride: 2, padding: 0, ..conv } }
    }

    /// Maps `[B, from, H, W]` at half the side, `[B, to, H/2, W/2]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        self.conv.forward(&x.constant_pad_nd([0, 1, 0, 1]))
    }
}

/// Maps of a batch from which on trials are worth their time: some milliseconds for each
/// convolution and size.
const WORTH_TRIALS: i64 = 8;

/// To be called before convolutions of so many maps: has cuDNN try its algorithms for each once,
/// and keep the fastest, in place of what it takes to be the best. With many maps that saves a
/// seventh of the decoder's time; with few those who wait for a first picture would wait longer.
/// Which one wins may differ between two runs of the program, and with it the rounding.
pub(crate) fn prepare(ops: &Ops, maps: i64) {
    if ops.device().is_cuda() {
        Cuda::cudnn_set_benchmark(maps >= WORTH_TRIALS && ops.settings().cudnn_trials);
    }
}
