//! Contact sheets: pictures in rows on paper-white, as PNG.

use std::{io::Cursor, path::Path};

use tch::{Device, Kind, Tensor};

use super::{TrainError, write_file};

/// Pixels between pictures.
const GAP: usize = 4;

/// Colour of the paper.
const PAPER: [u8; 3] = [250, 248, 245];

/// A PNG file of 8-bit RGB pixels, row by row.
pub(super) fn png(rgb: &[u8], width: u32, height: u32) -> Result<Vec<u8>, TrainError> {
    let mut bytes = Vec::new();
    let failed = |error: png::EncodingError| TrainError::Picture(error.to_string());
    let mut encoder = png::Encoder::new(Cursor::new(&mut bytes), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(rgb).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// Writes pictures, `side · side · 3` bytes each, `columns` to a row.
///
/// # Errors
/// When the file cannot be written.
pub fn write_sheet(
    path: &Path,
    pictures: &[Vec<u8>],
    side: usize,
    columns: usize,
) -> Result<(), TrainError> {
    let columns = columns.clamp(1, pictures.len().max(1));
    let rows = pictures.len().div_ceil(columns);
    let span = |count: usize| GAP + count * (side + GAP);
    let (width, height) = (span(columns), span(rows));
    let mut sheet: Vec<u8> = PAPER.iter().copied().cycle().take(width * height * 3).collect();
    for (index, picture) in pictures.iter().enumerate() {
        let (left, top) = (span(index % columns), span(index / columns));
        for (y, row) in picture.chunks_exact(side * 3).enumerate() {
            let start = ((top + y) * width + left) * 3;
            sheet[start..start + row.len()].copy_from_slice(row);
        }
    }
    write_file(path, &png(&sheet, width as u32, height as u32)?)
}

/// Pictures as bytes, to the numbers that networks see: f32 `[B, 3, side, side]` in −1…1.
pub(super) fn to_network(pictures: &[Vec<u8>], side: i64, device: Device) -> Tensor {
    let each: Vec<Tensor> = pictures.iter().map(|bytes| Tensor::from_slice(bytes)).collect();
    let bytes = Tensor::stack(&each, 0).to_device(device).view([-1, side, side, 3]);
    bytes.permute([0, 3, 1, 2]).to_kind(Kind::Float).contiguous() / 127.5 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_shows_every_picture_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sheet.png");
        let flat = |n: u8| vec![n; 2 * 2 * 3];
        write_sheet(&path, &[flat(1), flat(2), flat(3)], 2, 2).unwrap();
        let mut reader =
            png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&path).unwrap()))
                .read_info()
                .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let info = reader.info();
        assert_eq!((info.width, info.height), (16, 16));
        let at = |x: usize, y: usize| pixels[(y * 16 + x) * 3];
        assert_eq!([at(4, 4), at(10, 5), at(5, 11), at(10, 10), at(0, 0)], [1, 2, 3, 250, 250]);
    }

    #[test]
    fn bytes_become_numbers_from_minus_one_to_one_by_channel() {
        let mut picture = vec![0u8; 12];
        picture[1] = 255; // green of the first pixel
        let tensor = to_network(&[picture], 2, Device::Cpu);
        assert_eq!(tensor.size(), [1, 3, 2, 2]);
        assert_eq!(tensor.double_value(&[0, 1, 0, 0]), 1.0);
        assert_eq!(tensor.double_value(&[0, 0, 0, 0]), -1.0);
    }
}
