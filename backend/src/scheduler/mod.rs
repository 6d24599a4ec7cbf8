//! Jobs from request to result: queue, batches, the device, every viewer.
//!
//! ```text
//! submit → job (valid) → storage → queue ─ batch ─→ worker (one thread, owns the device)
//!                                                      │ reports, bounded
//!              viewers ← log of the job ← draw ← encode ┘
//!                            └→ storage at the end
//! ```
//! `job`, `queue`, `batch` and `log` are pure: clock and limits are arguments. `state` puts them
//! behind one lock, `dispatch` feeds the device, `draw` follows each batch until its jobs have
//! ended.

mod batch;
mod clock;
mod dispatch;
mod draw;
mod encode;
mod explore;
mod fairness;
mod job;
mod live;
mod log;
mod metrics;
mod question;
mod queue;
mod state;
#[cfg(test)]
mod tests;
mod viewer;
mod worker;

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use image::RgbImage;
use prometheus_client::registry::Registry;
use thiserror::Error;
use var_dd_protocol::{
    ErrorBody, ErrorCode, Explore, FrameHeader, GenerateRequest, JobEvent, JobId, JobState,
    JobView, MediaType, ModelInfo, OwnerToken, Parent, Pass, PictureParameters, ResultPage,
    TokenReport, TokenizedPicture, WalkRequest,
};

use self::{
    clock::milliseconds,
    dispatch::Device,
    job::{ValidJob, check_owner, find_model},
    live::{LiveJob, first_seq, internal},
    state::Shared,
};
pub use self::{
    encode::encoded_bytes,
    fairness::Client,
    viewer::{Viewer, ViewerEvent},
};
use crate::{
    generator::{Encoding, Generator, finished_picture},
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

/// Most results on a page.
const MAX_PAGE: u32 = 100;

/// Bounds and times of a scheduler.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// Most jobs waiting; one more is refused with [`ErrorCode::QueueFull`].
    pub queue_limit: usize,
    /// Most pictures in one batch, at least 1.
    pub max_batch: usize,
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

/// What becomes of a job that nobody watches while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwatched {
    /// It expires after the grace time: for jobs of a connection.
    Expires,
    /// It stays: for jobs whose result is fetched later.
    Stays,
}

/// How a job is asked for.
#[derive(Clone, Debug)]
pub struct Asking {
    /// What becomes of it when nobody watches.
    pub unwatched: Unwatched,
    /// Who asks: clients get the same share of the device.
    pub client: Client,
    /// What the client calls it, so that asking again makes no second job.
    pub key: Option<String>,
}

/// A job that is kept and will be drawn.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its name.
    pub job: JobId,
    /// The owner's secret; told only here.
    pub owner_token: OwnerToken,
    /// The request with model and seed filled in.
    pub request: GenerateRequest,
}

/// A scheduler at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Whether jobs are accepted: false once [`Scheduler::shutdown`] is called.
    pub accepting: bool,
    /// Jobs waiting.
    pub queued: usize,
    /// Most jobs waiting.
    pub queue_limit: usize,
    /// Jobs on the device or being kept.
    pub running: usize,
    /// Viewers of live jobs.
    pub viewers: usize,
    /// Jobs that are over and whose end could not be kept yet.
    pub not_kept: usize,
}

/// Takes jobs, runs them in batches, tells their viewers, keeps their results. A cheap handle.
#[derive(Clone, Debug)]
pub struct Scheduler(Arc<Shared>);

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
        let models: Arc<[ModelInfo]> =
            generators.iter().map(|generator| generator.info().clone()).collect();
        let default = models.first().ok_or(StartError::NoModel)?;
        for (at, info) in models.iter().enumerate() {
            if models[..at].iter().any(|other| other.name == info.name) {
                return Err(StartError::SameName(info.name.clone()));
            }
        }
        let example = store.example(&default.name).await?;
        let shared = Arc::new(Shared::new(config, models, store, example));
        for job in shared.store.take_over().await? {
            resume(&shared, job).await?;
        }
        shared.prune().await;
        let device = Device::start(&shared, generators).await?;
        tokio::spawn(dispatch::run(shared.clone(), device));
        Ok(Self(shared))
    }

    /// The loaded models; the first one is the default.
    pub fn models(&self) -> &[ModelInfo] {
        &self.0.models
    }

    /// A finished result of the default model to show before the first click.
    pub fn example(&self) -> Option<JobId> {
        self.0.example()
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

    /// The same for a client, or the job that there is if the client asked before.
    ///
    /// # Errors
    /// As [`Scheduler::submit`], and when something else was asked for under the same key.
    pub async fn submit_as(
        &self,
        request: GenerateRequest,
        asking: Asking,
    ) -> Result<Accepted, ErrorBody> {
        self.accept(request, asking, false).await
    }

    /// Accepts a job of the server itself, whose result becomes the [`Scheduler::example`].
    ///
    /// # Errors
    /// As [`Scheduler::submit`].
    pub async fn submit_example(&self, request: GenerateRequest) -> Result<JobId, ErrorBody> {
        let asking = Asking { unwatched: Unwatched::Stays, client: Client::default(), key: None };
        Ok(self.accept(request, asking, true).await?.job)
    }

    async fn accept(
        &self,
        request: GenerateRequest,
        asking: Asking,
        example: bool,
    ) -> Result<Accepted, ErrorBody> {
        let Asking { unwatched, client, key } = asking;
        let key = key.map(|key| RequestKey::new(key, &request)).transpose()?;
        if let Some(key) = &key
            && let Some(before) = accepted_before(self.0.store.asked_before(key).await?)
        {
            return before;
        }
        let valid = ValidJob::new(self.with_parents(request).await?, &self.0.models)?;
        let place = self.0.reserve()?;
        let salt = job::new_salt()?;
        let owner_token = match &key {
            Some(key) => key.owner_token(&salt),
            None => job::new_token()?,
        };
        let record = JobRecord {
            stays: unwatched == Unwatched::Stays,
            example,
            ..valid.record(job::new_id()?, job::hash(&owner_token), self.0.clock.now_ms() as u64)
        };
        let accepted =
            Accepted { job: record.id.clone(), owner_token, request: record.request.clone() };
        let shared = self.0.clone();
        // A task of its own: a caller that gives up must not leave a job on disk that is in no
        // queue.
        uninterrupted(async move {
            let number = match &key {
                None => shared.store.accept(&record).await?,
                Some(key) => match shared.store.accept_once(&record, key, &salt).await? {
                    Ok(number) => number,
                    // Asked for twice at once: the other one was first.
                    Err(before) => {
                        return accepted_before(before)
                            .unwrap_or_else(|| Err(internal("a key was there and is not")));
                    }
                },
            };
            shared.enqueue(&Arc::new(LiveJob::new(valid, record, number, 0, client)));
            shared.metrics.accepted.inc();
            drop(place);
            Ok(accepted)
        })
        .await
    }

    /// Writes into a request what drew its parents.
    async fn with_parents(
        &self,
        mut request: GenerateRequest,
    ) -> Result<GenerateRequest, ErrorBody> {
        let Some(from) = request.explore.as_mut().and_then(|explore| explore.from.as_mut()) else {
            return Ok(request);
        };
        for (field, parent) in from.parents_mut() {
            let Parent::Result { result, request: found, .. } = parent else { continue };
            let field = format!("{field}.result");
            let view = self.view(result).await.map_err(|error| error.at(field.clone()))?;
            if view.state != JobState::Finished {
                let message = format!(
                    "{field}: {result} has not finished; a picture can be gone on from when it \
                     is there"
                );
                return Err(ErrorBody::new(ErrorCode::InvalidExplore, message).at(field));
            }
            // A picture goes on with the model that drew it, unless another one is asked for.
            if request.model.is_none() {
                request.model.clone_from(&view.request.model);
            }
            *found = Some(Box::new(view.request));
        }
        Ok(request)
    }

    /// Watches a job, live or replayed from storage, from the event after `after` on (all if
    /// `None`).
    ///
    /// # Errors
    /// When there is no such job.
    pub async fn watch(&self, job: &JobId, after: Option<u64>) -> Result<Viewer, ErrorBody> {
        if let Some(live) = self.0.live_for_viewer(job) {
            return Ok(Viewer::live(self.0.clone(), live, after));
        }
        let stored = self.ended(job).await?;
        let events = self.0.store.events(&stored, after).await?;
        Ok(Viewer::stored(self.0.store.clone(), job.clone(), events))
    }

    /// Stops a job.
    ///
    /// # Errors
    /// When there is no such job, the token is not its owner's, or it has ended.
    pub async fn cancel(&self, job: &JobId, token: &OwnerToken) -> Result<(), ErrorBody> {
        let Some(live) = self.0.live(job) else {
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
        let (shared, job) = (self.0.clone(), live.clone());
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

    /// Deletes a result with its pictures.
    ///
    /// # Errors
    /// When there is no such job, the token is not its owner's, or it has not ended.
    pub async fn delete(&self, job: &JobId, token: &OwnerToken) -> Result<(), ErrorBody> {
        if let Some(live) = self.0.live(job) {
            check_owner(token, live.owner())?;
            return Err(ErrorBody::new(
                ErrorCode::Conflict,
                "the job has not ended; cancel it first, then delete it",
            ));
        }
        let stored = self.ended(job).await?;
        check_owner(token, &stored.record.owner)?;
        let (shared, id) = (self.0.clone(), job.clone());
        let deleted = uninterrupted(async move {
            shared.forget_example(&id);
            Ok(shared.store.delete(&id).await?)
        });
        if deleted.await? { Ok(()) } else { Err(not_found(job)) }
    }

    /// A job or result as a whole.
    ///
    /// # Errors
    /// When there is no such job.
    pub async fn view(&self, job: &JobId) -> Result<JobView, ErrorBody> {
        if let Some(live) = self.0.live(job) {
            return Ok(live.view());
        }
        let stored = self.ended(job).await?;
        let events = self.0.store.events(&stored, None).await?;
        let frames = events.iter().filter_map(|event| match event {
            StoredEvent::Frame(frame) => Some((frame.seq, &frame.header)),
            StoredEvent::Control { .. } => None,
        });
        Ok(stored.record.view(stored.state, stored.timings, stored.error.clone(), frames))
    }

    /// Finished results, the newest first: at most `limit` (from 1 to 100) of those before the
    /// cursor `before`, which is the `next` of an earlier page. Those that descend from a picture
    /// of somebody's own are left out.
    ///
    /// # Errors
    /// When the limit is out of its bounds, or the cursor is not one.
    pub async fn recent(&self, limit: u32, before: Option<&str>) -> Result<ResultPage, ErrorBody> {
        let before = before.map(parse_cursor).transpose()?;
        if !(1..=MAX_PAGE).contains(&limit) {
            let message = format!("limit is {limit}; it goes from 1 to {MAX_PAGE}");
            return Err(ErrorBody::new(ErrorCode::MalformedBody, message));
        }
        // One more than asked for tells whether there is another page.
        let mut jobs = self.0.store.finished(limit + 1, before).await?;
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

    /// The encoded picture of one frame, by its sequence number.
    ///
    /// # Errors
    /// When there is no such frame.
    pub async fn frame(&self, job: &JobId, seq: u64) -> Result<(MediaType, Bytes), ErrorBody> {
        let picture = match self.0.live(job) {
            Some(live) => live.picture(|number, _| number == seq),
            None => self.stored_picture(job, self.0.store.frame(job, seq).await?).await?,
        };
        picture.ok_or_else(|| {
            let message = format!("the job {job} has no frame of number {seq}");
            ErrorBody::new(ErrorCode::NotFound, message)
        })
    }

    /// The finished picture of an index, as PNG.
    ///
    /// # Errors
    /// When there is no such picture (yet).
    pub async fn picture(&self, job: &JobId, picture: u32) -> Result<Bytes, ErrorBody> {
        let bytes = match self.0.live(job) {
            Some(live) => live.picture(|_, header| header.last && header.picture == picture),
            None => self.stored_picture(job, self.0.store.last_frame(job, picture).await?).await?,
        };
        bytes.map(|(_, bytes)| bytes).ok_or_else(|| {
            let message = format!("the job {job} has no finished picture {picture}");
            ErrorBody::new(ErrorCode::NotFound, message)
        })
    }

    async fn stored_picture(
        &self,
        job: &JobId,
        frame: Option<StoredFrame>,
    ) -> Result<Option<(MediaType, Bytes)>, ErrorBody> {
        let Some(frame) = frame else { return Ok(None) };
        let picture = self.0.store.picture(job, &frame).await?;
        Ok(picture.map(|bytes| (frame.header.media_type, bytes)))
    }

    /// Every token of one picture of a job, drawn anew; nothing is kept of it.
    ///
    /// # Errors
    /// When there is no such job or picture, its model is not loaded, or the device cannot.
    pub async fn tokens(&self, job: &JobId, picture: u32) -> Result<TokenReport, ErrorBody> {
        let view = self.view(job).await?;
        if picture >= view.request.count {
            let last = view.request.count.saturating_sub(1);
            let message =
                format!("the job {job} has no picture {picture}; its pictures go from 0 to {last}");
            return Err(ErrorBody::new(ErrorCode::NotFound, message));
        }
        let valid = ValidJob::new(view.request, &self.0.models)?;
        let request = valid.request;
        let inspect = move |generator: &dyn Generator| generator.inspect(&request, picture);
        self.0.questions.ask(valid.model, inspect).await
    }

    /// A picture of a request that was drawn before, drawn again; nothing is kept of it.
    ///
    /// # Errors
    /// When a value is out of bounds, its model is not loaded, too many questions wait, or the
    /// device cannot.
    pub async fn draw_again(&self, kept: PictureParameters) -> Result<RgbImage, ErrorBody> {
        let valid = ValidJob::new(self.with_parents(kept.request).await?, &self.0.models)?;
        let draw = move |generator: &dyn Generator| {
            finished_picture(generator, valid.request, kept.picture)
        };
        self.0.questions.ask(valid.model, draw).await
    }

    /// The pictures of a walk, one after the other, each with a turn of its own at the device; and
    /// the request of the first one, model and seed filled in. Nothing is kept of them. Whoever
    /// stops waiting takes those back that the device does not have.
    ///
    /// # Errors
    /// When a value is out of bounds, too many questions wait, or the device cannot.
    pub async fn walk(
        &self,
        walk: &WalkRequest,
    ) -> Result<(GenerateRequest, Vec<RgbImage>), ErrorBody> {
        let requests = walk.requests()?;
        // What drew the parents, and the seed, are the same for all: they are looked up once.
        let first = requests.first().cloned().unwrap_or_else(|| walk.request.clone());
        let first = self.with_parents(first).await.map_err(|error| of_walk(error, 0))?;
        let first = ValidJob::new(first, &self.0.models).map_err(|error| of_walk(error, 0))?;
        let mut valid = Vec::with_capacity(requests.len());
        for (at, request) in requests.into_iter().enumerate() {
            let blend = request.explore.map(|explore| explore.blend).unwrap_or_default();
            let explore = *first.request.explore.clone().unwrap_or_default();
            let explore = Some(Box::new(Explore { blend, ..explore }));
            let request = GenerateRequest { explore, ..first.request.clone() };
            valid.push(ValidJob::new(request, &self.0.models).map_err(|error| of_walk(error, at))?);
        }
        let mut pictures = Vec::with_capacity(valid.len());
        for ValidJob { model, request, .. } in valid {
            let draw = move |generator: &dyn Generator| finished_picture(generator, request, 0);
            pictures.push(self.0.questions.ask(model, draw).await?);
        }
        Ok((first.request, pictures))
    }

    /// The finished picture of a request, encoded small; nothing is kept of it. Whoever stops
    /// waiting takes the request back, unless the device has it.
    ///
    /// # Errors
    /// When a value is out of bounds, too many questions wait, or the device cannot.
    pub async fn preview(
        &self,
        request: GenerateRequest,
    ) -> Result<(FrameHeader, Bytes), ErrorBody> {
        let asked_ms = self.0.clock.now_ms();
        let valid = ValidJob::new(self.with_parents(request).await?, &self.0.models)?;
        let request = valid.request;
        let scales = valid.patch_nums.len() as u32;
        let last = Pass::frames(&request.passes(scales)).pop();
        let draw = move |generator: &dyn Generator| finished_picture(generator, request, 0);
        let picture = self.0.questions.ask(valid.model, draw).await?;
        let encoded = self.encoded(picture).await?;
        let header = FrameHeader {
            picture: 0,
            pass: last.map_or(0, |last| last.pass),
            scale: last.map_or(0, |last| last.scale),
            width: encoded.width,
            height: encoded.height,
            media_type: encoded.media_type,
            last: true,
            at_ms: milliseconds(self.0.clock.now_ms() - asked_ms),
            encode_ms: milliseconds(encoded.encode_ms),
        };
        Ok((header, encoded.bytes.into()))
    }

    /// A picture of one's own, of the side that [`Scheduler::model`] tells, as tokens; nothing is
    /// kept of it.
    ///
    /// # Errors
    /// When too many questions wait, or the device cannot.
    pub async fn encode(
        &self,
        model: usize,
        picture: RgbImage,
    ) -> Result<TokenizedPicture, ErrorBody> {
        let ask = move |generator: &dyn Generator| generator.encode(&picture);
        let Encoding { codes, frames } = self.0.questions.ask(model, ask).await?;
        let mut addresses = Vec::with_capacity(frames.len());
        for frame in frames {
            let encoded = self.encoded(frame).await?;
            let base64 = BASE64_STANDARD.encode(&encoded.bytes);
            addresses.push(format!("data:{};base64,{base64}", encoded.media_type.as_str()));
        }
        let model = self.models()[model].name.clone();
        Ok(TokenizedPicture { model, codes, frames: addresses })
    }

    /// A loaded model by its name, the first one if `None`, and its index.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownModel`].
    pub fn model(&self, name: Option<&str>) -> Result<(usize, &ModelInfo), ErrorBody> {
        find_model(name, &self.0.models)
    }

    /// Encodes a picture on a thread for it.
    async fn encoded(&self, picture: RgbImage) -> Result<live::EncodedPicture, ErrorBody> {
        let _permit = self.0.encoders.acquire().await;
        tokio::task::spawn_blocking(move || encode::encode(&picture, false))
            .await
            .map_err(|error| internal(format!("encoding a picture failed: {error}")))?
            .map_err(|error| internal(format!("a picture cannot be encoded: {error}")))
    }

    /// A job that is in no queue: it has ended.
    async fn ended(&self, job: &JobId) -> Result<StoredJob, ErrorBody> {
        let stored = self.0.store.find(job).await?.ok_or_else(|| not_found(job))?;
        if stored.state.is_final() {
            return Ok(stored);
        }
        // Its end could not be written, or the server is going down.
        Err(ErrorBody::new(
            ErrorCode::StorageFailed,
            format!("the job {job} is left to the next start of the server, which draws it"),
        ))
    }

    /// The scheduler at this moment.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Adds the scheduler's metrics, named `var_dd_…`, to those of the server.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// Checks that something can be kept: a block is written and reaches the disk, and no end of a
    /// job waits for that.
    ///
    /// # Errors
    /// Why not.
    pub async fn can_keep(&self) -> Result<(), ErrorBody> {
        self.0.store.probe().await?;
        match self.stats().not_kept {
            0 => Ok(()),
            jobs => {
                let message = format!("{jobs} jobs are over and cannot be kept yet");
                Err(ErrorBody::new(ErrorCode::StorageFailed, message))
            }
        }
    }

    /// Takes no more jobs and waits, at most for `limit`, until those that have begun have ended.
    /// Those that wait stay on disk for the next start.
    pub async fn drain(&self, limit: Duration) {
        self.0.drain();
        let at_rest = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while self.stats().running > 0 {
                ticks.tick().await;
            }
        };
        if tokio::time::timeout(limit, at_rest).await.is_err() {
            tracing::warn!(running = self.stats().running, "time is over for what runs");
        }
    }

    /// Takes no more jobs, stops the running batch at a pass (its jobs run at the next start), ends
    /// every viewer, closes the store. Returns when everything is at rest; a second call waits for
    /// the first.
    pub async fn shutdown(&self) {
        self.0.close();
        // The sender is ours.
        let _ = self.0.closed.subscribe().wait_for(|closed| *closed).await;
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
        AskedBefore::Other { job } => {
            let message = format!(
                "another job, {job}, was asked for under this key with another request; take a new \
                 key"
            );
            Some(Err(ErrorBody::new(ErrorCode::KeyReused, message)))
        }
    }
}

/// An error of the picture at a place of a walk, by the field of the walk.
fn of_walk(error: ErrorBody, at: usize) -> ErrorBody {
    match error.field.as_deref() {
        Some("explore.blend") => {
            let field = format!("weights[{at}]");
            let message = error.message.trim_start_matches("explore.blend: ");
            ErrorBody { message: format!("{field}: {message}"), ..error.clone() }.at(field)
        }
        Some(field) => {
            let named = error.message.starts_with(field);
            let message = format!("{}{}", if named { "request." } else { "" }, error.message);
            ErrorBody { message, ..error.clone() }.at(format!("request.{field}"))
        }
        None => error,
    }
}

fn not_found(job: &JobId) -> ErrorBody {
    let message = format!("there is no job or result named {job}; it may have been deleted");
    ErrorBody::new(ErrorCode::NotFound, message)
}

fn parse_cursor(before: &str) -> Result<i64, ErrorBody> {
    before.parse().map_err(|_| {
        let before: String = before.chars().take(40).collect();
        let message = format!("before is {before:?}; it must be the `next` of an earlier page");
        ErrorBody::new(ErrorCode::MalformedBody, message)
    })
}

/// Lets a job that an earlier program left unfinished wait again, or ends it where it cannot run.
async fn resume(shared: &Arc<Shared>, job: UnfinishedJob) -> Result<(), StoreError> {
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
            shared.enqueue(&Arc::new(live));
        }
        Err(error) => {
            let id = &job.record.id;
            tracing::warn!(job = %id, %error, "an unfinished job cannot run any more");
            let ending = Ending {
                events: vec![(first_seq(job.attempt), JobEvent::Failed { error })],
                frames: Vec::new(),
            };
            shared.store.settle(id, &ending).await?;
        }
    }
    Ok(())
}
