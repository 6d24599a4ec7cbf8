//! The teacher's law.

use serde::{Deserialize, Serialize};

use crate::PlanError;

/// The law that the teacher draws tokens by: classifier-free guidance, then top-k, then top-p.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Guidance {
    /// Strength at the last scale; scale `k` of `S` uses `cfg · k / (S − 1)`. 0 to 100.
    pub cfg: f64,
    /// Most probable codewords kept before a draw; 0 keeps all.
    pub top_k: u32,
    /// Probability mass kept before a draw, 0 to 1; 0 keeps all.
    pub top_p: f64,
}

impl Default for Guidance {
    /// What the published scores were made with.
    fn default() -> Self {
        Self { cfg: 2.0, top_k: 900, top_p: 0.95 }
    }
}

impl Guidance {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`PlanError::Cfg`] or [`PlanError::TopP`] for a number out of bounds, or none at all.
    pub fn validate(&self) -> Result<(), PlanError> {
        if !(0.0..=100.0).contains(&self.cfg) {
            return Err(PlanError::Cfg(self.cfg));
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return Err(PlanError::TopP(self.top_p));
        }
        Ok(())
    }
}
