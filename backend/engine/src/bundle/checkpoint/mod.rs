//! Reading PyTorch checkpoints (`.pth`) as data.
//!
//! A checkpoint is a pickle, which in Python is a program. Here it is data: nothing that it names
//! is ever looked up or called, and what is not asked for stays opaque, however strange it is.

mod archive;
mod machine;
mod node;
mod pickle;
mod tensor;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod writer;

use std::{
    cell::RefCell,
    collections::HashMap,
    path::{Path, PathBuf},
    rc::Rc,
};

pub use safetensors::Dtype;

use self::{
    archive::Archive,
    node::Id,
    pickle::Pickle,
    tensor::{Elements, Layout, element_size},
};

use crate::input_file::shown;

/// What a tensor may take in memory beyond twice the file: room for views that repeat their
/// elements.
const ROOM: u64 = 64 << 20;

/// A checkpoint that cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CheckpointError {
    /// The file as a whole.
    #[error("{} cannot be read as a PyTorch checkpoint: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A safetensors file as a whole.
    #[error("{} is not a whole safetensors file: {reason}", .path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// One tensor.
    #[error("tensor {} of {} cannot be read: {reason}", shown(.name), .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// An open checkpoint. Its tensors are read one by one, when asked for.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    pickle: Pickle,
    archive: RefCell<Archive>,
    /// The storage read last: parameters that share one follow each other.
    last_storage: RefCell<Option<(String, Rc<Vec<u8>>)>>,
}

/// A value of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    checkpoint: &'a Checkpoint,
    id: Id,
}

/// A tensor whose bounds have been checked against the file.
#[derive(Clone, Debug)]
pub struct CheckpointTensor<'a> {
    checkpoint: &'a Checkpoint,
    name: String,
    layout: Layout<'a>,
    elements: usize,
}

impl Checkpoint {
    /// Opens a checkpoint and reads its pickle, without any tensor.
    ///
    /// # Errors
    /// [`CheckpointError::File`] when the file cannot be read, is cut off, or is no checkpoint.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        match Archive::open(path) {
            Ok((archive, pickle)) => Ok(Self {
                path: path.to_owned(),
                pickle,
                archive: RefCell::new(archive),
                last_storage: RefCell::new(None),
            }),
            Err(reason) => Err(CheckpointError::File { path: path.to_owned(), reason }),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.archive.borrow().length
    }

    /// The value that was saved.
    pub fn root(&self) -> Item<'_> {
        Item { checkpoint: self, id: self.pickle.root }
    }

    fn storage(&self, key: &str) -> Result<Rc<Vec<u8>>, String> {
        let mut last = self.last_storage.borrow_mut();
        if let Some((name, bytes)) = &*last
            && name == key
        {
            return Ok(bytes.clone());
        }
        // Freed before the next one is read: two large storages need not fit at once.
        *last = None;
        let bytes = Rc::new(self.archive.borrow_mut().read_storage(key)?);
        *last = Some((key.to_owned(), bytes.clone()));
        Ok(bytes)
    }
}

impl<'a> Item<'a> {
    /// Entries of a dictionary whose keys are text, in the order of their first appearance; of
    /// equal keys the last counts. `None` if the value is no dictionary.
    pub fn entries(self) -> Option<Vec<(&'a str, Item<'a>)>> {
        let pickle = &self.checkpoint.pickle;
        let mut entries: Vec<(&str, Item<'a>)> = Vec::new();
        let mut places = HashMap::new();
        for (key, id) in pickle.pairs(self.id)? {
            let Some(key) = pickle.text(key) else { continue };
            let item = Item { id, ..self };
            match places.insert(key, entries.len()) {
                None => entries.push((key, item)),
                Some(place) => {
                    entries[place].1 = item;
                    places.insert(key, place);
                }
            }
        }
        Some(entries)
    }

    /// The value of a key, if this is a dictionary that has it.
    pub fn get(self, key: &str) -> Option<Item<'a>> {
        let pickle = &self.checkpoint.pickle;
        let pairs = pickle.pairs(self.id)?;
        let (_, id) = pairs.into_iter().rev().find(|&(name, _)| pickle.text(name) == Some(key))?;
        Some(Item { id, ..self })
    }

    /// A number that no other value of the checkpoint has.
    pub(super) fn id(self) -> u32 {
        self.id
    }

    /// What this is, for messages: `a list of 3 values`, `a whole object (models.var.VAR)`.
    pub fn in_words(self) -> String {
        if self.is_tensor() {
            return "one tensor without a name".into();
        }
        self.checkpoint.pickle.in_words(self.id)
    }

    /// Whether this is a tensor (or numpy array), sound or not.
    pub fn is_tensor(self) -> bool {
        !matches!(self.checkpoint.pickle.layout(self.id), Ok(None))
    }

    /// The tensor (or numpy array) that this value is; `None` if it is something else. `name` is
    /// for messages.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] when its type is not supported, its sizes are absurd, or it
    /// reaches beyond its storage or the file.
    pub fn tensor(self, name: &str) -> Result<Option<CheckpointTensor<'a>>, CheckpointError> {
        let found = self.checkpoint.pickle.layout(self.id).and_then(|layout| {
            let checked = layout.map(|layout| Ok((self.check(&layout)?, layout)));
            checked.transpose()
        });
        match found {
            Ok(found) => Ok(found.map(|(elements, layout)| CheckpointTensor {
                checkpoint: self.checkpoint,
                name: name.to_owned(),
                layout,
                elements,
            })),
            Err(reason) => Err(CheckpointError::Tensor {
                path: self.checkpoint.path.clone(),
                name: name.to_owned(),
                reason,
            }),
        }
    }

    /// Number of elements of a layout that stays within its source and the file.
    fn check(self, layout: &Layout<'_>) -> Result<usize, String> {
        let shape = &layout.shape;
        let absurd = || format!("its shape {shape:?} is absurd");
        let elements = if shape.contains(&0) {
            0
        } else {
            let product =
                shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
            product.ok_or_else(absurd)?
        };
        let element = element_size(layout.dtype) as u64;
        let source = match layout.elements {
            Elements::Storage(key) => {
                let has = self.checkpoint.archive.borrow_mut().storage_size(key);
                let has = has.ok_or_else(|| format!("its storage {key:?} is missing"))?;
                let announced = layout.announced.map_or(0, |count| count as u64);
                if announced.saturating_mul(element) > has {
                    return Err(format!(
                        "its storage {key:?} is cut off: it has {has} bytes, and {announced} \
                         elements of {element} bytes are announced"
                    ));
                }
                announced
            }
            Elements::Inline(id) => self.checkpoint.pickle.inline_bytes(id)?.len() as u64 / element,
        };
        let last =
            shape.iter().zip(&layout.strides).try_fold(layout.offset, |last, (&size, &stride)| {
                size.saturating_sub(1).checked_mul(stride)?.checked_add(last)
            });
        if elements > 0 && last.ok_or_else(absurd)? as u64 >= source {
            return Err(format!(
                "its view (shape {shape:?}, strides {:?}, offset {}) reaches beyond its storage of \
                 {source} elements",
                layout.strides, layout.offset
            ));
        }
        let length = self.checkpoint.length();
        let limit = length.saturating_mul(2).saturating_add(ROOM);
        if (elements as u64).saturating_mul(element) > limit {
            return Err(format!(
                "its shape {shape:?} has {elements} elements of {element} bytes, which a file of \
                 {length} bytes cannot hold"
            ));
        }
        Ok(elements)
    }
}

impl CheckpointTensor<'_> {
    /// Name as given to [`Item::tensor`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.layout.dtype
    }

    /// Sizes.
    pub fn shape(&self) -> &[usize] {
        &self.layout.shape
    }

    /// Number of bytes that [`CheckpointTensor::read`] gives.
    pub fn byte_length(&self) -> usize {
        self.elements * element_size(self.layout.dtype)
    }

    /// The elements in row-major order, little-endian.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] when the file cannot be read or is damaged.
    pub fn read(&self) -> Result<Vec<u8>, CheckpointError> {
        self.gather().map_err(|reason| CheckpointError::Tensor {
            path: self.checkpoint.path.clone(),
            name: self.name.clone(),
            reason,
        })
    }

    fn gather(&self) -> Result<Vec<u8>, String> {
        let Layout { dtype, ref shape, ref strides, offset, elements, big_endian, .. } =
            self.layout;
        let source = match elements {
            Elements::Storage(key) => self.checkpoint.storage(key)?,
            Elements::Inline(id) => Rc::new(self.checkpoint.pickle.inline_bytes(id)?),
        };
        let element = element_size(dtype);
        if self.elements == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::with_capacity(self.byte_length());
        // Trailing axes that lie together are copied as one run.
        let mut axes = shape.len();
        let mut run = 1;
        while axes > 0 && (shape[axes - 1] == 1 || strides[axes - 1] == run) {
            axes -= 1;
            run *= shape[axes];
        }
        let mut index = vec![0; axes];
        while bytes.len() < self.byte_length() {
            let place: usize =
                index.iter().zip(strides).map(|(index, stride)| index * stride).sum();
            let from = (offset + place) * element;
            let part = source.get(from..from + run * element);
            bytes.extend_from_slice(part.ok_or("its storage is shorter than it was")?);
            for axis in (0..axes).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        if big_endian.unwrap_or(self.checkpoint.archive.borrow().big_endian) {
            bytes.chunks_exact_mut(element).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }
}
