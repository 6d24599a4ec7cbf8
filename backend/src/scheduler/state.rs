//! What the handles, the viewers and the dispatcher share.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
};
use var_dd_protocol::{ErrorBody, ErrorCode, JobEvent, JobId, ModelInfo};

use super::{
    SchedulerConfig,
    batch::{Limits, Waiting},
    clock::Clock,
    live::LiveJob,
    metrics::Metrics,
    question::Questions,
    queue::{NewJob, Next, Queue, Ran, Taken},
};
use crate::{
    jobs::Stats,
    storage::{Ending, Ends, StoreError},
};

/// Jobs kept that ended otherwise than finished; they say why, to whoever comes back for them.
const KEEP_UNFINISHED: u32 = 1000;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: SchedulerConfig,
    pub(super) models: Arc<[ModelInfo]>,
    /// Keeps the ends of jobs.
    pub(super) ends: Arc<dyn Ends>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    /// One permit per thread that may encode.
    pub(super) encoders: Arc<Semaphore>,
    /// Questions to the models.
    pub(super) questions: Questions,
    /// Wakes the dispatcher.
    pub(super) wake: Notify,
    /// True when everything has stopped.
    pub(super) closed: watch::Sender<bool>,
    /// Whether no more jobs are taken.
    refusing: AtomicBool,
    closing: AtomicBool,
    /// Jobs whose end could not be kept yet.
    not_kept: AtomicUsize,
    next_number: AtomicI64,
    /// Tasks of batches.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Never held across an await. Taken before the lock of a job, never within.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    live: HashMap<JobId, Arc<LiveJob>>,
    viewers: usize,
    device_busy: bool,
    batches: usize,
    /// Mean time of a batch, the newest ones first.
    batch_ms: Option<f64>,
    example: Option<JobId>,
}

/// Pictures that are drawn together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Parts of jobs, never none unless all are.
    pub(super) parts: Vec<(Arc<LiveJob>, Range<u32>)>,
    /// The same as the queue gave them out.
    pub(super) taken: Vec<Taken>,
}

/// What the dispatcher has to do next.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    /// These jobs have expired.
    pub(super) expired: Vec<Arc<LiveJob>>,
    /// These pictures are to be drawn now.
    pub(super) batch: Batch,
    /// Then look again at this time, if nothing wakes it before.
    pub(super) look_again_ms: Option<f64>,
}

/// A job that may be drawn already and is none yet: dropped, it is forgotten.
pub(super) struct Beginning {
    shared: Arc<Shared>,
    job: Arc<LiveJob>,
}

impl Beginning {
    /// Its acceptance is on disk, under this number.
    pub(super) fn kept(self, number: i64) {
        self.job.set_kept(Some(number));
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        if self.job.set_kept(None) {
            self.shared.forget(&self.job.record.id);
        }
    }
}

impl Shared {
    pub(super) fn new(
        config: SchedulerConfig,
        models: Arc<[ModelInfo]>,
        ends: Arc<dyn Ends>,
    ) -> Self {
        let limits = Limits {
            max_batch: u32::try_from(config.max_batch).unwrap_or(u32::MAX).max(1),
            window_ms: config.batch_window.as_secs_f64() * 1000.0,
        };
        let grace_ms = config.unwatched_grace.as_secs_f64() * 1000.0;
        let encoders = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            models,
            ends,
            clock: Clock::start(),
            metrics: Metrics::default(),
            encoders: Arc::new(Semaphore::new(encoders)),
            questions: Questions::default(),
            wake: Notify::new(),
            closed: watch::Sender::new(false),
            refusing: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            not_kept: AtomicUsize::new(0),
            next_number: AtomicI64::new(0),
            tasks: Mutex::default(),
            state: Mutex::new(State {
                queue: Queue::new(config.queue_limit, limits, grace_ms),
                live: HashMap::new(),
                viewers: 0,
                device_busy: false,
                batches: 0,
                batch_ms: None,
                example: None,
            }),
            config,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in a critical section would be a fault of the scheduler; going on serves people
        // better.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a task that must end before the store is closed.
    pub(super) fn adopt(&self, task: JoinHandle<()>) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// The tasks that were adopted.
    pub(super) fn adopted(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets tasks that have ended.
    pub(super) fn forget_done(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
    }

    /// Tells every waiting job its position. Called after every change of the queue, under its
    /// lock.
    fn announce(&self, state: &State) {
        for (id, position) in state.queue.positions() {
            if let Some(job) = state.live.get(id) {
                job.moved_to(position);
            }
        }
        let depth = state.queue.depth();
        self.metrics.queued.set(depth as i64);
        self.metrics.running.set(state.live.len().saturating_sub(depth) as i64);
    }

    /// Whether the server shuts down.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Takes no more jobs, and lets none begin; what has begun goes on.
    pub(super) fn drain(&self) {
        self.refusing.store(true, Ordering::Relaxed);
        self.state().queue.drain();
    }

    /// Whether the server takes no more jobs.
    fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed) || self.is_closing()
    }

    /// Takes no more jobs, and lets the running batch stop.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Lets a job begin while its acceptance is written to disk. Nobody knows its name before that
    /// is there, so nobody sees anything of it.
    ///
    /// # Errors
    /// When the queue is full, the client's address has its share, or the server shuts down.
    pub(super) fn begin(self: &Arc<Self>, job: LiveJob) -> Result<Beginning, ErrorBody> {
        if self.is_refusing() {
            let message =
                "the server is shutting down and takes no more jobs; try again when it is back";
            return Err(ErrorBody::new(ErrorCode::ShuttingDown, message).retry_after(5));
        }
        let job = Arc::new(job);
        let state = self.state();
        state.queue.admit(job.client.address, state.batch_ms)?;
        self.put(state, &job);
        Ok(Beginning { shared: self.clone(), job })
    }

    /// The place of the next job in the order of the queue.
    pub(super) fn next_number(&self) -> i64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets a job wait that was accepted before, whatever waits already.
    pub(super) fn enqueue(&self, job: &Arc<LiveJob>) {
        self.next_number.fetch_max(job.number + 1, Ordering::Relaxed);
        self.put(self.state(), job);
    }

    fn put(&self, mut state: MutexGuard<'_, State>, job: &Arc<LiveJob>) {
        let now_ms = self.clock.now_ms();
        let passes = job.passes().len();
        let cost_ms = state.queue.cost_ms(job.model, job.plan(), job.frames, passes);
        let entry = NewJob {
            job: Waiting {
                id: job.record.id.clone(),
                model: job.model,
                plan: job.plan().clone(),
                explore: job.explore(),
                frames: job.frames,
                pictures: 0..job.record.request.count,
                since_ms: now_ms,
                cost_ms,
                had_ms: 0.0,
            },
            number: job.number,
            client: job.client,
            expires: !job.record.stays,
        };
        state.live.insert(job.record.id.clone(), job.clone());
        state.queue.push(entry, now_ms);
        self.announce(&state);
        drop(state);
        self.wake.notify_one();
    }

    /// A job that has not ended.
    pub(super) fn live(&self, job: &JobId) -> Option<Arc<LiveJob>> {
        self.state().live.get(job).cloned()
    }

    /// A job that has not ended, counting one viewer more until [`Shared::viewer_gone`].
    pub(super) fn live_for_viewer(&self, job: &JobId) -> Option<Arc<LiveJob>> {
        let mut state = self.state();
        let live = state.live.get(job).cloned()?;
        state.queue.watched(job);
        state.viewers += 1;
        self.metrics.viewers.set(state.viewers as i64);
        Some(live)
    }

    /// A viewer of a job that was live has gone.
    pub(super) fn viewer_gone(&self, job: &JobId) {
        let now_ms = self.clock.now_ms();
        let mut state = self.state();
        state.queue.unwatched(job, now_ms);
        state.viewers = state.viewers.saturating_sub(1);
        self.metrics.viewers.set(state.viewers as i64);
        drop(state);
        self.wake.notify_one();
    }

    /// What the dispatcher has to do next. A batch counts as in flight from here on.
    pub(super) fn step(&self) -> Dispatch {
        let now_ms = self.clock.now_ms();
        let mut guard = self.state();
        let state = &mut *guard;
        let expired = state.queue.expire(now_ms);
        let mut step = Dispatch {
            expired: expired.iter().filter_map(|id| state.live.get(id).cloned()).collect(),
            ..Dispatch::default()
        };
        let mut deadline_ms: Option<f64> = None;
        for job in state.live.values().filter(|job| !job.is_over()) {
            if job.is_late(now_ms) {
                // Not a picture more of it.
                state.queue.remove(&job.record.id);
                step.expired.push(job.clone());
            } else if let Some(at_ms) = job.deadline_ms() {
                deadline_ms = Some(deadline_ms.map_or(at_ms, |first_ms| first_ms.min(at_ms)));
            }
        }
        let mut batch_ms = None;
        if !state.device_busy && state.batches < self.config.batches_in_flight.max(1) {
            match state.queue.take(now_ms) {
                Next::Idle => {}
                Next::WaitUntil(at_ms) => batch_ms = Some(at_ms),
                Next::Run(taken) => {
                    step.batch = state.batch(taken);
                    state.device_busy = !step.batch.parts.is_empty();
                    state.batches += usize::from(state.device_busy);
                }
            }
        }
        let expiry_ms = state.queue.next_expiry_ms();
        let times = [batch_ms, expiry_ms, deadline_ms];
        step.look_again_ms = times.into_iter().flatten().min_by(f64::total_cmp);
        self.announce(state);
        step
    }

    /// A batch that may be drawn between two passes of another, of which `remaining_ms` remain.
    pub(super) fn step_between(&self, outer: &[Taken], remaining_ms: f64) -> Batch {
        let mut guard = self.state();
        let state = &mut *guard;
        let clients: Vec<_> = outer.iter().map(|taken| taken.client).collect();
        let taken = state.queue.take_between(&clients, remaining_ms);
        let batch = state.batch(taken);
        if !batch.parts.is_empty() {
            state.batches += 1;
            self.announce(state);
        }
        batch
    }

    /// The device has drawn a batch in `batch_ms`; whether nothing else is on it.
    pub(super) fn drawn(&self, batch: Ran<'_>, batch_ms: f64, idle: bool) {
        let mut state = self.state();
        state.queue.ran(batch, batch_ms);
        self.announce(&state);
        if idle {
            state.device_busy = false;
        }
        // A batch in four counts: steady, and soon right after a change of load.
        state.batch_ms =
            Some(state.batch_ms.map_or(batch_ms, |mean| mean + (batch_ms - mean) / 4.0));
        drop(state);
        self.metrics.batch.observe(batch_ms / 1000.0);
        self.wake.notify_one();
    }

    /// All frames of a batch are where they belong.
    pub(super) fn batch_done(&self) {
        self.state().batches -= 1;
        self.wake.notify_one();
    }

    /// Ends a job: keeps it, then tells its viewers. Returns the event that ended it (a failure if
    /// it could not be kept), or `None` if it is ending already.
    pub(super) async fn settle(&self, job: Arc<LiveJob>, last: JobEvent) -> Option<JobEvent> {
        let ending = job.freeze(last.clone())?;
        self.settle_frozen(job, last, ending).await
    }

    /// The same for a job that was frozen for this end.
    pub(super) async fn settle_frozen(
        &self,
        job: Arc<LiveJob>,
        mut last: JobEvent,
        mut ending: Ending,
    ) -> Option<JobEvent> {
        let id = &job.record.id;
        {
            let mut state = self.state();
            if state.queue.remove(id) {
                self.announce(&state);
            }
        }
        job.kept().await?;
        let begun_ms = self.clock.now_ms();
        let mut retry = Retry::default();
        let mut not_kept = None;
        while let Err(error) = self.ends.settle(&job.record, &ending).await {
            if matches!(error, StoreError::EndedElsewhere) {
                self.forget(id);
                return None;
            }
            let error = ErrorBody::from(error);
            if not_kept.is_none() {
                tracing::warn!(job = %id, "the end of a job cannot be kept yet; trying again");
                not_kept = Some(Counted::new(&self.not_kept));
            }
            if retry.waited >= self.config.keep_for
                && let Some(failed) = self.keep_failure(&job, &error).await
            {
                last = failed;
                break;
            }
            ending = job.not_kept(&error, last.clone());
            if !retry.wait(|| self.is_closing()).await {
                job.abandon();
                return None;
            }
        }
        drop(not_kept);
        self.metrics.keep.observe((self.clock.now_ms() - begun_ms) / 1000.0);
        if let Some(state) = last.state() {
            self.metrics.ended(state);
        }
        if let JobEvent::Finished { timings } = &last {
            self.metrics.finished(timings);
        }
        {
            // Before anybody hears of the end: who does may delete the result at once.
            let mut state = self.state();
            state.live.remove(id);
            let of_default =
                self.models.first().map(|info| &info.name) == job.record.request.model.as_ref();
            if job.record.example && of_default && matches!(last, JobEvent::Finished { .. }) {
                state.example = Some(id.clone());
            }
        }
        job.end(last.clone());
        self.announce(&self.state());
        self.prune().await;
        Some(last)
    }

    /// Keeps at least the word that a job could not be kept; the event that then ends it.
    async fn keep_failure(&self, job: &LiveJob, error: &ErrorBody) -> Option<JobEvent> {
        let failed = JobEvent::Failed { error: error.clone() };
        let mut word = job.not_kept(error, failed.clone());
        word.frames.clear();
        self.ends.settle(&job.record, &word).await.ok().map(|()| failed)
    }

    /// Deletes results beyond those that are to be kept.
    pub(super) async fn prune(&self) {
        match self.ends.prune(self.config.keep_results, KEEP_UNFINISHED).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "deleted the oldest results"),
            Err(error) => tracing::warn!(%error, "old results cannot be deleted"),
        }
    }

    /// Leaves every job that has not ended to the next start.
    pub(super) fn leave_all(&self) {
        let jobs: Vec<_> = self.state().live.drain().map(|(_, job)| job).collect();
        for job in jobs {
            job.leave();
        }
    }

    /// Draws no more of a job, whose end is another's to tell; its viewers hear nothing of it.
    pub(super) fn forget(&self, job: &JobId) {
        let live = {
            let mut state = self.state();
            state.queue.remove(job);
            let live = state.live.remove(job);
            self.announce(&state);
            live
        };
        if let Some(live) = live {
            live.leave();
            live.abandon();
        }
        self.wake.notify_one();
    }

    /// Takes a result for the newest finished example.
    pub(super) fn remember_example(&self, job: Option<JobId>) {
        self.state().example = job;
    }

    /// The newest finished example.
    pub(super) fn example(&self) -> Option<JobId> {
        self.state().example.clone()
    }

    /// Forgets a deleted example.
    pub(super) fn forget_example(&self, job: &JobId) {
        let mut state = self.state();
        if state.example.as_ref() == Some(job) {
            state.example = None;
        }
    }

    /// The scheduler at this moment.
    pub(super) fn stats(&self) -> Stats {
        let state = self.state();
        let queued = state.queue.depth();
        Stats {
            accepting: !self.is_refusing(),
            queued,
            queue_limit: state.queue.limit(),
            running: state.live.len().saturating_sub(queued),
            viewers: state.viewers,
            not_kept: self.not_kept.load(Ordering::Relaxed),
        }
    }
}

impl State {
    /// Parts of jobs as the queue gave them out, with the jobs.
    fn batch(&self, taken: Vec<Taken>) -> Batch {
        let part =
            |taken: &Taken| Some((self.live.get(&taken.id)?.clone(), taken.pictures.clone()));
        Batch { parts: taken.iter().filter_map(part).collect(), taken }
    }
}

/// Counts as one more until dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits between attempts, longer and longer.
#[derive(Debug, Default)]
struct Retry {
    attempts: u32,
    waited: Duration,
}

impl Retry {
    /// Between two looks at whether the server closes.
    const LOOK: Duration = Duration::from_millis(100);
    /// Between two attempts, at most.
    const LONGEST: Duration = Duration::from_secs(5);

    /// Waits; false when the server `closes` meanwhile.
    async fn wait(&mut self, closes: impl Fn() -> bool) -> bool {
        let pause = (Self::LOOK * 2_u32.pow(self.attempts.min(6))).min(Self::LONGEST);
        self.attempts += 1;
        let until = self.waited + pause;
        while self.waited < until {
            if closes() {
                return false;
            }
            tokio::time::sleep(Self::LOOK).await;
            self.waited += Self::LOOK;
        }
        !closes()
    }
}
