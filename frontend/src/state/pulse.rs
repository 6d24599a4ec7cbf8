//! Whether the other end of a connection is still there.
//!
//! A connection whose other end is gone (a laptop that slept, a router that forgot it) stays open
//! and silent. So a silent one is pinged, and given up when no answer comes.

/// Silence after which the other side is asked for a sign of life.
const QUIET_MS: f64 = 5_000.0;

/// Longest wait for that sign.
const PATIENCE_MS: f64 = 6_000.0;

/// Longest wait for the answer to a question while other things are heard: something between may
/// have lost it.
const ANSWER_MS: f64 = 20_000.0;

/// What to do about a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    /// Nothing for so many milliseconds.
    Wait(f64),
    /// Ask for a sign of life.
    Ping,
    /// Nobody is there any more.
    GiveUp,
}

/// When something was last heard, and since when an answer is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pulse {
    heard_ms: f64,
    /// Since when any sign of life is due.
    due_ms: Option<f64>,
    /// Since when the answer to a question is.
    asked_ms: Option<f64>,
}

impl Pulse {
    /// Of a connection on which something was just heard.
    pub(crate) fn new(now_ms: f64) -> Self {
        Self { heard_ms: now_ms, due_ms: None, asked_ms: None }
    }

    /// Something was heard, whatever it was.
    pub(crate) fn heard(&mut self, now_ms: f64) {
        (self.heard_ms, self.due_ms) = (now_ms, None);
    }

    /// A sign of life was asked for.
    pub(crate) fn pinged(&mut self, now_ms: f64) {
        self.due_ms.get_or_insert(now_ms);
    }

    /// Something was asked that has an answer.
    pub(crate) fn asked(&mut self, now_ms: f64) {
        self.pinged(now_ms);
        self.asked_ms.get_or_insert(now_ms);
    }

    /// All that was asked is answered.
    pub(crate) fn answered(&mut self) {
        self.asked_ms = None;
    }

    /// A sign of life is wanted sooner: the page woke up, or the network changed.
    pub(crate) fn doubt(&mut self) {
        self.heard_ms = f64::NEG_INFINITY;
    }

    /// What to do now.
    pub(crate) fn next(&self, now_ms: f64) -> Next {
        let (sign_ms, sign) = match self.due_ms {
            Some(due) => (due + PATIENCE_MS, Next::GiveUp),
            None => (self.heard_ms + QUIET_MS, Next::Ping),
        };
        let answer_ms = self.asked_ms.map_or(f64::INFINITY, |asked| asked + ANSWER_MS);
        let (until, due) =
            if answer_ms < sign_ms { (answer_ms, Next::GiveUp) } else { (sign_ms, sign) };
        let left = until - now_ms;
        if left > 0.0 { Next::Wait(left) } else { due }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_connection_is_pinged_and_a_dead_one_given_up_within_seconds() {
        let mut pulse = Pulse::new(0.0);
        assert_eq!(pulse.next(1_000.0), Next::Wait(4_000.0));
        assert_eq!(pulse.next(5_000.0), Next::Ping);
        pulse.pinged(5_000.0);
        assert_eq!(pulse.next(10_000.0), Next::Wait(1_000.0));
        assert_eq!(pulse.next(11_000.0), Next::GiveUp);
    }

    #[test]
    fn whatever_is_heard_is_a_sign_of_life() {
        let mut pulse = Pulse::new(0.0);
        pulse.asked(100.0);
        pulse.asked(4_000.0);
        assert_eq!(pulse.next(6_100.0), Next::GiveUp, "the first question counts");
        pulse.heard(6_000.0);
        assert_eq!(pulse.next(6_100.0), Next::Wait(4_900.0));
    }

    #[test]
    fn a_question_that_is_never_answered_is_given_up_though_the_other_side_lives() {
        let mut pulse = Pulse::new(0.0);
        pulse.asked(0.0);
        for second in 1..19 {
            pulse.heard(f64::from(second) * 1_000.0);
        }
        assert_eq!(pulse.next(19_000.0), Next::Wait(1_000.0));
        assert_eq!(pulse.next(20_000.0), Next::GiveUp);
        pulse.answered();
        assert_eq!(pulse.next(20_000.0), Next::Wait(3_000.0));
    }

    #[test]
    fn a_page_that_wakes_up_asks_at_once() {
        let mut pulse = Pulse::new(0.0);
        pulse.doubt();
        assert_eq!(pulse.next(10.0), Next::Ping);
        pulse.asked(10.0);
        pulse.doubt();
        assert!(matches!(pulse.next(20.0), Next::Wait(_)), "an answer is due already");
    }
}
