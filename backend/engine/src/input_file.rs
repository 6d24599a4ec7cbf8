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

use serde::de::DeserializeOwned;

/// Bytes at the start of a file that [`FileKind::of_start`] looks at.
pub const START: usize = 1024;

/// Opens a regular file for reading. Never waits, as opening a pipe would.
///
/// # Errors
/// As [`File::open`], but a link to nowhere is named for one; and [`io::ErrorKind::InvalidInput`]
/// when it is a directory, a pipe, a device or a socket.
pub fn open(path: &Path) -> io::Result<File> {
    // Without the flag, opening a pipe waits for somebody who writes; on a file it has no effect.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|error| match path.read_link() {
        Ok(target) if error.kind() == io::ErrorKind::NotFound => {
            let reason = format!("it is a link to {target:?}, and nothing is there");
            io::Error::new(io::ErrorKind::NotFound, reason)
        }
        _ => error,
    })?;
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
/// As [`open`], when reading fails, and [`io::ErrorKind::OutOfMemory`] when the file is larger than
/// the memory: one with holes may have any length.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(file.metadata()?.len() as usize)?;
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

/// What a file of JSON holds, by all its bytes. A byte order mark, which some editors put first, is
/// passed over.
///
/// # Errors
/// What the file is if it is no JSON at all; else what is wrong in it and where.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(text).map_err(|error| {
        match FileKind::of_start(bytes.get(..START).unwrap_or(bytes)) {
            None | Some(FileKind::Json(None)) => error.to_string(),
            Some(kind) => kind.to_string(),
        }
    })
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
    /// A zip archive of anything else, with the name of its first file.
    Zip(Option<String>),
    /// Weights in the safetensors format.
    Safetensors,
    /// A PyTorch checkpoint, as a zip archive or in the older container.
    Checkpoint,
    /// A single array of NumPy.
    NumpyArray,
    /// An archive of NumPy's arrays.
    NumpyArchive,
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
    /// What a file that begins so is; `None` if that is not known.
    pub fn of_start(start: &[u8]) -> Option<Self> {
        const SIGNATURES: [(&[u8], FileKind); 21] = [
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
        if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
            return Some(Self::of_zip(start));
        }
        if is_old_checkpoint(start) {
            return Some(Self::Checkpoint);
        }
        // The version of the format, and the field that a model has after it.
        if let [0x08, 1..=31, 0x12 | 0x1a | 0x22 | 0x3a | 0x42, ..] = start {
            return Some(Self::OtherWeights("ONNX"));
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

    /// A zip archive, by the name of its first file: what wrote it wrote that first.
    fn of_zip(start: &[u8]) -> Self {
        let length = start.get(26..28).map_or(0, |two| u16::from_le_bytes([two[0], two[1]]));
        let name = start.get(30..30 + usize::from(length)).filter(|name| !name.is_empty());
        match name.map(String::from_utf8_lossy) {
            Some(name) if name == "data.pkl" || name.ends_with("/data.pkl") => Self::Checkpoint,
            Some(name) if name.ends_with(".npy") => Self::NumpyArchive,
            name => Self::Zip(name.map(|name| shown(&name))),
        }
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
        if is_text_pickle(text) {
            return Some(Self::Pickle);
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
            Self::Zip(Some(name)) => {
                write!(f, "it is a zip archive, beginning with {name:?}; unpack it first")
            }
            Self::Zip(None) => f.write_str("it is a zip archive; unpack it first"),
            Self::Safetensors => f.write_str("it is a safetensors file"),
            Self::Checkpoint => f.write_str(
                "it is a PyTorch checkpoint (.pth); `var-dd convert` makes a model of a student's \
                 and a VAE's",
            ),
            Self::NumpyArray => f.write_str("it is an array of NumPy (.npy)"),
            Self::NumpyArchive => f.write_str("it is an archive of NumPy (.npz)"),
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

/// How a file of PyTorch's older container begins: protocol 2 of pickles and the long integer
/// `0x1950a86a20f9469cfc6c`.
pub(crate) const OLD_CHECKPOINT: &[u8] =
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Whether a file begins as that container does, in any protocol of pickles that has a number.
pub(crate) fn is_old_checkpoint(start: &[u8]) -> bool {
    let number = &OLD_CHECKPOINT[2..];
    let rest = match start {
        [0x80, 2..=5, rest @ ..] => rest,
        _ => return false,
    };
    // From protocol 4 on a frame with its length in eight bytes may be around it.
    let framed = rest.strip_prefix(&[0x95]).and_then(|frame| frame.get(8..));
    framed.unwrap_or(rest).starts_with(number)
}

/// Whether text is a pickle of protocol 0: a dictionary, a list or a tuple that is noted by number
/// (`(dp0`), or an object of a class, which two lines name (`ccollections`, `OrderedDict`).
fn is_text_pickle(text: &str) -> bool {
    let mut lines = text.lines();
    let mut line = || lines.next().unwrap_or_default();
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
    };
    let is_note = |note: &str| {
        let number = note.strip_prefix('p').unwrap_or_default();
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    };
    let first = line();
    let noted = ["(d", "(l", "(t"].iter().find_map(|begin| first.strip_prefix(begin));
    match first.strip_prefix('c') {
        Some(module) => is_name(module) && is_name(line()) && is_note(line()),
        None => noted.is_some_and(is_note),
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
        let zip = |name: &str| {
            let mut start = b"PK\x03\x04".to_vec();
            start.resize(30, 0);
            start[26] = name.len() as u8;
            [start, name.into()].concat()
        };
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
            (b"(dp0\nVa\np1\nI1\ns.".to_vec(), "a plain pickle"),
            (b"ccollections\nOrderedDict\np0\n(tRp1\n.".to_vec(), "a plain pickle"),
            (b"cats\ndogs\nbirds".to_vec(), "text, beginning \"cats\""),
            (OLD_CHECKPOINT.to_vec(), "a PyTorch checkpoint"),
            (zip("archive/data.pkl"), "`var-dd convert`"),
            (zip("arr_0.npy"), "an archive of NumPy (.npz)"),
            (zip("a/photo.jpg"), "beginning with \"a/photo.jpg\"; unpack"),
            (b"PK\x05\x06\0\0".to_vec(), "a zip archive"),
            (b"\x08\x03\x12\x07pytorch".to_vec(), "ONNX"),
            (b"\x08\x0a\x3a\x05".to_vec(), "ONNX"),
            (vec![0; 64], "zero bytes"),
            (b"hello there\nmore".to_vec(), "text, beginning \"hello there\""),
        ];
        for (start, words) in cases {
            let kind = FileKind::of_start(&start).unwrap();
            assert!(kind.to_string().contains(words), "{words}: {kind}");
        }
        assert_eq!(FileKind::of_start(b"PK\x03\x04\x14\0"), Some(FileKind::Zip(None)));
        assert_eq!(FileKind::of_start(&[0x9c, 0xff, 0, 1, 2]), None);
    }

    #[test]
    fn json_is_read_after_a_mark_and_what_is_none_is_named() {
        let read = |bytes: &[u8]| parse_json::<Vec<i64>>(bytes);
        assert_eq!(read(b"\xef\xbb\xbf[1, 2]"), Ok(vec![1, 2]));
        let cases: [(&[u8], &str); 6] = [
            (b"<!DOCTYPE html><title>Log in</title>", "a web page (\"Log in\")"),
            (b"version https://git-lfs.github.com/spec/v1\nsize 7\n", "a Git LFS pointer"),
            (b"\x1f\x8b\x08\0", "`gunzip`"),
            (b"", "it is empty"),
            (br#"{"error": "Not found"}"#, "a JSON message (\"Not found\")"),
            (b"[1, \"two\"]", "expected i64 at line 1"),
        ];
        for (bytes, words) in cases {
            let error = read(bytes).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn a_link_to_nowhere_is_named_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("gone", &link).unwrap();
        let error = open(&link).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("a link to \"gone\""), "{error}");
    }

    #[test]
    fn text_from_files_is_shown_on_one_short_line() {
        assert_eq!(shown("head.weight"), "head.weight");
        assert_eq!(shown("a\u{1b}[31m\nb\u{202e}"), "a\\u{1b}[31m\\nb\\u{202e}");
        let long = shown(&"x".repeat(10_000_000));
        assert!(long.len() < 120 && long.contains("9999920 more"), "{long}");
    }
}
