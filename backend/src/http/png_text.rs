//! Text in a PNG file, put in without touching the picture (PNG specification, third edition,
//! sections 5 and 11.3.3).

/// Eight bytes of signature, then the header chunk: 4 length + 4 type + 13 data + 4 checksum.
const AFTER_HEADER: usize = 8 + 25;

/// The same picture with texts by keyword (Latin letters, at most 79) after its header. Not a PNG
/// file: as it is.
pub(super) fn insert(png: &[u8], texts: &[(&str, String)]) -> Vec<u8> {
    let is_png = png.starts_with(b"\x89PNG\r\n\x1a\n") && png.get(12..16) == Some(b"IHDR");
    let Some((head, rest)) = png.split_at_checked(AFTER_HEADER).filter(|_| is_png) else {
        return png.to_vec();
    };
    let mut out = head.to_vec();
    for (keyword, text) in texts {
        let text = text.replace('\0', " ");
        let (kind, separator): (&[u8; 4], &[u8]) = if text.is_ascii() {
            (b"tEXt", b"\0")
        } else {
            // Not compressed (two zeros), no language, keyword not translated.
            (b"iTXt", b"\0\0\0\0\0")
        };
        let body = [kind.as_slice(), keyword.as_bytes(), separator, text.as_bytes()].concat();
        // The length counts the data alone, the checksum covers type and data.
        out.extend_from_slice(&((body.len() - kind.len()) as u32).to_be_bytes());
        out.extend_from_slice(&body);
        out.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageFormat, RgbImage};

    use super::*;

    fn png() -> Vec<u8> {
        let picture = RgbImage::from_fn(5, 4, |x, y| image::Rgb([x as u8 * 40, y as u8 * 50, 7]));
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
        bytes
    }

    #[test]
    fn text_goes_in_and_the_picture_stays() {
        let plain = png();
        let texts =
            [("Title", "snowman".to_owned()), ("parameters", r#"{"class":"雪だるま"}"#.to_owned())];
        let with_text = insert(&plain, &texts);
        let decode = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().to_rgb8();
        assert_eq!(decode(&with_text), decode(&plain));
        let contains = |part: &[u8]| with_text.windows(part.len()).any(|window| window == part);
        assert!(contains(b"tEXtTitle\0snowman"));
        assert!(contains("iTXtparameters\0\0\0\0\0{\"class\":\"雪だるま\"}".as_bytes()));
        assert!(with_text.ends_with(&plain[AFTER_HEADER..]));
    }

    #[test]
    fn what_is_no_png_stays_as_it_is() {
        for bytes in [&b""[..], b"\x89PNG\r\n\x1a\n", &[7; 100]] {
            assert_eq!(insert(bytes, &[("Title", "x".to_owned())]), bytes);
        }
    }
}
