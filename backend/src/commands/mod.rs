//! The subcommands. Only this module names a concrete generator.

pub mod bench;
pub mod check_cluster;
pub mod convert;
pub mod download;
pub mod evaluate;
pub mod gateway;
pub mod info;
pub mod model;
mod parameters;
mod progress;
pub mod read;
pub mod reproduce;
pub mod sample;
pub mod series;
pub mod serve;
mod suggestion;
pub mod trace;
pub mod train;
pub mod worker;

use crate::picture_file;
