//! Set-up and chores of this repository: `cargo xtask` lists them.

mod chores;
mod cluster;
mod gpu_check;
mod libtorch;
mod page;
mod python;
mod python_client;
mod s3;
mod stage;
mod suite;
mod tool;
mod wasm;
mod workspace;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

/// Set-up and chores. Each does the set-up that it needs; nothing is installed outside the cache
/// and target/.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build everything and serve the playground on http://127.0.0.1:8080
    Serve(Serve),
    /// Run every test: format, lints, unit, documentation, end to end, browser
    Test(suite::Filter),
    /// Build target/release/var-dd, which carries the page inside and runs when called directly
    Build,
    /// Build the page into frontend/dist
    Page,
    /// Find or install libtorch and what the tests need
    Setup,
    /// Format the sources
    Fmt,
    /// Run clippy on all crates; warnings are errors
    Lint,
    /// Check the dependencies' licences, bans and sources (`deny advisories` needs the network)
    Deny {
        /// Checks of cargo-deny: advisories, bans, licenses, sources
        checks: Vec<String>,
    },
    /// Check format, lints and dependencies without changing anything
    Check,
    /// Build the documentation of all crates; warnings are errors
    Doc,
    /// Check the engine on this machine's GPU and measure it
    GpuCheck(gpu_check::GpuCheck),
    /// Run a broker, an object store, two gateways and two workers on this machine
    Cluster {
        /// Run the unoptimised program, which is sooner built
        #[arg(long)]
        debug: bool,
    },
    /// Let well-behaved and hostile clients use the program for long; fails when anything grows
    Soak(Soak),
    /// Measure the page in Chromium beside the server: first visit, clicks, dragging
    PageSpeed(PageSpeed),
    /// Take the pictures in docs/ anew from the running program
    Screenshots,
    /// Print the variables that plain cargo calls need: eval "$(cargo xtask env)"
    Env,
}

/// Builds the page and the program and runs it with the demo model.
#[derive(Args)]
struct Serve {
    /// Run the unoptimised program, which is sooner built
    #[arg(long)]
    debug: bool,
    /// Handed on to `var-dd serve`, as --listen 0.0.0.0:9000 (`cargo xtask serve -- --help` lists
    /// them)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the server and its clients, prints what the server used, and judges that.
#[derive(Args)]
struct Soak {
    /// For how long
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
}

/// Builds the release program and lets the end-to-end crate measure its page.
#[derive(Args)]
struct PageSpeed {
    /// Directory of a model
    #[arg(long, default_value = "static/demo-model")]
    model: PathBuf,
    /// What to measure [default: all]
    #[arg(value_parser = ["visits", "clicks", "drags"])]
    parts: Vec<String>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Serve(serve) => chores::serve(serve.debug, &serve.arguments),
        Chore::Test(filter) => suite::run(&filter),
        Chore::Build => chores::build(),
        Chore::Page => page::ensure(),
        Chore::Setup => chores::setup(),
        Chore::Fmt => chores::format(),
        Chore::Lint => chores::lint(),
        Chore::Deny { checks } => chores::deny(&checks),
        Chore::Check => chores::check(),
        Chore::Doc => chores::document(),
        Chore::GpuCheck(arguments) => gpu_check::run(&arguments),
        Chore::Cluster { debug } => cluster::run(debug),
        Chore::Soak(soak) => chores::soak(soak.minutes),
        Chore::PageSpeed(page) => chores::page_speed(&page.model, &page.parts),
        Chore::Screenshots => chores::screenshots(),
        Chore::Env => chores::print_environment(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_after_serve_are_handed_on_to_the_program() {
        let cli =
            Cli::parse_from(["cargo xtask", "serve", "--listen", "127.0.0.1:0", "--model", "m"]);
        let Chore::Serve(serve) = cli.chore else {
            panic!("serve is a chore");
        };
        assert_eq!(serve.arguments, ["--listen", "127.0.0.1:0", "--model", "m"]);
    }
}
