//! Where a bundle goes: checked before any work, written beside, moved when whole.

use std::{
    collections::HashMap,
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use safetensors::tensor::{Metadata, TensorInfo};

use super::{ConvertError, Network};
use crate::{
    bundle::weight_file::SavedTensor,
    config::Config,
    weights::{first_not_finite, number_at},
};

/// How names of directories begin in which a bundle is written.
const UNFINISHED: &str = ".var-dd-convert-";

fn is_unfinished(entry: &fs::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
}

/// Checks a place where a bundle may go: nothing, or an empty directory. What a conversion that was
/// killed has left there is nothing.
pub(super) fn check(path: &Path) -> Result<(), String> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.find(|entry| !entry.as_ref().is_ok_and(is_unfinished)) {
            None => Ok(()),
            Some(_) => {
                Err("there is something here already; give another --output, or remove it first"
                    .into())
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
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
    let failed = |error: io::Error| ConvertError::Output {
        path: place.display().to_string(),
        reason: format!("the bundle cannot be written: {error}"),
    };
    let is_there = place.is_dir();
    let parent = if is_there {
        place
    } else {
        place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    };
    let made = Made::directories(parent).map_err(failed)?;
    if is_there {
        remove_unfinished(place);
    }
    let directory = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(directory_permissions())
        .tempdir_in(parent)
        .map_err(failed)?;
    for (name, network, names) in files {
        let path = directory.path().join(name).with_extension("safetensors");
        let mut file = BufWriter::with_capacity(1 << 20, File::create_new(path).map_err(failed)?);
        file.write_all(&header(network, names).map_err(failed)?).map_err(failed)?;
        for name in names {
            let tensor = &network.tensors[name];
            let bytes = tensor.read()?;
            if let Some(at) = first_not_finite(tensor.dtype(), &bytes) {
                return Err(not_finite(network, name, tensor, &bytes, at));
            }
            file.write_all(&bytes).map_err(failed)?;
        }
        file.flush().and_then(|()| file.get_ref().sync_all()).map_err(failed)?;
    }
    let text = serde_json::to_string_pretty(config).map_err(|error| failed(error.into()))?;
    let mut file = File::create_new(directory.path().join("config.json")).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    if is_there {
        fill(directory.path(), place).map_err(failed)?;
    } else {
        fs::rename(directory.path(), place).map_err(failed)?;
        // Nothing is left under the temporary name, so nothing is to be removed.
        let _ = directory.keep();
    }
    made.keep();
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
}

/// Removes what conversions that were killed have left in their output. In the directory above it
/// another one may be at work, here none is: it would have refused the place.
fn remove_unfinished(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten().filter(is_unfinished) {
        // What cannot be removed is in nobody's way.
        let _ = fs::remove_dir_all(entry.path());
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

/// The refusal of a tensor whose element `at` is infinite or no number.
fn not_finite(
    network: &Network<'_>,
    name: &str,
    tensor: &SavedTensor<'_>,
    bytes: &[u8],
    at: usize,
) -> ConvertError {
    let shape = tensor.shape().to_vec();
    let mut index = vec![0; shape.len()];
    let mut rest = at;
    for (place, &size) in index.iter_mut().zip(&shape).rev() {
        (*place, rest) = (rest % size, rest / size);
    }
    ConvertError::NotFinite {
        origin: network.of().origin.to_owned(),
        name: name.to_owned(),
        shape,
        index,
        value: number_at(tensor.dtype(), bytes, at),
    }
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

/// What any new directory gets, less the process's mask.
fn directory_permissions() -> Permissions {
    use std::os::unix::fs::PermissionsExt;
    Permissions::from_mode(0o777)
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
