//! Scoring sets of pictures, and laws.

pub mod chi_square;
pub mod features;
pub mod frechet;
pub mod neighbours;
pub mod npz;
pub mod reference;
pub mod scores;
pub mod statistics;
