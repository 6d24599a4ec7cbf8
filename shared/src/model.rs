//! What the server has to offer.

use serde::{Deserialize, Serialize};

use crate::{JobId, PlanPreset};

/// A loaded model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelInfo {
    /// Its name, unique on this server; names the model in a request.
    pub name: String,
    /// Side of a picture in pixels.
    pub image_size: u32,
    /// Side of each scale's token map, increasing.
    pub patch_nums: Vec<u32>,
    /// Class names; the class number is the index.
    pub classes: Vec<String>,
    /// Plans offered, cheapest first. The first one is the default.
    pub plans: Vec<PlanPreset>,
    /// Whether plans with a teacher can run.
    pub has_teacher: bool,
    /// Transformer depth.
    pub depth: u32,
    /// Codewords of the tokenizer.
    pub vocabulary: u32,
    /// Parameters of the student.
    pub parameters: u64,
    /// Device, as `cpu` or `cuda:0`.
    pub device: String,
    /// Number type of the networks, as `f32` or `bf16`.
    pub dtype: String,
}

impl ModelInfo {
    /// Number of scales `S`.
    pub fn scales(&self) -> u32 {
        self.patch_nums.len() as u32
    }
}

/// The server as a whole: body of `GET /api/info`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerInfo {
    /// [`crate::PROTOCOL_VERSION`] of the server.
    pub protocol: u32,
    /// Version of the program.
    pub version: String,
    /// Loaded models; the first one is the default.
    pub models: Vec<ModelInfo>,
    /// Most pictures in one job.
    pub max_pictures: u32,
    /// A finished result to show before the first click, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<JobId>,
}

/// A page of recent results, newest first: body of `GET /api/results`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResultPage {
    /// The results.
    pub results: Vec<crate::JobView>,
    /// Value of `before` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
