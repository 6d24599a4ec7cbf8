//! What the network side asks of whatever runs jobs: this program, or many machines.
//!
//! ```text
//! http ──► dyn Jobs ◄── scheduler::Scheduler   queue, device and results in this program
//!                   ◄── cluster::Gateway       queue and results elsewhere, workers draw
//! ```

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use image::RgbImage;
use prometheus_client::registry::Registry;
use var_dd_protocol::{
    ErrorBody, ErrorCode, Explore, FrameHeader, GenerateRequest, JobEvent, JobId, JobState,
    JobView, MediaType, ModelInfo, OwnerToken, Parent, PictureParameters, ResultPage, TokenReport,
    TokenizedPicture, WalkRequest,
};

/// Most results on a page.
const MAX_PAGE: u32 = 100;

/// What becomes of a job that nobody watches while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwatched {
    /// It expires after the grace time: for jobs of a connection.
    Expires,
    /// It stays: for jobs whose result is fetched later.
    Stays,
}

/// Who asked for a job. Jobs of one client wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Client {
    /// Where it is; `None` for the server's own jobs, and for those of an earlier run.
    pub address: Option<IpAddr>,
    /// Which conversation of the address; 0 for requests without one.
    pub conversation: u64,
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
    /// The owner's secret; told only here and again under the same key.
    pub owner_token: OwnerToken,
    /// The request with model and seed filled in.
    pub request: GenerateRequest,
}

/// Those who run jobs, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Whether jobs are accepted: false once they drain or shut down.
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
    /// A picture that was kept and cannot be read any more. Nothing comes after it.
    Lost {
        /// Sequence number among the job's events.
        seq: u64,
        /// Why.
        error: ErrorBody,
    },
}

impl fmt::Debug for ViewerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control { seq, event } => write!(f, "{seq}: {event:?}"),
            Self::Frame { seq, last, bytes } => {
                write!(f, "{seq}: Frame(last: {last}, {} bytes)", bytes.len())
            }
            Self::Lost { seq, error } => write!(f, "{seq}: Lost({error})"),
        }
    }
}

impl ViewerEvent {
    /// Sequence number among the job's events.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Control { seq, .. } | Self::Frame { seq, .. } | Self::Lost { seq, .. } => *seq,
        }
    }
}

/// Where the events of one job come from, for one viewer.
#[async_trait]
pub trait Events: fmt::Debug + Send {
    /// The next event; `None` after the last one. Cancel safe.
    async fn next(&mut self) -> Option<ViewerEvent>;
}

/// One viewer of one job. Counts as watching until dropped.
///
/// Sequence numbers increase. A gap is a position in the queue that was superseded, or an
/// intermediate frame that a slow viewer was spared. After a restart of what draws it an unfinished
/// job starts over, with numbers above all that it had: first `queued`, then everything from
/// `started` on.
#[derive(Debug)]
pub struct Viewer(Box<dyn Events>);

impl Viewer {
    /// A viewer of these events.
    pub fn new(events: impl Events + 'static) -> Self {
        Self(Box::new(events))
    }

    /// The next event. `None` after the final event, or when the server shuts down before it.
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<ViewerEvent> {
        self.0.next().await
    }
}

/// Takes jobs, has them drawn, tells their viewers, keeps their results.
#[async_trait]
pub trait Jobs: fmt::Debug + Send + Sync {
    /// The models that can be asked for; the first one is the default.
    fn models(&self) -> Arc<[ModelInfo]>;

    /// A finished result of the default model to show before the first click.
    fn example(&self) -> Option<JobId>;

    /// Accepts a job of a client, or finds the one that there is if the client asked before. It is
    /// kept on return and will be drawn whatever happens to this program.
    ///
    /// # Errors
    /// When a value is out of bounds, the queue is full, the server shuts down, the job cannot be
    /// kept, or something else was asked for under the same key.
    async fn submit_as(
        &self,
        request: GenerateRequest,
        asking: Asking,
    ) -> Result<Accepted, ErrorBody>;

    /// Accepts a job of the server itself, whose result becomes the [`Jobs::example`].
    ///
    /// # Errors
    /// As [`Jobs::submit_as`].
    async fn submit_example(&self, request: GenerateRequest) -> Result<JobId, ErrorBody>;

    /// Watches a job, live or replayed from what is kept, from the event after `after` on (all if
    /// `None`).
    ///
    /// # Errors
    /// When there is no such job.
    async fn watch(&self, job: &JobId, after: Option<u64>) -> Result<Viewer, ErrorBody>;

    /// Stops a job.
    ///
    /// # Errors
    /// When there is no such job, the token is not its owner's, or it has ended.
    async fn cancel(&self, job: &JobId, token: &OwnerToken) -> Result<(), ErrorBody>;

    /// Deletes a result with its pictures.
    ///
    /// # Errors
    /// When there is no such job, the token is not its owner's, or it has not ended.
    async fn delete(&self, job: &JobId, token: &OwnerToken) -> Result<(), ErrorBody>;

    /// A job or result as a whole.
    ///
    /// # Errors
    /// When there is no such job.
    async fn view(&self, job: &JobId) -> Result<JobView, ErrorBody>;

    /// Finished results, the newest first: at most `limit` (from 1 to 100) of those before
    /// the cursor `before`, which is the `next` of an earlier page. Those that descend from a
    /// picture of somebody's own are left out.
    ///
    /// # Errors
    /// When the limit is out of its bounds, or the cursor is not one.
    async fn recent(&self, limit: u32, before: Option<&str>) -> Result<ResultPage, ErrorBody>;

    /// The encoded picture of one frame, by its sequence number.
    ///
    /// # Errors
    /// When there is no such frame.
    async fn frame(&self, job: &JobId, seq: u64) -> Result<(MediaType, Bytes), ErrorBody>;

    /// The finished picture of an index, as PNG.
    ///
    /// # Errors
    /// When there is no such picture (yet).
    async fn picture(&self, job: &JobId, picture: u32) -> Result<Bytes, ErrorBody>;

    /// A request as one of the models runs it: model and seed filled in, every value within bounds.
    ///
    /// # Errors
    /// The first value that is out of bounds, with the bound.
    fn check(&self, request: GenerateRequest) -> Result<GenerateRequest, ErrorBody>;

    /// Every token of one picture of a request whose parents are written into it; nothing is kept
    /// of it.
    ///
    /// # Errors
    /// When a value is out of bounds, too many questions wait, or the device cannot.
    async fn inspect(
        &self,
        request: GenerateRequest,
        picture: u32,
    ) -> Result<TokenReport, ErrorBody>;

    /// One finished picture of a request whose parents are written into it; nothing is kept of it.
    /// Whoever stops waiting takes the request back, unless the device has it.
    ///
    /// # Errors
    /// As [`Jobs::inspect`].
    async fn draw(&self, request: GenerateRequest, picture: u32) -> Result<RgbImage, ErrorBody>;

    /// The first finished picture of such a request, encoded small.
    ///
    /// # Errors
    /// As [`Jobs::inspect`].
    async fn draw_small(&self, request: GenerateRequest)
    -> Result<(FrameHeader, Bytes), ErrorBody>;

    /// A picture of one's own, of the side that the model of this name has, as tokens; nothing is
    /// kept of it.
    ///
    /// # Errors
    /// When there is no such model, too many questions wait, or the device cannot.
    async fn encode(&self, model: &str, picture: RgbImage) -> Result<TokenizedPicture, ErrorBody>;

    /// Those who run jobs, at this moment.
    fn stats(&self) -> Stats;

    /// Adds their metrics, named `var_dd_…`, to those of the server.
    fn register_metrics(&self, registry: &mut Registry);

    /// Checks that something can be kept, and that no end of a job waits for that.
    ///
    /// # Errors
    /// Why not.
    async fn can_keep(&self) -> Result<(), ErrorBody>;

    /// Takes no more jobs and waits, at most for `limit`, until those that have begun here have
    /// ended.
    async fn drain(&self, limit: Duration);

    /// Ends every viewer and comes to rest. A second call waits for the first.
    async fn shutdown(&self);

    /// A model by its name, the first one if `None`.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownModel`].
    fn model(&self, name: Option<&str>) -> Result<ModelInfo, ErrorBody> {
        find_model(name, &self.models()).map(|(_, info)| info.clone())
    }

    /// Writes into a request what drew its parents.
    ///
    /// # Errors
    /// When a parent is not there or not finished.
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

    /// Every token of one picture of a job, drawn anew; nothing is kept of it.
    ///
    /// # Errors
    /// When there is no such job or picture, its model is not there, or the device cannot.
    async fn tokens(&self, job: &JobId, picture: u32) -> Result<TokenReport, ErrorBody> {
        let view = self.view(job).await?;
        if picture >= view.request.count {
            let last = view.request.count.saturating_sub(1);
            let message =
                format!("the job {job} has no picture {picture}; its pictures go from 0 to {last}");
            return Err(ErrorBody::new(ErrorCode::NotFound, message));
        }
        self.inspect(view.request, picture).await
    }

    /// A picture of a request that was drawn before, drawn again; nothing is kept of it.
    ///
    /// # Errors
    /// When a value is out of bounds, its model is not there, too many questions wait, or the
    /// device cannot.
    async fn draw_again(&self, kept: PictureParameters) -> Result<RgbImage, ErrorBody> {
        self.draw(self.with_parents(kept.request).await?, kept.picture).await
    }

    /// The finished picture of a request, encoded small; nothing is kept of it. Whoever stops
    /// waiting takes the request back, unless the device has it.
    ///
    /// # Errors
    /// When a value is out of bounds, too many questions wait, or the device cannot.
    async fn preview(&self, request: GenerateRequest) -> Result<(FrameHeader, Bytes), ErrorBody> {
        self.draw_small(self.with_parents(request).await?).await
    }

    /// The pictures of a walk, one after the other, each with a turn of its own at the device; and
    /// the request of the first one, model and seed filled in. Nothing is kept of them. Whoever
    /// stops waiting takes those back that the device does not have.
    ///
    /// # Errors
    /// When a value is out of bounds, too many questions wait, or the device cannot.
    async fn walk(
        &self,
        walk: &WalkRequest,
    ) -> Result<(GenerateRequest, Vec<RgbImage>), ErrorBody> {
        let requests = walk.requests()?;
        // What drew the parents, and the seed, are the same for all: they are looked up once.
        let first = requests.first().cloned().unwrap_or_else(|| walk.request.clone());
        let first = self.with_parents(first).await.map_err(|error| of_walk(error, 0))?;
        let first = self.check(first).map_err(|error| of_walk(error, 0))?;
        let mut valid = Vec::with_capacity(requests.len());
        for (at, request) in requests.into_iter().enumerate() {
            let blend = request.explore.map(|explore| explore.blend).unwrap_or_default();
            let explore = *first.explore.clone().unwrap_or_default();
            let explore = Some(Box::new(Explore { blend, ..explore }));
            let request = GenerateRequest { explore, ..first.clone() };
            valid.push(self.check(request).map_err(|error| of_walk(error, at))?);
        }
        let mut pictures = Vec::with_capacity(valid.len());
        for request in valid {
            pictures.push(self.draw(request, 0).await?);
        }
        Ok((first, pictures))
    }
}

/// The model of this name, the first one if there is none, and its index.
///
/// # Errors
/// [`ErrorCode::UnknownModel`].
pub fn find_model<'a>(
    name: Option<&str>,
    models: &'a [ModelInfo],
) -> Result<(usize, &'a ModelInfo), ErrorBody> {
    let found = match name {
        None => models.first().map(|info| (0, info)),
        Some(name) => models.iter().enumerate().find(|(_, info)| info.name == name),
    };
    found.ok_or_else(|| {
        let names: Vec<_> = models.iter().map(|info| format!("{:?}", info.name)).collect();
        // A client's text is repeated only as far as it could be a name.
        let name: String = name.unwrap_or_default().chars().take(80).collect();
        let message = format!("no model named {name:?} is loaded; there are {}", names.join(", "));
        ErrorBody::new(ErrorCode::UnknownModel, message)
    })
}

/// The bounds of a page of results: `limit` checked, and the cursor `before` read.
///
/// # Errors
/// When the limit is out of its bounds, or the cursor is not one.
pub(crate) fn checked_page<T: FromStr>(
    limit: u32,
    before: Option<&str>,
) -> Result<Option<T>, ErrorBody> {
    let malformed = |message| ErrorBody::new(ErrorCode::MalformedBody, message);
    let read = |before: &str| {
        before.parse().map_err(|_| {
            let before: String = before.chars().take(40).collect();
            malformed(format!("before is {before:?}; it must be the `next` of an earlier page"))
        })
    };
    let before = before.map(read).transpose()?;
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(malformed(format!("limit is {limit}; it goes from 1 to {MAX_PAGE}")));
    }
    Ok(before)
}

/// The error of a key under which `job` was asked for with another request.
pub(crate) fn key_reused(job: &JobId) -> ErrorBody {
    let message = format!(
        "another job, {job}, was asked for under this key with another request; take a new key"
    );
    ErrorBody::new(ErrorCode::KeyReused, message)
}

/// The error of a job that is not there.
pub(crate) fn not_found(job: &JobId) -> ErrorBody {
    let message = format!("there is no job or result named {job}; it may have been deleted");
    ErrorBody::new(ErrorCode::NotFound, message)
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
