//! Which waiting pictures run next: a pure function of the queue, the clock and the limits.

use std::{ops::Range, sync::Arc};

use var_dd_engine::sample::Frames;
use var_dd_protocol::{Explore, JobId, Plan};

/// A job that waits for (more) pictures of it to be drawn.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Its name.
    pub(super) id: JobId,
    /// Index of its model.
    pub(super) model: usize,
    /// Its plan.
    pub(super) plan: Plan,
    /// What it goes on from or lies between, if anything.
    pub(super) explore: Option<Arc<Explore>>,
    /// In which order its frames are wanted.
    pub(super) frames: Frames,
    /// Pictures still to be drawn.
    pub(super) pictures: Range<u32>,
    /// When it began to wait.
    pub(super) since_ms: f64,
    /// What one of its pictures takes on the device, as far as is known.
    pub(super) cost_ms: f64,
    /// What its client has had of the device.
    pub(super) had_ms: f64,
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

/// Chooses the next batch from `queue`, which is in the order of turns.
///
/// - Of the models that have a batch ready, the one whose first client has had least. Of equal
///   ones the first in order after `last_model`: models take turns.
/// - The first waiting job of that model is always in its batch, so no job waits for ever. It is
///   cut only if it alone is over the limit.
/// - Later jobs of the same model, plan and order of frames join as far as they fit whole. One that
///   does not fit is passed over by smaller ones, which take only room that would stay empty.
/// - A batch with room waits until its first job has waited for the window.
pub(super) fn decide(
    queue: &[Waiting],
    last_model: Option<usize>,
    now_ms: f64,
    limits: Limits,
) -> Decision {
    let mut models: Vec<usize> = queue.iter().map(|job| job.model).collect();
    models.sort_unstable();
    models.dedup();
    let after_last = models.partition_point(|&model| last_model.is_some_and(|last| model <= last));
    models.rotate_left(after_last);

    let mut wake_ms = f64::INFINITY;
    let mut best: Option<(f64, Vec<Slice>)> = None;
    for model in models {
        let (slices, full) = gather(queue, model, limits.max_batch);
        let Some(first) = slices.first() else { continue };
        let ripe_ms = queue[first.at].since_ms + limits.window_ms;
        if !full && now_ms < ripe_ms {
            wake_ms = wake_ms.min(ripe_ms);
            continue;
        }
        let had_ms = queue[first.at].had_ms;
        if best.as_ref().is_none_or(|(least_ms, _)| had_ms < *least_ms) {
            best = Some((had_ms, slices));
        }
    }
    if let Some((_, slices)) = best {
        return Decision::Run(slices);
    }
    if wake_ms.is_finite() { Decision::WaitUntil(wake_ms) } else { Decision::Idle }
}

/// What pictures must share to run together.
fn kind_of(job: &Waiting) -> (&Plan, Option<&Explore>, Frames) {
    (&job.plan, job.explore.as_deref(), job.frames)
}

/// The batch of a model as it would run now, and whether waiting could not make it larger.
pub(super) fn gather(queue: &[Waiting], model: usize, max_batch: u32) -> (Vec<Slice>, bool) {
    let mut slices = Vec::new();
    let mut room = max_batch.max(1);
    let mut passed_over = false;
    let mut kind = None;
    for (at, job) in queue.iter().enumerate().filter(|(_, job)| job.model == model) {
        if *kind.get_or_insert(kind_of(job)) != kind_of(job) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(number: usize) -> Plan {
        Plan::FewStep { t_list: (0..=number as u32).collect(), loss_split_t: 1 }
    }

    /// A queue from (model, plan, pictures, since).
    fn queue(jobs: &[(usize, usize, u32, f64)]) -> Vec<Waiting> {
        let waiting =
            |(id, &(model, number, count, since_ms)): (u128, &(usize, usize, u32, f64))| Waiting {
                id: JobId::from_bits(id),
                model,
                plan: plan(number),
                explore: None,
                frames: Frames::InOrder,
                pictures: 0..count,
                since_ms,
                cost_ms: 1.0,
                had_ms: 0.0,
            };
        (0..).zip(jobs).map(waiting).collect()
    }

    const LIMITS: Limits = Limits { max_batch: 4, window_ms: 10.0 };

    /// The places in the queue, with how many pictures of each.
    fn run(decision: Decision) -> Vec<(usize, u32)> {
        match decision {
            Decision::Run(slices) => {
                let size = |slice: &Slice| (slice.at, slice.pictures.end - slice.pictures.start);
                slices.iter().map(size).collect()
            }
            other => panic!("{other:?} runs nothing"),
        }
    }

    #[test]
    fn the_policy_by_examples() {
        let ripe_ms = 100.0;
        type Row<'a> = (&'a str, &'a [(usize, usize, u32, f64)], Option<usize>, &'a [(usize, u32)]);
        let table: [Row<'_>; 9] = [
            ("one job runs alone", &[(0, 0, 2, 0.0)], None, &[(0, 2)]),
            (
                "jobs of one plan run together",
                &[(0, 0, 2, 0.0), (0, 0, 2, 0.0)],
                None,
                &[(0, 2), (1, 2)],
            ),
            (
                "another plan waits",
                &[(0, 0, 1, 0.0), (0, 1, 1, 0.0), (0, 0, 1, 0.0)],
                None,
                &[(0, 1), (2, 1)],
            ),
            ("another model waits", &[(0, 0, 1, 0.0), (1, 0, 1, 0.0)], None, &[(0, 1)]),
            ("models take turns", &[(0, 0, 1, 0.0), (1, 0, 1, 0.0)], Some(0), &[(1, 1)]),
            ("turns go round", &[(0, 0, 1, 0.0), (1, 0, 1, 0.0)], Some(1), &[(0, 1)]),
            ("a turn nobody wants is passed on", &[(0, 0, 1, 0.0)], Some(0), &[(0, 1)]),
            ("a job over the limit is cut", &[(0, 0, 7, 0.0), (0, 0, 1, 0.0)], None, &[(0, 4)]),
            (
                "a job that does not fit whole lets a smaller one pass",
                &[(0, 0, 3, 0.0), (0, 0, 2, 0.0), (0, 0, 1, 0.0)],
                None,
                &[(0, 3), (2, 1)],
            ),
        ];
        for (what, jobs, last_model, expected) in table {
            assert_eq!(run(decide(&queue(jobs), last_model, ripe_ms, LIMITS)), expected, "{what}");
        }
    }

    #[test]
    fn the_client_that_has_had_least_comes_before_the_turn_of_models() {
        let mut waiting = queue(&[(0, 0, 1, 0.0), (1, 0, 1, 0.0)]);
        waiting[0].had_ms = 5.0;
        assert_eq!(run(decide(&waiting, Some(1), 100.0, LIMITS)), [(1, 1)]);
        waiting[1].had_ms = 5.0;
        assert_eq!(run(decide(&waiting, Some(1), 100.0, LIMITS)), [(0, 1)]);
    }

    #[test]
    fn a_batch_with_room_waits_for_the_window_of_its_first_job_and_a_full_one_does_not() {
        let room = queue(&[(0, 0, 2, 50.0), (0, 0, 1, 55.0)]);
        assert_eq!(decide(&room, None, 59.9, LIMITS), Decision::WaitUntil(60.0));
        assert_eq!(run(decide(&room, None, 60.0, LIMITS)), [(0, 2), (1, 1)]);
        let full = queue(&[(0, 0, 2, 50.0), (0, 0, 2, 50.0)]);
        assert_eq!(run(decide(&full, None, 50.0, LIMITS)), [(0, 2), (1, 2)]);
        let nothing_fits = queue(&[(0, 0, 3, 50.0), (0, 0, 3, 50.0)]);
        assert_eq!(run(decide(&nothing_fits, None, 50.0, LIMITS)), [(0, 3)]);
        let other_is_ripe = queue(&[(0, 0, 1, 50.0), (1, 0, 1, 40.0)]);
        assert_eq!(run(decide(&other_is_ripe, None, 50.0, LIMITS)), [(1, 1)]);
        assert_eq!(decide(&[], None, 0.0, LIMITS), Decision::Idle);
    }

    proptest! {
        #[test]
        fn every_batch_keeps_the_limits_and_every_job_runs_once_in_a_bounded_number_of_turns(
            jobs in prop::collection::vec((0..3_usize, 0..3_usize, 1..9_u32, Just(0.0)), 1..30),
            max_batch in 1..10_u32,
        ) {
            let limits = Limits { max_batch, window_ms: 0.0 };
            let mut waiting = queue(&jobs);
            let mut last_model = None;
            let mut drawn = vec![Vec::new(); jobs.len()];
            // The oldest job of a model is in each of its batches, and a model comes up at every
            // third batch.
            let pictures: u32 = jobs.iter().map(|job| job.2).sum();
            for _ in 0..pictures {
                let Decision::Run(slices) = decide(&waiting, last_model, 0.0, limits) else { break };
                let first = &waiting[slices[0].at];
                let (model, plan) = (first.model, first.plan.clone());
                let oldest = waiting.iter().position(|job| job.model == model);
                prop_assert_eq!(oldest, Some(slices[0].at));
                let others_wait = waiting.iter().any(|job| job.model != model);
                prop_assert!(last_model != Some(model) || !others_wait, "models take turns");
                last_model = Some(model);
                let size: u32 = slices.iter().map(|slice| slice.pictures.len() as u32).sum();
                prop_assert!((1..=max_batch).contains(&size));
                for slice in &slices {
                    let job = &mut waiting[slice.at];
                    prop_assert!(job.model == model && job.plan == plan);
                    prop_assert_eq!(slice.pictures.start, job.pictures.start);
                    let id = u128::from_str_radix(job.id.as_str(), 16).unwrap() as usize;
                    drawn[id].extend(slice.pictures.clone());
                    job.pictures.start = slice.pictures.end;
                }
                waiting.retain(|job| !job.pictures.is_empty());
            }
            prop_assert!(waiting.is_empty());
            for (job, drawn) in jobs.iter().zip(drawn) {
                prop_assert_eq!(drawn, (0..job.2).collect::<Vec<_>>());
            }
        }
    }
}
