//! Where a bundle goes: checked before any work, written beside, moved when whole.

use std::{
    collections::HashMap,
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use safetensors::tensor::{Metadata, TensorInfo};

use super::{ConvertError, Network};
use crate::bundle::config::Config;

/// Checks a place where a bundle may go: nothing, or an empty directory.
pub(super) fn check(path: &Path) -> Result<(), String> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
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

/// Writes the bundle beside its place and moves it there when it is whole.
pub(super) fn write(
    place: &Path,
    config: &Config,
    files: &[(&str, &Network<'_>, Vec<String>)],
) -> Result<(), ConvertError> {
    let failed = |error: io::Error| ConvertError::Output {
        path: place.display().to_string(),
        reason: format!("the bundle cannot be written: {error}"),
    };
    // A rename would meet a link, not the directory behind it.
    let target =
        if place.is_dir() { place.canonicalize().map_err(failed)? } else { place.to_owned() };
    let parent =
        target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = Made::directories(parent).map_err(failed)?;
    let directory = tempfile::Builder::new()
        .prefix(".var-dd-convert-")
        .permissions(directory_permissions())
        .tempdir_in(parent)
        .map_err(failed)?;
    for (name, network, names) in files {
        let path = directory.path().join(name).with_extension("safetensors");
        let mut file = BufWriter::with_capacity(1 << 20, File::create_new(path).map_err(failed)?);
        file.write_all(&header(network, names).map_err(failed)?).map_err(failed)?;
        for name in names {
            file.write_all(&network.tensors[name].read()?).map_err(failed)?;
        }
        file.flush().and_then(|()| file.get_ref().sync_all()).map_err(failed)?;
    }
    let text = serde_json::to_string_pretty(config).map_err(|error| failed(error.into()))?;
    let mut file = File::create_new(directory.path().join("config.json")).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    // A rename replaces an empty directory and nothing else.
    fs::rename(directory.path(), &target).map_err(failed)?;
    // Nothing is left under the temporary name, so nothing is to be removed.
    let _ = directory.keep();
    made.keep();
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
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
