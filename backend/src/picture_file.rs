//! Pictures as files: PNG with texts, contact sheets, and files that appear whole or not at all.

use std::{
    fs::File,
    io::{Cursor, Write},
    path::Path,
};

use anyhow::Context;
use image::{RgbImage, imageops};
use var_dd_engine::atomic_file::{self, Lasts};

/// Most pictures on a contact sheet.
pub(crate) const SHEET_PICTURES: usize = 64;

/// Widest picture on a contact sheet, in pixels.
const SHEET_TILE: u32 = 128;

/// A PNG file with texts by keyword.
///
/// # Errors
/// When a text cannot be written in a PNG.
pub(crate) fn png(picture: &RgbImage, texts: &[(&str, String)]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(Cursor::new(&mut bytes), picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (keyword, text) in texts {
        if text.is_ascii() {
            encoder.add_text_chunk((*keyword).into(), text.clone())?;
        } else {
            encoder.add_itxt_chunk((*keyword).into(), text.clone())?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture)?;
    writer.finish()?;
    Ok(bytes)
}

/// A picture at its size on a contact sheet.
pub(crate) fn sheet_tile(picture: RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    if width <= SHEET_TILE {
        return picture;
    }
    let height = (height * SHEET_TILE).div_ceil(width);
    imageops::resize(&picture, SHEET_TILE, height, imageops::FilterType::Triangle)
}

/// Pictures side by side in rows, about as wide as high.
pub(crate) fn contact_sheet(pictures: &[RgbImage]) -> RgbImage {
    let columns = (1..).find(|n| n * n >= pictures.len()).unwrap_or(1);
    in_rows(pictures, columns)
}

/// Pictures of one size side by side, so many in a row.
pub(crate) fn in_rows(pictures: &[RgbImage], columns: usize) -> RgbImage {
    const GAP: u32 = 4;
    let (width, height) = pictures.first().map_or((1, 1), |picture| picture.dimensions());
    let columns = columns.max(1);
    let rows = pictures.len().div_ceil(columns);
    let span = |count: usize, size: u32| count as u32 * (size + GAP) + GAP;
    let mut sheet =
        RgbImage::from_pixel(span(columns, width), span(rows, height), image::Rgb([250, 248, 245]));
    for (index, picture) in pictures.iter().enumerate() {
        let (column, row) = (index % columns, index / columns);
        imageops::replace(
            &mut sheet,
            picture,
            span(column, width).into(),
            span(row, height).into(),
        );
    }
    sheet
}

/// Writes a file that appears whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_whole_with(path, |file| file.write_all(bytes))
}

/// Writes a file piece by piece that appears whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_whole_with(
    path: &Path,
    write: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    atomic_file::write_with(path, Lasts::ThroughKill, write)
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_sheet_holds_every_picture_in_order() {
        let colour = |n: u8| RgbImage::from_pixel(2, 2, image::Rgb([n, 0, 0]));
        let sheet = contact_sheet(&[colour(1), colour(2), colour(3)]);
        assert_eq!(sheet.dimensions(), (16, 16));
        let at = |x, y| sheet.get_pixel(x, y).0[0];
        assert_eq!([at(4, 4), at(10, 4), at(4, 10), at(10, 10)], [1, 2, 3, 250]);
    }

    #[test]
    fn text_of_any_script_survives_in_a_picture() {
        let picture = RgbImage::from_pixel(3, 2, image::Rgb([1, 2, 3]));
        let bytes =
            png(&picture, &[("Title", "Plymouth Rock".into()), ("parameters", "雪だるま".into())])
                .unwrap();
        assert_eq!(image::load_from_memory(&bytes).unwrap().to_rgb8(), picture);
        let reader = png::Decoder::new(Cursor::new(&bytes)).read_info().unwrap();
        assert_eq!(reader.info().uncompressed_latin1_text[0].text, "Plymouth Rock");
        assert_eq!(reader.info().utf8_text[0].get_text().unwrap(), "雪だるま");
    }
}
