//! Jobs from request to result: queue, batches, the device, every viewer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prometheus_client::registry::Registry;
use thiserror::Error;
use var_dd_protocol::{
    ErrorBody, ErrorCode, GenerateRequest, JobEvent, JobId, JobView, MediaType, ModelInfo, OwnerToken,
    ResultPage,
};

use crate::{
    generator::Generator,
    storage::{Store, StoreError},
};

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
    /// Bytes of frames that a viewer may lie behind before intermediate ones are dropped for it.
    pub viewer_backlog_bytes: usize,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            queue_limit: 64,
            max_batch: 8,
            batch_window: Duration::from_millis(5),
            unwatched_grace: Duration::from_secs(20),
            keep_results: None,
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
    #[error("two models are named {0:?}; a name must be unique, so change `name` in the config.json of one")]
    SameName(String),
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

/// What a viewer of a job sees, in the order of the sequence numbers.
#[derive(Clone, Debug, PartialEq)]
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

/// One viewer of one job. Counts as watching until dropped.
#[derive(Debug)]
pub struct Viewer {}

impl Viewer {
    /// The next event. `None` after the final event, or when the server shuts down. Cancel safe.
    pub async fn next(&mut self) -> Option<ViewerEvent> {
        None
    }
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
}

/// Takes jobs, runs them in batches, tells their viewers, keeps their results. A cheap handle.
#[derive(Clone, Debug)]
pub struct Scheduler {
    models: Arc<[ModelInfo]>,
}

fn missing() -> ErrorBody {
    ErrorBody::new(ErrorCode::Internal, "not there yet")
}

impl Scheduler {
    /// Starts the device thread and requeues the unfinished jobs of `store`.
    ///
    /// # Errors
    /// When there is no model, two have one name, or the store fails.
    pub async fn start(
        _config: SchedulerConfig,
        _store: Store,
        generators: Vec<Box<dyn Generator>>,
    ) -> Result<Self, StartError> {
        let models = generators.iter().map(|generator| generator.info().clone()).collect();
        Ok(Self { models })
    }

    /// The loaded models; the first one is the default.
    pub fn models(&self) -> &[ModelInfo] {
        &self.models
    }

    /// A finished result of the default model to show before the first click.
    pub fn example(&self) -> Option<JobId> {
        None
    }

    /// Accepts a job; it is on disk on return and will be drawn whatever happens to the program.
    ///
    /// # Errors
    /// When a value is out of bounds, the queue is full, the server shuts down or the job cannot be kept.
    pub async fn submit(
        &self,
        _request: GenerateRequest,
        _unwatched: Unwatched,
    ) -> Result<Accepted, ErrorBody> {
        Err(missing())
    }

    /// Accepts a job of the server itself, whose result becomes the [`Scheduler::example`].
    ///
    /// # Errors
    /// As [`Scheduler::submit`].
    pub async fn submit_example(&self, _request: GenerateRequest) -> Result<JobId, ErrorBody> {
        Err(missing())
    }

    /// Watches a job, live or replayed from storage, from the event after `after` on (all if `None`).
    ///
    /// # Errors
    /// When there is no such job.
    pub async fn watch(&self, _job: &JobId, _after: Option<u64>) -> Result<Viewer, ErrorBody> {
        Err(missing())
    }

    /// Stops a job.
    ///
    /// # Errors
    /// When there is no such job, the token is not its owner's, or it has ended.
    pub async fn cancel(&self, _job: &JobId, _token: &OwnerToken) -> Result<(), ErrorBody> {
        Err(missing())
    }

    /// Deletes a result with its pictures.
    ///
    /// # Errors
    /// When there is no such job, the token is not its owner's, or it has not ended.
    pub async fn delete(&self, _job: &JobId, _token: &OwnerToken) -> Result<(), ErrorBody> {
        Err(missing())
    }

    /// A job or result as a whole.
    ///
    /// # Errors
    /// When there is no such job.
    pub async fn view(&self, _job: &JobId) -> Result<JobView, ErrorBody> {
        Err(missing())
    }

    /// Finished results, newest first: at most `limit` (at most 100) of those before the cursor `before`, which
    /// is the `next` of an earlier page.
    ///
    /// # Errors
    /// When the cursor is not one.
    pub async fn recent(&self, _limit: u32, _before: Option<&str>) -> Result<ResultPage, ErrorBody> {
        Err(missing())
    }

    /// The encoded picture of one frame, by its sequence number.
    ///
    /// # Errors
    /// When there is no such frame.
    pub async fn frame(&self, _job: &JobId, _seq: u64) -> Result<(MediaType, Bytes), ErrorBody> {
        Err(missing())
    }

    /// The finished picture of an index, as PNG.
    ///
    /// # Errors
    /// When there is no such picture (yet).
    pub async fn picture(&self, _job: &JobId, _picture: u32) -> Result<Bytes, ErrorBody> {
        Err(missing())
    }

    /// The scheduler at this moment.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Adds the scheduler's metrics to those of the server.
    pub fn register_metrics(&self, _registry: &mut Registry) {}

    /// Takes no more jobs, stops the running batch at a pass (its jobs run at the next start), ends every viewer.
    pub async fn shutdown(&self) {}
}
