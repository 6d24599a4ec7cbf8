//! The text of a PNG that says how a picture was drawn: what is read is a request that survives
//! being written, whatever stands around it.

use var_dd_protocol::PictureParameters;

pub(crate) fn run(bytes: &[u8]) {
    for start in [&b""[..], b"\x89PNG\r\n\x1a\n"] {
        let Ok(read) = PictureParameters::from_png(&[start, bytes].concat()) else { continue };
        let written = serde_json::to_vec(&read).unwrap_or_default();
        assert_eq!(serde_json::from_slice(&written).ok(), Some(read));
    }
}
