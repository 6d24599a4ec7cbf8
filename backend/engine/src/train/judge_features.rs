//! Scores in the features of a judge, for models of drawn pictures: what Inception knows of
//! photographs says little there.

use std::path::Path;

use tch::{Device, Kind, TchError, Tensor, no_grad};

use super::{
    TrainError, Workplace,
    judge::{Judge, JudgeConfig},
};
use crate::{
    evaluate::features::{FeatureNetwork, Features},
    ops::Settings,
};

/// A judge (`var-dd train judge`) as the network that pictures are compared by.
#[derive(Debug)]
pub struct JudgeFeatures {
    judge: Judge,
    config: JudgeConfig,
    device: Device,
}

impl JudgeFeatures {
    /// Opens the judge whose weights are the file at `path`; `judge.json` lies beside it.
    ///
    /// # Errors
    /// When one of the files is missing, or they do not fit each other.
    pub fn open(path: &Path, device: Device) -> Result<Self, TrainError> {
        let place = Workplace {
            directory: path.parent().unwrap_or(Path::new("")).to_owned(),
            device,
            kind: Kind::Float,
            start: None,
            settings: Settings::default(),
        };
        let (judge, config) = Judge::open_weights(path, &place)?;
        Ok(Self { judge, config, device })
    }
}

impl FeatureNetwork for JudgeFeatures {
    fn name(&self) -> &str {
        "judge"
    }

    fn protocol(&self) -> &str {
        "the judge of this project (`var-dd train judge`): 8-bit pictures as they are, the mean \
         over its last map; numbers compare only with those of the same judge"
    }

    fn features(&self) -> i64 {
        self.config.channels.last().copied().unwrap_or(0)
    }

    fn spatial_features(&self) -> Option<i64> {
        None
    }

    fn classes(&self) -> Option<i64> {
        Some(self.config.classes.len() as i64)
    }

    fn side(&self) -> Option<i64> {
        Some(self.config.side)
    }

    fn describe(&self, pictures: &Tensor) -> Result<Features, TchError> {
        let side = self.config.side;
        let size = pictures.size();
        if size.get(1..) != Some(&[side, side, 3]) {
            return Err(TchError::Shape(format!(
                "the pictures are {size:?} and the judge was trained on [B, {side}, {side}, 3]"
            )));
        }
        no_grad(|| {
            let pictures = pictures.f_to_device(self.device)?.f_permute([0, 3, 1, 2])?;
            let pictures =
                pictures.f_to_kind(Kind::Float)?.f_mul_scalar(2.0 / 255.0)?.f_sub_scalar(1.0)?;
            let verdict = self.judge.judge(&pictures);
            let probabilities = verdict.logits.f_softmax(-1, Kind::Float)?;
            Ok(Features {
                pooled: verdict.features,
                spatial: None,
                probabilities: Some(probabilities),
            })
        })
    }
}
