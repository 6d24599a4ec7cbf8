//! Whether a JPEG is there to its end.
//!
//! Decoders of JPEG fill with grey what is missing and call it a picture, so a file that was cut
//! off is scored as if it were whole. PNG is refused by its decoder. The markers of a JPEG (ITU-T
//! T.81, annex B) tell where it ends: segments that say their length, and coded data in which a byte
//! 0xFF is never followed by a marker other than a restart.

use std::io::{self, BufRead, ErrorKind, Read};

/// Starts a picture.
const START: [u8; 2] = [0xff, 0xd8];

/// Ends it.
const END: u8 = 0xd9;

/// Starts a scan, after which coded data comes.
const SCAN: u8 = 0xda;

/// Whether the stream is no JPEG at all, or one whose segments and scans go on to its end marker.
///
/// # Errors
/// When the stream cannot be read.
pub(super) fn is_whole(stream: &mut impl BufRead) -> io::Result<bool> {
    let mut start = [0; 2];
    match stream.read_exact(&mut start) {
        Ok(()) if start == START => {}
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(true),
        Err(error) => return Err(error),
    }
    match reaches_end(stream) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        outcome => outcome,
    }
}

fn reaches_end(stream: &mut impl BufRead) -> io::Result<bool> {
    let mut scans = 0;
    let mut marker = next_marker(stream)?;
    loop {
        match marker {
            END => return Ok(scans > 0),
            // Restarts and the temporary marker stand alone.
            0x01 | 0xd0..=0xd7 => {}
            _ => {
                let mut length = [0; 2];
                stream.read_exact(&mut length)?;
                let length = u64::from(u16::from_be_bytes(length));
                let Some(rest) = length.checked_sub(2) else { return Ok(false) };
                if io::copy(&mut stream.take(rest), &mut io::sink())? != rest {
                    return Ok(false);
                }
                scans += u32::from(marker == SCAN);
            }
        }
        marker = next_marker(stream)?;
    }
}

/// The next marker, over coded data and fill bytes.
fn next_marker(stream: &mut impl BufRead) -> io::Result<u8> {
    loop {
        stream.skip_until(0xff)?;
        let mut next = [0xff];
        while next == [0xff] {
            stream.read_exact(&mut next)?;
        }
        // A zero says that the byte before belongs to the data.
        if next != [0] {
            return Ok(next[0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use image::{ExtendedColorType, RgbImage, codecs::jpeg::JpegEncoder};

    use super::*;

    fn jpeg() -> Vec<u8> {
        let picture =
            RgbImage::from_fn(64, 64, |x, y| image::Rgb([(x * 3) as u8, (x * y) as u8, y as u8]));
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 95)
            .encode(&picture, 64, 64, ExtendedColorType::Rgb8)
            .unwrap();
        bytes
    }

    #[test]
    fn a_jpeg_that_is_cut_off_anywhere_is_not_whole() {
        let whole = jpeg();
        assert!(is_whole(&mut whole.as_slice()).unwrap());
        for length in 2..whole.len() {
            assert!(!is_whole(&mut &whole[..length]).unwrap(), "{length} of {}", whole.len());
        }
        // What comes after the end belongs to others.
        let longer = [&whole[..], b"more"].concat();
        assert!(is_whole(&mut longer.as_slice()).unwrap());
    }

    #[test]
    fn an_end_within_a_segment_is_not_the_end() {
        let whole = jpeg();
        // A comment that holds the end of a picture, as a thumbnail does.
        let comment = [0xff, 0xfe, 0, 4, 0xff, END];
        let with_comment = [&whole[..2], &comment, &whole[2..]].concat();
        assert!(is_whole(&mut with_comment.as_slice()).unwrap());
        let cut = &with_comment[..with_comment.len() / 2];
        assert!(!is_whole(&mut &*cut).unwrap());
        // Header and end with nothing between.
        assert!(!is_whole(&mut [0xff, 0xd8, 0xff, END].as_slice()).unwrap());
    }

    #[test]
    fn other_formats_are_not_judged() {
        for bytes in [b"\x89PNG\r\n".as_slice(), b"R", b""] {
            assert!(is_whole(&mut &*bytes).unwrap());
        }
    }
}
