//! Convolutional pieces of the VQGAN encoder and decoder (`basic_vae.py`).

use tch::{Kind, Tensor};

use super::load::{conv, group_norm};
use crate::{
    ops::{conv::Conv2d, group_norm::GroupNorm, map_size},
    weights::Cursor,
};

/// Two convolutions beside what is kept.
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
            norm1: group_norm(&at.enter("norm1"), from, groups),
            conv1: conv(&at.enter("conv1"), from, to, 3),
            norm2: group_norm(&at.enter("norm2"), to, groups),
            conv2: conv(&at.enter("conv2"), to, to, 3),
            nin_shortcut: (from != to).then(|| conv(&at.enter("nin_shortcut"), from, to, 1)),
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
            norm: group_norm(&at.enter("norm"), channels, groups),
            qkv: conv(&at.enter("qkv"), channels, 3 * channels, 1),
            proj_out: conv(&at.enter("proj_out"), channels, channels, 1),
        }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let [b, c, height, width] = map_size(x);
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
            norm_out: group_norm(&at.enter("norm_out"), from, groups),
            conv_out: conv(&at.enter("conv_out"), from, to, 3),
        }
    }

    /// f32 whatever the networks' number type.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.conv_out.forward(&self.norm_out.then_silu(x)).to_kind(Kind::Float).contiguous()
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{
        ops::{Ops, kernels::stand_in::stand_in},
        weights::Weights,
    };

    #[test]
    fn blocks_with_a_gpus_norm_are_those_with_libtorchs() {
        let _no_grad = tch::no_grad_guard();
        let stand_in = stand_in();
        let weights = Weights::from_formula(&Ops::plain(Device::Cpu), Kind::Float);
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
}
