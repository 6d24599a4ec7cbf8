//! GIF: texts are comments (GIF89a specification, section 24).

use super::{FileFormat, FileShape, MAX_TEXT, ParametersError, WALK_KEYWORD};

/// A part of the file that is of use here.
enum Part {
    Comment(Vec<u8>),
    Picture,
    Other,
}

/// The text of a keyword, if there is one.
pub(super) fn text(bytes: &[u8], keyword: &str) -> Result<Option<String>, ParametersError> {
    let cut = || ParametersError::Cut(FileFormat::Gif, bytes.len());
    let (_, _, mut rest) = begin(bytes).ok_or_else(cut)?;
    let mut found = None;
    while !ends(rest) {
        let part = next(&mut rest).ok_or_else(cut)?;
        let Part::Comment(comment) = part else { continue };
        let text = after_keyword(&comment, keyword);
        if let Some(text) = text.filter(|_| found.is_none()) {
            if text.len() > MAX_TEXT {
                return Err(ParametersError::TooLong(text.len()));
            }
            let text = std::str::from_utf8(text).map_err(|_| ParametersError::Damaged)?;
            found = Some(text.to_owned());
        }
    }
    Ok(found)
}

/// The shape, by all that can be read.
pub(super) fn shape(bytes: &[u8]) -> Option<FileShape> {
    let (width, height, mut rest) = begin(bytes)?;
    let mut pictures = 0_usize;
    let mut is_walk = false;
    while !ends(rest) {
        match next(&mut rest) {
            Some(Part::Picture) => pictures += 1,
            Some(Part::Comment(text)) => is_walk |= after_keyword(&text, WALK_KEYWORD).is_some(),
            Some(Part::Other) => {}
            None => break,
        }
    }
    let (width, height) = (width.into(), height.into());
    let is_animated = pictures > 1;
    Some(FileShape { format: FileFormat::Gif, width, height, is_animated, is_walk })
}

fn after_keyword<'a>(comment: &'a [u8], keyword: &str) -> Option<&'a [u8]> {
    comment.strip_prefix(keyword.as_bytes())?.strip_prefix(b": ")
}

/// Width, height, and what comes after the screen and its colours.
fn begin(bytes: &[u8]) -> Option<(u16, u16, &[u8])> {
    let &[w0, w1, h0, h1, flags, _, _] = bytes.get(6..13)? else { return None };
    let rest = bytes.get(13 + colours(flags)..)?;
    Some((u16::from_le_bytes([w0, w1]), u16::from_le_bytes([h0, h1]), rest))
}

/// Bytes of a table of colours.
fn colours(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Whether the file ends here.
fn ends(rest: &[u8]) -> bool {
    rest.first() == Some(&0x3b)
}

/// Takes the next part off `rest`, if it is there as a whole.
fn next(rest: &mut &[u8]) -> Option<Part> {
    const EXTENSION: u8 = 0x21;
    const COMMENT: u8 = 0xfe;
    const PICTURE: u8 = 0x2c;
    match **rest {
        [EXTENSION, COMMENT, ref after @ ..] => {
            *rest = after;
            blocks(rest, true).map(Part::Comment)
        }
        [EXTENSION, _, ref after @ ..] => {
            *rest = after;
            blocks(rest, false).map(|_| Part::Other)
        }
        [PICTURE, _, _, _, _, _, _, _, _, flags, ref after @ ..] => {
            // Its colours, and how long the first code is.
            *rest = after.get(colours(flags) + 1..)?;
            blocks(rest, false).map(|_| Part::Picture)
        }
        _ => None,
    }
}

/// Takes blocks off up to the empty one; their bytes, if wanted and not far too many.
fn blocks(rest: &mut &[u8], wanted: bool) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let (&length, after) = rest.split_first()?;
        let (block, after) = after.split_at_checked(length.into())?;
        *rest = after;
        if length == 0 {
            return Some(bytes);
        }
        // One that is too long still says so.
        if wanted && bytes.len() <= MAX_TEXT + 255 {
            bytes.extend_from_slice(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{FileParameters, PictureParameters},
        *,
    };

    const TEXT: &str = r#"{"request":{"model":"雪","class":7,"plan":{"kind":"few_step","t_list":[0],"loss_split_t":3},"seed":42},"picture":1}"#;

    fn comment(text: &[u8]) -> Vec<u8> {
        let mut part = vec![0x21, 0xfe];
        for piece in text.chunks(255) {
            part.push(piece.len() as u8);
            part.extend_from_slice(piece);
        }
        part.push(0);
        part
    }

    /// A picture with two colours of its own.
    fn picture() -> Vec<u8> {
        let head = [0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0x80];
        [&head[..], &[9; 6], &[2, 2, 0x44, 0x01, 0]].concat()
    }

    fn gif(parts: &[Vec<u8>]) -> Vec<u8> {
        let screen = [64, 0, 32, 0, 0x91, 0, 0];
        [b"GIF89a", &screen[..], &[7; 12], &parts.concat(), b"\x3b"].concat()
    }

    fn told(text: &str) -> Vec<u8> {
        comment(format!("parameters: {text}").as_bytes())
    }

    #[test]
    fn a_request_is_read_out_of_a_comment() {
        let long_one = told(&format!("{TEXT}{}", " ".repeat(999)));
        for parts in [
            vec![comment(b"Title: x"), told(TEXT), picture()],
            vec![long_one, picture()],
            vec![picture(), picture(), told(TEXT)],
        ] {
            let read = PictureParameters::of(&gif(&parts)).unwrap();
            assert_eq!(read.request.model.as_deref(), Some("雪"));
            assert_eq!((read.request.seed, read.picture), (Some(42), 1));
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_of_as_what_it_is() {
        use ParametersError as E;
        let good = gif(&[told(TEXT), picture()]);
        let cut = |bytes: &[u8]| E::Cut(FileFormat::Gif, bytes.len());
        let long = " ".repeat(MAX_TEXT + 1);
        let odd = gif(&[vec![0x77]]);
        for (bytes, expected) in [
            (good[..good.len() - 1].to_vec(), cut(&good[..good.len() - 1])),
            (good[..9].to_vec(), cut(&good[..9])),
            (odd.clone(), cut(&odd)),
            (gif(&[picture()]), E::None),
            (gif(&[comment(b"no parameters: {}")]), E::None),
            (gif(&[told(&long)]), E::TooLong(MAX_TEXT + 1)),
            (gif(&[comment(b"parameters: \xff")]), E::Damaged),
        ] {
            assert_eq!(FileParameters::of(&bytes).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_shape_is_that_of_the_screen_and_the_number_of_pictures() {
        let walk = comment(b"walk: {}");
        for (parts, is_animated, is_walk) in [
            (vec![picture()], false, false),
            (vec![picture(), told(TEXT), picture()], true, false),
            (vec![walk, picture(), picture()], true, true),
        ] {
            let shape = FileShape::of(&gif(&parts)).unwrap();
            assert_eq!((shape.width, shape.height), (64, 32));
            assert_eq!((shape.is_animated, shape.is_walk), (is_animated, is_walk));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
            let _ = FileParameters::of(&[b"GIF89a", &bytes[..]].concat());
            let _ = FileShape::of(&[b"GIF89a", &bytes[..]].concat());
            let mut changed = gif(&[told(TEXT), picture()]);
            let at = at.index(changed.len());
            changed[at] = byte;
            let _ = FileParameters::of(&changed);
            let _ = FileShape::of(&changed);
        }
    }
}
