//! The device with its queue: jobs in, events and ends out, questions answered between. Where jobs
//! come from and where their ends are kept is the caller's.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use image::RgbImage;
use prometheus_client::registry::Registry;
use var_dd_protocol::{
    ErrorBody, FrameHeader, GenerateRequest, JobId, MediaType, ModelInfo, Pass, TokenReport,
    TokenizedPicture,
};

use super::{
    SchedulerConfig, StartError,
    clock::milliseconds,
    dispatch::{self, Device},
    encode,
    job::ValidJob,
    live::{self, LiveJob, internal},
    state::Shared,
    viewer::Live,
};
use crate::{
    generator::{Encoding, Generator, finished_picture},
    jobs::{Client, Stats, Viewer, find_model},
    storage::{Ends, JobRecord},
};

/// A small picture of a question: what it shows, and the encoded picture.
type Shown = (FrameHeader, Bytes);

/// Draws jobs in batches, tells their viewers, hands their ends over. A cheap handle.
#[derive(Clone, Debug)]
pub struct Drawing(pub(super) Arc<Shared>);

impl Drawing {
    /// What the models can do, before the device thread begins; jobs may be added.
    ///
    /// # Errors
    /// When there is no model, or two have one name.
    pub(super) fn new(
        config: SchedulerConfig,
        ends: Arc<dyn Ends>,
        generators: &[Box<dyn Generator>],
    ) -> Result<Self, StartError> {
        let models: Arc<[ModelInfo]> =
            generators.iter().map(|generator| generator.info().clone()).collect();
        if models.is_empty() {
            return Err(StartError::NoModel);
        }
        for (at, info) in models.iter().enumerate() {
            if models[..at].iter().any(|other| other.name == info.name) {
                return Err(StartError::SameName(info.name.clone()));
            }
        }
        Ok(Self(Arc::new(Shared::new(config, models, ends))))
    }

    /// Starts the device thread; back when the models are prepared.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) async fn begin(
        &self,
        generators: Vec<Box<dyn Generator>>,
    ) -> Result<(), StartError> {
        let device = Device::start(&self.0, generators).await?;
        tokio::spawn(dispatch::run(self.0.clone(), device));
        Ok(())
    }

    /// Starts the device thread. The ends of all jobs go to `ends`.
    ///
    /// # Errors
    /// When there is no model, two have one name, or the system gives no thread.
    pub async fn start(
        config: SchedulerConfig,
        ends: Arc<dyn Ends>,
        generators: Vec<Box<dyn Generator>>,
    ) -> Result<Self, StartError> {
        let drawing = Self::new(config, ends, &generators)?;
        drawing.begin(generators).await?;
        Ok(drawing)
    }

    /// The loaded models; the first one is the default.
    pub fn models(&self) -> &Arc<[ModelInfo]> {
        &self.0.models
    }

    /// Lets a job that is kept elsewhere wait for the device, in its `attempt`th run (from 0), and
    /// watches it. The viewer should be read at once: the job waits for nobody.
    ///
    /// # Errors
    /// When the loaded models cannot draw it.
    pub fn enqueue(
        &self,
        record: JobRecord,
        number: i64,
        attempt: u32,
    ) -> Result<Viewer, ErrorBody> {
        let valid = ValidJob::new(record.request.clone(), &self.0.models)?;
        let client = Client::default();
        let job = Arc::new(LiveJob::new(valid, record, number, attempt, client));
        job.set_kept(Some(number));
        self.0.enqueue(&job);
        self.0.live_for_viewer(&job.record.id);
        Ok(Viewer::new(Live::new(self.0.clone(), job, None)))
    }

    /// Draws no more of a job and ends its viewers without a word: it is another's now.
    pub fn forget(&self, job: &JobId) {
        self.0.forget(job);
    }

    /// Every token of one picture of a request; nothing is kept of it.
    ///
    /// # Errors
    /// When the request is not valid for the loaded models, or the device cannot.
    pub async fn tokens(
        &self,
        request: GenerateRequest,
        picture: u32,
    ) -> Result<TokenReport, ErrorBody> {
        let ValidJob { model, request, .. } = ValidJob::new(request, &self.0.models)?;
        let inspect = move |generator: &dyn Generator| generator.inspect(&request, picture);
        self.0.questions.ask(model, inspect).await
    }

    /// One finished picture of a request; nothing is kept of it. Whoever stops waiting takes the
    /// request back, unless the device has it.
    ///
    /// # Errors
    /// When the request is not valid for the loaded models, too many questions wait, or the device
    /// cannot.
    pub async fn picture(
        &self,
        request: GenerateRequest,
        picture: u32,
    ) -> Result<RgbImage, ErrorBody> {
        let ValidJob { model, request, .. } = ValidJob::new(request, &self.0.models)?;
        let draw = move |generator: &dyn Generator| finished_picture(generator, request, picture);
        self.0.questions.ask(model, draw).await
    }

    /// The first finished picture of a request, encoded small.
    ///
    /// # Errors
    /// As [`Drawing::picture`].
    pub async fn preview(&self, request: GenerateRequest) -> Result<Shown, ErrorBody> {
        let asked_ms = self.0.clock.now_ms();
        let valid = ValidJob::new(request, &self.0.models)?;
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

    /// A picture of the side that the model of this name has, as tokens; nothing is kept of it.
    ///
    /// # Errors
    /// When there is no such model, too many questions wait, or the device cannot.
    pub async fn encode(
        &self,
        model: &str,
        picture: RgbImage,
    ) -> Result<TokenizedPicture, ErrorBody> {
        let (index, info) = find_model(Some(model), &self.0.models)?;
        let model = info.name.clone();
        let ask = move |generator: &dyn Generator| generator.encode(&picture);
        let Encoding { codes, frames } = self.0.questions.ask(index, ask).await?;
        let mut addresses = Vec::with_capacity(frames.len());
        for frame in frames {
            let encoded = self.encoded(frame).await?;
            addresses.push(data_url(encoded.media_type, &encoded.bytes));
        }
        Ok(TokenizedPicture { model, codes, frames: addresses })
    }

    /// Encodes a picture on a thread for it.
    async fn encoded(&self, picture: RgbImage) -> Result<live::EncodedPicture, ErrorBody> {
        let _permit = self.0.encoders.acquire().await;
        tokio::task::spawn_blocking(move || encode::encode(&picture, false))
            .await
            .map_err(|error| internal(format!("encoding a picture failed: {error}")))?
            .map_err(|error| internal(format!("a picture cannot be encoded: {error}")))
    }

    /// What is drawn and waits, at this moment.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Adds the metrics, named `var_dd_…`, to those of the server.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// Lets nothing begin any more and waits, at most for `limit`, until what has begun has ended.
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

    /// Stops the running batch at a pass, ends every viewer, and closes what keeps the ends.
    /// Returns when everything is at rest; a second call waits for the first.
    pub async fn shutdown(&self) {
        self.0.close();
        // The sender is ours.
        let _ = self.0.closed.subscribe().wait_for(|closed| *closed).await;
    }
}

fn data_url(media_type: MediaType, bytes: &[u8]) -> String {
    format!("data:{};base64,{}", media_type.as_str(), BASE64_STANDARD.encode(bytes))
}
