//! Where the pictures to score come from: a folder or an archive.
//!
//! Everything that can be told without decoding is checked before the first picture is looked at.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Display,
    fs,
    io::BufReader,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::mpsc::sync_channel,
    thread,
};

use anyhow::{Context, bail};
use image::{ColorType, ImageDecoder, ImageReader, RgbImage};
use tch::{Kind, Tensor};
use var_dd_engine::{
    evaluate::{
        features::FeatureNetwork,
        npz::{Npz, PictureReader},
    },
    input_file,
};

use super::{container, jpeg_end};

/// Pictures that go through the feature network together.
pub(super) const TOGETHER: usize = 32;

/// Most bytes of pictures decoded together, unless one alone has more.
const BYTES_TOGETHER: u64 = 256 << 20;

/// Largest picture in bytes, before anything is allocated for what its header says.
const MAX_PICTURE: u64 = 1 << 30;

/// Chunks of decoded pictures that may wait for the network.
const WAITING_CHUNKS: usize = 2;

/// The sheet that `sample` and `evaluate` write beside pictures.
const CONTACT_SHEET: &str = "contact-sheet.png";

/// Endings of the files that count as pictures.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Pictures of one size.
pub(super) enum Pictures {
    Folder { paths: Vec<PathBuf>, width: u32, height: u32 },
    Archive(PictureReader),
}

/// Receives pictures, u8 `[B, H, W, 3]`.
pub(super) type Each<'a> = dyn FnMut(&Tensor) -> anyhow::Result<ControlFlow<()>> + 'a;

impl Pictures {
    /// Opens a folder (or one whose pictures lie in `images` below it; with `recursive`, all
    /// folders below it too) or the array `arr_0` of an archive.
    ///
    /// # Errors
    /// When there is no picture, or one is not RGB with 8 bits, or of another size than the first.
    pub(super) fn open(path: &Path, recursive: bool) -> anyhow::Result<Self> {
        if path.is_dir() {
            return Self::open_folder(path, recursive);
        }
        if !path.exists() {
            bail!("{} is not there; give a folder of pictures or an .npz archive", path.display());
        }
        let archive = Npz::open(path)?;
        if !archive.has("arr_0") && archive.has("mu") {
            bail!(
                "{} holds statistics (mu, sigma), not pictures; give it with --reference",
                path.display()
            );
        }
        if !archive.has("arr_0") {
            bail!(
                "{} has no array arr_0, where pictures are looked for; it has: {}; save them as \
                 numpy.savez(file, arr_0=pictures)",
                path.display(),
                archive.names().collect::<Vec<_>>().join(", ")
            );
        }
        Ok(Self::Archive(archive.array("arr_0")?.pictures()?))
    }

    fn open_folder(directory: &Path, recursive: bool) -> anyhow::Result<Self> {
        let mut listing = Listing::of(directory, recursive)?;
        let below = directory.join("images");
        if !recursive && listing.pictures.is_empty() && below.is_dir() {
            listing = Listing::of(&below, false)?;
        }
        if let Some(note) = listing.left_out() {
            tracing::warn!("{}: {note}", directory.display());
        }
        let paths = listing.pictures;
        let Some(first) = paths.first() else {
            bail!(
                "{} holds no pictures ({}){}",
                directory.display(),
                ENDINGS.join(", "),
                if listing.folders > 0 { "; --recursive looks into the folders below" } else { "" }
            );
        };
        let (width, height) = checked_size(first)?;
        for path in &paths[1..] {
            let size = checked_size(path)?;
            if size != (width, height) {
                bail!(
                    "{} is {}×{}, and {} is {width}×{height}; all pictures must have one size",
                    path.display(),
                    size.0,
                    size.1,
                    first.display()
                );
            }
        }
        Ok(Self::Folder { paths, width, height })
    }

    /// Number of pictures.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Folder { paths, .. } => paths.len(),
            Self::Archive(reader) => reader.count,
        }
    }

    /// Refuses pictures of a size that the network does not take; `path` is where they come from.
    ///
    /// # Errors
    /// When they are of another size, which is named with the first of them.
    pub(super) fn check_size(
        &self,
        network: &dyn FeatureNetwork,
        path: &Path,
    ) -> anyhow::Result<()> {
        match self {
            Self::Folder { paths, width, height } => {
                let first = paths.first().map_or(path, PathBuf::as_path);
                check_size(network, i64::from(*width), i64::from(*height), &first.display())
            }
            Self::Archive(PictureReader { width, height, .. }) => {
                check_size(network, *width as i64, *height as i64, &path.display())
            }
        }
    }

    /// Gives all pictures, [`TOGETHER`] at a time, fewer where they are large. They are decoded on
    /// other threads meanwhile.
    ///
    /// # Errors
    /// When a picture is damaged, or the receiver fails.
    pub(super) fn for_each(self, each: &mut Each<'_>) -> anyhow::Result<()> {
        thread::scope(|scope| {
            let (sender, chunks) = sync_channel(WAITING_CHUNKS);
            scope.spawn(move || match self {
                Self::Folder { paths, width, height } => {
                    let bytes = (u64::from(width) * u64::from(height) * 3).max(1);
                    let together = (BYTES_TOGETHER / bytes).clamp(1, TOGETHER as u64);
                    for paths in paths.chunks(together as usize) {
                        let chunk = decode(paths, width, height);
                        // Nobody listens any more if the scoring has ended early.
                        if chunk.is_err() | sender.send(chunk).is_err() {
                            break;
                        }
                    }
                }
                Self::Archive(mut reader) => {
                    while let Some(chunk) =
                        reader.next(TOGETHER).map_err(anyhow::Error::from).transpose()
                    {
                        if chunk.is_err() | sender.send(chunk).is_err() {
                            break;
                        }
                    }
                }
            });
            for chunk in chunks {
                if each(&chunk?)?.is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// What there is in a directory.
#[derive(Default)]
struct Listing {
    /// Files that count as pictures, by number where their names are numbers.
    pictures: Vec<PathBuf>,
    /// Folders that were not looked into.
    folders: usize,
    /// Other files by their ending.
    others: BTreeMap<String, usize>,
    /// Whether a contact sheet of an earlier call was passed over.
    sheet: bool,
}

impl Listing {
    /// Lists a directory; with `recursive`, those below it too.
    fn of(directory: &Path, recursive: bool) -> anyhow::Result<Self> {
        let mut listing = Self::default();
        let mut waiting = vec![directory.to_owned()];
        // A link may lead back up.
        let mut seen = HashSet::new();
        while let Some(directory) = waiting.pop() {
            if !seen.insert(directory.canonicalize().unwrap_or_else(|_| directory.clone())) {
                continue;
            }
            let cannot = || format!("cannot read {}", directory.display());
            for entry in fs::read_dir(&directory).with_context(cannot)? {
                let path = entry.with_context(cannot)?.path();
                let name = path.file_name().unwrap_or_default();
                if name.as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                if path.is_dir() {
                    if recursive {
                        waiting.push(path);
                    } else {
                        listing.folders += 1;
                    }
                } else if name == CONTACT_SHEET {
                    // A sheet of pictures is none of them: `sample` and `evaluate` leave one.
                    listing.sheet = true;
                } else {
                    listing.add(path);
                }
            }
        }
        let number =
            |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        let key = |path: &PathBuf| {
            (path.parent().map(Path::to_owned), number(path).unwrap_or(u64::MAX), path.clone())
        };
        listing.pictures.sort_by_cached_key(key);
        Ok(listing)
    }

    fn add(&mut self, path: PathBuf) {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        match ending {
            Some(ending) if ENDINGS.contains(&ending.as_str()) => self.pictures.push(path),
            // What the commands themselves write beside pictures is no news.
            Some(ending) if ["json", "html"].contains(&ending.as_str()) => {}
            ending => *self.others.entry(ending.unwrap_or_default()).or_default() += 1,
        }
    }

    /// What is not looked at, in words; `None` if that is nothing.
    fn left_out(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.folders > 0 {
            let folders = if self.folders == 1 { "folder" } else { "folders" };
            parts.push(format!("{} {folders} (--recursive looks into them)", self.folders));
        }
        for (ending, count) in &self.others {
            let files = if *count == 1 { "file" } else { "files" };
            parts.push(match ending.as_str() {
                "" => format!("{count} {files} without an ending"),
                ending => format!("{count} .{ending} {files}"),
            });
        }
        (!parts.is_empty())
            .then(|| format!("left out {}; {} are looked at", parts.join(", "), ENDINGS.join(", ")))
    }
}

/// Refuses pictures of a size that the network does not take.
///
/// # Errors
/// When `named` is of another size.
pub(super) fn check_size(
    network: &dyn FeatureNetwork,
    width: i64,
    height: i64,
    named: &dyn Display,
) -> anyhow::Result<()> {
    match network.side() {
        Some(side) if (width, height) != (side, side) => bail!(
            "{named} is {width}×{height}, and the {} network takes pictures of {side}×{side} only",
            network.name()
        ),
        _ => Ok(()),
    }
}

fn decoder(path: &Path) -> anyhow::Result<impl ImageDecoder> {
    let reader = input_file::open(path)
        .and_then(|file| ImageReader::new(BufReader::new(file)).with_guessed_format());
    let reader = reader.with_context(|| format!("cannot read {}", path.display()))?;
    let decoder = reader
        .into_decoder()
        .with_context(|| format!("{} is not a whole picture", path.display()))?;
    if decoder.total_bytes() > MAX_PICTURE {
        let (width, height) = decoder.dimensions();
        bail!(
            "{} says that it is {width}×{height}; a picture here has at most 1 GiB",
            path.display()
        );
    }
    Ok(decoder)
}

/// Width and height of a single, whole picture that is RGB with 8 bits; whether the data of a JPEG
/// or a PNG are whole shows only when it is decoded.
fn checked_size(path: &Path) -> anyhow::Result<(u32, u32)> {
    let cannot = || format!("cannot read {}", path.display());
    let mut file = BufReader::new(input_file::open(path).with_context(cannot)?);
    if container::is_animation(&mut file).with_context(cannot)? {
        bail!(
            "{} is an animation, of which only the first picture would be scored; save its \
             pictures as files of their own",
            path.display()
        );
    }
    if !container::is_whole(&mut file).with_context(cannot)? {
        bail!(
            "{} is not a whole picture: the WebP is shorter than it says; copy or save it again",
            path.display()
        );
    }
    let decoder = decoder(path)?;
    match decoder.color_type() {
        ColorType::Rgb8 => Ok(decoder.dimensions()),
        other => bail!(
            "{} is {}; scores are of RGB pictures with 8 bits",
            path.display(),
            colours(other)
        ),
    }
}

fn colours(colours: ColorType) -> &'static str {
    match colours {
        ColorType::L8 => "grey with 8 bits",
        ColorType::L16 => "grey with 16 bits",
        ColorType::La8 | ColorType::La16 => "grey with transparency",
        ColorType::Rgba8 => "RGB with transparency",
        ColorType::Rgb16 | ColorType::Rgba16 => "of 16 bits a colour",
        _ => "in another number type",
    }
}

fn decode_one(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut file =
        input_file::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let ends = jpeg_end::is_whole(&mut BufReader::new(&mut file));
    if !ends.with_context(|| format!("cannot read {}", path.display()))? {
        bail!(
            "{} is not a whole picture: the JPEG ends too early, or is damaged before its end; \
             copy or save it again",
            path.display()
        );
    }
    let decoder = decoder(path)?;
    let mut bytes = vec![0; decoder.total_bytes() as usize];
    decoder
        .read_image(&mut bytes)
        .with_context(|| format!("{} is not a whole picture", path.display()))?;
    Ok(bytes)
}

/// Decodes pictures on several threads.
fn decode(paths: &[PathBuf], width: u32, height: u32) -> anyhow::Result<Tensor> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(8);
    let decoded: Vec<anyhow::Result<Vec<u8>>> = thread::scope(|scope| {
        let parts = paths.chunks(paths.len().div_ceil(threads));
        let running: Vec<_> = parts
            .map(|part| {
                scope.spawn(move || {
                    part.iter()
                        .map(|path| {
                            let bytes = decode_one(path)?;
                            let size = width as usize * height as usize * 3;
                            if bytes.len() != size {
                                bail!("{} changed while it was read", path.display());
                            }
                            Ok(bytes)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        running
            .into_iter()
            .flat_map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| vec![Err(anyhow::anyhow!("a decoding thread panicked"))])
            })
            .collect()
    });
    let mut bytes = Vec::new();
    for picture in decoded {
        bytes.extend_from_slice(&picture?);
    }
    let shape = [paths.len() as i64, height.into(), width.into(), 3];
    Ok(Tensor::f_from_data_size(&bytes, &shape, Kind::Uint8)?)
}

/// Drawn pictures as the network takes them.
pub(super) fn stacked(pictures: &[RgbImage]) -> anyhow::Result<Tensor> {
    let (width, height) = pictures.first().map_or((0, 0), |picture| picture.dimensions());
    let bytes: Vec<u8> =
        pictures.iter().flat_map(|picture| picture.as_raw().iter().copied()).collect();
    let shape = [pictures.len() as i64, height.into(), width.into(), 3];
    Ok(Tensor::f_from_data_size(&bytes, &shape, Kind::Uint8)?)
}

/// One picture of a stack.
pub(super) fn picture_of(stack: &Tensor, index: i64) -> Option<RgbImage> {
    let &[_, height, width, _] = stack.size().as_slice() else { return None };
    let bytes = Vec::<u8>::try_from(stack.f_get(index).ok()?.contiguous().view([-1])).ok()?;
    RgbImage::from_raw(width as u32, height as u32, bytes)
}
