//! Transformer blocks of VAR (`basic_var.py`), shared by student and teacher.

use tch::{Kind, Tensor};

use super::load::linear;
use crate::{
    config::Config,
    ops::{
        Ops,
        attention::{Attended, KeyValueCache, attend},
        linear::Linear,
        residual::{Stream, norm},
    },
    weights::Cursor,
};

/// What a block takes from the class (adaptive layer norm): `γ1, γ2, s1, s2, b1, b2`, f32
/// `[B, 1, C]` each.
#[derive(Debug)]
pub(super) struct Modulation([Tensor; 6]);

#[derive(Debug)]
struct SelfAttention {
    /// `mat_qkv`, with the biases of q and v; k has none.
    qkv: Linear,
    scale_mul_1h11: Tensor,
    proj: Linear,
}

impl SelfAttention {
    fn load(at: &Cursor, config: &Config) -> Self {
        let (width, heads) = (config.transformer.width, config.transformer.heads);
        let (q_bias, v_bias) = (at.tensor("q_bias", &[width]), at.tensor("v_bias", &[width]));
        let mat_qkv = at.enter("mat_qkv").tensor("weight", &[3 * width, width]);
        Self {
            qkv: Linear::new(
                at.ops(),
                mat_qkv,
                Tensor::cat(&[&q_bias, &q_bias.zeros_like(), &v_bias], 0),
            ),
            scale_mul_1h11: at.tensor_f32("scale_mul_1H11", &[1, heads, 1, 1]),
            proj: linear(&at.enter("proj"), width, width),
        }
    }

    fn forward(
        &self,
        ops: &Ops,
        x: &Tensor,
        attended: &Attended,
        cache: Option<&mut KeyValueCache>,
    ) -> Tensor {
        let qkv = self.qkv.forward(x); // [B, L, 3C]
        self.proj.forward(&attend(ops, qkv, &self.scale_mul_1h11, attended, cache))
    }
}

#[derive(Debug)]
struct FeedForward {
    fc1: Linear,
    fc2: Linear,
}

impl FeedForward {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.fc2.forward(&self.fc1.then_gelu(x))
    }
}

/// One block with adaptive layer norm.
#[derive(Debug)]
pub(super) struct Block {
    ada_lin: Linear,
    attn: SelfAttention,
    ffn: FeedForward,
}

impl Block {
    pub(super) fn load(at: &Cursor, config: &Config) -> Self {
        let width = config.transformer.width;
        let ffn = at.enter("ffn");
        Self {
            ada_lin: linear(&at.enter("ada_lin.1"), width, 6 * width),
            attn: SelfAttention::load(&at.enter("attn"), config),
            ffn: FeedForward {
                fc1: linear(&ffn.enter("fc1"), width, 4 * width),
                fc2: linear(&ffn.enter("fc2"), 4 * width, width),
            },
        }
    }

    /// What this block needs of the class's embedding after SiLU, f32 `[B, C]`.
    pub(super) fn adapt(&self, active: &Tensor) -> Modulation {
        let c = active.size()[1];
        // [B, 6, 1, C]
        let all = self.ada_lin.forward(active).to_kind(Kind::Float).view([-1, 6, 1, c]);
        Modulation(std::array::from_fn(|i| all.select(1, i as i64)))
    }

    /// Runs the block. `between` is added after attention (the student's noise/data embedding).
    pub(super) fn forward<'a>(
        &self,
        ops: &Ops,
        stream: &mut Stream<'a>,
        Modulation([gamma1, gamma2, scale1, scale2, shift1, shift2]): &'a Modulation,
        between: Option<&Tensor>,
        attended: &Attended,
        cache: Option<&mut KeyValueCache>,
    ) {
        let x = stream.normed(scale1, shift1, self.attn.qkv.kind());
        stream.add(gamma1, self.attn.forward(ops, &x, attended, cache), between);
        let x = stream.normed(scale2, shift2, self.ffn.fc1.kind());
        stream.add(gamma2, self.ffn.forward(&x), None);
    }
}

/// What comes out of the last block, f32 `[B, L, C]`, for a head; no numbers in place of a token
/// whose squares are beyond f32. The head's norm would make zeros of it, which look sound.
pub(super) fn for_heads(x: Tensor) -> Tensor {
    // Training sees it in its loss.
    if x.requires_grad() {
        return x;
    }
    let norms = x.norm_scalaropt_dim(2.0, [-1i64].as_slice(), true);
    // 0 for what is finite, else no number: nothing waits for the device.
    x + norms * 0.0
}

/// `head_nm` and `head`: logits over the vocabulary.
#[derive(Debug)]
pub(super) struct LogitsHead {
    ada_lin: Linear,
    head: Linear,
}

impl LogitsHead {
    pub(super) fn load(root: &Cursor, config: &Config) -> Self {
        let width = config.transformer.width;
        Self {
            ada_lin: linear(&root.enter("head_nm.ada_lin.1"), width, 2 * width),
            head: linear(&root.enter("head"), width, config.vocabulary),
        }
    }

    /// What the head needs of the class's embedding after SiLU, f32 `[B, C]`: `(scale, shift)`,
    /// `[B, 1, C]` each.
    pub(super) fn adapt(&self, active: &Tensor) -> [Tensor; 2] {
        let c = active.size()[1];
        // [B, 2, 1, C]
        let both = self.ada_lin.forward(active).to_kind(Kind::Float).view([-1, 2, 1, c]);
        [both.select(1, 0), both.select(1, 1)]
    }

    /// `h` is `[B, L, C]`; f32 `[B, L, V]`.
    pub(super) fn forward(&self, ops: &Ops, h: &Tensor, [scale, shift]: &[Tensor; 2]) -> Tensor {
        let normed = norm(ops, h, [scale, shift], self.head.kind());
        self.head.forward(&normed).to_kind(Kind::Float)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{config::TransformerConfig, ops::kernels::stand_in::stand_in, weights::Weights};

    #[test]
    fn blocks_with_a_gpus_kernels_are_those_without() {
        let _no_grad = tch::no_grad_guard();
        let stand_in = stand_in();
        let config = crate::config::published::config(16);
        let config =
            Config { transformer: TransformerConfig { depth: 2, width: 64, heads: 2 }, ..config };
        let plain = Ops::plain(Device::Cpu);
        let weights = Weights::from_formula(&plain, Kind::Float);
        let blocks: Vec<Block> = (0..2)
            .map(|i| Block::load(&weights.root().enter("blocks").enter(i), &config))
            .collect();
        let any = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        let (x, cond, between) = (any(&[3, 5, 64]), any(&[3, 64]), any(&[5, 64]));
        let modulations: Vec<Modulation> = blocks.iter().map(|block| block.adapt(&cond)).collect();
        let run = |ops: &Ops, between: Option<&Tensor>| {
            let mut stream = Stream::new(ops, x.shallow_clone());
            for (block, modulation) in blocks.iter().zip(&modulations) {
                block.forward(ops, &mut stream, modulation, between, &Attended::All, None);
            }
            stream.end()
        };
        let fused = Ops::on_stand_in(stand_in.orders[0]);
        for between in [None, Some(&between)] {
            let off = run(&fused, between) - run(&plain, between);
            let off = off.abs().max().double_value(&[]);
            assert!(off < 1e-5, "{off}");
        }
    }
}
