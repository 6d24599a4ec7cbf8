//! Randomness of a picture: a function of (seed, picture index, purpose) alone, computed on the CPU.
//!
//! A picture is therefore the same alone and in any batch, on any device, and after any interruption.

use std::f64::consts::TAU;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use tch::Tensor;

/// Which randomness of which picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PictureSeed {
    /// Seed of the job.
    pub seed: u64,
    /// Index of the picture in its job.
    pub index: u64,
}

/// What numbers are drawn for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Noise,
    /// A class at random.
    Class,
    /// Draws of the teacher at this scale.
    Draw(usize),
}

impl PictureSeed {
    fn generator(self, purpose: Purpose) -> ChaCha8Rng {
        let purpose = match purpose {
            Purpose::Noise => 0,
            Purpose::Class => u64::MAX,
            Purpose::Draw(scale) => 1 + scale as u64,
        };
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.index.to_le_bytes());
        key[16..24].copy_from_slice(&purpose.to_le_bytes());
        key[24..].copy_from_slice(b"var-dd-1");
        ChaCha8Rng::from_seed(key)
    }

    /// A class at random, each of `classes` (at least 1) as likely as any other.
    pub fn class(self, classes: u64) -> u64 {
        // 64 random bits times the bound, of which the upper half counts: off by less than one in 2^44 for a million.
        let bits = self.generator(Purpose::Class).next_u64();
        ((u128::from(bits) * u128::from(classes.max(1))) >> 64) as u64
    }

    /// The picture's starting noise: standard Gaussian, f32 `[tokens, channels]` on the CPU (Box–Muller in f64, with
    /// functions that are the same on every machine).
    pub fn noise(self, tokens: i64, channels: i64) -> Tensor {
        let mut generator = self.generator(Purpose::Noise);
        let mut unit = move || (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let count = (tokens * channels) as usize;
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit()));
            let angle = TAU * unit();
            values.push((radius * libm::cos(angle)) as f32);
            values.push((radius * libm::sin(angle)) as f32);
        }
        Tensor::from_slice(&values[..count]).reshape([tokens, channels])
    }

    /// Numbers in 0…1, both excluded, for the draws at `scale`: f32 `[tokens, vocabulary]` on the CPU.
    fn uniform(self, scale: usize, tokens: i64, vocabulary: i64) -> Tensor {
        let mut bytes = vec![0; (4 * tokens * vocabulary) as usize];
        self.generator(Purpose::Draw(scale)).fill_bytes(&mut bytes);
        let unit = |word: &[u8]| {
            let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            ((word >> 9) as f32 + 0.5) / (1 << 23) as f32
        };
        let values: Vec<f32> = bytes.chunks_exact(4).map(unit).collect();
        Tensor::from_slice(&values).reshape([tokens, vocabulary])
    }
}

/// Noise of several pictures, f32 `[B, tokens, channels]` on the CPU.
pub fn noise(pictures: &[PictureSeed], tokens: i64, channels: i64) -> Tensor {
    let each: Vec<Tensor> = pictures.iter().map(|picture| picture.noise(tokens, channels)).collect();
    Tensor::stack(&each, 0)
}

/// A draw from `probs`, f32 `[B, n, V]`, for each token of `scale`: codeword numbers, i64 `[B, n]`.
///
/// Each codeword waits an exponential time with its probability as rate, and the first one wins, which is a
/// multinomial draw. Unlike inverting the cumulative sum it hardly ever changes when probabilities move by a rounding
/// error, as they do from one batch size to another.
pub fn draw(probs: &Tensor, pictures: &[PictureSeed], scale: usize) -> Tensor {
    let (_, tokens, vocabulary) = probs.size3().unwrap_or_default();
    let each: Vec<Tensor> =
        pictures.iter().map(|picture| picture.uniform(scale, tokens, vocabulary)).collect();
    let waits = -Tensor::stack(&each, 0).to_device(probs.device()).log();
    (probs / waits).argmax(-1, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_gaussian_and_depends_on_seed_and_index_alone() {
        let picture = PictureSeed { seed: 7, index: 3 };
        let noise = picture.noise(680, 32);
        assert_eq!(noise, picture.noise(680, 32));
        for other in [PictureSeed { seed: 8, index: 3 }, PictureSeed { seed: 7, index: 4 }] {
            assert_ne!(noise, other.noise(680, 32));
        }
        let mean = f64::try_from(noise.mean(tch::Kind::Double)).unwrap();
        let variance = f64::try_from(noise.square().mean(tch::Kind::Double)).unwrap();
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.03, "mean {mean}, variance {variance}");
    }

    #[test]
    fn classes_at_random_are_all_as_likely() {
        let mut counts = [0; 5];
        (0..20_000).for_each(|index| counts[PictureSeed { seed: 2, index }.class(5) as usize] += 1);
        assert!(counts.iter().all(|count| (3_800..4_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn an_odd_number_of_values_is_a_prefix_of_an_even_one() {
        let picture = PictureSeed { seed: 1, index: 0 };
        assert_eq!(picture.noise(3, 1), picture.noise(4, 1).narrow(0, 0, 3));
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let probs =
            Tensor::from_slice(&[0.5f32, 0.0, 0.2, 0.3]).reshape([1, 1, 4]).expand([1, 20_000, 4], false);
        let codes = draw(&probs, &[PictureSeed { seed: 5, index: 0 }], 2);
        let counts = Vec::<i64>::try_from(codes.view([-1]).bincount(None::<&Tensor>, 4)).unwrap();
        for (count, expected) in counts.iter().zip([10_000, 0, 4_000, 6_000]) {
            assert!((count - expected).abs() < 300, "{counts:?}");
        }
    }
}
