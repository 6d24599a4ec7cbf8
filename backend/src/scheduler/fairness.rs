//! Whose turn it is: every client gets the same share of the device, in milliseconds. Pure.
//!
//! Starting-potential fair queueing (Stiliadis and Varma, 1996): each client has a virtual time,
//! which is how much of the device it has had. The client that has had least comes first, and one
//! that comes back after a pause has had as much as whoever is being served, neither credit nor
//! debt; that moves on with what is drawn, so that no stream of newcomers keeps others waiting.
//! Conversations of one address share its part: what one of them gets counts as many times as
//! there are of them.

use std::collections::HashMap;

use var_dd_engine::sample::{Frames, plan::Plan};

use crate::jobs::Client;

/// Weight of the newest batch in the mean cost of its kind.
const NEWEST: f64 = 0.3;

/// Kinds of jobs whose cost is remembered.
const MOST_KINDS: usize = 256;

/// Milliseconds of a pass per picture, where nothing was measured yet.
const UNKNOWN_PASS_MS: f64 = 10.0;

/// What clients have had of the device.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Virtual time at which the last batch began.
    now: f64,
    /// How far that batch moves it on, in the end.
    serving: f64,
    had: HashMap<Client, f64>,
}

impl Turns {
    /// What a client has had.
    pub(super) fn had(&self, client: Client) -> f64 {
        self.had.get(&client).copied().unwrap_or(self.now)
    }

    /// A client that had nothing waiting or running wants something.
    pub(super) fn arrives(&mut self, client: Client) {
        let had = self.had(client).max(self.now);
        self.had.insert(client, had);
    }

    /// A batch is taken that takes `ms`, first of all for a client, while clients at so many
    /// `addresses` have something waiting or running.
    pub(super) fn takes(&mut self, client: Client, ms: f64, addresses: usize) {
        self.now = (self.now + self.serving.max(0.0)).max(self.had(client));
        self.serving = ms / addresses.max(1) as f64;
    }

    /// A batch took so many ms more than was thought, or fewer.
    pub(super) fn corrects(&mut self, ms: f64, addresses: usize) {
        self.serving += ms / addresses.max(1) as f64;
    }

    /// A client gets `ms` of the device, as one of `siblings` of its address.
    pub(super) fn gets(&mut self, client: Client, ms: f64, siblings: usize) {
        let had = self.had(client) + ms * siblings.max(1) as f64;
        self.had.insert(client, had);
    }

    /// Forgets clients that are neither among `active` nor ahead of the others.
    pub(super) fn forget_idle(&mut self, active: impl Fn(Client) -> bool) {
        let now = self.now;
        self.had.retain(|client, had| *had > now || active(*client));
    }

    /// Puts jobs, given by client and cost and in the order of acceptance, into the order in which
    /// they would run; returns their places. `siblings` is how many clients share an address.
    pub(super) fn order(
        &self,
        jobs: &[(Client, f64)],
        siblings: impl Fn(Client) -> usize,
    ) -> Vec<usize> {
        let mut next: HashMap<Client, f64> = HashMap::new();
        let tags: Vec<f64> = jobs
            .iter()
            .map(|(client, cost)| {
                let start = next.entry(*client).or_insert_with(|| self.had(*client));
                let tag = *start;
                *start += cost * siblings(*client).max(1) as f64;
                tag
            })
            .collect();
        let mut order: Vec<usize> = (0..jobs.len()).collect();
        // Stable: of equals the one accepted first.
        order.sort_by(|&a, &b| tags[a].total_cmp(&tags[b]));
        order
    }
}

/// What a picture costs, by model, plan and order of frames, as measured.
#[derive(Debug, Default)]
pub(super) struct Costs(Vec<(usize, Plan, Frames, f64)>);

impl Costs {
    /// Milliseconds that a picture of `passes` passes takes on the device.
    pub(super) fn of(&self, model: usize, plan: &Plan, frames: Frames, passes: usize) -> f64 {
        let known = self.0.iter().find(|kind| (kind.0, &kind.1, kind.2) == (model, plan, frames));
        known.map_or(UNKNOWN_PASS_MS * passes.max(1) as f64, |kind| kind.3)
    }

    /// A batch of `pictures` took `ms`.
    pub(super) fn learn(
        &mut self,
        model: usize,
        plan: &Plan,
        frames: Frames,
        pictures: u32,
        ms: f64,
    ) {
        let each = ms / f64::from(pictures.max(1));
        match self.0.iter().position(|kind| (kind.0, &kind.1, kind.2) == (model, plan, frames)) {
            Some(at) => {
                let mut kind = self.0.remove(at);
                kind.3 += (each - kind.3) * NEWEST;
                self.0.push(kind);
            }
            None => {
                if self.0.len() == MOST_KINDS {
                    // The one not seen for longest.
                    self.0.remove(0);
                }
                self.0.push((model, plan.clone(), frames, each));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(number: u8, conversation: u64) -> Client {
        Client { address: Some(IpAddr::from([192, 0, 2, number])), conversation }
    }

    /// Serves `jobs` of (client, cost) that are always there; what each client gets of so many ms.
    fn shares(jobs: &[(Client, f64)], total_ms: f64) -> Vec<f64> {
        let mut turns = Turns::default();
        let siblings = |of: Client| jobs.iter().filter(|job| job.0.address == of.address).count();
        let addresses: std::collections::HashSet<_> =
            jobs.iter().map(|job| job.0.address).collect();
        let addresses = addresses.len();
        let mut got = vec![0.0; jobs.len()];
        while got.iter().sum::<f64>() < total_ms {
            let first = turns.order(jobs, siblings)[0];
            let (client, cost) = jobs[first];
            turns.takes(client, cost, addresses);
            turns.gets(client, cost, siblings(client));
            got[first] += cost;
        }
        got.iter().map(|ms| ms / total_ms).collect()
    }

    fn close(found: &[f64], expected: &[f64]) -> bool {
        found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 0.03)
    }

    #[test]
    fn clients_under_full_load_get_equal_shares_whatever_their_jobs_cost() {
        let (a, b, c) = (client(1, 0), client(2, 0), client(3, 0));
        assert!(close(&shares(&[(a, 900.0), (b, 10.0)], 1e5), &[0.5, 0.5]));
        assert!(close(&shares(&[(a, 30.0), (b, 10.0), (c, 90.0)], 1e5), &[0.33, 0.33, 0.33]));
    }

    #[test]
    fn conversations_of_one_address_share_its_part() {
        let jobs = [(client(1, 1), 10.0), (client(1, 2), 10.0), (client(2, 1), 10.0)];
        assert!(close(&shares(&jobs, 1e5), &[0.25, 0.25, 0.5]));
    }

    #[test]
    fn who_comes_late_is_next_and_gets_no_credit_for_the_time_before() {
        let mut turns = Turns::default();
        let (old, new) = (client(1, 0), client(2, 0));
        turns.arrives(old);
        for _ in 0..60 {
            turns.takes(old, 100.0, 1);
            turns.gets(old, 100.0, 1);
        }
        turns.arrives(new);
        let waiting = [(old, 100.0), (old, 100.0), (new, 100.0), (new, 100.0)];
        assert_eq!(turns.order(&waiting, |_| 1), [2, 0, 3, 1]);
    }

    #[test]
    fn a_stream_of_newcomers_keeps_nobody_waiting() {
        let mut turns = Turns::default();
        let patient = client(1, 0);
        turns.arrives(patient);
        turns.gets(patient, 5000.0, 1);
        for served in 0..=501 {
            let newcomer = client(1, 1 + served);
            turns.arrives(newcomer);
            if turns.order(&[(patient, 10.0), (newcomer, 10.0)], |_| 2)[0] == 0 {
                assert_eq!(served, 501, "before the others had as much");
                return;
            }
            turns.takes(newcomer, 10.0, 1);
            turns.gets(newcomer, 10.0, 2);
            turns.forget_idle(|client| client == patient);
        }
        panic!("who had much waits for ever");
    }

    #[test]
    fn a_client_that_went_is_forgotten_once_it_has_no_debt() {
        let mut turns = Turns::default();
        turns.arrives(client(1, 0));
        turns.takes(client(1, 0), 50.0, 1);
        turns.gets(client(1, 0), 50.0, 1);
        turns.forget_idle(|_| false);
        assert_eq!(turns.had(client(1, 0)), 50.0, "leaving does not pay the debt");
        turns.arrives(client(2, 0));
        turns.gets(client(2, 0), 60.0, 1);
        turns.takes(client(2, 0), 60.0, 2);
        turns.forget_idle(|_| false);
        assert!(turns.had.is_empty());
    }

    #[test]
    fn costs_are_those_measured_and_follow_them() {
        let plan = Plan::FewStep { t_list: vec![0], loss_split_t: 1 };
        let mut costs = Costs::default();
        assert_eq!(costs.of(0, &plan, Frames::InOrder, 3), 3.0 * UNKNOWN_PASS_MS);
        costs.learn(0, &plan, Frames::InOrder, 4, 80.0);
        assert_eq!(costs.of(0, &plan, Frames::InOrder, 3), 20.0);
        for _ in 0..30 {
            costs.learn(0, &plan, Frames::InOrder, 1, 50.0);
        }
        assert!((costs.of(0, &plan, Frames::InOrder, 3) - 50.0).abs() < 0.1);
        assert_eq!(costs.of(1, &plan, Frames::InOrder, 1), UNKNOWN_PASS_MS, "another model");
    }
}
