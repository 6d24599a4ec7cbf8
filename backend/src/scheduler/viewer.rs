//! One viewer of one job.

use std::{collections::VecDeque, fmt, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;
use var_dd_protocol::{ErrorBody, Frame, JobEvent, JobId};

use super::{live::LiveJob, log::Cursor, not_found, state::Shared};
use crate::storage::{Store, StoredEvent};

/// What a viewer of a job sees, in the order of the sequence numbers.
#[derive(Clone, PartialEq)]
pub enum ViewerEvent {
    /// Something happened.
    Control {
        /// Sequence number among the job's events.
        seq: u64,
        /// What happened.
        event: JobEvent,
    },
    /// A picture.
    Frame {
        /// Sequence number among the job's events.
        seq: u64,
        /// Whether it is the last frame of its picture.
        last: bool,
        /// The binary message, encoded once for all viewers.
        bytes: Bytes,
    },
    /// A picture that was kept and cannot be read any more. Nothing comes after it.
    Lost {
        /// Sequence number among the job's events.
        seq: u64,
        /// Why.
        error: ErrorBody,
    },
}

impl fmt::Debug for ViewerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control { seq, event } => write!(f, "{seq}: {event:?}"),
            Self::Frame { seq, last, bytes } => {
                write!(f, "{seq}: Frame(last: {last}, {} bytes)", bytes.len())
            }
            Self::Lost { seq, error } => write!(f, "{seq}: Lost({error})"),
        }
    }
}

impl ViewerEvent {
    /// Sequence number among the job's events.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Control { seq, .. } | Self::Frame { seq, .. } | Self::Lost { seq, .. } => *seq,
        }
    }
}

/// One viewer of one job. Counts as watching until dropped.
///
/// Sequence numbers increase. A gap is a position in the queue that was superseded, or an
/// intermediate frame that a slow viewer was spared. After a restart of the server an unfinished
/// job starts over, with numbers above all that it had: first `queued`, then everything from
/// `started` on.
#[derive(Debug)]
pub struct Viewer(EventSource);

#[derive(Debug)]
enum EventSource {
    Live { shared: Arc<Shared>, job: Arc<LiveJob>, cursor: Cursor, changed: watch::Receiver<()> },
    Stored { store: Store, job: JobId, events: VecDeque<StoredEvent> },
}

impl Viewer {
    /// A viewer of a live job that is counted already.
    pub(super) fn live(shared: Arc<Shared>, job: Arc<LiveJob>, after: Option<u64>) -> Self {
        let (cursor, changed) = job.viewer(after);
        Self(EventSource::Live { shared, job, cursor, changed })
    }

    /// A viewer of an ended job.
    pub(super) fn stored(store: Store, job: JobId, events: Vec<StoredEvent>) -> Self {
        let events = events.into();
        Self(EventSource::Stored { store, job, events })
    }

    /// The next event. `None` after the final event, or when the server shuts down before it.
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<ViewerEvent> {
        match &mut self.0 {
            EventSource::Live { shared, job, cursor, changed } => loop {
                let (step, closed) = job.next(cursor, shared.config.viewer_backlog_bytes);
                shared.metrics.dropped_frames.inc_by(step.dropped);
                if step.event.is_some() || closed {
                    return step.event;
                }
                // The sender lives as long as the job that we hold.
                changed.changed().await.ok()?;
            },
            EventSource::Stored { store, job, events } => {
                let event = replay(store, job, events.front()?).await;
                events.pop_front();
                if matches!(event, ViewerEvent::Lost { .. }) {
                    events.clear();
                }
                Some(event)
            }
        }
    }
}

/// An event of an ended job as it was live, or why it is lost.
async fn replay(store: &Store, job: &JobId, event: &StoredEvent) -> ViewerEvent {
    let frame = match event {
        StoredEvent::Control { seq, event } => {
            return ViewerEvent::Control { seq: *seq, event: event.clone() };
        }
        StoredEvent::Frame(frame) => frame,
    };
    let picture = match store.picture(job, frame).await {
        Ok(Some(picture)) => picture,
        Ok(None) => return ViewerEvent::Lost { seq: frame.seq, error: not_found(job) },
        Err(error) => return ViewerEvent::Lost { seq: frame.seq, error: error.into() },
    };
    let wire = Frame { job: job.clone(), seq: frame.seq, header: frame.header.clone(), picture };
    ViewerEvent::Frame { seq: frame.seq, last: frame.header.last, bytes: wire.encode().into() }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        if let EventSource::Live { shared, job, .. } = &self.0 {
            shared.viewer_gone(&job.record.id);
        }
    }
}
