//! VAR with Distilled Decoding as a library.

pub mod atomic_file;
pub mod bundle;
#[cfg_attr(not(target_arch = "x86_64"), path = "cpu/elsewhere.rs")]
mod cpu;
pub mod device;
pub mod evaluate;
pub mod net;
pub mod sample;
pub mod tensor_file;
pub mod train;
