//! Safetensors files of inputs and outputs, for comparing implementations.

use std::path::{Path, PathBuf};

use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorView},
};
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    atomic_file::{self, Lasts},
    input_file::{self, FileKind},
};

/// Bytes before the header of a safetensors file: its length.
const LENGTH_BYTES: usize = 8;

/// An input that cannot be used, or an output that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TensorFileError {
    /// The file cannot be read.
    #[error("cannot read {}: {cause}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is something else.
    #[error("{} is no safetensors file: {what}", .path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: FileKind,
    },
    /// The file is cut off or damaged.
    #[error("{} is not a whole safetensors file: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor is missing or not what it should be.
    #[error("{}: {reason}", .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Which tensor, what it is and what it should be.
        reason: String,
    },
    /// The output cannot be written.
    #[error("cannot write {}: {reason}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// An open file of named tensors.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
    data: usize,
    metadata: Metadata,
}

/// What a tensor must be. Dimensions that are `None` may have any size but 0.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Element types that will do.
    pub kinds: &'a [Kind],
    /// The shape, in words for messages, as `[B, 3, H, W]`.
    pub shape: &'a str,
    /// Sizes; `None` if any number of dimensions will do.
    pub sizes: Option<&'a [Option<usize>]>,
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

fn name_of(kind: Kind) -> String {
    match kind {
        Kind::Double => "f64".into(),
        Kind::Float => "f32".into(),
        Kind::Half => "f16".into(),
        Kind::BFloat16 => "bf16".into(),
        Kind::Int64 => "i64".into(),
        Kind::Int => "i32".into(),
        Kind::Int16 => "i16".into(),
        Kind::Int8 => "i8".into(),
        Kind::Uint8 => "u8".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

impl TensorFile {
    /// Opens a file.
    ///
    /// # Errors
    /// [`TensorFileError::Read`] when it cannot be read, [`TensorFileError::Other`] when it is
    /// another kind of file, [`TensorFileError::Damaged`] when its header contradicts its size.
    pub fn open(path: &Path) -> Result<Self, TensorFileError> {
        let bytes = input_file::read(path)
            .map_err(|cause| TensorFileError::Read { path: path.to_owned(), cause })?;
        let start = bytes.get(..input_file::START).unwrap_or(&bytes);
        if let Some(what) = FileKind::of_start(start).filter(|kind| *kind != FileKind::Safetensors)
        {
            return Err(TensorFileError::Other { path: path.to_owned(), what });
        }
        // Checks every offset against the bytes that are there.
        let whole =
            SafeTensors::deserialize(&bytes).and_then(|_| SafeTensors::read_metadata(&bytes));
        match whole {
            Ok((header, metadata)) => {
                Ok(Self { path: path.to_owned(), data: LENGTH_BYTES + header, bytes, metadata })
            }
            Err(error) => {
                Err(TensorFileError::Damaged { path: path.to_owned(), reason: error.to_string() })
            }
        }
    }

    /// An error about this file's contents.
    pub fn refuse(&self, reason: impl Into<String>) -> TensorFileError {
        TensorFileError::Tensor { path: self.path.clone(), reason: reason.into() }
    }

    /// Names of all tensors.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// A tensor whatever it is, on the CPU.
    ///
    /// # Errors
    /// When it is missing or of a type that torch does not have.
    pub fn tensor(&self, name: &str) -> Result<Tensor, TensorFileError> {
        let info = self.metadata.info(name).ok_or_else(|| {
            let names = self.names();
            let shown = names.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if names.len() > 8 { ", …" } else { "" };
            self.refuse(format!("there is no tensor {name:?}; there are: {shown}{more}"))
        })?;
        let kind = kind_of(info.dtype);
        let kind = kind.ok_or_else(|| {
            let found = info.dtype;
            self.refuse(format!("tensor {name:?} is of type {found:?}; save it as f32 or f16"))
        })?;
        let (begin, end) = info.data_offsets;
        let shape: Vec<i64> = info.shape.iter().map(|&size| size as i64).collect();
        Tensor::f_from_data_size(&self.bytes[self.data + begin..self.data + end], &shape, kind)
            .map_err(|error| self.refuse(format!("tensor {name:?} cannot be loaded: {error}")))
    }

    /// A tensor that must be what is expected; its floating-point numbers must all be finite.
    ///
    /// # Errors
    /// When it is missing or something else, with what it is and what it should be.
    pub fn expect(&self, name: &str, expected: Expected<'_>) -> Result<Tensor, TensorFileError> {
        let tensor = self.expect_any(name, expected)?;
        self.all(name, tensor.f_isfinite(), "infinite numbers or ones that are not a number")?;
        Ok(tensor)
    }

    /// A tensor of an expected type and shape, whatever its numbers.
    fn expect_any(&self, name: &str, expected: Expected<'_>) -> Result<Tensor, TensorFileError> {
        let tensor = self.tensor(name)?;
        if !expected.kinds.contains(&tensor.kind()) {
            let kinds: Vec<_> = expected.kinds.iter().copied().map(name_of).collect();
            return Err(self.refuse(format!(
                "tensor {name:?} is of type {}; it must be {}",
                name_of(tensor.kind()),
                kinds.join(" or ")
            )));
        }
        let size = tensor.size();
        let fits = expected.sizes.is_none_or(|sizes| {
            let fits = |(&size, wanted): (&i64, &Option<usize>)| {
                wanted.is_none_or(|wanted| size as usize == wanted)
            };
            size.len() == sizes.len() && size.iter().zip(sizes).all(fits)
        });
        if !fits || size.is_empty() || size.contains(&0) {
            return Err(self.refuse(format!(
                "tensor {name:?} is of shape {size:?}; it must be {}",
                expected.shape
            )));
        }
        Ok(tensor)
    }

    /// Logits `[…, V]`: floating-point numbers of which some, but not all of a row, may be −∞ (a
    /// codeword that is out of the question).
    ///
    /// # Errors
    /// When the tensor is missing or something else, with what it is and what it should be.
    pub fn expect_logits(&self, name: &str) -> Result<Tensor, TensorFileError> {
        let kinds = &[Kind::Float, Kind::Half, Kind::BFloat16, Kind::Double];
        let logits = self.expect_any(name, Expected { kinds, shape: "[…, V]", sizes: None })?;
        // The largest of a row is finite if none is +∞ or not a number, and not all are −∞.
        let largest =
            logits.f_amax([-1i64].as_slice(), false).and_then(|largest| largest.f_isfinite());
        self.all(
            name,
            largest,
            "rows with infinite numbers, ones that are not a number, or −∞ alone",
        )?;
        Ok(logits)
    }

    /// Refuses a tensor unless all of `sound` is true.
    fn all(
        &self,
        name: &str,
        sound: Result<Tensor, TchError>,
        fault: &str,
    ) -> Result<(), TensorFileError> {
        match sound.and_then(|sound| sound.f_all()?.f_int64_value(&[])) {
            Ok(0) => Err(self.refuse(format!("tensor {name:?} has {fault}"))),
            Ok(_) => Ok(()),
            Err(error) => Err(self.refuse(format!("tensor {name:?} cannot be checked: {error}"))),
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses a place where [`write()`] could not write in the end, before anything is computed for it.
///
/// # Errors
/// When it is a directory, its directory is none, or no file can be made there.
pub fn check_place(path: &Path) -> Result<(), TensorFileError> {
    let directory = directory_of(path);
    let reason = if path.is_dir() {
        "it is a directory; give the name of a file".to_owned()
    } else if !directory.is_dir() {
        format!("there is no directory {}", directory.display())
    } else if let Err(error) = atomic_file::probe(path) {
        error.to_string()
    } else {
        return Ok(());
    };
    Err(TensorFileError::Write { path: path.to_owned(), reason })
}

/// Writes named tensors. The file appears whole or not at all.
///
/// # Errors
/// When a tensor cannot be brought to the CPU or the file cannot be written.
pub fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), TensorFileError> {
    let failed = |reason: String| TensorFileError::Write { path: path.to_owned(), reason };
    let mut buffers = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let (dtype, kind) = match tensor.kind() {
            Kind::Double => (Dtype::F64, Kind::Double),
            Kind::Int64 => (Dtype::I64, Kind::Int64),
            _ => (Dtype::F32, Kind::Float),
        };
        let bytes =
            to_bytes(tensor, kind).map_err(|error| failed(format!("tensor {name}: {error}")))?;
        let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
        buffers.push((name, dtype, shape, bytes));
    }
    let views = buffers.iter().map(|(name, dtype, shape, bytes)| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
    });
    let views: Vec<_> =
        views.collect::<Result<_, _>>().map_err(|error| failed(error.to_string()))?;
    let bytes = safetensors::serialize(views, None).map_err(|error| failed(error.to_string()))?;
    atomic_file::write(path, Lasts::ThroughPowerLoss, &bytes)
        .map_err(|error| failed(error.to_string()))
}

fn to_bytes(tensor: &Tensor, kind: Kind) -> Result<Vec<u8>, tch::TchError> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_to_kind(kind)?.f_contiguous()?;
    let elements = tensor.numel();
    let mut bytes = vec![0; elements * kind.elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, elements)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn logits_may_rule_codewords_out_but_not_all_of_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("in.safetensors");
        let none = f32::NEG_INFINITY;
        for (values, sound) in [
            ([0.0, none, 1.0, 2.0], true),
            ([none, none, 1.0, 2.0], false),
            ([0.0, f32::INFINITY, 1.0, 2.0], false),
            ([0.0, f32::NAN, none, 2.0], false),
        ] {
            let logits = Tensor::from_slice(&values).view([2, 2]);
            write(&path, &[("logits".into(), logits.shallow_clone())]).unwrap();
            match TensorFile::open(&path).unwrap().expect_logits("logits") {
                Ok(read) => assert!(sound && read.equal(&logits), "{values:?}"),
                Err(error) => {
                    assert!(!sound && error.to_string().contains("\"logits\""), "{error}")
                }
            }
        }
    }

    #[test]
    fn an_output_is_a_file_like_any_other_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, other) =
            (directory.path().join("out.safetensors"), directory.path().join("other"));
        write(&ours, &[("one".into(), Tensor::from_slice(&[1.0f32]))]).unwrap();
        fs::write(&other, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&other));
        check_place(&ours).unwrap();
        for (place, reason) in [
            (directory.path().to_owned(), "is a directory"),
            (directory.path().join("a/b"), "no directory"),
            ("/proc/a".into(), "/proc"),
        ] {
            let error = check_place(&place).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(&*place.to_string_lossy()), "{error}");
        }
    }
}
