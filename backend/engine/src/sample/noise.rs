//! Randomness of a picture: a function of (seed, picture index, purpose) alone, computed on the
//! CPU.
//!
//! A picture is therefore the same alone and in any batch, on any device, and after any
//! interruption.

use std::{f64::consts::TAU, thread};

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
        // 64 random bits times the bound, of which the upper half counts: off by less than one in
        // 2^44 for a million.
        let bits = self.generator(Purpose::Class).next_u64();
        ((u128::from(bits) * u128::from(classes.max(1))) >> 64) as u64
    }

    /// The picture's starting noise: standard Gaussian, f32 `[tokens, channels]` on the CPU.
    pub fn noise(self, tokens: i64, channels: i64) -> Tensor {
        noise(&[self], tokens, channels).get(0)
    }

    /// Standard Gaussian numbers (Box–Muller in f64, with functions that are the same on every
    /// machine), from the one numbered `first` on, which is even.
    fn fill_with_noise(self, first: usize, values: &mut [f32]) {
        let mut generator = self.generator(Purpose::Noise);
        // Two numbers are made of two random words of 64 bits.
        generator.set_word_pos(2 * first as u128);
        let mut unit = move || (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        for pair in values.chunks_mut(2) {
            let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit()));
            let angle = TAU * unit();
            let both = [radius * libm::cos(angle), radius * libm::sin(angle)];
            pair.iter_mut().zip(both).for_each(|(value, drawn)| *value = drawn as f32);
        }
    }

    /// Numbers in 0…1, both excluded, for the draws at `scale`, from the one numbered `first` on.
    fn fill_with_uniform(self, scale: usize, first: usize, values: &mut [f32]) {
        let mut generator = self.generator(Purpose::Draw(scale));
        generator.set_word_pos(first as u128);
        let mut bytes = [0; 4096];
        for some in values.chunks_mut(bytes.len() / 4) {
            let bytes = &mut bytes[..4 * some.len()];
            generator.fill_bytes(bytes);
            for (value, word) in some.iter_mut().zip(bytes.chunks_exact(4)) {
                let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                *value = ((word >> 9) as f32 + 0.5) / (1 << 23) as f32;
            }
        }
    }
}

/// Numbers that a core makes at once.
const PIECE: usize = 4096;

/// Numbers of each picture, f32 `[B, rows, columns]` on the CPU. `fill` gives those of one from a
/// number on; pieces are shared out among the cores.
fn of_each(
    pictures: &[PictureSeed],
    [rows, columns]: [i64; 2],
    fill: impl Fn(PictureSeed, usize, &mut [f32]) + Sync,
) -> Tensor {
    let numbers = (rows * columns) as usize;
    let mut values = vec![0.0; pictures.len() * numbers];
    let of_pictures = pictures.iter().zip(values.chunks_mut(numbers.max(1)));
    let mut pieces: Vec<_> = of_pictures
        .flat_map(|(picture, values)| {
            (0..)
                .step_by(PIECE)
                .zip(values.chunks_mut(PIECE))
                .map(|(first, piece)| (*picture, first, piece))
        })
        .collect();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let share = pieces.len().div_ceil(cores).max(1);
    let fill_all = &|pieces: &mut [(PictureSeed, usize, &mut [f32])]| {
        for (picture, first, piece) in pieces {
            fill(*picture, *first, piece);
        }
    };
    thread::scope(|scope| {
        let mut shares = pieces.chunks_mut(share);
        let own = shares.next();
        for other in shares {
            scope.spawn(move || fill_all(other));
        }
        own.map(fill_all)
    });
    Tensor::from_slice(&values).reshape([pictures.len() as i64, rows, columns])
}

/// Starting noise of several pictures, standard Gaussian, f32 `[B, tokens, channels]` on the CPU.
pub fn noise(pictures: &[PictureSeed], tokens: i64, channels: i64) -> Tensor {
    of_each(pictures, [tokens, channels], PictureSeed::fill_with_noise)
}

/// A draw from `probs`, f32 `[B, n, V]`, for each token of `scale`: codeword numbers, i64 `[B, n]`.
///
/// Each codeword waits an exponential time with its probability as rate, and the first one wins,
/// which is a multinomial draw. Unlike inverting the cumulative sum it hardly ever changes when
/// probabilities move by a rounding error, as they do from one batch size to another.
pub fn draw(probs: &Tensor, pictures: &[PictureSeed], scale: usize) -> Tensor {
    let size = probs.size();
    let uniform = of_each(pictures, [size[1], size[2]], |picture, first, values| {
        picture.fill_with_uniform(scale, first, values)
    });
    let waits = -uniform.to_device(probs.device()).log();
    (probs / waits).argmax(-1, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_of_the_first_tokens_is_that_of_all() {
        let pictures = [PictureSeed { seed: 7, index: 3 }, PictureSeed { seed: 8, index: 0 }];
        for (first, channels) in [(91, 16), (1, 3), (5, 3)] {
            let all = noise(&pictures, 680, channels).narrow(1, 0, first);
            assert!(noise(&pictures, first, channels).equal(&all), "{first} of {channels}");
        }
    }

    #[test]
    fn noise_is_gaussian_and_depends_on_seed_and_index_alone() {
        let picture = PictureSeed { seed: 7, index: 3 };
        let noise = noise(&[picture], 680, 32);
        assert_eq!(noise, super::noise(&[picture], 680, 32));
        for other in [PictureSeed { seed: 8, index: 3 }, PictureSeed { seed: 7, index: 4 }] {
            assert_ne!(noise, super::noise(&[other], 680, 32));
        }
        let mean = f64::try_from(noise.mean(tch::Kind::Double)).unwrap();
        let variance = f64::try_from(noise.square().mean(tch::Kind::Double)).unwrap();
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.03,
            "mean {mean}, variance {variance}"
        );
    }

    #[test]
    fn classes_at_random_are_all_as_likely() {
        let mut counts = [0; 5];
        (0..20_000).for_each(|index| counts[PictureSeed { seed: 2, index }.class(5) as usize] += 1);
        assert!(counts.iter().all(|count| (3_800..4_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn an_odd_number_of_values_is_a_prefix_of_an_even_one() {
        let of = |tokens| noise(&[PictureSeed { seed: 1, index: 0 }], tokens, 1);
        assert_eq!(of(3), of(4).narrow(1, 0, 3));
    }

    #[test]
    fn pictures_are_shared_out_without_a_trace() {
        let pictures: Vec<_> = (0..37).map(|index| PictureSeed { seed: 3, index }).collect();
        // More than one piece each.
        let (tokens, channels) = (3 * PIECE as i64 / 2 + 1, 3);
        let together = noise(&pictures, tokens, channels);
        for (picture, index) in pictures.iter().zip(0..) {
            assert_eq!(together.get(index), picture.noise(tokens, channels));
            let mut at_once = vec![0.0; (tokens * channels) as usize];
            picture.fill_with_noise(0, &mut at_once);
            assert_eq!(together.get(index).view([-1]), Tensor::from_slice(&at_once));
        }
        assert_eq!(noise(&[], 7, 3).size(), [0, 7, 3]);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let probs = Tensor::from_slice(&[0.5f32, 0.0, 0.2, 0.3])
            .reshape([1, 1, 4])
            .expand([1, 20_000, 4], false);
        let codes = draw(&probs, &[PictureSeed { seed: 5, index: 0 }], 2);
        let counts = Vec::<i64>::try_from(codes.view([-1]).bincount(None::<&Tensor>, 4)).unwrap();
        for (count, expected) in counts.iter().zip([10_000, 0, 4_000, 6_000]) {
            assert!((count - expected).abs() < 300, "{counts:?}");
        }
    }
}
