//! Transformer blocks of VAR (`basic_var.py`), shared by student and teacher.

use tch::{Kind, Tensor};

use super::{
    linear::Linear,
    stream::{Stream, norm_for},
};
use crate::{
    bundle::{config::Config, weights::Cursor},
    device::{kernels::Kernels, transformer::unit_heads},
};

/// What a block needs of the class: `γ1, γ2, s1, s2, b1, b2`, f32 `[B, 1, C]` each.
#[derive(Debug)]
pub(super) struct Adaptation([Tensor; 6]);

/// What the positions of a pass see.
#[derive(Debug)]
pub(super) enum Sight<'a> {
    /// Everything that ran so far, and each other.
    All,
    /// What an additive mask `[l, keys]` lets through.
    Masked(Tensor),
    /// Everything of earlier levels, and themselves. Where among the keys each level of the pass
    /// begins, and the end; a level that begins at 0 is one position. On a CPU, where no gradient
    /// is wanted.
    EarlierLevels(&'a [i64]),
}

#[derive(Debug)]
struct SelfAttention {
    kind: Kind,
    /// `mat_qkv`, with the biases of q and v; k has none.
    qkv: Linear,
    scale_mul_1h11: Tensor,
    proj: Linear,
    heads: i64,
}

impl SelfAttention {
    fn load(at: &Cursor, config: &Config) -> Self {
        let (width, heads) = (config.transformer.width, config.transformer.heads);
        let (q_bias, v_bias) = (at.tensor("q_bias", &[width]), at.tensor("v_bias", &[width]));
        let mat_qkv = at.enter("mat_qkv").tensor("weight", &[3 * width, width]);
        Self {
            kind: mat_qkv.kind(),
            qkv: Linear::of(mat_qkv, Tensor::cat(&[&q_bias, &q_bias.zeros_like(), &v_bias], 0)),
            scale_mul_1h11: at.tensor_f32("scale_mul_1H11", &[1, heads, 1, 1]),
            proj: Linear::load(&at.enter("proj"), width, width),
            heads,
        }
    }

    fn forward(
        &self,
        x: &Tensor,
        sight: &Sight,
        cache: Option<&mut KeyValueCache>,
        kernels: Option<&Kernels>,
    ) -> Tensor {
        let kind = self.kind;
        let (b, l, c) = x.size3().unwrap_or_default();
        let mut qkv = self.qkv.forward(x); // [B, L, 3C]
        let most = 100f64.ln();
        let done = kernels
            .is_some_and(|kernels| unit_heads(kernels, &mut qkv, &self.scale_mul_1h11, most));
        let qkv = qkv.view([b, l, 3, self.heads, c / self.heads]).permute([2, 0, 3, 1, 4]); // [3, B, H, L, D]
        let (q, k, v) = (qkv.get(0), qkv.get(1), qkv.get(2)); // [B, H, L, D]
        let (q, k) = if done {
            (q, k)
        } else {
            let sharpness = self.scale_mul_1h11.clamp_max(most).exp();
            ((unit_length(&q) * sharpness).to_kind(kind), unit_length(&k).to_kind(kind))
        };
        let (k, v) = match cache {
            Some(cache) => cache.append(&k, &v),
            None => (k, v),
        };
        let attend = |mask: Option<&Tensor>| {
            Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, false, Some(1.0), false)
        };
        let seen = match sight {
            Sight::All => attend(None),
            Sight::Masked(mask) => attend(Some(mask)),
            Sight::EarlierLevels(bounds) => attend_earlier_levels(&q, &k, &v, bounds),
        };
        self.proj.forward(&seen.transpose(1, 2).reshape([b, l, c]))
    }
}

/// Attention of each position to all earlier levels and itself, without a mask: what no position of
/// a level sees is not computed. `q` is `[B, H, l, D]`, `k` and `v` are `[B, H, keys, D]`; see
/// [`Sight::EarlierLevels`].
///
/// A position's own key joins the others by the sum of exponentials `e^s` that its attention to
/// them is divided by: with its own score `s`, its value has the share
/// `e^s / (e^s + sum) = sigmoid(s − ln sum)`.
fn attend_earlier_levels(q: &Tensor, k: &Tensor, v: &Tensor, bounds: &[i64]) -> Tensor {
    let of_level = |level: &[i64]| {
        let (from, n) = (level[0], level[1] - level[0]);
        let own_value = v.narrow(2, from, n);
        if from == 0 {
            return own_value;
        }
        let q = q.narrow(2, from - bounds[0], n);
        let (seen, log_sum) = Tensor::internal_scaled_dot_product_flash_attention_for_cpu(
            &q,
            &k.narrow(2, 0, from),
            &v.narrow(2, 0, from),
            0.0,
            false,
            None::<&Tensor>,
            Some(1.0),
        ); // [B, H, n, D], [B, H, n]
        let product = q.to_kind(Kind::Float) * k.narrow(2, from, n);
        let own_score = product.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
        let share = (own_score - log_sum).sigmoid().unsqueeze(-1).to_kind(seen.kind()); // [B, H, n, 1]
        seen.lerp_tensor(&own_value, &share)
    };
    let levels: Vec<Tensor> = bounds.windows(2).map(of_level).collect();
    Tensor::cat(&levels, 2)
}

/// Vectors of length 1 along the last dimension, in f32.
fn unit_length(x: &Tensor) -> Tensor {
    let x = x.to_kind(Kind::Float);
    let length = x.norm_scalaropt_dim(2, [-1i64].as_slice(), true).clamp_min(1e-12);
    x / length
}

/// Keys and values of the positions already run, for one block.
#[derive(Debug)]
pub(super) struct KeyValueCache {
    /// `[B, H, capacity, D]`, filled up to `length`.
    keys_values: Option<(Tensor, Tensor)>,
    capacity: i64,
    length: i64,
}

impl KeyValueCache {
    pub(super) fn new(capacity: i64) -> Self {
        Self { keys_values: None, capacity, length: 0 }
    }

    fn append(&mut self, k: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
        let (b, h, l, d) = k.size4().unwrap_or_default();
        let capacity = self.capacity;
        let (keys, values) = self.keys_values.get_or_insert_with(|| {
            let room = || Tensor::empty([b, h, capacity, d], (k.kind(), k.device()));
            (room(), room())
        });
        keys.narrow(2, self.length, l).copy_(k);
        values.narrow(2, self.length, l).copy_(v);
        self.length += l;
        (keys.narrow(2, 0, self.length), values.narrow(2, 0, self.length))
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

/// Additive attention mask `[L, L]`: 0 where `allowed` is true, −∞ elsewhere. Rows lie `8·⌈L/8⌉`
/// apart, which memory-efficient attention on CUDA wants.
pub(super) fn additive_mask(allowed: &Tensor, kind: Kind) -> Tensor {
    let l = allowed.size()[0];
    let wide = Tensor::full([l, (l + 7) / 8 * 8], f64::NEG_INFINITY, (kind, allowed.device()));
    let mask = wide.narrow(1, 0, l);
    let _ = mask.shallow_clone().masked_fill_(allowed, 0.0);
    mask
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{
        bundle::{config::TransformerConfig, weights::Weights},
        device::kernels::tests::stand_in,
    };

    #[test]
    fn attention_to_earlier_levels_is_masked_attention() {
        let _no_grad = tch::no_grad_guard();
        let bounds = [0, 1, 2, 6, 15, 31];
        let level = |position: i64| bounds.partition_point(|&bound| bound <= position);
        let sees = |i: i64, j: i64| level(j) < level(i) || i == j;
        let allowed: Vec<bool> = (0..31).flat_map(|i| (0..31).map(move |j| sees(i, j))).collect();
        let mask = additive_mask(&Tensor::from_slice(&allowed).view([31, 31]), Kind::Float);
        let any = || Tensor::randn([2, 3, 31, 16], (Kind::Float, Device::Cpu));
        let (q, k, v) = (any(), any(), any());
        let masked = Tensor::scaled_dot_product_attention(
            &q,
            &k,
            &v,
            Some(&mask),
            0.0,
            false,
            Some(1.0),
            false,
        );
        // All levels at once, and those that are left after some ran before.
        for first in 0..4 {
            let start = bounds[first];
            let seen =
                attend_earlier_levels(&q.narrow(2, start, 31 - start), &k, &v, &bounds[first..]);
            let off = (seen - masked.narrow(2, start, 31 - start)).abs().max().double_value(&[]);
            assert!(off < 1e-5, "from {start}: {off}");
        }
    }

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
