//! How many pictures a second come while they are wanted one after another.

use std::collections::VecDeque;

/// Pictures that are counted.
const COUNTED: usize = 24;

/// A pause this long, in milliseconds, ends a run: nobody wanted anything.
const PAUSE_MS: f64 = 700.0;

/// When the last pictures of a run came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rate(VecDeque<f64>);

impl Rate {
    /// A picture came.
    pub(crate) fn note(&mut self, now_ms: f64) {
        if self.0.back().is_some_and(|last| now_ms - last > PAUSE_MS) {
            self.0.clear();
        }
        self.0.push_back(now_ms);
        if self.0.len() > COUNTED {
            self.0.pop_front();
        }
    }

    /// Pictures a second of the run; nothing until there are a few.
    pub(crate) fn per_second(&self) -> Option<f64> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let between = self.0.len().checked_sub(1).filter(|&between| between >= 3)?;
        (last > first).then(|| 1000.0 * between as f64 / (last - first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_counted_and_a_pause_begins_another() {
        let mut rate = Rate::default();
        for at in 0..3 {
            rate.note(f64::from(at) * 50.0);
            assert_eq!(rate.per_second(), None);
        }
        for at in 3..60 {
            rate.note(f64::from(at) * 50.0);
        }
        assert_eq!(rate.per_second(), Some(20.0));
        rate.note(10_000.0);
        assert_eq!(rate.per_second(), None);
    }
}
