//! Plans offered to people.

use serde::{Deserialize, Serialize};

use crate::Plan;

/// A step plan shown to people, with what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanPreset {
    /// Short name, as `1 step`.
    pub name: String,
    /// The plan.
    pub plan: Plan,
    /// Published FID on ImageNet-256 (50,000 pictures), for the published sizes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fid: Option<f64>,
}

impl PlanPreset {
    /// A plan without a published score.
    pub fn new(name: impl Into<String>, plan: Plan) -> Self {
        Self { name: name.into(), plan, fid: None }
    }

    /// The same plan with its published FID.
    pub fn with_fid(self, fid: f64) -> Self {
        Self { fid: Some(fid), ..self }
    }
}
