//! A series as one `.npz` file.
//!
//! While it is drawn, each batch is a file of its own beside it; when all are there, they become
//! one.

use std::{
    fs::{self, File},
    io::{BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};

use anyhow::Context;
use image::RgbImage;
use var_dd_engine::evaluate::npz;

use super::super::{
    picture_file::{write_whole, write_whole_with},
    series::Series,
};

/// `{name}.npz` and its unfinished batches in `{name}.npz.parts/`.
pub(super) struct Archive<'a> {
    path: PathBuf,
    parts: PathBuf,
    series: &'a Series,
    /// Width and height of a picture.
    side: usize,
}

/// The path with something after its file name.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl<'a> Archive<'a> {
    pub(super) fn new(path: &Path, series: &'a Series, side: usize) -> Self {
        Self { path: path.to_owned(), parts: beside(path, ".parts"), series, side }
    }

    /// The directory of unfinished batches.
    pub(super) fn parts(&self) -> &Path {
        &self.parts
    }

    fn part(&self, batch: usize) -> PathBuf {
        self.parts.join(format!("batch-{batch:07}.rgb"))
    }

    fn bytes_of(&self, batch: usize) -> u64 {
        (self.series.pictures_of(batch).len() * self.side * self.side * 3) as u64
    }

    /// Whether pictures are there, in the archive or in batches. A full disk leaves an empty
    /// directory, which is nobody's work.
    pub(super) fn is_there(&self) -> bool {
        let mut parts = fs::read_dir(&self.parts).into_iter().flatten().flatten();
        self.is_whole() || parts.any(|part| !part.file_name().as_encoded_bytes().starts_with(b"."))
    }

    /// Whether the archive itself is there.
    pub(super) fn is_whole(&self) -> bool {
        self.path.is_file()
    }

    /// Whether a batch is there and whole.
    pub(super) fn has(&self, batch: usize) -> bool {
        self.is_whole()
            || fs::metadata(self.part(batch))
                .is_ok_and(|metadata| metadata.len() == self.bytes_of(batch))
    }

    pub(super) fn write(&self, batch: usize, pictures: &[RgbImage]) -> anyhow::Result<()> {
        let bytes: Vec<u8> =
            pictures.iter().flat_map(|picture| picture.as_raw().iter().copied()).collect();
        write_whole(&self.part(batch), &bytes)
    }

    /// Makes the archive of its batches, which are removed then. Nobody else may be drawing to it;
    /// another call may have put it together.
    pub(super) fn assemble(&self) -> anyhow::Result<()> {
        if !self.is_whole() {
            self.put_together()?;
        }
        match fs::remove_dir_all(&self.parts) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("cannot remove {}", self.parts.display())),
        }
    }

    fn put_together(&self) -> anyhow::Result<()> {
        let shape = [self.series.pictures(), self.side, self.side, 3];
        let mut failure = None;
        let written = write_whole_with(&self.path, |file| {
            let mut archive = npz::PictureWriter::new(file, shape)?;
            for batch in 0..self.series.batches() {
                let path = self.part(batch);
                let mut bytes = Vec::new();
                let read =
                    File::open(&path).and_then(|part| BufReader::new(part).read_to_end(&mut bytes));
                if let Err(error) = read {
                    let reason = format!("cannot read {}", path.display());
                    failure = Some(anyhow::Error::new(error).context(reason));
                    return Err(std::io::Error::other("a batch is missing"));
                }
                archive.write(&bytes)?;
            }
            archive.finish()
        });
        failure.map_or(written, Err)
    }

    /// Removes the archive and its batches.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        for (path, exists) in
            [(&self.path, self.path.is_file()), (&self.parts, self.parts.is_dir())]
        {
            if exists {
                let removed =
                    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
                removed.with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}
