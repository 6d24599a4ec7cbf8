//! The thread that owns the device: batches in, reports out.

use std::{
    any::Any,
    fmt,
    ops::{ControlFlow, Range},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::Receiver,
};

use tokio::sync::mpsc::Sender;
use var_dd_engine::sample::{Frames, plan::Plan};
use var_dd_protocol::{ErrorBody, ErrorCode};

use super::{clock::Clock, live::internal};
use crate::generator::{BatchRequest, Generator, GeneratorError, GeneratorEvent, PictureRequest};

/// A batch for the device.
pub(super) struct Work {
    /// Index of the model.
    pub(super) model: usize,
    /// The plan of every picture.
    pub(super) plan: Plan,
    /// Whether the finished pictures come before the others.
    pub(super) frames: Frames,
    /// The pictures.
    pub(super) pictures: Vec<PictureRequest>,
    /// Whether nobody wants these pictures of the batch any more.
    pub(super) unwanted: Box<dyn Fn(Range<usize>) -> bool + Send>,
    /// Where the reports go; a full channel makes the device wait.
    pub(super) reports: Sender<Report>,
}

/// What happened to some pictures of a batch.
#[derive(Debug)]
pub(super) enum Report {
    /// The generator had something to say.
    Event {
        /// Pictures of the batch.
        pictures: Range<usize>,
        /// When.
        at_ms: f64,
        /// What.
        event: GeneratorEvent,
    },
    /// There was no memory for some; they run again in two halves.
    Halved,
    /// They cannot be drawn.
    Failed {
        /// Pictures of the batch.
        pictures: Range<usize>,
        /// Why.
        error: ErrorBody,
    },
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("model", &self.model)
            .field("plan", &self.plan)
            .field("pictures", &self.pictures)
            .finish_non_exhaustive()
    }
}

/// Prepares the generators for batches of up to `max_batch` pictures and says `ready`, then runs
/// batches until the channel closes; `idle` is called after each with its milliseconds.
pub(super) fn run(
    mut generators: Vec<Box<dyn Generator>>,
    max_batch: u32,
    ready: impl FnOnce(),
    clock: Clock,
    work: &Receiver<Work>,
    idle: impl Fn(f64),
) {
    for generator in &mut generators {
        // What cannot be prepared may be drawn all the same, or fails when it is asked for.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| generator.prepare(max_batch))) {
            let (model, reason) = (&generator.info().name, panic_text(panic.as_ref()));
            tracing::warn!(model, reason, "a model cannot be prepared");
        }
    }
    ready();
    while let Ok(work) = work.recv() {
        let begun_ms = clock.now_ms();
        let all = 0..work.pictures.len();
        match generators.get_mut(work.model) {
            Some(generator) => draw(generator.as_mut(), clock, &work, all),
            None => fail(&work, all, internal(format!("there is no model {}", work.model))),
        }
        drop(work);
        idle(clock.now_ms() - begun_ms);
    }
}

/// Draws some pictures of a batch; where the device has not enough memory, each half of them by
/// itself.
fn draw(generator: &mut dyn Generator, clock: Clock, work: &Work, pictures: Range<usize>) {
    if (work.unwanted)(pictures.clone()) {
        return;
    }
    let batch = BatchRequest {
        plan: work.plan.clone(),
        frames: work.frames,
        pictures: work.pictures[pictures.clone()].to_vec(),
    };
    let mut sink = |event| {
        let report = Report::Event { pictures: pictures.clone(), at_ms: clock.now_ms(), event };
        if work.reports.blocking_send(report).is_err() || (work.unwanted)(pictures.clone()) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    // A generator keeps nothing between batches that a panic could leave half-done.
    let drawn = catch_unwind(AssertUnwindSafe(|| generator.generate(&batch, &mut sink)));
    match drawn {
        Ok(Ok(())) => {}
        Ok(Err(GeneratorError::OutOfMemory { pictures: size, reason })) if pictures.len() > 1 => {
            tracing::warn!(
                size,
                reason,
                "no memory for a batch; halving it. A lower --max-batch avoids this"
            );
            let middle = pictures.start + pictures.len() / 2;
            if work.reports.blocking_send(Report::Halved).is_err() {
                return;
            }
            draw(generator, clock, work, pictures.start..middle);
            draw(generator, clock, work, middle..pictures.end);
        }
        Ok(Err(error @ GeneratorError::OutOfMemory { .. })) => {
            let error = ErrorBody::new(
                ErrorCode::OutOfMemory,
                format!("{error}; a plan with fewer passes or a smaller model may fit"),
            );
            fail(work, pictures, error);
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "a batch failed");
            fail(work, pictures, internal(error.to_string()));
        }
        Err(panic) => {
            let reason = panic_text(panic.as_ref());
            tracing::error!(reason, "the generator panicked");
            fail(
                work,
                pictures,
                internal(format!("drawing failed by a fault of the server: {reason}")),
            );
        }
    }
}

fn fail(work: &Work, pictures: Range<usize>, error: ErrorBody) {
    // Nobody listens any more only when the server is going down.
    let _ = work.reports.blocking_send(Report::Failed { pictures, error });
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}
