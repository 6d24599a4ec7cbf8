//! Which tile is on the stage: the one furthest on, one that is held, or one after the other.

/// How fast a result is played again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As it was drawn.
    True,
    /// Slower than it was drawn.
    Slow,
    /// Each scale for the same time.
    #[default]
    Scales,
}

impl Pace {
    pub(crate) const ALL: [Self; 3] = [Self::True, Self::Slow, Self::Scales];
    /// Times slower than [`Pace::True`].
    const SLOWER: f64 = 5.0;
    /// Milliseconds of each scale.
    const SCALE_MS: f64 = 600.0;
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Follow,
    Hold,
    Play { began_ms: f64, from: usize },
}

/// What is on the stage. `times` is when each tile was drawn, absent where it is not (yet).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Player {
    mode: Mode,
    pub(crate) pace: Pace,
    at: usize,
}

impl Default for Player {
    fn default() -> Self {
        Self { mode: Mode::Follow, pace: Pace::default(), at: 0 }
    }
}

impl Player {
    /// The tile on the stage, if any is drawn.
    pub(crate) fn tile(&self, times: &[Option<f64>]) -> Option<usize> {
        let drawn = |at: &usize| times[*at].is_some();
        if self.mode == Mode::Follow {
            return (0..times.len()).rfind(drawn);
        }
        let end = (self.at + 1).min(times.len());
        (0..end).rfind(drawn).or_else(|| (0..times.len()).find(drawn))
    }

    pub(crate) fn is_playing(&self) -> bool {
        matches!(self.mode, Mode::Play { .. })
    }

    /// A player of another job at the same pace.
    pub(crate) fn fresh(self) -> Self {
        Self { pace: self.pace, ..Self::default() }
    }

    /// Shows whatever is furthest on.
    pub(crate) fn following(self) -> Self {
        Self { mode: Mode::Follow, ..self }
    }

    /// Holds a tile.
    pub(crate) fn holding(self, at: usize) -> Self {
        Self { mode: Mode::Hold, at, ..self }
    }

    /// Holds the drawn tile that is `by` tiles further on, at most the first or last.
    pub(crate) fn stepped(self, by: isize, times: &[Option<f64>]) -> Self {
        let drawn: Vec<_> = (0..times.len()).filter(|&at| times[at].is_some()).collect();
        let Some(now) = self.tile(times) else { return self };
        let place = drawn.partition_point(|&at| at < now);
        let place = place.saturating_add_signed(by).min(drawn.len().saturating_sub(1));
        drawn.get(place).map_or(self, |&at| self.holding(at))
    }

    /// Plays from the beginning.
    pub(crate) fn playing(self, now_ms: f64, times: &[Option<f64>]) -> Self {
        let from = (0..times.len()).find(|&at| times[at].is_some());
        from.map_or(self, |from| Self {
            mode: Mode::Play { began_ms: now_ms, from },
            at: from,
            ..self
        })
    }

    /// Plays from the tile on the stage, or from the beginning if that is the last one.
    pub(crate) fn resumed(self, now_ms: f64, times: &[Option<f64>]) -> Self {
        let last = (0..times.len()).rfind(|&at| times[at].is_some());
        match self.tile(times) {
            Some(from) if Some(from) != last => {
                Self { mode: Mode::Play { began_ms: now_ms, from }, at: from, ..self }
            }
            _ => self.playing(now_ms, times),
        }
    }

    /// Plays at another pace, from where it is.
    pub(crate) fn paced(self, pace: Pace, now_ms: f64, times: &[Option<f64>]) -> Self {
        let other = Self { pace, ..self };
        if self.is_playing() { other.resumed(now_ms, times) } else { other.playing(now_ms, times) }
    }

    /// Time went on. What is played to its end is held there; with `more_to_come` it goes on with
    /// what comes.
    pub(crate) fn at_time(self, now_ms: f64, times: &[Option<f64>], more_to_come: bool) -> Self {
        let Mode::Play { began_ms, from } = self.mode else { return self };
        let Some(start) = times.get(from).copied().flatten() else { return self.following() };
        let elapsed = now_ms - began_ms;
        let mut at = from;
        let drawn = (from..times.len()).filter_map(|tile| Some((tile, times[tile]?)));
        let mut last = from;
        for (number, (tile, ms)) in drawn.enumerate() {
            let due = match self.pace {
                Pace::True => ms - start,
                Pace::Slow => (ms - start) * Pace::SLOWER,
                Pace::Scales => number as f64 * Pace::SCALE_MS,
            };
            if due <= elapsed {
                at = tile;
            }
            last = tile;
        }
        if at == last {
            return if more_to_come { self.following() } else { self.holding(last) };
        }
        Self { at, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: [Option<f64>; 4] = [Some(100.0), Some(110.0), Some(200.0), None];

    #[test]
    fn following_shows_the_tile_that_is_furthest_on() {
        let player = Player::default();
        assert_eq!(player.tile(&TIMES), Some(2));
        assert_eq!(player.tile(&[Some(2.0), None, Some(1.0)]), Some(2), "whichever came first");
        assert_eq!(player.tile(&[None, None]), None);
        assert_eq!(player.tile(&[]), None);
    }

    #[test]
    fn a_held_tile_stays_and_one_that_is_not_drawn_gives_way_to_the_one_before() {
        assert_eq!(Player::default().holding(1).tile(&TIMES), Some(1));
        assert_eq!(Player::default().holding(3).tile(&TIMES), Some(2));
        assert_eq!(Player::default().holding(0).tile(&[None, Some(1.0)]), Some(1));
    }

    #[test]
    fn steps_stop_at_the_ends() {
        let player = Player::default();
        assert_eq!(player.stepped(-1, &TIMES).tile(&TIMES), Some(1));
        assert_eq!(player.stepped(-9, &TIMES).tile(&TIMES), Some(0));
        assert_eq!(player.stepped(1, &TIMES).tile(&TIMES), Some(2));
        assert_eq!(player.stepped(1, &[]), player);
    }

    #[test]
    fn playing_again_keeps_the_distances_in_time_and_holds_the_last() {
        let tile_after = |pace, ms: f64| {
            let player = Player { pace, ..Player::default() }.playing(1000.0, &TIMES);
            player.at_time(1000.0 + ms, &TIMES, false)
        };
        let shown = |pace, ms| tile_after(pace, ms).tile(&TIMES);
        assert_eq!(
            [0.0, 9.0, 10.0, 99.0, 100.0].map(|ms| shown(Pace::True, ms)),
            [0, 0, 1, 1, 2].map(Some)
        );
        assert_eq!(
            [49.0, 50.0, 499.0, 500.0].map(|ms| shown(Pace::Slow, ms)),
            [0, 1, 1, 2].map(Some)
        );
        assert_eq!([599.0, 600.0, 1200.0].map(|ms| shown(Pace::Scales, ms)), [0, 1, 2].map(Some));
        assert!(tile_after(Pace::True, 99.0).is_playing());
        assert!(!tile_after(Pace::True, 100.0).is_playing());
    }

    #[test]
    fn playing_a_job_that_still_runs_ends_in_following_it() {
        let player = Player { pace: Pace::True, ..Player::default() }.playing(0.0, &TIMES);
        assert_eq!(player.at_time(500.0, &TIMES, true), player.following());
    }

    #[test]
    fn resuming_goes_on_from_the_held_tile_and_from_the_end_begins_anew() {
        let held = Player { pace: Pace::Scales, ..Player::default() }.holding(1);
        assert_eq!(held.resumed(0.0, &TIMES).tile(&TIMES), Some(1));
        assert_eq!(held.holding(2).resumed(0.0, &TIMES).tile(&TIMES), Some(0));
        assert_eq!(Player::default().resumed(0.0, &[None]), Player::default());
    }
}
