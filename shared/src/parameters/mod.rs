//! What a downloaded file says of itself: the request or the requests that it was drawn by, as text
//! in a PNG, a WebP, a GIF or an MP4.

mod gif;
mod mp4;
mod png;
mod webp;

use serde::{Deserialize, Serialize};

use crate::{GenerateRequest, WalkRequest, from_json_object};

pub use mp4::XMP_BOX;
pub use png::with_texts;

/// Keyword of the text that holds the parameters.
pub const PARAMETERS_KEYWORD: &str = "parameters";

/// Keyword of the text that holds a whole walk, where a file is one.
pub const WALK_KEYWORD: &str = "walk";

/// Longest text that is read, in bytes: many times what the longest request takes.
const MAX_TEXT: usize = 1 << 20;

/// Most pictures of a sheet: twelve by twelve.
pub const SHEET_PICTURES: usize = 144;

/// How a picture was drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PictureParameters {
    /// The request, model and seed filled in.
    pub request: GenerateRequest,
    /// Index of the picture among those of the request, from 0.
    pub picture: u32,
}

/// How the pictures of a sheet were drawn: a comparison of plans, or a grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SheetParameters {
    /// The request of each picture, row by row; at most [`SHEET_PICTURES`].
    pub requests: Vec<GenerateRequest>,
    /// The place in the page that shows the same, without a slash at its beginning: `c/…` or
    /// `grid?…`.
    pub page: String,
}

/// How whatever is in a file was drawn.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FileParameters {
    /// One picture, or several of one request, or the scales on the way to one.
    Picture(PictureParameters),
    /// Several pictures of a request each.
    Sheet(SheetParameters),
}

/// Why a file does not say how it was drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParametersError {
    /// It does not begin as a file does that is read here.
    #[error(
        "this is no PNG, WebP, GIF or MP4 file; give a picture that was downloaded here, as it was \
         downloaded"
    )]
    OtherFormat,
    /// It ends before its end.
    #[error("the {0} file is cut off after {1} bytes; download it again")]
    Cut(FileFormat, usize),
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
    /// It is a sheet, where one picture is wanted.
    #[error(
        "the file is a sheet of {0} pictures, each of a request of its own; give one picture, or \
         open the sheet on the playground"
    )]
    Sheet(usize),
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

impl FileParameters {
    /// Reads the parameters in a PNG, WebP, GIF or MP4 file. Nothing is decoded or unpacked, and no
    /// byte is trusted.
    ///
    /// # Errors
    /// When there are none, or the file is not whole.
    pub fn of(bytes: &[u8]) -> Result<Self, ParametersError> {
        let text = text(bytes, PARAMETERS_KEYWORD)?;
        // A text of others may be anything; what is wrong with it is said within bounds.
        let other = |reason: String| ParametersError::Other(reason.chars().take(200).collect());
        let of_picture = match from_json_object(text.as_bytes()) {
            Ok(picture) => return Ok(Self::Picture(picture)),
            Err(error) => error,
        };
        match from_json_object::<SheetParameters>(text.as_bytes()) {
            Ok(sheet) => match sheet.requests.len() {
                1..=SHEET_PICTURES => Ok(Self::Sheet(sheet)),
                count => Err(other(format!(
                    "a sheet has 1 to {SHEET_PICTURES} pictures, this one has {count}"
                ))),
            },
            Err(_) => Err(other(of_picture.to_string())),
        }
    }
}

/// The text of a keyword in a file.
fn text(bytes: &[u8], keyword: &str) -> Result<String, ParametersError> {
    let text = match FileFormat::of(bytes).ok_or(ParametersError::OtherFormat)? {
        FileFormat::Png => png::text(bytes, keyword)?,
        FileFormat::WebP => webp::text(bytes, keyword)?,
        FileFormat::Gif => gif::text(bytes, keyword)?,
        FileFormat::Mp4 => mp4::text(bytes, keyword)?,
    };
    let text = text.ok_or(ParametersError::None)?;
    if text.len() > MAX_TEXT {
        return Err(ParametersError::TooLong(text.len()));
    }
    Ok(text)
}

impl WalkRequest {
    /// Reads the walk in a file that is one; nothing if the file holds none that can be read. No
    /// byte is trusted.
    pub fn of_file(bytes: &[u8]) -> Option<Self> {
        from_json_object(text(bytes, WALK_KEYWORD).ok()?.as_bytes()).ok()
    }
}

impl PictureParameters {
    /// Reads the parameters in a file of one picture, or of several of one request.
    ///
    /// # Errors
    /// As [`FileParameters::of`], and for a sheet.
    pub fn of(bytes: &[u8]) -> Result<Self, ParametersError> {
        match FileParameters::of(bytes)? {
            FileParameters::Picture(picture) => Ok(picture),
            FileParameters::Sheet(sheet) => Err(ParametersError::Sheet(sheet.requests.len())),
        }
    }
}

/// Which kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// PNG, still or animated (APNG).
    Png,
    /// WebP, still or animated.
    WebP,
    /// GIF.
    Gif,
    /// MP4.
    Mp4,
}

impl FileFormat {
    /// The format that a file begins as, if it is one of these.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            // By its first brand: pictures (AVIF, HEIC) are such files, too.
            [_, _, _, _, b'f', b't', b'y', b'p', b'i', b's', b'o', _, ..]
            | [_, _, _, _, b'f', b't', b'y', b'p', b'm', b'p', b'4', _, ..] => Some(Self::Mp4),
            _ => None,
        }
    }
}

impl std::fmt::Display for FileFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Mp4 => "MP4",
        })
    }
}

/// What a picture file holds, by the pieces around its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileShape {
    /// Which kind of file.
    pub format: FileFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Whether it is an animation.
    pub is_animated: bool,
    /// Whether the animation is a walk, whose request is that of its first picture. Other
    /// animations end with the picture of their request.
    pub is_walk: bool,
}

impl FileShape {
    /// Reads the shape of a file, if it is one that is read here. Nothing is decoded, and no byte
    /// is trusted.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let format = FileFormat::of(bytes)?;
        match format {
            FileFormat::Png => png::shape(bytes),
            FileFormat::WebP => webp::shape(bytes),
            FileFormat::Gif => gif::shape(bytes),
            FileFormat::Mp4 => mp4::shape(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG of no pixels with a text.
    fn with(text: &str) -> Vec<u8> {
        // The checksum of the header is not looked at.
        let header = b"\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\0\0\0\0";
        let end = b"\0\0\0\0IEND\xae\x42\x60\x82";
        let plain = [&b"\x89PNG\r\n\x1a\n"[..], header, end].concat();
        with_texts(&plain, &[(PARAMETERS_KEYWORD, text.to_owned())])
    }

    fn sheet(count: usize) -> SheetParameters {
        let plan = crate::Plan::FewStep { t_list: vec![0], loss_split_t: 3 };
        let requests = (0..count).map(|class| GenerateRequest::new(class as u32, plan.clone()));
        SheetParameters { requests: requests.collect(), page: "grid?across=seed".into() }
    }

    #[test]
    fn a_sheet_says_how_each_of_its_pictures_was_drawn() {
        let written = with(&serde_json::to_string(&sheet(6)).unwrap());
        assert_eq!(FileParameters::of(&written), Ok(FileParameters::Sheet(sheet(6))));
        assert_eq!(PictureParameters::of(&written), Err(ParametersError::Sheet(6)));
        for count in [0, SHEET_PICTURES + 1] {
            let written = with(&serde_json::to_string(&sheet(count)).unwrap());
            let told = FileParameters::of(&written).unwrap_err().to_string();
            assert!(told.contains(&count.to_string()), "{told}");
        }
        let most = with(&serde_json::to_string(&sheet(SHEET_PICTURES)).unwrap());
        assert!(FileParameters::of(&most).is_ok());
    }

    #[test]
    fn a_walk_is_read_from_its_file_and_from_no_other() {
        let walk = serde_json::json!({
            "request": {"class": 1, "plan": {"kind": "few_step", "t_list": [0], "loss_split_t": 3}},
            "weights": [[1.0, 0.0], [0.0, 1.0]], "format": "apng", "page": "explore?at=1-2",
        });
        let plain = with("{}");
        let file = |text: String| with_texts(&plain, &[(WALK_KEYWORD, text)]);
        let read = WalkRequest::of_file(&file(walk.to_string())).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap()["page"], walk["page"]);
        for other in [plain.clone(), file("{\"weights\":1}".into()), file("[]".into())] {
            assert_eq!(WalkRequest::of_file(&other), None);
        }
    }

    #[test]
    fn what_is_printed_of_a_file_is_the_request_itself() {
        let printed = serde_json::to_value(FileParameters::Sheet(sheet(2))).unwrap();
        assert!(printed["requests"].is_array() && printed["page"].is_string(), "{printed}");
    }
}
