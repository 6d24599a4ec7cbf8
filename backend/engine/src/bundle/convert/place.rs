//! Where a bundle goes: checked before any work, written beside, moved when whole.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use safetensors::tensor::{Metadata, TensorInfo};

use super::{ConvertError, Network};
use crate::{atomic_file::is_at, config::Config};

/// How names of directories begin in which a bundle is written.
const UNFINISHED: &str = ".var-dd-convert-";

fn is_unfinished(entry: &fs::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
}

/// Whether an entry of a directory is nobody's: what a conversion that was killed has left, or what
/// a file system keeps at its top for repairs.
fn is_nobodys(entry: &fs::DirEntry) -> bool {
    is_unfinished(entry) || entry.file_name() == "lost+found"
}

/// Checks a place where a bundle may go: nothing, or an empty directory.
pub(super) fn check(path: &Path) -> Result<(), String> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.find(|entry| !entry.as_ref().is_ok_and(is_nobodys)) {
            None => Ok(()),
            Some(_) => {
                Err("there is something here already; give another --output, or remove it first"
                    .into())
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Without a slash at its end, behind which no link shows.
            let bare: PathBuf = path.components().collect();
            match fs::read_link(bare) {
                Ok(target) => Err(format!(
                    "this is a link to {}, where nothing is; make that directory, or give another \
                     --output",
                    target.display()
                )),
                Err(_) => Ok(()),
            }
        }
        Err(error) => Err(format!("no bundle can be made here: {error}")),
    }
}

/// Writes the bundle beside its place and moves it there when it is whole. A directory that is
/// there already is filled, not replaced: it may be where somebody's shell stands.
pub(super) fn write(
    place: &Path,
    config: &Config,
    files: &[(&str, &Network<'_>, Vec<String>)],
) -> Result<(), ConvertError> {
    let refused =
        |reason: String| ConvertError::Output { path: place.display().to_string(), reason };
    let failed = |error: io::Error| refused(format!("the bundle cannot be written: {error}"));
    let is_there = place.is_dir();
    let parent = if is_there {
        place
    } else {
        place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    };
    let made = Made::directories(parent).map_err(failed)?;
    let mut workshop = Workshop::open(parent, place).map_err(failed)?;
    // Another process may have been at work there, and have ended meanwhile.
    check(place).map_err(refused)?;
    for (name, network, names) in files {
        let path = workshop.path.join(name).with_extension("safetensors");
        let mut file = BufWriter::with_capacity(1 << 20, File::create_new(path).map_err(failed)?);
        file.write_all(&header(network, names).map_err(failed)?).map_err(failed)?;
        for name in names {
            file.write_all(&network.read(name)?).map_err(failed)?;
        }
        file.flush().and_then(|()| file.get_ref().sync_all()).map_err(failed)?;
    }
    let text = serde_json::to_string_pretty(config).map_err(|error| failed(error.into()))?;
    let mut file = File::create_new(workshop.path.join("config.json")).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    if is_there {
        fill(&workshop.path, place).map_err(failed)?;
    } else {
        fs::rename(&workshop.path, place).map_err(failed)?;
        workshop.is_bundle = true;
    }
    made.keep();
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
}

/// The directory in which a bundle is written, beside its place or, if that is there, in it. It is
/// locked as long as somebody is at work in it: so another conversion to the same place knows that
/// it is taken, and any later one that what a killed one has left is nobody's. Removed when
/// dropped, unless it has become the bundle.
struct Workshop {
    path: PathBuf,
    /// Closing it frees the lock.
    _lock: File,
    is_bundle: bool,
}

impl Workshop {
    /// Makes the workshop for `place` in `parent`, and clears those of killed conversions away.
    ///
    /// # Errors
    /// When it cannot be made, or another process is at work in it.
    fn open(parent: &Path, place: &Path) -> io::Result<Self> {
        sweep(parent);
        let mut name = OsString::from(UNFINISHED);
        name.push(place.file_name().unwrap_or_default());
        let path = parent.join(name);
        loop {
            let is_new = match fs::create_dir(&path) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
                Err(error) => return Err(error),
            };
            let lock = match File::open(&path) {
                Ok(lock) => lock,
                // Whoever had it has just ended.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            // Of a new one somebody who sweeps may have the lock, for a moment.
            let locked =
                if is_new { lock.lock().map_err(TryLockError::Error) } else { lock.try_lock() };
            match locked {
                Ok(()) if !is_at(&lock, &path) => {}
                Ok(()) => return Ok(Self { path, _lock: lock, is_bundle: false }),
                // Some file systems have no locks.
                Err(TryLockError::Error(_)) if is_new => {
                    return Ok(Self { path, _lock: lock, is_bundle: false });
                }
                Err(_) => {
                    return Err(io::Error::other(format!(
                        "another var-dd is writing it, in {}; wait for it, or give another \
                         --output (if there is none, remove that directory)",
                        path.display()
                    )));
                }
            }
        }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if !self.is_bundle {
            // What cannot be removed now is swept away later.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes what conversions that were killed have left in a directory. Those that are at work hold
/// their locks.
fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().filter(is_unfinished) {
        let path = entry.path();
        let Ok(lock) = File::open(&path) else { continue };
        if lock.try_lock().is_ok() && is_at(&lock, &path) {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Moves files from one directory to another, all or none; `config.json`, by which a bundle is
/// known, comes last.
fn fill(from: &Path, to: &Path) -> io::Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort_by_key(|name| name == "config.json");
    let mut moved = Vec::new();
    for name in &names {
        // A link fails where a file has appeared meanwhile; a rename would replace it.
        let outcome = fs::hard_link(from.join(name), to.join(name)).or_else(|error| {
            // Some file systems have no links.
            match error.kind() {
                io::ErrorKind::AlreadyExists => Err(error),
                _ => fs::rename(from.join(name), to.join(name)),
            }
        });
        if let Err(error) = outcome {
            for path in &moved {
                // The error at hand says more than one about the rest would.
                let _ = fs::remove_file(path);
            }
            return Err(error);
        }
        moved.push(to.join(name));
    }
    Ok(())
}

/// Directories that were made on the way to a place; removed again when dropped, unless they are
/// kept.
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a directory and those above it that are missing.
    fn directories(path: &Path) -> io::Result<Self> {
        let mut missing: Vec<PathBuf> = path
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
            .map(Path::to_owned)
            .collect();
        let mut made = Self(Vec::new());
        while let Some(next) = missing.pop() {
            match fs::create_dir(&next) {
                Ok(()) => made.0.push(next),
                // Somebody else was faster: it is theirs.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && next.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // From the innermost out; one that is not empty stays.
        for path in self.0.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Length and header of a safetensors file of these tensors, in this order.
fn header(network: &Network<'_>, names: &[String]) -> io::Result<Vec<u8>> {
    let mut end = 0;
    let infos = names.iter().map(|name| {
        let tensor = &network.tensors[name];
        let begin = end;
        end += tensor.byte_length();
        let info = TensorInfo {
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            data_offsets: (begin, end),
        };
        (name.clone(), info)
    });
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos.collect()).map_err(io::Error::other)?;
    let mut json = serde_json::to_vec(&metadata)?;
    // Tensors begin at a multiple of eight bytes.
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok([&(json.len() as u64).to_le_bytes()[..], &json].concat())
}
