//! Scoring sets of pictures.

pub mod features;
pub mod frechet;
pub mod neighbours;
pub mod npz;
pub mod reference;
pub mod scores;
pub mod statistics;
