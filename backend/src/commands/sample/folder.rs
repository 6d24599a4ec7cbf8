//! A series as a folder of PNG files.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::Context;
use image::RgbImage;

use super::{
    super::{
        picture_file::{png, write_whole},
        series::Series,
    },
    describe,
};
use var_dd_engine::config::Config;

/// What every whole PNG file ends with.
const PNG_END: [u8; 12] = [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82];

/// `images/{i}.png` below a directory.
pub(super) struct Folder<'a> {
    images: PathBuf,
    series: &'a Series,
    config: &'a Config,
}

impl<'a> Folder<'a> {
    pub(super) fn new(directory: &Path, series: &'a Series, config: &'a Config) -> Self {
        Self { images: directory.join("images"), series, config }
    }

    /// The directory of the pictures.
    pub(super) fn images(&self) -> &Path {
        &self.images
    }

    fn path(&self, index: usize) -> PathBuf {
        self.images.join(format!("{index}.png"))
    }

    /// Whether a picture is there and whole.
    pub(super) fn has(&self, index: usize) -> bool {
        ends_as_png(&self.path(index)).unwrap_or(false)
    }

    pub(super) fn write(&self, index: usize, picture: &RgbImage) -> anyhow::Result<()> {
        let text = describe(self.config, self.series, index);
        write_whole(&self.path(index), &png(picture, &text)?)
    }

    /// One of the pictures.
    pub(super) fn read(&self, index: usize) -> anyhow::Result<RgbImage> {
        let path = self.path(index);
        let picture =
            image::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(picture.to_rgb8())
    }

    /// Number of pictures in the directory, whoever drew them.
    pub(super) fn count(&self) -> usize {
        numbered(&self.images).count()
    }

    /// Removes all numbered pictures.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        for path in numbered(&self.images) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }
}

/// Files whose name is a number and `.png`.
fn numbered(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let paths = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| {
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        number.is_some() && path.extension().is_some_and(|extension| extension == "png")
    })
}

/// A file that was cut off when the machine went down lacks its end.
fn ends_as_png(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    let mut end = [0; PNG_END.len()];
    file.seek(SeekFrom::End(-(PNG_END.len() as i64)))?;
    file.read_exact(&mut end)?;
    Ok(end == PNG_END)
}
