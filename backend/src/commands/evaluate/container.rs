//! What decoders of PNG and WebP pass over in silence: pictures after the first, and an end that is
//! missing.
//!
//! Both formats are lists of chunks, each with its length and four letters that say what it is
//! (PNG, third edition, section 5; RFC 9649, section 2).

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

/// Starts a PNG.
const PNG: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// Bytes of a WebP before its first chunk: `RIFF`, the length of what follows, and `WEBP`.
const WEBP_START: u64 = 12;

/// Whether the stream is a PNG or a WebP of several pictures, one after the other.
///
/// # Errors
/// When the stream cannot be read. One that is cut off is for its decoder to tell.
pub(super) fn is_animation(stream: &mut (impl Read + Seek)) -> io::Result<bool> {
    let outcome = if webp_length(stream)?.is_some() {
        has_two_frames(stream)
    } else {
        counts_several(stream)
    };
    match outcome {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        outcome => outcome,
    }
}

/// Whether the stream is no WebP, or has all the bytes that it says it has.
///
/// # Errors
/// When the stream cannot be read.
pub(super) fn is_whole(stream: &mut (impl Read + Seek)) -> io::Result<bool> {
    let announced = webp_length(stream)?;
    let length = stream.seek(SeekFrom::End(0))?;
    Ok(announced.is_none_or(|announced| announced <= length))
}

/// Bytes that a WebP says it has; `None` of another stream.
fn webp_length(stream: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    stream.rewind()?;
    let mut start = Vec::new();
    stream.take(WEBP_START).read_to_end(&mut start)?;
    Ok(match start.as_slice() {
        [b'R', b'I', b'F', b'F', a, b, c, d, b'W', b'E', b'B', b'P'] => {
            Some(8 + u64::from(u32::from_le_bytes([*a, *b, *c, *d])))
        }
        _ => None,
    })
}

/// Whether two chunks of a WebP are frames.
fn has_two_frames(stream: &mut (impl Read + Seek)) -> io::Result<bool> {
    stream.seek(SeekFrom::Start(WEBP_START))?;
    let mut frames = 0;
    while frames < 2 {
        let [name, length] = two_words(stream)?;
        frames += u32::from(name == *b"ANMF");
        // Chunks begin at even places.
        let length = u64::from(u32::from_le_bytes(length)).next_multiple_of(2);
        stream.seek(SeekFrom::Current(length as i64))?;
    }
    Ok(true)
}

/// Whether the stream is a PNG that announces several frames, which it does before its first one.
fn counts_several(stream: &mut (impl Read + Seek)) -> io::Result<bool> {
    stream.rewind()?;
    let mut start = [0; PNG.len()];
    stream.read_exact(&mut start)?;
    if start != PNG {
        return Ok(false);
    }
    loop {
        let [length, name] = two_words(stream)?;
        match &name {
            b"acTL" => {
                let [frames, _plays] = two_words(stream)?;
                return Ok(u32::from_be_bytes(frames) > 1);
            }
            b"IDAT" | b"IEND" => return Ok(false),
            // The contents and their checksum.
            _ => {
                let length = i64::from(u32::from_be_bytes(length)) + 4;
                stream.seek(SeekFrom::Current(length))?;
            }
        }
    }
}

fn two_words(stream: &mut impl Read) -> io::Result<[[u8; 4]; 2]> {
    let mut words = [[0; 4]; 2];
    for word in &mut words {
        stream.read_exact(word)?;
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageFormat, RgbImage};

    use super::*;

    fn picture(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let picture = RgbImage::from_fn(7, 5, |x, y| image::Rgb([(x * 30) as u8, y as u8, 9]));
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn apng(frames: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_animated(frames, 0).unwrap();
        let mut writer = encoder.write_header().unwrap();
        (0..frames).for_each(|frame| writer.write_image_data(&[frame as u8; 6]).unwrap());
        writer.finish().unwrap();
        bytes
    }

    /// A WebP of empty chunks, as far as the list of chunks goes.
    fn webp(names: &[&[u8; 4]]) -> Vec<u8> {
        let length = (4 + 8 * names.len() as u32).to_le_bytes();
        let mut bytes = [b"RIFF".as_slice(), &length, b"WEBP"].concat();
        names.iter().for_each(|name| bytes.extend([**name, [0; 4]].concat()));
        bytes
    }

    #[test]
    fn what_has_several_pictures_is_an_animation() {
        for (bytes, expected) in [
            (picture(ImageFormat::Png), false),
            (picture(ImageFormat::WebP), false),
            (picture(ImageFormat::Jpeg), false),
            (apng(1), false),
            (apng(2), true),
            (webp(&[b"VP8X", b"ANIM", b"ANMF"]), false),
            (webp(&[b"VP8X", b"ANIM", b"ANMF", b"ANMF"]), true),
            (b"RIFF".to_vec(), false),
            (Vec::new(), false),
        ] {
            let mut stream = Cursor::new(&bytes);
            assert_eq!(is_animation(&mut stream).unwrap(), expected, "{bytes:?}");
            assert!(is_whole(&mut stream).unwrap(), "{bytes:?}");
        }
    }

    #[test]
    fn a_webp_without_its_last_byte_is_not_whole() {
        let whole = picture(ImageFormat::WebP);
        for length in WEBP_START as usize..whole.len() {
            assert!(!is_whole(&mut Cursor::new(&whole[..length])).unwrap(), "{length}");
        }
        // What comes after the end belongs to others.
        assert!(is_whole(&mut Cursor::new([&whole[..], b"more"].concat())).unwrap());
    }
}
