//! VAR with Distilled Decoding as a library.

pub mod atomic_file;
pub mod bundle;
pub mod device;
pub mod evaluate;
pub mod net;
pub mod sample;
pub mod tensor_file;
pub mod train;
