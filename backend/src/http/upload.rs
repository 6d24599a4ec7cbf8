//! A picture that somebody sends: bytes to pixels of the model's side, within bounds, whatever the
//! bytes are. Nothing but pixels goes on: metadata is read for the orientation and dropped.

use std::io::Cursor;

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, Rgb, RgbImage,
    codecs::{jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder},
    imageops::{self, FilterType},
    metadata::Orientation,
};
use var_dd_protocol::{ErrorBody, ErrorCode};

/// Most bytes of a picture that is sent.
pub(super) const MAX_BYTES: usize = 16 << 20;

/// Most pixels of a picture that is sent.
pub(super) const MAX_PIXELS: u64 = 50_000_000;

/// Longest side of a picture that is sent.
pub(super) const MAX_SIDE: u32 = 16_384;

fn refuse(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidPicture, message).at("picture")
}

/// Decodes a PNG, JPEG or WebP, turns it as its EXIF says, cuts the largest square out of its
/// middle and scales that to `side` pixels. What is transparent becomes white.
///
/// # Errors
/// [`ErrorCode::InvalidPicture`] for anything that is no such picture or not within the bounds:
/// what it is, and what to send instead.
pub(super) fn decode(bytes: &[u8], side: u32) -> Result<RgbImage, ErrorBody> {
    let format = image::guess_format(bytes).ok();
    let picture = match format {
        Some(ImageFormat::Png) => {
            if !bytes.windows(4).rev().any(|name| name == b"IEND") {
                return Err(cut_short("PNG"));
            }
            let decoder = PngDecoder::new(Cursor::new(bytes)).map_err(unreadable)?;
            if decoder.is_apng().map_err(unreadable)? {
                return Err(animated("PNG"));
            }
            pixels(decoder)?
        }
        Some(ImageFormat::Jpeg) => {
            check_jpeg(bytes)?;
            pixels(JpegDecoder::new(Cursor::new(bytes)).map_err(unreadable)?)?
        }
        Some(ImageFormat::WebP) => {
            // The container says how long it is, without its first eight bytes.
            let said =
                bytes.get(4..8).and_then(|size| size.try_into().ok()).map(u32::from_le_bytes);
            if said.is_none_or(|said| bytes.len() < said as usize + 8) {
                return Err(cut_short("WebP"));
            }
            let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(unreadable)?;
            if decoder.has_animation() {
                return Err(animated("WebP"));
            }
            pixels(decoder)?
        }
        Some(other) => {
            return Err(refuse(format!(
                "the picture is a {other:?}; send a PNG, a JPEG or a WebP"
            )));
        }
        None => {
            return Err(refuse(
                "the bytes are not a picture that is known here; send a PNG, a JPEG or a WebP",
            ));
        }
    };
    Ok(square(picture, side))
}

fn cut_short(format: &str) -> ErrorBody {
    refuse(format!("the {format} is cut short; send it whole"))
}

fn animated(format: &str) -> ErrorBody {
    refuse(format!("the {format} is animated; send a single picture"))
}

fn unreadable(error: ImageError) -> ErrorBody {
    // The first line says what is wrong; a decoder's chain of causes is not for people.
    let reason = error.to_string();
    let reason: String = reason.lines().next().unwrap_or_default().chars().take(200).collect();
    refuse(format!("the picture cannot be read: {reason}; it may be damaged or cut short"))
}

/// Pixels of a picture, turned upright, within the bounds.
fn pixels(mut decoder: impl ImageDecoder) -> Result<DynamicImage, ErrorBody> {
    let (width, height) = decoder.dimensions();
    let count = u64::from(width) * u64::from(height);
    if width == 0 || height == 0 || width.max(height) > MAX_SIDE || count > MAX_PIXELS {
        return Err(refuse(format!(
            "the picture is {width} × {height} pixels; it may have {} megapixels at most and sides \
             of 1 to {MAX_SIDE}, so send it smaller",
            MAX_PIXELS / 1_000_000
        )));
    }
    let color = decoder.color_type();
    if color.bytes_per_pixel() > color.channel_count() {
        return Err(refuse(
            "the picture has more than 8 bits a channel; send one with 8, as photographs for the \
             web have",
        ));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    // Pixels of four bytes, and as much again for the decoder.
    limits.max_alloc = Some(8 * MAX_PIXELS);
    decoder.set_limits(limits).map_err(unreadable)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// The largest square in the middle, on white, at a side.
fn square(picture: DynamicImage, side: u32) -> RgbImage {
    let edge = picture.width().min(picture.height());
    let (x, y) = ((picture.width() - edge) / 2, (picture.height() - edge) / 2);
    let cut = picture.crop_imm(x, y, edge, edge);
    let cut = if cut.color().has_alpha() { on_white(&cut) } else { cut.to_rgb8() };
    if edge == side { cut } else { imageops::resize(&cut, side, side, FilterType::Lanczos3) }
}

fn on_white(picture: &DynamicImage) -> RgbImage {
    let rgba = picture.to_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [red, green, blue, alpha] = rgba.get_pixel(x, y).0.map(u32::from);
        let over = |value: u32| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        Rgb([over(red), over(green), over(blue)])
    })
}

/// Refuses what decoders of JPEG take without a word: four colours, and an end that is missing.
fn check_jpeg(bytes: &[u8]) -> Result<(), ErrorBody> {
    let cut_short = || cut_short("JPEG");
    let mut at = 2;
    loop {
        let (Some(0xff), Some(&marker)) = (bytes.get(at).copied(), bytes.get(at + 1)) else {
            return Err(cut_short());
        };
        match marker {
            // Padding.
            0xff => at += 1,
            // Markers without a segment.
            0x01 | 0xd0..=0xd7 => at += 2,
            0xd9 => return Err(refuse("the JPEG ends before its picture; send it whole")),
            _ => {
                let &[high, low] = bytes.get(at + 2..at + 4).ok_or_else(cut_short)? else {
                    return Err(cut_short());
                };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let is_frame =
                    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
                if is_frame && bytes.get(at + 9) == Some(&4) {
                    return Err(refuse(
                        "the JPEG is in four colours (CMYK), for printing; send one in RGB",
                    ));
                }
                at += 2 + length.max(2);
                if marker == 0xda {
                    // From here on the end can be found by its marker: within the data of a picture
                    // no other byte than 0 or a restart's follows 0xff.
                    let ends = bytes.get(at..).unwrap_or_default().windows(2);
                    return if ends.into_iter().any(|pair| pair == [0xff, 0xd9]) {
                        Ok(())
                    } else {
                        Err(cut_short())
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, Rgba, codecs::jpeg::JpegEncoder};

    use super::*;

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        bytes
    }

    /// Left half red, right half blue.
    fn halves(width: u32, height: u32) -> DynamicImage {
        let pixel = |x, _| if x < width / 2 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) };
        DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, pixel))
    }

    fn is_red(pixel: &Rgb<u8>) -> bool {
        pixel.0[0] > 200 && pixel.0[2] < 60
    }

    /// A JPEG with an EXIF orientation.
    fn turned(picture: &DynamicImage, orientation: u8) -> Vec<u8> {
        let bytes = encoded(picture, ImageFormat::Jpeg);
        let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let mut with = vec![0xff, 0xd8, 0xff, 0xe1];
        with.extend((exif.len() as u16 + 2).to_be_bytes());
        with.extend(exif);
        with.extend(&bytes[2..]);
        with
    }

    #[test]
    fn each_format_is_read_cut_to_its_middle_and_scaled() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            let picture = decode(&encoded(&halves(90, 40), format), 16).unwrap();
            assert_eq!(picture.dimensions(), (16, 16), "{format:?}");
            assert!(is_red(picture.get_pixel(1, 8)) && !is_red(picture.get_pixel(14, 8)));
        }
        let exact = halves(16, 16);
        assert_eq!(decode(&encoded(&exact, ImageFormat::Png), 16).unwrap(), exact.to_rgb8());
    }

    #[test]
    fn a_picture_is_turned_as_its_exif_says() {
        let upright = decode(&turned(&halves(32, 32), 1), 16).unwrap();
        assert!(is_red(upright.get_pixel(2, 8)));
        // Turned by half: red is right. By a quarter: red is at the top.
        let half = decode(&turned(&halves(32, 32), 3), 16).unwrap();
        assert!(is_red(half.get_pixel(13, 8)) && !is_red(half.get_pixel(2, 8)));
        let quarter = decode(&turned(&halves(32, 32), 6), 16).unwrap();
        assert!(is_red(quarter.get_pixel(8, 2)) && !is_red(quarter.get_pixel(8, 13)));
    }

    #[test]
    fn what_is_transparent_becomes_white() {
        let clear = ImageBuffer::from_pixel(8, 8, Rgba([9u8, 9, 9, 0]));
        let picture = decode(&encoded(&clear.into(), ImageFormat::Png), 8).unwrap();
        assert!(picture.pixels().all(|pixel| pixel.0 == [255; 3]));
    }

    fn refusal(bytes: &[u8]) -> String {
        let error = decode(bytes, 16).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidPicture);
        assert_eq!(error.field.as_deref(), Some("picture"));
        error.message
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for bytes in [&b""[..], b"\xff", b"GIF89a", b"hello", &[0; 4096], b"\x89PNG\r\n\x1a\n"] {
            let message = refusal(bytes);
            assert!(message.contains("send") || message.contains("cut short"), "{message}");
        }
    }

    #[test]
    fn a_picture_that_is_cut_short_anywhere_is_refused() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            let whole = encoded(&halves(64, 64), format);
            for length in (0..whole.len() - 12).step_by(whole.len() / 40 + 1) {
                refusal(&whole[..length]);
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        // A header that promises 30,000 × 30,000 pixels.
        let mut bomb = encoded(&halves(8, 8), ImageFormat::Png);
        bomb[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
        let checksum = crc32fast::hash(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&checksum.to_be_bytes());
        let message = refusal(&bomb);
        assert!(
            message.contains("30000 × 30000") && message.contains("50 megapixels"),
            "{message}"
        );
    }

    #[test]
    fn sixteen_bits_four_colours_and_animations_are_refused_by_name() {
        let deep = ImageBuffer::from_pixel(8, 8, Rgb([9u16, 9, 9]));
        assert!(refusal(&encoded(&deep.into(), ImageFormat::Png)).contains("8 bits a channel"));
        let mut cmyk = Vec::new();
        let grey = vec![7u8; 64];
        JpegEncoder::new(&mut cmyk).encode(&grey, 8, 8, image::ExtendedColorType::L8).unwrap();
        let frame = cmyk.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        cmyk[frame + 9] = 4;
        assert!(refusal(&cmyk).contains("CMYK"));
        let mut moving = encoded(&halves(8, 8), ImageFormat::Png);
        let mut control = b"acTL\0\0\0\x02\0\0\0\0".to_vec();
        control.extend(crc32fast::hash(&control).to_be_bytes());
        let mut chunk = 8u32.to_be_bytes().to_vec();
        chunk.extend(control);
        moving.splice(33..33, chunk);
        assert!(refusal(&moving).contains("animated"));
    }
}
