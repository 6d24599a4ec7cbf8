//! The way to the broker and to the object store.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectOptions, Event, ServerAddr,
    jetstream::{self, message::PublishMessage},
};
use bytes::Bytes;
use clap::{Args, value_parser};
use object_store::{
    ClientOptions, ObjectStore, RetryConfig, aws::AmazonS3Builder, local::LocalFileSystem,
    path::Path as Key,
};
use percent_encoding::percent_decode_str;
use url::Url;
use var_dd_protocol::{JobEvent, JobId};

use super::{
    ClusterError,
    entry::{Entry, Posted, What},
    failover::answered,
    journal::{Appended, Journal},
    names::{self, Sizes},
    recent::Recent,
    results::Results,
};
use crate::{scheduler::live::first_seq, storage::Ending};

/// Where the parts between the machines are. Each can be given as the environment variable beside
/// it too.
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    /// Address of a NATS server with JetStream, as nats://host:4222, or tls://host:4222 for TLS.
    /// May be repeated for the servers of a cluster (with commas in the variable).
    #[arg(
        long = "nats",
        value_name = "URL",
        env = "VAR_DD_NATS",
        value_delimiter = ',',
        required = true
    )]
    pub nats: Vec<String>,
    /// Where results are kept: s3://BUCKET/PREFIX, or file:///DIR on a file system that all
    /// machines share. Keys, region and endpoint of S3 are those of the variables AWS_…
    #[arg(long, value_name = "URL", env = "VAR_DD_RESULTS")]
    pub results: Url,
    /// File of NATS credentials (JWT and its key), as `nsc` writes it.
    #[arg(
        long,
        value_name = "FILE",
        env = "VAR_DD_NATS_CREDENTIALS",
        conflicts_with = "nats_nkey"
    )]
    pub nats_credentials: Option<PathBuf>,
    /// File with the seed of an nkey of a NATS user.
    #[arg(long, value_name = "FILE", env = "VAR_DD_NATS_NKEY")]
    pub nats_nkey: Option<PathBuf>,
    /// Certificate (PEM) of the authority that signed the one of the NATS servers, where it is none
    /// that the system knows.
    #[arg(long, value_name = "FILE", env = "VAR_DD_NATS_CA")]
    pub nats_ca: Option<PathBuf>,
    /// Most jobs waiting and running; one more is refused with 429. Counts where the streams are
    /// made: by the first gateway or worker, or by `check-cluster`. `check-cluster` also sets
    /// existing streams to it; give it every time.
    #[arg(long, value_name = "JOBS", env = "VAR_DD_CLUSTER_JOBS", default_value_t = 10_000,
          value_parser = value_parser!(i64).range(1..=100_000_000))]
    pub cluster_jobs: i64,
    /// Copies that NATS servers of a cluster keep of each message, 1 to 5; an even number survives
    /// no more losses than the odd one before it. Counts where the streams are made.
    /// `check-cluster` also sets existing streams to it; give it every time.
    #[arg(long, value_name = "COPIES", env = "VAR_DD_NATS_REPLICAS", default_value_t = 1,
          value_parser = value_parser!(u8).range(1..=5))]
    pub nats_replicas: u8,
}

/// An answer that takes longer is taken for none.
const PATIENCE: Duration = Duration::from_secs(5);

impl ClusterArgs {
    pub(super) fn sizes(&self) -> Sizes {
        Sizes { jobs: self.cluster_jobs, replicas: usize::from(self.nats_replicas) }
    }

    /// A connection to the broker, that comes back by itself once it was there.
    ///
    /// # Errors
    /// When a file cannot be read, or no server answers.
    pub(super) async fn broker(&self, role: &str) -> Result<Client, ClusterError> {
        // One TLS library for all; a second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let unreadable = |flag: &str, path: &PathBuf, error: std::io::Error| {
            ClusterError::Flag(format!("{flag} {} cannot be read: {error}", path.display()))
        };
        let servers: Result<Vec<ServerAddr>, ClusterError> = self
            .nats
            .iter()
            .map(|url| {
                url.parse().map_err(|error| {
                    let url = without_secret(url);
                    ClusterError::Flag(format!(
                        "--nats {url}: {error}; give it as nats://host:4222"
                    ))
                })
            })
            .collect();
        let servers = servers?;
        let mut options = ConnectOptions::new();
        if let Some(path) = &self.nats_credentials {
            options = options
                .credentials_file(path)
                .await
                .map_err(|error| unreadable("--nats-credentials", path, error))?;
        }
        if let Some(path) = &self.nats_nkey {
            let seed = tokio::fs::read_to_string(path)
                .await
                .map_err(|error| unreadable("--nats-nkey", path, error))?;
            options = options.nkey(seed.trim().to_owned());
        }
        if let Some(path) = &self.nats_ca {
            std::fs::metadata(path).map_err(|error| unreadable("--nats-ca", path, error))?;
            options = options.add_root_certificates(path.clone());
        }
        if let Some((user, password)) = self.nats.iter().find_map(|url| secret_of(url)) {
            options = match password {
                Some(password) => options.user_and_password(user, password),
                None => options.token(user),
            };
        }
        let client = options
            .name(format!("var-dd {role}"))
            .request_timeout(Some(PATIENCE))
            .connection_timeout(PATIENCE)
            .event_callback(|event| async move {
                match event {
                    Event::Connected => tracing::info!("connected to the broker"),
                    Event::Disconnected => tracing::warn!("lost the broker; trying to come back"),
                    other => tracing::warn!(event = %other, "the broker"),
                }
            })
            .connect(servers)
            .await;
        client.map_err(|error| {
            ClusterError::Broker(format!(
                "{} ({error}); is nats-server running there, and is --nats right?",
                self.nats.iter().map(|url| without_secret(url)).collect::<Vec<_>>().join(", ")
            ))
        })
    }

    /// The object store of the results.
    ///
    /// # Errors
    /// When the address is none, or a directory cannot be made.
    pub(super) fn results(&self) -> Result<Results, ClusterError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wrong =
            |reason: String| ClusterError::Flag(format!("--results {}: {reason}", self.results));
        match self.results.scheme() {
            "file" => {
                let directory = self
                    .results
                    .to_file_path()
                    .map_err(|()| wrong("give it as file:///DIR".into()))?;
                std::fs::create_dir_all(&directory).map_err(|error| wrong(error.to_string()))?;
                let files = LocalFileSystem::new_with_prefix(&directory)
                    .map_err(|error| wrong(error.to_string()))?;
                Ok(Results::new(Arc::new(files.with_fsync(true)), Key::default()))
            }
            "s3" => {
                let objects: Arc<dyn ObjectStore> = Arc::new(
                    AmazonS3Builder::from_env()
                        .with_url(self.results.as_str())
                        .with_client_options(
                            ClientOptions::default()
                                .with_timeout(PATIENCE)
                                .with_connect_timeout(PATIENCE)
                                .with_allow_http(true),
                        )
                        // What is not kept is tried again by whoever wants it kept, and said.
                        .with_retry(RetryConfig {
                            max_retries: 3,
                            retry_timeout: PATIENCE,
                            ..RetryConfig::default()
                        })
                        .build()
                        .map_err(|error| wrong(error.to_string()))?,
                );
                let prefix = Key::parse(self.results.path().trim_matches('/'))
                    .map_err(|error| wrong(error.to_string()))?;
                Ok(Results::new(objects, prefix))
            }
            other => Err(wrong(format!(
                "its scheme is {other}; it must be s3://BUCKET/PREFIX or file:///DIR"
            ))),
        }
    }

    /// Everything between the machines, with the streams made where they are missing.
    ///
    /// # Errors
    /// When something cannot be reached.
    pub async fn connect(&self, role: &str) -> Result<Connection, ClusterError> {
        let results = self.results()?;
        let client = self.broker(role).await?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(PATIENCE);
        for config in names::streams(self.sizes()) {
            let name = config.name.clone();
            jetstream.get_or_create_stream(config).await.map_err(|error| {
                ClusterError::Broker(format!("the stream {name} cannot be made: {error}"))
            })?;
        }
        let journal = Journal::open(jetstream.clone(), self.sizes().replicas).await?;
        Ok(Connection { client, jetstream, journal, results })
    }
}

/// User and password of an address, or what stands alone before its `@`: a token.
fn secret_of(url: &str) -> Option<(String, Option<String>)> {
    let url = Url::parse(url).ok().filter(|url| !url.username().is_empty())?;
    Some((decoded(url.username()), url.password().map(decoded)))
}

/// A part of an address without its escapes.
fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// An address without what stands before its `@`.
fn without_secret(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_owned(),
    }
}

/// The parts between the machines, reached. A cheap handle.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(super) client: Client,
    pub(super) jetstream: jetstream::Context,
    pub(super) journal: Journal,
    pub(super) results: Results,
}

/// How a job was ended from outside a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By this.
    Now,
    /// Somebody else wrote meanwhile; look again.
    LookAgain,
}

impl Connection {
    /// Ends a job whose log ends with `last`, number `at`, without another picture.
    ///
    /// # Errors
    /// When it cannot be kept; a worker may end it still.
    pub(super) async fn end(
        &self,
        posted: &Posted,
        at: u64,
        last: &Entry,
        event: JobEvent,
    ) -> Result<Ended, ClusterError> {
        let job = &posted.record.id;
        let Appended::At(at) = self.journal.append(job, at, &last.then(What::Ending)).await? else {
            return Ok(Ended::LookAgain);
        };
        // Above every number that the run can have given out.
        let seq = first_seq(last.attempt + 1) - 1;
        let ending = Ending { events: vec![(seq, event.clone())], frames: Vec::new() };
        self.results.put(posted.clone(), last.attempt, &ending).await?;
        let ended = last.then(What::Ended { seq, event });
        match self.journal.append(job, at, &ended).await? {
            Appended::At(_) => {
                self.tell_over(job).await;
                Ok(Ended::Now)
            }
            Appended::Refused => Ok(Ended::LookAgain),
        }
    }

    /// Tells the gateways that a job is over.
    pub(super) async fn tell_over(&self, job: &JobId) {
        // Who does not hear of it finds out when it matters.
        let _ = self.client.publish(names::OVER, job.to_string().into()).await;
    }

    /// Tells every gateway what there is to see.
    pub(super) async fn announce(&self, news: &Recent) -> Result<(), ClusterError> {
        let payload =
            serde_json::to_vec(news).map_err(|error| ClusterError::format("a result", error))?;
        let payload = Bytes::from(payload);
        let published = answered(|| async {
            // Under its name it is told once, however often it is sent.
            let message =
                PublishMessage::build().payload(payload.clone()).message_id(news.message_id());
            self.jetstream.send_publish(names::RECENT_SUBJECT, message).await?.await
        });
        published.await.map(drop).map_err(ClusterError::broker)
    }

    /// Tells whoever draws a job that it is over.
    pub(super) async fn call_off(&self, job: &JobId) {
        // The worker's next entry is refused anyway; this only stops it sooner.
        let _ = self.client.publish(names::CALLED_OFF, job.to_string().into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_or_a_token_may_stand_in_the_address() {
        let secret =
            |url| secret_of(url).map(|(user, password)| (user, password.unwrap_or_default()));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(secret("nats://me:a%40b@host:4222"), pair("me", "a@b"));
        assert_eq!(secret("tls://token@host"), pair("token", ""));
        assert_eq!(secret("nats://host:4222"), None);
    }

    #[test]
    fn a_password_is_not_repeated() {
        assert_eq!(without_secret("nats://me:secret@host:4222"), "…@host:4222");
        assert_eq!(without_secret("nats://host:4222"), "nats://host:4222");
    }
}
