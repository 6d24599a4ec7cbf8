//! The `var-dd` program as a library.

pub mod cli;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod device_args;
pub mod generator;
pub mod http;
pub mod hub;
pub mod jobs;
mod log;
pub mod output;
mod picture_file;
pub mod scheduler;
pub mod storage;
pub mod usage_error;
mod verification;
