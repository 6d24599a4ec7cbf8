//! MP4: texts are in the description of its XMP, which is a box of its own (ISO/IEC 14496-12,
//! sections 4.2 and 8.3.2; XMP specification, part 3, "MPEG-4").

use super::{FileFormat, FileShape, ParametersError, WALK_KEYWORD, webp};

/// The box that holds XMP, by its extended type.
pub const XMP_BOX: [u8; 16] = [
    0xbe, 0x7a, 0xcf, 0xcb, 0x97, 0xa9, 0x42, 0xe8, 0x9c, 0x71, 0x99, 0x94, 0x91, 0xe3, 0xaf, 0xac,
];

/// The text of a keyword, if there is one.
pub(super) fn text(bytes: &[u8], keyword: &str) -> Result<Option<String>, ParametersError> {
    let cut = || ParametersError::Cut(FileFormat::Mp4, bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let part = next(&mut rest).ok_or_else(cut)?;
        if let Some(xmp) = xmp(part)
            && let Some(text) = webp::of_xmp(xmp, keyword)?
        {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// The shape, by the first track that has a size.
pub(super) fn shape(bytes: &[u8]) -> Option<FileShape> {
    let mut size = None;
    let mut is_walk = false;
    for part in parts(bytes) {
        match part {
            (b"moov", movie) => {
                let tracks = parts(movie).filter(|(kind, _)| *kind == b"trak");
                let headers = tracks.filter_map(|(_, track)| {
                    parts(track).find(|(kind, _)| *kind == b"tkhd").map(|(_, header)| header)
                });
                size = size.or_else(|| headers.filter_map(track_size).next());
            }
            part => is_walk |= xmp(part).is_some_and(|xmp| webp::has_line(xmp, WALK_KEYWORD)),
        }
    }
    let (width, height) = size?;
    Some(FileShape { format: FileFormat::Mp4, width, height, is_animated: true, is_walk })
}

/// Width and height, which end the header of a track as numbers of 16.16 bits; a track of sound has
/// none.
fn track_size(header: &[u8]) -> Option<(u32, u32)> {
    let (rest, height) = header.split_last_chunk::<4>()?;
    let (_, width) = rest.split_last_chunk::<4>()?;
    let whole = |number: &[u8; 4]| u32::from_be_bytes(*number) >> 16;
    let size = (whole(width), whole(height));
    (size.0 > 0 && size.1 > 0).then_some(size)
}

/// The XMP, if a box is the one that has it.
fn xmp<'a>((kind, data): (&[u8; 4], &'a [u8])) -> Option<&'a [u8]> {
    (kind == b"uuid").then(|| data.strip_prefix(&XMP_BOX)).flatten()
}

/// The boxes that are there as a whole, in order.
fn parts(mut rest: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    std::iter::from_fn(move || next(&mut rest))
}

/// Takes the next box off `rest`, if it is there as a whole: its type and what is in it.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8; 4], &'a [u8])> {
    let (size, after) = rest.split_first_chunk::<4>()?;
    let (kind, after) = after.split_first_chunk::<4>()?;
    let (length, after) = match u32::from_be_bytes(*size) {
        // Up to the end of the file.
        0 => (after.len(), after),
        // Longer than four bytes can say.
        1 => {
            let (size, after) = after.split_first_chunk::<8>()?;
            (usize::try_from(u64::from_be_bytes(*size).checked_sub(16)?).ok()?, after)
        }
        size => (usize::try_from(size.checked_sub(8)?).ok()?, after),
    };
    let (data, after) = after.split_at_checked(length)?;
    *rest = after;
    Some((kind, data))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{FileParameters, MAX_TEXT, PictureParameters},
        *,
    };

    const TEXT: &str = r#"{"request":{"model":"a&amp;&lt;b&gt;","class":7,"plan":{"kind":"few_step","t_list":[0],"loss_split_t":3},"seed":42},"picture":1}"#;

    fn part(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        [&(data.len() as u32 + 8).to_be_bytes()[..], kind, data].concat()
    }

    /// As the one that holds the samples is written.
    fn long_part(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let size = (data.len() as u64 + 16).to_be_bytes();
        [&1u32.to_be_bytes()[..], kind, &size, data].concat()
    }

    fn told(text: &str) -> Vec<u8> {
        let xmp = format!("<x><rdf:li>Title: x\n{text}</rdf:li></x>");
        part(b"uuid", &[&XMP_BOX, xmp.as_bytes()].concat())
    }

    fn track(width: u16, height: u16) -> Vec<u8> {
        let size = [width, 0, height, 0].map(u16::to_be_bytes).concat();
        part(b"trak", &part(b"tkhd", &[&[0; 76], &size[..]].concat()))
    }

    fn mp4(parts: &[Vec<u8>]) -> Vec<u8> {
        let movie = [part(b"mvhd", &[0; 100]), track(0, 0), track(128, 64)].concat();
        let first = part(b"ftyp", b"isom\0\0\0\0isomav01");
        [first, part(b"moov", &movie), long_part(b"mdat", b"odd"), parts.concat()].concat()
    }

    #[test]
    fn a_request_is_read_out_of_the_description() {
        let other = part(b"uuid", &[&[7; 16], TEXT.as_bytes()].concat());
        let mut to_the_end = told(&format!("parameters: {TEXT}"));
        to_the_end[..4].fill(0);
        for parts in [
            vec![told(&format!("parameters: {TEXT}"))],
            vec![other, told(&format!("parameters: {TEXT}\nwalk: {{}}")), part(b"free", b"")],
            vec![to_the_end],
        ] {
            let read = PictureParameters::of(&mp4(&parts)).unwrap();
            assert_eq!(read.request.model.as_deref(), Some("a&<b>"));
            assert_eq!((read.request.seed, read.picture), (Some(42), 1));
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_of_as_what_it_is() {
        use ParametersError as E;
        let cut = |bytes: &[u8]| E::Cut(FileFormat::Mp4, bytes.len());
        let good = mp4(&[told(&format!("parameters: {TEXT}"))]);
        let short = &good[..good.len() - 1];
        let of = |size: [u8; 4]| mp4(&[[&size[..], b"free"].concat()]);
        let (endless, too_small, no_size) = (of([0xff; 4]), of([0, 0, 0, 7]), of([0, 0, 0, 1]));
        let negative = mp4(&[[&[0, 0, 0, 1][..], b"free", &15u64.to_be_bytes()].concat()]);
        let long = format!("parameters: {}", " ".repeat(MAX_TEXT + 1));
        for (bytes, expected) in [
            (short, cut(short)),
            (&good[..15], cut(&good[..15])),
            (&endless, cut(&endless)),
            (&too_small, cut(&too_small)),
            (&no_size, cut(&no_size)),
            (&negative, cut(&negative)),
            (&mp4(&[]), E::None),
            (&mp4(&[told("no parameters: {}")]), E::None),
            (&mp4(&[part(b"uuid", b"short")]), E::None),
            (&mp4(&[told(&long)]), E::TooLong(MAX_TEXT + 1)),
            (&mp4(&[told("parameters: {&nonsense;}")]), E::Damaged),
            (&part(b"ftyp", b"avif\0\0\0\0"), E::OtherFormat),
        ] {
            assert_eq!(FileParameters::of(bytes).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_shape_is_that_of_the_first_track_of_pictures() {
        for (text, is_walk) in [("parameters: {}", false), ("parameters: {}\nwalk: {}", true)] {
            let shape = FileShape::of(&mp4(&[told(text)])).unwrap();
            assert_eq!((shape.width, shape.height), (128, 64));
            assert_eq!((shape.is_animated, shape.is_walk), (true, is_walk));
        }
        assert_eq!(FileShape::of(&part(b"ftyp", b"isom\0\0\0\0")), None, "no track");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
            let first = part(b"ftyp", b"isom\0\0\0\0");
            let _ = FileParameters::of(&[&first[..], &bytes].concat());
            let _ = FileShape::of(&[&first[..], &bytes].concat());
            let mut changed = mp4(&[told(&format!("parameters: {TEXT}"))]);
            let at = at.index(changed.len());
            changed[at] = byte;
            let _ = FileParameters::of(&changed);
            let _ = FileShape::of(&changed);
        }
    }
}
