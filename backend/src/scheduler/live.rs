//! A job from acceptance to its end: its log, how far it is drawn, who is told.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{SetOnce, watch};
use var_dd_engine::sample::Frames;
use var_dd_protocol::{
    ErrorBody, ErrorCode, Explore, FrameHeader, FramePosition, JobEvent, JobState, JobView,
    MediaType, Pass, Plan, Timings,
};

use super::{
    clock::milliseconds,
    job::ValidJob,
    log::{Cursor, Log, NextEvent},
};
use crate::{
    jobs::Client,
    storage::{Ending, JobRecord, OwnerHash},
};

/// How many numbers an attempt has for its events.
///
/// The numbers that an interrupted attempt gave out are not on disk, so the next one starts above
/// all it can have given: a viewer that resumes after any of them gets the whole new attempt.
const NUMBERS_OF_ATTEMPT: u64 = 1_000_000;

/// A picture as it comes from the encoder.
#[derive(Debug)]
pub(super) struct EncodedPicture {
    /// Width in pixels.
    pub(super) width: u32,
    /// Height in pixels.
    pub(super) height: u32,
    /// How it is encoded.
    pub(super) media_type: MediaType,
    /// The encoded picture.
    pub(super) bytes: Vec<u8>,
    /// Milliseconds that encoding took.
    pub(super) encode_ms: f64,
}

/// A job that has not ended, or has and is still watched.
#[derive(Debug)]
pub(super) struct LiveJob {
    /// What is kept of it.
    pub(super) record: JobRecord,
    /// Index of its model.
    pub(super) model: usize,
    /// In which order its frames come.
    pub(super) frames: Frames,
    /// Its place in the order of the queue.
    pub(super) number: i64,
    /// Who asked for it.
    pub(super) client: Client,
    /// Whether nothing more is wanted of it; read on the device thread.
    over: AtomicBool,
    /// The number under which its acceptance is kept; `None` if it never will be.
    kept: SetOnce<Option<i64>>,
    progress: Mutex<Progress>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Progress {
    log: Log,
    state: JobState,
    /// Frozen: the end is being kept, or the server closes.
    frozen: bool,
    /// Nothing more will come.
    closed: bool,
    passes_began: usize,
    passes_ended: usize,
    drawn: HashSet<(u32, FramePosition)>,
    finished_pictures: u32,
    position: Option<u32>,
    timings: Timings,
    error: Option<ErrorBody>,
    /// Why its end could not be kept yet.
    not_kept: Option<ErrorBody>,
}

impl LiveJob {
    /// A job that begins to wait, in its `attempt`th program (from 0).
    pub(super) fn new(
        valid: ValidJob,
        record: JobRecord,
        number: i64,
        attempt: u32,
        client: Client,
    ) -> Self {
        let log = Log::new(record.id.clone(), first_seq(attempt));
        Self {
            record,
            model: valid.model,
            frames: valid.frames,
            number,
            client,
            over: AtomicBool::new(false),
            kept: SetOnce::new(),
            progress: Mutex::new(Progress {
                log,
                state: JobState::Queued,
                frozen: false,
                closed: false,
                passes_began: 0,
                passes_ended: 0,
                drawn: HashSet::new(),
                finished_pictures: 0,
                position: None,
                timings: Timings::default(),
                error: None,
                not_kept: None,
            }),
            changed: watch::Sender::new(()),
        }
    }

    /// Its acceptance is kept under this number, or never will be. Whether that was open until now.
    pub(super) fn set_kept(&self, number: Option<i64>) -> bool {
        self.kept.set(number).is_ok()
    }

    /// The number under which its acceptance is kept, once it is; `None` if it never will be, so
    /// that the job is none.
    pub(super) async fn kept(&self) -> Option<i64> {
        *self.kept.wait().await
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // Nothing in a critical section leaves it half-done.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_acceptance(&self, now_ms: f64) -> f64 {
        milliseconds((now_ms - self.record.created_ms as f64).max(0.0))
    }

    /// Changes the job unless it is frozen, and tells its viewers.
    fn update<T: Default>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        let mut progress = self.progress();
        if progress.frozen {
            return T::default();
        }
        let result = change(&mut progress);
        drop(progress);
        self.changed.send_replace(());
        result
    }

    /// Whether nothing more is wanted of it.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// When it expires, whatever it is at, in milliseconds since 1970.
    pub(super) fn deadline_ms(&self) -> Option<f64> {
        let after_ms = self.record.request.deadline_ms?;
        Some((self.record.created_ms + after_ms) as f64)
    }

    /// Whether its time is over.
    pub(super) fn is_late(&self, now_ms: f64) -> bool {
        self.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms)
    }

    /// It has `position` jobs ahead of it.
    pub(super) fn moved_to(&self, position: u32) {
        if self.progress().position != Some(position) {
            self.update(|progress| {
                progress.position = Some(position);
                progress.log.push(JobEvent::Queued { position });
            });
        }
    }

    /// The device takes (the first part of) it. Returns how long it waited, the first time.
    pub(super) fn started(&self, now_ms: f64) -> Option<f64> {
        self.update(|progress| {
            if progress.state != JobState::Queued {
                return None;
            }
            progress.state = JobState::Running;
            progress.timings.queue_ms = self.since_acceptance(now_ms);
            let request = self.record.request.clone();
            progress.log.push(JobEvent::Started { request });
            Some(progress.timings.queue_ms)
        })
    }

    /// A pass began. A job that runs in parts, or again in smaller batches, tells of each pass
    /// once.
    pub(super) fn pass_began(&self, pass: usize, passes: usize, of: Pass, now_ms: f64) {
        self.update(|progress| {
            if pass == progress.passes_began {
                progress.passes_began += 1;
                progress.log.push(JobEvent::PassBegan {
                    pass: pass as u32,
                    of,
                    passes: passes as u32,
                    at_ms: self.since_acceptance(now_ms),
                });
            }
        });
    }

    /// The network of a pass ran for `transformer_ms`.
    pub(super) fn pass_ended(&self, pass: usize, transformer_ms: f64, now_ms: f64) {
        self.update(|progress| {
            progress.timings.transformer_ms =
                milliseconds(progress.timings.transformer_ms + transformer_ms);
            if pass == progress.passes_ended && pass < progress.passes_began {
                progress.passes_ended += 1;
                progress.log.push(JobEvent::PassEnded {
                    pass: pass as u32,
                    at_ms: self.since_acceptance(now_ms),
                });
            }
        });
    }

    /// The decoder ran for `decode_ms`.
    pub(super) fn decoded(&self, decode_ms: f64) {
        self.update(|progress| {
            progress.timings.decode_ms = milliseconds(progress.timings.decode_ms + decode_ms);
        });
    }

    /// Its plan.
    pub(super) fn plan(&self) -> &Plan {
        &self.record.request.plan
    }

    /// What it goes on from or lies between, if anything.
    pub(super) fn explore(&self) -> Option<Arc<Explore>> {
        self.record.request.explore.clone().map(Arc::from)
    }

    /// The passes of the plan.
    pub(super) fn passes(&self) -> Vec<Pass> {
        self.record.request.passes(self.record.patch_nums.len() as u32)
    }

    fn frames_of_a_picture(&self) -> u32 {
        Pass::frames(&self.passes()).len() as u32
    }

    /// Whether a frame is the last one of its picture.
    pub(super) fn is_last(&self, at: FramePosition) -> bool {
        Pass::frames(&self.passes()).last() == Some(&at)
    }

    /// Whether a frame is still wanted.
    pub(super) fn wants(&self, picture: u32, at: FramePosition) -> bool {
        let progress = self.progress();
        !progress.frozen && !progress.drawn.contains(&(picture, at))
    }

    /// Adds a frame, unless it is there already.
    pub(super) fn add_frame(
        &self,
        picture: u32,
        at: FramePosition,
        encoded: EncodedPicture,
        now_ms: f64,
    ) {
        self.update(|progress| {
            if !progress.drawn.insert((picture, at)) {
                return;
            }
            let last = self.is_last(at);
            let at_ms = self.since_acceptance(now_ms);
            if progress.drawn.len() == 1 {
                progress.timings.first_frame_ms = at_ms;
            }
            progress.timings.last_frame_ms = at_ms;
            progress.finished_pictures += u32::from(last);
            let header = FrameHeader {
                picture,
                pass: at.pass,
                scale: at.scale,
                width: encoded.width,
                height: encoded.height,
                media_type: encoded.media_type,
                last,
                at_ms,
                encode_ms: milliseconds(encoded.encode_ms),
            };
            progress.log.push_frame(header, encoded.bytes);
        });
    }

    /// Where the time went if every picture is there and the end is not under way.
    pub(super) fn complete(&self) -> Option<Timings> {
        let progress = self.progress();
        let complete = match self.frames {
            // The finished picture is not the last frame to come.
            Frames::LastFirst => {
                progress.drawn.len() as u32
                    == self.record.request.count * self.frames_of_a_picture()
            }
            _ => progress.finished_pictures == self.record.request.count,
        };
        (complete && !progress.frozen).then_some(progress.timings)
    }

    /// Whether everything of a picture is there.
    pub(super) fn has_picture(&self, picture: u32) -> bool {
        let progress = self.progress();
        let mut drawn = progress.drawn.iter().filter(|(of, _)| *of == picture);
        match self.frames {
            Frames::LastFirst => drawn.count() as u32 == self.frames_of_a_picture(),
            _ => drawn.any(|&(_, at)| self.is_last(at)),
        }
    }

    /// Freezes the job, to end it with `last`. `None` if it is ending already, or never will in
    /// this program.
    pub(super) fn freeze(&self, last: JobEvent) -> Option<Ending> {
        let mut progress = self.progress();
        if progress.frozen {
            return None;
        }
        progress.frozen = true;
        self.over.store(true, Ordering::Relaxed);
        Some(progress.log.ending(last))
    }

    /// Tells, once, that the end of the frozen job could not be kept yet; what is to be kept then.
    pub(super) fn not_kept(&self, error: &ErrorBody, last: JobEvent) -> Ending {
        let mut progress = self.progress();
        if progress.not_kept.replace(error.clone()).is_none() {
            progress.log.push(JobEvent::NotKept { error: error.clone() });
        }
        let ending = progress.log.ending(last);
        drop(progress);
        self.changed.send_replace(());
        ending
    }

    /// Waits until keeping the end has failed; why.
    pub(super) async fn cannot_be_kept(&self) -> ErrorBody {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(error) = self.progress().not_kept.clone() {
                return error;
            }
            // The sender is ours.
            let _ = changed.changed().await;
        }
    }

    /// Leaves the frozen job, whose end could not be kept, to the next start of the program.
    pub(super) fn abandon(&self) {
        self.progress().closed = true;
        self.changed.send_replace(());
    }

    /// Tells that the frozen job has ended with `last`.
    pub(super) fn end(&self, last: JobEvent) {
        let mut progress = self.progress();
        if let Some(state) = last.state() {
            progress.state = state;
        }
        if let JobEvent::Failed { error } = &last {
            progress.error = Some(error.clone());
        }
        progress.log.push(last);
        progress.closed = true;
        drop(progress);
        self.changed.send_replace(());
    }

    /// Leaves the job to the next start of the program; its viewers see no more of it. Not if it is
    /// ending.
    pub(super) fn leave(&self) {
        let mut progress = self.progress();
        if progress.frozen {
            return;
        }
        progress.frozen = true;
        progress.closed = true;
        self.over.store(true, Ordering::Relaxed);
        drop(progress);
        self.changed.send_replace(());
    }

    /// A viewer that has seen everything up to `after`, and what wakes it.
    pub(super) fn viewer(&self, after: Option<u64>) -> (Cursor, watch::Receiver<()>) {
        let changed = self.changed.subscribe();
        (self.progress().log.cursor(after), changed)
    }

    /// The next event for a viewer, and whether there will be none after those in the log.
    pub(super) fn next(&self, cursor: &mut Cursor, backlog_bytes: usize) -> (NextEvent, bool) {
        let progress = self.progress();
        (progress.log.next(cursor, backlog_bytes), progress.closed)
    }

    /// SHA-256 of the owner's token.
    pub(super) fn owner(&self) -> &OwnerHash {
        &self.record.owner
    }

    /// The job as people see it.
    pub(super) fn view(&self) -> JobView {
        let progress = self.progress();
        let timings = (progress.state == JobState::Finished).then_some(progress.timings);
        let frames = progress.log.frames().map(|(seq, header, _)| (seq, header));
        self.record.view(progress.state, timings, progress.error.clone(), frames)
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
}

/// The number of the first event of an attempt (from 0).
pub(crate) fn first_seq(attempt: u32) -> u64 {
    u64::from(attempt) * NUMBERS_OF_ATTEMPT
}

/// The error of a job that can be neither drawn nor explained.
pub(crate) fn internal(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::Internal, message)
}
