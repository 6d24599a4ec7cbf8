//! How cards look: the page's paper, one large picture or several side by side, and few words.

use image::{DynamicImage, RgbImage, codecs::jpeg::JpegEncoder};

use super::canvas::{Canvas, Colour, Type};

/// Size of a card in pixels: what sites show large.
pub(super) const WIDTH: u32 = 1200;
pub(super) const HEIGHT: u32 = 630;

/// Largest card in bytes, and the qualities that are tried until it is small enough.
const MOST_BYTES: usize = 300_000;
const QUALITIES: [u8; 4] = [90, 80, 65, 50];

const PAPER: Colour = [0xfa, 0xf8, 0xf5];
const INK: Colour = [0x1d, 0x1b, 0x18];
const FAINT: Colour = [0x69, 0x63, 0x5a];
const LINE: Colour = [0xd6, 0xcf, 0xc4];
const AMBER: Colour = [0xd2, 0x69, 0x1e];

const MARGIN: u32 = 36;
/// Side of the large picture.
const LARGE: u32 = HEIGHT - 2 * MARGIN;
/// Where the words begin, and how wide they are.
const WORDS: u32 = 2 * MARGIN + LARGE;
const WORDS_WIDTH: u32 = WIDTH - WORDS - MARGIN;

/// One tile of the strip: side of its token map, and its picture if there is one.
pub(super) struct Tile {
    pub(super) tokens: u32,
    pub(super) picture: Option<DynamicImage>,
}

/// A card with one large picture, or four of several in its place.
pub(super) struct Single {
    pub(super) pictures: Vec<DynamicImage>,
    pub(super) title: String,
    /// Under the title, one line each.
    pub(super) lines: Vec<String>,
    pub(super) strip: Vec<Tile>,
}

/// A card with pictures side by side.
pub(super) struct Several {
    pub(super) title: String,
    pub(super) line: String,
    pub(super) columns: Vec<Column>,
}

/// One of them: what it is, and its picture if there is one.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) detail: String,
    pub(super) tile: Tile,
}

/// A card with a table of pictures.
pub(super) struct Table {
    pub(super) title: String,
    pub(super) line: String,
    pub(super) across: Vec<String>,
    pub(super) down: Vec<String>,
    /// Row by row.
    pub(super) tiles: Vec<Tile>,
}

fn words(size: f32, bold: bool, colour: Colour) -> Type {
    Type { size, bold, colour }
}

/// Whether a title can be written.
pub(super) fn can_write(title: &str) -> bool {
    words(1.0, true, INK).can_write(title)
}

/// Writes lines below each other; returns where the next one would be.
fn paragraph(
    canvas: &mut Canvas,
    (x, mut y): (u32, f32),
    text: &str,
    (width, most): (u32, usize),
    style: Type,
) -> f32 {
    for line in style.lines(text, width as f32, most) {
        canvas.write((x as f32, y), &line, style);
        y += style.size * 1.12;
    }
    y
}

fn brand(canvas: &mut Canvas, (x, y): (u32, u32)) {
    // The sign of the page: one token, then four, then many.
    canvas.fill((x, y), (12, 12), AMBER);
    for (dx, dy) in [(15, 0), (22, 0), (15, 7), (22, 7)] {
        canvas.fill((x + dx, y + dy), (5, 5), INK);
    }
    canvas.write(((x + 38) as f32, y as f32 - 7.0), "VAR-DD playground", words(24.0, false, FAINT));
}

fn tile(canvas: &mut Canvas, at: (u32, u32), side: u32, tile: &Tile) {
    match &tile.picture {
        Some(picture) => canvas.picture(at, side, picture),
        None => canvas.token_map(at, side, tile.tokens, [[0xff; 3], LINE]),
    }
}

/// How many tiles stand in a row of a strip, and how many rows there are: rows of at most five,
/// which fill the width, as long as each other.
fn strip_rows(tiles: u32) -> (u32, u32) {
    let rows = tiles.div_ceil(5);
    (tiles.div_ceil(rows.max(1)).max(1), rows)
}

/// Draws a card of one result.
pub(super) fn single(card: &Single) -> RgbImage {
    let mut canvas = Canvas::new(WIDTH, HEIGHT, PAPER);
    let last = card.strip.last().map_or(1, |tile| tile.tokens);
    match &card.pictures[..] {
        [] => canvas.token_map((MARGIN, MARGIN), LARGE, last, [[0xff; 3], LINE]),
        [one] => canvas.picture((MARGIN, MARGIN), LARGE, one),
        several => {
            let side = (LARGE - 8) / 2;
            for (number, picture) in (0..).zip(several.iter().take(4)) {
                let (column, row) = (number % 2, number / 2);
                let at = (MARGIN + column * (side + 8), MARGIN + row * (side + 8));
                canvas.picture(at, side, picture);
            }
        }
    }
    brand(&mut canvas, (WORDS, MARGIN + 4));
    let size = if card.title.chars().count() > 26 { 44.0 } else { 58.0 };
    let title = words(size, true, INK);
    let mut y = paragraph(&mut canvas, (WORDS, 86.0), &card.title, (WORDS_WIDTH, 3), title) + 10.0;
    for line in &card.lines {
        y = paragraph(&mut canvas, (WORDS, y), line, (WORDS_WIDTH, 2), words(29.0, false, FAINT));
        y += 4.0;
    }
    let (side, gap, label) = (94, (WORDS_WIDTH - 5 * 94) / 4, 22);
    let (across, rows) = strip_rows(card.strip.len() as u32);
    let top = HEIGHT - MARGIN - rows * (side + label) - rows.saturating_sub(1) * 8;
    for (number, of) in (0..).zip(&card.strip) {
        let (column, row) = (number % across, number / across);
        let at = (WORDS + column * (side + gap), top + row * (side + label + 8));
        tile(&mut canvas, at, side, of);
        let style = words(19.0, false, FAINT);
        let scale = format!("{0}×{0}", of.tokens);
        let inset = (side as f32 - style.width(&scale)) / 2.0;
        canvas.write((at.0 as f32 + inset, (at.1 + side) as f32 + 2.0), &scale, style);
    }
    canvas.finished()
}

/// Draws a card of a comparison.
pub(super) fn several(card: &Several) -> RgbImage {
    let mut canvas = Canvas::new(WIDTH, HEIGHT, PAPER);
    brand(&mut canvas, (MARGIN, MARGIN + 4));
    let width = WIDTH - 2 * MARGIN;
    let y = paragraph(&mut canvas, (MARGIN, 74.0), &card.title, (width, 1), words(52.0, true, INK));
    paragraph(&mut canvas, (MARGIN, y + 2.0), &card.line, (width, 1), words(28.0, false, FAINT));
    let count = (card.columns.len() as u32).max(1);
    let gap = 24;
    let side = ((width - (count - 1) * gap) / count).min(350);
    let left = (WIDTH - count * side - (count - 1) * gap) / 2;
    let top = 188;
    for (number, column) in (0..).zip(&card.columns) {
        let at = (left + number * (side + gap), top);
        tile(&mut canvas, at, side, &column.tile);
        let below = (at.0, (top + side) as f32 + 10.0);
        let y = paragraph(&mut canvas, below, &column.name, (side, 1), words(28.0, true, INK));
        let detail = words(23.0, false, FAINT);
        paragraph(&mut canvas, (at.0, y), &column.detail, (side, 1), detail);
    }
    canvas.finished()
}

/// Draws a card of a grid: words at the left, the table at the right.
pub(super) fn table(card: &Table) -> RgbImage {
    const LINE: u32 = 26;
    const GAP: u32 = 6;
    let mut canvas = Canvas::new(WIDTH, HEIGHT, PAPER);
    let left_width = 372;
    brand(&mut canvas, (MARGIN, MARGIN + 4));
    let size = if card.title.chars().count() > 26 { 38.0 } else { 48.0 };
    let title = words(size, true, INK);
    let mut y = paragraph(&mut canvas, (MARGIN, 86.0), &card.title, (left_width, 4), title) + 10.0;
    let faint = words(26.0, false, FAINT);
    y = paragraph(&mut canvas, (MARGIN, y), &card.line, (left_width, 2), faint) + 10.0;
    for (where_to, labels) in [("Across", &card.across), ("Down", &card.down)] {
        let text = format!("{where_to}: {}", labels.join(", "));
        let style = words(22.0, false, FAINT);
        y = paragraph(&mut canvas, (MARGIN, y), &text, (left_width, 4), style) + 6.0;
    }
    let (columns, rows) = (card.across.len().max(1) as u32, card.down.len().max(1) as u32);
    let (x, top) = (2 * MARGIN + left_width, MARGIN + LINE);
    let (width, height) = (WIDTH - x - MARGIN, HEIGHT - top - MARGIN);
    let side = |room: u32, count: u32| room.saturating_sub((count - 1) * GAP) / count;
    let side = side(width, columns).min(side(height, rows));
    let has_labels = side >= 80;
    for (number, of) in (0..).zip(&card.tiles) {
        let (column, row) = (number % columns, number / columns);
        let at = (x + column * (side + GAP), top + row * (side + GAP));
        tile(&mut canvas, at, side, of);
        let label = card.across.get(column as usize).filter(|_| row == 0 && has_labels);
        if let Some(label) = label {
            let style = words(19.0, false, FAINT);
            paragraph(&mut canvas, (at.0, MARGIN as f32), label, (side, 1), style);
        }
    }
    canvas.finished()
}

/// A card as a JPEG that every site takes; nothing only if the encoder fails.
pub(super) fn encoded(card: &RgbImage) -> Option<Vec<u8>> {
    let mut smallest = None;
    for quality in QUALITIES {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(card).ok()?;
        if bytes.len() <= MOST_BYTES {
            return Some(bytes);
        }
        smallest = Some(bytes);
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The picture that compresses worst.
    fn noise(side: u32) -> DynamicImage {
        let mut state = 1_u32;
        RgbImage::from_fn(side, side, |_, _| {
            let channels = [(); 3].map(|()| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            });
            image::Rgb(channels)
        })
        .into()
    }

    fn single_of(side: u32, pictures: usize) -> Single {
        let tokens = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16];
        Single {
            pictures: (0..pictures).map(|_| noise(side)).collect(),
            title: "great white shark, white shark, man-eater".into(),
            lines: vec!["2 steps, drawn in 85 ms".into(), "demo-64 · seed 42".into()],
            strip: tokens.map(|tokens| Tile { tokens, picture: Some(noise(side)) }).into(),
        }
    }

    #[test]
    fn even_a_card_of_noise_is_small_enough() {
        for pictures in [0, 1] {
            let card = single(&single_of(512, pictures));
            assert_eq!(card.dimensions(), (WIDTH, HEIGHT));
            let bytes = encoded(&card).unwrap();
            assert!(bytes.len() <= MOST_BYTES, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn rows_of_a_strip_are_as_long_as_each_other() {
        let rows = [0, 1, 5, 6, 7, 8, 9, 10, 11].map(strip_rows);
        let even = [(1, 0), (1, 1), (5, 1), (3, 2), (4, 2), (4, 2), (5, 2), (5, 2), (4, 3)];
        assert_eq!(rows, even);
    }

    #[test]
    fn every_number_of_columns_fits() {
        for count in 1..=6 {
            let column = || Column {
                name: "3 steps with teacher".into(),
                detail: "85 ms".into(),
                tile: Tile { tokens: 16, picture: None },
            };
            let columns = (0..count).map(|_| column()).collect();
            let card = Several { title: "snowman".into(), line: "seed 42".into(), columns };
            let drawn = several(&card);
            let edge = (0..HEIGHT).all(|y| {
                [0, MARGIN - 1, WIDTH - MARGIN, WIDTH - 1]
                    .iter()
                    .all(|&x| drawn.get_pixel(x, y).0 == PAPER)
            });
            assert!(edge, "{count} columns leave the margin");
        }
    }

    #[test]
    fn every_size_of_a_table_fits_and_is_small_enough() {
        let sizes: Vec<u32> = (1..=12).collect();
        for (&columns, rows) in sizes.iter().flat_map(|columns| [(columns, 1), (columns, 12)]) {
            let labels = |count: u32| (0..count).map(|n| format!("a long value {n}")).collect();
            let picture = || Some(noise(16));
            let tiles = (0..columns * rows).map(|_| Tile { tokens: 16, picture: picture() });
            let card = Table {
                title: "great white shark, white shark, man-eater: seed and plan".into(),
                line: "144 pictures · demo".into(),
                across: labels(columns),
                down: labels(rows),
                tiles: tiles.collect(),
            };
            let drawn = table(&card);
            let edge = (0..WIDTH).all(|x| {
                [0, MARGIN - 10, HEIGHT - MARGIN, HEIGHT - 1]
                    .iter()
                    .all(|&y| drawn.get_pixel(x, y).0 == PAPER)
            });
            assert!(edge, "{columns} × {rows} leaves the margin");
            assert!(encoded(&drawn).unwrap().len() <= MOST_BYTES, "{columns} × {rows}");
        }
    }

    #[test]
    fn the_large_picture_is_the_one_that_was_given() {
        let red = RgbImage::from_pixel(64, 64, image::Rgb([200, 10, 10])).into();
        let card = Single { pictures: vec![red], ..single_of(64, 0) };
        let drawn = single(&card);
        let middle = drawn.get_pixel(MARGIN + LARGE / 2, MARGIN + LARGE / 2);
        assert_eq!(middle.0, [200, 10, 10]);
    }
}
