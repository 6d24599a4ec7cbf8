//! Which waiting pictures run next: a pure function of the queue, the clock and the limits.

use std::ops::Range;

use var_dd_engine::sample::plan::Plan;
use var_dd_protocol::JobId;

/// A job that waits for (more) pictures of it to be drawn.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Its name.
    pub(super) id: JobId,
    /// Index of its model.
    pub(super) model: usize,
    /// Its plan.
    pub(super) plan: Plan,
    /// Pictures still to be drawn.
    pub(super) pictures: Range<u32>,
    /// When it began to wait.
    pub(super) since_ms: f64,
}

/// Bounds of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most pictures, at least 1.
    pub(super) max_batch: u32,
    /// How long the first job of a batch waits for others.
    pub(super) window_ms: f64,
}

/// Pictures of one job that run together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    /// Its place in the queue.
    pub(super) at: usize,
    /// The pictures.
    pub(super) pictures: Range<u32>,
}

/// What to do with the queue as it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    /// Nothing waits.
    Idle,
    /// A batch could still grow: look again at this time, or when a job comes.
    WaitUntil(f64),
    /// Run these, in the order of the queue.
    Run(Vec<Slice>),
}

/// Chooses the next batch from `queue`, which is in the order of acceptance.
///
/// - Models take turns: the first one in order after `last_model` that has a batch ready.
/// - The oldest waiting job of that model is always in its batch, so no job waits for ever. It is cut only if it
///   alone is over the limit; the rest of it then comes first at the model's next turn.
/// - Later jobs of the same model and plan join as far as they fit whole. One that does not fit is passed over by
///   smaller ones, which take only room that would stay empty.
/// - A batch with room waits until its first job has waited for the window.
pub(super) fn decide(queue: &[Waiting], last_model: Option<usize>, now_ms: f64, limits: Limits) -> Decision {
    let mut models: Vec<usize> = queue.iter().map(|job| job.model).collect();
    models.sort_unstable();
    models.dedup();
    let after_last = models.partition_point(|&model| last_model.is_some_and(|last| model <= last));
    models.rotate_left(after_last);

    let mut wake_ms = f64::INFINITY;
    for model in models {
        let (slices, full) = gather(queue, model, limits.max_batch);
        let Some(first) = slices.first() else { continue };
        let ripe_ms = queue[first.at].since_ms + limits.window_ms;
        if full || now_ms >= ripe_ms {
            return Decision::Run(slices);
        }
        wake_ms = wake_ms.min(ripe_ms);
    }
    if wake_ms.is_finite() { Decision::WaitUntil(wake_ms) } else { Decision::Idle }
}

/// The batch of a model as it would run now, and whether waiting could not make it larger.
fn gather(queue: &[Waiting], model: usize, max_batch: u32) -> (Vec<Slice>, bool) {
    let mut slices = Vec::new();
    let mut room = max_batch.max(1);
    let mut passed_over = false;
    let mut plan = None;
    for (at, job) in queue.iter().enumerate().filter(|(_, job)| job.model == model) {
        if *plan.get_or_insert(&job.plan) != &job.plan {
            continue;
        }
        let wanted = job.pictures.end - job.pictures.start;
        let taken = if slices.is_empty() { wanted.min(room) } else { wanted };
        if taken > room {
            passed_over = true;
            continue;
        }
        room -= taken;
        slices.push(Slice { at, pictures: job.pictures.start..job.pictures.start + taken });
        if room == 0 {
            break;
        }
    }
    (slices, room == 0 || passed_over)
}
