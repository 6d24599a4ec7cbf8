//! The `var-dd` program.

use std::process::ExitCode;

use clap::Parser;
use var_dd::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
