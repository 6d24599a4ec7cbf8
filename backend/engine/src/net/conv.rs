//! Convolutional pieces of the VQGAN encoder and decoder (`basic_vae.py`).

use tch::{Device, Kind, Tensor};

use crate::{
    bundle::weights::{Cursor, is_fixed},
    cpu::Winograd,
    device::{bias::Bias, group_norm::GroupNorm, kernels},
};

/// A convolution that keeps the side.
#[derive(Debug)]
pub(super) enum Conv2d {
    /// By libtorch.
    Plain(Convolution),
    /// By libtorch on a GPU, with the bias added by the engine's own kernels.
    Biased(Convolution, Bias),
    /// By this processor's own code, where it is there.
    Winograd(Winograd),
}

impl Conv2d {
    /// `size` is odd.
    pub(super) fn load(at: &Cursor, from: i64, to: i64, size: i64) -> Self {
        let (weight, bias) = weight_and_bias(at, from, to, size);
        if let Some(winograd) = Winograd::of(&weight, &bias, false) {
            return Self::Winograd(winograd);
        }
        match Bias::new(&bias) {
            Some(bias) => Self::Biased(Convolution::new(widened(weight), None), bias),
            None => Self::Plain(Convolution::new(weight, Some(bias))),
        }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
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
    fn forward_plus(&self, x: &Tensor, plus: &Tensor) -> Tensor {
        match self {
            Self::Plain(conv) => conv.forward(x) + plus,
            Self::Biased(conv, bias) => bias.add_to(conv.forward(x), Some(plus)),
            Self::Winograd(conv) => conv.forward(x, Some(plus)),
        }
    }

    /// The convolution of `x`, then a norm and SiLU.
    fn then_norm(&self, x: &Tensor, norm: &GroupNorm) -> Tensor {
        match self {
            Self::Biased(conv, bias) => norm.then_silu_after(&conv.forward(x), &bias.of_channels),
            _ => norm.then_silu(&self.forward(x)),
        }
    }
}

/// A convolution by libtorch.
#[derive(Debug)]
pub(super) struct Convolution {
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
    let last = |device| device == Device::Cpu || kernels::ready(device).is_ok();
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

fn norm(at: &Cursor, channels: i64, groups: i64) -> GroupNorm {
    GroupNorm::new(at.tensor("weight", &[channels]), at.tensor("bias", &[channels]), groups)
}

#[derive(Debug)]
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    nin_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    pub(super) fn load(at: &Cursor, from: i64, to: i64, groups: i64) -> Self {
        Self {
            norm1: norm(&at.enter("norm1"), from, groups),
            conv1: Conv2d::load(&at.enter("conv1"), from, to, 3),
            norm2: norm(&at.enter("norm2"), to, groups),
            conv2: Conv2d::load(&at.enter("conv2"), to, to, 3),
            nin_shortcut: (from != to)
                .then(|| Conv2d::load(&at.enter("nin_shortcut"), from, to, 1)),
        }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.conv1.then_norm(&self.norm1.then_silu(x), &self.norm2);
        match &self.nin_shortcut {
            Some(shortcut) => self.conv2.forward_plus(&h, &shortcut.forward(x)),
            None => self.conv2.forward_plus(&h, x),
        }
    }
}

/// Single-head attention over all places of a map.
#[derive(Debug)]
pub(super) struct AttnBlock {
    norm: GroupNorm,
    qkv: Conv2d,
    proj_out: Conv2d,
}

impl AttnBlock {
    pub(super) fn load(at: &Cursor, channels: i64, groups: i64) -> Self {
        Self {
            norm: norm(&at.enter("norm"), channels, groups),
            qkv: Conv2d::load(&at.enter("qkv"), channels, 3 * channels, 1),
            proj_out: Conv2d::load(&at.enter("proj_out"), channels, channels, 1),
        }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let (b, c, height, width) = x.size4().unwrap_or_default();
        let qkv = self.qkv.forward(&self.norm.forward(x)).permute([0, 2, 3, 1]); // [B, H, W, 3C]
        let qkv = qkv.reshape([b, 1, height * width, 3, c]);
        let of = |i| qkv.select(3, i); // [B, 1, HW, C]
        let seen = Tensor::scaled_dot_product_attention(
            &of(0),
            &of(1),
            &of(2),
            None::<&Tensor>,
            0.0,
            false,
            None,
            false,
        );
        let seen = seen.reshape([b, height, width, c]).permute([0, 3, 1, 2]);
        self.proj_out.forward_plus(&seen, x)
    }
}

/// Nearest-neighbour doubling, then a convolution.
#[derive(Debug)]
pub(super) enum Upsample {
    /// As it is written: in training, and where only sizes count.
    Doubling(Convolution),
    /// By this processor's own code, which reads the map as if it were doubled.
    Winograd(Winograd),
    /// One convolution of the map before it is doubled, with four ninths of the multiplications. On
    /// a GPU its bias is added by the engine's own kernels.
    Phases(Convolution, Option<Bias>),
}

impl Upsample {
    pub(super) fn load(at: &Cursor, channels: i64) -> Self {
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

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
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
pub(super) struct Downsample {
    conv: Convolution,
}

impl Downsample {
    pub(super) fn load(at: &Cursor, channels: i64) -> Self {
        let (weight, bias) = weight_and_bias(&at.enter("conv"), channels, channels, 3);
        Self { conv: Convolution { stride: 2, padding: 0, ..Convolution::new(weight, Some(bias)) } }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.conv.forward(&x.constant_pad_nd([0, 1, 0, 1]))
    }
}

/// `mid`: a res-block, attention, a res-block.
#[derive(Debug)]
pub(super) struct Middle {
    block_1: ResnetBlock,
    attn_1: AttnBlock,
    block_2: ResnetBlock,
}

impl Middle {
    pub(super) fn load(at: &Cursor, channels: i64, groups: i64) -> Self {
        Self {
            block_1: ResnetBlock::load(&at.enter("block_1"), channels, channels, groups),
            attn_1: AttnBlock::load(&at.enter("attn_1"), channels, groups),
            block_2: ResnetBlock::load(&at.enter("block_2"), channels, channels, groups),
        }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.block_2.forward(&self.attn_1.forward(&self.block_1.forward(x)))
    }
}

/// `norm_out`, SiLU, `conv_out`.
#[derive(Debug)]
pub(super) struct Output {
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Output {
    pub(super) fn load(at: &Cursor, from: i64, to: i64, groups: i64) -> Self {
        Self {
            norm_out: norm(&at.enter("norm_out"), from, groups),
            conv_out: Conv2d::load(&at.enter("conv_out"), from, to, 3),
        }
    }

    /// f32 whatever the networks' number type.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.conv_out.forward(&self.norm_out.then_silu(x)).to_kind(Kind::Float).contiguous()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bundle::weights::Weights, device::kernels::tests::stand_in};

    #[test]
    fn blocks_with_a_gpus_norm_are_those_with_libtorchs() {
        let _no_grad = tch::no_grad_guard();
        let stand_in = stand_in();
        let weights = Weights::from_formula(Device::Cpu, Kind::Float);
        let mut middle = Middle::load(&weights.root().enter("decoder.mid"), 64, 8);
        let mut output = Output::load(&weights.root().enter("decoder"), 64, 3, 8);
        let x = Tensor::randn([2, 64, 6, 5], (Kind::Float, Device::Cpu));
        let plain = output.forward(&middle.forward(&x));
        let Middle { block_1, attn_1, block_2 } = &mut middle;
        let [one, other] = [block_1, block_2].map(|block| [&mut block.norm1, &mut block.norm2]);
        let norms = one.into_iter().chain(other).chain([&mut attn_1.norm, &mut output.norm_out]);
        norms.for_each(|norm| stand_in.take_over(norm));
        let off = (output.forward(&middle.forward(&x)) - plain).abs().max().double_value(&[]);
        assert!(off < 1e-4, "{off}");
    }

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
