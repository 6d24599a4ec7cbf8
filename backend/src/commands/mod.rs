//! The subcommands. Only this module names a concrete generator.

pub mod convert;
pub mod engine;
pub mod model;
pub mod serve;
pub mod trace;
