//! VAR with Distilled Decoding as a library.

pub mod sample;
pub mod train;
