//! Those who run jobs, each as a test wants them.

use std::{sync::Arc, time::Duration};

use clap::Parser;
use tempfile::TempDir;
use tokio::time::sleep;
use var_dd::{
    cluster::{ClusterArgs, Gateway, GatewayConfig, Worker, WorkerConfig},
    generator::fake::{self, FakeGenerator, Gate},
    jobs::Jobs,
    scheduler::{Scheduler, SchedulerConfig},
    storage::Store,
};

use crate::broker::Broker;

/// Most jobs waiting.
pub(crate) const QUEUE_LIMIT: usize = 3;

/// How long a job lives that nobody watches.
pub(crate) const GRACE: Duration = Duration::from_millis(300);

/// How long a worker may say nothing.
const ACK_WAIT: Duration = Duration::from_secs(1);

/// Somebody who runs jobs, with a gate before the device.
pub(crate) struct Setting {
    pub(crate) jobs: Arc<dyn Jobs>,
    pub(crate) gate: Gate,
    pub(crate) generator: FakeGenerator,
    pub(crate) cluster: Option<Cluster>,
    _directory: TempDir,
}

/// What a cluster has more.
pub(crate) struct Cluster {
    pub(crate) brokers: Vec<Broker>,
    for_gateways: ClusterArgs,
    for_workers: ClusterArgs,
    pub(crate) workers: Vec<Worker>,
}

#[derive(Parser)]
pub(crate) struct Line {
    #[command(flatten)]
    pub(crate) args: ClusterArgs,
}

/// Bounds of whoever draws.
pub(crate) fn scheduler() -> SchedulerConfig {
    SchedulerConfig {
        queue_limit: QUEUE_LIMIT,
        max_batch: 1,
        unwatched_grace: GRACE,
        ..SchedulerConfig::default()
    }
}

impl Setting {
    /// One program with its own queue and store.
    pub(crate) async fn embedded() -> Self {
        let directory = TempDir::new().unwrap();
        let gate = Gate::closed();
        let generator = FakeGenerator::new(fake::model("stand-in")).with_gate(&gate);
        let store = Store::open(directory.path()).await.unwrap();
        let generators: Vec<Box<dyn var_dd::generator::Generator>> =
            vec![Box::new(generator.clone())];
        let jobs = Scheduler::start(scheduler(), store, generators).await.unwrap();
        Self { jobs: Arc::new(jobs), gate, generator, cluster: None, _directory: directory }
    }

    /// A gateway and a worker with a broker between them.
    pub(crate) async fn clustered() -> Self {
        Self::clustered_with(vec![Broker::start().await], |broker, _| broker.url(), &[]).await
    }

    /// The same with brokers that keep a copy each, which gateway, worker and whoever makes the
    /// streams (`admin`) reach at these addresses and with these flags.
    pub(crate) async fn clustered_with(
        brokers: Vec<Broker>,
        url: impl Fn(&Broker, &str) -> String,
        flags: &[String],
    ) -> Self {
        // A test that fails shows what the parts said; a second one in a process finds it set up.
        let _ = tracing_subscriber::fmt().with_test_writer().with_ansi(false).try_init();
        let directory = TempDir::new().unwrap();
        // The one that is drawn counts here, too.
        let jobs = QUEUE_LIMIT + 1;
        let args = |role| {
            let urls: Vec<_> = brokers.iter().map(|broker| url(broker, role)).collect();
            let line = [
                "test".to_owned(),
                format!("--nats={}", urls.join(",")),
                format!("--nats-replicas={}", brokers.len()),
                format!("--results=file://{}", directory.path().join("results").display()),
                format!("--cluster-jobs={jobs}"),
            ];
            Line::parse_from(line.iter().chain(flags)).args
        };
        // Several servers first agree on who leads.
        let mut made = args("admin").connect("admin").await;
        for _ in 0..100 {
            if made.is_ok() {
                break;
            }
            sleep(Duration::from_millis(200)).await;
            made = args("admin").connect("admin").await;
        }
        made.unwrap();
        let (for_gateways, for_workers) = (args("gateway"), args("worker"));
        let gate = Gate::closed();
        let generator = FakeGenerator::new(fake::model("stand-in")).with_gate(&gate);
        let mut cluster = Cluster { brokers, for_gateways, for_workers, workers: Vec::new() };
        cluster.add_worker("first", &generator).await;
        let jobs = cluster.gateway().await;
        Self {
            jobs: Arc::new(jobs),
            gate,
            generator,
            cluster: Some(cluster),
            _directory: directory,
        }
    }
}

impl Cluster {
    /// One more gateway.
    pub(crate) async fn gateway(&self) -> Gateway {
        let config = GatewayConfig { unwatched_grace: GRACE, ..GatewayConfig::default() };
        Gateway::start(config, self.for_gateways.connect("gateway").await.unwrap()).await
    }

    /// One more worker.
    pub(crate) async fn add_worker(&mut self, name: &str, generator: &FakeGenerator) {
        let config = WorkerConfig { ack_wait: ACK_WAIT, ..WorkerConfig::new(name, scheduler()) };
        self.add_worker_with(config, generator).await;
    }

    /// One more worker, with times of its own.
    pub(crate) async fn add_worker_with(
        &mut self,
        config: WorkerConfig,
        generator: &FakeGenerator,
    ) {
        let connection = self.for_workers.connect("worker").await.unwrap();
        let worker = Worker::start(config, connection, vec![Box::new(generator.clone())]).await;
        self.workers.push(worker.unwrap());
    }
}
