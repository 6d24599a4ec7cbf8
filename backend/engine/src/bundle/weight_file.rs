//! Files of weights, PyTorch's (`.pth`) and safetensors, and where in them a network's weights are.
//!
//! Which of the two a file is, its contents say, not its name. A PyTorch file may keep the weights
//! in a dictionary within others (`trainer.ema_parameters`, `state_dict`), and either may have
//! something before every name (`module.`, `_orig_mod.`): wrappers of training loops, which are
//! taken off.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use safetensors::tensor::{Metadata, TensorInfo};

use super::checkpoint::{Checkpoint, CheckpointError, CheckpointTensor, Dtype, Item};
use crate::input_file::{self, FileKind, listed, shown};

/// Dictionaries within dictionaries that are looked into.
const DEPTH: usize = 4;

/// Longest header of a safetensors file, as in the format's own library.
const MAX_HEADER: u64 = 100_000_000;

/// An open file of weights. Its tensors are read one by one, when asked for.
#[derive(Debug)]
pub enum WeightFile {
    /// A PyTorch checkpoint.
    Checkpoint(Checkpoint),
    /// A safetensors file.
    Safetensors(SafetensorsFile),
}

/// An open safetensors file.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    file: File,
    length: u64,
    /// Where the tensors begin.
    data: u64,
    tensors: Vec<(String, TensorInfo)>,
}

/// A dictionary of tensors in a file of weights.
#[derive(Clone, Debug)]
pub struct TensorDictionary<'a> {
    /// The keys that lead to it, with dots between; empty if the file is the dictionary.
    pub place: String,
    /// Other keys that lead to the very same dictionary, some of them if there are many.
    pub also: Vec<String>,
    /// What stood before every name and has been taken off.
    pub prefix: String,
    /// How names of tensors began that stood beside those with the prefix and have been left out.
    left: BTreeSet<&'a str>,
    entries: Vec<(&'a str, FileEntry<'a>)>,
}

#[derive(Clone, Copy, Debug)]
enum FileEntry<'a> {
    Pickled(Item<'a>),
    Plain(&'a SafetensorsFile, &'a TensorInfo),
}

/// A tensor of a file of weights.
#[derive(Clone, Debug)]
pub enum SavedTensor<'a> {
    /// In a PyTorch checkpoint.
    Pickled(CheckpointTensor<'a>),
    /// In a safetensors file, by its name there.
    Plain(&'a str, &'a SafetensorsFile, &'a TensorInfo),
}

impl WeightFile {
    /// Opens a file and reads the list of its tensors.
    ///
    /// # Errors
    /// [`CheckpointError::File`] and [`CheckpointError::Safetensors`] when the file cannot be read,
    /// is cut off, or is something else; they say what it is.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let start = input_file::open(path).and_then(|mut file| input_file::start(&mut file));
        let start = start.map_err(|error| CheckpointError::File {
            path: path.to_owned(),
            reason: format!("it cannot be opened: {error}"),
        })?;
        match FileKind::of_start(&start) {
            Some(FileKind::Safetensors) => SafetensorsFile::open(path).map(Self::Safetensors),
            _ => Checkpoint::open(path).map(Self::Checkpoint),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.path(),
            Self::Safetensors(file) => &file.path,
        }
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.length(),
            Self::Safetensors(file) => file.length,
        }
    }

    /// What the file holds where a state dict should be, and what helps.
    pub fn instead_of_state_dict(&self) -> String {
        match self {
            Self::Checkpoint(checkpoint) => format!(
                "holds no state dict (a dictionary of tensors) but {}; in Python, save \
                 `model.state_dict()` with torch.save",
                checkpoint.root().in_words()
            ),
            Self::Safetensors(_) => "holds no tensors; it is empty".into(),
        }
    }

    /// Every dictionary that has a tensor for a value, the outer ones first.
    pub fn dictionaries(&self) -> Vec<TensorDictionary<'_>> {
        match self {
            Self::Safetensors(file) => {
                let entries = file.tensors.iter();
                let entries = entries
                    .map(|(name, info)| (name.as_str(), FileEntry::Plain(file, info)))
                    .collect();
                vec![TensorDictionary {
                    place: String::new(),
                    also: Vec::new(),
                    prefix: String::new(),
                    left: BTreeSet::new(),
                    entries,
                }]
            }
            Self::Checkpoint(checkpoint) => {
                let mut found = Vec::new();
                // Each dictionary once: one may hold itself, or another under many keys. With each
                // goes where it stands in the list, if it has tensors.
                let mut seen: HashMap<u32, Option<usize>> = HashMap::new();
                let mut level = vec![(String::new(), checkpoint.root())];
                for _ in 0..=DEPTH {
                    let mut below = Vec::new();
                    for (place, item) in level {
                        if let Some(known) = seen.get(&item.id()) {
                            let known = known.and_then(|at| found.get_mut(at));
                            if let Some(TensorDictionary { also, .. }) = known
                                && also.len() < MOST_ALIASES
                            {
                                also.push(place);
                            }
                            continue;
                        }
                        let Some(entries) = item.entries() else { continue };
                        let (tensors, others): (Vec<_>, Vec<_>) =
                            entries.iter().partition(|(_, item)| item.is_tensor());
                        let dot = if place.is_empty() { "" } else { "." };
                        below.extend(
                            others.iter().map(|(key, item)| (format!("{place}{dot}{key}"), *item)),
                        );
                        seen.insert(item.id(), (!tensors.is_empty()).then_some(found.len()));
                        if !tensors.is_empty() {
                            let entries = entries.into_iter();
                            let entries = entries
                                .map(|(name, item)| (name, FileEntry::Pickled(item)))
                                .collect();
                            found.push(TensorDictionary {
                                place,
                                also: Vec::new(),
                                prefix: String::new(),
                                left: BTreeSet::new(),
                                entries,
                            });
                        }
                    }
                    level = below;
                }
                found
            }
        }
    }
}

/// Keys noted that lead to one dictionary, besides the first.
const MOST_ALIASES: usize = 8;

/// Prefixes of one dictionary below which a network is looked for.
const MOST_PREFIXES: usize = 8;

impl SafetensorsFile {
    fn open(path: &Path) -> Result<Self, CheckpointError> {
        let refuse =
            |reason: String| CheckpointError::Safetensors { path: path.to_owned(), reason };
        let cannot = |error: std::io::Error| refuse(format!("it cannot be read: {error}"));
        let file = input_file::open(path).map_err(cannot)?;
        let length = file.metadata().map_err(cannot)?.len();
        let mut header = [0; 8];
        file.read_exact_at(&mut header, 0).map_err(cannot)?;
        let header = u64::from_le_bytes(header);
        if header > MAX_HEADER || header.saturating_add(8) > length {
            return Err(refuse(format!(
                "its header of {header} bytes does not fit the file of {length}; it is cut off or \
                 damaged, copy it again"
            )));
        }
        let mut text = vec![0; header as usize];
        file.read_exact_at(&mut text, 8).map_err(cannot)?;
        // Checks that shapes fit their sizes and that nothing overlaps.
        let metadata: Metadata = serde_json::from_slice(&text).map_err(|error| {
            refuse(format!("its header is damaged: {}", shown(&error.to_string())))
        })?;
        let data = 8 + header;
        let end = data.saturating_add(metadata.data_len() as u64);
        if end != length {
            return Err(refuse(format!(
                "it has {length} bytes and its header announces {end}; it is cut off or damaged, \
                 copy it again"
            )));
        }
        let named = metadata.tensors().into_iter();
        let mut tensors: Vec<_> = named.map(|(name, info)| (name, info.clone())).collect();
        tensors.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self { path: path.to_owned(), file, length, data, tensors })
    }
}

impl<'a> TensorDictionary<'a> {
    /// Names of all entries, without the prefix.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|(name, _)| self.short(name))
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] when its type is not supported, or it reaches beyond the file.
    pub fn tensor(&self, name: &str) -> Result<Option<SavedTensor<'a>>, CheckpointError> {
        let found = self.entries.iter().find(|(full, _)| self.short(full) == name);
        found.map_or(Ok(None), |entry| self.open(entry))
    }

    /// All entries; `None` in place of a tensor where an entry is none.
    ///
    /// # Errors
    /// As [`TensorDictionary::tensor`], for the first one that is amiss.
    pub fn tensors(
        &self,
    ) -> impl Iterator<Item = Result<(&'a str, Option<SavedTensor<'a>>), CheckpointError>> {
        self.entries.iter().map(|entry| Ok((self.short(entry.0), self.open(entry)?)))
    }

    fn short(&self, name: &'a str) -> &'a str {
        name.strip_prefix(self.prefix.as_str()).unwrap_or(name)
    }

    fn open(
        &self,
        (name, entry): &(&'a str, FileEntry<'a>),
    ) -> Result<Option<SavedTensor<'a>>, CheckpointError> {
        Ok(match *entry {
            FileEntry::Pickled(item) => item.tensor(name)?.map(SavedTensor::Pickled),
            FileEntry::Plain(file, info) => Some(SavedTensor::Plain(name, file, info)),
        })
    }

    /// The same without what stands before the names of a network's tensors, of which `anchors` are
    /// some: names that it surely has. Nothing if there are none; several dictionaries if as many
    /// anchors stand behind several prefixes, as of a network and its moving average.
    ///
    /// What stands beside the prefix is none of the network's and goes. It is told by
    /// [`TensorDictionary::wrapping`], but for what counts steps or averages (as `n_averaged` of
    /// PyTorch's averaged models).
    pub fn unwrapped(&self, anchors: &[&str]) -> Vec<Self> {
        let names = || self.entries.iter().map(|(name, _)| *name);
        if names().any(|name| anchors.contains(&name)) {
            return vec![self.clone()];
        }
        let mut found: BTreeMap<&'a str, usize> = BTreeMap::new();
        for name in names() {
            let prefix = anchors.iter().find_map(|anchor| {
                name.strip_suffix(*anchor).filter(|prefix| prefix.ends_with('.'))
            });
            if let Some(prefix) = prefix {
                *found.entry(prefix).or_default() += 1;
            }
        }
        // Other networks may have one of the names, too: most count, and half beside others.
        let most = found.values().max().copied();
        let likeliest = found.into_iter().filter(|&(_, count)| Some(count) == most);
        likeliest
            .take(MOST_PREFIXES)
            .map(|(prefix, count)| (self.below(prefix), count))
            .filter(|(below, count)| below.left.is_empty() || *count * 2 >= anchors.len())
            .map(|(below, _)| below)
            .collect()
    }

    /// What has a prefix, without it.
    fn below(&self, prefix: &str) -> Self {
        let (entries, others): (Vec<_>, Vec<_>) =
            self.entries.iter().copied().partition(|(name, _)| name.starts_with(prefix));
        let is_counter = |entry: &FileEntry<'_>| match entry {
            FileEntry::Pickled(item) => {
                !item.is_tensor()
                    || item.tensor("").is_ok_and(|tensor| {
                        tensor.is_some_and(|tensor| tensor.shape().iter().product::<usize>() == 1)
                    })
            }
            FileEntry::Plain(_, info) => info.shape.iter().product::<usize>() == 1,
        };
        let others = others.iter().filter(|(_, entry)| !is_counter(entry));
        let left = others.filter_map(|(name, _)| name.split('.').next()).collect();
        let (place, also) = (self.place.clone(), self.also.clone());
        Self { place, also, prefix: prefix.to_owned(), left, entries }
    }

    /// What was taken off, in words; `None` if the file is the plain dictionary.
    pub fn wrapping(&self) -> Option<String> {
        let place = (!self.place.is_empty()).then(|| format!("the weights in {}", self.place));
        let prefix = (!self.prefix.is_empty())
            .then(|| format!("the names without {:?} before each", self.prefix));
        let left = (!self.left.is_empty())
            .then(|| format!("not what is beside them ({})", listed(self.left.iter().copied())));
        let parts: Vec<_> =
            place.into_iter().chain(prefix).map(|part| shown(&part)).chain(left).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl SavedTensor<'_> {
    /// Element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::Pickled(tensor) => tensor.dtype(),
            Self::Plain(_, _, info) => info.dtype,
        }
    }

    /// Sizes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Pickled(tensor) => tensor.shape(),
            Self::Plain(_, _, info) => &info.shape,
        }
    }

    /// Number of bytes that [`SavedTensor::read`] gives.
    pub fn byte_length(&self) -> usize {
        match self {
            Self::Pickled(tensor) => tensor.byte_length(),
            Self::Plain(_, _, info) => info.data_offsets.1 - info.data_offsets.0,
        }
    }

    /// The elements in row-major order, little-endian.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] when the file cannot be read or is damaged.
    pub fn read(&self) -> Result<Vec<u8>, CheckpointError> {
        match self {
            Self::Pickled(tensor) => tensor.read(),
            Self::Plain(name, file, info) => {
                let mut bytes = vec![0; self.byte_length()];
                let at = file.data + info.data_offsets.0 as u64;
                file.file.read_exact_at(&mut bytes, at).map_err(|error| {
                    CheckpointError::Tensor {
                        path: file.path.clone(),
                        name: (*name).to_owned(),
                        reason: error.to_string(),
                    }
                })?;
                Ok(bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::bundle::checkpoint::writer::{TensorValue, Value, write};

    #[test]
    fn wrappers_are_taken_off_and_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pth");
        let tensor = |key: &str| Value::Tensor(TensorValue::contiguous("FloatStorage", key, &[1]));
        let inner = Value::Dict(vec![
            ("module.a.weight".into(), tensor("0")),
            ("module.b".into(), tensor("0")),
        ]);
        let outer = Value::Dict(vec![
            ("epoch".into(), Value::Int(3)),
            ("state_dict".into(), inner),
            ("optimizer".into(), Value::Dict(vec![("lr".into(), Value::Int(1))])),
        ]);
        write(&path, &outer, &[("0".into(), vec![0; 4])]);
        let file = WeightFile::open(&path).unwrap();
        let found = file.dictionaries();
        assert_eq!(found.len(), 1);
        assert!(found[0].unwrapped(&["c.weight"]).is_empty());
        let found = found[0].unwrapped(&["c.weight", "a.weight"]);
        assert_eq!(found[0].names().collect::<Vec<_>>(), ["a.weight", "b"]);
        let words = found[0].wrapping().unwrap();
        assert!(words.contains("state_dict") && words.contains("\"module.\""), "{words}");
        assert_eq!(found[0].tensor("b").unwrap().unwrap().shape(), [1]);
    }

    #[test]
    fn what_counts_beside_averaged_weights_is_none_of_the_network_s() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pth");
        let tensor =
            |sizes: &[i64]| Value::Tensor(TensorValue::contiguous("FloatStorage", "0", sizes));
        let file = |entries: Vec<(&str, Value)>| {
            let entries = entries.into_iter().map(|(name, value)| (name.into(), value)).collect();
            write(&path, &Value::Dict(entries), &[("0".into(), vec![0; 8])]);
            WeightFile::open(&path).unwrap()
        };
        let weights = || [("module.a.weight", tensor(&[2])), ("module.b", tensor(&[1]))];
        let counters = [("n_averaged", tensor(&[])), ("epoch", Value::Int(3))];
        let averaged = file(counters.into_iter().chain(weights()).collect());
        let found = averaged.dictionaries()[0].unwrapped(&["a.weight"]);
        assert_eq!(found[0].names().collect::<Vec<_>>(), ["a.weight", "b"]);
        assert!(!found[0].wrapping().unwrap().contains("beside"), "{:?}", found[0].wrapping());
        // What has tensors beside them is another network, and said.
        let other = file(weights().into_iter().chain([("c.weight", tensor(&[2]))]).collect());
        let found = other.dictionaries()[0].unwrapped(&["a.weight"]);
        assert_eq!(found[0].names().collect::<Vec<_>>(), ["a.weight", "b"]);
        assert!(found[0].wrapping().unwrap().ends_with("not what is beside them (c)"));
        // Of several prefixes, those that most of a network's names stand behind.
        let names = ["a.w", "a.v", "b.w", "b.v", "b.u", "loss.w"];
        let several = file(names.map(|name| (name, tensor(&[2]))).into());
        let found = several.dictionaries()[0].unwrapped(&["w", "v"]);
        let prefixes: Vec<_> = found.iter().map(|found| found.prefix.as_str()).collect();
        assert_eq!(prefixes, ["a.", "b."]);
        assert_eq!(found[1].names().collect::<Vec<_>>(), ["w", "v", "u"]);
    }

    #[test]
    fn a_safetensors_file_is_known_by_its_contents_and_checked_against_its_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights.pth");
        let tensor = tch::Tensor::from_slice(&[1.0f32, 2.0]);
        crate::tensor_file::write(&path, &[("a".into(), tensor)]).unwrap();
        let bytes = fs::read(&path).unwrap();
        let file = WeightFile::open(&path).unwrap();
        let tensor = file.dictionaries()[0].tensor("a").unwrap().unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, [2].as_slice()));
        assert_eq!(tensor.read().unwrap(), [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat());
        for length in [12, bytes.len() - 1] {
            fs::write(&path, &bytes[..length]).unwrap();
            let error = WeightFile::open(&path).unwrap_err().to_string();
            assert!(error.contains("cut off or damaged"), "{error}");
        }
    }
}
