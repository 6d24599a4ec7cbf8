//! The seam between product and engine: whatever can draw a batch of pictures.
//!
//! The scheduler, the storage and the HTTP interface know this trait only; `commands/` gives them
//! the engine, tests a stand-in that needs no network weights.

pub mod engine;
pub(crate) mod explore;
#[doc(hidden)]
pub mod fake;

use std::{ops::ControlFlow, sync::Arc};

use image::RgbImage;
use var_dd_engine::sample::Frames;
use var_dd_protocol::{Explore, GenerateRequest, ModelInfo, Pass, Plan, TokenReport};

/// One picture of a batch. Its noise and draws depend on these numbers alone (and the plan and
/// model).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureRequest {
    /// Class number, below the model's number of classes.
    pub class: u32,
    /// Seed of the job.
    pub seed: u64,
    /// Index of the picture in its job.
    pub index: u32,
}

/// Pictures that run together: same model, same plan.
#[derive(Clone, Debug)]
pub struct BatchRequest {
    /// Valid for the model.
    pub plan: Plan,
    /// What the pictures go on from or lie between, if anything; valid for the model, parents
    /// filled in.
    pub explore: Option<Arc<Explore>>,
    /// Which scales are decoded, and when.
    pub frames: Frames,
    /// At least one.
    pub pictures: Vec<PictureRequest>,
}

/// What happens while a batch is drawn, in order.
#[derive(Debug)]
pub enum GeneratorEvent {
    /// A pass begins.
    PassBegan {
        /// Pass, from 0.
        pass: usize,
        /// Passes in all.
        passes: usize,
        /// What it draws.
        of: Pass,
    },
    /// The network of the pass ran to its end. Earlier scales of the pass may be decoded by then;
    /// its last one never is. With [`Frames::LastFirst`] all scales are decoded after the last
    /// pass, the finished picture before the others.
    PassEnded {
        /// Pass, from 0.
        pass: usize,
        /// Milliseconds in the transformer.
        transformer_ms: f64,
    },
    /// A scale is decoded.
    Decoded {
        /// Pass, from 0.
        pass: usize,
        /// Scale, from 0.
        scale: usize,
        /// Pictures in the order of the batch.
        pictures: Vec<RgbImage>,
        /// Milliseconds in the decoder since the last event.
        decode_ms: f64,
    },
}

/// Why a batch could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum GeneratorError {
    /// The device has no memory left for a batch of this size; a smaller one may pass.
    #[error("the device ran out of memory on a batch of {pictures} pictures: {reason}")]
    OutOfMemory {
        /// Size of the batch.
        pictures: usize,
        /// What the device said.
        reason: String,
    },
    /// Anything else.
    #[error("drawing failed: {0}")]
    Failed(String),
}

/// A picture as tokens.
#[derive(Debug)]
pub struct Encoding {
    /// Numbers of the codewords of all tokens, scale by scale and row by row.
    pub codes: Vec<u32>,
    /// The picture up to each scale.
    pub frames: Vec<RgbImage>,
}

/// Receives the events of a batch; `Break` stops it within one pass.
pub type Sink<'a> = dyn FnMut(GeneratorEvent) -> ControlFlow<()> + 'a;

/// Draws batches of pictures with one model. Lives on the thread that owns the device.
pub trait Generator: Send {
    /// What it offers.
    fn info(&self) -> &ModelInfo;

    /// Does beforehand what the first pictures would wait for, with up to `max_batch` pictures at
    /// once; called once, on the thread that then draws. The log tells how far it is.
    fn prepare(&mut self, _max_batch: u32) {}

    /// Draws a batch. Returns early with `Ok` when the sink says stop. The sink may draw another
    /// batch, with this generator too, before it lets a pass begin.
    ///
    /// # Errors
    /// When the device cannot.
    fn generate(&self, batch: &BatchRequest, sink: &mut Sink<'_>) -> Result<(), GeneratorError>;

    /// Every token of one picture of a valid request, drawn anew.
    ///
    /// # Errors
    /// When the device cannot.
    fn inspect(
        &self,
        _request: &GenerateRequest,
        _picture: u32,
    ) -> Result<TokenReport, GeneratorError> {
        Err(GeneratorError::Failed("this generator does not tell its tokens".into()))
    }

    /// Tokens of a picture of the model's side, and what each scale adds to it.
    ///
    /// # Errors
    /// When the device cannot.
    fn encode(&self, _picture: &RgbImage) -> Result<Encoding, GeneratorError> {
        Err(GeneratorError::Failed("this generator does not encode pictures".into()))
    }
}

/// One finished picture of a valid request, drawn by itself, without the frames on the way to it.
///
/// # Errors
/// When the device cannot.
pub fn finished_picture(
    generator: &dyn Generator,
    request: GenerateRequest,
    picture: u32,
) -> Result<RgbImage, GeneratorError> {
    let batch = BatchRequest {
        plan: request.plan,
        explore: request.explore.map(Arc::from),
        frames: Frames::Last,
        pictures: vec![PictureRequest {
            class: request.class,
            seed: request.seed.unwrap_or_default(),
            index: picture,
        }],
    };
    let mut finished = None;
    generator.generate(&batch, &mut |event| {
        if let GeneratorEvent::Decoded { pictures, .. } = event {
            finished = pictures.into_iter().next();
        }
        ControlFlow::Continue(())
    })?;
    finished.ok_or_else(|| GeneratorError::Failed("the plan shows no picture".into()))
}
