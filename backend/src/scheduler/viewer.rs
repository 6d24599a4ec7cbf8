//! One viewer of one job.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use tokio::sync::watch;
use var_dd_protocol::{Frame, JobId};

use super::{live::LiveJob, log::Cursor, state::Shared};
use crate::{
    jobs::{Events, ViewerEvent, not_found},
    storage::{Pictures, StoredEvent},
};

/// The events of a live job, for a viewer that is counted already.
#[derive(Debug)]
pub(super) struct Live {
    shared: Arc<Shared>,
    job: Arc<LiveJob>,
    cursor: Cursor,
    changed: watch::Receiver<()>,
}

impl Live {
    /// Those after `after`, or all.
    pub(super) fn new(shared: Arc<Shared>, job: Arc<LiveJob>, after: Option<u64>) -> Self {
        let (cursor, changed) = job.viewer(after);
        Self { shared, job, cursor, changed }
    }
}

#[async_trait]
impl Events for Live {
    async fn next(&mut self) -> Option<ViewerEvent> {
        loop {
            let backlog_bytes = self.shared.config.viewer_backlog_bytes;
            let (step, closed) = self.job.next(&mut self.cursor, backlog_bytes);
            self.shared.metrics.dropped_frames.inc_by(step.dropped);
            if step.event.is_some() || closed {
                return step.event;
            }
            // The sender lives as long as the job that we hold.
            self.changed.changed().await.ok()?;
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.viewer_gone(&self.job.record.id);
    }
}

/// The events of an ended job, as they were when it was live.
#[derive(Debug)]
pub(crate) struct Replay<P> {
    pictures: P,
    job: JobId,
    events: VecDeque<StoredEvent>,
}

impl<P> Replay<P> {
    /// These events of a job, with its pictures from `pictures`.
    pub(crate) fn new(pictures: P, job: JobId, events: Vec<StoredEvent>) -> Self {
        Self { pictures, job, events: events.into() }
    }
}

#[async_trait]
impl<P: Pictures> Events for Replay<P> {
    async fn next(&mut self) -> Option<ViewerEvent> {
        let event = replay(&self.pictures, &self.job, self.events.front()?).await;
        self.events.pop_front();
        if matches!(event, ViewerEvent::Lost { .. }) {
            self.events.clear();
        }
        Some(event)
    }
}

/// An event of an ended job as it was live, or why it is lost.
async fn replay(pictures: &impl Pictures, job: &JobId, event: &StoredEvent) -> ViewerEvent {
    let frame = match event {
        StoredEvent::Control { seq, event } => {
            return ViewerEvent::Control { seq: *seq, event: event.clone() };
        }
        StoredEvent::Frame(frame) => frame,
    };
    let picture = match pictures.picture(job, frame).await {
        Ok(Some(picture)) => picture,
        Ok(None) => return ViewerEvent::Lost { seq: frame.seq, error: not_found(job) },
        Err(error) => return ViewerEvent::Lost { seq: frame.seq, error: error.into() },
    };
    let wire = Frame { job: job.clone(), seq: frame.seq, header: frame.header.clone(), picture };
    ViewerEvent::Frame { seq: frame.seq, last: frame.header.last, bytes: wire.encode().into() }
}
