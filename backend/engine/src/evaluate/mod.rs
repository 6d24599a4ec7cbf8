//! Scoring sets of pictures.

pub mod frechet;
