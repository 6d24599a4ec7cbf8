//! Pictures to bytes: small while a picture is on its way, lossless at its end.

use std::time::Instant;

use image::{
    ExtendedColorType, ImageEncoder, ImageError, RgbImage,
    codecs::{
        jpeg::JpegEncoder,
        png::{CompressionType, FilterType, PngEncoder},
    },
};
use var_dd_protocol::MediaType;

use super::live::EncodedPicture;

const JPEG_QUALITY: u8 = 90;

/// A tenth larger than the default's files, and made in less than half the time.
const COMPRESSION: CompressionType = CompressionType::Level(3);

/// Encodes a picture; the same picture gives the same bytes. `last` makes it lossless.
///
/// # Errors
/// When the picture is larger than its format can hold.
pub(super) fn encode(picture: &RgbImage, last: bool) -> Result<EncodedPicture, ImageError> {
    let begun = Instant::now();
    let (width, height) = picture.dimensions();
    let mut bytes = Vec::new();
    let media_type =
        if last {
            PngEncoder::new_with_quality(&mut bytes, COMPRESSION, FilterType::Adaptive)
                .write_image(picture, width, height, ExtendedColorType::Rgb8)?;
            MediaType::Png
        } else {
            JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).write_image(
                picture,
                width,
                height,
                ExtendedColorType::Rgb8,
            )?;
            MediaType::Jpeg
        };
    Ok(EncodedPicture {
        width,
        height,
        media_type,
        bytes,
        encode_ms: begun.elapsed().as_secs_f64() * 1000.0,
    })
}

/// The bytes of a picture as viewers get it.
///
/// # Errors
/// When the picture is larger than its format can hold.
pub fn encoded_bytes(picture: &RgbImage, last: bool) -> Result<Vec<u8>, ImageError> {
    encode(picture, last).map(|encoded| encoded.bytes)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn gradient() -> RgbImage {
        RgbImage::from_fn(40, 24, |x, y| Rgb([(x * 6) as u8, (y * 10) as u8, (x + y) as u8]))
    }

    #[test]
    fn the_last_frame_is_a_png_with_every_pixel_as_it_was() {
        let encoded = encode(&gradient(), true).unwrap();
        assert_eq!((encoded.width, encoded.height, encoded.media_type), (40, 24, MediaType::Png));
        let read =
            image::load_from_memory_with_format(&encoded.bytes, image::ImageFormat::Png).unwrap();
        assert_eq!(read.into_rgb8(), gradient());
    }

    #[test]
    fn an_intermediate_frame_is_a_jpeg_close_to_the_picture() {
        let encoded = encode(&gradient(), false).unwrap();
        assert_eq!(encoded.media_type, MediaType::Jpeg);
        let read =
            image::load_from_memory_with_format(&encoded.bytes, image::ImageFormat::Jpeg).unwrap();
        let read = read.into_rgb8();
        let worst = gradient().iter().zip(read.iter()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst < Some(24), "{worst:?}");
    }

    #[test]
    fn the_same_picture_gives_the_same_bytes() {
        for last in [false, true] {
            assert_eq!(
                encode(&gradient(), last).unwrap().bytes,
                encode(&gradient(), last).unwrap().bytes
            );
        }
    }
}
