//! A stream read in order and for ever, whatever becomes of the broker that serves it.
//!
//! An ordered consumer lives in one broker. When that one goes, it may take minutes until its
//! client notices. So a reader that has heard nothing for a while asks the stream's leader for the
//! number of the last message, and begins again after what it has if there is more.

use std::time::Duration;

use async_nats::jetstream::{
    Message,
    consumer::{
        DeliverPolicy,
        pull::{Ordered, OrderedConfig},
    },
    stream::{LastRawMessageErrorKind, Stream},
};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::{ClusterError, failover::answered};

/// After so long without a message a reader looks whether there is one.
const SILENCE: Duration = Duration::from_secs(4);
/// A consumer that is not there by then is tried again.
const BEGINNING: Duration = Duration::from_secs(10);

/// The messages of one subject.
pub(super) struct Reader {
    stream: Stream,
    subject: String,
    /// Which messages come first.
    policy: DeliverPolicy,
    /// Number of the last message that was read.
    last: u64,
    messages: Option<Ordered>,
}

impl Reader {
    /// Those of a subject, which may have wildcards, from the ones of `policy` on.
    pub(super) fn new(stream: Stream, subject: impl Into<String>, policy: DeliverPolicy) -> Self {
        Self { stream, subject: subject.into(), policy, last: 0, messages: None }
    }

    /// The next message and its number in the stream; `None` if there is none for some seconds, for
    /// the caller to look whether it still wants one.
    ///
    /// # Errors
    /// When the broker gives no answer. Asked again, it goes on where it was.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Message)>, ClusterError> {
        let messages = match &mut self.messages {
            Some(messages) => messages,
            None => {
                let begun = self.begin().await?;
                self.messages.insert(begun)
            }
        };
        match timeout(SILENCE, messages.next()).await {
            Ok(Some(Ok(message))) => {
                self.last = message.info().map_err(ClusterError::broker)?.stream_sequence;
                Ok(Some((self.last, message)))
            }
            Ok(end) => {
                self.messages = None;
                Err(match end {
                    Some(Err(error)) => ClusterError::broker(error),
                    _ => ClusterError::Broker("it sends no more messages".into()),
                })
            }
            Err(_) => {
                let last = self.last_of_stream().await?;
                if last != self.last {
                    self.messages = None;
                    // Fewer than were there before: the stream was made anew.
                    self.last = self.last.min(last);
                }
                Ok(None)
            }
        }
    }

    /// Has the last message come once more: it could not be used.
    pub(super) fn again(&mut self) {
        self.last = self.last.saturating_sub(1);
        self.messages = None;
    }

    async fn begin(&mut self) -> Result<Ordered, ClusterError> {
        let deliver_policy = match self.last {
            0 => self.policy,
            last => DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
        };
        let config = OrderedConfig {
            filter_subject: self.subject.clone(),
            deliver_policy,
            ..OrderedConfig::default()
        };
        let messages = async {
            let consumer =
                self.stream.create_consumer(config).await.map_err(ClusterError::broker)?;
            consumer.messages().await.map_err(ClusterError::broker)
        };
        timeout(BEGINNING, messages).await.map_err(ClusterError::broker)?
    }

    /// Number of the last message of the subject; 0 if there is none.
    async fn last_of_stream(&mut self) -> Result<u64, ClusterError> {
        match answered(|| self.stream.get_last_raw_message_by_subject(&self.subject)).await {
            Ok(message) => Ok(message.sequence),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(0),
            Err(error) => Err(ClusterError::broker(error)),
        }
    }
}
