//! One viewer of one job.

use std::{collections::VecDeque, fmt, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;
use var_dd_protocol::{Frame, JobEvent, JobId};

use super::{live::LiveJob, log::Cursor, state::Shared};
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
}

impl fmt::Debug for ViewerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control { seq, event } => write!(f, "{seq}: {event:?}"),
            Self::Frame { seq, last, bytes } => {
                write!(f, "{seq}: Frame(last: {last}, {} bytes)", bytes.len())
            }
        }
    }
}

impl ViewerEvent {
    /// Sequence number among the job's events.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Control { seq, .. } | Self::Frame { seq, .. } => *seq,
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
pub struct Viewer(Source);

#[derive(Debug)]
enum Source {
    Live { shared: Arc<Shared>, job: Arc<LiveJob>, cursor: Cursor, changed: watch::Receiver<()> },
    Stored { store: Store, job: JobId, events: VecDeque<StoredEvent> },
}

impl Viewer {
    /// A viewer of a live job that is counted already.
    pub(super) fn live(shared: Arc<Shared>, job: Arc<LiveJob>, after: Option<u64>) -> Self {
        let (cursor, changed) = job.viewer(after);
        Self(Source::Live { shared, job, cursor, changed })
    }

    /// A viewer of an ended job.
    pub(super) fn stored(store: Store, job: JobId, events: Vec<StoredEvent>) -> Self {
        let events = events.into();
        Self(Source::Stored { store, job, events })
    }

    /// The next event. `None` after the final event, or when the server shuts down before it.
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<ViewerEvent> {
        match &mut self.0 {
            Source::Live { shared, job, cursor, changed } => loop {
                let (step, closed) = job.next(cursor, shared.config.viewer_backlog_bytes);
                shared.metrics.dropped_frames.inc_by(step.dropped);
                if step.event.is_some() || closed {
                    return step.event;
                }
                // The sender lives as long as the job that we hold.
                changed.changed().await.ok()?;
            },
            Source::Stored { store, job, events } => {
                let event = replay(store, job, events.front()?).await;
                events.pop_front();
                if event.is_none() {
                    events.clear();
                }
                event
            }
        }
    }
}

/// An event of an ended job as it was live; `None` if its picture is gone.
async fn replay(store: &Store, job: &JobId, event: &StoredEvent) -> Option<ViewerEvent> {
    let frame = match event {
        StoredEvent::Control { seq, event } => {
            return Some(ViewerEvent::Control { seq: *seq, event: event.clone() });
        }
        StoredEvent::Frame(frame) => frame,
    };
    let picture = match store.picture(job, frame).await {
        Ok(picture) => picture?,
        Err(error) => {
            tracing::error!(%job, %error, "a result cannot be replayed");
            return None;
        }
    };
    let wire = Frame { job: job.clone(), seq: frame.seq, header: frame.header.clone(), picture };
    Some(ViewerEvent::Frame {
        seq: frame.seq,
        last: frame.header.last,
        bytes: wire.encode().into(),
    })
}

impl Drop for Viewer {
    fn drop(&mut self) {
        if let Source::Live { shared, job, .. } = &self.0 {
            shared.viewer_gone(&job.record.id);
        }
    }
}
