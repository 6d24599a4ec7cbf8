//! Attention of transformers whose queries and keys have length 1 (cosine attention with a learnt
//! sharpness a head), with a cache of earlier positions.

mod cuda;

use tch::{Kind, Tensor};

pub(in crate::ops) use self::cuda::check;
use super::Ops;

/// The most that queries are multiplied by (`max_scale_mul` of the released code).
const MOST_SHARPNESS: f64 = 100.0;

/// Which positions a pass attends to.
#[derive(Debug)]
pub(crate) enum Attended<'a> {
    /// Every position that has run so far, and each other.
    All,
    /// What an additive mask `[l, keys]` lets through.
    Masked(Tensor),
    /// Every position of earlier levels, and itself. Holds where among the keys each level of the
    /// pass begins, and the end; a level that begins at 0 is one position. On a CPU, where no
    /// gradient is wanted.
    EarlierLevels(&'a [i64]),
}

/// Attention by head, `softmax(q̂·k̂ᵀ)·v`: `q̂` is `exp(min(log_sharpness, ln 100))·q/‖q‖` and `k̂`
/// is `k/‖k‖`. Gives `[B, L, C]` of `qkv`, `[B, L, 3C]`, which holds queries, keys and values of
/// all heads side by side and is used up, and of `log_sharpness`, f32 `[1, H, 1, 1]`.
///
/// Keys and values are appended to `cache`, if there is one, and those that it held are attended to
/// as well. On a GPU a kernel gives queries and keys their length in one pass over memory.
///
/// # Panics
/// If the shapes do not fit each other, as tensors do.
pub(crate) fn attend(
    ops: &Ops,
    mut qkv: Tensor,
    log_sharpness: &Tensor,
    attended: &Attended,
    cache: Option<&mut KeyValueCache>,
) -> Tensor {
    let (kind, heads, size) = (qkv.kind(), log_sharpness.numel() as i64, qkv.size());
    let (b, l, c) = (size[0], size[1], size[2] / 3);
    let is_done = match ops.kernels() {
        Ok(kernels) if !qkv.requires_grad() => cuda::unit_heads(kernels, &mut qkv, log_sharpness),
        _ => false,
    };
    let qkv = qkv.view([b, l, 3, heads, c / heads]).permute([2, 0, 3, 1, 4]); // [3, B, H, L, D]
    let (q, k, v) = (qkv.get(0), qkv.get(1), qkv.get(2)); // [B, H, L, D]
    let (q, k) = if is_done {
        (q, k)
    } else {
        let sharpness = log_sharpness.clamp_max(MOST_SHARPNESS.ln()).exp();
        ((unit_length(&q) * sharpness).to_kind(kind), unit_length(&k).to_kind(kind))
    };
    let (k, v) = match cache {
        Some(cache) => cache.append(&k, &v),
        None => (k, v),
    };
    let masked = |mask: Option<&Tensor>| {
        Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, false, Some(1.0), false)
    };
    let sums = match attended {
        Attended::All => masked(None),
        Attended::Masked(mask) => masked(Some(mask)),
        Attended::EarlierLevels(bounds) => attend_earlier_levels(&q, &k, &v, bounds),
    };
    sums.transpose(1, 2).reshape([b, l, c])
}

/// Attention of each position to all earlier levels and itself, without a mask: what no position of
/// a level sees is not computed. `q` is `[B, H, l, D]`, `k` and `v` are `[B, H, keys, D]`; see
/// [`Attended::EarlierLevels`].
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
        // [B, H, n, 1]
        let share = (own_score - log_sum).sigmoid().unsqueeze(-1).to_kind(seen.kind());
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
pub(crate) struct KeyValueCache {
    /// `[B, H, capacity, D]`, filled up to `length`.
    keys_values: Option<(Tensor, Tensor)>,
    capacity: i64,
    length: i64,
}

impl KeyValueCache {
    /// A cache with room for so many positions, which is taken when the first ones come.
    pub(crate) fn new(capacity: i64) -> Self {
        Self { keys_values: None, capacity, length: 0 }
    }

    /// Adds keys and values `[B, H, l, D]` of the next positions; gives those of all positions so
    /// far, `[B, H, length, D]`.
    fn append(&mut self, k: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
        let (mut size, l) = (k.size(), k.size()[2]);
        size[2] = self.capacity;
        let (keys, values) = self.keys_values.get_or_insert_with(|| {
            let room = || Tensor::empty(&size, (k.kind(), k.device()));
            (room(), room())
        });
        keys.narrow(2, self.length, l).copy_(k);
        values.narrow(2, self.length, l).copy_(v);
        self.length += l;
        (keys.narrow(2, 0, self.length), values.narrow(2, 0, self.length))
    }
}

/// Additive attention mask `[L, L]`: 0 where `allowed` is true, −∞ elsewhere. Rows lie `8·⌈L/8⌉`
/// apart, which memory-efficient attention on CUDA wants.
pub(crate) fn additive_mask(allowed: &Tensor, kind: Kind) -> Tensor {
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
}
