//! A picture that says how it was drawn, held against the same request drawn again.

use std::io::Cursor;

use image::{AnimationDecoder, DynamicImage, Limits, RgbImage, RgbaImage, codecs::png::PngDecoder};
use var_dd_protocol::{ErrorBody, ErrorCode, FileFormat, FileShape, PictureParameters};
use webp_animation::DecoderOptions;

/// Most memory for reading a picture, in bytes; those that are drawn here take far less.
const MOST_MEMORY: u64 = 64 << 20;

/// Most pictures of an animation; the longest walk has fewer.
const MOST_FRAMES: usize = 128;

/// How the picture in a file was drawn.
///
/// # Errors
/// [`ErrorCode::InvalidPicture`] when it does not say so, is a sheet, or the file is not whole.
pub(crate) fn parameters(file: &[u8]) -> Result<PictureParameters, ErrorBody> {
    PictureParameters::of(file).map_err(|error| refuse(error.to_string()))
}

/// The largest difference of a colour value between the picture in a file and one that was drawn.
/// Of an animation, its last picture counts, and of a walk its first.
///
/// # Errors
/// [`ErrorCode::InvalidPicture`] when the file cannot be read, is of another size, or keeps too few
/// colours to be equal.
pub(crate) fn largest_difference(file: &[u8], drawn: &RgbImage) -> Result<u8, ErrorBody> {
    let shape = FileShape::of(file).ok_or_else(|| refuse("the file has no picture".into()))?;
    let own = drawn.dimensions();
    let never_equal = match shape.format {
        FileFormat::Gif => Some("a GIF has at most 256 colours a picture"),
        FileFormat::Mp4 => Some("an MP4 is compressed with loss"),
        FileFormat::Png | FileFormat::WebP => None,
    };
    if let Some(why) = never_equal {
        return Err(refuse(format!(
            "{why}, so that it is never equal to what was drawn; give the PNG, the APNG or the WebP"
        )));
    }
    if (shape.width, shape.height) != own {
        return Err(refuse(format!(
            "the picture has {} × {} pixels and its request draws {} × {}: it was cut, scaled \
             or exported larger; give it in the size that it was drawn in",
            shape.width, shape.height, own.0, own.1
        )));
    }
    let kept = match shape.format {
        FileFormat::WebP => last_of_webp(file)?,
        _ if shape.is_animated && !shape.is_walk => last_of_apng(file)?,
        // Who knows no animation sees the first picture of one.
        _ => DynamicImage::from_decoder(of_png(file)?).map_err(unreadable)?.to_rgb8(),
    };
    if kept.dimensions() != own {
        return Err(unreadable("its pictures are of another size than the file"));
    }
    let pairs = kept.as_raw().iter().zip(drawn.as_raw());
    Ok(pairs.map(|(one, other)| one.abs_diff(*other)).max().unwrap_or(0))
}

fn of_png(file: &[u8]) -> Result<PngDecoder<Cursor<&[u8]>>, ErrorBody> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_MEMORY);
    PngDecoder::with_limits(Cursor::new(file), limits).map_err(unreadable)
}

fn last_of_apng(file: &[u8]) -> Result<RgbImage, ErrorBody> {
    let frames = of_png(file)?.apng().map_err(unreadable)?.into_frames();
    let mut last = None;
    for (number, frame) in frames.enumerate() {
        check_count(number)?;
        last = Some(frame.map_err(unreadable)?);
    }
    let last = last.ok_or_else(|| unreadable("it has no picture"))?;
    Ok(DynamicImage::from(last.into_buffer()).to_rgb8())
}

/// By libwebp, as browsers do it: other decoders round colours where pictures lie over each other.
fn last_of_webp(file: &[u8]) -> Result<RgbImage, ErrorBody> {
    let options = DecoderOptions { use_threads: false, ..DecoderOptions::default() };
    let decoder = webp_animation::Decoder::new_with_options(file, options);
    let decoder = decoder.map_err(|error| unreadable(format!("{error:?}")))?;
    let mut last = None;
    for (number, frame) in decoder.into_iter().enumerate() {
        check_count(number)?;
        last = Some(frame);
    }
    let last = last.ok_or_else(|| unreadable("it has no picture"))?;
    let (width, height) = last.dimensions();
    let pixels = RgbaImage::from_raw(width, height, last.data().to_vec());
    let pixels = pixels.ok_or_else(|| unreadable("its picture is cut off"))?;
    Ok(DynamicImage::from(pixels).to_rgb8())
}

fn check_count(number: usize) -> Result<(), ErrorBody> {
    if number < MOST_FRAMES {
        return Ok(());
    }
    Err(refuse(format!(
        "the animation has more than {MOST_FRAMES} pictures, which none that is drawn here has; \
         give it as it was downloaded"
    )))
}

fn unreadable(error: impl ToString) -> ErrorBody {
    let reason: String = error.to_string().chars().take(200).collect();
    refuse(format!("the picture cannot be read: {reason}; download it again"))
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
        let told = largest_difference(b"no picture", &drawn).unwrap_err();
        assert!(told.message.contains("has no picture"), "{told:?}");
        // A size that would take all memory, with a right checksum.
        let mut huge = encoded(&drawn);
        huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        let sum = crc32fast::hash(&huge[12..29]);
        huge[29..33].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(largest_difference(&huge, &drawn).unwrap_err().code, ErrorCode::InvalidPicture);
    }

    /// Pictures of one size as an animated WebP, lossless.
    fn webp(pictures: &[RgbImage]) -> Vec<u8> {
        let (width, height) = pictures[0].dimensions();
        let options = webp_animation::EncoderOptions {
            color_mode: webp_animation::ColorMode::Rgb,
            ..webp_animation::EncoderOptions::default()
        };
        let size = (width, height);
        let mut encoder = webp_animation::Encoder::new_with_options(size, options).unwrap();
        for (at, picture) in pictures.iter().enumerate() {
            encoder.add_frame(picture, at as i32 * 100).unwrap();
        }
        encoder.finalize(pictures.len() as i32 * 100).unwrap().to_vec()
    }

    fn apng(pictures: &[RgbImage]) -> Vec<u8> {
        let (width, height) = pictures[0].dimensions();
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_animated(pictures.len() as u32, 0).unwrap();
        let mut writer = encoder.write_header().unwrap();
        for picture in pictures {
            writer.write_image_data(picture).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn of_an_animation_the_last_picture_counts_and_of_a_walk_the_first() {
        let of = |red: u8| RgbImage::from_fn(9, 9, |x, y| Rgb([red, x as u8 * 20, y as u8 * 20]));
        let pictures = [of(10), of(14), of(11)];
        for animation in [apng(&pictures), webp(&pictures)] {
            assert_eq!(largest_difference(&animation, &pictures[2]), Ok(0));
            assert_eq!(largest_difference(&animation, &pictures[0]), Ok(1));
            let said = largest_difference(&animation, &RgbImage::new(8, 9)).unwrap_err();
            assert!(said.message.contains("9 × 9"), "{said:?}");
        }
        let texts = [(var_dd_protocol::WALK_KEYWORD, "{}".to_owned())];
        let walk = var_dd_protocol::with_texts(&apng(&pictures), &texts);
        assert_eq!(largest_difference(&walk, &pictures[0]), Ok(0));
    }

    #[test]
    fn an_animation_that_is_damaged_endless_a_gif_or_a_video_is_told_of() {
        let picture = RgbImage::from_fn(9, 9, |x, y| Rgb([x as u8 * 20, y as u8 * 20, 9]));
        for animation in
            [apng(&[picture.clone(), picture.clone()]), webp(std::slice::from_ref(&picture))]
        {
            let mut damaged = animation.clone();
            let middle = damaged.len() * 2 / 3;
            damaged[middle..middle + 8].fill(0xff);
            // Whatever it then shows, nothing panics.
            let _ = largest_difference(&damaged, &picture);
        }
        let endless = apng(&vec![picture.clone(); MOST_FRAMES + 1]);
        let said = largest_difference(&endless, &picture).unwrap_err();
        assert!(said.message.contains("more than 128"), "{said:?}");
        let gif = b"GIF89a\x09\0\x09\0\0\0\0\x3b";
        let said = largest_difference(gif, &picture).unwrap_err();
        assert!(said.message.contains("256 colours"), "{said:?}");
        let size = [0, 9, 0, 0, 0, 9, 0, 0];
        let track = [b"\0\0\0\x18trak\0\0\0\x10tkhd", &size[..]].concat();
        let video = [b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x20moov", &track[..]].concat();
        let said = largest_difference(&video, &picture).unwrap_err();
        assert!(said.message.contains("with loss"), "{said:?}");
    }
}
