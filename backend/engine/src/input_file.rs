//! Opening a file that somebody named, and saying what it is when it is not what it should be.
//!
//! Files of weights and pictures are fetched by browsers, cloned without their large objects,
//! unpacked once too seldom, or mistaken for each other. What they then hold shows in their first
//! bytes, and a name for it helps more than "not a zip archive".

use std::{
    fmt::{self, Display},
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

/// Bytes at the start of a file that [`FileKind::of_start`] looks at.
pub const START: usize = 1024;

/// Opens a regular file for reading. Never waits, as opening a pipe would.
///
/// # Errors
/// As [`File::open`], and [`io::ErrorKind::InvalidInput`] when it is a directory, a pipe, a device
/// or a socket.
pub fn open(path: &Path) -> io::Result<File> {
    // Without the flag, opening a pipe waits for somebody who writes; on a file it has no effect.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    let what = if kind.is_file() {
        return Ok(file);
    } else if kind.is_dir() {
        "it is a directory"
    } else if kind.is_fifo() {
        "it is a pipe"
    } else if kind.is_socket() {
        "it is a socket"
    } else {
        "it is a device"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{what}; give a file")))
}

/// Reads a regular file whole.
///
/// # Errors
/// As [`open`], and when reading fails.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let mut bytes = Vec::with_capacity(file.metadata()?.len() as usize);
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a regular file of text whole.
///
/// # Errors
/// As [`read`], and [`io::ErrorKind::InvalidData`] when it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))
}

/// The first [`START`] bytes of a file, or as many as it has.
///
/// # Errors
/// When reading fails.
pub fn start(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(START as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a file is, by its first bytes. `Display` says it with advice, as in "it is a web page …".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Nothing at all.
    Empty,
    /// HTML: what a site answers in place of a file, with its title.
    WebPage(Option<String>),
    /// XML, as an object store answers.
    Xml,
    /// A pointer of Git LFS, with the size of what it points to.
    LfsPointer(Option<u64>),
    /// The index of a checkpoint in several files.
    ShardIndex,
    /// Any other JSON, with the message of an error if it has one.
    Json(Option<String>),
    /// Compressed by the named program.
    Compressed(&'static str),
    /// An archive of files, made by the named program.
    Archive(&'static str),
    /// Weights in the safetensors format.
    Safetensors,
    /// A single array of NumPy.
    NumpyArray,
    /// Weights for another program, in the named format.
    OtherWeights(&'static str),
    /// A plain pickle, without PyTorch's container.
    Pickle,
    /// A picture.
    Picture(&'static str),
    /// A program or library.
    Executable,
    /// Zero bytes: room that was never written to.
    Zeros,
    /// Some text, with its first line.
    Text(String),
}

impl FileKind {
    /// What a file that begins so is; `None` if that is not known, as of a zip archive.
    pub fn of_start(start: &[u8]) -> Option<Self> {
        const SIGNATURES: [(&[u8], FileKind); 23] = [
            (b"\x1f\x8b", FileKind::Compressed("gzip")),
            (b"\x28\xb5\x2f\xfd", FileKind::Compressed("zstd")),
            (b"\xfd7zXZ\0", FileKind::Compressed("xz")),
            (b"BZh", FileKind::Compressed("bzip2")),
            (b"\x04\x22\x4d\x18", FileKind::Compressed("lz4")),
            (b"7z\xbc\xaf\x27\x1c", FileKind::Archive("7-Zip")),
            (b"Rar!\x1a\x07", FileKind::Archive("RAR")),
            (b"\x93NUMPY", FileKind::NumpyArray),
            (b"\x89HDF\r\n\x1a\n", FileKind::OtherWeights("HDF5 (Keras)")),
            (b"GGUF", FileKind::OtherWeights("GGUF (llama.cpp)")),
            (b"\x08\x07\x12", FileKind::OtherWeights("ONNX")),
            (b"\x08\x08\x12", FileKind::OtherWeights("ONNX")),
            (b"\x89PNG\r\n\x1a\n", FileKind::Picture("PNG")),
            (b"\xff\xd8\xff", FileKind::Picture("JPEG")),
            (b"GIF8", FileKind::Picture("GIF")),
            (b"RIFF", FileKind::Picture("WebP")),
            (b"BM", FileKind::Picture("BMP")),
            (b"%PDF", FileKind::Picture("PDF")),
            (b"\x7fELF", FileKind::Executable),
            (b"\x80\x02", FileKind::Pickle),
            (b"\x80\x03", FileKind::Pickle),
            (b"\x80\x04", FileKind::Pickle),
            (b"\x80\x05", FileKind::Pickle),
        ];
        if start.is_empty() {
            return Some(Self::Empty);
        }
        if let Some((_, kind)) = SIGNATURES.iter().find(|(bytes, _)| start.starts_with(bytes)) {
            return Some(kind.clone());
        }
        if start.get(257..262) == Some(b"ustar") {
            return Some(Self::Archive("tar"));
        }
        // A header's length in eight bytes, then the header.
        let header = start.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
        if header.is_some_and(|length| (2..100 << 20).contains(&length))
            && start.get(8) == Some(&b'{')
        {
            return Some(Self::Safetensors);
        }
        if start.len() >= 16 && start.iter().all(|&byte| byte == 0) {
            return Some(Self::Zeros);
        }
        Self::of_text(start)
    }

    /// A web page in another encoding than UTF-8: Latin letters are the same in all of them, but for
    /// the zeros between those of UTF-16.
    fn of_page(start: &[u8]) -> Option<Self> {
        let letters: Vec<u8> = start.iter().copied().filter(|&byte| byte != 0).collect();
        let text = String::from_utf8_lossy(&letters).to_ascii_lowercase();
        let text = text.trim_start_matches(|c: char| !c.is_ascii_graphic());
        let is_page = text.starts_with("<!doctype html") || text.starts_with("<html");
        is_page.then_some(Self::WebPage(None))
    }

    fn of_text(start: &[u8]) -> Option<Self> {
        // The last character may be cut.
        let text = match std::str::from_utf8(start) {
            Ok(text) => text,
            Err(error) if start.len() == START && error.valid_up_to() + 4 > START => {
                std::str::from_utf8(&start[..error.valid_up_to()]).ok()?
            }
            Err(_) => return Self::of_page(start),
        };
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
            return None;
        }
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
            let title = lower.find("<title>").and_then(|at| {
                let rest = &text[at + "<title>".len()..];
                Some(shown(rest.split('<').next()?.trim()))
            });
            return Some(Self::WebPage(title.filter(|title| !title.is_empty())));
        }
        if lower.starts_with("<?xml") || lower.starts_with("<error") {
            return Some(Self::Xml);
        }
        if text.starts_with("version https://git-lfs") {
            let size =
                text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
            return Some(Self::LfsPointer(size));
        }
        if text.starts_with('{') || text.starts_with('[') {
            if text.contains("\"weight_map\"") {
                return Some(Self::ShardIndex);
            }
            let value: Option<serde_json::Value> = serde_json::from_str(text).ok();
            let message = ["error", "message", "detail"]
                .into_iter()
                .find_map(|key| Some(shown(value.as_ref()?.get(key)?.as_str()?)));
            return Some(Self::Json(message));
        }
        let line = text.lines().next().unwrap_or_default();
        Some(if line.is_empty() { Self::Empty } else { Self::Text(shown(line)) })
    }
}

impl Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const AGAIN: &str = "fetch the file itself again";
        match self {
            Self::Empty => write!(f, "it is empty; {AGAIN}"),
            Self::WebPage(title) => {
                let title = title.as_ref().map(|title| format!(" ({title:?})")).unwrap_or_default();
                write!(
                    f,
                    "it is a web page{title}, as a site answers where it wants a log-in or has no \
                     such file; {AGAIN}, from its direct address"
                )
            }
            Self::Xml => write!(f, "it is XML, as a store answers in place of a file; {AGAIN}"),
            Self::LfsPointer(size) => {
                let size = size.map(|size| format!(" to {size} bytes")).unwrap_or_default();
                write!(
                    f,
                    "it is a Git LFS pointer{size}, not the file itself; run `git lfs pull` where \
                     it was cloned, or download the file"
                )
            }
            Self::ShardIndex => f.write_str(
                "it is the index of a checkpoint in several files; load all of them in Python and \
                 save them as one file with torch.save or safetensors' save_file",
            ),
            Self::Json(Some(message)) => {
                write!(f, "it is a JSON message ({message:?}) in place of a file; {AGAIN}")
            }
            Self::Json(None) => f.write_str("it is JSON; give the file of the weights"),
            Self::Compressed(program) => {
                let unpack = match *program {
                    "gzip" => "gunzip",
                    "bzip2" => "bunzip2",
                    "xz" => "unxz",
                    "lz4" => "unlz4",
                    _ => "unzstd",
                };
                write!(f, "it is compressed by {program}; unpack it first (`{unpack}`)")
            }
            Self::Archive(program) => {
                write!(f, "it is an archive of files ({program}); unpack it first")
            }
            Self::Safetensors => f.write_str("it is a safetensors file"),
            Self::NumpyArray => f.write_str("it is an array of NumPy (.npy)"),
            Self::OtherWeights(format) => write!(
                f,
                "it holds weights in another format, {format}; give the PyTorch checkpoint (.pth) \
                 or safetensors"
            ),
            Self::Pickle => f.write_str(
                "it is a plain pickle, not a file of torch.save; load it in Python and save it \
                 with torch.save",
            ),
            Self::Picture(format) => write!(f, "it is a picture or document ({format})"),
            Self::Executable => f.write_str("it is a program"),
            Self::Zeros => {
                write!(f, "it begins with zero bytes: it was never written whole; {AGAIN}")
            }
            Self::Text(line) => write!(f, "it is text, beginning {line:?}; {AGAIN}"),
        }
    }
}

/// A name or text from a file as it may be shown: on one line, without control characters, and no
/// longer than a line.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            let more = text.chars().count() - LONGEST;
            shown += &format!("… ({more} more characters)");
            break;
        }
        match c {
            c if c.is_control() => shown.extend(c.escape_default()),
            // Marks that turn the direction of what follows, and ones without width.
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' => {
                shown.extend(c.escape_unicode());
            }
            c => shown.push(c),
        }
    }
    shown
}

/// The first few of some names, as they may be shown.
pub fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let more = names.len().saturating_sub(SHOWN);
    let listed = names.take(SHOWN).map(shown).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{listed}, and {more} more") } else { listed }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    #[test]
    fn a_web_page_is_one_in_every_encoding() {
        let wide = |order: fn(u16) -> [u8; 2]| {
            "\u{feff}<!DOCTYPE html>é".encode_utf16().flat_map(order).collect::<Vec<_>>()
        };
        for page in [
            b"<html><title>Acc\xe8s refus\xe9</title>".to_vec(),
            b"\xef\xbb\xbf\r\n<!doctype HTML>\xe9".to_vec(),
            wide(u16::to_le_bytes),
            wide(u16::to_be_bytes),
        ] {
            let kind = FileKind::of_start(&page);
            assert!(matches!(kind, Some(FileKind::WebPage(_))), "{page:?}: {kind:?}");
        }
        assert_eq!(FileKind::of_start(b"\x00\x01\xff<htm\xe9"), None);
    }

    #[test]
    fn what_is_no_file_is_named_and_never_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (path, what) in [
            (pipe.as_path(), "pipe"),
            (directory.path(), "directory"),
            (Path::new("/dev/null"), "device"),
        ] {
            let error = open(path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(what), "{error}");
        }
        let file = directory.path().join("file");
        fs::write(&file, "text").unwrap();
        assert_eq!(read_text(&file).unwrap(), "text");
        fs::write(&file, b"\xff").unwrap();
        assert!(read_text(&file).unwrap_err().to_string().contains("UTF-8"));
    }

    #[test]
    fn files_are_named_for_what_they_are() {
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (vec![], "it is empty"),
            (b"<!DOCTYPE html><html><title>Log in</title>".to_vec(), "a web page (\"Log in\")"),
            (b"\n<HTML><body>".to_vec(), "a web page"),
            (b"<?xml version=\"1.0\"?><Error/>".to_vec(), "it is XML"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 77\n".to_vec(),
                "a Git LFS pointer to 77 bytes",
            ),
            (br#"{"error":"Repository not found"}"#.to_vec(), "\"Repository not found\""),
            (br#"{"weight_map":{"a":"b"}}"#.to_vec(), "a checkpoint in several files"),
            (b"[1, 2]".to_vec(), "it is JSON"),
            (b"\x1f\x8b\x08\0".to_vec(), "`gunzip`"),
            (b"\x28\xb5\x2f\xfd".to_vec(), "`unzstd`"),
            (tar, "an archive of files (tar)"),
            (b"\x20\0\0\0\0\0\0\0{\"a\":".to_vec(), "a safetensors file"),
            (b"\x93NUMPY\x01\0".to_vec(), "an array of NumPy"),
            (b"\x80\x04\x95".to_vec(), "a plain pickle"),
            (vec![0; 64], "zero bytes"),
            (b"hello there\nmore".to_vec(), "text, beginning \"hello there\""),
        ];
        for (start, words) in cases {
            let kind = FileKind::of_start(&start).unwrap();
            assert!(kind.to_string().contains(words), "{words}: {kind}");
        }
        assert_eq!(FileKind::of_start(b"PK\x03\x04\x14\0"), None);
        assert_eq!(FileKind::of_start(&[0x9c, 0xff, 0, 1, 2]), None);
    }

    #[test]
    fn text_from_files_is_shown_on_one_short_line() {
        assert_eq!(shown("head.weight"), "head.weight");
        assert_eq!(shown("a\u{1b}[31m\nb\u{202e}"), "a\\u{1b}[31m\\nb\\u{202e}");
        let long = shown(&"x".repeat(10_000_000));
        assert!(long.len() < 120 && long.contains("9999920 more"), "{long}");
    }
}
