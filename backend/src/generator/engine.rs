//! The engine as a [`Generator`].

use std::{
    cell::RefCell,
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use image::RgbImage;
use tch::{Device, Kind, Tensor};
use var_dd_engine::{
    bundle::{Bundle, BundleError},
    device::{self, DtypeChoice},
    failure::{self, Failure},
    ops::Ops,
    sample::{
        Batch, Event, Frames, SampleError, Sampler,
        explore::Course,
        noise::{self, PictureSeed},
        to_rgb8,
    },
};
use var_dd_protocol::{GenerateRequest, ModelInfo, Plan, PlanPreset, TokenReport};

use super::{
    BatchRequest, Encoding, Generator, GeneratorError, GeneratorEvent, PictureRequest, Sink,
    explore::{ExploreError, Explorer, as_tensor},
};

/// A model on a device.
pub struct Engine {
    sampler: Sampler,
    info: ModelInfo,
    /// Borrowed for moments only: batches may run between the passes of others.
    explorer: RefCell<Explorer>,
}

impl Engine {
    /// Loads the bundle in `directory` to the device of `ops`.
    ///
    /// # Errors
    /// When the directory holds no bundle, or a file of it cannot be read or is not the network's.
    pub fn load(directory: &Path, ops: &Ops, dtype: DtypeChoice) -> Result<Self, BundleError> {
        let bundle = Bundle::open(directory)?;
        let kind = dtype.kind_for(ops.device(), &bundle.config);
        Ok(Self::of(bundle.sampler(ops, kind)?, kind))
    }

    /// Networks at hand, in numbers of `kind`.
    pub fn of(sampler: Sampler, kind: Kind) -> Self {
        Self { info: describe(&sampler, kind), sampler, explorer: RefCell::default() }
    }

    /// The device that the networks are on.
    pub fn device(&self) -> Device {
        self.sampler.device
    }

    /// Captured graphs that are in use.
    pub fn graphs(&self) -> usize {
        self.sampler.graphs.in_use()
    }

    /// The final pictures of a batch that starts from `noise`, f32 `[B, N, Cv]` (none if the
    /// teacher draws alone), without decoding any other scale.
    ///
    /// # Errors
    /// When the device cannot.
    pub fn final_pictures(
        &self,
        request: &BatchRequest,
        noise: Option<Tensor>,
    ) -> Result<Vec<RgbImage>, GeneratorError> {
        guarded(request.pictures.len(), || {
            self.finish(request, &Start::on(noise, request)).map(|timed| timed.pictures)
        })
    }

    /// The same, with noise of the pictures' seeds, and where the time went.
    ///
    /// # Errors
    /// When the device cannot.
    pub fn timed_final_pictures(
        &self,
        request: &BatchRequest,
    ) -> Result<TimedPictures, GeneratorError> {
        guarded(request.pictures.len(), || self.finish(request, &Start::of(request, &self.sampler)))
    }

    fn finish(&self, request: &BatchRequest, start: &Start) -> Result<TimedPictures, SampleError> {
        let side = self.sampler.config.image_size() as u32;
        let mut timed = TimedPictures { pictures: Vec::new(), transformer_ms: 0.0, decode_ms: 0.0 };
        let mut failure = None;
        let mut take = |event: Event<'_>| {
            match event {
                Event::PassBegan { .. } => {}
                Event::PassEnded { transformer, .. } => {
                    timed.transformer_ms += transformer.as_secs_f64() * 1e3
                }
                Event::Decoded { pictures, decode, .. } => {
                    let began = Instant::now();
                    match to_rgb8(pictures) {
                        Ok(bytes) => timed.pictures = rgb_images(bytes, side),
                        Err(error) => failure = Some(error),
                    }
                    timed.decode_ms = (decode + began.elapsed()).as_secs_f64() * 1e3;
                }
            }
            ControlFlow::Continue(())
        };
        self.sampler.run(&request.plan, &start.batch(), Frames::Last, &mut take)?;
        failure.map_or(Ok(timed), Err)
    }
}

/// Final pictures, and where their time went.
#[derive(Debug)]
pub struct TimedPictures {
    /// In the order of the batch.
    pub pictures: Vec<RgbImage>,
    /// Milliseconds in the transformer.
    pub transformer_ms: f64,
    /// Milliseconds in the decoder, and until the pictures are in main memory.
    pub decode_ms: f64,
}

/// What people are told of a model.
fn describe(sampler: &Sampler, kind: Kind) -> ModelInfo {
    let config = &sampler.config;
    let runs = |preset: &&PlanPreset| sampler.teacher.is_some() || !preset.plan.needs_teacher();
    ModelInfo {
        name: config.name.clone(),
        image_size: config.image_size() as u32,
        patch_nums: config.patch_nums.iter().map(|&side| side as u32).collect(),
        classes: config.classes.clone(),
        plans: config.plans.iter().filter(runs).cloned().collect(),
        has_teacher: sampler.teacher.is_some(),
        depth: config.transformer.depth as u32,
        vocabulary: config.vocabulary as u32,
        parameters: sampler.parameters,
        device: device::device_name(sampler.device),
        dtype: device::kind_name(kind).into(),
    }
}

/// How long models are prepared: a first picture that is waited for is better than a server that
/// is.
const MOST_PREPARATION: Duration = Duration::from_secs(60);

/// The same on a CPU, where only memory and small plans of libtorch's are prepared.
const MOST_PREPARATION_ON_CPU: Duration = Duration::from_secs(2);

/// Runs of a piece of work until a GPU does it as a graph: it is seen, captured and checked.
const RUNS_UNTIL_CAPTURED: u32 = 3;

impl Generator for Engine {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Draws by each plan that is offered, once on a CPU; on a GPU in batches of every size, until
    /// all that can be is captured and tried.
    fn prepare(&mut self, max_batch: u32) {
        let (began, model) = (Instant::now(), self.info.name.clone());
        let on_gpu = self.sampler.device.is_cuda();
        let (sizes, runs, most) = if on_gpu {
            (1..=max_batch, RUNS_UNTIL_CAPTURED, MOST_PREPARATION)
        } else {
            (1..=1, 1, MOST_PREPARATION_ON_CPU)
        };
        let runs_here = |plan: &Plan| self.sampler.teacher.is_some() || !plan.needs_teacher();
        let plans: Vec<_> = self
            .sampler
            .config
            .plans
            .iter()
            .map(|preset| preset.plan.clone())
            .filter(runs_here)
            .collect();
        let all = plans.len() * sizes.clone().count();
        let work = sizes.flat_map(|size| plans.iter().map(move |plan| (size, plan)));
        for (done, (size, plan)) in work.enumerate() {
            let picture = |index| PictureRequest { class: 0, seed: 0, index };
            let batch = BatchRequest {
                plan: plan.clone(),
                explore: None,
                frames: Frames::InOrder,
                pictures: (0..size).map(picture).collect(),
            };
            for _ in 0..runs {
                if began.elapsed() > most {
                    tracing::info!(
                        model,
                        done,
                        of = all,
                        "the rest is prepared as it is asked for"
                    );
                    return;
                }
                if let Err(error) = self.generate(&batch, &mut |_| ControlFlow::Continue(())) {
                    tracing::warn!(
                        model,
                        pictures = size,
                        %error,
                        "no larger batches are prepared"
                    );
                    return;
                }
            }
            if on_gpu {
                tracing::info!(model, done = done + 1, of = all, pictures = size, "preparing");
            }
        }
        tracing::info!(model, took_ms = began.elapsed().as_millis() as u64, "prepared");
    }

    fn generate(&self, batch: &BatchRequest, sink: &mut Sink<'_>) -> Result<(), GeneratorError> {
        let sampler = &self.sampler;
        guarded(batch.pictures.len(), || match &batch.explore {
            None => {
                let start = Start::of(batch, sampler);
                draw(sampler, &Course::Plan(&batch.plan), &start.batch(), batch.frames, sink)
            }
            Some(explore) => {
                let mut explorer = self.explorer.borrow_mut();
                let ready = explorer.prepare(sampler, &batch.plan, explore, &batch.pictures)?;
                // Another batch may run between two passes of this one.
                drop(explorer);
                draw(sampler, &ready.course(), &ready.batch(), batch.frames, sink)
            }
        })
    }

    fn inspect(
        &self,
        request: &GenerateRequest,
        picture: u32,
    ) -> Result<TokenReport, GeneratorError> {
        guarded(1, || self.explorer.borrow_mut().inspect(&self.sampler, request, picture))
    }

    fn encode(&self, picture: &RgbImage) -> Result<Encoding, GeneratorError> {
        guarded(1, || encode(&self.sampler, picture))
    }
}

/// Does work that the device may fail at.
fn guarded<T, E: Into<ExploreError>>(
    pictures: usize,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, GeneratorError> {
    // The networks hold no state that a failure could spoil.
    let failure = match failure::catch(|| work().map_err(Into::into)) {
        Ok(Ok(outcome)) => return Ok(outcome),
        Ok(Err(ExploreError::Sample(SampleError::Device(error)))) => Failure::from(error),
        Ok(Err(error)) => return Err(GeneratorError::Failed(error.to_string())),
        Err(failure) => failure,
    };
    Err(match failure {
        Failure::OutOfMemory(reason) => GeneratorError::OutOfMemory { pictures, reason },
        Failure::Other(reason) => GeneratorError::Failed(reason),
    })
}

/// What a batch starts from.
struct Start {
    labels: Tensor,
    noise: Option<Tensor>,
    seeds: Vec<PictureSeed>,
}

impl Start {
    fn of(request: &BatchRequest, sampler: &Sampler) -> Self {
        let noise = request.plan.needs_noise().then(|| {
            noise::noise(&seeds(request), sampler.config.tokens(), sampler.config.latent_channels)
        });
        Self::on(noise, request)
    }

    fn on(noise: Option<Tensor>, request: &BatchRequest) -> Self {
        let labels: Vec<i64> =
            request.pictures.iter().map(|picture| picture.class.into()).collect();
        Self { labels: Tensor::from_slice(&labels), noise, seeds: seeds(request) }
    }

    fn batch(&self) -> Batch<'_> {
        Batch { labels: &self.labels, noise: self.noise.as_ref(), seeds: &self.seeds }
    }
}

/// Seeds of a batch.
pub fn seeds(request: &BatchRequest) -> Vec<PictureSeed> {
    let seed =
        |picture: &PictureRequest| PictureSeed { seed: picture.seed, index: picture.index.into() };
    request.pictures.iter().map(seed).collect()
}

/// Pictures of bytes row by row.
fn rgb_images(bytes: Vec<Vec<u8>>, side: u32) -> Vec<RgbImage> {
    bytes.into_iter().filter_map(|bytes| RgbImage::from_raw(side, side, bytes)).collect()
}

fn draw(
    sampler: &Sampler,
    course: &Course,
    batch: &Batch,
    frames: Frames,
    sink: &mut Sink<'_>,
) -> Result<(), ExploreError> {
    let side = sampler.config.image_size() as u32;
    let mut failure = None;
    let mut forward = |event: Event<'_>| {
        let event = match event {
            Event::PassBegan { pass, passes, of } => GeneratorEvent::PassBegan { pass, passes, of },
            Event::PassEnded { pass, transformer, .. } => {
                GeneratorEvent::PassEnded { pass, transformer_ms: transformer.as_secs_f64() * 1e3 }
            }
            Event::Decoded { pass, scale, pictures, decode } => match to_rgb8(pictures) {
                Ok(pictures) => GeneratorEvent::Decoded {
                    pass,
                    scale,
                    pictures: rgb_images(pictures, side),
                    decode_ms: decode.as_secs_f64() * 1e3,
                },
                Err(error) => {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
            },
        };
        sink(event)
    };
    sampler.follow(course, batch, frames, &mut forward)?;
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// Tokens of a picture, and the picture up to each scale.
fn encode(sampler: &Sampler, picture: &RgbImage) -> Result<Encoding, ExploreError> {
    let codes = sampler.encode(&as_tensor(picture))?.codes;
    let tokens = sampler.tokens_of(&codes)?;
    let side = sampler.config.image_size() as u32;
    let mut frames = Vec::new();
    let mut failure = None;
    let labels = Tensor::from_slice(&[0i64]);
    let batch = Batch { labels: &labels, noise: None, seeds: &[] };
    let course = Course::Shown { tokens: &tokens, gains: None };
    sampler.follow(&course, &batch, Frames::InOrder, &mut |event| {
        if let Event::Decoded { pictures, .. } = event {
            match to_rgb8(pictures) {
                Ok(bytes) => frames.extend(rgb_images(bytes, side)),
                Err(error) => failure = Some(error),
            }
        }
        ControlFlow::Continue(())
    })?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    let codes = Vec::<i64>::try_from(codes.to_device(Device::Cpu).view([-1]))?;
    Ok(Encoding { codes: codes.iter().map(|&code| code as u32).collect(), frames })
}
