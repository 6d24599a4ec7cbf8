//! Pictures as tokens in files: (label, seed, codes) for each, many to a file.
//!
//! A shard is a safetensors file with `labels` i64 `[n]`, `seeds` u64 `[n, 2]` (seed and index of
//! the picture or of its noise) and `codes` u16 `[n, N]`. Its header says what it was made with,
//! and carries a checksum, so that a shard that is damaged, cut off or from other settings is
//! found; it appears whole or not at all.

use std::{
    cmp::Ordering,
    collections::HashMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Instant,
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

use super::{Outcome, TrainError, Watch, checkpoint::differences, claim::Claim, write_file};
use crate::sample::noise::PictureSeed;

const SETTINGS: &str = "settings";
const CHECKSUM: &str = "crc32";

/// Some pictures as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Class of each.
    pub labels: Vec<i64>,
    /// Which picture, or which noise.
    pub seeds: Vec<PictureSeed>,
    /// Codeword numbers, `N` each.
    pub codes: Vec<u16>,
}

impl Pairs {
    /// Pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Adds others behind these.
    pub fn extend(&mut self, others: Self) {
        self.labels.extend(others.labels);
        self.seeds.extend(others.seeds);
        self.codes.extend(others.codes);
    }

    /// Takes the pictures from number `at` on away.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let tokens = self.codes.len() / self.len().max(1);
        Self {
            labels: self.labels.split_off(at),
            seeds: self.seeds.split_off(at),
            codes: self.codes.split_off(at * tokens),
        }
    }

    fn bytes(&self) -> [(&'static str, Dtype, Vec<usize>, Vec<u8>); 3] {
        let n = self.len();
        let labels = self.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        let seeds = self
            .seeds
            .iter()
            .flat_map(|seed| [seed.seed, seed.index])
            .flat_map(u64::to_le_bytes)
            .collect();
        let codes = self.codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        [
            ("labels", Dtype::I64, vec![n], labels),
            ("seeds", Dtype::U64, vec![n, 2], seeds),
            ("codes", Dtype::U16, vec![n, self.codes.len() / n.max(1)], codes),
        ]
    }

    /// Writes a shard.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn write(&self, path: &Path, settings: &Value) -> Result<(), TrainError> {
        let buffers = self.bytes();
        let header = HashMap::from([
            (SETTINGS.to_owned(), settings.to_string()),
            (
                CHECKSUM.to_owned(),
                checksum(buffers.iter().map(|(.., bytes)| bytes.as_slice())).to_string(),
            ),
        ]);
        let failed = |error: safetensors::SafeTensorError| TrainError::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let views: Vec<_> = buffers
            .iter()
            .map(|(name, dtype, shape, bytes)| {
                Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?))
            })
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        write_file(path, &safetensors::serialize(views, Some(header)).map_err(failed)?)
    }
}

fn checksum<'a>(parts: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// What a shard says that it was made with.
fn settings_of(bytes: &[u8]) -> Option<Value> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    serde_json::from_str(metadata.metadata().as_ref()?.get(SETTINGS)?).ok()
}

/// What is wrong with a shard.
#[derive(Debug, PartialEq, Eq)]
enum Flaw {
    Absent,
    Damaged(String),
    /// It is sound and has fewer pictures than are wanted now.
    Short(String),
    OtherSettings(Vec<String>),
}

/// A directory of shards of one kind.
#[derive(Clone, Debug)]
pub struct Shards {
    /// The directory.
    pub directory: PathBuf,
    /// Everything that its contents depend on.
    pub settings: Value,
    /// Pictures in all.
    pub total: u64,
    /// Pictures in a file; the last may have fewer.
    pub per_file: u64,
    /// Tokens of a picture.
    pub tokens: usize,
    /// Codewords; no code reaches it.
    pub vocabulary: i64,
    /// Classes; no label reaches it.
    pub num_classes: i64,
}

impl Shards {
    /// Number of files.
    fn files(&self) -> u64 {
        self.total.div_ceil(self.per_file)
    }

    fn path(&self, file: u64) -> PathBuf {
        self.directory.join(format!("{file:05}.safetensors"))
    }

    /// Pictures of a file.
    fn pictures(&self, file: u64) -> std::ops::Range<u64> {
        let start = file * self.per_file;
        start..(start + self.per_file).min(self.total)
    }

    /// Makes every shard that is not there or not whole. `make` gives some pictures by their
    /// numbers, `batch` at a time.
    ///
    /// # Errors
    /// When a shard is of other settings, `make` fails, or a file cannot be written; whole shards
    /// stay.
    pub fn fill(
        &self,
        name: &str,
        batch: usize,
        watch: &mut dyn Watch,
        mut make: impl FnMut(&[u64]) -> Result<Pairs, TrainError>,
    ) -> Result<Outcome, TrainError> {
        let _claim = Claim::take(&self.directory)?;
        let mut missing = Vec::new();
        for file in 0..self.files() {
            match self.read_file(file)? {
                Ok(_) => {}
                Err(Flaw::Absent) => missing.push(file),
                Err(Flaw::Damaged(reason)) => {
                    let path = self.path(file);
                    watch.tell(&format!(
                        "{} is damaged ({reason}) and is made again",
                        path.display()
                    ));
                    missing.push(file);
                }
                Err(Flaw::Short(reason)) => {
                    let path = self.path(file);
                    watch.tell(&format!("{} {reason} and is made again", path.display()));
                    missing.push(file);
                }
                Err(Flaw::OtherSettings(changes)) => {
                    return Err(TrainError::OtherSettings { path: self.path(file), changes });
                }
            }
        }
        let count = |files: &[u64]| {
            files.iter().map(|&file| self.pictures(file).count() as u64).sum::<u64>()
        };
        let mut done = self.total - count(&missing);
        watch.begin(name, done, self.total, "pictures");
        let (began, first) = (Instant::now(), done);
        for file in missing {
            let mut pairs = Pairs::default();
            let numbers: Vec<u64> = self.pictures(file).collect();
            for some in numbers.chunks(batch) {
                pairs.extend(make(some)?);
                done += some.len() as u64;
                let rate = (done - first) as f64 / began.elapsed().as_secs_f64();
                if watch.advance(done, &[("pictures_per_second", rate)]).is_break() {
                    return Ok(Outcome::Stopped);
                }
            }
            pairs.write(&self.path(file), &self.settings)?;
        }
        watch.end();
        Ok(Outcome::Done)
    }

    /// With shards in whatever number type they were made: pairs are worth the same in each, and what
    /// is fastest for a teacher that draws need not be for a student that learns.
    pub fn in_any_dtype(mut self) -> Self {
        let there = fs::read(self.path(0)).ok().and_then(|bytes| settings_of(&bytes));
        let found = there.and_then(|settings| settings.get("dtype").cloned());
        if let (Some(dtype), Some(found)) = (self.settings.get_mut("dtype"), found) {
            *dtype = found;
        }
        self
    }

    /// Every picture of every shard.
    ///
    /// # Errors
    /// When a shard is missing, damaged or of other settings.
    pub fn read(&self, command: &str) -> Result<Pairs, TrainError> {
        let mut all = Pairs::default();
        for file in 0..self.files() {
            let path = self.path(file);
            match self.read_file(file)? {
                Ok(pairs) => all.extend(pairs),
                Err(Flaw::Absent) => {
                    return Err(TrainError::Missing {
                        path,
                        advice: format!("`var-dd train {command}` makes it"),
                    });
                }
                Err(Flaw::Damaged(reason)) => {
                    let advice = format!(
                        "it is damaged ({reason}); `var-dd train {command}` makes it again"
                    );
                    return Err(TrainError::Missing { path, advice });
                }
                Err(Flaw::Short(reason)) => {
                    let advice = format!("it {reason}; `var-dd train {command}` makes the others");
                    return Err(TrainError::Missing { path, advice });
                }
                Err(Flaw::OtherSettings(changes)) => {
                    return Err(TrainError::OtherSettings { path, changes });
                }
            }
        }
        Ok(all)
    }

    fn read_file(&self, file: u64) -> Result<Result<Pairs, Flaw>, TrainError> {
        let path = self.path(file);
        match fs::read(&path) {
            Ok(bytes) => Ok(self.parse(&bytes).and_then(|pairs| self.as_many(file, pairs))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Err(Flaw::Absent)),
            Err(source) => Err(TrainError::Read { path, source }),
        }
    }

    /// As many pictures as a file is to have now.
    fn as_many(&self, file: u64, mut pairs: Pairs) -> Result<Pairs, Flaw> {
        let (found, expected) = (pairs.len(), self.pictures(file).count());
        let is_last = |file: u64| !self.path(file + 1).exists();
        match found.cmp(&expected) {
            Ordering::Equal => Ok(pairs),
            // Fewer are wanted in all than there are.
            Ordering::Greater if file + 1 == self.files() => {
                drop(pairs.split_off(expected));
                Ok(pairs)
            }
            // More are wanted in all than there were.
            Ordering::Less if is_last(file) => {
                Err(Flaw::Short(format!("has {found} of {expected} pictures")))
            }
            _ => Err(Flaw::OtherSettings(vec![format!(
                "pictures in a file was {found} and is {expected}"
            )])),
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Pairs, Flaw> {
        let damaged = |reason: &str| Flaw::Damaged(reason.to_owned());
        let text = |error: safetensors::SafeTensorError| Flaw::Damaged(error.to_string());
        let file = SafeTensors::deserialize(bytes).map_err(text)?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(text)?;
        let header =
            |key: &str| metadata.metadata().as_ref().and_then(|header| header.get(key)).cloned();
        let part = |name: &str| {
            file.tensor(name).map(|view| (view.dtype(), view.shape().to_vec(), view.data()))
        };
        let parts = [
            part("labels").map_err(text)?,
            part("seeds").map_err(text)?,
            part("codes").map_err(text)?,
        ];
        let sum = checksum(parts.iter().map(|(_, _, data)| *data)).to_string();
        if header(CHECKSUM).as_ref() != Some(&sum) {
            return Err(damaged("its checksum is not that of its contents"));
        }
        let settings = settings_of(bytes)
            .ok_or_else(|| damaged("its header does not say what it was made with"))?;
        let changes = differences("", &settings, &self.settings);
        if !changes.is_empty() {
            return Err(Flaw::OtherSettings(changes));
        }
        let [labels, seeds, codes] = parts;
        let count = labels.1.first().copied().unwrap_or_default();
        let shapes = [(labels.0, labels.1), (seeds.0, seeds.1), (codes.0, codes.1)];
        let right = [
            (Dtype::I64, vec![count]),
            (Dtype::U64, vec![count, 2]),
            (Dtype::U16, vec![count, self.tokens]),
        ];
        if shapes != right {
            return Err(Flaw::Damaged(format!("it holds {shapes:?} and should hold {right:?}")));
        }
        let pairs = Pairs {
            labels: labels
                .2
                .as_chunks::<8>()
                .0
                .iter()
                .map(|&bytes| i64::from_le_bytes(bytes))
                .collect(),
            seeds: seeds
                .2
                .as_chunks::<16>()
                .0
                .iter()
                .map(|bytes| {
                    let (seed, index) = bytes.split_at(8);
                    let number =
                        |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
                    PictureSeed { seed: number(seed), index: number(index) }
                })
                .collect(),
            codes: codes
                .2
                .as_chunks::<2>()
                .0
                .iter()
                .map(|&bytes| u16::from_le_bytes(bytes))
                .collect(),
        };
        if pairs.labels.iter().any(|label| !(0..self.num_classes).contains(label)) {
            return Err(Flaw::Damaged(format!(
                "a label is not from 0 to {}",
                self.num_classes - 1
            )));
        }
        if pairs.codes.iter().any(|&code| i64::from(code) >= self.vocabulary) {
            return Err(Flaw::Damaged(format!("a code is not from 0 to {}", self.vocabulary - 1)));
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use serde_json::json;

    use super::*;

    /// Stops when so many are done, and keeps what it is told.
    struct StopAt(u64, Vec<String>);

    impl Watch for StopAt {
        fn begin(&mut self, _: &str, done: u64, _: u64, _: &'static str) {
            self.1.push(format!("begin {done}"));
        }
        fn advance(&mut self, done: u64, _: &[(&str, f64)]) -> ControlFlow<()> {
            if done >= self.0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        fn tell(&mut self, text: &str) {
            self.1.push(text.into());
        }
        fn end(&mut self) {}
    }

    fn whole_files(directory: &Path) -> usize {
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".safetensors")).count()
    }

    fn shards(directory: &Path) -> Shards {
        Shards {
            directory: directory.to_owned(),
            settings: json!({"teacher": 7}),
            total: 10,
            per_file: 4,
            tokens: 3,
            vocabulary: 300,
            num_classes: 5,
        }
    }

    fn make(numbers: &[u64]) -> Result<Pairs, TrainError> {
        Ok(Pairs {
            labels: numbers.iter().map(|n| (n % 5) as i64).collect(),
            seeds: numbers.iter().map(|&index| PictureSeed { seed: 9, index }).collect(),
            codes: numbers.iter().flat_map(|&n| [n as u16, 290, 3]).collect(),
        })
    }

    #[test]
    fn an_interrupted_run_goes_on_after_its_whole_shards_and_ends_alike() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut watch = StopAt(6, Vec::new());
        let stopped = shards(one.path()).fill("x", 2, &mut watch, make).unwrap();
        assert_eq!(stopped, Outcome::Stopped);
        assert_eq!(whole_files(one.path()), 1);
        let error = shards(one.path()).read("trajectories").unwrap_err().to_string();
        assert!(
            error.contains("00001.safetensors") && error.contains("var-dd train trajectories"),
            "{error}"
        );
        let mut watch = StopAt(99, Vec::new());
        let mut asked = Vec::new();
        let outcome = shards(one.path()).fill("x", 2, &mut watch, |numbers| {
            asked.extend_from_slice(numbers);
            make(numbers)
        });
        assert_eq!(outcome.unwrap(), Outcome::Done);
        assert_eq!(asked, [4, 5, 6, 7, 8, 9]);
        assert_eq!(watch.1[0], "begin 4");
        shards(other.path()).fill("x", 3, &mut StopAt(99, Vec::new()), make).unwrap();
        assert_eq!(shards(one.path()).read("x").unwrap(), shards(other.path()).read("x").unwrap());
        assert_eq!(
            shards(one.path()).read("x").unwrap(),
            make(&(0..10).collect::<Vec<_>>()).unwrap()
        );
    }

    #[test]
    fn a_damaged_or_cut_shard_is_found_and_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let shards = shards(directory.path());
        let mut watch = StopAt(99, Vec::new());
        shards.fill("x", 4, &mut watch, make).unwrap();
        let whole = shards.read("x").unwrap();
        for damage in [
            |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1,
            |bytes: &mut Vec<u8>| bytes.truncate(90),
        ] {
            let path = directory.path().join("00001.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
            assert!(shards.read("x").unwrap_err().to_string().contains("damaged"));
            let mut watch = StopAt(99, Vec::new());
            shards.fill("x", 4, &mut watch, make).unwrap();
            assert!(watch.1[0].contains("00001.safetensors is damaged"), "{:?}", watch.1);
            assert_eq!(watch.1[1], "begin 6");
            assert_eq!(shards.read("x").unwrap(), whole);
        }
    }

    #[test]
    fn shards_of_another_number_type_are_read_where_that_does_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let of = |dtype: &str| Shards {
            settings: json!({"teacher": 7, "dtype": dtype}),
            ..shards(directory.path())
        };
        assert_eq!(of("bf16").in_any_dtype().settings["dtype"], "bf16", "there is none yet");
        of("f32").fill("x", 4, &mut StopAt(99, Vec::new()), make).unwrap();
        assert!(of("bf16").read("x").is_err());
        assert_eq!(of("bf16").in_any_dtype().read("x").unwrap(), of("f32").read("x").unwrap());
        assert_eq!(of("bf16").in_any_dtype().settings, of("f32").settings);
    }

    #[test]
    fn other_numbers_of_pictures_use_what_is_there_and_other_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let of = |total, per_file| Shards { total, per_file, ..shards(directory.path()) };
        let mut watch = StopAt(99, Vec::new());
        of(10, 4).fill("x", 4, &mut watch, make).unwrap();
        assert_eq!(of(9, 4).read("x").unwrap().len(), 9);
        let error = of(12, 4).read("x").unwrap_err().to_string();
        assert!(error.contains("has 2 of 4 pictures") && !error.contains("damaged"), "{error}");
        let before = fs::read(directory.path().join("00001.safetensors")).unwrap();
        for per_file in [3, 5] {
            let other = of(10, per_file);
            for error in [
                other.fill("x", 4, &mut StopAt(99, Vec::new()), make).unwrap_err(),
                other.read("x").unwrap_err(),
            ] {
                let expected = format!("pictures in a file was 4 and is {per_file}");
                assert!(error.to_string().contains(&expected), "{error}");
            }
        }
        of(12, 4).fill("x", 4, &mut StopAt(99, Vec::new()), make).unwrap();
        assert_eq!(of(12, 4).read("x").unwrap().len(), 12);
        assert_eq!(fs::read(directory.path().join("00001.safetensors")).unwrap(), before);
    }

    #[test]
    fn shards_of_another_teacher_are_refused_and_stay() {
        let directory = tempfile::tempdir().unwrap();
        shards(directory.path()).fill("x", 4, &mut StopAt(99, Vec::new()), make).unwrap();
        let other = Shards { settings: json!({"teacher": 8}), ..shards(directory.path()) };
        for error in [
            other.fill("x", 4, &mut StopAt(99, Vec::new()), make).unwrap_err(),
            other.read("x").unwrap_err(),
        ] {
            assert!(error.to_string().contains("teacher was 7 and is 8"), "{error}");
        }
        assert_eq!(whole_files(directory.path()), 3);
    }

    #[test]
    fn labels_and_codes_beyond_the_model_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        shards(directory.path()).fill("x", 4, &mut StopAt(99, Vec::new()), make).unwrap();
        let fewer_codes = Shards { vocabulary: 290, ..shards(directory.path()) };
        assert!(fewer_codes.read("x").unwrap_err().to_string().contains("from 0 to 289"));
        let fewer_classes = Shards { num_classes: 3, ..shards(directory.path()) };
        assert!(fewer_classes.read("x").unwrap_err().to_string().contains("from 0 to 2"));
        let fewer_tokens = Shards { tokens: 2, ..shards(directory.path()) };
        assert!(fewer_tokens.read("x").unwrap_err().to_string().contains("[4, 3]"));
    }
}
