//! Networks whose features pictures are compared by.

use std::path::Path;

use tch::{Device, Kind, TchError, Tensor, no_grad};

use crate::{
    bundle::{
        checkpoint::{CheckpointError, Dtype},
        weight_file::WeightFile,
    },
    input_file::shown,
    net::inception::{FEATURES, Inception, SPATIAL_FEATURES, is_unneeded},
    ops::Ops,
    weights::{StateDict, Weights, WeightsError, first_not_finite, number_at},
};

/// Classes of the Inception network, some of which are no classes of ImageNet.
const CLASSES: i64 = 1008;

/// Turns pictures into what scores are computed from.
pub trait FeatureNetwork {
    /// Short name, as `inception`.
    fn name(&self) -> &str;

    /// Which network that is, and what it does to pictures first: what makes numbers comparable.
    fn protocol(&self) -> &str;

    /// Numbers in a feature vector.
    fn features(&self) -> i64;

    /// Numbers in a vector of spatial features, if there are any.
    fn spatial_features(&self) -> Option<i64>;

    /// Classes that it tells apart, if it does.
    fn classes(&self) -> Option<i64>;

    /// Width and height in pixels of the only pictures that it takes; `None` if it takes any.
    fn side(&self) -> Option<i64>;

    /// Features of pictures, u8 `[B, H, W, 3]` on any device.
    ///
    /// # Errors
    /// When the device cannot.
    fn describe(&self, pictures: &Tensor) -> Result<Features, TchError>;
}

/// What a network says of pictures.
#[derive(Debug)]
pub struct Features {
    /// f32 `[B, features]`
    pub pooled: Tensor,
    /// f32 `[B, spatial_features]`
    pub spatial: Option<Tensor>,
    /// f32 `[B, classes]`, each row with sum 1.
    pub probabilities: Option<Tensor>,
}

/// Weights of a feature network that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FeaturesError {
    /// The file cannot be read as a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The file or its tensors are not the network's.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The file holds something else.
    #[error("{0}")]
    Contents(String),
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(#[from] TchError),
}

/// The network of FID, Inception Score, precision, recall and sFID.
#[derive(Debug)]
pub struct InceptionFeatures {
    network: Inception,
    /// `[1008, 2048]`
    classifier: Option<Tensor>,
    device: Device,
}

impl InceptionFeatures {
    /// Loads `.pth` or `.safetensors` with the names of pytorch-fid's network. The classifier may
    /// be absent; there is no Inception Score then.
    ///
    /// # Errors
    /// When the file cannot be read, or a tensor is missing, misshaped or not one of the network's.
    pub fn open(path: &Path, device: Device) -> Result<Self, FeaturesError> {
        let mut tensors = read_state_dict(path)?;
        let origin = path.display().to_string();
        let classifier = match tensors.get("fc.weight") {
            Some(weight) if weight.size() != [CLASSES, FEATURES] => {
                return Err(FeaturesError::Contents(format!(
                    "fc.weight of {origin} is {:?}; the network of FID has [{CLASSES}, {FEATURES}]",
                    weight.size()
                )));
            }
            Some(weight) => Some(weight.f_to_device(device)?.f_to_kind(Kind::Float)?),
            None => None,
        };
        tensors.retain(|name, _| !is_unneeded(name));
        let network = Inception::load(Weights::from_tensors(
            origin,
            tensors,
            &Ops::plain(device),
            Kind::Float,
        ))?;
        Ok(Self { network, classifier, device })
    }
}

/// Names that the network surely has.
const ANCHORS: [&str; 2] = ["Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch_pool.conv.weight"];

/// Every floating-point tensor of the network's state dict, on the CPU. Wrappers around it and
/// before its names are taken off.
///
/// # Errors
/// [`FeaturesError::Checkpoint`] when the file cannot be read, [`FeaturesError::Contents`] when it
/// holds no state dict, or a weight that is infinite or no number.
pub fn read_state_dict(path: &Path) -> Result<StateDict, FeaturesError> {
    let file = WeightFile::open(path)?;
    let all = file.dictionaries();
    let fitting = all.iter().find_map(|found| found.unwrapped(&ANCHORS).into_iter().next());
    let dictionary = fitting.or_else(|| all.into_iter().next()).ok_or_else(|| {
        let reason = file.instead_of_state_dict();
        FeaturesError::Contents(format!("{} {reason}", path.display()))
    })?;
    if let Some(taken) = dictionary.wrapping() {
        tracing::info!("{}: took {taken}", path.display());
    }
    let mut tensors = StateDict::new();
    for entry in dictionary.tensors() {
        let (name, Some(tensor)) = entry? else { continue };
        let kind = match tensor.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F64 => Kind::Double,
            // Counters and the like.
            _ => continue,
        };
        let shape: Vec<i64> = tensor.shape().iter().map(|&size| size as i64).collect();
        let bytes = tensor.read()?;
        if let Some(at) = first_not_finite(tensor.dtype(), &bytes) {
            return Err(FeaturesError::Contents(format!(
                "{}: {} holds a number that is not finite ({}); the file is damaged",
                path.display(),
                shown(name),
                number_at(tensor.dtype(), &bytes, at)
            )));
        }
        tensors.insert(name.to_owned(), Tensor::f_from_data_size(&bytes, &shape, kind)?);
    }
    Ok(tensors)
}

impl InceptionFeatures {
    fn describe_together(&self, pictures: &Tensor) -> Result<Features, TchError> {
        let pictures = pictures.f_to_device(self.device)?.f_permute([0, 3, 1, 2])?;
        let pictures = pictures.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?;
        let activations = self.network.activations(&pictures)?;
        let probabilities = match &self.classifier {
            Some(weight) => {
                let logits = activations.pooled.f_matmul(&weight.f_transpose(0, 1)?)?;
                Some(logits.f_softmax(-1, Kind::Float)?)
            }
            None => None,
        };
        Ok(Features {
            pooled: activations.pooled,
            spatial: Some(activations.spatial),
            probabilities,
        })
    }
}

impl FeatureNetwork for InceptionFeatures {
    fn name(&self) -> &str {
        "inception"
    }

    fn protocol(&self) -> &str {
        "Inception v3 with the weights of 2015-12-05 as in pytorch-fid: 8-bit pictures, resized \
         to 299×299 bilinearly without antialiasing, pool features; class probabilities without \
         bias and splits of 5,000, spatial features and third neighbours as in ADM's evaluator, \
         whose TensorFlow resizing differs slightly"
    }

    fn features(&self) -> i64 {
        FEATURES
    }

    fn spatial_features(&self) -> Option<i64> {
        Some(SPATIAL_FEATURES)
    }

    fn classes(&self) -> Option<i64> {
        self.classifier.as_ref().map(|_| CLASSES)
    }

    fn side(&self) -> Option<i64> {
        None
    }

    fn describe(&self, pictures: &Tensor) -> Result<Features, TchError> {
        // On a CPU each picture by itself: its features are then the same to the last bit whatever
        // shares its batch, and so are the scores of pictures that are drawn and of the same ones
        // in files.
        let together = if self.device == Device::Cpu { 1 } else { pictures.size()[0].max(1) };
        no_grad(|| {
            let parts: Vec<Features> = pictures
                .f_split(together, 0)?
                .iter()
                .map(|pictures| self.describe_together(pictures))
                .collect::<Result<_, _>>()?;
            let joined =
                |of: fn(&Features) -> Option<&Tensor>| -> Result<Option<Tensor>, TchError> {
                    let all: Option<Vec<&Tensor>> = parts.iter().map(of).collect();
                    all.map(|all| Tensor::f_cat(&all, 0)).transpose()
                };
            Ok(Features {
                pooled: Tensor::f_cat(
                    &parts.iter().map(|part| &part.pooled).collect::<Vec<_>>(),
                    0,
                )?,
                spatial: joined(|part| part.spatial.as_ref())?,
                probabilities: joined(|part| part.probabilities.as_ref())?,
            })
        })
    }
}
