//! Weights before the first step, by name: those of the VAR and VQGAN papers' code in distribution,
//! computed from (seed, name) alone, so that they are the same on every machine.

use tch::{Device, Kind, Tensor};

use crate::{sample::noise::PictureSeed, weights::StateDict};

/// How much of its attention and feed-forward a block adds at first (γ₁ and γ₂). The papers begin
/// with nothing, which costs a short run much of its steps.
const BRANCH: f64 = 0.5;

/// Standard deviation of `name` before it is corrected for its part in the network.
fn spread(name: &str, shape: &[i64]) -> f64 {
    let fan_in: i64 = shape.iter().skip(1).product();
    let width = shape[shape.len() - 1] as f64;
    let embedding = (1.0 / width / 3.0).sqrt();
    match name {
        "quantize.embedding.weight" => 0.5,
        "class_emb.weight" | "lvl_embed.weight" | "pos_start" | "pos_1LC" | "n_d_embed.weight" => {
            embedding
        }
        "head.weight" => 0.02 * embedding,
        // Both heads begin with next to nothing, and so does what tells noise from data.
        "final_layer_conti.linear.weight" => 0.02,
        "final_layer_conti.scale_shift_table" => 0.1 * embedding,
        _ if name.starts_with("layerwise_n_d_embed") => 0.02 * embedding,
        _ if name.ends_with("mat_qkv.weight")
            || name.contains(".ada_lin.")
            || name.contains(".ffn.") =>
        {
            embedding
        }
        "word_embed.weight" => (1.0 / fan_in as f64).sqrt(),
        _ if shape.len() == 2 => embedding,
        // Convolutions: the variance of PyTorch's own start.
        _ => (1.0 / (3.0 * fan_in as f64)).sqrt(),
    }
}

/// The tensor `name` of `shape`, f32 on the CPU.
pub(super) fn tensor(seed: u64, name: &str, shape: &[i64]) -> Tensor {
    let options = (Kind::Float, Device::Cpu);
    if name.ends_with("scale_mul_1H11") {
        return Tensor::full(shape, 4f64.ln(), options);
    }
    if name.starts_with("blocks.") && name.ends_with(".ada_lin.1.bias") {
        let bias = Tensor::zeros(shape, options);
        let _ = bias.narrow(0, 0, shape[0] / 3).fill_(BRANCH);
        return bias;
    }
    if shape.len() < 2 {
        let is_norm_scale = name.contains("norm") && name.ends_with(".weight");
        return Tensor::full(shape, f64::from(u8::from(is_norm_scale)), options);
    }
    // FNV-1a, so that every name has numbers of its own.
    let index = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let count = shape.iter().product();
    let values = PictureSeed { seed, index }.noise(1, count).reshape(shape) * spread(name, shape);
    if name.starts_with("blocks.") && name.contains(".ada_lin.") {
        // Blocks begin as the identity: γ₁ and γ₂, the first third of the rows, are next to zero.
        let _ = values.narrow(0, 0, shape[0] / 3).g_mul_scalar_(1e-5 / 0.5);
        return values * 0.5;
    }
    if name.starts_with("head_nm.") {
        return values * 0.5;
    }
    values
}

/// Where a student begins: the teacher's weights, with a level and a position more after the first
/// (Liu et al.: the class has a place of its own). Student row 0 is teacher row 0, row 1 is new,
/// row `k + 1` is teacher row `k`.
///
/// The released code means to do the same, but redraws row 1 of `class_emb` where it means that of
/// `lvl_embed`.
pub(super) fn from_teacher(teacher: &StateDict, seed: u64) -> StateDict {
    let _no_grad = tch::no_grad_guard();
    let grown = |name: &str, old: &Tensor, dim: i64| {
        let rows = old.size()[dim as usize];
        let mut shape = old.size();
        shape[dim as usize] = 1;
        let new = tensor(seed, name, &shape).to_device(old.device()).to_kind(old.kind());
        Tensor::cat(&[old.narrow(dim, 0, 1), new, old.narrow(dim, 1, rows - 1)], dim)
    };
    let take = |(name, tensor): (&String, &Tensor)| {
        let tensor = match name.as_str() {
            "lvl_embed.weight" => grown(name, tensor, 0),
            "pos_1LC" => grown(name, tensor, 1),
            _ => tensor.shallow_clone(),
        };
        (name.clone(), tensor)
    };
    teacher.iter().map(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_weights_depend_on_seed_and_name_alone() {
        let shape = [8, 16];
        let of = |seed, name| tensor(seed, name, &shape);
        assert_eq!(of(1, "word_embed.weight"), of(1, "word_embed.weight"));
        assert_ne!(of(1, "word_embed.weight"), of(2, "word_embed.weight"));
        assert_ne!(of(1, "blocks.0.ffn.fc1.weight"), of(1, "blocks.1.ffn.fc1.weight"));
    }

    #[test]
    fn a_block_begins_as_the_identity() {
        let weight = tensor(1, "blocks.0.ada_lin.1.weight", &[48, 8]);
        let largest = |from, n| f64::try_from(weight.narrow(0, from, n).abs().max()).unwrap();
        assert!(largest(0, 16) < 1e-4, "γ starts at {}", largest(0, 16));
        assert!(largest(16, 32) > 1e-2);
    }
}
