//! `var-dd gateway`: the playground before a queue that workers empty.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use clap::{Args, value_parser};
use tokio::runtime::Builder;

use super::serve::{allow_descriptors, draw_example, greet, listen, stop_signal};
use crate::{
    cluster::{ClusterArgs, Gateway, GatewayConfig},
    config::HttpArgs,
    http,
    jobs::Jobs,
};

/// Flags of `var-dd gateway`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Example: var-dd gateway --nats nats://broker:4222 --results \
    s3://pictures/playground --listen 0.0.0.0:8080")]
pub struct GatewayArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    http: HttpArgs,
    /// Most jobs of one client address that wait or run, as far as this gateway knows; one more is
    /// refused with 429.
    #[arg(long, value_name = "JOBS", env = "VAR_DD_JOBS_PER_CLIENT", default_value_t = 64,
          value_parser = value_parser!(u32).range(1..=1_000_000))]
    jobs_per_client: u32,
    /// How long a waiting job outlives its last viewer, in seconds. Jobs made by POST have no
    /// viewer and stay.
    #[arg(long, value_name = "SECONDS", env = "VAR_DD_UNWATCHED_GRACE_S", default_value_t = 20,
          value_parser = value_parser!(u64).range(1..=86_400))]
    unwatched_grace_s: u64,
}

/// Serves until told to stop.
///
/// # Errors
/// When the gateway cannot start.
pub fn run(args: GatewayArgs) -> anyhow::Result<()> {
    let (address, config) = args.http.clone().resolve()?;
    let listener = listen(address)?;
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the system gives no threads for the gateway")?;
    runtime.block_on(async {
        allow_descriptors(config.limits.connections);
        let address = listener.local_addr().context("the address it listens on")?;
        let stop = stop_signal()?;
        let connection = args.cluster.connect("gateway").await?;
        let bounds = GatewayConfig {
            jobs_per_client: args.jobs_per_client as usize,
            unwatched_grace: Duration::from_secs(args.unwatched_grace_s),
            ..GatewayConfig::default()
        };
        tokio::pin!(stop);
        let gateway = tokio::select! {
            gateway = Gateway::start(bounds, connection) => gateway,
            () = &mut stop => return Ok(()),
        };
        greet(&config, address, &gateway.models());
        draw_example(&gateway).await;
        http::serve(config, listener, Arc::new(gateway), stop)
            .await
            .context("the gateway failed")?;
        tracing::info!("stopped");
        Ok(())
    })
}
