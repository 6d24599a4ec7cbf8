//! NumPy's `.npz` archives, zip files of `.npy` arrays, and single `.npy` files.
//!
//! The format is that of `numpy/lib/format.py`, versions 1 to 3. Arrays are read piece by piece, so
//! a set of pictures may be larger than the memory; sizes are compared with the length of the file
//! before anything is allocated.

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use flate2::read::DeflateDecoder;
use tch::{Kind, Tensor};
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::input_file::{self, FileKind, shown};

/// How a `.npy` file begins.
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longest header that is read.
const MAX_HEADER: usize = 64 << 10;

/// Largest array that is read as a whole; statistics of 2,048 features have 32 MiB.
const MAX_TENSOR: u64 = 1 << 30;

/// Largest picture in bytes.
const MAX_PICTURE: usize = 1 << 30;

/// Most bytes of pictures read at a time, unless one alone has more.
const MAX_PIECE: usize = 256 << 20;

/// Most bytes that one compressed byte becomes: 258 for each two bits (RFC 1951).
const MAX_DEFLATION: u64 = 1032;

/// An archive that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", .path.display())]
pub struct NpzError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// An open archive.
#[derive(Debug)]
pub struct Npz {
    path: PathBuf,
    arrays: Vec<Member>,
}

/// Where an array lies.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    start: u64,
    compressed: u64,
    size: u64,
    deflated: bool,
    /// A single array has none.
    crc32: Option<u32>,
}

impl Member {
    /// Bytes that it can have at most in a file of this length: its size is only a claim.
    fn bytes_at_most(&self, length: u64) -> u64 {
        let stored = self.compressed.min(length.saturating_sub(self.start));
        if self.deflated { stored.saturating_mul(MAX_DEFLATION) } else { stored }
    }
}

/// What an array is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// NumPy's name of the number type, as `|u1` or `<f8`.
    pub descr: String,
    /// Sizes.
    pub shape: Vec<usize>,
    /// Whether the first index runs fastest.
    pub fortran_order: bool,
}

impl Npz {
    /// Opens an archive and reads its list of arrays. A single array (`.npy`) counts as an archive
    /// of one, which NumPy would call `arr_0`.
    ///
    /// # Errors
    /// When the file cannot be read, is cut off, or is something else; says what it is.
    pub fn open(path: &Path) -> Result<Self, NpzError> {
        let refuse = |reason: String| NpzError { path: path.to_owned(), reason };
        let cannot = |error| refuse(format!("it cannot be opened: {error}"));
        let mut file = input_file::open(path).map_err(cannot)?;
        let length = file.metadata().map_err(cannot)?.len();
        let kind = FileKind::of_start(&input_file::start(&mut file).map_err(cannot)?);
        let other = |kind: FileKind| refuse(format!("it is no .npz archive: {kind}"));
        match kind {
            Some(FileKind::NumpyArray) => {
                let name = "arr_0".to_owned();
                let (start, deflated, crc32) = (0, false, None);
                let only =
                    Member { name, start, compressed: length, size: length, deflated, crc32 };
                return Ok(Self { path: path.to_owned(), arrays: vec![only] });
            }
            // Arrays may come after other files.
            None | Some(FileKind::NumpyArchive | FileKind::Zip(_)) => {
                file.rewind().map_err(cannot)?;
            }
            Some(kind) => return Err(other(kind)),
        }
        let cut_off = |error: zip::result::ZipError| {
            refuse(format!(
                "it is no whole .npz archive, its list of arrays cannot be read ({error})"
            ))
        };
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(cut_off)?;
        let mut arrays = Vec::new();
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(cut_off)?;
            let file_name = entry.name().map_err(cut_off)?.into_owned();
            let Some(name) = file_name.strip_suffix(".npy") else { continue };
            let deflated = match entry.compression() {
                CompressionMethod::Stored => false,
                CompressionMethod::Deflated => true,
                other => {
                    return Err(refuse(format!(
                        "array {name:?} is compressed by {other:?}; save it with numpy.savez"
                    )));
                }
            };
            arrays.push(Member {
                name: name.to_owned(),
                start: entry.data_start().unwrap_or_default(),
                compressed: entry.compressed_size(),
                size: entry.size(),
                deflated,
                crc32: Some(entry.crc32()),
            });
        }
        match kind {
            Some(kind @ FileKind::Zip(_)) if arrays.is_empty() => Err(other(kind)),
            _ => Ok(Self { path: path.to_owned(), arrays }),
        }
    }

    /// Names of the arrays.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.arrays.iter().map(|entry| entry.name.as_str())
    }

    /// Whether there is an array of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|found| found == name)
    }

    /// An error about this file's contents.
    pub fn refuse(&self, reason: impl Into<String>) -> NpzError {
        NpzError { path: self.path.clone(), reason: reason.into() }
    }

    /// Opens an array.
    ///
    /// # Errors
    /// When there is none of this name, its header is damaged, or its size is not what the header
    /// says.
    pub fn array(&self, name: &str) -> Result<Array, NpzError> {
        let entry = self.arrays.iter().find(|entry| entry.name == name).ok_or_else(|| {
            let names: Vec<_> = self.names().collect();
            self.refuse(format!("it has no array {name:?}; it has: {}", names.join(", ")))
        })?;
        let failed =
            |error: io::Error| self.refuse(format!("array {name:?} cannot be read: {error}"));
        let mut file = File::open(&self.path).map_err(failed)?;
        let held = entry.bytes_at_most(file.metadata().map_err(failed)?.len());
        file.seek(SeekFrom::Start(entry.start)).map_err(failed)?;
        let bytes = BufReader::with_capacity(1 << 18, file).take(entry.compressed);
        let bytes: Box<dyn Read + Send> =
            if entry.deflated { Box::new(DeflateDecoder::new(bytes)) } else { Box::new(bytes) };
        let mut bytes = Checked { bytes, digest: crc32fast::Hasher::new(), crc32: entry.crc32 };
        let (header, length) = read_header(&mut bytes)
            .map_err(|reason| self.refuse(format!("array {name:?}: {reason}")))?;
        let array = Array { path: self.path.clone(), name: name.to_owned(), header, bytes };
        let elements = array
            .header
            .shape
            .iter()
            .try_fold(1_u64, |product, &size| product.checked_mul(size as u64));
        let announced = elements
            .and_then(|n| n.checked_mul(array.element_bytes()? as u64)?.checked_add(length));
        match announced {
            Some(announced) if announced == entry.size && announced <= held => Ok(array),
            Some(announced) if announced == entry.size => Err(array.refuse(format!(
                "its shape is {:?}, which takes {announced} bytes, and the file holds at most \
                 {held} of it; it is cut off or damaged, copy it again",
                array.header.shape
            ))),
            None if array.header.descr.ends_with('O') => Err(array.refuse(
                "it holds Python objects, which are never run here; save plain arrays, each by its \
                 name, as numpy.savez(file, mu=mu, sigma=sigma) does"
                    .into(),
            )),
            None if array.element_bytes().is_none() => Err(array.refuse(format!(
                "it holds {:?}, which is no number type known here; save statistics as float64 and \
                 pictures as uint8",
                shown(&array.header.descr)
            ))),
            _ => Err(array.refuse(format!(
                "its shape is {:?}, which does not fit its {} bytes",
                array.header.shape, entry.size
            ))),
        }
    }
}

/// Bytes whose checksum is compared when they end.
struct Checked {
    bytes: Box<dyn Read + Send>,
    digest: crc32fast::Hasher,
    crc32: Option<u32>,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        let ended = count == 0 && !buffer.is_empty();
        if ended && self.crc32.is_some_and(|crc32| self.digest.clone().finalize() != crc32) {
            return Err(io::Error::new(ErrorKind::InvalidData, "its checksum is wrong"));
        }
        self.digest.update(&buffer[..count]);
        Ok(count)
    }
}

/// Reads the header of a `.npy` file; also its length in bytes.
fn read_header(bytes: &mut impl Read) -> Result<(Header, u64), String> {
    let mut read = |count: usize| {
        let mut piece = vec![0; count];
        bytes
            .read_exact(&mut piece)
            .map(|()| piece)
            .map_err(|error| format!("it is cut off ({error})"))
    };
    let start = read(MAGIC.len() + 2)?;
    if !start.starts_with(MAGIC) {
        return Err("it is not in NumPy's format".into());
    }
    let (length, size) = match start[MAGIC.len()] {
        1 => (read(2)?.iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte)), 2),
        2 | 3 => (read(4)?.iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte)), 4),
        version => return Err(format!("version {version} of NumPy's format is not known")),
    };
    if length > MAX_HEADER {
        return Err(format!("its header of {length} bytes is absurd"));
    }
    let text = String::from_utf8_lossy(&read(length)?).into_owned();
    let header = parse_header(&text)
        .ok_or_else(|| format!("its header {:?} is not understood", text.trim_end()))?;
    Ok((header, (start.len() + size + length) as u64))
}

/// Reads a header such as `{'descr': '|u1', 'fortran_order': False, 'shape': (8, 256, 256, 3), }`.
fn parse_header(text: &str) -> Option<Header> {
    let value = |key: &str| {
        let (_, rest) = text.split_once(&format!("'{key}'"))?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = value("descr")?.strip_prefix('\'')?.split_once('\'')?.0.to_owned();
    let fortran_order = match value("fortran_order")? {
        rest if rest.starts_with("True") => true,
        rest if rest.starts_with("False") => false,
        _ => return None,
    };
    let sizes = value("shape")?.strip_prefix('(')?.split_once(')')?.0;
    let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape = sizes.map(|size| size.trim_end_matches('L').parse().ok()).collect::<Option<_>>()?;
    Some(Header { descr, shape, fortran_order })
}

/// An array whose elements have not been read yet.
pub struct Array {
    path: PathBuf,
    name: String,
    /// What it is.
    pub header: Header,
    bytes: Checked,
}

impl Array {
    fn refuse(&self, reason: String) -> NpzError {
        let reason = format!("array {:?}: {reason}", shown(&self.name));
        NpzError { path: self.path.clone(), reason }
    }

    /// Bytes of one element, if its type is known here.
    fn element_bytes(&self) -> Option<usize> {
        kind_of(&self.header.descr).map(|(kind, _)| kind.elt_size_in_bytes())
    }

    /// The whole array.
    ///
    /// # Errors
    /// When it is too large or damaged.
    pub fn tensor(mut self) -> Result<Tensor, NpzError> {
        let Header { shape, fortran_order, descr } = self.header.clone();
        let (kind, big_endian) =
            kind_of(&descr).ok_or_else(|| self.refuse(format!("{descr:?} is not known")))?;
        let size = shape.iter().product::<usize>() as u64 * kind.elt_size_in_bytes() as u64;
        if size > MAX_TENSOR {
            return Err(self.refuse(format!("its {size} bytes are more than statistics take")));
        }
        let mut bytes = Vec::new();
        // One byte more is none, but has the checksum compared.
        let read = (&mut self.bytes).take(size + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.refuse(format!("it cannot be read: {error}")))?;
        if bytes.len() as u64 != size {
            let more = if bytes.len() as u64 > size { " or more" } else { "" };
            let count = bytes.len();
            return Err(self.refuse(format!("it has {count} bytes{more} and should have {size}")));
        }
        if big_endian {
            bytes.chunks_exact_mut(kind.elt_size_in_bytes()).for_each(<[u8]>::reverse);
        }
        let sizes =
            |sizes: &mut dyn Iterator<Item = &usize>| sizes.map(|&n| n as i64).collect::<Vec<_>>();
        let stored =
            if fortran_order { sizes(&mut shape.iter().rev()) } else { sizes(&mut shape.iter()) };
        let tensor = Tensor::f_from_data_size(&bytes, &stored, kind);
        let tensor = tensor.map_err(|error| self.refuse(error.to_string()))?;
        let axes: Vec<i64> = (0..shape.len() as i64).rev().collect();
        Ok(if fortran_order { tensor.permute(axes) } else { tensor })
    }

    /// The array as pictures. Colours may come last, `[N, H, W, 3]`, or first, `[N, 3, H, W]`.
    ///
    /// # Errors
    /// When it is not of unsigned bytes in one of these shapes, with N, H and W at least 1; says
    /// how to make it so.
    pub fn pictures(self) -> Result<PictureReader, NpzError> {
        let Header { descr, shape, fortran_order } = &self.header;
        let (count, height, width, colours_first) = match *shape.as_slice() {
            [count, height, width, 3] => (count, height, width, false),
            [count, 3, height, width] => (count, height, width, true),
            _ => (0, 0, 0, false),
        };
        let advice = if count.min(height).min(width) == 0 {
            match shape.as_slice() {
                [0, ..] => "; there are none in it",
                [_, _, 3] => "; one picture becomes a set of one by picture[None]",
                [_, _, 3, _] => "; if the last axis counts them: numpy.moveaxis(pictures, -1, 0)",
                [_, _, _, 1] | [_, 1, _, _] | [_, _, _] => {
                    "; grey pictures become RGB by numpy.repeat along the last axis"
                }
                [_, _, _, 4] | [_, 4, _, _] => "; drop the transparency, as in pictures[..., :3]",
                _ => "",
            }
        } else if height.saturating_mul(width).saturating_mul(3) > MAX_PICTURE {
            "; one of these has more than 1 GiB, which no picture here takes"
        } else if descr != "|u1" {
            let float = descr.contains('f');
            if float {
                "; if they go from 0 to 1: (pictures * 255 + 0.5).clip(0, 255).astype('uint8')"
            } else {
                "; convert them with astype('uint8')"
            }
        } else if *fortran_order {
            "; bring them in order with numpy.ascontiguousarray"
        } else {
            return Ok(PictureReader { count, height, width, colours_first, read: 0, array: self });
        };
        let order = if *fortran_order { " in Fortran order" } else { "" };
        Err(self.refuse(format!(
            "it is {} {shape:?}{order}; pictures are |u1 (unsigned bytes) [N, H, W, 3]{advice}",
            shown(descr)
        )))
    }
}

/// A number type by NumPy's name, and whether its most significant byte comes first.
fn kind_of(descr: &str) -> Option<(Kind, bool)> {
    let (order, code) = descr.split_at_checked(1)?;
    let kind = match code {
        "u1" => Kind::Uint8,
        "i1" => Kind::Int8,
        "b1" => Kind::Bool,
        "i2" => Kind::Int16,
        "i4" => Kind::Int,
        "i8" => Kind::Int64,
        "f2" => Kind::Half,
        "f4" => Kind::Float,
        "f8" => Kind::Double,
        _ => return None,
    };
    match order {
        "<" | "|" => Some((kind, false)),
        ">" => Some((kind, true)),
        _ => None,
    }
}

/// Pictures of an array, piece by piece.
pub struct PictureReader {
    /// Pictures in all.
    pub count: usize,
    /// Rows of a picture.
    pub height: usize,
    /// Columns of a picture.
    pub width: usize,
    /// Whether all of red comes before all of green.
    pub colours_first: bool,
    read: usize,
    array: Array,
}

impl PictureReader {
    /// The next pictures, `most` at most, and fewer where they are large: u8 `[B, H, W, 3]`. `None`
    /// at the end, where the checksum is compared.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn next(&mut self, most: usize) -> Result<Option<Tensor>, NpzError> {
        let picture = self.height * self.width * 3;
        let count = most.min((MAX_PIECE / picture).max(1)).min(self.count - self.read);
        let mut bytes = Vec::new();
        let read = if count == 0 {
            // One byte more is none, but has the checksum compared.
            self.array.bytes.read(&mut [0]).map(drop)
        } else {
            read_whole(&mut self.array.bytes, count * picture, &mut bytes)
        };
        read.map_err(|error| {
            self.array.refuse(format!("it cannot be read after picture {}: {error}", self.read))
        })?;
        if count == 0 {
            return Ok(None);
        }
        self.read += count;
        let [count, height, width] = [count, self.height, self.width].map(|size| size as i64);
        let tensor = if self.colours_first {
            Tensor::f_from_data_size(&bytes, &[count, 3, height, width], Kind::Uint8)
                .and_then(|tensor| tensor.f_permute([0, 2, 3, 1])?.f_contiguous())
        } else {
            Tensor::f_from_data_size(&bytes, &[count, height, width, 3], Kind::Uint8)
        };
        tensor.map(Some).map_err(|error| self.array.refuse(error.to_string()))
    }
}

/// Reads so many bytes. Takes memory as they come: a compressed file may have fewer of them than it
/// could.
fn read_whole(from: &mut impl Read, size: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    let read = from.take(size as u64).read_to_end(bytes)?;
    if read < size {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "it ends too early"));
    }
    Ok(())
}

/// Header of a `.npy` file of version 1, padded as NumPy does it.
fn header_bytes(descr: &str, shape: &[usize]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let sizes = if shape.len() == 1 { sizes.trim_end() } else { sizes.trim_end_matches(", ") };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let before = MAGIC.len() + 4;
    let padded = (before + text.len() + 1).next_multiple_of(64);
    text.extend(std::iter::repeat_n(' ', padded - before - text.len() - 1));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.bytes());
    bytes
}

/// Plainly stored, of any size, the same bytes whenever they are written.
fn options() -> SimpleFileOptions {
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    stored.large_file(true).last_modified_time(DateTime::default())
}

/// A file whose first failure is its last: what comes after it is left out and counts as written.
///
/// A `ZipWriter` ends its archive when it is dropped, after a failure too, and prints what fails
/// then. By that time the failure has been returned to whoever writes.
struct FailsOnce<W> {
    file: W,
    at: u64,
    /// The furthest position so far. After a failure it is the only one, so that what is written
    /// never seems to end before it begins.
    end: u64,
    failure: Option<ErrorKind>,
}

impl<W> FailsOnce<W> {
    fn new(file: W) -> Self {
        Self { file, at: 0, end: 0, failure: None }
    }

    fn noted<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        // What was only interrupted is tried again.
        let failure = outcome.as_ref().err().map(io::Error::kind);
        self.failure = failure.filter(|kind| *kind != ErrorKind::Interrupted);
        outcome
    }
}

impl<W: Write> Write for FailsOnce<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            self.end += bytes.len() as u64;
            return Ok(bytes.len());
        }
        let written = self.file.write(bytes);
        let count = self.noted(written)?;
        self.at += count as u64;
        self.end = self.end.max(self.at);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.failure.is_some() {
            return Ok(());
        }
        let flushed = self.file.flush();
        self.noted(flushed)
    }
}

impl<W: Seek> Seek for FailsOnce<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if self.failure.is_some() {
            return Ok(self.end);
        }
        let sought = self.file.seek(to);
        self.at = self.noted(sought)?;
        self.end = self.end.max(self.at);
        Ok(self.at)
    }
}

/// Ends an archive.
fn finish(archive: ZipWriter<FailsOnce<impl Write + Seek>>) -> io::Result<()> {
    let mut file = archive.finish()?;
    if let Some(kind) = file.failure {
        return Err(kind.into());
    }
    file.flush()
}

/// Writes pictures as `arr_0`, u8 `[N, H, W, 3]`.
pub struct PictureWriter<W: Write + Seek> {
    archive: ZipWriter<FailsOnce<W>>,
    left: u64,
}

impl<W: Write + Seek> PictureWriter<W> {
    /// Begins an archive of pictures of the shape `[N, H, W, 3]`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(file: W, shape: [usize; 4]) -> io::Result<Self> {
        let mut archive = ZipWriter::new(FailsOnce::new(file));
        archive.start_file("arr_0.npy", options())?;
        archive.write_all(&header_bytes("|u1", &shape))?;
        Ok(Self { archive, left: shape.iter().map(|&size| size as u64).product() })
    }

    /// Writes some pictures: red, green and blue of each pixel, row by row.
    ///
    /// # Errors
    /// When there are more than announced, or they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::other("there are more pictures than were announced"))?;
        self.archive.write_all(bytes)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When pictures are missing, or it cannot be written.
    pub fn finish(self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::other(format!("{} bytes of pictures are missing", self.left)));
        }
        finish(self.archive)
    }
}

/// Writes arrays of float64.
///
/// # Errors
/// When a tensor cannot be brought to the CPU or the file cannot be written.
pub fn write_tensors(file: impl Write + Seek, tensors: &[(&str, &Tensor)]) -> io::Result<()> {
    let mut archive = ZipWriter::new(FailsOnce::new(file));
    for (name, tensor) in tensors {
        archive.start_file(format!("{name}.npy"), options())?;
        let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
        archive.write_all(&header_bytes("<f8", &shape))?;
        let numbers = tensor
            .f_to_kind(Kind::Double)
            .and_then(|tensor| Vec::<f64>::try_from(tensor.f_reshape([-1])?));
        for number in numbers.map_err(io::Error::other)? {
            archive.write_all(&number.to_le_bytes())?;
        }
    }
    finish(archive)
}
