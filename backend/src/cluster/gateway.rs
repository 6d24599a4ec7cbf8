//! A gateway: page, API and WebSockets before a queue that workers empty.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_nats::{
    connection::State,
    jetstream::{consumer::DeliverPolicy, message::PublishMessage},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use image::RgbImage;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use sha2::{Digest, Sha256};
use tokio::{sync::watch, task::JoinHandle};
use var_dd_protocol::{
    ErrorBody, ErrorCode, FrameHeader, GenerateRequest, JobEvent, JobId, JobView, MediaType,
    ModelInfo, OwnerToken, ResultPage, TokenReport, TokenizedPicture,
};

use super::{
    ClusterError, Connection,
    ask::{self, Answer, Question, ask},
    connection::Ended,
    entry::{Entry, Posted, VERSION, What},
    failover::answered,
    followed::{Followed, FollowedEvents, picture_of},
    journal::Appended,
    names::{self, JOBS, MODELS, OVER, Priority},
    reader::Reader,
    recent::{Recent, RecentList},
    results::Kept,
};
use crate::{
    jobs::{
        Accepted, Asking, Client, Jobs, Stats, Unwatched, Viewer, checked_page, key_reused,
        not_found,
    },
    scheduler::{
        checked,
        job::{ValidJob, check_owner, hash, new_id, new_token},
        live::internal,
        viewer::Replay,
    },
    storage::{JobRecord, Pictures, RequestKey},
};

/// Attempts to write to a log that others write to as well.
const ATTEMPTS: usize = 50;
/// How long a viewer waits for the beginning of a log.
const BEGINNING: Duration = Duration::from_secs(5);
/// A job that somebody asked for is followed so long, since they may ask again and again.
const HELD: Duration = Duration::from_secs(10);
/// How often the length of the queue is looked up.
const LOOK: Duration = Duration::from_secs(1);

/// Bounds of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Most jobs of one client address that wait or run, as far as this gateway knows.
    pub jobs_per_client: usize,
    /// How long a waiting job outlives its last viewer.
    pub unwatched_grace: Duration,
    /// Bytes of frames that a viewer may lie behind before intermediate ones are dropped for it.
    pub viewer_backlog_bytes: usize,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            jobs_per_client: 64,
            unwatched_grace: Duration::from_secs(20),
            viewer_backlog_bytes: 1 << 20,
        }
    }
}

/// Takes jobs for workers elsewhere, tells their viewers, shows their results. A cheap handle.
#[derive(Clone, Debug)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: GatewayConfig,
    connection: Connection,
    models: RwLock<Arc<[ModelInfo]>>,
    /// Becomes true with the first model.
    has_model: watch::Sender<bool>,
    recent: RecentList,
    followed: Mutex<HashMap<JobId, Weak<Followed>>>,
    /// Jobs that were accepted here and are not known to be over, and whose they are.
    unfinished: Mutex<HashMap<JobId, Client>>,
    queued: AtomicI64,
    queue_limit: AtomicI64,
    refusing: AtomicBool,
    accepted: Counter,
    queue_length: Gauge,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in a critical section leaves it half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Gateway {
    /// A gateway to these parts, once a worker has told of a model.
    pub async fn start(config: GatewayConfig, connection: Connection) -> Self {
        let inner = Arc::new(Inner {
            config,
            connection,
            models: RwLock::new(Arc::from([])),
            has_model: watch::Sender::new(false),
            recent: RecentList::default(),
            followed: Mutex::default(),
            unfinished: Mutex::default(),
            queued: AtomicI64::new(0),
            queue_limit: AtomicI64::new(0),
            refusing: AtomicBool::new(false),
            accepted: Counter::default(),
            queue_length: Gauge::default(),
            tasks: Mutex::default(),
        });
        let gateway = Self(inner);
        let recent = gateway.0.recent.clone();
        let jetstream = gateway.0.connection.jetstream.clone();
        let tasks = vec![
            tokio::spawn(recent.follow(jetstream)),
            tokio::spawn(learn_models(Arc::downgrade(&gateway.0))),
            tokio::spawn(look_at_queue(Arc::downgrade(&gateway.0))),
            tokio::spawn(hear_of_ends(Arc::downgrade(&gateway.0))),
        ];
        lock(&gateway.0.tasks).extend(tasks);
        let mut has_model = gateway.0.has_model.subscribe();
        if !*has_model.borrow_and_update() {
            tracing::info!("waiting for the first worker to tell of its models");
            // The sender is ours.
            let _ = has_model.wait_for(|has| *has).await;
        }
        gateway
    }

    fn journal(&self) -> &super::journal::Journal {
        &self.0.connection.journal
    }

    /// A job that has not ended, followed from its first entry on.
    async fn live(&self, job: &JobId) -> Result<Option<Arc<Followed>>, ErrorBody> {
        let known = lock(&self.0.followed).get(job).and_then(Weak::upgrade);
        if let Some(known) = known {
            return Ok((!known.is_closed()).then_some(known));
        }
        match self.journal().last(job).await? {
            None => return Ok(None),
            Some((_, Entry { what: What::Ended { .. }, .. })) => return Ok(None),
            Some(_) => {}
        }
        let Some(Entry { what: What::Accepted { posted, .. }, .. }) =
            self.journal().first(job).await?
        else {
            return Ok(None);
        };
        let followed = self.follow(*posted);
        followed.known(BEGINNING).await;
        let held = followed.clone();
        tokio::spawn(async move {
            tokio::time::sleep(HELD).await;
            drop(held);
        });
        Ok(Some(followed))
    }

    /// Follows a job, or joins whoever does already.
    fn follow(&self, posted: Posted) -> Arc<Followed> {
        let mut all = lock(&self.0.followed);
        if let Some(known) = all.get(&posted.record.id).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, followed| followed.strong_count() > 0);
        let id = posted.record.id.clone();
        let followed = Followed::start(self.0.connection.clone(), posted);
        all.insert(id, Arc::downgrade(&followed));
        followed
    }

    /// What is kept of an ended job.
    async fn kept(&self, job: &JobId) -> Result<Kept, ErrorBody> {
        self.0.connection.results.find(job).await?.ok_or_else(|| not_found(job))
    }

    /// The encoded picture of a frame of an ended job that `wanted` accepts; `None` if it has none.
    async fn kept_picture(
        &self,
        job: &JobId,
        wanted: impl Fn(u64, &FrameHeader) -> bool,
    ) -> Result<Option<(MediaType, Bytes)>, ErrorBody> {
        let kept = self.kept(job).await?;
        let Some(frame) = kept.frame(wanted) else { return Ok(None) };
        let pictures = self.0.connection.results.pictures(kept.attempt);
        let bytes = pictures.picture(job, &frame).await?.ok_or_else(|| not_found(job))?;
        Ok(Some((frame.header.media_type, bytes)))
    }

    /// Counts a job of a client.
    ///
    /// # Errors
    /// When the client has as many as it may.
    async fn count(&self, job: &JobId, client: Client) -> Result<(), ErrorBody> {
        // Conversations of one address count together; the servers' own jobs do not.
        let client = Client { conversation: 0, ..client };
        if client.address.is_none() {
            return Ok(());
        }
        let most = self.0.config.jobs_per_client;
        let of_client = |unfinished: &HashMap<JobId, Client>| -> Vec<JobId> {
            let of_client = unfinished.iter().filter(|(_, of)| **of == client);
            of_client.map(|(job, _)| job.clone()).collect()
        };
        let known = of_client(&lock(&self.0.unfinished));
        if known.len() >= most {
            // Word of an end may have been lost.
            for job in &known {
                let last = self.journal().last(job).await?;
                if last.is_none_or(|(_, entry)| matches!(entry.what, What::Ended { .. })) {
                    lock(&self.0.unfinished).remove(job);
                }
            }
        }
        let mut unfinished = lock(&self.0.unfinished);
        let count = of_client(&unfinished).len();
        if count >= most {
            let message = format!(
                "{count} jobs of this address wait or run already; at most {most} may, so wait \
                 for some or cancel them"
            );
            return Err(ErrorBody::new(ErrorCode::QueueFull, message).retry_after(5));
        }
        unfinished.insert(job.clone(), client);
        Ok(())
    }

    async fn accept(
        &self,
        request: GenerateRequest,
        asking: Asking,
        example: bool,
    ) -> Result<Accepted, ErrorBody> {
        if self.0.refusing.load(Ordering::Relaxed) {
            let message = "this gateway is shutting down and takes no more jobs; try again";
            return Err(ErrorBody::new(ErrorCode::ShuttingDown, message).retry_after(5));
        }
        let key = asking.key.map(|key| RequestKey::new(key, &request)).transpose()?;
        let id = match &key {
            // The key is the name: whoever asks again, at any gateway, finds the same log.
            Some(key) => JobId::from_bits(u128::from_le_bytes(key.digest())),
            None => new_id()?,
        };
        if let Some(key) = &key
            && let Some(before) = self.accepted_before(&id, key).await?
        {
            return before;
        }
        let valid = ValidJob::new(self.with_parents(request).await?, &self.models())?;
        self.count(&id, asking.client).await?;
        let owner_token = match &key {
            Some(key) => key.owner_token(id.as_str().as_bytes()),
            None => new_token()?,
        };
        let stays = asking.unwatched == Unwatched::Stays;
        let record =
            JobRecord { stays, example, ..valid.record(id.clone(), hash(&owner_token), now_ms()) };
        let queued = self.0.queued.load(Ordering::Relaxed);
        let posted = Posted {
            version: VERSION,
            record,
            position: u32::try_from(queued).unwrap_or_default(),
            asked: key.as_ref().map(|key| *key.request_digest()),
        };
        let accepted =
            Accepted { job: id.clone(), owner_token, request: posted.record.request.clone() };
        let gateway = self.clone();
        // A task of its own: a caller that gives up must not leave a log without a job.
        let done = tokio::spawn(async move {
            let priority = if stays { Priority::Low } else { Priority::High };
            let posting = gateway.post(&posted, priority).await;
            match posting {
                Ok(true) => {
                    gateway.0.accepted.inc();
                    gateway.mind(&posted);
                }
                // Under this name there is a job, which counts.
                Ok(false) => {}
                Err(_) => {
                    lock(&gateway.0.unfinished).remove(&posted.record.id);
                }
            }
            posting
        });
        let first = done.await.map_err(|error| internal(format!("a task failed: {error}")))??;
        if first {
            return Ok(accepted);
        }
        // Asked for twice at once: the other one was first.
        let Some(key) = &key else { return Err(internal("a name was given out twice")) };
        match self.accepted_before(&id, key).await? {
            Some(before) => before,
            None => Err(internal("a key was there and is not")),
        }
    }

    /// The answer to whoever asked under this key before, if somebody did.
    async fn accepted_before(
        &self,
        id: &JobId,
        key: &RequestKey,
    ) -> Result<Option<Result<Accepted, ErrorBody>>, ErrorBody> {
        let posted = match self.journal().first(id).await? {
            Some(Entry { what: What::Accepted { posted, .. }, .. }) => Some(*posted),
            _ => self.0.connection.results.find(id).await?.map(|kept| kept.posted),
        };
        let Some(posted) = posted else { return Ok(None) };
        if posted.asked.as_ref() != Some(key.request_digest()) {
            return Ok(Some(Err(key_reused(id))));
        }
        Ok(Some(Ok(Accepted {
            job: id.clone(),
            owner_token: key.owner_token(id.as_str().as_bytes()),
            request: posted.record.request,
        })))
    }

    /// Begins the log of a job and puts it into the queue; false if there is such a log already.
    async fn post(&self, posted: &Posted, priority: Priority) -> Result<bool, ErrorBody> {
        let record = &posted.record;
        let accepted = Entry {
            attempt: 0,
            crashes: 0,
            what: What::Accepted { posted: Box::new(posted.clone()) },
        };
        let Appended::At(at) = self.journal().append(&record.id, 0, &accepted).await? else {
            return Ok(false);
        };
        let model = record.request.model.as_deref().unwrap_or_default();
        let subject = names::job_subject(model, priority, &record.request.plan);
        let payload: Bytes = serde_json::to_vec(posted)
            .map_err(|error| ClusterError::format("a job", error))?
            .into();
        let published = answered(|| async {
            // An attempt whose answer was lost may have put it there; under its name it is there
            // once.
            let message = PublishMessage::build()
                .payload(payload.clone())
                .message_id(record.id.as_str())
                .expected_stream(JOBS);
            self.0.connection.jetstream.send_publish(subject.clone(), message).await?.await
        });
        let Err(error) = published.await else { return Ok(true) };
        let text = error_text(&error);
        let refusal = if text.contains("maximum messages exceeded") {
            let most = self.0.queue_limit.load(Ordering::Relaxed);
            let message = format!("{most} jobs wait or run already; try again in a moment");
            ErrorBody::new(ErrorCode::QueueFull, message).retry_after(5)
        } else {
            ClusterError::Broker(text).into()
        };
        // Nobody is told of it, so it ends here; if that fails, a log that nobody knows ages out.
        let ended = What::Ended { seq: 1, event: JobEvent::Failed { error: refusal.clone() } };
        if let Err(error) = self.journal().append(&record.id, at, &accepted.then(ended)).await {
            tracing::warn!(job = %record.id, %error, "a refused job cannot be ended");
        }
        Err(refusal)
    }

    /// Ends an accepted job if its time is over while it waits; while it is drawn, the worker does.
    fn mind(&self, posted: &Posted) {
        let Some(after_ms) = posted.record.request.deadline_ms else { return };
        let (gateway, job) = (Arc::downgrade(&self.0), posted.record.id.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            if let Some(inner) = gateway.upgrade() {
                Self(inner).expire(&job).await;
            }
        });
    }

    /// Ends a job that waits still.
    async fn expire(&self, job: &JobId) {
        if let Err(error) = self.end(job, JobEvent::Expired, true).await
            && error.code != ErrorCode::Conflict
        {
            tracing::warn!(%job, %error, "a job cannot be ended that nobody waits for");
        }
    }

    /// Ends a job, or only if it waits.
    async fn end(&self, job: &JobId, event: JobEvent, waiting: bool) -> Result<(), ErrorBody> {
        let conflict = |message: &str| ErrorBody::new(ErrorCode::Conflict, message);
        for _ in 0..ATTEMPTS {
            let Some((at, last)) = self.journal().last(job).await? else {
                return Err(conflict("the job has ended already"));
            };
            match &last.what {
                What::Ended { .. } => return Err(conflict("the job has ended already")),
                What::Ending => return Err(conflict("the job is over, which is just being kept")),
                _ if waiting && !last.is_waiting() => {
                    return Err(conflict("the job is being drawn"));
                }
                _ => {}
            }
            let Some(Entry { what: What::Accepted { posted, .. }, .. }) =
                self.journal().first(job).await?
            else {
                return Err(not_found(job));
            };
            let connection = &self.0.connection;
            if connection.end(&posted, at, &last, event.clone()).await? == Ended::Now {
                connection.call_off(job).await;
                return Ok(());
            }
        }
        Err(internal("the log of the job is written faster than it can be ended; try again"))
    }

    fn models_snapshot(&self) -> Arc<[ModelInfo]> {
        self.0.models.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn model_of(request: &GenerateRequest) -> &str {
        request.model.as_deref().unwrap_or_default()
    }

    async fn asked(
        &self,
        request: GenerateRequest,
        question: impl FnOnce(Box<GenerateRequest>) -> Question,
    ) -> Result<(Answer, Bytes), ErrorBody> {
        let request = self.check(request)?;
        let model = Self::model_of(&request).to_owned();
        ask(&self.0.connection.client, &model, &question(Box::new(request)), &[]).await
    }
}

/// A message with its causes: what the broker said stands at the end.
fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn other_answer() -> ErrorBody {
    internal("a worker answered another question; is it of another version?")
}

/// Keeps the list of models, in the order of their names, as workers tell of them.
async fn learn_models(gateway: Weak<Inner>) {
    loop {
        let Some(inner) = gateway.upgrade() else { return };
        let connection = inner.connection.clone();
        drop(inner);
        if let Err(error) = read_models(&connection, &gateway).await {
            tracing::warn!(%error, "the list of models cannot be read; trying again");
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn read_models(connection: &Connection, gateway: &Weak<Inner>) -> Result<(), ClusterError> {
    let stream = connection.jetstream.get_stream(MODELS).await.map_err(ClusterError::broker)?;
    let mut reader = Reader::new(stream, "models.*", DeliverPolicy::LastPerSubject);
    loop {
        let next = reader.next().await?;
        let Some(inner) = gateway.upgrade() else { return Ok(()) };
        let Some((_, message)) = next else { continue };
        let model: ModelInfo = match serde_json::from_slice(&message.payload) {
            Ok(model) => model,
            Err(error) => {
                tracing::warn!(%error, "a model that cannot be read");
                continue;
            }
        };
        let mut models = inner.models.write().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> =
            models.iter().filter(|other| other.name != model.name).cloned().collect();
        all.push(model);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        *models = all.into();
        inner.has_model.send_replace(true);
    }
}

/// Forgets jobs that are over.
async fn hear_of_ends(gateway: Weak<Inner>) {
    let Some(client) = gateway.upgrade().map(|inner| inner.connection.client.clone()) else {
        return;
    };
    let mut over = match client.subscribe(OVER).await {
        Ok(over) => over,
        Err(error) => {
            tracing::warn!(%error, "ends of jobs are not heard of");
            return;
        }
    };
    while let Some(message) = over.next().await {
        let Some(inner) = gateway.upgrade() else { return };
        if let Some(Ok(job)) = std::str::from_utf8(&message.payload).ok().map(str::parse::<JobId>) {
            lock(&inner.unfinished).remove(&job);
        }
    }
}

async fn look_at_queue(gateway: Weak<Inner>) {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        let Some(inner) = gateway.upgrade() else { return };
        // A broker that is away is told of elsewhere.
        if let Ok(stream) = inner.connection.jetstream.get_stream(JOBS).await {
            let info = stream.cached_info();
            let queued = i64::try_from(info.state.messages).unwrap_or(i64::MAX);
            inner.queued.store(queued, Ordering::Relaxed);
            inner.queue_limit.store(info.config.max_messages, Ordering::Relaxed);
            inner.queue_length.set(queued);
        }
    }
}

#[async_trait]
impl Jobs for Gateway {
    fn models(&self) -> Arc<[ModelInfo]> {
        self.models_snapshot()
    }

    fn example(&self) -> Option<JobId> {
        self.0.recent.example(&self.models().first()?.name)
    }

    async fn submit_as(
        &self,
        request: GenerateRequest,
        asking: Asking,
    ) -> Result<Accepted, ErrorBody> {
        self.accept(request, asking, false).await
    }

    async fn submit_example(&self, request: GenerateRequest) -> Result<JobId, ErrorBody> {
        // One for all gateways.
        let text = serde_json::to_vec(&request).map_err(|error| internal(error.to_string()))?;
        let key = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        let asking =
            Asking { unwatched: Unwatched::Stays, client: Client::default(), key: Some(key) };
        Ok(self.accept(request, asking, true).await?.job)
    }

    async fn watch(&self, job: &JobId, after: Option<u64>) -> Result<Viewer, ErrorBody> {
        if let Some(followed) = self.live(job).await? {
            let gateway = Arc::downgrade(&self.0);
            let unwatched = Box::new(move |followed: &Arc<Followed>| {
                let Some(inner) = gateway.upgrade() else { return };
                Gateway(inner).unwatched(followed);
            });
            let backlog_bytes = self.0.config.viewer_backlog_bytes;
            return Ok(Viewer::new(FollowedEvents::new(followed, after, backlog_bytes, unwatched)));
        }
        let kept = self.kept(job).await?;
        let pictures = self.0.connection.results.pictures(kept.attempt);
        Ok(Viewer::new(Replay::new(pictures, job.clone(), kept.events(after))))
    }

    async fn cancel(&self, job: &JobId, token: &OwnerToken) -> Result<(), ErrorBody> {
        let Some(followed) = self.live(job).await? else {
            check_owner(token, &self.kept(job).await?.posted.record.owner)?;
            return Err(ErrorBody::new(
                ErrorCode::Conflict,
                "the job has ended already; a result can be deleted instead",
            ));
        };
        check_owner(token, &followed.posted().record.owner)?;
        self.end(job, JobEvent::Cancelled, false).await
    }

    async fn delete(&self, job: &JobId, token: &OwnerToken) -> Result<(), ErrorBody> {
        if let Some(followed) = self.live(job).await? {
            check_owner(token, &followed.posted().record.owner)?;
            return Err(ErrorBody::new(
                ErrorCode::Conflict,
                "the job has not ended; cancel it first, then delete it",
            ));
        }
        let kept = self.kept(job).await?;
        check_owner(token, &kept.posted.record.owner)?;
        self.0.connection.results.delete(&kept).await?;
        self.0.connection.announce(&Recent::Deleted(job.clone())).await?;
        Ok(())
    }

    async fn view(&self, job: &JobId) -> Result<JobView, ErrorBody> {
        let live = self.live(job).await?.map(|followed| followed.view());
        match live.filter(|view| !view.state.is_final()) {
            Some(view) => Ok(view),
            // What is kept has all of it; it may have ended just now.
            None => Ok(self.kept(job).await?.view()),
        }
    }

    async fn recent(&self, limit: u32, before: Option<&str>) -> Result<ResultPage, ErrorBody> {
        let before = checked_page(limit, before)?;
        let limit = limit as usize;
        let mut found = self.0.recent.before(before, limit + 1);
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|(number, _)| number.to_string());
        let results =
            found.into_iter().map(|(_, view)| view).filter(|view| !view.request.is_private());
        Ok(ResultPage { results: results.collect(), next })
    }

    async fn frame(&self, job: &JobId, seq: u64) -> Result<(MediaType, Bytes), ErrorBody> {
        let missing = || {
            let message = format!("the job {job} has no frame of number {seq}");
            ErrorBody::new(ErrorCode::NotFound, message)
        };
        if let Some(followed) = self.live(job).await? {
            return match followed.picture(|number, _| number == seq) {
                Some(picture) => Ok(picture),
                None => match self.journal().frame(job, seq).await? {
                    Some(wire) => picture_of(&wire),
                    None => Err(missing()),
                },
            };
        }
        let kept = self.kept_picture(job, |number, _| number == seq).await?;
        kept.ok_or_else(missing)
    }

    async fn picture(&self, job: &JobId, picture: u32) -> Result<Bytes, ErrorBody> {
        let missing = || {
            let message = format!("the job {job} has no finished picture {picture}");
            ErrorBody::new(ErrorCode::NotFound, message)
        };
        let wanted = |_: u64, header: &FrameHeader| header.last && header.picture == picture;
        if let Some(followed) = self.live(job).await? {
            return followed.picture(wanted).map(|(_, bytes)| bytes).ok_or_else(missing);
        }
        let kept = self.kept_picture(job, wanted).await?;
        kept.map(|(_, bytes)| bytes).ok_or_else(missing)
    }

    fn check(&self, request: GenerateRequest) -> Result<GenerateRequest, ErrorBody> {
        checked(request, &self.models())
    }

    async fn inspect(
        &self,
        request: GenerateRequest,
        picture: u32,
    ) -> Result<TokenReport, ErrorBody> {
        match self.asked(request, |request| Question::Inspect { request, picture }).await? {
            (Answer::Tokens { report }, _) => Ok(*report),
            _ => Err(other_answer()),
        }
    }

    async fn draw(&self, request: GenerateRequest, picture: u32) -> Result<RgbImage, ErrorBody> {
        match self.asked(request, |request| Question::Draw { request, picture }).await? {
            (Answer::Picture { width, height }, bytes) => ask::picture(width, height, &bytes),
            _ => Err(other_answer()),
        }
    }

    async fn draw_small(
        &self,
        request: GenerateRequest,
    ) -> Result<(FrameHeader, Bytes), ErrorBody> {
        match self.asked(request, |request| Question::DrawSmall { request }).await? {
            (Answer::Small { header }, encoded) => Ok((header, encoded)),
            _ => Err(other_answer()),
        }
    }

    async fn encode(&self, model: &str, picture: RgbImage) -> Result<TokenizedPicture, ErrorBody> {
        let (width, height) = picture.dimensions();
        let question = Question::Encode { model: model.to_owned(), width, height };
        let client = &self.0.connection.client;
        match ask(client, model, &question, picture.as_raw()).await? {
            (Answer::Tokenized { picture }, _) => Ok(*picture),
            _ => Err(other_answer()),
        }
    }

    fn stats(&self) -> Stats {
        let count = |number: &AtomicI64| {
            usize::try_from(number.load(Ordering::Relaxed)).unwrap_or_default()
        };
        let followed = lock(&self.0.followed);
        let live = followed.values().filter_map(Weak::upgrade);
        Stats {
            accepting: !self.0.refusing.load(Ordering::Relaxed),
            queued: count(&self.0.queued),
            queue_limit: count(&self.0.queue_limit),
            running: 0,
            viewers: live.map(|followed| followed.watching()).sum(),
            not_kept: 0,
        }
    }

    fn register_metrics(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("var_dd");
        registry.register(
            "cluster_jobs",
            "Jobs waiting and running in the whole cluster; scale workers by it",
            self.0.queue_length.clone(),
        );
        registry.register("accepted", "Jobs accepted by this gateway", self.0.accepted.clone());
    }

    async fn can_keep(&self) -> Result<(), ErrorBody> {
        if self.0.connection.client.connection_state() != State::Connected {
            return Err(ClusterError::Broker("it is not connected".into()).into());
        }
        let probe = format!("gateway-{}", new_id()?);
        Ok(self.0.connection.results.probe(&probe).await?)
    }

    async fn drain(&self, _limit: Duration) {
        // What runs, runs elsewhere.
        self.0.refusing.store(true, Ordering::Relaxed);
    }

    async fn shutdown(&self) {
        self.0.refusing.store(true, Ordering::Relaxed);
        for task in lock(&self.0.tasks).drain(..) {
            task.abort();
        }
        let all: Vec<_> = lock(&self.0.followed).drain().collect();
        for followed in all.iter().filter_map(|(_, followed)| followed.upgrade()) {
            followed.close();
        }
        // Whoever reconnects does so elsewhere; what was sent has been answered.
        let _ = self.0.connection.client.flush().await;
    }
}

impl Gateway {
    /// The last viewer here of a job has gone.
    fn unwatched(&self, followed: &Arc<Followed>) {
        if followed.posted().record.stays || !followed.is_waiting() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (gateway, job) = (self.clone(), followed.posted().record.id.clone());
        runtime.spawn(async move {
            tokio::time::sleep(gateway.0.config.unwatched_grace).await;
            let again = lock(&gateway.0.followed).get(&job).and_then(Weak::upgrade);
            if again.is_none_or(|followed| followed.watching() == 0) {
                gateway.expire(&job).await;
            }
        });
    }
}
