//! Transformer blocks of VAR (`basic_var.py`), shared by student and teacher.

use tch::{Kind, Tensor};

use crate::{
    config::Config,
    ops::{
        attention::{KeyValueCache, Sight, attend},
        kernels::Kernels,
        linear::Linear,
        residual::{Stream, norm_for},
    },
    weights::Cursor,
};

/// What a block needs of the class: `γ1, γ2, s1, s2, b1, b2`, f32 `[B, 1, C]` each.
#[derive(Debug)]
pub(super) struct Adaptation([Tensor; 6]);

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
            qkv: Linear::of(mat_qkv, Tensor::cat(&[&q_bias, &q_bias.zeros_like(), &v_bias], 0)),
            scale_mul_1h11: at.tensor_f32("scale_mul_1H11", &[1, heads, 1, 1]),
            proj: Linear::load(&at.enter("proj"), width, width),
        }
    }

    fn forward(
        &self,
        x: &Tensor,
        sight: &Sight,
        cache: Option<&mut KeyValueCache>,
        kernels: Option<&Kernels>,
    ) -> Tensor {
        let mut qkv = self.qkv.forward(x); // [B, L, 3C]
        let seen = attend(&mut qkv, &self.scale_mul_1h11, sight, cache, kernels);
        self.proj.forward(&seen)
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
            ada_lin: Linear::load(&at.enter("ada_lin.1"), width, 6 * width),
            attn: SelfAttention::load(&at.enter("attn"), config),
            ffn: FeedForward {
                fc1: Linear::load(&ffn.enter("fc1"), width, 4 * width),
                fc2: Linear::load(&ffn.enter("fc2"), 4 * width, width),
            },
        }
    }

    /// What this block needs of the class's embedding after SiLU, f32 `[B, C]`.
    pub(super) fn adapt(&self, active: &Tensor) -> Adaptation {
        let c = active.size()[1];
        let all = self.ada_lin.forward(active).to_kind(Kind::Float).view([-1, 6, 1, c]); // [B, 6, 1, C]
        Adaptation(std::array::from_fn(|i| all.select(1, i as i64)))
    }

    /// Runs the block. `between` is added after attention (the student's noise/data embedding).
    pub(super) fn forward<'a>(
        &self,
        stream: &mut Stream<'a>,
        Adaptation([gamma1, gamma2, scale1, scale2, shift1, shift2]): &'a Adaptation,
        between: Option<&Tensor>,
        sight: &Sight,
        cache: Option<&mut KeyValueCache>,
    ) {
        let x = stream.normed(scale1, shift1, self.attn.qkv.kind());
        stream.add(gamma1, self.attn.forward(&x, sight, cache, stream.kernels), between);
        let x = stream.normed(scale2, shift2, self.ffn.fc1.kind());
        stream.add(gamma2, self.ffn.forward(&x), None);
    }
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
            ada_lin: Linear::load(&root.enter("head_nm.ada_lin.1"), width, 2 * width),
            head: Linear::load(&root.enter("head"), width, config.vocabulary),
        }
    }

    /// What the head needs of the class's embedding after SiLU, f32 `[B, C]`: `(scale, shift)`,
    /// `[B, 1, C]` each.
    pub(super) fn adapt(&self, active: &Tensor) -> [Tensor; 2] {
        let c = active.size()[1];
        let both = self.ada_lin.forward(active).to_kind(Kind::Float).view([-1, 2, 1, c]); // [B, 2, 1, C]
        [both.select(1, 0), both.select(1, 1)]
    }

    /// `h` is `[B, L, C]`; f32 `[B, L, V]`.
    pub(super) fn forward(
        &self,
        h: &Tensor,
        [scale, shift]: &[Tensor; 2],
        kernels: Option<&Kernels>,
    ) -> Tensor {
        self.head
            .forward(&norm_for(h, [scale, shift], self.head.kind(), kernels))
            .to_kind(Kind::Float)
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
        let config = crate::bundle::published::config(16);
        let config =
            Config { transformer: TransformerConfig { depth: 2, width: 64, heads: 2 }, ..config };
        let weights = Weights::from_formula(Device::Cpu, Kind::Float);
        let blocks: Vec<Block> = (0..2)
            .map(|i| Block::load(&weights.root().enter("blocks").enter(i), &config))
            .collect();
        let any = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        let (x, cond, between) = (any(&[3, 5, 64]), any(&[3, 64]), any(&[5, 64]));
        let adaptations: Vec<Adaptation> = blocks.iter().map(|block| block.adapt(&cond)).collect();
        let run = |kernels: Option<&Kernels>, between: Option<&Tensor>| {
            let mut stream = Stream::new(x.shallow_clone(), kernels);
            for (block, adaptation) in blocks.iter().zip(&adaptations) {
                block.forward(&mut stream, adaptation, between, &Sight::All, None);
            }
            stream.end()
        };
        for between in [None, Some(&between)] {
            let off = run(stand_in.orders.first(), between) - run(None, between);
            let off = off.abs().max().double_value(&[]);
            assert!(off < 1e-5, "{off}");
        }
    }
}
