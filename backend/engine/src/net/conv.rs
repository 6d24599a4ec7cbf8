//! Convolutional pieces of the VQGAN encoder and decoder (`basic_vae.py`).

use tch::{Kind, Tensor};

use crate::bundle::weights::Cursor;

#[derive(Debug)]
pub(super) struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// A convolution that keeps the side; `size` is odd.
    pub(super) fn load(at: &Cursor, from: i64, to: i64, size: i64) -> Self {
        let weight = at.tensor("weight", &[to, from, size, size]);
        Self { weight, bias: at.tensor("bias", &[to]), stride: 1, padding: size / 2 }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let x = x.to_kind(self.weight.kind());
        x.conv2d(&self.weight, Some(&self.bias), [self.stride; 2], [self.padding; 2], [1, 1], 1)
    }
}

#[derive(Debug)]
pub(super) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
}

impl GroupNorm {
    pub(super) fn load(at: &Cursor, channels: i64) -> Self {
        Self { weight: at.tensor("weight", &[channels]), bias: at.tensor("bias", &[channels]) }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.group_norm(32, Some(&self.weight), Some(&self.bias), 1e-6, true)
    }
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
    pub(super) fn load(at: &Cursor, from: i64, to: i64) -> Self {
        Self {
            norm1: GroupNorm::load(&at.enter("norm1"), from),
            conv1: Conv2d::load(&at.enter("conv1"), from, to, 3),
            norm2: GroupNorm::load(&at.enter("norm2"), to),
            conv2: Conv2d::load(&at.enter("conv2"), to, to, 3),
            nin_shortcut: (from != to).then(|| Conv2d::load(&at.enter("nin_shortcut"), from, to, 1)),
        }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.conv1.forward(&self.norm1.forward(x).silu());
        let h = self.conv2.forward(&self.norm2.forward(&h).silu());
        match &self.nin_shortcut {
            Some(shortcut) => shortcut.forward(x) + h,
            None => x + h,
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
    pub(super) fn load(at: &Cursor, channels: i64) -> Self {
        Self {
            norm: GroupNorm::load(&at.enter("norm"), channels),
            qkv: Conv2d::load(&at.enter("qkv"), channels, 3 * channels, 1),
            proj_out: Conv2d::load(&at.enter("proj_out"), channels, channels, 1),
        }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let (b, c, height, width) = x.size4().unwrap_or_default();
        let qkv = self.qkv.forward(&self.norm.forward(x)).view([b, 3, c, height * width]).transpose(2, 3); // [B, 3, HW, C]
        let of = |i| qkv.select(1, i).unsqueeze(1); // [B, 1, HW, C]
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
        x + self.proj_out.forward(&seen.squeeze_dim(1).transpose(1, 2).reshape([b, c, height, width]))
    }
}

/// Nearest-neighbour doubling, then a convolution.
#[derive(Debug)]
pub(super) struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub(super) fn load(at: &Cursor, channels: i64) -> Self {
        Self { conv: Conv2d::load(&at.enter("conv"), channels, channels, 3) }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let (b, c, height, width) = x.size4().unwrap_or_default();
        // Torch's own doubling takes thirty times as long on a CPU.
        let doubled = x.reshape([b, c, height, 1, width, 1]).expand([b, c, height, 2, width, 2], false);
        self.conv.forward(&doubled.reshape([b, c, 2 * height, 2 * width]))
    }
}

/// A row and a column of zeros at the bottom and the right, then a convolution with stride 2.
#[derive(Debug)]
pub(super) struct Downsample {
    conv: Conv2d,
}

impl Downsample {
    pub(super) fn load(at: &Cursor, channels: i64) -> Self {
        let conv = Conv2d { stride: 2, padding: 0, ..Conv2d::load(&at.enter("conv"), channels, channels, 3) };
        Self { conv }
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
    pub(super) fn load(at: &Cursor, channels: i64) -> Self {
        Self {
            block_1: ResnetBlock::load(&at.enter("block_1"), channels, channels),
            attn_1: AttnBlock::load(&at.enter("attn_1"), channels),
            block_2: ResnetBlock::load(&at.enter("block_2"), channels, channels),
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
    pub(super) fn load(at: &Cursor, from: i64, to: i64) -> Self {
        Self {
            norm_out: GroupNorm::load(&at.enter("norm_out"), from),
            conv_out: Conv2d::load(&at.enter("conv_out"), from, to, 3),
        }
    }

    /// f32 whatever the networks' number type.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.conv_out.forward(&self.norm_out.forward(x).silu()).to_kind(Kind::Float)
    }
}
