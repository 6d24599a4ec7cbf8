//! A stage on disk in the middle of its training: everything that the next step depends on.

use std::{
    collections::HashMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::{TrainError, optimizer::Optimizer, parameters::Parameters, write_file};

/// Keys of the header.
const STEP: &str = "step";
const SETTINGS: &str = "settings";

/// A checkpoint that was found.
#[derive(Debug)]
pub(super) struct Checkpoint {
    path: PathBuf,
    /// Steps done.
    pub(super) step: u64,
    tensors: HashMap<String, Tensor>,
}

fn tensors<'a>(
    parameters: &'a Parameters,
    optimizer: &'a Optimizer,
) -> [(&'static str, &'a Tensor); 4] {
    [
        ("weights", parameters.flat()),
        ("first_moment", &optimizer.first),
        ("second_moment", &optimizer.second),
        ("average", &optimizer.average),
    ]
}

/// Writes a checkpoint after `step` steps; the one before stays until the new one is whole.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn save(
    path: &Path,
    step: u64,
    settings: &Value,
    parameters: &Parameters,
    optimizer: &Optimizer,
    extra: &[(String, Tensor)],
) -> Result<(), TrainError> {
    let named = tensors(parameters, optimizer);
    let all = named.iter().map(|(name, tensor)| (*name, *tensor));
    let all = all.chain(extra.iter().map(|(name, tensor)| (name.as_str(), tensor)));
    let buffers: Vec<(&str, Vec<usize>, Vec<u8>)> = all
        .map(|(name, tensor)| {
            let shape = tensor.size().iter().map(|&size| size as usize).collect();
            Ok((name, shape, f32_bytes(tensor)?))
        })
        .collect::<Result<_, TrainError>>()?;
    let failed = |reason: String| TrainError::Damaged { path: path.to_owned(), reason };
    let views: Vec<(&str, TensorView<'_>)> = buffers
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<_, safetensors::SafeTensorError>>()
        .map_err(|error| failed(error.to_string()))?;
    let header = HashMap::from([
        (STEP.to_owned(), step.to_string()),
        (SETTINGS.to_owned(), settings.to_string()),
    ]);
    let bytes =
        safetensors::serialize(views, Some(header)).map_err(|error| failed(error.to_string()))?;
    write_file(path, &bytes)
}

fn f32_bytes(tensor: &Tensor) -> Result<Vec<u8>, TrainError> {
    let tensor =
        tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let count = tensor.numel();
    let mut bytes = vec![0; 4 * count];
    tensor.f_copy_data_u8(&mut bytes, count)?;
    Ok(bytes)
}

impl Checkpoint {
    /// The checkpoint at `path`, if there is one.
    ///
    /// # Errors
    /// When the file is damaged, or was made with other settings, with the ones that differ.
    pub(super) fn find(path: &Path, settings: &Value) -> Result<Option<Self>, TrainError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(TrainError::Read { path: path.to_owned(), source }),
        };
        let damaged = |reason: String| TrainError::Damaged { path: path.to_owned(), reason };
        let text = |error: safetensors::SafeTensorError| damaged(error.to_string());
        let file = SafeTensors::deserialize(&bytes).map_err(text)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(text)?;
        let header = metadata.metadata().as_ref();
        let read = |key: &str| header.and_then(|header| header.get(key));
        let (Some(step), Some(before)) = (
            read(STEP).and_then(|step| step.parse().ok()),
            read(SETTINGS).and_then(|settings| serde_json::from_str::<Value>(settings).ok()),
        ) else {
            return Err(damaged("its header has no step and no settings".into()));
        };
        let changes = differences("", &before, settings);
        if !changes.is_empty() {
            return Err(TrainError::OtherSettings { path: path.to_owned(), changes });
        }
        let mut tensors = HashMap::new();
        for (name, view) in file.iter() {
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            if view.dtype() != Dtype::F32 {
                return Err(damaged(format!("tensor {name} is no f32")));
            }
            tensors.insert(
                name.to_owned(),
                Tensor::f_from_data_size(view.data(), &shape, Kind::Float)?,
            );
        }
        Ok(Some(Self { path: path.to_owned(), step, tensors }))
    }

    /// A tensor of the checkpoint, in the shape that it must have.
    pub(super) fn tensor(&self, name: &str, shape: &[i64]) -> Result<&Tensor, TrainError> {
        match self.tensors.get(name) {
            Some(tensor) if tensor.size() == shape => Ok(tensor),
            found => Err(TrainError::Damaged {
                path: self.path.clone(),
                reason: format!(
                    "tensor {name} is {:?} and should be {shape:?}",
                    found.map(Tensor::size).unwrap_or_default()
                ),
            }),
        }
    }

    /// Puts weights, moments and average back.
    pub(super) fn restore(
        &self,
        parameters: &Parameters,
        optimizer: &Optimizer,
    ) -> Result<(), TrainError> {
        let _no_grad = tch::no_grad_guard();
        for (name, tensor) in tensors(parameters, optimizer) {
            tensor.shallow_clone().f_copy_(self.tensor(name, &tensor.size())?)?;
        }
        Ok(())
    }
}

/// Every value that is not the same, as `vae.steps was 10 and is 20`.
pub(super) fn differences(at: &str, before: &Value, now: &Value) -> Vec<String> {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            let keys: std::collections::BTreeSet<&String> =
                before.keys().chain(now.keys()).collect();
            let below =
                |key: &String| if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            keys.into_iter()
                .flat_map(|key| {
                    let of = |object: &serde_json::Map<_, _>| {
                        object.get(key).cloned().unwrap_or_default()
                    };
                    differences(&below(key), &of(before), &of(now))
                })
                .collect()
        }
        _ if before == now => Vec::new(),
        _ => vec![format!("{at} was {before} and is {now}")],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{train::parameters::Layout, weights::StateDict};

    fn parameters() -> Parameters {
        let layout = Layout::of(|at| {
            let _ = at.tensor("x.weight", &[3, 2]);
        });
        Parameters::new(layout, 4, &StateDict::new(), Device::Cpu)
    }

    #[test]
    fn what_was_saved_comes_back_to_the_bit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint");
        let settings = json!({"steps": 10, "sizes": {"width": 4}});
        assert!(Checkpoint::find(&path, &settings).unwrap().is_none());
        let (saved, optimizer) = (parameters(), Optimizer::new(&parameters()));
        let usage = Tensor::from_slice(&[1f32, 2.0]);
        save(&path, 7, &settings, &saved, &optimizer, &[("usage".into(), usage.copy())]).unwrap();
        let found = Checkpoint::find(&path, &settings).unwrap().unwrap();
        assert_eq!(found.step, 7);
        assert_eq!(*found.tensor("usage", &[2]).unwrap(), usage);
        let other =
            Parameters::new(parameters().layout().clone(), 5, &StateDict::new(), Device::Cpu);
        assert_ne!(other.flat(), saved.flat());
        found.restore(&other, &Optimizer::new(&other)).unwrap();
        assert_eq!(other.flat(), saved.flat());
        assert!(found.tensor("usage", &[3]).unwrap_err().to_string().contains("should be [3]"));
    }

    #[test]
    fn other_settings_are_refused_by_name_and_a_cut_file_by_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint");
        let (saved, optimizer) = (parameters(), Optimizer::new(&parameters()));
        save(&path, 7, &json!({"sizes": {"num_classes": 16}}), &saved, &optimizer, &[]).unwrap();
        let error = Checkpoint::find(&path, &json!({"sizes": {"num_classes": 10}}))
            .unwrap_err()
            .to_string();
        assert!(error.contains("sizes.num_classes was 16 and is 10"), "{error}");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let error = Checkpoint::find(&path, &json!({})).unwrap_err().to_string();
        assert!(error.contains("checkpoint"), "{error}");
    }
}
