//! The container of a checkpoint: where the pickle and the storages lie in the file.
//!
//! Two containers exist: a zip archive of plainly stored records (`torch.save` since PyTorch 1.6)
//! and before it pickles and storages simply one after the other. Every announced size is compared
//! with the file before anything is allocated.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use zip::{CompressionMethod, ZipArchive};

use super::{pickle::Pickle, tensor::storage_types};
use crate::input_file::{self, FileKind, OLD_CHECKPOINT, is_old_checkpoint, shown};

/// Largest pickle that is read. Weights lie outside of it; the largest one known, a statistics file
/// with its arrays inside, has 50 MB.
const MAX_PICKLE: u64 = 256 << 20;

/// An open checkpoint file.
#[derive(Debug)]
pub(super) struct Archive {
    container: Container,
    /// Bytes of the file.
    pub(super) length: u64,
    /// Whether the numbers in storages have their most significant byte first.
    pub(super) big_endian: bool,
}

#[derive(Debug)]
enum Container {
    Zip {
        records: Box<ZipArchive<BufReader<File>>>,
        /// Directory of the records, with its slash.
        prefix: String,
    },
    Legacy {
        file: File,
        /// Position and size in bytes of each storage.
        storages: HashMap<String, (u64, u64)>,
    },
}

impl Archive {
    /// Opens a checkpoint and reads its pickle. The error is a reason without the file's name.
    pub(super) fn open(path: &Path) -> Result<(Self, Pickle), String> {
        let cannot = |error| format!("it cannot be opened: {error}");
        let mut file = input_file::open(path).map_err(cannot)?;
        let length = file.metadata().map_err(cannot)?.len();
        let start = input_file::start(&mut file).map_err(cannot)?;
        if start.starts_with(b"PK") {
            Self::open_zip(file, length)
        } else if is_old_checkpoint(&start) {
            Self::open_legacy(file, length)
        } else if OLD_CHECKPOINT.starts_with(&start) && !start.is_empty() {
            Err("it is cut off within its first bytes; copy or download it again".into())
        } else {
            Err(FileKind::of_start(&start).map_or_else(
                || {
                    "it is neither a zip archive nor the older format of torch.save; it is cut off \
                     at its start, damaged, or another kind of file"
                        .into()
                },
                |kind| kind.to_string(),
            ))
        }
    }

    fn open_zip(file: File, length: u64) -> Result<(Self, Pickle), String> {
        let records = ZipArchive::new(BufReader::new(file)).map_err(|error| {
            format!("it is cut off or damaged, its list of records cannot be read ({error})")
        })?;
        // Other archives may nest further ones; the checkpoint's own is the outermost.
        let names: Vec<String> =
            records.file_names().flatten().map(|name| name.into_owned()).collect();
        let prefix = names
            .iter()
            .filter_map(|name| name.strip_suffix("data.pkl"))
            .filter(|prefix| prefix.is_empty() || prefix.ends_with('/'))
            .min_by_key(|prefix| prefix.matches('/').count())
            .map(str::to_owned)
            .ok_or_else(|| of_other_zip(&names))?;
        if names.iter().any(|name| *name == format!("{prefix}constants.pkl")) {
            return Err("it is a TorchScript program (torch.jit.save), not weights; load it with \
                        torch.jit.load and save its state_dict() with torch.save"
                .into());
        }
        let mut archive = Self {
            container: Container::Zip { records: Box::new(records), prefix },
            length,
            big_endian: false,
        };
        if archive.record_size("byteorder").is_some() {
            let order = archive.read_record("byteorder", 16)?;
            archive.big_endian = match order.as_slice() {
                b"little" => false,
                b"big" => true,
                _ => return Err("its byte order is neither little nor big".into()),
            };
        }
        let pickle = archive.read_record("data.pkl", MAX_PICKLE)?;
        let pickle = Pickle::parse(&pickle).map_err(|error| error.to_string())?;
        Ok((archive, pickle))
    }

    /// Magic number, version, facts about the machine, the object, the keys of the storages; then
    /// for each key the number of elements (64 bits) and the elements.
    fn open_legacy(mut file: File, length: u64) -> Result<(Self, Pickle), String> {
        let mut head = Vec::new();
        file.rewind().map_err(|error| error.to_string())?;
        read_up_to(&mut file, MAX_PICKLE, &mut head)?;
        let mut at = 0;
        let mut next = || {
            let pickle = Pickle::parse(&head[at..]).map_err(|error| error.to_string())?;
            at += pickle.length;
            Ok::<_, String>(pickle)
        };
        let (_magic, _version, _machine) = (next()?, next()?, next()?);
        let object = next()?;
        let keys = next()?;
        let keys = keys.texts().ok_or("its list of storages is not a list of names")?;
        let types = storage_types(&object);
        let mut storages = HashMap::new();
        let mut at = at as u64;
        for key in keys {
            let element = types
                .get(key.as_str())
                .ok_or_else(|| format!("storage {key:?} belongs to no tensor"))?;
            let mut count = [0; 8];
            file.seek(SeekFrom::Start(at)).map_err(|error| error.to_string())?;
            file.read_exact(&mut count)
                .map_err(|_| format!("it ends before storage {key:?}; it is cut off"))?;
            let size = u64::from_le_bytes(count).checked_mul(*element as u64);
            let end = size.and_then(|size| size.checked_add(at + 8));
            let (Some(size), Some(end)) = (size, end.filter(|&end| end <= length)) else {
                return Err(format!(
                    "storage {key:?} reaches beyond the end; the file is cut off or damaged"
                ));
            };
            storages.insert(key, (at + 8, size));
            at = end;
        }
        let archive = Self {
            container: Container::Legacy { file, storages },
            length,
            // Written little-endian whatever the machine.
            big_endian: false,
        };
        Ok((archive, object))
    }

    /// Size in bytes of a storage.
    pub(super) fn storage_size(&mut self, key: &str) -> Option<u64> {
        match &self.container {
            Container::Zip { .. } => self.record_size(&format!("data/{key}")),
            Container::Legacy { storages, .. } => storages.get(key).map(|&(_, size)| size),
        }
    }

    /// The bytes of a storage.
    pub(super) fn read_storage(&mut self, key: &str) -> Result<Vec<u8>, String> {
        match &mut self.container {
            Container::Zip { .. } => self.read_record(&format!("data/{key}"), self.length),
            Container::Legacy { file, storages } => {
                let &(at, size) =
                    storages.get(key).ok_or_else(|| format!("there is no storage {key:?}"))?;
                let mut bytes = vec![0; size as usize];
                file.seek(SeekFrom::Start(at))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .map_err(|error| format!("storage {key:?} cannot be read: {error}"))?;
                Ok(bytes)
            }
        }
    }

    fn record_size(&mut self, name: &str) -> Option<u64> {
        let Container::Zip { records, prefix } = &mut self.container else {
            return None;
        };
        let index = records.index_for_name_raw(format!("{prefix}{name}").as_bytes())?;
        records.by_index_raw(index).ok().map(|record| record.size())
    }

    /// Reads a record of the zip archive and checks its checksum, if it has one: PyTorch can be
    /// told to save without (`torch.serialization.set_crc32_options(False)`), and writes 0 then.
    fn read_record(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, String> {
        let limit = limit.min(self.length);
        let Container::Zip { records, prefix } = &mut self.container else {
            return Err(format!("there is no record {name}"));
        };
        let index = records.index_for_name_raw(format!("{prefix}{name}").as_bytes());
        let index = index.ok_or_else(|| format!("record {name} is missing"))?;
        // As it lies in the file: the library would insist on the checksum.
        let mut record = records
            .by_index_raw(index)
            .map_err(|error| format!("record {name} cannot be read: {error}"))?;
        if record.compression() != CompressionMethod::Stored {
            return Err(format!(
                "record {name} is compressed; PyTorch stores records plainly, save the file again \
                 with torch.save"
            ));
        }
        let size = record.size();
        if size > limit {
            return Err(format!(
                "record {name} announces {size} bytes; at most {limit} can be right"
            ));
        }
        let checksum = record.crc32();
        let mut bytes = Vec::with_capacity(size as usize);
        record
            .read_to_end(&mut bytes)
            .map_err(|error| format!("record {name} is damaged: {error}"))?;
        if bytes.len() as u64 != size {
            return Err(format!("record {name} announces {size} bytes and has {}", bytes.len()));
        }
        if checksum != 0 && crc32fast::hash(&bytes) != checksum {
            return Err(format!(
                "record {name} is damaged: its checksum is wrong; copy or download the file again"
            ));
        }
        Ok(bytes)
    }
}

/// What a zip archive is that is no checkpoint, by the names in it.
fn of_other_zip(names: &[String]) -> String {
    let inside = |endings: &[&str]| {
        names.iter().find(|name| endings.iter().any(|ending| name.ends_with(ending)))
    };
    if let Some(name) = inside(&[".pth", ".pt", ".bin", ".ckpt", ".safetensors"]) {
        format!("it is a zip archive that holds {:?}; unpack it first", shown(name))
    } else if inside(&[".npy"]).is_some() {
        "it is an archive of NumPy (.npz)".into()
    } else if inside(&[".keras", "model.weights.h5"]).is_some() {
        "it holds weights of Keras; give the PyTorch checkpoint".into()
    } else {
        let names: Vec<_> = names.iter().take(4).map(|name| shown(name)).collect();
        format!("it is a zip archive without a data.pkl; it holds: {}", names.join(", "))
    }
}

fn read_up_to(file: &mut File, limit: u64, into: &mut Vec<u8>) -> Result<(), String> {
    let read = file.take(limit).read_to_end(into);
    read.map(drop).map_err(|error| format!("it cannot be read: {error}"))
}
