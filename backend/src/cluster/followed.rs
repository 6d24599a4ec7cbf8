//! A live job as a gateway sees it: the log of the broker, read once for all its viewers here.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use var_dd_protocol::{
    ErrorBody, ErrorCode, Frame, FrameHeader, JobEvent, JobId, JobState, JobView, MediaType,
};

use super::{
    ClusterError, Connection,
    entry::{Entry, Posted, Told, What},
    journal,
    reader::Reader,
};
use crate::{
    jobs::{Events, ViewerEvent},
    scheduler::log::{Cursor, Log},
};

/// Between two attempts to read on.
const PAUSE: Duration = Duration::from_millis(500);

/// A job that is followed.
#[derive(Debug)]
pub(super) struct Followed {
    posted: Posted,
    progress: Mutex<Progress>,
    changed: watch::Sender<()>,
    watching: AtomicUsize,
}

#[derive(Debug)]
struct Progress {
    log: Log,
    state: JobState,
    /// Whether something was read.
    is_known: bool,
    /// Nothing more will come.
    closed: bool,
}

impl Followed {
    /// Follows a job in the background for as long as the result lives.
    pub(super) fn start(connection: Connection, posted: Posted) -> Arc<Self> {
        let followed = Arc::new(Self {
            progress: Mutex::new(Progress {
                log: Log::new(posted.record.id.clone(), 0),
                state: JobState::Queued,
                is_known: false,
                closed: false,
            }),
            posted,
            changed: watch::Sender::new(()),
            watching: AtomicUsize::new(0),
        });
        tokio::spawn(read(connection, Arc::downgrade(&followed)));
        followed
    }

    /// The job as it was accepted.
    pub(super) fn posted(&self) -> &Posted {
        &self.posted
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing more will come.
    pub(super) fn is_closed(&self) -> bool {
        self.progress().closed
    }

    /// Whether it waits for a worker.
    pub(super) fn is_waiting(&self) -> bool {
        self.progress().state == JobState::Queued
    }

    /// Viewers at this moment.
    pub(super) fn watching(&self) -> usize {
        self.watching.load(Ordering::Relaxed)
    }

    /// Waits until so much of the log is known that its first entry is, at most so long.
    pub(super) async fn known(&self, limit: Duration) {
        let mut changed = self.changed.subscribe();
        let known = async {
            while !self.progress().is_known {
                // The sender is ours.
                let _ = changed.changed().await;
            }
        };
        // Who comes too early sees less.
        let _ = tokio::time::timeout(limit, known).await;
    }

    fn tell(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress());
        self.changed.send_replace(());
    }

    /// Ends the viewers without a word.
    pub(super) fn close(&self) {
        self.tell(|progress| progress.closed = true);
    }

    /// The job as people see it.
    pub(super) fn view(&self) -> JobView {
        let progress = self.progress();
        let frames = progress.log.frames().map(|(seq, header, _)| (seq, header));
        self.posted.record.view(progress.state, None, None, frames)
    }

    /// The encoded picture of a frame that `wanted` accepts.
    pub(super) fn picture(
        &self,
        wanted: impl Fn(u64, &FrameHeader) -> bool,
    ) -> Option<(MediaType, Bytes)> {
        let progress = self.progress();
        let mut frames = progress.log.frames();
        let (_, header, picture) = frames.find(|(seq, header, _)| wanted(*seq, header))?;
        Some((header.media_type, picture))
    }

    /// Reads an entry; the pictures that it names are fetched before.
    fn apply(&self, entry: &Entry, pictures: Vec<(u64, Bytes)>) {
        self.tell(|progress| {
            progress.is_known = true;
            match &entry.what {
                What::Accepted { posted } => {
                    let position = posted.position;
                    progress.log.push(JobEvent::Queued { position });
                }
                What::Returned => progress.state = JobState::Queued,
                What::Taken { .. } | What::Ending => {}
                What::Told { events } => {
                    for told in events {
                        match told {
                            Told::Event { seq, event } => {
                                progress.log.skip_to(*seq);
                                progress.log.push(event.clone());
                                progress.state = event.state().unwrap_or(progress.state);
                            }
                            Told::Frame { seq, .. } => {
                                let wire = pictures.iter().find(|(of, _)| of == seq);
                                // One that the broker has no more comes with the result.
                                if let Some((_, wire)) = wire {
                                    progress.log.skip_to(*seq);
                                    progress.log.push_wire(wire.clone());
                                }
                            }
                        }
                    }
                }
                What::Ended { seq, event } => {
                    progress.log.skip_to(*seq);
                    progress.log.push(event.clone());
                    progress.state = event.state().unwrap_or(JobState::Failed);
                    progress.closed = true;
                }
            }
        });
    }
}

/// Reads the log of a job until it ends or nobody follows it any more.
async fn read(connection: Connection, followed: Weak<Followed>) {
    let Some(job) = followed.upgrade().map(|live| live.posted.record.id.clone()) else { return };
    let mut reader = connection.journal.follow(&job);
    loop {
        match read_on(&connection, &mut reader, &job, &followed).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%job, %error, "a job cannot be followed; trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read_on(
    connection: &Connection,
    reader: &mut Reader,
    job: &JobId,
    followed: &Weak<Followed>,
) -> Result<(), ClusterError> {
    loop {
        let next = reader.next().await;
        let Some(live) = followed.upgrade() else { return Ok(()) };
        let Some((_, message)) = next? else { continue };
        let (entry, pictures) =
            read_entry(connection, job, &message.payload).await.inspect_err(|_| reader.again())?;
        live.apply(&entry, pictures);
        if live.is_closed() {
            return Ok(());
        }
    }
}

/// An entry with the pictures that it names and the broker has.
async fn read_entry(
    connection: &Connection,
    job: &JobId,
    payload: &[u8],
) -> Result<(Entry, Vec<(u64, Bytes)>), ClusterError> {
    let entry = journal::read(payload)?;
    let mut pictures = Vec::new();
    if let What::Told { events } = &entry.what {
        for told in events {
            if let Told::Frame { seq, .. } = told
                && let Some(wire) = connection.journal.frame(job, *seq).await?
            {
                pictures.push((*seq, wire));
            }
        }
    }
    Ok((entry, pictures))
}

/// Called when the last viewer of a job has gone.
pub(super) type Unwatched = Box<dyn Fn(&Arc<Followed>) + Send>;

/// The events of a followed job for one viewer.
pub(super) struct FollowedEvents {
    followed: Arc<Followed>,
    cursor: Cursor,
    changed: watch::Receiver<()>,
    backlog_bytes: usize,
    /// Called when the last viewer has gone.
    unwatched: Unwatched,
}

impl std::fmt::Debug for FollowedEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FollowedEvents").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl FollowedEvents {
    /// Those after `after`, or all.
    pub(super) fn new(
        followed: Arc<Followed>,
        after: Option<u64>,
        backlog_bytes: usize,
        unwatched: Unwatched,
    ) -> Self {
        followed.watching.fetch_add(1, Ordering::Relaxed);
        let changed = followed.changed.subscribe();
        let cursor = followed.progress().log.cursor(after);
        Self { followed, cursor, changed, backlog_bytes, unwatched }
    }
}

#[async_trait]
impl Events for FollowedEvents {
    async fn next(&mut self) -> Option<ViewerEvent> {
        loop {
            let (step, closed) = {
                let progress = self.followed.progress();
                (progress.log.next(&mut self.cursor, self.backlog_bytes), progress.closed)
            };
            if step.event.is_some() || closed {
                return step.event;
            }
            // The sender lives as long as the job that we hold.
            self.changed.changed().await.ok()?;
        }
    }
}

impl Drop for FollowedEvents {
    fn drop(&mut self) {
        if self.followed.watching.fetch_sub(1, Ordering::Relaxed) == 1 {
            (self.unwatched)(&self.followed);
        }
    }
}

/// A picture for viewers as it lies in `FRAMES`.
///
/// # Errors
/// When it is none.
pub(super) fn picture_of(wire: &Bytes) -> Result<(MediaType, Bytes), ErrorBody> {
    let frame = Frame::decode(wire).map_err(|error| {
        ErrorBody::new(ErrorCode::Internal, format!("a picture cannot be read: {error}"))
    })?;
    Ok((frame.header.media_type, wire.slice_ref(frame.picture)))
}
