//! Transformer blocks of VAR (`basic_var.py`), shared by student and teacher.

use tch::{Kind, Tensor};

use crate::bundle::{config::Config, weights::Cursor};

/// `x·Wᵀ + b`.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub(super) fn load(at: &Cursor, from: i64, to: i64) -> Self {
        Self { weight: at.tensor("weight", &[to, from]), bias: at.tensor("bias", &[to]) }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.to_kind(self.weight.kind()).linear(&self.weight, Some(&self.bias))
    }
}

/// Layer norm without weights, in f32, then scale and shift: `LN(x)·(1 + scale) + shift`.
pub(super) fn modulated_norm(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Tensor {
    let width = x.size()[x.dim() - 1];
    let normed = x.to_kind(Kind::Float).layer_norm([width], None::<&Tensor>, None::<&Tensor>, 1e-6, true);
    normed * (scale + 1.0) + shift
}

/// What a block needs of the class: `γ1, γ2, s1, s2, b1, b2`, f32 `[B, 1, C]` each.
#[derive(Debug)]
pub(super) struct Adaptation([Tensor; 6]);

#[derive(Debug)]
struct SelfAttention {
    mat_qkv: Tensor,
    /// Biases of q and v; k has none.
    qkv_bias: Tensor,
    scale_mul_1h11: Tensor,
    proj: Linear,
    heads: i64,
}

impl SelfAttention {
    fn load(at: &Cursor, config: &Config) -> Self {
        let (width, heads) = (config.transformer.width, config.transformer.heads);
        let (q_bias, v_bias) = (at.tensor("q_bias", &[width]), at.tensor("v_bias", &[width]));
        Self {
            mat_qkv: at.enter("mat_qkv").tensor("weight", &[3 * width, width]),
            qkv_bias: Tensor::cat(&[&q_bias, &q_bias.zeros_like(), &v_bias], 0),
            scale_mul_1h11: at.tensor_f32("scale_mul_1H11", &[1, heads, 1, 1]),
            proj: Linear::load(&at.enter("proj"), width, width),
            heads,
        }
    }

    fn forward(&self, x: &Tensor, mask: Option<&Tensor>, cache: Option<&mut KeyValueCache>) -> Tensor {
        let kind = self.mat_qkv.kind();
        let (b, l, c) = x.size3().unwrap_or_default();
        let qkv = x.to_kind(kind).linear(&self.mat_qkv, Some(&self.qkv_bias)); // [B, L, 3C]
        let qkv = qkv.view([b, l, 3, self.heads, c / self.heads]).permute([2, 0, 3, 1, 4]); // [3, B, H, L, D]
        let sharpness = self.scale_mul_1h11.clamp_max(100f64.ln()).exp();
        let q = (unit_length(&qkv.get(0)) * sharpness).to_kind(kind); // [B, H, L, D]
        let k = unit_length(&qkv.get(1)).to_kind(kind);
        let v = qkv.get(2);
        let (k, v) = match cache {
            Some(cache) => cache.append(&k, &v),
            None => (k, v),
        };
        let seen = Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, false, Some(1.0), false);
        self.proj.forward(&seen.transpose(1, 2).reshape([b, l, c]))
    }
}

/// Vectors of length 1 along the last dimension, in f32.
fn unit_length(x: &Tensor) -> Tensor {
    let x = x.to_kind(Kind::Float);
    let length = x.square().sum_dim_intlist([-1i64].as_slice(), true, Kind::Float).sqrt().clamp_min(1e-12);
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
        self.fc2.forward(&self.fc1.forward(x).gelu("tanh"))
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

    /// What this block needs of `cond`, f32 `[B, C]`.
    pub(super) fn adapt(&self, cond: &Tensor) -> Adaptation {
        let c = cond.size()[1];
        let all = self.ada_lin.forward(&cond.silu()).to_kind(Kind::Float).view([-1, 6, 1, c]); // [B, 6, 1, C]
        Adaptation(std::array::from_fn(|i| all.select(1, i as i64)))
    }

    /// Runs the block on `x`, f32 `[B, L, C]`. `between` is added after attention (the student's noise/data embedding).
    pub(super) fn forward(
        &self,
        x: &Tensor,
        Adaptation([gamma1, gamma2, scale1, scale2, shift1, shift2]): &Adaptation,
        between: Option<&Tensor>,
        mask: Option<&Tensor>,
        cache: Option<&mut KeyValueCache>,
    ) -> Tensor {
        let x = x + gamma1 * self.attn.forward(&modulated_norm(x, scale1, shift1), mask, cache);
        let x = match between {
            Some(embedding) => x + embedding,
            None => x,
        };
        &x + gamma2 * self.ffn.forward(&modulated_norm(&x, scale2, shift2))
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

    /// What the head needs of `cond`, f32 `[B, C]`: `(scale, shift)`, `[B, 1, C]` each.
    pub(super) fn adapt(&self, cond: &Tensor) -> [Tensor; 2] {
        let c = cond.size()[1];
        let both = self.ada_lin.forward(&cond.silu()).to_kind(Kind::Float).view([-1, 2, 1, c]); // [B, 2, 1, C]
        [both.select(1, 0), both.select(1, 1)]
    }

    /// `h` is `[B, L, C]`; f32 `[B, L, V]`.
    pub(super) fn forward(&self, h: &Tensor, [scale, shift]: &[Tensor; 2]) -> Tensor {
        self.head.forward(&modulated_norm(h, scale, shift)).to_kind(Kind::Float)
    }
}

/// Additive attention mask `[L, L]`: 0 where `allowed` is true, −∞ elsewhere. Rows lie `8·⌈L/8⌉` apart, which
/// memory-efficient attention on CUDA wants.
pub(super) fn additive_mask(allowed: &Tensor, kind: Kind) -> Tensor {
    let l = allowed.size()[0];
    let wide = Tensor::full([l, (l + 7) / 8 * 8], f64::NEG_INFINITY, (kind, allowed.device()));
    let mask = wide.narrow(1, 0, l);
    let _ = mask.shallow_clone().masked_fill_(allowed, 0.0);
    mask
}
