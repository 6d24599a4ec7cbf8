//! The order in which a stage sees its examples.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Examples `0..len`, shuffled anew for every time through: a function of (seed, position) alone.
#[derive(Debug)]
pub(super) struct Deck {
    seed: u64,
    len: u64,
    /// The time through that `order` is of.
    round: Option<u64>,
    order: Vec<u32>,
}

impl Deck {
    /// A deck of `len` examples, at least one.
    pub(super) fn new(seed: u64, len: usize) -> Self {
        Self { seed, len: len.max(1) as u64, round: None, order: Vec::new() }
    }

    /// The examples of step `step`.
    pub(super) fn batch(&mut self, step: u64, batch: usize) -> Vec<usize> {
        let from = step * batch as u64;
        (from..from + batch as u64).map(|position| self.at(position)).collect()
    }

    fn at(&mut self, position: u64) -> usize {
        let round = position / self.len;
        if self.round != Some(round) {
            self.shuffle(round);
        }
        self.order[(position % self.len) as usize] as usize
    }

    /// Fisher and Yates's shuffle.
    fn shuffle(&mut self, round: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(round);
        self.order = (0..self.len as u32).collect();
        for last in (1..self.order.len()).rev() {
            let chosen = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
            self.order.swap(last, chosen as usize);
        }
        self.round = Some(round);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_every_example_once_in_another_order() {
        let mut deck = Deck::new(5, 10);
        let rounds: Vec<Vec<usize>> = (0..3).map(|step| deck.batch(step, 10)).collect();
        for round in &rounds {
            let mut sorted = round.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert!(rounds[0] != rounds[1] && rounds[1] != rounds[2]);
    }

    #[test]
    fn the_order_does_not_depend_on_where_one_begins() {
        let mut whole = Deck::new(5, 10);
        let all: Vec<usize> = (0..9).flat_map(|step| whole.batch(step, 4)).collect();
        assert_eq!(Deck::new(5, 10).batch(7, 4), all[28..32]);
        assert_ne!(Deck::new(6, 10).batch(0, 10), all[..10]);
    }
}
