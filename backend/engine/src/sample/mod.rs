//! Drawing pictures.

pub mod plan;
