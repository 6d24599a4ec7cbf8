//! WebP: texts are in the description of its XMP (WebP container specification, "Extended File
//! Format" and "Metadata"; XMP specification, part 1).

use super::{FileFormat, FileShape, MAX_TEXT, ParametersError};

/// The flag of the first chunk that says that it is an animation.
const ANIMATION: u8 = 0x02;

/// The text of a keyword, if there is one.
pub(super) fn text(bytes: &[u8], keyword: &str) -> Result<Option<String>, ParametersError> {
    let cut = || ParametersError::Cut(FileFormat::WebP, bytes.len());
    let mut rest = chunks(bytes).ok_or_else(cut)?;
    while !rest.is_empty() {
        let (kind, data) = next(&mut rest).ok_or_else(cut)?;
        if kind == b"XMP "
            && let Some(text) = of_xmp(data, keyword)?
        {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// The shape of an extended file; others cannot hold a text.
pub(super) fn shape(bytes: &[u8]) -> Option<FileShape> {
    let mut rest = chunks(bytes)?;
    let (_, data) = next(&mut rest).filter(|(kind, _)| *kind == b"VP8X")?;
    let &[flags, _, _, _, w0, w1, w2, h0, h1, h2] = data else { return None };
    Some(FileShape {
        format: FileFormat::WebP,
        // One less than they are, in three bytes.
        width: 1 + u32::from_le_bytes([w0, w1, w2, 0]),
        height: 1 + u32::from_le_bytes([h0, h1, h2, 0]),
        is_animated: flags & ANIMATION != 0,
        is_walk: false,
    })
}

/// All chunks, if the file is as long as it says.
fn chunks(bytes: &[u8]) -> Option<&[u8]> {
    let size = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    // The size counts the name of the format, too.
    bytes.get(8..)?.get(..usize::try_from(size).ok()?)?.get(4..)
}

/// Takes the next chunk off `rest`, if it is there as a whole.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8; 4], &'a [u8])> {
    let (kind, after) = rest.split_first_chunk::<4>()?;
    let (length, after) = after.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (data, after) = after.split_at_checked(length)?;
    // Chunks begin at even places.
    *rest = if length % 2 == 1 { after.get(1..).unwrap_or_default() } else { after };
    Some((kind, data))
}

/// The text of a keyword among the lines of a description, with its signs of XML taken back.
pub(super) fn of_xmp(data: &[u8], keyword: &str) -> Result<Option<String>, ParametersError> {
    let Some(text) = after_keyword(data, keyword) else { return Ok(None) };
    // A line, or what comes before the next tag: in a text such a sign is written `&lt;`.
    let text = text.split(['<', '\n', '\r']).next().unwrap_or_default();
    if text.len() > MAX_TEXT {
        return Err(ParametersError::TooLong(text.len()));
    }
    unescaped(text).map(Some).ok_or(ParametersError::Damaged)
}

/// Whether a line of a description begins with a keyword.
pub(super) fn has_line(data: &[u8], keyword: &str) -> bool {
    after_keyword(data, keyword).is_some()
}

/// All that comes after a keyword that begins a line.
fn after_keyword<'a>(data: &'a [u8], keyword: &str) -> Option<&'a str> {
    let xmp = std::str::from_utf8(data).ok()?;
    let keyword = format!("{keyword}: ");
    let begins_line = |at: usize| at == 0 || matches!(xmp.as_bytes()[at - 1], b'>' | b'\n');
    let (at, _) = xmp.match_indices(&keyword).find(|&(at, _)| begins_line(at))?;
    Some(&xmp[at + keyword.len()..])
}

/// A text of XML as it was before; nothing if a sign in it is none.
fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, after) = part.split_once(';')?;
        plain.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let number = name.strip_prefix('#')?;
                let number = match number.strip_prefix('x') {
                    Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                    None => number.parse().ok()?,
                };
                char::from_u32(number)?
            }
        });
        plain.push_str(after);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{FileParameters, PictureParameters},
        *,
    };

    const TEXT: &str = r#"{"request":{"model":"a&amp;&#60;&#x62;&gt;","class":7,"plan":{"kind":"few_step","t_list":[0],"loss_split_t":3},"seed":42},"picture":1}"#;

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let padding: &[u8] = if data.len() % 2 == 1 { b"\0" } else { b"" };
        [kind, &(data.len() as u32).to_le_bytes(), data, padding].concat()
    }

    fn webp(flags: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
        let first = chunk(b"VP8X", &[flags, 0, 0, 0, 127, 0, 0, 63, 0, 0]);
        let body = [b"WEBP", &first[..], &chunks.concat()].concat();
        [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
    }

    fn xmp(text: &str) -> Vec<u8> {
        chunk(b"XMP ", format!("<x><rdf:li>Title: x\n{text}</rdf:li></x>").as_bytes())
    }

    #[test]
    fn a_request_is_read_out_of_the_description() {
        let frame = chunk(b"ANMF", b"odd");
        for line in [format!("parameters: {TEXT}"), format!("parameters: {TEXT}\nwhat else")] {
            let bytes = webp(ANIMATION, &[frame.clone(), xmp(&line)]);
            let read = PictureParameters::of(&bytes).unwrap();
            assert_eq!(read.request.model.as_deref(), Some("a&<b>"));
            assert_eq!((read.request.seed, read.picture), (Some(42), 1));
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_of_as_what_it_is() {
        use ParametersError as E;
        let good = webp(0, &[xmp(&format!("parameters: {TEXT}"))]);
        let mut endless = good.clone();
        endless[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut chunk_too_long = good.clone();
        chunk_too_long[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        let long = format!("parameters: {}", " ".repeat(MAX_TEXT + 1));
        let cut = |bytes: &[u8]| E::Cut(FileFormat::WebP, bytes.len());
        for (bytes, expected) in [
            (good[..good.len() - 5].to_vec(), cut(&good[..good.len() - 5])),
            (good[..12].to_vec(), cut(&good[..12])),
            (endless.clone(), cut(&endless)),
            (chunk_too_long.clone(), cut(&chunk_too_long)),
            (webp(0, &[]), E::None),
            (webp(0, &[xmp("no parameters: {}")]), E::None),
            (webp(0, &[chunk(b"XMP ", b"\xff\xfe")]), E::None),
            (webp(0, &[chunk(b"EXIF", TEXT.as_bytes())]), E::None),
            (webp(0, &[xmp(&long)]), E::TooLong(MAX_TEXT + 1)),
            (webp(0, &[xmp("parameters: {&nonsense;}")]), E::Damaged),
            (webp(0, &[xmp("parameters: {&")]), E::Damaged),
            (webp(0, &[xmp("parameters: &#xd800;")]), E::Damaged),
        ] {
            assert_eq!(FileParameters::of(&bytes).unwrap_err(), expected);
        }
        let other = FileParameters::of(&webp(0, &[xmp("parameters: [1]")])).unwrap_err();
        assert!(matches!(other, E::Other(_)), "{other:?}");
    }

    #[test]
    fn the_shape_is_that_of_the_canvas() {
        let still = FileShape::of(&webp(0, &[])).unwrap();
        assert_eq!((still.width, still.height, still.is_animated), (128, 64, false));
        assert!(FileShape::of(&webp(ANIMATION, &[])).unwrap().is_animated);
        let simple = [b"RIFF\x0c\0\0\0WEBP".as_slice(), &chunk(b"VP8L", b"")].concat();
        assert_eq!(FileShape::of(&simple), None, "only an extended file holds a text");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
            for start in [&b"RIFF\xff\0\0\0WEBP"[..], b"RIFF"] {
                let _ = FileParameters::of(&[start, &bytes].concat());
                let _ = FileShape::of(&[start, &bytes].concat());
            }
            let mut changed = webp(ANIMATION, &[xmp(&format!("parameters: {TEXT}"))]);
            let at = at.index(changed.len());
            changed[at] = byte;
            let _ = FileParameters::of(&changed);
            let _ = FileShape::of(&changed);
        }
    }
}
