//! Files of pictures and statistics as NumPy, pytorch-fid and PyTorch write them, whole and
//! damaged.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{self, Cursor, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use tch::{Device, Kind, Tensor};
use var_dd_engine::evaluate::{
    npz::{Npz, PictureWriter, write_tensors},
    reference::Reference,
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// An archive of `.npy` files with the given header texts and contents.
fn archive(path: &Path, method: CompressionMethod, arrays: &[(&str, &str, &[u8])]) {
    let mut archive = ZipWriter::new(fs::File::create(path).unwrap());
    for (name, header, bytes) in arrays {
        archive.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        archive.write_all(b"\x93NUMPY\x01\x00").unwrap();
        archive.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
        archive.write_all(header.as_bytes()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

fn pictures(path: &Path, count: usize) -> Vec<u8> {
    let bytes: Vec<u8> = (0..count * 4 * 5 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let mut writer = PictureWriter::new(fs::File::create(path).unwrap(), [count, 4, 5, 3]).unwrap();
    bytes.chunks(77).for_each(|chunk| writer.write(chunk).unwrap());
    writer.finish().unwrap();
    bytes
}

#[test]
fn pictures_are_read_as_they_were_written_in_pieces_of_any_size() {
    let directory = directory();
    let path = directory.path().join("a.npz");
    let bytes = pictures(&path, 7);
    for most in [1, 3, 7, 100] {
        let mut reader = Npz::open(&path).unwrap().array("arr_0").unwrap().pictures().unwrap();
        assert_eq!((reader.count, reader.height, reader.width), (7, 4, 5));
        let mut read = Vec::new();
        while let Some(piece) = reader.next(most).unwrap() {
            assert!(piece.size()[0] <= most as i64);
            read.extend(Vec::<u8>::try_from(piece.view([-1])).unwrap());
        }
        assert_eq!(read, bytes);
    }
    // The same pictures give the same file, whenever they are written.
    let again = directory.path().join("b.npz");
    pictures(&again, 7);
    assert_eq!(fs::read(&path).unwrap(), fs::read(&again).unwrap());
}

#[test]
fn pictures_that_are_missing_or_too_many_are_no_archive() {
    let writer = || PictureWriter::new(Cursor::new(Vec::new()), [2, 1, 1, 3]).unwrap();
    let mut short = writer();
    short.write(&[0; 5]).unwrap();
    assert!(short.finish().unwrap_err().to_string().contains("1 bytes of pictures are missing"));
    assert!(writer().write(&[0; 7]).unwrap_err().to_string().contains("more pictures"));
}

/// A disk that is full after some bytes, and must not be asked again then.
struct Full {
    file: Cursor<Vec<u8>>,
    room: usize,
    is_full: bool,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!self.is_full, "it was said to be full");
        if bytes.len() > self.room {
            self.is_full = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room -= bytes.len();
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Full {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        assert!(!self.is_full, "it was said to be full");
        self.file.seek(to)
    }
}

#[test]
fn a_full_disk_is_told_once_wherever_it_shows() {
    let covariance = Tensor::eye(3, (Kind::Double, Device::Cpu));
    let tensors = [("mu", &covariance), ("sigma", &covariance)];
    let mut failures = 0;
    for room in 0..2000 {
        let disk = || Full { file: Cursor::default(), room, is_full: false };
        let pictures = || -> io::Result<()> {
            let mut writer = PictureWriter::new(disk(), [2, 2, 1, 3])?;
            writer.write(&[7; 12])?;
            writer.finish()
        };
        for outcome in [write_tensors(disk(), &tensors), pictures()] {
            let kind = outcome.as_ref().err().map(io::Error::kind);
            assert!(matches!(kind, None | Some(io::ErrorKind::StorageFull)), "{room}: {outcome:?}");
            failures += usize::from(outcome.is_err());
        }
    }
    assert!((600..3000).contains(&failures), "{failures} outcomes of 4000 are failures");
    // A failure that the caller passed over.
    let disk = Full { file: Cursor::default(), room: 400, is_full: false };
    let mut writer = PictureWriter::new(disk, [50, 2, 2, 3]).unwrap();
    assert!(writer.write(&[7; 600]).is_err());
    assert_eq!(writer.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
}

/// Changes a size of the first array in an archive's list, `at` bytes after the record's start.
fn claim(bytes: &mut [u8], at: usize, size: u32) {
    let record = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    bytes[record + at..record + at + 4].copy_from_slice(&size.to_le_bytes());
}

#[test]
fn sizes_that_the_file_cannot_hold_are_refused_before_memory_is_taken() {
    const COMPRESSED: usize = 20;
    const SIZE: usize = 24;
    let directory = directory();
    let path = directory.path().join("a.npz");
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 20000, 20000, 3), }";
    let announced = 2 * 20_000 * 20_000 * 3 + 10 + header.len() as u32;
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        archive(&path, method, &[("arr_0.npy", header, [7; 999].as_slice())]);
        let mut bytes = fs::read(&path).unwrap();
        claim(&mut bytes, SIZE, announced);
        let mut errors = Vec::new();
        for claims_all in [false, true] {
            if claims_all {
                claim(&mut bytes, COMPRESSED, announced);
            }
            fs::write(&path, &bytes).unwrap();
            let pictures = Npz::open(&path).and_then(|file| file.array("arr_0")?.pictures());
            errors.push(pictures.map(drop).unwrap_err().to_string());
        }
        assert!(errors[0].contains("the file holds at most"), "{method:?}: {}", errors[0]);
        assert!(errors[1].contains("a.npz"), "{method:?}: {}", errors[1]);
    }
    // More than announced is not read to its end.
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }";
    archive(&path, CompressionMethod::Deflated, &[("mu.npy", header, [0; 9999].as_slice())]);
    let mut bytes = fs::read(&path).unwrap();
    claim(&mut bytes, SIZE, 10 + header.len() as u32 + 24);
    fs::write(&path, &bytes).unwrap();
    let error = Npz::open(&path).and_then(|file| file.array("mu")?.tensor()).unwrap_err();
    assert!(error.to_string().contains("it has 25 bytes or more and should have 24"), "{error}");
    // One picture that no memory should be spent on, though the file is as long as it says.
    let path = directory.path().join("a.npy");
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 20000, 20000, 3), }";
    let length = (header.len() as u16).to_le_bytes();
    fs::write(&path, [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes()].concat())
        .unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(20_000 * 20_000 * 3 + 10 + header.len() as u64).unwrap();
    let pictures = Npz::open(&path).and_then(|file| file.array("arr_0")?.pictures());
    let error = pictures.map(drop).unwrap_err().to_string();
    assert!(error.contains("more than 1 GiB"), "{error}");
}

#[test]
fn compressed_arrays_and_arrays_in_fortran_order_are_read() {
    let directory = directory();
    let path = directory.path().join("a.npz");
    let numbers: Vec<u8> = (0..6).flat_map(|i| f64::from(i).to_le_bytes()).collect();
    let arrays = [
        (
            "c.npy",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }",
            numbers.as_slice(),
        ),
        ("f.npy", "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }", numbers.as_slice()),
        (
            "one.npy",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (6,), }",
            numbers.as_slice(),
        ),
    ];
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        archive(&path, method, &arrays);
        let file = Npz::open(&path).unwrap();
        let read = |name| file.array(name).unwrap().tensor().unwrap();
        let range = |shape: &[i64]| Tensor::arange(6, (Kind::Double, Device::Cpu)).reshape(shape);
        assert_eq!(read("c"), range(&[2, 3]));
        assert_eq!(read("f"), range(&[3, 2]).tr());
        assert_eq!(read("one"), range(&[6]));
    }
}

#[test]
fn damaged_archives_are_refused_with_file_and_reason() {
    let directory = directory();
    let path = directory.path().join("a.npz");
    pictures(&path, 7);
    let whole = fs::read(&path).unwrap();
    let read = |bytes: &[u8]| -> Result<(), String> {
        fs::write(&path, bytes).unwrap();
        let mut reader = Npz::open(&path)
            .and_then(|file| file.array("arr_0")?.pictures())
            .map_err(|error| error.to_string())?;
        while reader.next(3).map_err(|error| error.to_string())?.is_some() {}
        Ok(())
    };
    read(&whole).unwrap();
    for length in [0, 1, 100, whole.len() / 2, whole.len() - 30, whole.len() - 1] {
        let error = read(&whole[..length]).unwrap_err();
        assert!(error.contains("a.npz"), "{length}: {error}");
    }
    let mut flipped = whole.clone();
    flipped[400] ^= 1;
    assert!(read(&flipped).unwrap_err().contains("checksum"));
    let header = |text: &str, bytes: &[u8]| {
        archive(&path, CompressionMethod::Stored, &[("arr_0.npy", text, bytes)]);
        let pictures = Npz::open(&path).and_then(|file| file.array("arr_0")?.pictures());
        pictures.err().map(|error| error.to_string())
    };
    for (text, part) in [
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 1, 1, 3), }", "does not fit its"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 3), }", "[1, 2, 3]"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (0, 2, 1, 3), }", "does not fit its"),
        (
            "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 99999999999, 9999, \
             3), }",
            "does not fit",
        ),
        ("{'descr': '|u1', 'fortran_order': True, 'shape': (1, 1, 2, 3), }", "Fortran"),
        ("{'descr': '|i1', 'fortran_order': False, 'shape': (1, 1, 2, 3), }", "unsigned"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1, 2, 3), }", "Python objects"),
        ("{'descr': '|u1', 'shape': (1, 1, 2, 3), }", "is not understood"),
        ("nonsense", "is not understood"),
    ] {
        let error = header(text, &[0; 6]).expect(text);
        assert!(error.contains(part) && error.contains("arr_0"), "{text}: {error}");
    }
    assert_eq!(
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 2, 3), }", &[0; 6]),
        None
    );
    let error = Npz::open(&path).unwrap().array("mu").err().unwrap().to_string();
    assert!(error.contains("arr_0"), "the arrays that there are: {error}");
}

/// Statistics of a few numbers, as `mu` and `sigma`.
fn moments(path: &Path, names: &[&str], features: i64) {
    let mean = Tensor::arange(features, (Kind::Double, Device::Cpu));
    let covariance = Tensor::eye(features, (Kind::Double, Device::Cpu)) * 2.0;
    let tensors: Vec<(&str, &Tensor)> = names
        .iter()
        .map(|name| (*name, if name.starts_with("mu") { &mean } else { &covariance }))
        .collect();
    write_tensors(fs::File::create(path).unwrap(), &tensors).unwrap();
}

fn reference_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/statistic.pth")
}

#[test]
fn statistics_of_every_known_kind_are_read() {
    let directory = directory();
    let path = directory.path().join("a.npz");
    moments(&path, &["mu", "sigma"], 5);
    let fid = Reference::open(&path).unwrap();
    assert_eq!((fid.features, fid.spatial.is_some()), (5, false));
    moments(&path, &["mu", "sigma", "mu_s", "sigma_s"], 5);
    let adm = Reference::open(&path).unwrap();
    assert_eq!((adm.features, adm.spatial.as_ref().map(|spatial| spatial.1)), (5, Some(5)));
    assert!(adm.pooled.distance(&fid.pooled).unwrap() < 1e-12);
    // Arrays of numpy inside a pickle, the mean in single precision.
    let published = Reference::open(&reference_file()).unwrap();
    assert_eq!(published.features, 48);
    assert!(published.pooled.distance(&published.pooled).unwrap() < 1e-9);
}

#[test]
fn files_without_statistics_are_refused_with_what_they_hold() {
    let directory = directory();
    let path = directory.path().join("a.npz");
    let refusal = |path: &Path| Reference::open(path).err().unwrap().to_string();
    moments(&path, &["mu", "cov"], 5);
    let error = refusal(&path);
    assert!(error.contains("a.npz") && error.contains("mu, cov"), "{error}");
    moments(&path, &["sigma", "mu"], 5);
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 10);
    fs::write(&path, bytes).unwrap();
    assert!(refusal(&path).contains("a.npz"));
    let covariance = Tensor::eye(4, (Kind::Double, Device::Cpu));
    let mean = Tensor::zeros([5], (Kind::Double, Device::Cpu));
    write_tensors(fs::File::create(&path).unwrap(), &[("mu", &mean), ("sigma", &covariance)])
        .unwrap();
    let error = refusal(&path);
    assert!(error.contains("[5]") && error.contains("[4, 4]"), "{error}");
    let other = directory.path().join("weights.pth");
    fs::write(&other, "PK nonsense").unwrap();
    assert!(refusal(&other).contains("weights.pth"));
    assert!(refusal(&directory.path().join("nowhere.npz")).contains("nowhere.npz"));
}

#[test]
fn numbers_of_either_byte_order_are_read() {
    let directory = directory();
    let path = directory.path().join("a.npz");
    let header =
        |descr: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (3,), }}\n");
    let numbers = [1.5, -2.0, 1e300];
    let big: Vec<u8> = numbers.iter().flat_map(|number: &f64| number.to_be_bytes()).collect();
    let small: Vec<u8> = numbers.iter().flat_map(|number: &f64| number.to_le_bytes()).collect();
    archive(
        &path,
        CompressionMethod::Stored,
        &[("big.npy", &header(">f8"), &big), ("small.npy", &header("<f8"), &small)],
    );
    let file = Npz::open(&path).unwrap();
    for name in ["big", "small"] {
        let tensor = file.array(name).unwrap().tensor().unwrap();
        assert_eq!(Vec::<f64>::try_from(tensor).unwrap(), numbers, "{name}");
    }
}

#[test]
fn colours_may_come_first_and_a_single_array_is_an_archive_of_one() {
    let directory = directory();
    let (count, height, width) = (3, 2, 4);
    let at = |n: usize, y: usize, x: usize, c: usize| (n * 50 + y * 20 + x * 4 + c) as u8;
    let mut first = Vec::new();
    let mut last = Vec::new();
    for n in 0..count {
        for c in 0..3 {
            (0..height * width).for_each(|i| first.push(at(n, i / width, i % width, c)));
        }
        for i in 0..height * width {
            (0..3).for_each(|c| last.push(at(n, i / width, i % width, c)));
        }
    }
    let npy = |shape: &str, bytes: &[u8]| {
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}\n");
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), bytes].concat()
    };
    let path = directory.path().join("a.npy");
    for (shape, bytes) in [("3, 3, 2, 4", &first), ("3, 2, 4, 3", &last)] {
        fs::write(&path, npy(shape, bytes)).unwrap();
        let mut reader = Npz::open(&path).unwrap().array("arr_0").unwrap().pictures().unwrap();
        assert_eq!((reader.count, reader.height, reader.width), (count, height, width));
        let mut read = Vec::new();
        while let Some(piece) = reader.next(2).unwrap() {
            read.extend(Vec::<u8>::try_from(piece.contiguous().view([-1])).unwrap());
        }
        assert_eq!(read, last, "{shape}");
    }
    // Half an array is told.
    fs::write(&path, &npy("3, 2, 4, 3", &last)[..90]).unwrap();
    let error = Npz::open(&path).unwrap().array("arr_0").map(drop).unwrap_err().to_string();
    assert!(error.contains("does not fit"), "{error}");
    // What is no picture, with the way to make it one.
    for (descr, shape, words) in [
        ("<f4", "1, 2, 4, 3", "(pictures * 255 + 0.5)"),
        ("<i8", "1, 2, 4, 3", "astype('uint8')"),
        ("|u1", "6, 4, 4", "grey"),
        ("|u1", "8, 4, 3", "picture[None]"),
        ("|u1", "4, 4, 3, 2", "numpy.moveaxis"),
        ("|u1", "0, 4, 4, 3", "there are none in it"),
        ("|u1", "1, 2, 4, 4", "transparency"),
        ("|O", "", "Python objects"),
    ] {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
        let length = (header.len() as u16).to_le_bytes();
        let elements: usize = shape.split(", ").filter_map(|n| n.parse::<usize>().ok()).product();
        let bytes = vec![0; elements * descr[2..].parse::<usize>().unwrap_or(1)];
        fs::write(
            &path,
            [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), &bytes].concat(),
        )
        .unwrap();
        let array = Npz::open(&path).unwrap().array("arr_0");
        let error = array.and_then(|array| array.pictures()).map(drop).unwrap_err().to_string();
        assert!(error.contains(words), "{descr} ({shape}): {error}");
    }
}

#[test]
fn other_files_in_the_place_of_an_archive_are_named() {
    let directory = directory();
    let path = directory.path().join("a.npz");
    for (bytes, words) in [
        (b"<!DOCTYPE html><html>".as_slice(), "a web page"),
        (b"", "it is empty"),
        (b"\x1f\x8b\x08", "gunzip"),
        (b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\0\0data.pkl", "checkpoint"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = Npz::open(&path).map(drop).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn statistics_that_no_pictures_could_have_are_refused_with_the_reason() {
    let directory = directory();
    let path = directory.path().join("a.npz");
    let mean = Tensor::zeros([2], (Kind::Double, Device::Cpu));
    for (rows, words) in [
        ([[2.0, 1.0], [0.0, 2.0]], "is not symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "has negative eigenvalues"),
    ] {
        let covariance = Tensor::from_slice2(&rows);
        let file = fs::File::create(&path).unwrap();
        write_tensors(file, &[("mu", &mean), ("sigma", &covariance)]).unwrap();
        let error = Reference::open(&path).map(drop).unwrap_err().to_string();
        assert!(error.contains("a.npz") && error.contains(words), "{error}");
    }
    // Of two pairs, the one that is amiss is named.
    let covariance = Tensor::eye(2, (Kind::Double, Device::Cpu));
    let (infinite, zeros) = (mean.log(), &mean);
    let pairs =
        [("mu", zeros), ("sigma", &covariance), ("mu_s", &infinite), ("sigma_s", &covariance)];
    write_tensors(fs::File::create(&path).unwrap(), &pairs).unwrap();
    let error = Reference::open(&path).map(drop).unwrap_err().to_string();
    assert!(error.contains("mu_s and sigma_s: the mean has infinite numbers"), "{error}");
    // Counts are no means, as of PyTorch's files.
    let header = "{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }";
    let arrays = [("mu.npy", header, [0; 8].as_slice()), ("sigma.npy", header, [0; 8].as_slice())];
    archive(&path, CompressionMethod::Stored, &arrays);
    let error = Reference::open(&path).map(drop).unwrap_err().to_string();
    assert!(error.contains("mu holds Int64; statistics are floats"), "{error}");
    // Saved under another name, the archive is known by its contents.
    let named = directory.path().join("statistics");
    let covariance = Tensor::from_slice2(&[[2.0, 1.0], [1.0, 2.0]]);
    let file = fs::File::create(&named).unwrap();
    write_tensors(file, &[("mu", &mean), ("sigma", &covariance)]).unwrap();
    assert_eq!(Reference::open(&named).unwrap().features, 2);
}
