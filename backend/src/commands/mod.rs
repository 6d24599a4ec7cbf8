//! The subcommands. Only this module names a concrete generator.

pub mod bench;
pub mod convert;
pub mod engine;
pub mod info;
pub mod model;
pub mod sample;
pub mod serve;
pub mod trace;
pub mod train;
