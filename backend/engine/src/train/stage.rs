//! The loop that every network is trained in.

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::Value;
use tch::Tensor;

use super::{
    Outcome, TrainError, Watch, Workplace, checkpoint,
    checkpoint::Checkpoint,
    claim::Claim,
    curve,
    metrics::{Figures, MetricsFile},
    optimizer::{Optimizer, learning_rate},
    parameters::{Layout, Parameters},
    product,
    recipe::Steps,
    sheet,
};
use crate::weights::StateDict;

/// What a network learns: its loss at a step, and what it can do.
pub(super) trait Lesson: Debug {
    /// The loss of step `step` (from 0), f32 `[]`, and figures of it. `weights` are the live ones;
    /// gradients flow to them.
    fn loss(&mut self, weights: StateDict, step: u64) -> Result<(Tensor, Figures), TrainError>;

    /// What else happens after the weights have moved.
    fn after(
        &mut self,
        _weights: &Parameters,
        _optimizer: &mut Optimizer,
        _step: u64,
    ) -> Result<(), TrainError> {
        Ok(())
    }

    /// What the averaged weights do on held-out data.
    fn examine(&mut self, weights: StateDict) -> Result<Exam, TrainError>;

    /// Tensors beside the weights that the next step depends on, f32.
    fn memory(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Takes such tensors back.
    fn remember(&mut self, _checkpoint: &Checkpoint) -> Result<(), TrainError> {
        Ok(())
    }
}

/// Held-out figures and pictures.
#[derive(Debug, Default)]
pub(super) struct Exam {
    pub(super) figures: Figures,
    /// Pictures, their side, and how many stand in a row.
    pub(super) sheet: Option<(Vec<Vec<u8>>, usize, usize)>,
}

/// A stage before it runs.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) name: &'static str,
    pub(super) place: &'a Workplace,
    pub(super) run: &'a Steps,
    /// Everything that the outcome depends on.
    pub(super) settings: Value,
    /// Weights to begin with, by name; others are drawn from the seed.
    pub(super) initial: StateDict,
    pub(super) layout: Layout,
    pub(super) seed: u64,
    /// Figures that the curves show.
    pub(super) curves: &'static [&'static str],
}

impl Stage<'_> {
    fn file(&self, name: &str) -> PathBuf {
        stage_directory(&self.place.directory, self.name).join(name)
    }

    /// Runs the stage from its checkpoint, or from the beginning, to its end: the averaged weights,
    /// or `None` if the watcher stopped it. `lesson` gets the number of steps already done.
    pub(super) fn run<L: Lesson>(
        self,
        watch: &mut dyn Watch,
        lesson: impl FnOnce(u64) -> Result<L, TrainError>,
    ) -> Result<Option<StateDict>, TrainError> {
        let Steps { steps, batch, ref optimizer, examine_every, checkpoint_every } = *self.run;
        let _claim = Claim::take(&stage_directory(&self.place.directory, self.name))?;
        let parameters =
            Parameters::new(self.layout.clone(), self.seed, &self.initial, self.place.device);
        let mut state = Optimizer::new(&parameters);
        let path = self.file("checkpoint.safetensors");
        let found = Checkpoint::find(&path, &self.settings)?;
        let begin = found.as_ref().map_or(0, |found| found.step);
        let mut lesson = lesson(begin)?;
        if let Some(found) = &found {
            found.restore(&parameters, &state)?;
            lesson.remember(found)?;
        }
        drop(found);
        let mut figures_file = MetricsFile::resume(&self.file("metrics.jsonl"), begin)?;
        watch.begin(self.name, begin, steps, "steps");
        if begin == 0 {
            let weights = self.layout.numbers();
            watch.tell(&format!("{}: {weights} weights, {steps} steps of {batch}", self.name));
        }
        for step in begin..steps {
            let began = Instant::now();
            let rate = learning_rate(optimizer, step, steps);
            let (loss, mut figures) = lesson.loss(parameters.live(), step)?;
            let value = loss.double_value(&[]);
            if !value.is_finite() {
                return Err(TrainError::NotFinite { stage: self.name, step, loss: value });
            }
            loss.f_backward()?;
            let norm = state.step(&parameters, optimizer, step, rate);
            lesson.after(&parameters, &mut state, step)?;
            let done = step + 1;
            figures.insert(0, ("loss", value));
            figures.extend([
                ("gradient_norm", norm),
                ("learning_rate", rate),
                ("examples_per_second", batch as f64 / began.elapsed().as_secs_f64()),
            ]);
            if done.is_multiple_of(examine_every) || done == steps {
                let _no_grad = tch::no_grad_guard();
                let exam = lesson.examine(self.layout.views(&state.average))?;
                let words: Vec<_> =
                    exam.figures.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
                watch.tell(&format!("{} after {done} steps: {}", self.name, words.join(", ")));
                figures.extend(exam.figures);
                if let Some((pictures, side, columns)) = exam.sheet {
                    sheet::write_sheet(
                        &self.file(&format!("sheet-{done:06}.png")),
                        &pictures,
                        side,
                        columns,
                    )?;
                }
            }
            figures_file.add(done, &figures)?;
            let flow = watch.advance(done, &figures);
            if done.is_multiple_of(checkpoint_every) || done == steps {
                let memory = lesson.memory();
                checkpoint::save(&path, done, &self.settings, &parameters, &state, &memory)?;
                curve::draw(&self.file("metrics.jsonl"), &self.file("curve.png"), self.curves)?;
                // What the stage would give if it ended here: another run can start from it.
                let _no_grad = tch::no_grad_guard();
                let weights = self.layout.views(&state.average);
                product::write_half(&self.file(&format!("{}.safetensors", self.name)), &weights)?;
            }
            if flow.is_break() {
                return Ok(None);
            }
        }
        watch.end();
        let _no_grad = tch::no_grad_guard();
        Ok(Some(self.layout.views(&state.average)))
    }
}

impl Stage<'_> {
    /// Whether an earlier call has come to its end.
    ///
    /// # Errors
    /// As [`Checkpoint::find`].
    pub(super) fn is_done(&self) -> Result<bool, TrainError> {
        let found = Checkpoint::find(&self.file("checkpoint.safetensors"), &self.settings)?;
        Ok(found.is_some_and(|found| found.step >= self.run.steps))
    }
}

/// Where a stage of a run keeps its files.
pub(super) fn stage_directory(run: &Path, stage: &str) -> PathBuf {
    run.join(stage)
}

/// How a stage ended, from whether it gave weights.
pub(super) fn outcome<T>(weights: Option<T>) -> Outcome {
    if weights.is_some() { Outcome::Done } else { Outcome::Stopped }
}
