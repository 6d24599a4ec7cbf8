//! The random streams of PyTorch's CPU generator, bit for bit.
//!
//! The released scripts draw labels and noise from it, so whoever wants their pictures needs its
//! numbers. A 32-bit Mersenne Twister (Matsumoto and Nishimura 1998, as in
//! `ATen/core/MT19937RNGEngine.h`) gives the bits; `randn` turns them into normal numbers by Box
//! and Muller's method in blocks of sixteen, with the single-precision Cephes polynomials of
//! `ATen/native/cpu/avx_mathfun.h`, whose multiplications and additions are fused. This is what
//! PyTorch does on an x86-64 processor with AVX2.

// Polynomial coefficients as published: rounding them to what f32 holds would hide where they come
// from.
#![allow(clippy::excessive_precision)]

use std::f32::consts::{FRAC_1_SQRT_2, TAU};

const STATE: usize = 624;
const SHIFT: usize = 397;

/// A generator as `torch.Generator("cpu").manual_seed(seed)` makes it.
#[derive(Clone, Debug)]
pub struct TorchGenerator {
    state: [u32; STATE],
    next: usize,
    /// The second number of a pair drawn one by one.
    spare: Option<f64>,
}

impl TorchGenerator {
    /// A fresh generator. Only the lower 32 bits of the seed count, as in PyTorch.
    pub fn new(seed: u64) -> Self {
        let mut state = [seed as u32; STATE];
        for i in 1..STATE {
            let before = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = before.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, next: STATE, spare: None }
    }

    /// What `torch.randint(0, bound, (count,))` gives. The bound must be above 0.
    pub fn integers(&mut self, bound: u64, count: usize) -> Vec<i64> {
        let bound = bound.max(1);
        let draw = |_| {
            // Large ranges take 64 bits, so that no number is favoured noticeably.
            let bits = if bound >= 1 << 28 { self.bits64() } else { self.bits32().into() };
            (bits % bound) as i64
        };
        (0..count).map(draw).collect()
    }

    /// What `torch.randn` gives for a float32 tensor of `count` elements, in row-major order.
    pub fn normal(&mut self, count: usize) -> Vec<f32> {
        if count < 16 {
            return (0..count).map(|_| self.single_normal() as f32).collect();
        }
        let mut numbers: Vec<f32> = (0..count).map(|_| self.uniform()).collect();
        let (blocks, rest) = numbers.as_chunks_mut::<16>();
        blocks.iter_mut().for_each(box_muller);
        if !rest.is_empty() {
            // The last sixteen are drawn anew as one block that overlaps the one before.
            let mut block = [0.0; 16];
            block.fill_with(|| self.uniform());
            box_muller(&mut block);
            numbers[count - 16..].copy_from_slice(&block);
        }
        numbers
    }

    /// Moves on as [`TorchGenerator::normal`] of `count` elements does, without computing them.
    pub fn skip_normal(&mut self, count: usize) {
        if count < 16 {
            self.normal(count);
            return;
        }
        let mut words = if count.is_multiple_of(16) { count } else { count + 16 };
        while words > 0 {
            if self.next == STATE {
                self.twist();
            }
            let taken = words.min(STATE - self.next);
            self.next += taken;
            words -= taken;
        }
    }

    fn bits32(&mut self) -> u32 {
        if self.next == STATE {
            self.twist();
        }
        let mut bits = self.state[self.next];
        self.next += 1;
        bits ^= bits >> 11;
        bits ^= (bits << 7) & 0x9d2c_5680;
        bits ^= (bits << 15) & 0xefc6_0000;
        bits ^ (bits >> 18)
    }

    fn bits64(&mut self) -> u64 {
        let high = u64::from(self.bits32());
        high << 32 | u64::from(self.bits32())
    }

    fn twist(&mut self) {
        for i in 0..STATE {
            let next = self.state[(i + 1) % STATE];
            let joined = self.state[i] & 0x8000_0000 | next & 0x7fff_ffff;
            let matrix = if next & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + SHIFT) % STATE] ^ joined >> 1 ^ matrix;
        }
        self.next = 0;
    }

    /// Uniform in 0…1, without 1.
    fn uniform(&mut self) -> f32 {
        (self.bits32() & 0x00ff_ffff) as f32 / (1 << 24) as f32
    }

    fn uniform_double(&mut self) -> f64 {
        (self.bits64() & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64
    }

    /// Few numbers are drawn one by one in double precision.
    fn single_normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let angle = std::f64::consts::TAU * self.uniform_double();
        let radius = (-2.0 * (-self.uniform_double()).ln_1p()).sqrt();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

/// Turns sixteen uniform numbers into normal ones: number `j` and number `j + 8` are a pair.
fn box_muller(block: &mut [f32; 16]) {
    for j in 0..8 {
        let radius = (-2.0 * log(1.0 - block[j])).sqrt();
        let (sin, cos) = sin_cos(TAU * block[j + 8]);
        block[j] = radius * cos;
        block[j + 8] = radius * sin;
    }
}

/// Natural logarithm of a positive normal number (Cephes `logf`).
fn log(x: f32) -> f32 {
    const P: [f32; 9] = [
        7.037_683_629_2e-2,
        -1.151_461_031_0e-1,
        1.167_699_874_0e-1,
        -1.242_014_084_6e-1,
        1.424_932_278_7e-1,
        -1.666_805_766_5e-1,
        2.000_071_476_5e-1,
        -2.499_999_399_3e-1,
        3.333_333_117_4e-1,
    ];
    const LN_2_LOW: f32 = -2.121_944_40e-4;
    const LN_2_HIGH: f32 = 0.693_359_375;
    let bits = x.to_bits();
    let mut exponent = ((bits >> 23) as i32 - 126) as f32;
    // The fraction, in 0.5…1.
    let fraction = f32::from_bits(bits & 0x807f_ffff | 0x3f00_0000);
    let mut x = fraction - 1.0;
    if fraction < FRAC_1_SQRT_2 {
        exponent -= 1.0;
        x += fraction;
    }
    let square = x * x;
    let polynomial = P[1..].iter().fold(P[0], |sum, &p| sum.mul_add(x, p)) * x;
    let tail = polynomial.mul_add(square, exponent * LN_2_LOW);
    let tail = (-square).mul_add(0.5, tail);
    exponent.mul_add(LN_2_HIGH, x + tail)
}

/// Sine and cosine of an angle that is not negative (Cephes `sinf`, `cosf`).
fn sin_cos(angle: f32) -> (f32, f32) {
    const FOUR_OVER_PI: f32 = 1.273_239_544_735_16;
    // π/4 in three parts, each exact when multiplied by a small integer.
    const PI_OVER_4: [f32; 3] =
        [-0.785_156_25, -2.418_756_484_985_351_562_5e-4, -3.774_894_977_445_941_08e-8];
    const COS: [f32; 3] =
        [2.443_315_711_809_948e-5, -1.388_731_625_493_765e-3, 4.166_664_568_298_827e-2];
    const SIN: [f32; 3] = [-1.951_529_589_1e-4, 8.332_160_873_6e-3, -1.666_665_461_1e-1];
    let octant = ((angle * FOUR_OVER_PI) as i32 + 1) & !1;
    let x = PI_OVER_4.iter().fold(angle, |x, &part| (octant as f32).mul_add(part, x));
    let square = x * x;
    let cos = COS[0].mul_add(square, COS[1]).mul_add(square, COS[2]) * square;
    let cos = cos.mul_add(square, -0.5 * square) + 1.0;
    let sin = SIN[0].mul_add(square, SIN[1]).mul_add(square, SIN[2]) * square;
    let sin = sin.mul_add(x, x);
    let (sin, cos) = if octant & 2 == 0 { (sin, cos) } else { (cos, sin) };
    let negative = |x: f32, condition: bool| if condition { -x } else { x };
    (negative(sin, octant & 4 != 0), negative(cos, (octant - 2) & 4 == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> safetensors::SafeTensors<'static> {
        let bytes = include_bytes!("../../tests/data/evaluation.safetensors");
        safetensors::SafeTensors::deserialize(bytes).unwrap()
    }

    #[test]
    fn the_released_script_s_labels_and_noise_are_drawn_bit_for_bit() {
        let reference = reference();
        let mut generator = TorchGenerator::new(0);
        let labels = reference.tensor("rng.seed0.n5.labels").unwrap();
        let drawn: Vec<u8> =
            generator.integers(1000, 5).iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(drawn, labels.data());
        for batch in 0..3 {
            let noise = reference.tensor(&format!("rng.seed0.n5.bs2.noise{batch}")).unwrap();
            let drawn = generator.normal(noise.shape().iter().product());
            let bytes: Vec<u8> = drawn.iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(bytes, noise.data(), "batch {batch}");
        }
    }

    #[test]
    fn skipping_numbers_leads_to_where_drawing_them_does() {
        for count in [1, 5, 15, 16, 17, 624, 625, 1000, 4096] {
            let mut drawn = TorchGenerator::new(3);
            let mut skipped = drawn.clone();
            for _ in 0..3 {
                drawn.normal(count);
                skipped.skip_normal(count);
                assert_eq!(
                    drawn.clone().integers(1 << 40, 3),
                    skipped.clone().integers(1 << 40, 3),
                    "{count}"
                );
            }
            assert_eq!(drawn.normal(3), skipped.normal(3), "{count}");
        }
    }

    /// Drawn by PyTorch 2.11 with seed 7: five numbers one by one, then twenty in two blocks that
    /// overlap, then integers of 64 bits.
    #[test]
    fn odd_counts_and_large_ranges_are_drawn_as_pytorch_draws_them() {
        let bits = |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let mut generator = TorchGenerator::new(7 | 1 << 32);
        assert_eq!(
            bits(generator.normal(5)),
            [0xbe165174, 0x3f49408e, 0x3f7262e7, 0xbf8ea2d3, 0x3fd86bd0]
        );
        assert_eq!(
            bits(generator.normal(20)),
            [
                0x3f1c0674, 0xbf14c52f, 0x3d48e239, 0xbea4158d, 0xbdab10d9, 0xbcc054cb, 0x3e328f74,
                0x4013180c, 0x3f7504a6, 0xbf297027, 0xbf54156f, 0xbf1b0ddd, 0xbfb35c30, 0x3fa60f1a,
                0x3fd20a1a, 0xbf87416d, 0xbe85eeb2, 0xbe801162, 0x3f00497f, 0x3e852377
            ]
        );
        assert_eq!(
            generator.integers(1 << 40, 3),
            [21_206_956_526, 590_338_211_671, 976_609_633_475]
        );
    }
}
