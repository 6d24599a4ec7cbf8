//! The subcommands. Only this module names a concrete generator.

pub mod engine;
pub mod serve;
