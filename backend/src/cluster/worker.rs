//! A worker: takes jobs from the queue, draws them, writes their logs, keeps their results.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{
    connection::State,
    jetstream::{
        AckKind, Message,
        consumer::{Consumer, pull},
        stream::Stream as JetStream,
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::join_all};
use prometheus_client::registry::Registry;
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
};
use var_dd_protocol::{Frame, JobEvent, JobId};

use super::{
    ClusterError, Connection, ask,
    connection::Ended,
    entry::{Entry, Posted, Told, VERSION, What},
    failover::answered,
    intake::{Intake, Place, Room},
    journal::Appended,
    names::{self, CALLED_OFF, JOBS, Priority},
    recent::Recent,
};
use crate::{
    generator::Generator,
    jobs::{Viewer, ViewerEvent},
    scheduler::{Drawing, SchedulerConfig, live::internal},
    storage::{Ending, Ends, JobRecord, StoreError, StoredJob},
};

/// A job that so many workers had and did not give back is taken to be what brought them down.
const MAX_CRASHES: u32 = 3;
/// So is one that was taken so often without an end, whatever became of those who had it.
const MAX_ATTEMPTS: u32 = 20;

/// An end takes several answers of broker and store, in which others are drawn.
const BATCHES_IN_FLIGHT: usize = 8;
/// After this a job that this worker cannot read is offered again, perhaps to a newer one.
const NOT_FOR_ME: Duration = Duration::from_secs(5);
/// For the last words of jobs when the worker stops.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Bounds of a worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Its name in logs and in the logs of jobs.
    pub name: String,
    /// Queue and batches; what is kept lies elsewhere.
    pub scheduler: SchedulerConfig,
    /// A job whose worker says nothing for so long is given to another.
    pub ack_wait: Duration,
    /// How long the broker holds a question for jobs open while there are none. A broker that comes
    /// back knows none of those that were open: so long a worker may miss that it is back.
    pub standing: Duration,
}

impl WorkerConfig {
    /// A worker with the usual times.
    pub fn new(name: impl Into<String>, scheduler: SchedulerConfig) -> Self {
        Self {
            name: name.into(),
            scheduler,
            ack_wait: Duration::from_secs(30),
            standing: Duration::from_secs(2),
        }
    }
}

/// Draws jobs from the queue. A cheap handle.
#[derive(Clone, Debug)]
pub struct Worker(Arc<Inner>);

struct Inner {
    config: WorkerConfig,
    connection: Connection,
    drawing: Drawing,
    carried: Arc<Carried>,
    room: Arc<Room>,
    stopping: AtomicBool,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("name", &self.config.name).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in a critical section leaves it half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is said to the task that carries a job through this worker.
enum Word {
    /// It is drawn, or failed: keep the end.
    Settle(Ending, oneshot::Sender<Result<(), StoreError>>),
    /// The queue gave it out again, to the same worker.
    Again(Box<Message>),
    /// Somebody may have ended it.
    CalledOff,
}

/// The jobs that this worker has.
#[derive(Default)]
struct Carried(Mutex<HashMap<JobId, mpsc::UnboundedSender<Word>>>);

impl std::fmt::Debug for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Carried").field(&lock(&self.0).len()).finish()
    }
}

impl Carried {
    /// Says a word to whoever carries a job; gives it back if nobody does.
    fn say(&self, job: &JobId, word: Word) -> Result<(), Word> {
        match lock(&self.0).get(job) {
            Some(carrier) => carrier.send(word).map_err(|refused| refused.0),
            None => Err(word),
        }
    }
}

#[async_trait]
impl Ends for Carried {
    async fn settle(&self, job: &JobRecord, ending: &Ending) -> Result<(), StoreError> {
        let (kept, outcome) = oneshot::channel();
        if self.say(&job.id, Word::Settle(ending.clone(), kept)).is_err() {
            return Err(StoreError::EndedElsewhere);
        }
        outcome.await.unwrap_or(Err(StoreError::EndedElsewhere))
    }

    // The log in the broker says who has a job; nothing is kept here.
    async fn started(&self, _: &[i64]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn put_back(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn prune(&self, _: Option<u32>, _: u32) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn close(&self) {}
}

impl Worker {
    /// Tells of the models and begins to take jobs.
    ///
    /// # Errors
    /// When the models cannot be used, or the broker cannot.
    pub async fn start(
        config: WorkerConfig,
        connection: Connection,
        generators: Vec<Box<dyn Generator>>,
    ) -> anyhow::Result<Self> {
        let carried = Arc::new(Carried::default());
        let scheduler = SchedulerConfig {
            // The reader is in this program and never slow.
            viewer_backlog_bytes: usize::MAX,
            queue_limit: usize::MAX,
            batches_in_flight: BATCHES_IN_FLIGHT,
            ..config.scheduler.clone()
        };
        let drawing = Drawing::start(scheduler, carried.clone(), generators).await?;
        let worker = Self(Arc::new(Inner {
            config,
            connection,
            drawing,
            carried,
            room: Arc::default(),
            stopping: AtomicBool::new(false),
            tasks: Mutex::default(),
        }));
        let client = &worker.0.connection.client;
        let mut called_off = client.subscribe(CALLED_OFF).await.map_err(ClusterError::broker)?;
        let carried = worker.0.carried.clone();
        let mut tasks = vec![tokio::spawn(async move {
            while let Some(message) = called_off.next().await {
                let job = std::str::from_utf8(&message.payload).ok().map(str::parse);
                if let Some(Ok(job)) = job {
                    // Most are drawn elsewhere.
                    let _ = carried.say(&job, Word::CalledOff);
                }
            }
        })];
        let mut consumers = Vec::new();
        let stream = worker.0.connection.jetstream.get_stream(JOBS).await;
        let stream = stream.map_err(ClusterError::broker)?;
        for priority in Priority::ALL {
            for model in worker.0.drawing.models().iter() {
                let config = names::consumer(&model.name, priority, worker.0.config.ack_wait);
                consumers.push(consumer(&stream, config).await?);
            }
        }
        for model in worker.0.drawing.models().iter() {
            let name = model.name.clone();
            let (client, drawing) = (client.clone(), worker.0.drawing.clone());
            tasks.push(tokio::spawn(async move {
                if let Err(error) = ask::answer(client, drawing, name).await {
                    tracing::error!(%error, "questions cannot be answered");
                }
            }));
            let told = serde_json::to_vec(model)?;
            let subject = names::model_subject(&model.name);
            let jetstream = &worker.0.connection.jetstream;
            let told = Bytes::from(told);
            let published = answered(|| async {
                jetstream.publish(subject.clone(), told.clone()).await?.await
            });
            published.await.map_err(ClusterError::broker)?;
        }
        let WorkerConfig { scheduler, standing, .. } = &worker.0.config;
        let (room, most) = (worker.0.room.clone(), scheduler.max_batch.max(1));
        let intake = Intake::new(room, consumers, most, *standing);
        tasks.push(tokio::spawn(take(worker.clone(), intake)));
        lock(&worker.0.tasks).extend(tasks);
        Ok(worker)
    }

    /// Adds the metrics, named `var_dd_…`, to a registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.0.drawing.register_metrics(registry);
    }

    /// Whether jobs are taken.
    ///
    /// # Errors
    /// Why they are not, in a line.
    pub fn ready(&self) -> Result<(), String> {
        match self.0.connection.client.connection_state() {
            _ if self.is_stopping() => Err("stopping: no more jobs are taken".into()),
            State::Connected => Ok(()),
            state => Err(format!("no connection to the broker ({state})")),
        }
    }

    /// Takes no more jobs, waits at most for `limit` until those that run have ended, and gives the
    /// others back.
    pub async fn stop(&self, limit: Duration) {
        self.0.stopping.store(true, Ordering::Relaxed);
        self.0.room.look_again();
        self.0.drawing.drain(limit).await;
        self.0.drawing.shutdown().await;
        let words = async {
            while !lock(&self.0.carried.0).is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(LAST_WORDS, words).await.is_err() {
            tracing::warn!(
                "some jobs could not be given back; others take them when their time is over"
            );
        }
        for task in lock(&self.0.tasks).drain(..) {
            task.abort();
        }
        let _ = self.0.connection.client.flush().await;
    }

    fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }
}

/// A durable consumer as it should be; one that another version made otherwise is brought up to
/// date.
async fn consumer(
    stream: &JetStream,
    config: pull::Config,
) -> Result<Consumer<pull::Config>, ClusterError> {
    stream.create_consumer(config).await.map_err(ClusterError::broker)
}

/// Takes jobs as long as the worker runs, and waits for those that it has.
async fn take(worker: Worker, mut intake: Intake) {
    let mut jobs = JoinSet::new();
    while !worker.is_stopping() {
        while jobs.try_join_next().is_some() {}
        for message in intake.next().await {
            // From here on: what is taken and not begun leaves no room for more.
            let place = worker.0.room.place();
            jobs.spawn(carry(worker.clone(), message, place));
        }
    }
    intake.close().await;
    while jobs.join_next().await.is_some() {}
}

/// A message of the queue, and whose turn it is to acknowledge it.
#[derive(Clone)]
struct Held(Arc<Mutex<Arc<Message>>>);

impl Held {
    fn new(message: Message) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(message))))
    }

    fn message(&self) -> Arc<Message> {
        lock(&self.0).clone()
    }

    fn replace(&self, message: Message) {
        *lock(&self.0) = Arc::new(message);
    }

    /// Tells the queue; what it does not hear, it finds out.
    async fn acknowledge(&self, kind: AckKind) {
        if let Err(error) = self.message().ack_with(kind).await {
            tracing::warn!(%error, "the queue cannot be told of a job");
        }
    }
}

/// Carries a job from the queue to its end.
async fn carry(worker: Worker, message: Message, place: Place) {
    let posted: Posted = match serde_json::from_slice(&message.payload) {
        Ok(posted) => posted,
        Err(error) => {
            tracing::error!(%error, "a job that cannot be read is left to others");
            Held::new(message).acknowledge(AckKind::Nak(Some(NOT_FOR_ME))).await;
            return;
        }
    };
    if posted.version > VERSION {
        Held::new(message).acknowledge(AckKind::Nak(Some(NOT_FOR_ME))).await;
        return;
    }
    let job = posted.record.id.clone();
    // Out of the queue's view once more: the one that carries it takes this one's place.
    let message = match worker.0.carried.say(&job, Word::Again(Box::new(message))) {
        Ok(()) => return,
        Err(Word::Again(message)) => *message,
        Err(_) => return,
    };
    let (say, words) = mpsc::unbounded_channel();
    lock(&worker.0.carried.0).insert(job.clone(), say);
    let held = Held::new(message);
    let alive = tokio::spawn(keep_alive(held.clone(), worker.0.config.ack_wait / 3));
    let run = Run { worker: worker.clone(), posted, held: held.clone(), words, place };
    let outcome = run.run().await;
    alive.abort();
    lock(&worker.0.carried.0).remove(&job);
    match outcome {
        Outcome::Over => held.acknowledge(AckKind::Ack).await,
        Outcome::Returned => held.acknowledge(AckKind::Nak(None)).await,
        Outcome::Others => {}
    }
}

/// Tells the queue that the job is at work, until it is aborted.
async fn keep_alive(held: Held, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        held.acknowledge(AckKind::Progress).await;
    }
}

/// What became of a job in this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It has ended.
    Over,
    /// Another worker takes it.
    Returned,
    /// Somebody else has it already, or ended it.
    Others,
}

/// One run of a job.
struct Run {
    worker: Worker,
    posted: Posted,
    held: Held,
    words: mpsc::UnboundedReceiver<Word>,
    place: Place,
}

/// Where the log of a run stands.
struct Position {
    /// Number of its last entry.
    at: u64,
    /// What every entry of this run says of it.
    entry: Entry,
    /// Whether the word is there that this run ends the job.
    ending: bool,
}

impl Run {
    async fn run(mut self) -> Outcome {
        let Some(mut position) = self.begin().await else { return Outcome::Others };
        if matches!(position.entry.what, What::Ended { .. }) {
            return Outcome::Over;
        }
        let Entry { crashes, attempt, .. } = position.entry;
        if crashes >= MAX_CRASHES || attempt > MAX_ATTEMPTS {
            let message = format!(
                "{crashes} workers went down while they drew this job, of {attempt} that took it, \
                 so it is not tried again"
            );
            return self.fail(&position, internal(message)).await;
        }
        let record = self.posted.record.clone();
        let number = self.held.message().info().map_or(0, |info| info.stream_sequence as i64);
        let viewer = match self.worker.0.drawing.enqueue(record, number, attempt) {
            Ok(viewer) => viewer,
            Err(error) => return self.fail(&position, error).await,
        };
        self.follow(viewer, &mut position).await
    }

    fn job(&self) -> &JobId {
        &self.posted.record.id
    }

    /// Adds an entry, whatever it takes; `None` when the worker stops before the broker answers.
    async fn append(&self, at: u64, entry: &Entry) -> Option<Appended> {
        let journal = &self.worker.0.connection.journal;
        journal.append_for_certain(self.job(), at, entry, || self.worker.is_stopping()).await
    }

    /// Writes that this worker has the job. `None` if somebody else wrote first; a job that has
    /// ended is left as it is.
    async fn begin(&self) -> Option<Position> {
        let journal = &self.worker.0.connection.journal;
        let (at, last) = match journal.last(self.job()).await {
            Ok(Some(last)) => last,
            // It waited longer than logs are kept.
            Ok(None) => {
                let posted = Box::new(self.posted.clone());
                let what = What::Accepted { posted };
                let entry = Entry { attempt: 0, crashes: 0, what };
                match self.append(0, &entry).await? {
                    Appended::At(at) => (at, entry),
                    Appended::Refused => return None,
                }
            }
            Err(error) => {
                tracing::warn!(job = %self.job(), %error, "a job cannot be begun");
                return None;
            }
        };
        if matches!(last.what, What::Ended { .. }) {
            return Some(Position { at, entry: last, ending: true });
        }
        let entry = last.taken(&self.worker.0.config.name);
        match self.append(at, &entry).await? {
            Appended::At(at) => Some(Position { at, entry, ending: false }),
            Appended::Refused => None,
        }
    }

    /// Ends the job without drawing it.
    async fn fail(&self, position: &Position, error: var_dd_protocol::ErrorBody) -> Outcome {
        tracing::warn!(job = %self.job(), %error, "a job cannot be drawn");
        let event = JobEvent::Failed { error };
        let connection = &self.worker.0.connection;
        match connection.end(&self.posted, position.at, &position.entry, event).await {
            Ok(Ended::Now) => Outcome::Over,
            Ok(Ended::LookAgain) => Outcome::Others,
            Err(error) => {
                tracing::warn!(job = %self.job(), %error, "its end cannot be kept");
                Outcome::Returned
            }
        }
    }

    /// Writes down what the device does with the job until its end.
    async fn follow(&mut self, mut viewer: Viewer, position: &mut Position) -> Outcome {
        let mut has_ended = false;
        let mut is_others = false;
        loop {
            tokio::select! {
                // Everything that was told before an end stands before it.
                biased;
                event = viewer.next() => {
                    let Some(event) = event else { break };
                    let mut events = vec![event];
                    let mut open = true;
                    // What came while the last entry was written goes into one.
                    while let Some(next) = viewer.next().now_or_never() {
                        match next {
                            Some(event) => events.push(event),
                            None => {
                                open = false;
                                break;
                            }
                        }
                    }
                    if events.iter().any(is_start) {
                        self.place.begun();
                    }
                    has_ended |= events.iter().any(is_end);
                    if !is_others && !self.tell(events, position).await {
                        is_others = true;
                        self.worker.0.drawing.forget(self.job());
                    }
                    if !open {
                        break;
                    }
                }
                Some(word) = self.words.recv() => match word {
                    Word::Settle(ending, kept) => {
                        self.place.drawn();
                        let outcome = if is_others {
                            Err(StoreError::EndedElsewhere)
                        } else {
                            self.settle(&ending, position).await
                        };
                        is_others |= matches!(outcome, Err(StoreError::EndedElsewhere));
                        // Who asked waits.
                        let _ = kept.send(outcome);
                    }
                    Word::Again(message) => self.held.replace(*message),
                    Word::CalledOff => {
                        if self.is_ended().await {
                            is_others = true;
                            self.worker.0.drawing.forget(self.job());
                        }
                    }
                },
            }
        }
        if has_ended && !is_others {
            return Outcome::Over;
        }
        if is_others {
            return if self.is_ended().await { Outcome::Over } else { Outcome::Others };
        }
        let returned = position.entry.then(What::Returned);
        let journal = &self.worker.0.connection.journal;
        match journal.append(self.job(), position.at, &returned).await {
            Ok(Appended::At(_)) => Outcome::Returned,
            Ok(Appended::Refused) => Outcome::Others,
            Err(error) => {
                tracing::warn!(job = %self.job(), %error, "a job cannot be given back");
                Outcome::Others
            }
        }
    }

    async fn is_ended(&self) -> bool {
        let last = self.worker.0.connection.journal.last(self.job()).await;
        matches!(last, Ok(Some((_, Entry { what: What::Ended { .. }, .. }))))
    }

    /// Writes events into the log; false if it is another's.
    async fn tell(&self, events: Vec<ViewerEvent>, position: &mut Position) -> bool {
        let mut told = Vec::with_capacity(events.len());
        let mut pictures = Vec::new();
        for event in events {
            match event {
                // Positions in this worker say little; that a job starts over is said once.
                ViewerEvent::Control { event: JobEvent::Queued { .. }, .. }
                    if position.entry.attempt == 1 => {}
                // The end has an entry of its own.
                ViewerEvent::Control { event, .. } if is_final(&event) => {}
                ViewerEvent::Control { seq, event } => told.push(Told::Event { seq, event }),
                ViewerEvent::Frame { seq, bytes, .. } => match header_of(&bytes) {
                    Some(frame) => {
                        pictures.push((seq, bytes));
                        told.push(Told::Frame { seq, frame });
                    }
                    None => tracing::error!(job = %self.job(), seq, "a frame that is none"),
                },
                ViewerEvent::Lost { .. } => {}
            }
        }
        if told.is_empty() {
            return true;
        }
        let journal = &self.worker.0.connection.journal;
        let job = self.job();
        let put = pictures.into_iter().map(|(seq, wire)| journal.put_frame(job, seq, wire));
        for outcome in join_all(put).await {
            if let Err(error) = outcome {
                // Viewers have it from the object store in the end.
                tracing::warn!(%job, %error, "a picture cannot be shown while it is drawn");
            }
        }
        let entry = position.entry.then(What::Told { events: told });
        match self.append(position.at, &entry).await {
            Some(Appended::At(at)) => {
                position.at = at;
                true
            }
            Some(Appended::Refused) | None => false,
        }
    }

    /// Keeps the end of the job and tells it.
    async fn settle(&self, ending: &Ending, position: &mut Position) -> Result<(), StoreError> {
        let connection = &self.worker.0.connection;
        let append = async |at: u64, what: What| {
            let entry = position.entry.then(what);
            match connection.journal.append(self.job(), at, &entry).await {
                Ok(Appended::At(at)) => Ok(at),
                Ok(Appended::Refused) => Err(StoreError::EndedElsewhere),
                Err(error) => Err(StoreError::Database(error.to_string())),
            }
        };
        if !position.ending {
            position.at = append(position.at, What::Ending).await?;
            position.ending = true;
        }
        let attempt = position.entry.attempt;
        let mut ending = ending.clone();
        if attempt == 1
            && let Some((seq, first @ JobEvent::Queued { .. })) = ending.events.first_mut()
        {
            // What viewers were told, instead of the place in this worker.
            (*seq, *first) = (0, JobEvent::Queued { position: self.posted.position });
        }
        let put = connection.results.put(self.posted.clone(), attempt, &ending).await;
        put.map_err(|error| StoreError::Pictures(error.to_string()))?;
        let Some((seq, event)) = ending.events.last().cloned() else {
            return Err(StoreError::Database("an end without an event".into()));
        };
        let timings = match &event {
            JobEvent::Finished { timings } => Some(*timings),
            _ => None,
        };
        let at = append(position.at, What::Ended { seq, event }).await?;
        position.at = at;
        connection.tell_over(self.job()).await;
        if let Some(timings) = timings {
            let stored = StoredJob {
                number: 0,
                ended: None,
                state: var_dd_protocol::JobState::Finished,
                record: self.posted.record.clone(),
                timings: Some(timings),
                error: None,
            };
            let news = Recent::Finished {
                view: Box::new(stored.listed()),
                example: self.posted.record.example,
            };
            if let Err(error) = connection.announce(&news).await {
                tracing::warn!(job = %self.job(), %error, "a result will not be listed");
            }
        }
        Ok(())
    }
}

fn header_of(wire: &Bytes) -> Option<var_dd_protocol::FrameHeader> {
    Frame::decode(wire).ok().map(|frame| frame.header)
}

fn is_final(event: &JobEvent) -> bool {
    event.state().is_some_and(|state| state.is_final())
}

fn is_end(event: &ViewerEvent) -> bool {
    matches!(event, ViewerEvent::Control { event, .. } if is_final(event))
}

fn is_start(event: &ViewerEvent) -> bool {
    matches!(event, ViewerEvent::Control { event: JobEvent::Started { .. }, .. })
}
