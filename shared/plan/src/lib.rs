//! Step plans: which network draws which scales of a picture, and under which law the teacher does.
//!
//! A plan is a value. The page builds it, the wire carries it, the server checks it, the engine
//! runs it; all four use the types of this crate, so that a plan is valid for all of them or for
//! none. The crate compiles to wasm and knows nothing of networks, servers or pages.
//!
//! The plans are those of Distilled Decoding (<https://arxiv.org/abs/2412.17153>, sections 3.3 and
//! 3.4) and of VAR (<https://arxiv.org/abs/2404.02905>); fields are named as the released scripts
//! `sample.py` and `combine_sample.py` name their flags.
//!
//! ```
//! use var_dd_plan::{Plan, PlanError};
//!
//! let two_steps = Plan::few_step(&[0, 5], 5);
//! assert_eq!(two_steps.validate(10), Ok(()));
//! // The first pass shows ten scales, the second the last five anew.
//! assert_eq!(two_steps.frames(10).len(), 10 + 5);
//! // On a model of four scales there is no scale 5.
//! let error = two_steps.validate(4);
//! assert_eq!(error, Err(PlanError::StepOutOfRange { step: 5, scales: 4 }));
//! ```

mod error;
mod flags;
mod guidance;
mod pass;
mod plan;
mod preset;

pub use error::{PlanError, PlanField};
pub use flags::PlanFlags;
pub use guidance::Guidance;
pub use pass::{FramePosition, Pass, PassKind};
pub use plan::Plan;
pub use preset::PlanPreset;
