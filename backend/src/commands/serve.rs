//! `var-dd serve`: the playground.

use clap::Args;

/// Flags of `var-dd serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {}

/// Serves until told to stop.
///
/// # Errors
/// When the server cannot start.
pub fn run(_: ServeArgs) -> anyhow::Result<()> {
    anyhow::bail!("this build has no server yet")
}
