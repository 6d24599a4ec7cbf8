//! What a downloaded picture says of itself: the request that it was drawn by, as a text of its PNG
//! file (PNG specification, third edition, sections 5.3 and 11.3.3).

use serde::{Deserialize, Serialize};

use crate::{GenerateRequest, from_json_object};

/// Keyword of the text that holds the parameters.
pub const PARAMETERS_KEYWORD: &str = "parameters";

/// Longest text that is read, in bytes: many times what the longest request takes.
const MAX_TEXT: usize = 1 << 20;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// How a picture was drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PictureParameters {
    /// The request, model and seed filled in.
    pub request: GenerateRequest,
    /// Index of the picture among those of the request, from 0.
    pub picture: u32,
}

/// Why a file does not say how it was drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParametersError {
    /// It does not begin as a PNG does.
    #[error("this is no PNG file; give a picture that was downloaded here, as it was downloaded")]
    NotPng,
    /// It ends before its end.
    #[error("the PNG file is cut off after {0} bytes; download it again")]
    Cut(usize),
    /// There is no text of the keyword.
    #[error(
        "the picture does not say how it was drawn; programs that edit or send pictures often \
         drop that, so give the file as it was downloaded"
    )]
    None,
    /// The text is longer than any that is written here.
    #[error(
        "the text {PARAMETERS_KEYWORD:?} of the picture has {0} bytes; at most {MAX_TEXT} are read"
    )]
    TooLong(usize),
    /// The text is compressed, which nothing here does, and which could hide any number of bytes.
    #[error(
        "the text {PARAMETERS_KEYWORD:?} of the picture is compressed, and only plain text is \
         read; give the file as it was downloaded"
    )]
    Compressed,
    /// A checksum is wrong.
    #[error("the text {PARAMETERS_KEYWORD:?} of the picture is damaged; download it again")]
    Damaged,
    /// The text is of another program, or of another kind of drawing.
    #[error("the text {PARAMETERS_KEYWORD:?} of the picture is no request that can be drawn: {0}")]
    Other(String),
}

/// How a picture compares with the same request drawn again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Verification {
    /// The request that the picture says it was drawn by.
    pub request: GenerateRequest,
    /// Index of the picture among those of the request, from 0.
    pub picture: u32,
    /// Largest difference of a colour value of a pixel, of 255; 0 if both are equal to the bit.
    pub largest_difference: u8,
}

impl Verification {
    /// The outcome in words.
    pub fn verdict(&self) -> String {
        match self.largest_difference {
            0 => "equal to the bit".to_owned(),
            most => format!("the largest difference of a colour value is {most} of 255"),
        }
    }
}

impl PictureParameters {
    /// Reads the parameters in a PNG file. Nothing is decoded or unpacked, and no byte is trusted.
    ///
    /// # Errors
    /// When there are none, or the file is not whole.
    pub fn from_png(bytes: &[u8]) -> Result<Self, ParametersError> {
        let mut rest = bytes.strip_prefix(SIGNATURE).ok_or(ParametersError::NotPng)?;
        let mut text = None;
        let mut is_first = true;
        loop {
            let chunk = Chunk::next(&mut rest).ok_or(ParametersError::Cut(bytes.len()))?;
            if is_first && &chunk.kind != b"IHDR" {
                return Err(ParametersError::NotPng);
            }
            is_first = false;
            if &chunk.kind == b"IEND" {
                break;
            }
            if text.is_none() {
                text = chunk.parameters()?;
            }
        }
        let text = text.ok_or(ParametersError::None)?;
        from_json_object(text.as_bytes()).map_err(|error| {
            // A text of others may be anything; what is wrong with it is said within bounds.
            ParametersError::Other(error.to_string().chars().take(200).collect())
        })
    }
}

/// What kind of picture a PNG file holds, by the pieces before its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PngShape {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Whether it is an animation (APNG).
    pub is_animated: bool,
}

impl PngShape {
    /// Reads the shape of a PNG file, if it is one. Nothing is decoded, and no byte is trusted.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(SIGNATURE)?;
        let header = Chunk::next(&mut rest).filter(|chunk| &chunk.kind == b"IHDR")?;
        let (width, after) = header.data.split_first_chunk::<4>()?;
        let (height, _) = after.split_first_chunk::<4>()?;
        // What says that it is an animation comes before the first pixels.
        let before_pixels = std::iter::from_fn(|| Chunk::next(&mut rest))
            .take_while(|chunk| !matches!(&chunk.kind, b"IDAT" | b"IEND"))
            .any(|chunk| &chunk.kind == b"acTL");
        Some(Self {
            width: u32::from_be_bytes(*width),
            height: u32::from_be_bytes(*height),
            is_animated: before_pixels,
        })
    }
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

    /// The parameters, if this is the text that holds them.
    fn parameters(&self) -> Result<Option<String>, ParametersError> {
        if !matches!(&self.kind, b"tEXt" | b"iTXt" | b"zTXt") {
            return Ok(None);
        }
        let keyword = PARAMETERS_KEYWORD.as_bytes();
        let after = self.data.strip_prefix(keyword).and_then(|after| after.strip_prefix(b"\0"));
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

    use super::*;

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
            let parameters = PictureParameters::from_png(&png(&chunks)).unwrap();
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
            (b"".to_vec(), E::NotPng),
            (b"\xff\xd8\xff\xe0 a JPEG".to_vec(), E::NotPng),
            ([SIGNATURE, &chunk(b"IEND", &[])].concat(), E::NotPng),
            (SIGNATURE.to_vec(), E::Cut(8)),
            (good[..good.len() - 5].to_vec(), E::Cut(good.len() - 5)),
            (endless.clone(), E::Cut(endless.len())),
            (png(&[]), E::None),
            (png(&[with(b"tEXt", "Title\0", TEXT)]), E::None),
            (png(&[with(b"tEXt", "parameters\0", &long)]), E::TooLong(MAX_TEXT + 1)),
            (png(&[with(b"zTXt", "parameters\0\0", "x")]), E::Compressed),
            (png(&[with(b"iTXt", "parameters\0\x01\0\0\0", "x")]), E::Compressed),
            (png(&[with(b"iTXt", "parameters\0\0", "")]), E::Damaged),
            (damaged, E::Damaged),
        ] {
            assert_eq!(PictureParameters::from_png(&bytes).unwrap_err(), expected);
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
            match PictureParameters::from_png(&bytes).unwrap_err() {
                E::Other(why) => assert!(why.contains(part) && why.len() < 900, "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_shape_of_a_file_is_read_before_its_pixels() {
        let still = PngShape { width: 1, height: 1, is_animated: false };
        let animated = PngShape { is_animated: true, ..still };
        let animation = chunk(b"acTL", &[0; 8]);
        let pixels = chunk(b"IDAT", &[0; 8]);
        for (chunks, expected) in [
            (vec![], still),
            (vec![with(b"tEXt", "Title\0", "x"), pixels.clone()], still),
            (vec![with(b"tEXt", "Title\0", "x"), animation.clone()], animated),
            (vec![pixels, animation], still),
        ] {
            assert_eq!(PngShape::of(&png(&chunks)), Some(expected));
        }
        for bytes in [&b""[..], SIGNATURE, b"GIF89a", &png(&[])[..20]] {
            assert_eq!(PngShape::of(bytes), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
            let _ = PictureParameters::from_png(&[SIGNATURE, &bytes].concat());
            let _ = PngShape::of(&[SIGNATURE, &bytes].concat());
            let mut changed = png(&[with(b"iTXt", "parameters\0\0\0\0\0", TEXT)]);
            let at = at.index(changed.len());
            changed[at] = byte;
            let _ = PictureParameters::from_png(&changed);
            let _ = PngShape::of(&changed);
        }
    }
}
