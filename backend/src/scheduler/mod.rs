//! Jobs from request to result: queue, batches, the device, every viewer.
//!
//! ```text
//! submit → job (valid) → queue ─ batch ─→ worker (one thread, owns the device)
//!             └→ storage → answer          │ reports, bounded
//!             viewers ← log of the job ← draw ← encode ┘
//!                           └→ storage at the end
//! ```
//! A job may be drawn while its acceptance is written to disk; its name is told after that, so
//! nobody sees a picture of a job that a crash would take back, and its end waits for it too.
//! `job`, `queue`, `batch` and `log` are pure: clock and limits are arguments. `state` puts them
//! behind one lock, `dispatch` feeds the device, `draw` follows each batch until its jobs have
//! ended.

mod batch;
mod clock;
mod dispatch;
mod draw;
mod drawing;
mod encode;
mod explore;
mod fairness;
pub(crate) mod job;
pub(crate) mod live;
pub(crate) mod log;
mod metrics;
mod question;
mod queue;
mod state;
#[cfg(test)]
mod tests;
pub(crate) mod viewer;
mod worker;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use image::RgbImage;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::sync::Mutex;
use var_dd_protocol::{
    ErrorBody, ErrorCode, FrameHeader, GenerateRequest, JobEvent, JobId, JobView, MediaType,
    ModelInfo, OwnerToken, ResultPage, TokenReport, TokenizedPicture,
};

pub use self::{drawing::Drawing, encode::encoded_bytes};
use self::{
    job::{ValidJob, check_owner},
    live::{LiveJob, first_seq, internal},
    state::Shared,
    viewer::{Live, Replay},
};
use crate::{
    generator::Generator,
    jobs::{
        Accepted, Asking, Client, Jobs, Stats, Unwatched, Viewer, checked_page, key_reused,
        not_found,
    },
    storage::{
        AskedBefore, Ending, JobRecord, RequestKey, Store, StoreError, StoredEvent, StoredFrame,
        StoredJob, UnfinishedJob,
    },
};

/// A request as one of these models runs it: model and seed filled in, every value within bounds.
///
/// # Errors
/// The first value that is out of bounds, with the bound.
pub fn checked(
    request: GenerateRequest,
    models: &[ModelInfo],
) -> Result<GenerateRequest, ErrorBody> {
    ValidJob::new(request, models).map(|valid| valid.request)
}

/// A job that was running at this many crashes of the program is taken to be their cause and fails.
pub const MAX_CRASHES: u32 = 8;

/// Bounds and times of a scheduler.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// Most jobs waiting; one more is refused with [`ErrorCode::QueueFull`], and so is one more of
    /// an address that has three quarters of what others leave.
    pub queue_limit: usize,
    /// Most pictures in one batch, at least 1.
    pub max_batch: usize,
    /// Most batches on the device or behind it, at least 1: while one is drawn, the frames of those
    /// before are encoded and kept. More where keeping takes longer than drawing.
    pub batches_in_flight: usize,
    /// How long the first job of a batch waits for others that could share it.
    pub batch_window: Duration,
    /// How long a waiting job outlives its last viewer.
    pub unwatched_grace: Duration,
    /// Finished results kept; the oldest beyond are deleted. All if `None`.
    pub keep_results: Option<u32>,
    /// How long it is tried to keep the end of a job before the job fails for that.
    pub keep_for: Duration,
    /// Bytes of frames that a viewer may lie behind before intermediate ones are dropped for it.
    pub viewer_backlog_bytes: usize,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            queue_limit: 64,
            max_batch: 8,
            batches_in_flight: 2,
            batch_window: Duration::ZERO,
            unwatched_grace: Duration::from_secs(20),
            keep_results: None,
            keep_for: Duration::from_secs(600),
            viewer_backlog_bytes: 1 << 20,
        }
    }
}

/// Why a scheduler cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Nothing to draw with.
    #[error("no model is loaded; give at least one with --model DIR")]
    NoModel,
    /// Requests could not tell them apart.
    #[error(
        "two models are named {0:?}; a name must be unique, so change `name` in the config.json of \
         one"
    )]
    SameName(String),
    /// No thread for the device.
    #[error("the system gives no thread for the device: {0}")]
    Thread(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes jobs, runs them in batches, tells their viewers, keeps their results. A cheap handle.
#[derive(Clone, Debug)]
pub struct Scheduler {
    drawing: Drawing,
    store: Store,
    /// Held while a job is accepted under a key: of several that ask at once, the others find what
    /// the first one got, and take no places of their own.
    keyed: Arc<Mutex<()>>,
}

impl Scheduler {
    /// Starts the device thread and requeues the unfinished jobs of `store`, in the order of
    /// acceptance. Those that the loaded models cannot run fail, and so do those that were running
    /// at [`MAX_CRASHES`] crashes.
    ///
    /// # Errors
    /// When there is no model, two have one name, the system gives no thread, or the store fails.
    pub async fn start(
        config: SchedulerConfig,
        store: Store,
        generators: Vec<Box<dyn Generator>>,
    ) -> Result<Self, StartError> {
        let drawing = Drawing::new(config, Arc::new(store.clone()), &generators)?;
        let shared = drawing.0.clone();
        if let Some(default) = shared.models.first() {
            shared.remember_example(store.example(&default.name).await?);
        }
        for job in store.take_over().await? {
            resume(&shared, &store, job).await?;
        }
        shared.prune().await;
        drawing.begin(generators).await?;
        Ok(Self { drawing, store, keyed: Arc::default() })
    }

    /// Accepts a job; it is on disk on return and will be drawn whatever happens to the program.
    ///
    /// # Errors
    /// When a value is out of bounds, the queue is full, the server shuts down or the job cannot be
    /// kept.
    pub async fn submit(
        &self,
        request: GenerateRequest,
        unwatched: Unwatched,
    ) -> Result<Accepted, ErrorBody> {
        let asking = Asking { unwatched, client: Client::default(), key: None };
        self.submit_as(request, asking).await
    }

    async fn accept(
        &self,
        request: GenerateRequest,
        asking: Asking,
        example: bool,
    ) -> Result<Accepted, ErrorBody> {
        let Asking { unwatched, client, key } = asking;
        let key = key.map(|key| RequestKey::new(key, &request)).transpose()?;
        let turn = match &key {
            Some(_) => Some(self.keyed.clone().lock_owned().await),
            None => None,
        };
        if let Some(key) = &key
            && let Some(before) = accepted_before(self.store.asked_before(key).await?)
        {
            return before;
        }
        let valid = ValidJob::new(self.with_parents(request).await?, &self.drawing.0.models)?;
        let salt = job::new_salt()?;
        let owner_token = match &key {
            Some(key) => key.owner_token(&salt),
            None => job::new_token()?,
        };
        let record = JobRecord {
            stays: unwatched == Unwatched::Stays,
            example,
            ..valid.record(
                job::new_id()?,
                job::hash(&owner_token),
                self.drawing.0.clock.now_ms() as u64,
            )
        };
        let accepted =
            Accepted { job: record.id.clone(), owner_token, request: record.request.clone() };
        let (shared, store) = (self.drawing.0.clone(), self.store.clone());
        let number = shared.next_number();
        // The device need not wait for the disk: what it draws is shown to nobody before.
        let job = shared.begin(LiveJob::new(valid, record.clone(), number, 0, client))?;
        // A task of its own: a caller that gives up must not leave a job on disk that is in no
        // queue.
        uninterrupted(async move {
            let number = match &key {
                None => store.accept(&record).await?,
                Some(key) => match store.accept_once(&record, key, &salt).await? {
                    Ok(number) => number,
                    // Asked for twice at once: the other one was first.
                    Err(before) => {
                        return accepted_before(before)
                            .unwrap_or_else(|| Err(internal("a key was there and is not")));
                    }
                },
            };
            job.kept(number);
            shared.metrics.accepted.inc();
            drop(turn);
            Ok(accepted)
        })
        .await
    }

    async fn stored_picture(
        &self,
        job: &JobId,
        frame: Option<StoredFrame>,
    ) -> Result<Option<(MediaType, Bytes)>, ErrorBody> {
        let Some(frame) = frame else { return Ok(None) };
        let picture = self.store.picture(job, &frame).await?;
        Ok(picture.map(|bytes| (frame.header.media_type, bytes)))
    }

    /// A job that is in no queue: it has ended.
    async fn ended(&self, job: &JobId) -> Result<StoredJob, ErrorBody> {
        let stored = self.store.find(job).await?.ok_or_else(|| not_found(job))?;
        if stored.state.is_final() {
            return Ok(stored);
        }
        // Its end could not be written, or the server is going down.
        Err(ErrorBody::new(
            ErrorCode::StorageFailed,
            format!("the job {job} is left to the next start of the server, which draws it"),
        ))
    }
}

#[async_trait]
impl Jobs for Scheduler {
    fn models(&self) -> Arc<[ModelInfo]> {
        self.drawing.models().clone()
    }

    fn example(&self) -> Option<JobId> {
        self.drawing.0.example()
    }

    async fn submit_as(
        &self,
        request: GenerateRequest,
        asking: Asking,
    ) -> Result<Accepted, ErrorBody> {
        self.accept(request, asking, false).await
    }

    async fn submit_example(&self, request: GenerateRequest) -> Result<JobId, ErrorBody> {
        let asking = Asking { unwatched: Unwatched::Stays, client: Client::default(), key: None };
        Ok(self.accept(request, asking, true).await?.job)
    }

    async fn watch(&self, job: &JobId, after: Option<u64>) -> Result<Viewer, ErrorBody> {
        let shared = &self.drawing.0;
        if let Some(live) = shared.live_for_viewer(job) {
            return Ok(Viewer::new(Live::new(shared.clone(), live, after)));
        }
        let stored = self.ended(job).await?;
        let events = self.store.events(&stored, after).await?;
        Ok(Viewer::new(Replay::new(self.store.clone(), job.clone(), events)))
    }

    async fn cancel(&self, job: &JobId, token: &OwnerToken) -> Result<(), ErrorBody> {
        let Some(live) = self.drawing.0.live(job) else {
            let stored = self.ended(job).await?;
            check_owner(token, &stored.record.owner)?;
            return Err(ErrorBody::new(
                ErrorCode::Conflict,
                "the job has ended already; a result can be deleted instead",
            ));
        };
        check_owner(token, live.owner())?;
        if live.is_over() {
            return Err(ErrorBody::new(
                ErrorCode::Conflict,
                "the job is over, which is just being kept",
            ));
        }
        let (shared, job) = (self.drawing.0.clone(), live.clone());
        let ended = uninterrupted(async move { Ok(shared.settle(job, JobEvent::Cancelled).await) });
        let ended = tokio::select! {
            ended = ended => ended?,
            // It has stopped; that this is kept may take until somebody makes room.
            error = live.cannot_be_kept() => return Err(error.retry_after(5)),
        };
        match ended {
            Some(JobEvent::Failed { error }) => Err(error),
            Some(_) => Ok(()),
            None => Err(ErrorBody::new(
                ErrorCode::Conflict,
                "the job is over, which is just being kept",
            )),
        }
    }

    async fn delete(&self, job: &JobId, token: &OwnerToken) -> Result<(), ErrorBody> {
        if let Some(live) = self.drawing.0.live(job) {
            check_owner(token, live.owner())?;
            return Err(ErrorBody::new(
                ErrorCode::Conflict,
                "the job has not ended; cancel it first, then delete it",
            ));
        }
        let stored = self.ended(job).await?;
        check_owner(token, &stored.record.owner)?;
        let (shared, store, id) = (self.drawing.0.clone(), self.store.clone(), job.clone());
        let deleted = uninterrupted(async move {
            shared.forget_example(&id);
            Ok(store.delete(&id).await?)
        });
        if deleted.await? { Ok(()) } else { Err(not_found(job)) }
    }

    async fn view(&self, job: &JobId) -> Result<JobView, ErrorBody> {
        if let Some(live) = self.drawing.0.live(job) {
            return Ok(live.view());
        }
        let stored = self.ended(job).await?;
        let events = self.store.events(&stored, None).await?;
        let frames = events.iter().filter_map(|event| match event {
            StoredEvent::Frame(frame) => Some((frame.seq, &frame.header)),
            StoredEvent::Control { .. } => None,
        });
        Ok(stored.record.view(stored.state, stored.timings, stored.error.clone(), frames))
    }

    async fn recent(&self, limit: u32, before: Option<&str>) -> Result<ResultPage, ErrorBody> {
        let before = checked_page(limit, before)?;
        // One more than asked for tells whether there is another page.
        let mut jobs = self.store.finished(limit + 1, before).await?;
        let more = jobs.len() > limit as usize;
        jobs.truncate(limit as usize);
        let next = jobs.last().filter(|_| more).and_then(|job| job.ended);
        Ok(ResultPage {
            results: jobs
                .iter()
                .filter(|job| !job.record.request.is_private())
                .map(StoredJob::listed)
                .collect(),
            next: next.map(|ended| ended.to_string()),
        })
    }

    async fn frame(&self, job: &JobId, seq: u64) -> Result<(MediaType, Bytes), ErrorBody> {
        let picture = match self.drawing.0.live(job) {
            Some(live) => live.picture(|number, _| number == seq),
            None => self.stored_picture(job, self.store.frame(job, seq).await?).await?,
        };
        picture.ok_or_else(|| {
            let message = format!("the job {job} has no frame of number {seq}");
            ErrorBody::new(ErrorCode::NotFound, message)
        })
    }

    async fn picture(&self, job: &JobId, picture: u32) -> Result<Bytes, ErrorBody> {
        let bytes = match self.drawing.0.live(job) {
            Some(live) => live.picture(|_, header| header.last && header.picture == picture),
            None => self.stored_picture(job, self.store.last_frame(job, picture).await?).await?,
        };
        bytes.map(|(_, bytes)| bytes).ok_or_else(|| {
            let message = format!("the job {job} has no finished picture {picture}");
            ErrorBody::new(ErrorCode::NotFound, message)
        })
    }

    fn check(&self, request: GenerateRequest) -> Result<GenerateRequest, ErrorBody> {
        checked(request, self.drawing.models())
    }

    async fn inspect(
        &self,
        request: GenerateRequest,
        picture: u32,
    ) -> Result<TokenReport, ErrorBody> {
        self.drawing.tokens(request, picture).await
    }

    async fn draw(&self, request: GenerateRequest, picture: u32) -> Result<RgbImage, ErrorBody> {
        self.drawing.picture(request, picture).await
    }

    async fn draw_small(
        &self,
        request: GenerateRequest,
    ) -> Result<(FrameHeader, Bytes), ErrorBody> {
        self.drawing.preview(request).await
    }

    async fn encode(&self, model: &str, picture: RgbImage) -> Result<TokenizedPicture, ErrorBody> {
        self.drawing.encode(model, picture).await
    }

    fn stats(&self) -> Stats {
        self.drawing.stats()
    }

    fn register_metrics(&self, registry: &mut Registry) {
        self.drawing.register_metrics(registry);
    }

    async fn can_keep(&self) -> Result<(), ErrorBody> {
        self.store.probe().await?;
        match self.stats().not_kept {
            0 => Ok(()),
            jobs => {
                let message = format!("{jobs} jobs are over and cannot be kept yet");
                Err(ErrorBody::new(ErrorCode::StorageFailed, message))
            }
        }
    }

    async fn drain(&self, limit: Duration) {
        self.drawing.drain(limit).await;
    }

    async fn shutdown(&self) {
        self.drawing.shutdown().await;
    }
}

/// Runs to the end whatever becomes of the caller.
async fn uninterrupted<T: Send + 'static>(
    work: impl Future<Output = Result<T, ErrorBody>> + Send + 'static,
) -> Result<T, ErrorBody> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| Err(internal(format!("a task of the server failed: {error}"))))
}

/// The answer to whoever asked before, if somebody did.
fn accepted_before(before: AskedBefore) -> Option<Result<Accepted, ErrorBody>> {
    match before {
        AskedBefore::Never => None,
        AskedBefore::Same { job, owner_token, request } => {
            Some(Ok(Accepted { job, owner_token, request: *request }))
        }
        AskedBefore::Other { job } => Some(Err(key_reused(&job))),
    }
}

/// Lets a job that an earlier program left unfinished wait again, or ends it where it cannot run.
async fn resume(shared: &Arc<Shared>, store: &Store, job: UnfinishedJob) -> Result<(), StoreError> {
    let valid = if job.crashes < MAX_CRASHES {
        ValidJob::new(job.record.request.clone(), &shared.models)
    } else {
        Err(internal(format!(
            "the server went down {} times while drawing this job and does not try again",
            job.crashes
        )))
    };
    match valid {
        Ok(valid) => {
            let client = Client::default();
            let live = LiveJob::new(valid, job.record, job.number, job.attempt, client);
            live.set_kept(Some(job.number));
            shared.enqueue(&Arc::new(live));
        }
        Err(error) => {
            let id = &job.record.id;
            tracing::warn!(job = %id, %error, "an unfinished job cannot run any more");
            let ending = Ending {
                events: vec![(first_seq(job.attempt), JobEvent::Failed { error })],
                frames: Vec::new(),
            };
            store.settle(id, &ending).await?;
        }
    }
    Ok(())
}
