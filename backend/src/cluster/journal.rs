//! The log of a job in the broker.

use std::time::Duration;

use async_nats::{
    StatusCode,
    jetstream::{
        Context,
        consumer::DeliverPolicy,
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
        stream::{DirectGetErrorKind, LastRawMessageErrorKind, Stream},
    },
};
use bytes::Bytes;
use var_dd_protocol::JobId;

use super::{
    ClusterError,
    entry::Entry,
    failover::answered,
    names::{self, EVENTS, FRAMES},
    reader::Reader,
};

/// Between two attempts to reach a broker that does not answer.
const PAUSE: Duration = Duration::from_millis(250);

/// The logs of all jobs.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    jetstream: Context,
    events: Stream,
    frames: Stream,
    /// Copies of each message.
    replicas: usize,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// It stands there, under this number.
    At(u64),
    /// Somebody else wrote before; nothing was added.
    Refused,
}

impl Journal {
    /// The logs in this broker.
    ///
    /// # Errors
    /// When the streams are not there.
    pub(super) async fn open(jetstream: Context, replicas: usize) -> Result<Self, ClusterError> {
        let events = jetstream.get_stream(EVENTS).await.map_err(ClusterError::broker)?;
        let frames = jetstream.get_stream(FRAMES).await.map_err(ClusterError::broker)?;
        Ok(Self { jetstream, events, frames, replicas })
    }

    /// Adds an entry to the log of a job if it ends with the entry of number `expected` (0: there
    /// is none).
    ///
    /// # Errors
    /// When the broker gives no answer; then the entry may stand there or not.
    pub(super) async fn append(
        &self,
        job: &JobId,
        expected: u64,
        entry: &Entry,
    ) -> Result<Appended, ClusterError> {
        let payload = payload_of(entry)?;
        let published = answered(|| self.publish_entry(job, expected, &payload)).await;
        self.appended(job, payload, published).await
    }

    fn publish_entry(
        &self,
        job: &JobId,
        expected: u64,
        payload: &Bytes,
    ) -> impl Future<Output = Result<u64, PublishError>> {
        let message = PublishMessage::build()
            .payload(payload.clone())
            .expected_last_subject_sequence(expected);
        self.publish(names::events_subject(job), message)
    }

    /// What became of an entry, by what the broker said of it.
    async fn appended(
        &self,
        job: &JobId,
        payload: Bytes,
        published: Result<u64, PublishError>,
    ) -> Result<Appended, ClusterError> {
        match published {
            Ok(number) => Ok(Appended::At(number)),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                // It may be our own, whose acknowledgement was lost.
                match self.last_message(job).await? {
                    Some((number, last)) if last == payload => Ok(Appended::At(number)),
                    _ => Ok(Appended::Refused),
                }
            }
            Err(error) => Err(ClusterError::broker(error)),
        }
    }

    /// The same, again and again until the broker answers, or `given_up` says to stop.
    pub(super) async fn append_for_certain(
        &self,
        job: &JobId,
        expected: u64,
        entry: &Entry,
        given_up: impl Fn() -> bool,
    ) -> Option<Appended> {
        let mut said = false;
        loop {
            // One attempt at a time: whoever gives up does not wait for more of them.
            let appended = async {
                let payload = payload_of(entry)?;
                let published = self.publish_entry(job, expected, &payload).await;
                self.appended(job, payload, published).await
            };
            match appended.await {
                Ok(appended) => return Some(appended),
                Err(error) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(%job, %error, "a log cannot be written; trying again");
                    }
                    if given_up() {
                        return None;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn publish(&self, subject: String, message: PublishMessage) -> Result<u64, PublishError> {
        Ok(self.jetstream.send_publish(subject, message).await?.await?.sequence)
    }

    async fn last_message(&self, job: &JobId) -> Result<Option<(u64, Bytes)>, ClusterError> {
        // From the leader: a copy that lags would tell of the past.
        let subject = names::events_subject(job);
        match answered(|| self.events.get_last_raw_message_by_subject(&subject)).await {
            Ok(message) => Ok(Some((message.sequence, message.payload))),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                Ok(None)
            }
            Err(error) => Err(ClusterError::broker(error)),
        }
    }

    /// The last entry of a job's log, and its number.
    ///
    /// # Errors
    /// When the broker gives no answer, or what is there is no entry.
    pub(super) async fn last(&self, job: &JobId) -> Result<Option<(u64, Entry)>, ClusterError> {
        let Some((number, payload)) = self.last_message(job).await? else { return Ok(None) };
        Ok(Some((number, read(&payload)?)))
    }

    /// The first entry of a job's log.
    ///
    /// # Errors
    /// As [`Journal::last`].
    pub(super) async fn first(&self, job: &JobId) -> Result<Option<Entry>, ClusterError> {
        let subject = names::events_subject(job);
        match answered(|| self.events.get_first_raw_message_by_subject(&subject, 1)).await {
            Ok(message) => Ok(Some(read(&message.payload)?)),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                Ok(None)
            }
            Err(error) => Err(ClusterError::broker(error)),
        }
    }

    /// The log of a job from its first entry on, for ever.
    pub(super) fn follow(&self, job: &JobId) -> Reader {
        Reader::new(self.events.clone(), names::events_subject(job), DeliverPolicy::All)
    }

    /// Lets viewers have a picture; `wire` is the binary message to them.
    ///
    /// # Errors
    /// When the broker gives no answer.
    pub(super) async fn put_frame(
        &self,
        job: &JobId,
        seq: u64,
        wire: Bytes,
    ) -> Result<(), ClusterError> {
        let subject = names::frame_subject(job, seq);
        let put = || self.publish(subject.clone(), PublishMessage::build().payload(wire.clone()));
        match put().await {
            Ok(_) => Ok(()),
            // What is in memory alone is gone when the broker was started anew.
            Err(error) if error.kind() == PublishErrorKind::StreamNotFound => {
                let made = self.jetstream.get_or_create_stream(names::frames(self.replicas)).await;
                made.map_err(ClusterError::broker)?;
                put().await.map(drop).map_err(ClusterError::broker)
            }
            Err(error) => Err(ClusterError::broker(error)),
        }
    }

    /// A picture for viewers, as long as the broker has it.
    ///
    /// # Errors
    /// When the broker gives no answer.
    pub(super) async fn frame(&self, job: &JobId, seq: u64) -> Result<Option<Bytes>, ClusterError> {
        let subject = names::frame_subject(job, seq);
        match self.frames.direct_get_last_for_subject(subject.as_str()).await {
            Ok(message) => return Ok(Some(message.payload)),
            Err(error) if is_gone(&error.kind()) => {}
            Err(error) => return Err(ClusterError::broker(error)),
        }
        // Whoever answered may have a copy that lags; the leader's does not.
        match self.frames.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => Ok(Some(message.payload)),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                // Nor is its stream there: the broker was started anew.
                LastRawMessageErrorKind::JetStream(answer) if answer.code() == 404 => Ok(None),
                _ => Err(ClusterError::broker(error)),
            },
        }
    }
}

/// Whether a message is not there, or nothing of its stream is: the broker was started anew.
fn is_gone(error: &DirectGetErrorKind) -> bool {
    match error {
        DirectGetErrorKind::NotFound => true,
        DirectGetErrorKind::ErrorResponse(status, _) => *status == StatusCode::NO_RESPONDERS,
        _ => false,
    }
}

fn payload_of(entry: &Entry) -> Result<Bytes, ClusterError> {
    let payload =
        serde_json::to_vec(entry).map_err(|error| ClusterError::format("an entry", error))?;
    Ok(payload.into())
}

/// An entry as it lies in the broker.
///
/// # Errors
/// When it is none.
pub(super) fn read(payload: &[u8]) -> Result<Entry, ClusterError> {
    serde_json::from_slice(payload).map_err(|error| ClusterError::format("the log of a job", error))
}
