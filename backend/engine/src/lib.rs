//! VAR with Distilled Decoding as a library.

pub mod atomic_file;
pub mod bundle;
pub mod config;
mod cuda;
pub mod device;
pub mod evaluate;
pub mod failure;
pub mod graphs;
pub mod input_file;

pub mod net;
pub mod ops;
mod parallel;
pub mod sample;
pub mod tensor_file;
pub mod train;
pub mod weights;
