//! The thread that owns the device: batches in, reports out.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    ops::{ControlFlow, Range},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::Receiver},
};

use tokio::sync::mpsc::Sender;
use var_dd_engine::sample::Frames;
use var_dd_protocol::{ErrorBody, ErrorCode, Explore, Plan};

use super::{clock::Clock, live::internal};
use crate::generator::{BatchRequest, Generator, GeneratorError, GeneratorEvent, PictureRequest};

/// A batch for the device.
pub(super) struct Work {
    /// Index of the model.
    pub(super) model: usize,
    /// The plan of every picture.
    pub(super) plan: Plan,
    /// What every picture goes on from or lies between, if anything.
    pub(super) explore: Option<Arc<Explore>>,
    /// Whether the finished pictures come before the others.
    pub(super) frames: Frames,
    /// The pictures.
    pub(super) pictures: Vec<PictureRequest>,
    /// Whether nobody wants these pictures of the batch any more.
    pub(super) unwanted: Box<dyn Fn(Range<usize>) -> bool + Send>,
    /// Asked between two passes with the milliseconds that are likely to remain: a shorter batch
    /// that is to be drawn before the next pass.
    pub(super) between: Option<Box<dyn Fn(f64) -> Option<Work> + Send>>,
    /// Called with the milliseconds that the batch took, others between its passes apart.
    pub(super) drawn: Box<dyn FnOnce(f64) + Send>,
    /// Where the reports go; a full channel makes the device wait.
    pub(super) reports: Sender<Report>,
}

/// What asks a model.
type Ask = Box<dyn FnOnce(&dyn Generator) + Send>;

/// A question on its way to the device thread.
pub(super) struct Question {
    /// Index of the model.
    pub(super) model: usize,
    /// Asks it, unless nobody waits for the answer any more.
    pub(super) ask: Ask,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("model", &self.model).finish_non_exhaustive()
    }
}

/// What the device thread is given.
#[derive(Debug)]
pub(super) enum Task {
    /// A batch to draw.
    Draw(Work),
    /// A question to answer.
    Ask(Question),
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
/// batches and answers questions until the channel closes.
pub(super) fn run(
    mut generators: Vec<Box<dyn Generator>>,
    max_batch: u32,
    ready: impl FnOnce(),
    clock: Clock,
    tasks: &Receiver<Task>,
) {
    for generator in &mut generators {
        // What cannot be prepared may be drawn all the same, or fails when it is asked for.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| generator.prepare(max_batch))) {
            let (model, reason) = (&generator.info().name, panic_text(panic.as_ref()));
            tracing::warn!(model, reason, "a model cannot be prepared");
        }
    }
    ready();
    let device = Device { generators, clock };
    while let Ok(task) = tasks.recv() {
        match task {
            Task::Draw(work) => {
                device.run(work);
            }
            Task::Ask(question) => device.answer(question),
        }
    }
}

/// All models, and the clock by which their work is timed.
struct Device {
    generators: Vec<Box<dyn Generator>>,
    clock: Clock,
}

impl Device {
    /// Answers a question. A panic loses the answer, which the asker is told, and nothing else.
    fn answer(&self, Question { model, ask }: Question) {
        let Some(generator) = self.generators.get(model) else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| ask(generator.as_ref()))) {
            let reason = panic_text(panic.as_ref());
            tracing::error!(reason, "a question made the generator panic");
        }
    }

    /// Runs a batch; the milliseconds until its end.
    fn run(&self, work: Work) -> f64 {
        let begun_ms = self.clock.now_ms();
        let all = 0..work.pictures.len();
        let others_ms = Cell::new(0.0);
        match self.generators.get(work.model) {
            Some(generator) => self.draw(generator.as_ref(), &work, all, &others_ms),
            None => fail(&work, all, internal(format!("there is no model {}", work.model))),
        }
        let Work { drawn, reports, unwanted, .. } = work;
        // Whoever takes the reports sees their end before the next batch begins.
        drop((reports, unwanted));
        let took_ms = self.clock.now_ms() - begun_ms;
        drawn(took_ms - others_ms.get());
        took_ms
    }

    /// Lets shorter batches pass before pass `pass` of `passes` of a batch that began at
    /// `begun_ms`.
    fn yield_to_others(
        &self,
        work: &Work,
        pass: usize,
        passes: usize,
        begun_ms: f64,
        others_ms: &Cell<f64>,
    ) {
        let Some(between) = work.between.as_ref().filter(|_| pass > 0) else { return };
        loop {
            let own_ms = self.clock.now_ms() - begun_ms - others_ms.get();
            let remaining_ms = own_ms / pass as f64 * (passes - pass) as f64;
            let Some(other) = between(remaining_ms) else { return };
            others_ms.set(others_ms.get() + self.run(other));
        }
    }

    /// Draws some pictures of a batch; where the device has not enough memory, each half of them
    /// by itself.
    fn draw(
        &self,
        generator: &dyn Generator,
        work: &Work,
        pictures: Range<usize>,
        others_ms: &Cell<f64>,
    ) {
        let clock = self.clock;
        let (begun_ms, others_before_ms) = (clock.now_ms(), others_ms.get());
        if (work.unwanted)(pictures.clone()) {
            return;
        }
        let batch = BatchRequest {
            plan: work.plan.clone(),
            explore: work.explore.clone(),
            frames: work.frames,
            pictures: work.pictures[pictures.clone()].to_vec(),
        };
        let mut sink = |event| {
            if let GeneratorEvent::PassBegan { pass, passes, .. } = &event {
                let begun_ms = begun_ms - others_before_ms;
                self.yield_to_others(work, *pass, *passes, begun_ms, others_ms);
            }
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
            Ok(Err(GeneratorError::OutOfMemory { pictures: size, reason }))
                if pictures.len() > 1 =>
            {
                tracing::warn!(
                    size,
                    reason,
                    "no memory for a batch; halving it. A lower --max-batch avoids this"
                );
                let middle = pictures.start + pictures.len() / 2;
                if work.reports.blocking_send(Report::Halved).is_err() {
                    return;
                }
                self.draw(generator, work, pictures.start..middle, others_ms);
                self.draw(generator, work, middle..pictures.end, others_ms);
            }
            Ok(Err(error @ GeneratorError::OutOfMemory { .. })) => {
                let error = ErrorBody::new(
                    ErrorCode::OutOfMemory,
                    format!(
                        "{}; a plan with fewer passes or a smaller model may fit",
                        for_the_public(&error.to_string())
                    ),
                );
                fail(work, pictures, error);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "a batch failed");
                fail(work, pictures, internal(for_the_public(&error.to_string())));
            }
            Err(panic) => {
                let reason = panic_text(panic.as_ref());
                tracing::error!(reason, "the generator panicked");
                let reason = for_the_public(reason);
                fail(
                    work,
                    pictures,
                    internal(format!("drawing failed by a fault of the server: {reason}")),
                );
            }
        }
    }
}

fn fail(work: &Work, pictures: Range<usize>, error: ErrorBody) {
    // Nobody listens any more only when the server is going down.
    let _ = work.reports.blocking_send(Report::Failed { pictures, error });
}

/// The first line of a reason, with the last part alone of every absolute path: what libtorch says
/// goes on with a stack and names files of the machine, which are for the log.
pub(super) fn for_the_public(reason: &str) -> String {
    let between = |letter: char| letter.is_whitespace() || "\"'`()[]<>,;=".contains(letter);
    let line = reason.lines().next().unwrap_or_default();
    let without_path = |word: &str| match word.trim_end_matches(between).rsplit_once('/') {
        Some((folders, last)) if folders.starts_with('/') && !last.is_empty() => {
            word[folders.len() + 1..].to_owned()
        }
        _ => word.to_owned(),
    };
    line.split_inclusive(between).map(without_path).collect()
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use super::for_the_public;

    #[test]
    fn a_reason_for_everybody_is_one_line_without_paths_of_the_server() {
        for (reason, public) in [
            ("no such class 7", "no such class 7"),
            ("2/3 of a/b or 3 / 4 and /", "2/3 of a/b or 3 / 4 and /"),
            (
                "cannot read /srv/models/d16/vae.safetensors: cut",
                "cannot read vae.safetensors: cut",
            ),
            ("'/srv/a b/c' (/home/me/x.rs:7), /etc/y", "'a b/c' (x.rs:7), y"),
            ("CUDA error\nException raised from f at /pytorch/f.cpp:1\nframe #0", "CUDA error"),
            ("", ""),
        ] {
            assert_eq!(for_the_public(reason), public);
        }
    }
}
