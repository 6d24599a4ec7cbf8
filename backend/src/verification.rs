//! A picture that says how it was drawn, held against the same request drawn again.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, Limits, RgbImage, codecs::png::PngDecoder};
use var_dd_protocol::{ErrorBody, ErrorCode, PictureParameters};

/// Most memory for reading a picture, in bytes; those that are drawn here take far less.
const MOST_MEMORY: u64 = 64 << 20;

/// How the picture in a PNG file was drawn.
///
/// # Errors
/// [`ErrorCode::InvalidPicture`] when it does not say so, or the file is not whole.
pub(crate) fn parameters(png: &[u8]) -> Result<PictureParameters, ErrorBody> {
    PictureParameters::from_png(png).map_err(|error| refuse(error.to_string()))
}

/// The largest difference of a colour value between the picture in a PNG file and one that was
/// drawn.
///
/// # Errors
/// [`ErrorCode::InvalidPicture`] when the file cannot be read, or is of another size.
pub(crate) fn largest_difference(png: &[u8], drawn: &RgbImage) -> Result<u8, ErrorBody> {
    let unreadable = |error: image::ImageError| {
        let reason: String = error.to_string().chars().take(200).collect();
        refuse(format!("the picture cannot be read: {reason}; download it again"))
    };
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_MEMORY);
    let decoder = PngDecoder::with_limits(Cursor::new(png), limits).map_err(unreadable)?;
    let (kept, own) = (decoder.dimensions(), drawn.dimensions());
    if kept != own {
        return Err(refuse(format!(
            "the picture has {} × {} pixels and its request draws {} × {}: it was cut or scaled \
             since; give it as it was downloaded",
            kept.0, kept.1, own.0, own.1
        )));
    }
    let kept = DynamicImage::from_decoder(decoder).map_err(unreadable)?.to_rgb8();
    let pairs = kept.as_raw().iter().zip(drawn.as_raw());
    Ok(pairs.map(|(one, other)| one.abs_diff(*other)).max().unwrap_or(0))
}

fn refuse(message: String) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidPicture, message).at("picture")
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgb};

    use super::*;

    fn encoded(picture: &RgbImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
        bytes
    }

    #[test]
    fn the_largest_difference_is_found_and_none_is_none() {
        let picture = RgbImage::from_fn(9, 9, |x, y| Rgb([x as u8, y as u8, 200]));
        assert_eq!(largest_difference(&encoded(&picture), &picture), Ok(0));
        let mut other = picture.clone();
        other.get_pixel_mut(3, 4).0[2] = 193;
        other.get_pixel_mut(8, 8).0[0] = 9;
        assert_eq!(largest_difference(&encoded(&other), &picture), Ok(7));
    }

    #[test]
    fn another_size_and_a_damaged_picture_are_told_of() {
        let drawn = RgbImage::new(9, 9);
        let said = largest_difference(&encoded(&RgbImage::new(8, 9)), &drawn).unwrap_err();
        assert!(said.message.contains("8 × 9") && said.message.contains("9 × 9"), "{said:?}");
        let mut damaged = encoded(&drawn);
        let middle = damaged.windows(4).position(|name| name == b"IDAT").unwrap();
        damaged[middle + 6] ^= 0xff;
        let said = largest_difference(&damaged, &drawn).unwrap_err();
        assert!(said.message.contains("cannot be read"), "{said:?}");
        // A size that would take all memory, with a right checksum.
        let mut huge = encoded(&drawn);
        huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        let sum = crc32fast::hash(&huge[12..29]);
        huge[29..33].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(largest_difference(&huge, &drawn).unwrap_err().code, ErrorCode::InvalidPicture);
    }
}
