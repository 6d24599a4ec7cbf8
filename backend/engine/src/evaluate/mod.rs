//! Scoring sets of pictures, and laws.

pub mod chi_square;
pub mod frechet;
