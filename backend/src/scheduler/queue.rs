//! The jobs that wait: bounded, clients in turn, each client's in the order of acceptance, each
//! with its viewers. Pure; the clock is an argument.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use var_dd_engine::sample::{Frames, plan::Plan};
use var_dd_protocol::{ErrorBody, ErrorCode, JobId};

use super::{
    batch::{self, Decision, Limits, Slice, Waiting},
    fairness::{Costs, Turns},
};
use crate::jobs::Client;

/// A job as it enters the queue.
#[derive(Clone, Debug)]
pub(super) struct NewJob {
    /// What the batching policy needs to know.
    pub(super) job: Waiting,
    /// Order of acceptance.
    pub(super) number: i64,
    /// Who asked for it.
    pub(super) client: Client,
    /// Whether it expires when nobody watches it.
    pub(super) expires: bool,
}

#[derive(Debug)]
struct Place {
    number: i64,
    client: Client,
    /// Whether some of its pictures have run; then it cannot expire and has no position any more.
    begun: bool,
    viewers: usize,
    /// Since when nobody watches; meaningful only without viewers. `None` for a job that does not
    /// expire.
    unwatched_since_ms: Option<f64>,
}

/// Part of a job on its way to the device.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Taken {
    /// The job.
    pub(super) id: JobId,
    /// Its pictures.
    pub(super) pictures: std::ops::Range<u32>,
    /// Who asked for it.
    pub(super) client: Client,
    /// What its client was charged for them, until it is known what they took.
    pub(super) charged_ms: f64,
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

impl Eq for Taken {}

/// A batch that ran.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ran<'a> {
    /// Index of the model.
    pub(super) model: usize,
    /// The plan.
    pub(super) plan: &'a Plan,
    /// Order of frames.
    pub(super) frames: Frames,
    /// Whose pictures.
    pub(super) taken: &'a [Taken],
}

/// The jobs that wait.
#[derive(Debug)]
pub(super) struct Queue {
    limit: usize,
    limits: Limits,
    grace_ms: f64,
    last_model: Option<usize>,
    /// Nothing begins any more; what has begun goes on.
    draining: bool,
    turns: Turns,
    costs: Costs,
    /// Batches on the device, by client.
    running: HashMap<Client, usize>,
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
            last_model: None,
            draining: false,
            turns: Turns::default(),
            costs: Costs::default(),
            running: HashMap::new(),
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

    /// Whether there is a place for one job more from an address (`None`: the server itself), and
    /// the address has not its [`share`] already. `batch_ms` is what a batch takes, if known.
    ///
    /// # Errors
    /// [`ErrorCode::QueueFull`], with the seconds after which a place is likely to be free.
    pub(super) fn admit(
        &self,
        address: Option<IpAddr>,
        batch_ms: Option<f64>,
    ) -> Result<(), ErrorBody> {
        let taken = self.depth();
        let full = |message: String| {
            let seconds = retry_after_s(batch_ms);
            let message = format!("{message} in {seconds} s");
            Err(ErrorBody::new(ErrorCode::QueueFull, message).retry_after(seconds))
        };
        if taken >= self.limit {
            return full(format!("the queue holds {taken} of {} jobs; try again", self.limit));
        }
        if address.is_some() {
            let waiting = self.places.iter().filter(|place| !place.begun);
            let own = waiting.filter(|place| place.client.address == address).count();
            let others = taken - own;
            let most = share(self.limit, others);
            if own >= most {
                return full(format!(
                    "{own} jobs of this address wait; with {others} of others in a queue of {}, \
                     {most} of one address may, so wait for some or cancel them, and try again",
                    self.limit
                ));
            }
        }
        Ok(())
    }

    /// Adds a job at its place in the order of turns. Nobody watches it yet.
    pub(super) fn push(&mut self, entry: NewJob, now_ms: f64) {
        if !self.is_active(entry.client) {
            self.turns.arrives(entry.client);
        }
        self.places.push(Place {
            number: entry.number,
            client: entry.client,
            begun: entry.job.pictures.start > 0,
            viewers: 0,
            unwatched_since_ms: entry.expires.then_some(now_ms),
        });
        self.jobs.push(entry.job);
        self.arrange();
    }

    /// What a picture takes on the device, as far as is known.
    pub(super) fn cost_ms(&self, model: usize, plan: &Plan, frames: Frames, passes: usize) -> f64 {
        self.costs.of(model, plan, frames, passes)
    }

    /// Lets nothing begin any more.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    fn is_active(&self, client: Client) -> bool {
        self.running.contains_key(&client) || self.places.iter().any(|place| place.client == client)
    }

    /// How many clients of each address have something waiting or running.
    fn siblings(&self) -> HashMap<Option<IpAddr>, usize> {
        let waiting = self.places.iter().map(|place| place.client);
        let active: HashSet<Client> = waiting.chain(self.running.keys().copied()).collect();
        let mut siblings = HashMap::new();
        for client in active {
            *siblings.entry(client.address).or_default() += 1;
        }
        siblings
    }

    /// Puts the jobs into the order in which they would run.
    fn arrange(&mut self) {
        let mut both: Vec<_> = self.jobs.drain(..).zip(self.places.drain(..)).collect();
        both.sort_by_key(|(_, place)| place.number);
        (self.jobs, self.places) = both.into_iter().unzip();
        let siblings = self.siblings();
        let wanted: Vec<_> = self
            .jobs
            .iter()
            .zip(&self.places)
            .map(|(job, place)| (place.client, job.cost_ms * job.pictures.len() as f64))
            .collect();
        let order = self.turns.order(&wanted, |client| siblings[&client.address]);
        let mut both: Vec<_> = self.jobs.drain(..).zip(self.places.drain(..)).map(Some).collect();
        let arranged = order.into_iter().filter_map(|at| both[at].take());
        (self.jobs, self.places) = arranged.unzip();
        for (job, place) in self.jobs.iter_mut().zip(&self.places) {
            job.had_ms = self.turns.had(place.client);
        }
    }

    fn find(&self, id: &JobId) -> Option<usize> {
        self.jobs.iter().position(|job| job.id == *id)
    }

    fn remove_at(&mut self, at: usize) -> Waiting {
        self.places.remove(at);
        self.jobs.remove(at)
    }

    /// The jobs that may run, with their places in the queue.
    fn may_run(&self) -> (Vec<usize>, Vec<Waiting>) {
        let all = self.jobs.iter().zip(&self.places).enumerate();
        all.filter(|(_, (_, place))| place.begun || !self.draining)
            .map(|(at, (job, _))| (at, job.clone()))
            .unzip()
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
        let (places, jobs) = self.may_run();
        match batch::decide(&jobs, self.last_model, now_ms, self.limits) {
            Decision::Idle => Next::Idle,
            Decision::WaitUntil(at_ms) => Next::WaitUntil(at_ms),
            Decision::Run(slices) => Next::Run(self.take_slices(
                slices.into_iter().map(|slice| Slice { at: places[slice.at], ..slice }),
            )),
        }
    }

    /// Takes a batch out that may run between two passes of one of `clients`, which has
    /// `remaining_ms` to go: of others that have had no more than those, and shorter than what
    /// remains.
    pub(super) fn take_between(&mut self, clients: &[Client], remaining_ms: f64) -> Vec<Taken> {
        let (places, jobs) = self.may_run();
        let Some(first) = jobs.first() else { return Vec::new() };
        let least_ms =
            clients.iter().map(|client| self.turns.had(*client)).fold(f64::MAX, f64::min);
        if first.had_ms > least_ms {
            return Vec::new();
        }
        let (slices, _) = batch::gather(&jobs, first.model, self.limits.max_batch);
        let mut room_ms = remaining_ms;
        let mut chosen = Vec::new();
        for slice in slices {
            let at = places[slice.at];
            room_ms -= self.jobs[at].cost_ms * slice.pictures.len() as f64;
            if room_ms <= 0.0 || clients.contains(&self.places[at].client) {
                break;
            }
            chosen.push(Slice { at, ..slice });
        }
        self.take_slices(chosen.into_iter())
    }

    fn take_slices(&mut self, slices: impl Iterator<Item = Slice>) -> Vec<Taken> {
        let siblings = self.siblings();
        let taken: Vec<Taken> = slices.map(|slice| self.begin_slice(&slice)).collect();
        // Others that join the batch take only room that would stay empty.
        if let Some(first) = taken.first() {
            let ms = taken.iter().map(|taken| taken.charged_ms).sum();
            self.turns.takes(first.client, ms, siblings.len());
        }
        for taken in &taken {
            *self.running.entry(taken.client).or_default() += 1;
        }
        for taken in &taken {
            let of_address = siblings.get(&taken.client.address).copied().unwrap_or(1);
            self.turns.gets(taken.client, taken.charged_ms, of_address);
        }
        let done = |job: &Waiting| job.pictures.is_empty();
        for at in (0..self.jobs.len()).rev() {
            if done(&self.jobs[at]) {
                self.remove_at(at);
            }
        }
        self.arrange();
        taken
    }

    fn begin_slice(&mut self, slice: &Slice) -> Taken {
        let job = &mut self.jobs[slice.at];
        self.last_model = Some(job.model);
        job.pictures.start = slice.pictures.end;
        let place = &mut self.places[slice.at];
        place.begun = true;
        Taken {
            id: job.id.clone(),
            pictures: slice.pictures.clone(),
            client: place.client,
            charged_ms: job.cost_ms * slice.pictures.len() as f64,
        }
    }

    /// A batch took `ms` of the device: its clients are charged that instead of what was expected.
    pub(super) fn ran(&mut self, batch: Ran<'_>, ms: f64) {
        let pictures: usize = batch.taken.iter().map(|taken| taken.pictures.len()).sum();
        let siblings = self.siblings();
        for taken in batch.taken {
            let share = ms * taken.pictures.len() as f64 / pictures.max(1) as f64;
            let of_address = siblings.get(&taken.client.address).copied().unwrap_or(1);
            self.turns.gets(taken.client, share - taken.charged_ms, of_address);
            if let Some(batches) = self.running.get_mut(&taken.client) {
                *batches -= 1;
                if *batches == 0 {
                    self.running.remove(&taken.client);
                }
            }
        }
        let charged: f64 = batch.taken.iter().map(|taken| taken.charged_ms).sum();
        self.turns.corrects(ms - charged, siblings.len());
        self.costs.learn(batch.model, batch.plan, batch.frames, pictures as u32, ms);
        for job in &mut self.jobs {
            if (job.model, &job.plan, job.frames) == (batch.model, batch.plan, batch.frames) {
                job.cost_ms = self.costs.of(job.model, &job.plan, job.frames, 1);
            }
        }
        let active: HashSet<Client> = self
            .places
            .iter()
            .map(|place| place.client)
            .chain(self.running.keys().copied())
            .collect();
        self.turns.forget_idle(|client| active.contains(&client));
        self.arrange();
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

/// Places from which on a queue is shared out among addresses.
const SHARED_OUT: usize = 8;

/// Most places of a queue that one address may hold beside `others` of other addresses: three
/// quarters of what those leave. Whoever asks first can have most of the queue, and a quarter of
/// what is free is always kept for the next one. A queue too short for that is not shared out.
fn share(limit: usize, others: usize) -> usize {
    let left = limit.saturating_sub(others);
    if limit < SHARED_OUT { left } else { (left * 3).div_ceil(4) }
}

#[cfg(test)]
mod tests {
    use var_dd_engine::sample::Frames;
    use var_dd_protocol::Plan;

    use super::*;

    fn queue(limit: usize) -> Queue {
        let limits = Limits { max_batch: 2, window_ms: 0.0 };
        Queue::new(limit, limits, 100.0)
    }

    fn id(number: i64) -> JobId {
        JobId::from_bits(number as u128)
    }

    fn push(queue: &mut Queue, number: i64, count: u32, expires: bool, now_ms: f64) {
        push_of(queue, Client::default(), number, count, expires, now_ms);
    }

    fn push_of(
        queue: &mut Queue,
        client: Client,
        number: i64,
        count: u32,
        expires: bool,
        now_ms: f64,
    ) {
        let job = Waiting {
            id: id(number),
            model: 0,
            plan: Plan::FewStep { t_list: vec![0], loss_split_t: 1 },
            explore: None,
            frames: Frames::InOrder,
            pictures: 0..count,
            since_ms: now_ms,
            cost_ms: 1.0,
            had_ms: 0.0,
        };
        let entry = NewJob { job, number, client, expires };
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

    fn client(number: u8) -> Client {
        Client { address: Some(IpAddr::from([192, 0, 2, number])), conversation: 0 }
    }

    fn ran(queue: &mut Queue, taken: &[Taken], ms: f64) {
        let plan = Plan::FewStep { t_list: vec![0], loss_split_t: 1 };
        queue.ran(Ran { model: 0, plan: &plan, frames: Frames::InOrder, taken }, ms);
    }

    #[test]
    fn a_second_client_waits_for_one_batch_of_the_first_and_then_both_take_turns() {
        let mut queue = queue(99);
        for number in 0..20 {
            push_of(&mut queue, client(1), number, 2, false, 0.0);
        }
        let Next::Run(first) = queue.take(0.0) else { panic!("nothing runs") };
        for number in 20..23 {
            push_of(&mut queue, client(2), number, 2, false, 0.0);
        }
        assert_eq!(queue.positions().next().unwrap().0, &id(20), "it is told that it is next");
        ran(&mut queue, &first, 30.0);
        let mut order = Vec::new();
        for _ in 0..6 {
            let Next::Run(taken) = queue.take(0.0) else { panic!("nothing runs") };
            order.push(taken[0].client);
            ran(&mut queue, &taken, 30.0);
        }
        assert_eq!(order[0], client(2));
        assert_eq!(order.iter().filter(|of| **of == client(2)).count(), 3);
    }

    #[test]
    fn between_two_passes_only_what_is_shorter_and_of_others_may_run() {
        let mut queue = queue(99);
        push_of(&mut queue, client(1), 1, 2, false, 0.0);
        push_of(&mut queue, client(1), 2, 2, false, 0.0);
        let Next::Run(_) = queue.take(0.0) else { panic!("nothing runs") };
        assert_eq!(queue.take_between(&[client(1)], 1e9), [], "its own jobs wait");
        push_of(&mut queue, client(2), 3, 2, false, 0.0);
        assert_eq!(queue.take_between(&[client(1)], 1.5), [], "two pictures of 1 ms are longer");
        let taken = queue.take_between(&[client(1)], 100.0);
        assert_eq!(taken.iter().map(|taken| &taken.id).collect::<Vec<_>>(), [&id(3)]);
        ran(&mut queue, &taken, 500.0);
        push_of(&mut queue, client(2), 4, 1, false, 0.0);
        assert_eq!(queue.take_between(&[client(1)], 1e9), [], "it has had more by now");
    }

    #[test]
    fn a_queue_that_drains_lets_only_what_has_begun_go_on() {
        let mut queue = queue(9);
        push(&mut queue, 1, 3, false, 0.0);
        push(&mut queue, 2, 1, false, 0.0);
        assert_eq!(taken(queue.take(0.0)), [(id(1), 0..2)]);
        queue.drain();
        assert_eq!(taken(queue.take(0.0)), [(id(1), 2..3)]);
        assert_eq!((queue.take(0.0), queue.depth()), (Next::Idle, 1));
    }

    #[test]
    fn a_full_queue_takes_no_more_until_one_begins() {
        let mut queue = queue(2);
        push(&mut queue, 1, 1, false, 0.0);
        assert!(queue.admit(None, None).is_ok());
        push(&mut queue, 2, 3, false, 0.0);
        let full = queue.admit(None, Some(4200.0)).unwrap_err();
        assert_eq!((full.code, full.retry_after_s), (ErrorCode::QueueFull, Some(5)));
        assert_eq!(taken(queue.take(0.0)), [(id(1), 0..1)]);
        assert!(queue.admit(None, None).is_ok());
    }

    /// Lets jobs of an address wait until it is refused: how many, and the refusal.
    fn flood(queue: &mut Queue, client: Client, number: &mut i64) -> (usize, ErrorBody) {
        for taken in 0.. {
            if let Err(refused) = queue.admit(client.address, Some(900.0)) {
                return (taken, refused);
            }
            *number += 1;
            // Conversations of an address count together.
            let client = Client { conversation: *number as u64, ..client };
            push_of(queue, client, *number, 1, false, 0.0);
        }
        unreachable!("a queue without end");
    }

    #[test]
    fn no_address_takes_what_is_left_for_the_next_one() {
        let mut queue = queue(64);
        let mut number = 0;
        for (address, places, others) in [(1, 48, 0), (2, 12, 48), (3, 3, 60)] {
            let (taken, refused) = flood(&mut queue, client(address), &mut number);
            assert_eq!(taken, places, "address {address}");
            assert_eq!((refused.code, refused.retry_after_s), (ErrorCode::QueueFull, Some(1)));
            for said in [format!("{places} jobs of this address"), format!("with {others} of")] {
                assert!(refused.message.contains(&said), "{}", refused.message);
            }
        }
        // The first one has more than its share by now, the last place is the next one's.
        assert!(queue.admit(client(1).address, None).is_err());
        assert_eq!(flood(&mut queue, client(4), &mut number).0, 1);
        assert!(queue.admit(client(5).address, None).unwrap_err().message.contains("64 of 64"));
    }

    #[test]
    fn the_servers_own_jobs_have_no_share_and_what_has_begun_counts_no_more() {
        let mut queue = queue(8);
        for number in 0..6 {
            assert!(queue.admit(client(1).address, None).is_ok());
            push_of(&mut queue, client(1), number, 1, false, 0.0);
        }
        assert!(queue.admit(client(1).address, None).is_err());
        assert!(queue.admit(None, None).is_ok());
        assert_eq!(taken(queue.take(0.0)), [(id(0), 0..1), (id(1), 0..1)]);
        assert!(queue.admit(client(1).address, None).is_ok());
    }

    #[test]
    fn a_short_queue_is_not_shared_out() {
        let mut queue = queue(7);
        let mut number = 0;
        assert_eq!(flood(&mut queue, client(1), &mut number).0, 7);
    }

    #[test]
    fn a_queue_of_any_size_has_a_place_for_whoever_comes_while_one_is_free() {
        for limit in 1..200 {
            for others in 0..limit {
                assert!((1..=limit - others).contains(&share(limit, others)), "{limit} {others}");
            }
        }
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
