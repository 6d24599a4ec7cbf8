//! The `var-dd` program as a library.

pub mod generator;
