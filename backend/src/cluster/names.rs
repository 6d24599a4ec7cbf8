//! Streams, subjects and consumers: what they are called and how they are set.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{AckPolicy, pull},
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};
use sha2::{Digest, Sha256};
use var_dd_protocol::{JobId, Plan};

/// The work queue.
pub(super) const JOBS: &str = "JOBS";
/// A log per job.
pub(super) const EVENTS: &str = "EVENTS";
/// Pictures of the jobs that are drawn.
pub(super) const FRAMES: &str = "FRAMES";
/// What finished and what was deleted, in order.
pub(super) const RECENT: &str = "RECENT";
/// The models that workers have, one message each.
pub(super) const MODELS: &str = "MODELS";

/// Subject of [`RECENT`].
pub(super) const RECENT_SUBJECT: &str = "recent";
/// Subject on which jobs are called off, for whoever draws them.
pub(super) const CALLED_OFF: &str = "called-off";
/// Subject on which it is told that jobs are over, for gateways that count them.
pub(super) const OVER: &str = "over";
/// Group of workers that share the questions to a model.
pub(super) const WORKERS: &str = "workers";

/// How streams are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Most jobs waiting or running.
    pub(super) jobs: i64,
    /// Copies of each message, 1 to 5.
    pub(super) replicas: usize,
}

/// Within this time a job that is published twice is in the queue once.
const DUPLICATES: Duration = Duration::from_secs(600);
/// How long the log of a job lies in the broker; after its end the object store has all of it.
const EVENTS_AGE: Duration = Duration::from_secs(24 * 3600);
/// How long pictures lie in the broker's memory.
const FRAMES_AGE: Duration = Duration::from_secs(120);
const FRAMES_BYTES: i64 = 512 << 20;
const RECENT_MESSAGES: i64 = 10_000;

/// Every stream as it should be.
pub(super) fn streams(sizes: Sizes) -> Vec<Config> {
    let durable = Config { num_replicas: sizes.replicas, allow_direct: true, ..Config::default() };
    vec![
        Config {
            name: JOBS.into(),
            subjects: vec!["jobs.queue.*.*.*".into()],
            retention: RetentionPolicy::WorkQueue,
            // One more is refused, rather than the oldest forgotten.
            discard: DiscardPolicy::New,
            max_messages: sizes.jobs,
            duplicate_window: DUPLICATES,
            description: Some("jobs that wait or run".into()),
            ..durable.clone()
        },
        Config {
            name: EVENTS.into(),
            subjects: vec!["events.*".into()],
            max_age: EVENTS_AGE,
            description: Some("a log per job".into()),
            ..durable.clone()
        },
        frames(sizes.replicas),
        Config {
            name: RECENT.into(),
            subjects: vec![RECENT_SUBJECT.into()],
            max_messages: RECENT_MESSAGES,
            description: Some("what finished and what was deleted, in order".into()),
            ..durable.clone()
        },
        Config {
            name: MODELS.into(),
            subjects: vec!["models.*".into()],
            max_messages_per_subject: 1,
            description: Some("the models that workers have".into()),
            ..durable
        },
    ]
}

/// The stream of pictures. One that is lost here is read from the object store in the end.
pub(super) fn frames(replicas: usize) -> Config {
    Config {
        name: FRAMES.into(),
        subjects: vec!["frames.*.*".into()],
        storage: StorageType::Memory,
        max_age: FRAMES_AGE,
        max_bytes: FRAMES_BYTES,
        num_replicas: replicas,
        allow_direct: true,
        description: Some("pictures of jobs that are drawn".into()),
        ..Config::default()
    }
}

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// Somebody at a page waits.
    High,
    /// The result is fetched later.
    Low,
}

impl Priority {
    /// Both, the first one first.
    pub(super) const ALL: [Self; 2] = [Self::High, Self::Low];

    fn token(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Low => "low",
        }
    }
}

/// Subject of a job in the queue.
pub(super) fn job_subject(model: &str, priority: Priority, plan: &Plan) -> String {
    let plan = serde_json::to_vec(plan).unwrap_or_default();
    let digest = Sha256::digest(&plan);
    let plan: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("jobs.queue.{}.{}.{plan}", token(model), priority.token())
}

/// What a worker takes from the queue for one of its models: a durable consumer that all workers
/// with the model share.
pub(super) fn consumer(model: &str, priority: Priority, ack_wait: Duration) -> pull::Config {
    let (model, priority) = (token(model), priority.token());
    pull::Config {
        // Names of consumers are names of files.
        durable_name: Some(format!("workers-{model}-{priority}")),
        filter_subject: format!("jobs.queue.{model}.{priority}.*"),
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        // Who takes a job counts how often it was taken: a worker that stops in good order gives
        // jobs back, which must not count against them.
        max_deliver: -1,
        max_ack_pending: -1,
        ..pull::Config::default()
    }
}

/// Subject of a job's log.
pub(super) fn events_subject(job: &JobId) -> String {
    format!("events.{job}")
}

/// Subject of one picture of a job.
pub(super) fn frame_subject(job: &JobId, seq: u64) -> String {
    format!("frames.{job}.{seq}")
}

/// Subject of what a model is.
pub(super) fn model_subject(model: &str) -> String {
    format!("models.{}", token(model))
}

/// Subject of questions to a model.
pub(super) fn ask_subject(model: &str) -> String {
    format!("ask.{}", token(model))
}

/// A name as one part of a subject, and of a file's name: letters, digits and `-` stay, other bytes
/// become `_` and two digits of base 16.
fn token(name: &str) -> String {
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' => token.push(char::from(byte)),
            _ => token.push_str(&format!("_{byte:02x}")),
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_one_part_of_a_subject_and_its_own() {
        let names = ["var-d16", "a.b", "a b", "a_2eb", "*", ">", "ä/.."];
        let tokens: Vec<_> = names.iter().map(|name| token(name)).collect();
        for (at, token) in tokens.iter().enumerate() {
            let safe = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
            assert!(!token.is_empty() && token.chars().all(safe), "{token}");
            assert!(!tokens[..at].contains(token), "{token}");
        }
    }
}
