//! Noise by scale, and between seeds.

use tch::{Device, Kind, Tensor};

use super::super::noise::PictureSeed;
use crate::config::Config;

/// Another seed from a scale on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedRange {
    /// First scale whose noise and draws come from the seed.
    pub first_scale: usize,
    /// The seed.
    pub seed: u64,
}

/// Seeds with weights, which sum to one: what noise is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix(Vec<(u64, f64)>);

/// Weights that make no mix.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum MixError {
    /// Too few or too many parts.
    #[error("a blend is of one to {most} parts, not {0}", most = Mix::MOST)]
    Parts(usize),
    /// A weight that is none.
    #[error("a weight is {0}; it must be a number from 0 to 1")]
    Weight(f64),
    /// Weights that do not sum to one.
    #[error("the weights sum to {0}; they must sum to 1")]
    Sum(f64),
}

impl Mix {
    /// Most parts of a blend.
    pub const MOST: usize = 4;

    /// One seed alone.
    pub fn alone(seed: u64) -> Self {
        Self(vec![(seed, 1.0)])
    }

    /// # Errors
    /// See [`MixError`].
    pub fn new(parts: Vec<(u64, f64)>) -> Result<Self, MixError> {
        check_weights(parts.iter().map(|&(_, weight)| weight))?;
        Ok(Self(parts))
    }

    /// The seed of the heaviest part, the first of equally heavy ones: the teacher draws by it,
    /// since draws have no in-between.
    pub fn heaviest(&self) -> u64 {
        let heavier =
            |best: (u64, f64), &part: &(u64, f64)| if part.1 > best.1 { part } else { best };
        self.0.iter().fold((0, f64::NEG_INFINITY), heavier).0
    }
}

/// Checks the weights of a blend.
///
/// # Errors
/// See [`MixError`].
pub fn check_weights(weights: impl ExactSizeIterator<Item = f64> + Clone) -> Result<(), MixError> {
    if !(1..=Mix::MOST).contains(&weights.len()) {
        return Err(MixError::Parts(weights.len()));
    }
    if let Some(weight) = weights.clone().find(|weight| !(0.0..=1.0).contains(weight)) {
        return Err(MixError::Weight(weight));
    }
    let sum: f64 = weights.sum();
    if (sum - 1.0).abs() > 1e-6 { Err(MixError::Sum(sum)) } else { Ok(()) }
}

/// A point on the way from `a` (`t` = 0) to `b` (`t` = 1), tensors of one shape, f32: the direction
/// turns evenly (spherical interpolation, Shoemake 1985) while the norm goes from the one's to the
/// other's. The ends are `a` and `b` to the bit.
pub fn slerp(a: &Tensor, b: &Tensor, t: f64) -> Tensor {
    if t <= 0.0 {
        return a.copy();
    }
    if t >= 1.0 {
        return b.copy();
    }
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    let norm = |x: &Tensor| x.square().sum(Kind::Double).sqrt().double_value(&[]);
    let (norm_a, norm_b) = (norm(&a), norm(&b));
    if norm_a == 0.0 || norm_b == 0.0 {
        return (a * (1.0 - t) + b * t).to_kind(Kind::Float);
    }
    let (unit_a, unit_b) = (a / norm_a, b / norm_b);
    let cosine = (&unit_a * &unit_b).sum(Kind::Double).double_value(&[]).clamp(-1.0, 1.0);
    let angle = cosine.acos();
    let (weight_a, weight_b) = if angle.sin() < 1e-6 {
        (1.0 - t, t)
    } else {
        (((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin())
    };
    let length = (1.0 - t) * norm_a + t * norm_b;
    ((unit_a * weight_a + unit_b * weight_b) * length).to_kind(Kind::Float)
}

/// Starting noise of picture `index`, f32 `[N, Cv]` on the CPU: that of `seeds`, and from the first
/// scale of each range on that of its seed. Each scale's noise is what its seed gives the whole
/// picture there. Ranges are in order of their scales.
///
/// Between several seeds it is [`slerp`] of one after another: from what the first ones make to the
/// next by `w / (w + weights before)`.
pub fn noise_of(seeds: &Mix, ranges: &[SeedRange], index: u64, config: &Config) -> Tensor {
    let of = |seed| PictureSeed { seed, index }.noise(config.tokens(), config.latent_channels);
    let mut weight_before = 0.0;
    let mut noise =
        Tensor::zeros([config.tokens(), config.latent_channels], (Kind::Float, Device::Cpu));
    for &(seed, weight) in &seeds.0 {
        if weight > 0.0 {
            weight_before += weight;
            noise = slerp(&noise, &of(seed), weight / weight_before);
        }
    }
    for range in ranges {
        let kept = config.tokens_before(range.first_scale);
        let rest = config.tokens() - kept;
        noise = Tensor::cat(&[noise.narrow(0, 0, kept), of(range.seed).narrow(0, kept, rest)], 0);
    }
    noise
}

/// Seeds of the teacher's draws of picture `index`, one a scale.
pub fn seeds_by_scale(
    seeds: &Mix,
    ranges: &[SeedRange],
    index: u64,
    scales: usize,
) -> Vec<PictureSeed> {
    let seed_of = |scale| {
        let range = ranges.iter().rev().find(|range| range.first_scale <= scale);
        range.map_or_else(|| seeds.heaviest(), |range| range.seed)
    };
    (0..scales).map(|scale| PictureSeed { seed: seed_of(scale), index }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::published;

    fn norm(x: &Tensor) -> f64 {
        x.to_kind(Kind::Double).square().sum(Kind::Double).sqrt().double_value(&[])
    }

    #[test]
    fn a_way_between_noises_keeps_the_norm_turns_evenly_and_ends_at_both_to_the_bit() {
        let of = |seed| PictureSeed { seed, index: 0 }.noise(680, 32);
        let (a, b) = (of(1), of(2));
        assert_eq!((slerp(&a, &b, 0.0), slerp(&a, &b, 1.0)), (a.copy(), b.copy()));
        let angle = |x: &Tensor, y: &Tensor| {
            let dot = (x * y).sum(Kind::Double).double_value(&[]);
            (dot / norm(x) / norm(y)).acos()
        };
        let whole = angle(&a, &b);
        for t in [0.1, 0.25, 0.5, 0.9] {
            let x = slerp(&a, &b, t);
            let expected = (1.0 - t) * norm(&a) + t * norm(&b);
            assert!((norm(&x) / expected - 1.0).abs() < 1e-5, "norm at {t}");
            assert!((angle(&a, &x) / whole - t).abs() < 1e-3, "angle at {t}");
        }
        let opposite = slerp(&a, &(-&a), 0.5);
        assert!(
            opposite.isfinite().all().int64_value(&[]) == 1,
            "no number is lost at a half turn"
        );
    }

    #[test]
    fn noise_by_scale_takes_each_scale_from_its_seed() {
        let config = published::config(16);
        let of = |seed| PictureSeed { seed, index: 3 }.noise(680, 32);
        let ranges = [SeedRange { first_scale: 2, seed: 8 }, SeedRange { first_scale: 5, seed: 9 }];
        let noise = noise_of(&Mix::alone(7), &ranges, 3, &config);
        for (seed, from, to) in [(7, 0, 5), (8, 5, 55), (9, 55, 680)] {
            assert_eq!(noise.narrow(0, from, to - from), of(seed).narrow(0, from, to - from));
        }
        let seeds: Vec<u64> =
            seeds_by_scale(&Mix::alone(7), &ranges, 3, 10).iter().map(|of| of.seed).collect();
        assert_eq!(seeds, [7, 7, 8, 8, 8, 9, 9, 9, 9, 9]);
    }

    #[test]
    fn a_corner_of_a_blend_is_that_seed_alone_to_the_bit() {
        let config = published::config(16);
        for corner in 0..4 {
            let parts = (0..4).map(|seed| (seed, f64::from(u8::from(seed == corner)))).collect();
            let blend = Mix::new(parts).unwrap();
            assert_eq!(blend.heaviest(), corner);
            let alone = noise_of(&Mix::alone(corner), &[], 0, &config);
            assert_eq!(noise_of(&blend, &[], 0, &config), alone);
        }
    }

    #[test]
    fn weights_that_make_no_blend_are_refused() {
        let mix = |weights: &[f64]| Mix::new(weights.iter().map(|&weight| (0, weight)).collect());
        assert!(mix(&[0.25; 4]).is_ok() && mix(&[1.0]).is_ok());
        assert_eq!(mix(&[]), Err(MixError::Parts(0)));
        assert_eq!(mix(&[0.2; 5]), Err(MixError::Parts(5)));
        assert_eq!(mix(&[0.5, 0.6]), Err(MixError::Sum(1.1)));
        assert_eq!(mix(&[1.5, -0.5]), Err(MixError::Weight(1.5)));
        assert!(matches!(mix(&[f64::NAN, 1.0]), Err(MixError::Weight(_))));
    }
}
