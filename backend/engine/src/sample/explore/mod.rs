//! Handling pictures by their tokens: encoding, noise by scale and between seeds, re-roll,
//! crossover, edit, the scale desk, and a look at every token.
//!
//! A picture at hand is its tokens, f32 `[B, N, Cv]`; made [`Sampler::quantized`] they are its
//! codes. Everything here is a function of tokens, noise and numbers alone. The definitions, with
//! formulae, are in `docs/method.md` under "Explore".
//!
//! [`Sampler::quantized`]: super::Sampler::quantized

mod course;
pub(super) mod desk;
pub(super) mod edit;
mod encode;
mod gains;
mod law;
mod mask;
mod noise;

pub use course::{Course, Editor};
pub(super) use edit::Kept;
pub use encode::Encoded;
pub use gains::{GainsError, check_gains};
pub use law::{Inspected, Law};
pub use mask::{Mask, MaskError};
pub use noise::{Mix, MixError, SeedRange, check_weights, noise_of, seeds_by_scale, slerp};
