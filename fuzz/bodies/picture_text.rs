//! The text of a picture that says how it was drawn: what is read is what survives being written,
//! whatever stands around it.

use var_dd_protocol::{FileParameters, FileShape, PictureParameters, SheetParameters};

pub(crate) fn run(bytes: &[u8]) {
    // As long as any file here, so that WebP does not stop at its size.
    let starts: [&[u8]; 5] = [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0",
        b"GIF89a\x01\0\x01\0\0\0\0",
        b"\0\0\0\x10ftypisom\0\0\0\0",
    ];
    for start in starts {
        let file = [start, bytes].concat();
        let _ = FileShape::of(&file);
        let Ok(read) = FileParameters::of(&file) else { continue };
        let written = serde_json::to_vec(&read).unwrap_or_default();
        let again = match &read {
            FileParameters::Picture(_) => {
                serde_json::from_slice::<PictureParameters>(&written).map(FileParameters::Picture)
            }
            FileParameters::Sheet(_) => {
                serde_json::from_slice::<SheetParameters>(&written).map(FileParameters::Sheet)
            }
        };
        assert_eq!(again.ok(), Some(read));
    }
}
