//! Weights and noise from names alone: networks that anyone can rebuild bit for bit without a file.
//!
//! Reference outputs of the released method were made with these weights; see
//! `tests/data/README.md` of this crate.

use std::f64::consts::TAU;

use tch::Tensor;

/// Uniform numbers in 0…1 named `name`: FNV-1a of the name seeds SplitMix64.
fn uniform(name: &str) -> impl Iterator<Item = f64> + use<> {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (1u64..).map(move |i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(GOLDEN));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f64 / f64::from(1 << 24)
    })
}

/// The weight tensor `name` of `shape`, f32 on the CPU.
pub fn tensor(name: &str, shape: &[i64]) -> Tensor {
    const HALVED: [&str; 5] =
        ["class_emb.weight", "lvl_embed.weight", "n_d_embed.weight", "pos_start", "pos_1LC"];
    let fan_in: i64 = shape.iter().skip(1).product();
    let (offset, scale) = if name.ends_with("running_var") {
        (1.0, 0.5)
    } else if name.ends_with("running_mean") {
        (0.0, 0.1)
    } else if name.ends_with("scale_mul_1H11") {
        (4f64.ln(), 0.1)
    } else if name == "quantize.embedding.weight" {
        (0.0, 1.0)
    } else if HALVED.contains(&name) {
        (0.0, 0.5)
    } else if shape.len() >= 2 {
        (0.0, (3.0 / fan_in as f64).sqrt())
    } else if name.ends_with(".weight") && (name.contains("norm") || name.contains(".bn.")) {
        (1.0, 0.1)
    } else {
        (0.0, 0.1)
    };
    let count: i64 = shape.iter().product();
    let values: Vec<f32> = uniform(name)
        .take(count as usize)
        .map(|u| (offset + scale * (2.0 * u - 1.0)) as f32)
        .collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// Gaussian noise named `name`, f32 of `shape` on the CPU (Box–Muller).
pub fn noise(name: &str, shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    let pairs = uniform(&format!("{name}#a")).zip(uniform(&format!("{name}#b")));
    let gaussian =
        |(a, b): (f64, f64)| (libm::sqrt(-2.0 * libm::log(1.0 - a)) * libm::cos(TAU * b)) as f32;
    Tensor::from_slice(&pairs.take(count as usize).map(gaussian).collect::<Vec<_>>()).reshape(shape)
}
