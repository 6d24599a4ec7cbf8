//! The `var-dd` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    var_dd::cli::run()
}
