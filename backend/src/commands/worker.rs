//! `var-dd worker`: draws what gateways put into the queue.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, value_parser};
use prometheus_client::registry::Registry;
use tokio::{runtime::Builder, sync::oneshot, task::JoinHandle};

use super::{
    model::default_model,
    serve::{listen, load, stop_signal},
};
use crate::{
    cluster::{ClusterArgs, Worker, WorkerConfig},
    config::models_or,
    device_args::NetworkArgs,
    http::{self, Ready},
    scheduler::SchedulerConfig,
};

/// Flags of `var-dd worker`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Example: var-dd worker --nats nats://broker:4222 --results \
    s3://pictures/playground --model models/d16 --device cuda:0")]
pub struct WorkerArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Directory of a model, as `var-dd convert` makes it. May be repeated [default: those of the
    /// variable VAR_DD_MODEL, with commas between, else the demo model].
    #[arg(long = "model", value_name = "DIR")]
    models: Vec<PathBuf>,
    #[command(flatten)]
    network: NetworkArgs,
    /// Most pictures drawn together, and most jobs taken at a time. Less memory is used with fewer.
    #[arg(long, value_name = "PICTURES", env = "VAR_DD_MAX_BATCH", default_value_t = 8,
          value_parser = value_parser!(u32).range(1..=1024))]
    max_batch: u32,
    /// After so many seconds without a sign of life a job is given to another worker.
    #[arg(long, value_name = "SECONDS", env = "VAR_DD_ACK_WAIT_S", default_value_t = 30,
          value_parser = value_parser!(u64).range(1..=3600))]
    ack_wait_s: u64,
    /// How long what runs may go on when the worker is told to stop, in seconds; the rest goes back
    /// into the queue.
    #[arg(long, value_name = "SECONDS", env = "VAR_DD_DRAIN_S", default_value_t = 30,
          value_parser = value_parser!(u64).range(0..=3600))]
    drain_s: u64,
    /// Where /livez, /readyz and /metrics are answered, and nothing else [default: nowhere].
    #[arg(long, value_name = "ADDRESS:PORT", env = "VAR_DD_WORKER_LISTEN")]
    listen: Option<SocketAddr>,
    /// Name of this worker in logs [default: name of the host, and number of the process].
    #[arg(long, value_name = "NAME", env = "VAR_DD_WORKER_NAME")]
    name: Option<String>,
}

/// Draws until told to stop.
///
/// # Errors
/// When the worker cannot start.
pub fn run(args: WorkerArgs) -> anyhow::Result<()> {
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the system gives no threads for the worker")?;
    let models = models_or(args.models, default_model);
    let listener = args.listen.map(listen).transpose()?;
    runtime.block_on(async {
        let stop = stop_signal()?;
        // What is likeliest to be wrong comes first: loading takes longer than connecting.
        let connection = args.cluster.connect("worker").await?;
        let generators = load(&models, &args.network)?;
        let names: Vec<_> = generators
            .iter()
            .map(|generator| format!("{} on {}", generator.info().name, generator.info().device))
            .collect();
        let name = args.name.unwrap_or_else(default_name);
        let scheduler =
            SchedulerConfig { max_batch: args.max_batch as usize, ..SchedulerConfig::default() };
        let config = WorkerConfig {
            ack_wait: Duration::from_secs(args.ack_wait_s),
            ..WorkerConfig::new(name.clone(), scheduler)
        };
        let worker = Worker::start(config, connection, generators).await?;
        // A closed standard output is no reason not to draw.
        let _ = writeln!(
            io::stdout(),
            "The worker {name} takes jobs ({}). Ctrl-C stops it.",
            names.join(", ")
        );
        let (stopped, until_stopped) = oneshot::channel();
        let vitals = listener.map(|listener| tell_vitals(&worker, listener, until_stopped));
        stop.await;
        tracing::info!(drain_s = args.drain_s, "stopping: what runs may end, the rest goes back");
        worker.stop(Duration::from_secs(args.drain_s)).await;
        drop(stopped);
        if let Some(vitals) = vitals.transpose()? {
            // Nobody is left to be told that it failed.
            let _ = vitals.await;
        }
        tracing::info!("stopped");
        Ok(())
    })
}

/// Answers whoever watches the worker, until the other end of `until` is dropped.
fn tell_vitals(
    worker: &Worker,
    listener: TcpListener,
    until: oneshot::Receiver<()>,
) -> anyhow::Result<JoinHandle<io::Result<()>>> {
    let address = listener.local_addr().context("the address it listens on")?;
    let mut registry = Registry::default();
    worker.register_metrics(&mut registry);
    let watched = worker.clone();
    let ready: Ready = Arc::new(move || watched.ready());
    tracing::info!("health and counters: http://{address}/readyz, http://{address}/metrics");
    Ok(tokio::spawn(http::serve_vitals(listener, registry, ready, async {
        let _ = until.await;
    })))
}

fn default_name() -> String {
    let uname = rustix::system::uname();
    format!("{}-{}", uname.nodename().to_string_lossy(), std::process::id())
}
