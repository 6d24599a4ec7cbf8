//! The pickle of a PyTorch checkpoint, in a sound archive with one storage.

use std::io::{Cursor, Write};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

#[path = "weight_file.rs"]
mod weight_file;

pub(crate) fn run(pickle: &[u8]) {
    if let Some(bytes) = archive(pickle) {
        weight_file::run(&bytes);
    }
}

pub(crate) fn archive(pickle: &[u8]) -> Option<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", &[1; 64])] {
        archive.start_file(name, options).ok()?;
        archive.write_all(bytes).ok()?;
    }
    Some(archive.finish().ok()?.into_inner())
}
