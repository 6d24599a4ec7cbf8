//! `var-dd check-cluster`: what is there between the machines, and whether it is as it should be.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::{
    self, Context,
    context::GetStreamErrorKind,
    stream::{Config, StorageType},
};

use super::{ClusterArgs, ClusterError, names};

/// Clocks that differ by more make times in logs and deadlines wrong.
const MOST_SKEW: Duration = Duration::from_secs(1);
/// The oldest broker whose streams can do what is needed.
const OLDEST: (i64, i64, i64) = (2, 10, 0);

/// What one look found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// At what.
    pub what: String,
    /// What is there, or what is wrong and what to do.
    pub found: String,
    /// Whether a cluster can run with it.
    pub is_good: bool,
}

impl Finding {
    fn new(what: &str, found: Result<String, String>) -> Self {
        let is_good = found.is_ok();
        let found = found.unwrap_or_else(|wrong| wrong);
        Self { what: what.to_owned(), found, is_good }
    }
}

/// Looks at everything, makes the streams that are missing and brings the others up to date.
pub async fn check(args: &ClusterArgs) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = format!("check-{}", std::process::id());
    let results = match args.results() {
        Ok(results) => results.probe(&name).await,
        Err(error) => Err(error),
    };
    let told = |()| format!("{}: objects are created once, read and deleted", args.results);
    findings.push(Finding::new("results", results.map(told).map_err(|error| error.to_string())));
    let client = match args.broker("check").await {
        Ok(client) => client,
        Err(error) => {
            findings.push(Finding::new("broker", Err(error.to_string())));
            return findings;
        }
    };
    let server = client.server_info();
    let (major, minor, patch) = OLDEST;
    findings.push(Finding::new(
        "broker",
        if client.is_server_compatible(major, minor, patch) {
            Ok(format!(
                "NATS {} at {}:{}, messages up to {} KiB",
                server.version,
                server.host,
                server.port,
                server.max_payload >> 10
            ))
        } else {
            Err(format!(
                "NATS {} is older than {major}.{minor}.{patch}; install a newer one",
                server.version
            ))
        },
    ));
    let jetstream = jetstream::new(client);
    let account = jetstream.query_account().await.map_err(|error| {
        format!("no JetStream ({error}); start nats-server with -js, or allow it to this account")
    });
    let has_jetstream = account.is_ok();
    findings.push(Finding::new(
        "jetstream",
        account
            .map(|account| format!("{} streams, {} bytes kept", account.streams, account.storage)),
    ));
    if !has_jetstream {
        return findings;
    }
    for wanted in names::streams(args.sizes()) {
        let what = wanted.name.clone();
        let found = stream(&jetstream, wanted).await.map_err(|error| error.to_string());
        findings.push(Finding::new(&what, found));
    }
    findings.push(Finding::new("clock", skew(&jetstream).await));
    findings.push(Finding::new("models", models(&jetstream).await));
    findings
}

/// Makes a stream, or brings it up to date; what became of it.
async fn stream(jetstream: &Context, wanted: Config) -> Result<String, ClusterError> {
    let described = |config: &Config, how: &str| {
        let storage = match config.storage {
            StorageType::File => "on disk",
            StorageType::Memory => "in memory",
        };
        let most = match (config.max_messages, config.max_bytes) {
            (messages, _) if messages > 0 => format!(", at most {messages} messages"),
            (_, bytes) if bytes > 0 => format!(", at most {} MiB", bytes >> 20),
            _ => String::new(),
        };
        let age = match config.max_age.as_secs() {
            0 => String::new(),
            seconds => format!(", for {seconds} s"),
        };
        format!("{how}: {storage}, {} copies{most}{age}", config.num_replicas)
    };
    let there = match jetstream.get_stream(&wanted.name).await {
        Ok(there) => Some(there.cached_info().config.clone()),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(answer) if answer.code() == 404 => None,
            _ => return Err(ClusterError::broker(error)),
        },
    };
    match there {
        None => {
            jetstream.create_stream(wanted.clone()).await.map_err(ClusterError::broker)?;
            Ok(described(&wanted, "made"))
        }
        Some(there) => {
            // What is not wanted otherwise, the broker fills in.
            let window = wanted.duplicate_window;
            let same = there.subjects == wanted.subjects
                && there.max_messages == wanted.max_messages
                && there.max_bytes == wanted.max_bytes
                && there.max_age == wanted.max_age
                && there.num_replicas == wanted.num_replicas
                && there.discard == wanted.discard
                && (window.is_zero() || there.duplicate_window == window);
            if same {
                return Ok(described(&there, "there"));
            }
            let info = jetstream.update_stream(wanted).await.map_err(ClusterError::broker)?;
            Ok(described(&info.config, "brought up to date"))
        }
    }
}

/// How far the broker's clock is from this one.
async fn skew(jetstream: &Context) -> Result<String, String> {
    let wrong =
        |error: &dyn std::fmt::Display| format!("the broker's time cannot be read: {error}");
    let before = SystemTime::now();
    let subject = format!("events.check-{}", std::process::id());
    let published = jetstream.publish(subject.clone(), "".into()).await;
    let at = published.map_err(|error| wrong(&error))?.await.map_err(|error| wrong(&error))?;
    let stream = jetstream.get_stream(names::EVENTS).await.map_err(|error| wrong(&error))?;
    let message = stream.get_raw_message(at.sequence).await.map_err(|error| wrong(&error))?;
    let after = SystemTime::now();
    let _ = stream.delete_message(at.sequence).await;
    let millis = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i128)
    };
    let there = message.time.unix_timestamp_nanos() / 1_000_000;
    let (early, late) = (millis(before) - there, there - millis(after));
    let skew = early.max(late).max(0);
    let text = format!("{skew} ms from the broker's");
    if skew > MOST_SKEW.as_millis() as i128 {
        return Err(format!("{text}; set both clocks, by NTP for instance"));
    }
    Ok(text)
}

/// Which models workers have told of.
async fn models(jetstream: &Context) -> Result<String, String> {
    let stream = jetstream.get_stream(names::MODELS).await.map_err(|error| error.to_string())?;
    match stream.cached_info().state.messages {
        0 => Ok("none yet; start a worker".into()),
        models => Ok(format!("{models}, told of by workers")),
    }
}
