//! Pictures, statistics and weights to score with.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use image::RgbImage;
use tch::Tensor;
use var_dd_engine::{
    evaluate::npz::PictureWriter, net::inception::Inception, tensor_file, weights::formula,
};

/// Weights of the FID network from their names, made once for all tests.
pub(crate) fn inception_weights() -> &'static Path {
    static WEIGHTS: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = WEIGHTS.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inception.safetensors");
        let mut names = Inception::tensors();
        names.push(("fc.weight".to_owned(), vec![1008, 2048]));
        let tensors: Vec<(String, Tensor)> = names
            .into_iter()
            .map(|(name, shape)| {
                let tensor = formula::tensor(&name, &shape);
                (name, tensor)
            })
            .collect();
        tensor_file::write(&path, &tensors).unwrap();
        (directory, path)
    });
    path
}

/// Pictures with colours that differ from one to the next.
pub(crate) fn pictures(count: usize, shift: u32) -> Vec<RgbImage> {
    let picture = |i: usize| {
        RgbImage::from_fn(24, 20, |x, y| {
            let i = i as u32 + shift;
            image::Rgb([
                (x * (3 + i % 7) + shift) as u8,
                (y * (2 + i % 5) + 9 * i) as u8,
                (x * y + 31 * i) as u8,
            ])
        })
    };
    (0..count).map(picture).collect()
}

/// A folder of them.
pub(crate) fn folder(directory: &Path, pictures: &[RgbImage]) {
    fs::create_dir_all(directory).unwrap();
    for (index, picture) in pictures.iter().enumerate() {
        picture.save(directory.join(format!("{index}.png"))).unwrap();
    }
}

/// An archive of them.
pub(crate) fn archive(path: &Path, pictures: &[RgbImage]) {
    let (width, height) = pictures[0].dimensions();
    let shape = [pictures.len(), height as usize, width as usize, 3];
    let mut writer = PictureWriter::new(fs::File::create(path).unwrap(), shape).unwrap();
    pictures.iter().for_each(|picture| writer.write(picture).unwrap());
    writer.finish().unwrap();
}
