//! Binary frames: one encoded picture each.
//!
//! Layout, little-endian:
//! ```text
//! 4 bytes  "VDF1"
//! 4 bytes  length h of the header
//! h bytes  header, JSON: { "job", "seq", … }
//! rest     the encoded picture
//! ```

use serde::{Deserialize, Serialize};

use crate::JobId;

const MAGIC: [u8; 4] = *b"VDF1";
const MAX_HEADER: usize = 4096;

/// How a picture is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum MediaType {
    /// Lossless; the last frame of every picture, but for previews.
    #[serde(rename = "image/png")]
    Png,
    /// Lossy and small: every other frame, and the one of a preview.
    #[serde(rename = "image/jpeg")]
    Jpeg,
    /// Lossless or lossy, small.
    #[serde(rename = "image/webp")]
    WebP,
}

impl MediaType {
    /// The name in a `Content-Type` header.
    pub fn as_str(self) -> &'static str {
        match self {
            MediaType::Png => "image/png",
            MediaType::Jpeg => "image/jpeg",
            MediaType::WebP => "image/webp",
        }
    }

    /// The ending of a file name, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            MediaType::Png => "png",
            MediaType::Jpeg => "jpg",
            MediaType::WebP => "webp",
        }
    }
}

/// What a frame shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FrameHeader {
    /// Picture of the job, from 0.
    pub picture: u32,
    /// Pass of the plan, from 0.
    pub pass: u32,
    /// Scale, from 0: the picture decodes all scales up to this one.
    pub scale: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// How the picture is encoded.
    pub media_type: MediaType,
    /// Whether this is the finished picture, which is never dropped. It is the last of its plan,
    /// and comes last unless it was wanted first.
    pub last: bool,
    /// Milliseconds from the job's acceptance to this frame, encoded.
    pub at_ms: f64,
    /// Milliseconds that encoding took.
    pub encode_ms: f64,
}

/// One encoded picture on its way to a viewer.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame<B = Vec<u8>> {
    /// The job.
    pub job: JobId,
    /// Sequence number among the job's events.
    pub seq: u64,
    /// What it shows.
    pub header: FrameHeader,
    /// The encoded picture.
    pub picture: B,
}

#[derive(Serialize, Deserialize)]
struct WireHeader<J, H> {
    job: J,
    seq: u64,
    #[serde(flatten)]
    header: H,
}

/// Bytes that are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than the layout needs.
    #[error("a frame of {0} bytes is cut off")]
    CutOff(usize),
    /// Another kind of message.
    #[error("a frame begins with \"VDF1\", not with {0:?}")]
    Magic([u8; 4]),
    /// A header larger than any that is written.
    #[error("a frame header of {0} bytes is over the limit of {MAX_HEADER}")]
    HeaderSize(usize),
    /// A header that is not what it should be.
    #[error("the frame header cannot be read: {0}")]
    Header(#[from] serde_json::Error),
}

impl<B: AsRef<[u8]>> Frame<B> {
    /// The bytes of the binary message.
    pub fn encode(&self) -> Vec<u8> {
        let head = WireHeader { job: &self.job, seq: self.seq, header: &self.header };
        let head =
            serde_json::to_vec(&head).expect("a frame header has no value that JSON cannot hold");
        let picture = self.picture.as_ref();
        let mut bytes = Vec::with_capacity(8 + head.len() + picture.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&(head.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(picture);
        bytes
    }
}

impl<'a> Frame<&'a [u8]> {
    /// Reads a binary message; the picture borrows from it.
    ///
    /// # Errors
    /// When the bytes are not a frame; never panics.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let cut_off = || FrameError::CutOff(bytes.len());
        let (magic, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut_off)?;
        if *magic != MAGIC {
            return Err(FrameError::Magic(*magic));
        }
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_HEADER {
            return Err(FrameError::HeaderSize(length));
        }
        let (head, picture) = rest.split_at_checked(length).ok_or_else(cut_off)?;
        let WireHeader { job, seq, header } =
            serde_json::from_slice::<WireHeader<JobId, FrameHeader>>(head)?;
        Ok(Self { job, seq, header, picture })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(picture: u32, pass: u32, scale: u32, at_ms: f64, last: bool) -> FrameHeader {
        let media_type = if last { MediaType::Png } else { MediaType::Jpeg };
        FrameHeader {
            picture,
            pass,
            scale,
            width: 64,
            height: 64,
            media_type,
            last,
            at_ms,
            encode_ms: 0.5,
        }
    }

    proptest! {
        #[test]
        fn a_frame_survives_the_wire(
            job: u128, seq: u64, picture in 0u32..8, pass: u32, scale: u32, at_us in 0u32..100_000_000, last: bool,
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let frame = Frame {
                job: JobId::from_bits(job),
                seq,
                header: header(picture, pass, scale, f64::from(at_us) / 1000.0, last),
                picture: body.as_slice(),
            };
            let bytes = frame.encode();
            prop_assert_eq!(Frame::decode(&bytes).unwrap(), frame);
        }

        #[test]
        fn bytes_that_are_no_frame_are_an_error_and_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(Frame::decode(&bytes).is_err());
        }

        #[test]
        fn a_frame_cut_off_in_its_header_is_refused(keep in 0usize..150) {
            let frame = Frame { job: JobId::from_bits(1), seq: 1, header: header(0, 0, 0, 1.0, false), picture: [0u8; 0] };
            prop_assert!(Frame::decode(&frame.encode()[..keep]).is_err());
        }
    }
}
