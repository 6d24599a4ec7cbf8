//! Drawing pictures.

pub mod plan;
pub mod torch_rng;
