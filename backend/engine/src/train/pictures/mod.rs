//! Small drawn scenes: the data of the demo model.
//!
//! A picture is a function of (seed, index, class, side, variety) alone. Coarse scales of the tokenizer see
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
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
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
    /// A variety out of bounds.
    #[error("variety is {0}; it must be from 0, where a class has one size and place, to 1")]
    Variety(f32),
}

/// Draws picture `index` of a stream: red, green and blue of each pixel, row by row,
/// `side · side · 3` bytes.
///
/// The same arguments always give the same bytes, and pictures of different sides show the same
/// scene. `variety` is how much of their range sizes, places, poses and shades take, 0 to 1, about
/// its middle; at less than 1 pictures of a class are more alike, and a network learns them sooner.
/// Hues, and what lies anywhere in the picture, keep all of theirs.
///
/// # Errors
/// When class, side or variety are out of bounds.
pub fn draw(
    seed: u64,
    index: u64,
    class: usize,
    side: u32,
    variety: f32,
) -> Result<Vec<u8>, PictureError> {
    if !(0.0..=1.0).contains(&variety) {
        return Err(PictureError::Variety(variety));
    }
    if !SIDES.contains(&side) {
        return Err(PictureError::Side(side));
    }
    let scene = *SCENES.get(class).ok_or(PictureError::Class(class))?;
    let mut canvas = Canvas::new(side).ok_or(PictureError::Side(side))?;
    let mut chance = Chance::new(seed, index, variety);
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
struct Chance {
    rng: ChaCha8Rng,
    variety: f32,
}

impl Chance {
    fn new(seed: u64, index: u64, variety: f32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        Self { rng, variety }
    }

    /// Even over the part of `from..to` about its middle that the variety leaves.
    fn between(&mut self, from: f32, to: f32) -> f32 {
        from + (to - from) * (0.5 + (self.anywhere() - 0.5) * self.variety)
    }

    /// Even over `0..1`, whatever the variety: a hue, or a place across the whole picture.
    fn anywhere(&mut self) -> f32 {
        (self.rng.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// Even over `0..n`.
    fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.rng.next_u32()) * n as u64) >> 32) as usize
    }

    fn happens(&mut self, probability: f32) -> bool {
        self.anywhere() < probability
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
            assert_eq!(draw(3, 5, class, 32, 1.0), draw(3, 5, class, 32, 1.0), "{}", name);
        }
    }

    #[test]
    fn no_two_pictures_of_a_class_are_alike() {
        for (class, name) in CLASSES.iter().enumerate() {
            let distinct: HashSet<_> =
                (0..50).map(|index| draw(1, index, class, 16, 1.0).unwrap()).collect();
            assert_eq!(distinct.len(), 50, "{}", name);
        }
    }

    #[test]
    fn less_variety_makes_pictures_of_a_class_more_alike() {
        let apart = |class: usize, variety: f32| {
            let pictures: Vec<_> =
                (0..24).map(|index| draw(1, index, class, 16, variety).unwrap()).collect();
            let pair = |two: &[Vec<u8>]| -> f64 {
                let pixels = two[0].iter().zip(&two[1]);
                pixels.map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()).sum()
            };
            pictures.windows(2).map(pair).sum::<f64>()
        };
        let sum = |variety| (0..CLASSES.len()).map(|class| apart(class, variety)).sum::<f64>();
        let (none, some, all) = (sum(0.0), sum(0.4), sum(1.0));
        assert!(none > 0.0 && some < 0.95 * all && none < some, "{none}, {some}, {all}");
    }

    #[test]
    fn a_scene_keeps_its_colours_at_every_side() {
        let mean =
            |bytes: Vec<u8>| bytes.iter().map(|&b| f64::from(b)).sum::<f64>() / bytes.len() as f64;
        for (class, name) in CLASSES.iter().enumerate() {
            let (small, large) = (
                mean(draw(9, 4, class, 32, 1.0).unwrap()),
                mean(draw(9, 4, class, 128, 1.0).unwrap()),
            );
            assert!((small - large).abs() < 2.0, "{}: {small} at 32, {large} at 128", name);
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_refused_with_the_bound() {
        assert!(draw(0, 0, 20, 64, 1.0).unwrap_err().to_string().contains("0 to 19"));
        assert!(draw(0, 0, 0, 4, 1.0).unwrap_err().to_string().contains("from 8 to 1024"));
        for variety in [-0.1, 1.1, f32::NAN] {
            assert!(draw(0, 0, 0, 64, variety).unwrap_err().to_string().contains("from 0"));
        }
    }
}
