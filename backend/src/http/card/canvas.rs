//! A picture to draw on: areas, pictures and words.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use image::{DynamicImage, Rgb, RgbImage, imageops};

/// A colour, as red, green and blue.
pub(super) type Colour = [u8; 3];

/// Inter (SIL Open Font License, `assets/OFL.txt`): Latin, Greek and Cyrillic letters.
static REGULAR: LazyLock<Option<FontRef<'static>>> = LazyLock::new(|| {
    FontRef::try_from_slice(include_bytes!("../../../assets/inter-regular.ttf")).ok()
});
static BOLD: LazyLock<Option<FontRef<'static>>> = LazyLock::new(|| {
    FontRef::try_from_slice(include_bytes!("../../../assets/inter-semibold.ttf")).ok()
});

/// How words look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    /// Height of a line of letters in pixels.
    pub(super) size: f32,
    /// Whether they are heavy.
    pub(super) bold: bool,
    /// Their colour.
    pub(super) colour: Colour,
}

impl Type {
    fn font(self) -> Option<&'static FontRef<'static>> {
        if self.bold { BOLD.as_ref() } else { REGULAR.as_ref() }
    }

    /// Whether the font has every letter of a text.
    pub(super) fn can_write(self, text: &str) -> bool {
        self.font().is_some_and(|font| text.chars().all(|c| font.glyph_id(c).0 != 0))
    }

    /// Width of a line in pixels.
    pub(super) fn width(self, text: &str) -> f32 {
        let Some(font) = self.font() else { return 0.0 };
        let scaled = font.as_scaled(PxScale::from(self.size));
        text.chars().map(|c| scaled.h_advance(scaled.glyph_id(c))).sum()
    }

    /// Lines of whole words no wider than `width`, at most `most` of them; what does not fit is
    /// cut.
    pub(super) fn lines(self, text: &str, width: f32, most: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            let longer = lines.last().map(|line| format!("{line} {word}"));
            match (lines.last_mut(), longer) {
                (Some(line), Some(longer)) if self.width(&longer) <= width => *line = longer,
                _ => lines.push(word.to_owned()),
            }
        }
        let cut = lines.len() > most;
        lines.truncate(most);
        let count = lines.len();
        for (number, line) in lines.iter_mut().enumerate() {
            let must_cut = cut && number + 1 == count;
            if must_cut || self.width(line) > width {
                while !line.is_empty() && self.width(&format!("{line}…")) > width {
                    line.pop();
                }
                *line = format!("{}…", line.trim_end());
            }
        }
        lines
    }
}

/// What is drawn on.
pub(super) struct Canvas(RgbImage);

impl Canvas {
    /// Of one colour.
    pub(super) fn new(width: u32, height: u32, colour: Colour) -> Self {
        Self(RgbImage::from_pixel(width, height, Rgb(colour)))
    }

    /// Fills an area.
    pub(super) fn fill(&mut self, (x, y): (u32, u32), (width, height): (u32, u32), colour: Colour) {
        for row in y..(y + height).min(self.0.height()) {
            for column in x..(x + width).min(self.0.width()) {
                self.0.put_pixel(column, row, Rgb(colour));
            }
        }
    }

    /// Puts a picture into a square.
    pub(super) fn picture(&mut self, (x, y): (u32, u32), side: u32, picture: &DynamicImage) {
        let square = picture.resize_exact(side, side, imageops::FilterType::CatmullRom).to_rgb8();
        imageops::replace(&mut self.0, &square, x.into(), y.into());
    }

    /// Draws an empty token map into a square.
    pub(super) fn token_map(
        &mut self,
        (x, y): (u32, u32),
        side: u32,
        tokens: u32,
        [paper, line]: [Colour; 2],
    ) {
        self.fill((x, y), (side, side), paper);
        for at in 1..tokens.max(1) {
            let offset = at * side / tokens;
            self.fill((x + offset, y), (1, side), line);
            self.fill((x, y + offset), (side, 1), line);
        }
    }

    /// Writes a line with its top left corner at a place.
    pub(super) fn write(&mut self, (x, y): (f32, f32), text: &str, style: Type) {
        let Some(font) = style.font() else { return };
        let scale = PxScale::from(style.size);
        let scaled = font.as_scaled(scale);
        let mut pen = x;
        for c in text.chars() {
            let id = scaled.glyph_id(c);
            let glyph = id.with_scale_and_position(scale, point(pen, y + scaled.ascent()));
            pen += scaled.h_advance(id);
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|column, row, coverage| {
                let (column, row) = (corner.x + column as f32, corner.y + row as f32);
                self.blend(column, row, coverage, style.colour);
            });
        }
    }

    fn blend(&mut self, x: f32, y: f32, coverage: f32, colour: Colour) {
        if x < 0.0 || y < 0.0 || x >= self.0.width() as f32 || y >= self.0.height() as f32 {
            return;
        }
        let pixel = self.0.get_pixel_mut(x as u32, y as u32);
        let coverage = coverage.clamp(0.0, 1.0);
        for (channel, over) in pixel.0.iter_mut().zip(colour) {
            let mixed = f32::from(*channel) * (1.0 - coverage) + f32::from(over) * coverage;
            *channel = (mixed + 0.5) as u8;
        }
    }

    /// What was drawn.
    pub(super) fn finished(self) -> RgbImage {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Type = Type { size: 40.0, bold: false, colour: [0, 0, 0] };

    #[test]
    fn the_fonts_have_the_letters_of_europe_and_the_signs_of_the_card() {
        for style in [PLAIN, Type { bold: true, ..PLAIN }] {
            assert!(style.can_write("snowman, sørøyr Ζεύς снег 4×4 · 85 ms … – — ’ “”"));
            assert!(!style.can_write("雪だるま"));
        }
    }

    #[test]
    fn long_names_are_wrapped_and_cut_within_their_width() {
        let name = "great white shark, white shark, man-eater, man-eating shark, Carcharodon \
            carcharias and a word that is antidisestablishmentarianismsupercalifragilistic";
        let lines = PLAIN.lines(name, 400.0, 3);
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| PLAIN.width(line) <= 400.0), "{lines:?}");
        assert!(lines[2].ends_with('…'), "{lines:?}");
        assert_eq!(PLAIN.lines("fish", 400.0, 3), ["fish"]);
        let one_word = PLAIN.lines("antidisestablishmentarianismsupercalifragilistic", 200.0, 2);
        assert!(PLAIN.width(&one_word[0]) <= 200.0, "{one_word:?}");
    }

    #[test]
    fn words_leave_ink_where_they_are_written_and_nowhere_else() {
        let mut canvas = Canvas::new(200, 60, [255; 3]);
        canvas.write((10.0, 10.0), "fish", PLAIN);
        canvas.write((190.0, 50.0), "over the edge", PLAIN);
        let drawn = canvas.finished();
        let dark = |x: std::ops::Range<u32>| {
            x.flat_map(|x| (0..45).map(move |y| (x, y)))
                .filter(|&(x, y)| drawn.get_pixel(x, y).0[0] < 100)
                .count()
        };
        assert!(dark(10..90) > 100);
        assert_eq!(dark(100..180), 0);
    }
}
