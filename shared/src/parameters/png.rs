//! PNG: texts are chunks of their own (PNG specification, third edition, sections 5.3 and 11.3.3).

use super::{FileFormat, FileShape, MAX_TEXT, ParametersError, WALK_KEYWORD};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Eight bytes of signature, then the header chunk: 4 length + 4 type + 13 data + 4 checksum.
const AFTER_HEADER: usize = 8 + 25;

/// The text of a keyword, if there is one.
pub(super) fn text(bytes: &[u8], keyword: &str) -> Result<Option<String>, ParametersError> {
    let mut rest = bytes.strip_prefix(SIGNATURE).ok_or(ParametersError::OtherFormat)?;
    let mut text = None;
    let mut is_first = true;
    loop {
        let cut = ParametersError::Cut(FileFormat::Png, bytes.len());
        let chunk = Chunk::next(&mut rest).ok_or(cut)?;
        if is_first && &chunk.kind != b"IHDR" {
            return Err(ParametersError::OtherFormat);
        }
        is_first = false;
        if &chunk.kind == b"IEND" {
            return Ok(text);
        }
        if text.is_none() {
            text = chunk.text(keyword)?;
        }
    }
}

/// The shape, by the pieces before the pixels.
pub(super) fn shape(bytes: &[u8]) -> Option<FileShape> {
    let mut rest = bytes.strip_prefix(SIGNATURE)?;
    let header = Chunk::next(&mut rest).filter(|chunk| &chunk.kind == b"IHDR")?;
    let (width, after) = header.data.split_first_chunk::<4>()?;
    let (height, _) = after.split_first_chunk::<4>()?;
    let mut shape = FileShape {
        format: FileFormat::Png,
        width: u32::from_be_bytes(*width),
        height: u32::from_be_bytes(*height),
        is_animated: false,
        is_walk: false,
    };
    // What says that it is an animation comes before the first pixels.
    let before_pixels = std::iter::from_fn(|| Chunk::next(&mut rest))
        .take_while(|chunk| !matches!(&chunk.kind, b"IDAT" | b"IEND"));
    for chunk in before_pixels {
        shape.is_animated |= &chunk.kind == b"acTL";
        shape.is_walk |= chunk.is_text() && chunk.after_keyword(WALK_KEYWORD).is_some();
    }
    Some(shape)
}

/// The same picture with texts by keyword (Latin letters, at most 79) after its header; the picture
/// is not touched. Not a PNG file: as it is.
pub fn with_texts(png: &[u8], texts: &[(&str, String)]) -> Vec<u8> {
    let is_png = png.starts_with(SIGNATURE) && png.get(12..16) == Some(b"IHDR");
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
        out.extend_from_slice(&checksum(body.iter()).to_be_bytes());
    }
    out.extend_from_slice(rest);
    out
}

/// A piece of a PNG file.
struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
    checksum: u32,
}

impl<'a> Chunk<'a> {
    /// Takes the next piece off `rest`, if it is there as a whole.
    fn next(rest: &mut &'a [u8]) -> Option<Self> {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (kind, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (data, after) = after.split_at_checked(length)?;
        let (checksum, after) = after.split_first_chunk::<4>()?;
        *rest = after;
        Some(Self { kind: *kind, data, checksum: u32::from_be_bytes(*checksum) })
    }

    fn is_text(&self) -> bool {
        matches!(&self.kind, b"tEXt" | b"iTXt" | b"zTXt")
    }

    /// What comes after a keyword and its zero.
    fn after_keyword(&self, keyword: &str) -> Option<&'a [u8]> {
        self.data.strip_prefix(keyword.as_bytes())?.strip_prefix(b"\0")
    }

    /// The text, if this is the one of the keyword.
    fn text(&self, keyword: &str) -> Result<Option<String>, ParametersError> {
        let after = self.after_keyword(keyword).filter(|_| self.is_text());
        let Some(after) = after else { return Ok(None) };
        if after.len() > MAX_TEXT {
            return Err(ParametersError::TooLong(after.len()));
        }
        if checksum(self.kind.iter().chain(self.data)) != self.checksum {
            return Err(ParametersError::Damaged);
        }
        match &self.kind {
            // Latin-1: every byte is the character of its number.
            b"tEXt" => Ok(Some(after.iter().copied().map(char::from).collect())),
            b"iTXt" => {
                let [compressed, _, rest @ ..] = after else {
                    return Err(ParametersError::Damaged);
                };
                if *compressed != 0 {
                    return Err(ParametersError::Compressed);
                }
                // Language and translated keyword come before the text.
                let text = rest.splitn(3, |byte| *byte == 0).nth(2);
                let text = text.and_then(|text| std::str::from_utf8(text).ok());
                text.map(|text| Some(text.to_owned())).ok_or(ParametersError::Damaged)
            }
            _ => Err(ParametersError::Compressed),
        }
    }
}

/// CRC-32 as PNG has it. Bit by bit, since a text is short and a table would only weigh on the
/// page.
fn checksum<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{FileFormat, FileShape, PictureParameters},
        *,
    };

    const TEXT: &str = r#"{"request":{"model":"雪","class":7,"plan":{"kind":"few_step","t_list":[0],"loss_split_t":3},"seed":42,"count":2},"picture":1}"#;

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let sum = checksum(kind.iter().chain(data));
        let length = (data.len() as u32).to_be_bytes();
        [&length[..], kind, data, &sum.to_be_bytes()].concat()
    }

    fn png(chunks: &[Vec<u8>]) -> Vec<u8> {
        let header = chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]);
        [SIGNATURE, &header, &chunks.concat(), &chunk(b"IEND", &[])].concat()
    }

    fn with(kind: &[u8; 4], before: &str, text: &str) -> Vec<u8> {
        chunk(kind, [before, text].concat().as_bytes())
    }

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        assert_eq!(checksum(b"IEND".iter()), 0xae42_6082);
    }

    #[test]
    fn a_request_is_read_back_from_either_kind_of_text() {
        let ascii = TEXT.replace('雪', "demo");
        for (chunks, model) in [
            (vec![with(b"tEXt", "Title\0", "x"), with(b"tEXt", "parameters\0", &ascii)], "demo"),
            (vec![with(b"iTXt", "parameters\0\0\0\0\0", TEXT)], "雪"),
            (vec![with(b"iTXt", "parameters\0\0\0en\0p\0", TEXT)], "雪"),
        ] {
            let parameters = PictureParameters::of(&png(&chunks)).unwrap();
            assert_eq!(parameters.request.model.as_deref(), Some(model));
            assert_eq!((parameters.request.seed, parameters.picture), (Some(42), 1));
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_of_as_what_it_is() {
        use ParametersError as E;
        let good = png(&[with(b"iTXt", "parameters\0\0\0\0\0", TEXT)]);
        let mut damaged = good.clone();
        damaged[80] ^= 1;
        let mut endless = png(&[]);
        endless[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        let long = " ".repeat(MAX_TEXT + 1);
        for (bytes, expected) in [
            (b"".to_vec(), E::OtherFormat),
            (b"\xff\xd8\xff\xe0 a JPEG".to_vec(), E::OtherFormat),
            ([SIGNATURE, &chunk(b"IEND", &[])].concat(), E::OtherFormat),
            (SIGNATURE.to_vec(), E::Cut(FileFormat::Png, 8)),
            (good[..good.len() - 5].to_vec(), E::Cut(FileFormat::Png, good.len() - 5)),
            (endless.clone(), E::Cut(FileFormat::Png, endless.len())),
            (png(&[]), E::None),
            (png(&[with(b"tEXt", "Title\0", TEXT)]), E::None),
            (png(&[with(b"tEXt", "parameters\0", &long)]), E::TooLong(MAX_TEXT + 1)),
            (png(&[with(b"zTXt", "parameters\0\0", "x")]), E::Compressed),
            (png(&[with(b"iTXt", "parameters\0\x01\0\0\0", "x")]), E::Compressed),
            (png(&[with(b"iTXt", "parameters\0\0", "")]), E::Damaged),
            (damaged, E::Damaged),
        ] {
            assert_eq!(PictureParameters::of(&bytes).unwrap_err(), expected);
        }
        let unknown = TEXT.replace("\"count\"", "\"cuont\"");
        let deep = "[".repeat(100_000);
        for (text, part) in [
            ("a snowman, Steps: 20, Sampler: Euler a", "expected"),
            ("{}", "missing field `request`"),
            ("[]", ""),
            (&unknown, "cuont"),
            (&deep, ""),
        ] {
            let bytes = png(&[with(b"iTXt", "parameters\0\0\0\0\0", text)]);
            match PictureParameters::of(&bytes).unwrap_err() {
                E::Other(why) => assert!(why.contains(part) && why.len() < 900, "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_shape_of_a_file_is_read_before_its_pixels() {
        let still = FileShape {
            format: FileFormat::Png,
            width: 1,
            height: 1,
            is_animated: false,
            is_walk: false,
        };
        let animated = FileShape { is_animated: true, ..still };
        let walk = FileShape { is_walk: true, ..animated };
        let animation = chunk(b"acTL", &[0; 8]);
        let pixels = chunk(b"IDAT", &[0; 8]);
        for (chunks, expected) in [
            (vec![], still),
            (vec![with(b"tEXt", "Title\0", "x"), pixels.clone()], still),
            (vec![with(b"tEXt", "Title\0", "x"), animation.clone()], animated),
            (vec![with(b"tEXt", "walk\0", "{}"), animation.clone(), pixels.clone()], walk),
            (vec![pixels, animation], still),
        ] {
            assert_eq!(FileShape::of(&png(&chunks)), Some(expected));
        }
        for bytes in [&b""[..], SIGNATURE, b"GIF89a", b"RIFF", &png(&[])[..20]] {
            assert_eq!(FileShape::of(bytes), None);
        }
    }

    #[test]
    fn texts_go_in_and_the_rest_stays() {
        let plain = png(&[chunk(b"IDAT", b"pixels")]);
        let texts = [("Title", "snowman".to_owned()), ("parameters", TEXT.to_owned())];
        let written = with_texts(&plain, &texts);
        assert!(written.starts_with(&plain[..AFTER_HEADER]));
        assert!(written.ends_with(&plain[AFTER_HEADER..]));
        let contains = |part: &[u8]| written.windows(part.len()).any(|window| window == part);
        assert!(contains(b"tEXtTitle\0snowman") && contains(b"iTXtparameters\0\0\0\0\0{"));
        let read = PictureParameters::of(&written).unwrap();
        assert_eq!(read.request.model.as_deref(), Some("雪"));
        for bytes in [&b""[..], b"\x89PNG\r\n\x1a\n", &[7; 100]] {
            assert_eq!(with_texts(bytes, &texts), bytes, "what is no PNG stays as it is");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
            let _ = PictureParameters::of(&[SIGNATURE, &bytes].concat());
            let _ = FileShape::of(&[SIGNATURE, &bytes].concat());
            let mut changed = png(&[with(b"iTXt", "parameters\0\0\0\0\0", TEXT)]);
            let at = at.index(changed.len());
            changed[at] = byte;
            let _ = PictureParameters::of(&changed);
            let _ = FileShape::of(&changed);
        }
    }
}
