//! Pictures larger than they were drawn, for places that do not enlarge small ones themselves.

use image::{RgbImage, imageops};
use serde::Deserialize;
use utoipa::ToSchema;
use var_dd_protocol::{ENLARGED_SIDE, ENLARGED_TIMES, ErrorCode};

use super::error::ApiError;

/// How the pixels of an enlarged picture look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pixels {
    /// Each as a square.
    #[default]
    Crisp,
    /// Each running into its neighbours.
    Smooth,
}

/// How large a picture is to be: some times as it was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Enlarged {
    times: u32,
    pixels: Pixels,
}

impl Enlarged {
    /// Of pictures of a side; as they are if nothing else is asked for.
    ///
    /// # Errors
    /// [`ErrorCode::MalformedBody`] for a number of times that there is not, and
    /// [`ErrorCode::TooLarge`] for pictures that would be too large.
    pub(super) fn of(
        side: u32,
        times: Option<u32>,
        pixels: Option<Pixels>,
    ) -> Result<Self, ApiError> {
        let times = times.unwrap_or(1);
        if !(1..=ENLARGED_TIMES).contains(&times) {
            let message = format!("`scale` must be from 1 to {ENLARGED_TIMES}, and not {times}");
            return Err(ApiError::new(ErrorCode::MalformedBody, message));
        }
        if times > 1 && side * times > ENLARGED_SIDE {
            let message = format!(
                "a picture of {side} × {side} pixels enlarged {times} times has a side of {}, and \
                 at most {ENLARGED_SIDE} are made; take a `scale` of at most {}",
                side * times,
                (ENLARGED_SIDE / side.max(1)).max(1)
            );
            return Err(ApiError::new(ErrorCode::TooLarge, message));
        }
        // As it was drawn, its pixels are what they are.
        let pixels = pixels.filter(|_| times > 1).unwrap_or_default();
        Ok(Self { times, pixels })
    }

    /// Whether it stays as it was drawn.
    pub(super) fn is_as_drawn(self) -> bool {
        self.times == 1
    }

    /// The side of a picture that had this one.
    pub(super) fn side(self, side: u32) -> u32 {
        side * self.times
    }

    /// The picture in its size.
    pub(super) fn picture(self, picture: RgbImage) -> RgbImage {
        if self.is_as_drawn() {
            return picture;
        }
        let filter = match self.pixels {
            Pixels::Crisp => imageops::FilterType::Nearest,
            Pixels::Smooth => imageops::FilterType::Triangle,
        };
        let (width, height) = picture.dimensions();
        imageops::resize(&picture, self.side(width), self.side(height), filter)
    }

    /// The ending of a file's name that tells it from those of other sizes.
    pub(super) fn ending(self, ending: &str) -> String {
        match (self.times, self.pixels) {
            (1, _) => ending.to_owned(),
            (times, Pixels::Crisp) => format!("{times}x.{ending}"),
            (times, Pixels::Smooth) => format!("{times}x.smooth.{ending}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn pixels_become_squares_or_run_into_each_other() {
        let picture = RgbImage::from_fn(2, 1, |x, _| Rgb([x as u8 * 200, 0, 0]));
        let row = |pixels| -> Vec<u8> {
            let enlarged = Enlarged::of(2, Some(4), Some(pixels)).unwrap().picture(picture.clone());
            assert_eq!(enlarged.dimensions(), (8, 4));
            enlarged.pixels().take(8).map(|pixel| pixel.0[0]).collect()
        };
        assert_eq!(row(Pixels::Crisp), [0, 0, 0, 0, 200, 200, 200, 200]);
        let smooth = row(Pixels::Smooth);
        assert!(smooth.is_sorted() && smooth[3] > 0 && smooth[4] < 200, "{smooth:?}");
    }

    #[test]
    fn sizes_have_bounds_and_pictures_as_drawn_have_none() {
        let side = |side, times| Enlarged::of(side, Some(times), None).map(|of| of.side(side));
        assert_eq!(side(64, 8).ok(), Some(512));
        assert_eq!(side(256, 4).ok(), Some(1024));
        assert_eq!(side(4096, 1).ok(), Some(4096));
        for (of, times, words) in [
            (64, 0, "from 1 to 8"),
            (64, 9, "from 1 to 8"),
            (64, u32::MAX, "from 1 to 8"),
            (256, 5, "`scale` of at most 4"),
            (2048, 2, "`scale` of at most 1"),
        ] {
            let error = side(of, times).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
