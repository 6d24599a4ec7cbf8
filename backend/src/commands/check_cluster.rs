//! `var-dd check-cluster`: what is there between the machines.

use anyhow::{Context, bail};
use clap::Args;
use tokio::runtime::Builder;

use crate::{
    cluster::{ClusterArgs, check},
    out,
};

/// Flags of `var-dd check-cluster`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Example: var-dd check-cluster --nats nats://broker:4222 --results \
    s3://pictures/playground")]
pub struct CheckClusterArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Prints a line for everything that a cluster needs, makes the streams that are missing and brings
/// the others up to date.
///
/// # Errors
/// When something cannot be reached or used.
pub fn run(args: &CheckClusterArgs) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the system gives no threads")?;
    let findings = runtime.block_on(check::check(&args.cluster));
    let mut faults = 0;
    for finding in &findings {
        let sign = if finding.is_good { "ok   " } else { "FAULT" };
        out!("{sign} {:<14}{}\n", finding.what, finding.found)?;
        faults += usize::from(!finding.is_good);
    }
    if faults > 0 {
        bail!("{faults} of {} checks found a fault; see above", findings.len());
    }
    Ok(())
}
