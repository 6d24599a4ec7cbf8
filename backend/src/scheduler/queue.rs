//! The jobs that wait: bounded, in the order of acceptance, each with its viewers. Pure; the clock
//! is an argument.

use var_dd_protocol::{ErrorBody, ErrorCode, JobId};

use super::batch::{self, Decision, Limits, Slice, Waiting};

/// A job as it enters the queue.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What the batching policy needs to know.
    pub(super) job: Waiting,
    /// Order of acceptance.
    pub(super) number: i64,
    /// Whether it expires when nobody watches it.
    pub(super) expires: bool,
}

#[derive(Debug)]
struct Place {
    number: i64,
    /// Whether some of its pictures have run; then it cannot expire and has no position any more.
    begun: bool,
    viewers: usize,
    /// Since when nobody watches; meaningful only without viewers. `None` for a job that does not
    /// expire.
    unwatched_since_ms: Option<f64>,
}

/// Part of a job on its way to the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// The job.
    pub(super) id: JobId,
    /// Its pictures.
    pub(super) pictures: std::ops::Range<u32>,
}

/// What [`Queue::take`] found.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// Nothing to run.
    Idle,
    /// Nothing to run before this time, unless a job comes.
    WaitUntil(f64),
    /// A batch of one model.
    Run(Vec<Taken>),
}

/// The jobs that wait.
#[derive(Debug)]
pub(super) struct Queue {
    limit: usize,
    limits: Limits,
    grace_ms: f64,
    /// Places promised to jobs that are being written to disk.
    reserved: usize,
    last_model: Option<usize>,
    // Two lists in step, so that the policy sees plain jobs.
    jobs: Vec<Waiting>,
    places: Vec<Place>,
}

impl Queue {
    pub(super) fn new(limit: usize, limits: Limits, grace_ms: f64) -> Self {
        Self {
            limit,
            limits,
            grace_ms,
            reserved: 0,
            last_model: None,
            jobs: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Jobs of which nothing has run yet.
    pub(super) fn depth(&self) -> usize {
        self.places.iter().filter(|place| !place.begun).count()
    }

    /// Most jobs.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Promises a place; [`Queue::unreserve`] gives it up. `batch_ms` is what a batch takes, if
    /// known.
    ///
    /// # Errors
    /// [`ErrorCode::QueueFull`], with the seconds after which a place is likely to be free.
    pub(super) fn reserve(&mut self, batch_ms: Option<f64>) -> Result<(), ErrorBody> {
        let taken = self.depth() + self.reserved;
        if taken >= self.limit {
            let seconds = retry_after_s(batch_ms);
            let message =
                format!("the queue holds {taken} of {} jobs; try again in {seconds} s", self.limit);
            return Err(ErrorBody::new(ErrorCode::QueueFull, message).retry_after(seconds));
        }
        self.reserved += 1;
        Ok(())
    }

    /// Gives a promised place up, whether it was used or not.
    pub(super) fn unreserve(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Adds a job at its place in the order of acceptance. Nobody watches it yet.
    pub(super) fn push(&mut self, entry: Entry, now_ms: f64) {
        let at = self.places.partition_point(|place| place.number < entry.number);
        self.places.insert(
            at,
            Place {
                number: entry.number,
                begun: entry.job.pictures.start > 0,
                viewers: 0,
                unwatched_since_ms: entry.expires.then_some(now_ms),
            },
        );
        self.jobs.insert(at, entry.job);
    }

    fn find(&self, id: &JobId) -> Option<usize> {
        self.jobs.iter().position(|job| job.id == *id)
    }

    fn remove_at(&mut self, at: usize) -> Waiting {
        self.places.remove(at);
        self.jobs.remove(at)
    }

    /// Takes a job out; whether it was there.
    pub(super) fn remove(&mut self, id: &JobId) -> bool {
        let found = self.find(id);
        found.map(|at| self.remove_at(at)).is_some()
    }

    /// Somebody watches a job.
    pub(super) fn watched(&mut self, id: &JobId) {
        if let Some(at) = self.find(id) {
            self.places[at].viewers += 1;
        }
    }

    /// A viewer of a job has gone.
    pub(super) fn unwatched(&mut self, id: &JobId, now_ms: f64) {
        if let Some(at) = self.find(id) {
            let place = &mut self.places[at];
            place.viewers = place.viewers.saturating_sub(1);
            if let Some(since_ms) = &mut place.unwatched_since_ms {
                *since_ms = now_ms;
            }
        }
    }

    /// When a job expires, unless somebody watches it by then.
    fn expiry_ms(&self, place: &Place) -> Option<f64> {
        let waits_alone = !place.begun && place.viewers == 0;
        place.unwatched_since_ms.filter(|_| waits_alone).map(|since_ms| since_ms + self.grace_ms)
    }

    /// Takes out the jobs that nobody has watched for the grace time.
    pub(super) fn expire(&mut self, now_ms: f64) -> Vec<JobId> {
        let mut expired = Vec::new();
        for at in (0..self.places.len()).rev() {
            if self.expiry_ms(&self.places[at]).is_some_and(|at_ms| at_ms <= now_ms) {
                expired.push(self.remove_at(at).id);
            }
        }
        expired.reverse();
        expired
    }

    /// When the next job expires.
    pub(super) fn next_expiry_ms(&self) -> Option<f64> {
        self.places.iter().filter_map(|place| self.expiry_ms(place)).min_by(f64::total_cmp)
    }

    /// Takes the next batch out, as [`batch::decide`] chooses it.
    pub(super) fn take(&mut self, now_ms: f64) -> Next {
        let slices = match batch::decide(&self.jobs, self.last_model, now_ms, self.limits) {
            Decision::Idle => return Next::Idle,
            Decision::WaitUntil(at_ms) => return Next::WaitUntil(at_ms),
            Decision::Run(slices) => slices,
        };
        let mut taken: Vec<_> = slices.iter().rev().map(|slice| self.take_slice(slice)).collect();
        taken.reverse();
        Next::Run(taken)
    }

    fn take_slice(&mut self, slice: &Slice) -> Taken {
        let job = &mut self.jobs[slice.at];
        let id = job.id.clone();
        self.last_model = Some(job.model);
        job.pictures.start = slice.pictures.end;
        self.places[slice.at].begun = true;
        if self.jobs[slice.at].pictures.is_empty() {
            self.remove_at(slice.at);
        }
        Taken { id, pictures: slice.pictures.clone() }
    }

    /// Every waiting job with the number of jobs ahead of it.
    pub(super) fn positions(&self) -> impl Iterator<Item = (&JobId, u32)> {
        let waiting = self.jobs.iter().zip(&self.places).filter(|(_, place)| !place.begun);
        (0..).zip(waiting).map(|(position, (job, _))| (&job.id, position))
    }
}

/// Seconds after which the queue is likely to have a free place: one batch, from 1 to 120.
fn retry_after_s(batch_ms: Option<f64>) -> u32 {
    const UNKNOWN_MS: f64 = 2000.0;
    (batch_ms.unwrap_or(UNKNOWN_MS) / 1000.0).ceil().clamp(1.0, 120.0) as u32
}

#[cfg(test)]
mod tests {
    use var_dd_engine::sample::{Frames, plan::Plan};

    use super::*;

    fn queue(limit: usize) -> Queue {
        let limits = Limits { max_batch: 2, window_ms: 0.0 };
        Queue::new(limit, limits, 100.0)
    }

    fn id(number: i64) -> JobId {
        JobId::from_bits(number as u128)
    }

    fn push(queue: &mut Queue, number: i64, count: u32, expires: bool, now_ms: f64) {
        let job = Waiting {
            id: id(number),
            model: 0,
            plan: Plan::FewStep { t_list: vec![0], loss_split_t: 1 },
            frames: Frames::InOrder,
            pictures: 0..count,
            since_ms: now_ms,
        };
        let entry = Entry { job, number, expires };
        queue.push(entry, now_ms);
    }

    fn positions(queue: &Queue) -> Vec<(JobId, u32)> {
        queue.positions().map(|(id, position)| (id.clone(), position)).collect()
    }

    fn taken(next: Next) -> Vec<(JobId, std::ops::Range<u32>)> {
        match next {
            Next::Run(taken) => taken.into_iter().map(|taken| (taken.id, taken.pictures)).collect(),
            other => panic!("{other:?} runs nothing"),
        }
    }

    #[test]
    fn jobs_wait_in_the_order_of_acceptance_whichever_reached_the_disk_first() {
        let mut queue = queue(9);
        for number in [2, 1, 3] {
            push(&mut queue, number, 1, false, 0.0);
        }
        assert_eq!(positions(&queue), [(id(1), 0), (id(2), 1), (id(3), 2)]);
        assert!(queue.remove(&id(2)) && !queue.remove(&id(2)));
        assert_eq!(positions(&queue), [(id(1), 0), (id(3), 1)]);
    }

    #[test]
    fn a_job_taken_in_part_keeps_its_turn_and_has_no_position() {
        let mut queue = queue(9);
        push(&mut queue, 1, 5, false, 0.0);
        push(&mut queue, 2, 1, false, 0.0);
        assert_eq!(taken(queue.take(0.0)), [(id(1), 0..2)]);
        assert_eq!((positions(&queue), queue.depth()), (vec![(id(2), 0)], 1));
        assert_eq!(taken(queue.take(0.0)), [(id(1), 2..4)]);
        assert_eq!(taken(queue.take(0.0)), [(id(1), 4..5), (id(2), 0..1)]);
        assert_eq!((queue.take(0.0), queue.depth()), (Next::Idle, 0));
    }

    #[test]
    fn promised_places_count_until_they_are_given_up() {
        let mut queue = queue(2);
        push(&mut queue, 1, 1, false, 0.0);
        assert!(queue.reserve(None).is_ok());
        let full = queue.reserve(Some(4200.0)).unwrap_err();
        assert_eq!((full.code, full.retry_after_s), (ErrorCode::QueueFull, Some(5)));
        queue.unreserve();
        assert!(queue.reserve(None).is_ok());
    }

    #[test]
    fn a_place_is_expected_after_one_batch_within_sensible_bounds() {
        for (batch_ms, seconds) in [(None, 2), (Some(3.0), 1), (Some(2500.0), 3), (Some(1e9), 120)]
        {
            assert_eq!(retry_after_s(batch_ms), seconds);
        }
    }

    #[test]
    fn only_a_job_that_waits_unwatched_for_the_grace_time_expires() {
        let mut queue = queue(9);
        push(&mut queue, 1, 3, true, 0.0);
        push(&mut queue, 2, 1, true, 0.0);
        push(&mut queue, 3, 1, false, 0.0);
        push(&mut queue, 4, 1, true, 50.0);
        // The first runs in part, the second is watched, the third stays.
        assert_eq!(taken(queue.take(0.0)), [(id(1), 0..2)]);
        queue.watched(&id(2));
        queue.watched(&id(2));
        assert_eq!(queue.next_expiry_ms(), Some(150.0));
        assert_eq!(queue.expire(149.9), []);
        assert_eq!(queue.expire(150.0), [id(4)]);
        queue.unwatched(&id(2), 200.0);
        assert_eq!(queue.next_expiry_ms(), None, "one viewer is left");
        queue.unwatched(&id(2), 300.0);
        assert_eq!((queue.expire(399.0), queue.expire(400.0)), (vec![], vec![id(2)]));
        assert_eq!(positions(&queue), [(id(3), 0)]);
    }
}
