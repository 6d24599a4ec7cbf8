//! What stages make for others: networks and configuration in the run's bundle.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, tensor::TensorView};
use tch::{Device, Kind};

use super::{TrainError, Workplace, parameters, recipe::Recipe, write_file};
use crate::{
    config::Config,
    net::{teacher::Teacher, vae::Vae},
    sample::noise::PictureSeed,
    weights::{Cursor, StateDict, Weights, read_safetensors},
};

/// The bundle of a run.
pub fn model_directory(run: &Path) -> PathBuf {
    run.join("model")
}

/// Writes a network in half precision.
///
/// # Errors
/// When a weight is beyond what half precision holds, or the file cannot be written.
pub(super) fn write_half(path: &Path, weights: &StateDict) -> Result<(), TrainError> {
    let mut buffers = Vec::with_capacity(weights.len());
    for (name, tensor) in weights {
        let half =
            tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Half)?.f_contiguous()?;
        if half.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Err(TrainError::Mismatch(format!(
                "{name} has weights beyond half precision; train with a smaller learning rate"
            )));
        }
        let shape: Vec<usize> = half.size().iter().map(|&size| size as usize).collect();
        let mut bytes = vec![0; 2 * half.numel()];
        half.f_copy_data_u8(&mut bytes, half.numel())?;
        buffers.push((name, shape, bytes));
    }
    let failed = |error: safetensors::SafeTensorError| TrainError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let view = |(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F16, shape, bytes)?));
    let views: Vec<(&str, TensorView<'_>)> = buffers
        .iter()
        .map(|(name, shape, bytes)| view((name.as_str(), shape.clone(), bytes.as_slice())))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    write_file(path, &safetensors::serialize(views, None).map_err(failed)?)
}

/// Writes the run's `config.json`.
pub(super) fn write_config(run: &Path, config: &Config) -> Result<(), TrainError> {
    let mut text =
        serde_json::to_vec_pretty(config).map_err(|error| TrainError::Recipe(error.to_string()))?;
    text.push(b'\n');
    write_file(&model_directory(run).join("config.json"), &text)
}

/// A network in a bundle.
#[derive(Debug)]
pub(super) struct Made<T> {
    pub(super) network: T,
    pub(super) tensors: StateDict,
    /// Tells its weights from any others.
    pub(super) fingerprint: u32,
}

/// Whether the tokens of a picture depend on this weight of a VAE: all but the decoder's do.
pub(super) fn makes_tokens(name: &str) -> bool {
    !name.starts_with("decoder.") && !name.starts_with("post_quant_conv.")
}

/// Loads a network of the bundle in `model`, strictly.
///
/// # Errors
/// When the file is not there, or every tensor that does not fit, by name: those of a bundle of
/// other sizes.
fn load_from<T>(
    model: &Path,
    network: &str,
    place: &Workplace,
    kind: Kind,
    load: impl FnOnce(&Cursor) -> T,
) -> Result<Made<T>, TrainError> {
    let path = model.join(network).with_extension("safetensors");
    if !path.exists() {
        return Err(TrainError::Missing {
            path,
            advice: format!("`var-dd train {network}` makes it"),
        });
    }
    let bytes =
        std::fs::read(&path).map_err(|source| TrainError::Read { path: path.clone(), source })?;
    let tensors = read_safetensors(&path)?;
    let network = load_strictly(&path.display().to_string(), &tensors, place, kind, load)?;
    Ok(Made { network, tensors, fingerprint: crc32fast::hash(&bytes) })
}

/// Builds a network from tensors, strictly.
///
/// # Errors
/// Every tensor that does not fit, by name.
pub(super) fn load_strictly<T>(
    origin: &str,
    tensors: &StateDict,
    place: &Workplace,
    kind: Kind,
    load: impl FnOnce(&Cursor) -> T,
) -> Result<T, TrainError> {
    let _no_grad = tch::no_grad_guard();
    let tensors =
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    let weights = Weights::from_tensors(origin.to_owned(), tensors, &place.ops(), kind);
    let network = load(&weights.root());
    weights.finish()?;
    Ok(network)
}

/// The VAE of a bundle.
pub(super) fn load_vae(
    model: &Path,
    place: &Workplace,
    config: &Config,
    kind: Kind,
) -> Result<Made<Vae>, TrainError> {
    let mut made = load_from(model, "vae", place, kind, |at| Vae::load(at, config))?;
    // What learns from its tokens does not care for its decoder, which may learn on.
    let mut hasher = crc32fast::Hasher::new();
    for (name, tensor) in made.tensors.iter().filter(|(name, _)| makes_tokens(name)) {
        let tensor = tensor.f_to_kind(Kind::Float)?.f_contiguous()?;
        let mut bytes = vec![0; 4 * tensor.numel()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        hasher.update(name.as_bytes());
        hasher.update(&bytes);
    }
    made.fingerprint = hasher.finalize();
    Ok(made)
}

/// The teacher of a bundle.
pub(super) fn load_teacher(
    model: &Path,
    place: &Workplace,
    config: &Config,
    kind: Kind,
) -> Result<Made<Teacher>, TrainError> {
    load_from(model, "teacher", place, kind, |at| Teacher::load(at, config))
}

/// What a stage begins with where the workplace names a bundle to start from: its tensors, and
/// their fingerprint.
///
/// # Errors
/// When the bundle has no such network, or one of other sizes.
pub(super) fn start(
    network: &str,
    place: &Workplace,
    load: impl FnOnce(&Cursor),
) -> Result<Option<(StateDict, u32)>, TrainError> {
    let Some(model) = &place.start else { return Ok(None) };
    let made = load_from(model, network, place, Kind::Float, load)?;
    Ok(Some((made.tensors, made.fingerprint)))
}

/// Settings of a run that every stage depends on.
pub(super) fn common_settings(recipe: &Recipe, kind: Kind) -> serde_json::Value {
    serde_json::json!({
        "seed": recipe.seed,
        "sizes": recipe.sizes,
        "variety": recipe.variety,
        "dtype": crate::device::kind_name(kind),
    })
}

/// Even numbers of 0…1 for step `step` of a stage: the same whenever and wherever it runs.
pub(super) fn chances(seed: u64, stage: u64, step: u64, count: usize) -> Vec<f64> {
    // Gaussian noise is at hand; the normal distribution's own function makes it even.
    let noise = PictureSeed { seed: seed ^ (stage << 56), index: step }.noise(1, count as i64);
    let even = |z: f32| 0.5 * libm::erfc(-f64::from(z) / std::f64::consts::SQRT_2);
    Vec::<f32>::try_from(noise.view([-1])).unwrap_or_default().into_iter().map(even).collect()
}

/// Builds a network in training from live or averaged tensors.
pub(super) use parameters::build;

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;

    #[test]
    fn chances_are_even_and_repeat() {
        let some = chances(1, 2, 3, 10_000);
        assert_eq!(some, chances(1, 2, 3, 10_000));
        assert_ne!(some[..5], chances(1, 2, 4, 5)[..]);
        assert!(some.iter().all(|x| (0.0..=1.0).contains(x)));
        for quarter in 0..4 {
            let (low, high) = (0.25 * f64::from(quarter), 0.25 * f64::from(quarter + 1));
            let share = some.iter().filter(|x| (low..high).contains(*x)).count();
            assert!((share as i64 - 2500).abs() < 200, "{share} from {low}");
        }
    }

    #[test]
    fn weights_beyond_half_precision_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.safetensors");
        let big = Tensor::from_slice(&[1e6f32]);
        let error = write_half(&path, &StateDict::from([("a.weight".to_owned(), big)]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("a.weight") && !path.exists(), "{error}");
    }
}
