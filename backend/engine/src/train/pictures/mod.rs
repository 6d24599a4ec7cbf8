//! Small drawn scenes: the data of the demo model.
//!
//! A picture is a function of (seed, index, class, side) alone. Coarse scales of the tokenizer see
//! sky and ground, middle ones the subject, fine ones windows, stripes and stars, so that
//! refinement is worth watching.

mod built;
mod canvas;
mod land;
mod living;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use canvas::Canvas;

/// Classes, by number.
pub const CLASSES: [&str; 20] = [
    "sunset over the sea",
    "mountains",
    "tree",
    "flower",
    "house",
    "sailing boat",
    "hot-air balloon",
    "ringed planet",
    "snowman",
    "fish",
    "lighthouse",
    "cactus",
    "rocket",
    "butterfly",
    "mushroom",
    "windmill",
    "castle",
    "car",
    "owl",
    "beach umbrella",
];

/// Smallest and largest side in pixels.
pub const SIDES: std::ops::RangeInclusive<u32> = 8..=1024;

/// A picture that cannot be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// A class that there is none of.
    #[error(
        "class {0} is out of range; there are {n} kinds of scenes, 0 to {last}",
        n = CLASSES.len(),
        last = CLASSES.len() - 1
    )]
    Class(usize),
    /// A side out of bounds.
    #[error(
        "pictures of {0}×{0} pixels cannot be drawn; the side goes from {first} to {last}",
        first = SIDES.start(),
        last = SIDES.end()
    )]
    Side(u32),
}

/// Draws picture `index` of a stream: red, green and blue of each pixel, row by row,
/// `side · side · 3` bytes.
///
/// The same arguments always give the same bytes, and pictures of different sides show the same
/// scene.
///
/// # Errors
/// When class or side are out of bounds.
pub fn draw(seed: u64, index: u64, class: usize, side: u32) -> Result<Vec<u8>, PictureError> {
    if !SIDES.contains(&side) {
        return Err(PictureError::Side(side));
    }
    let scene = *SCENES.get(class).ok_or(PictureError::Class(class))?;
    let mut canvas = Canvas::new(side).ok_or(PictureError::Side(side))?;
    let mut chance = Chance::new(seed, index);
    scene(&mut canvas, &mut chance);
    land::light(&mut canvas, &mut chance);
    Ok(canvas.into_rgb())
}

type Scene = fn(&mut Canvas, &mut Chance);

const SCENES: [Scene; CLASSES.len()] = [
    land::sunset,
    land::mountains,
    living::tree,
    living::flower,
    built::house,
    built::sailing_boat,
    built::balloon,
    land::planet,
    built::snowman,
    living::fish,
    built::lighthouse,
    living::cactus,
    built::rocket,
    living::butterfly,
    living::mushroom,
    built::windmill,
    built::castle,
    built::car,
    living::owl,
    built::parasol,
];

/// The chances of one picture.
struct Chance(ChaCha8Rng);

impl Chance {
    fn new(seed: u64, index: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        Self(rng)
    }

    /// Even over `from..to`.
    fn between(&mut self, from: f32, to: f32) -> f32 {
        let unit = (self.0.next_u32() >> 8) as f32 / (1 << 24) as f32;
        from + (to - from) * unit
    }

    /// Even over `0..n`.
    fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    fn happens(&mut self, probability: f32) -> bool {
        self.between(0.0, 1.0) < probability
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_arguments_give_the_same_picture() {
        for (class, name) in CLASSES.iter().enumerate() {
            assert_eq!(draw(3, 5, class, 32), draw(3, 5, class, 32), "{}", name);
        }
    }

    #[test]
    fn no_two_pictures_of_a_class_are_alike() {
        for (class, name) in CLASSES.iter().enumerate() {
            let distinct: HashSet<_> =
                (0..50).map(|index| draw(1, index, class, 16).unwrap()).collect();
            assert_eq!(distinct.len(), 50, "{}", name);
        }
    }

    #[test]
    fn a_scene_keeps_its_colours_at_every_side() {
        let mean =
            |bytes: Vec<u8>| bytes.iter().map(|&b| f64::from(b)).sum::<f64>() / bytes.len() as f64;
        for (class, name) in CLASSES.iter().enumerate() {
            let (small, large) =
                (mean(draw(9, 4, class, 32).unwrap()), mean(draw(9, 4, class, 128).unwrap()));
            assert!((small - large).abs() < 2.0, "{}: {small} at 32, {large} at 128", name);
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_refused_with_the_bound() {
        assert!(draw(0, 0, 20, 64).unwrap_err().to_string().contains("0 to 19"));
        assert!(draw(0, 0, 0, 4).unwrap_err().to_string().contains("from 8 to 1024"));
    }
}
