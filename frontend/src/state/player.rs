//! Which tile is on the stage: the one furthest on, one that is held, or one after the other.
//!
//! A pure state machine: what is drawn and what time it is come in as arguments, so that slow and
//! fast machines are a matter of numbers.

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
}

/// How long each scale stays on the stage when a picture comes into focus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HoldTime {
    /// Not at all: the stage shows whatever is newest.
    Off,
    Short,
    #[default]
    Normal,
    Long,
}

impl HoldTime {
    pub(crate) const ALL: [Self; 4] = [Self::Off, Self::Short, Self::Normal, Self::Long];

    /// Its name in attributes and in what the browser remembers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Short => "short",
            Self::Normal => "normal",
            Self::Long => "long",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hold| hold.name() == name)
    }

    /// What people read.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Off => "not slowed",
            Self::Short => "0.15 s a scale",
            Self::Normal => "0.3 s a scale",
            Self::Long => "1 s a scale",
        }
    }

    /// Milliseconds of each scale; a replay that is asked for needs some time even if a new picture
    /// is not to be shown slowed.
    fn ms(self) -> f64 {
        match self {
            Self::Short => 150.0,
            Self::Off | Self::Normal => 300.0,
            Self::Long => 1000.0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Follow,
    Hold,
    Play {
        began_ms: f64,
        from: usize,
    },
    /// A new picture comes into focus: each tile stays for a while, from when it came on the stage
    /// (`since_ms`; absent until the first one is there).
    Focus {
        since_ms: Option<f64>,
    },
}

/// What is on the stage. `times` is when each tile was drawn, absent where it is not (yet).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Player {
    mode: Mode,
    pub(crate) pace: Pace,
    hold: HoldTime,
    at: usize,
}

impl Default for Player {
    fn default() -> Self {
        Self { mode: Mode::Follow, pace: Pace::default(), hold: HoldTime::default(), at: 0 }
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

    /// Whether what was drawn is played again.
    pub(crate) fn is_playing(&self) -> bool {
        matches!(self.mode, Mode::Play { .. })
    }

    /// Whether a new picture comes into focus.
    pub(crate) fn is_focusing(&self) -> bool {
        matches!(self.mode, Mode::Focus { .. })
    }

    /// A player of another job at the same pace.
    pub(crate) fn fresh(self) -> Self {
        Self { mode: Mode::Follow, at: 0, ..self }
    }

    /// The same with another time for each scale.
    pub(crate) fn with_hold(self, hold: HoldTime) -> Self {
        Self { hold, ..self }
    }

    /// Shows whatever is furthest on.
    pub(crate) fn following(self) -> Self {
        Self { mode: Mode::Follow, ..self }
    }

    /// Holds a tile.
    pub(crate) fn holding(self, at: usize) -> Self {
        Self { mode: Mode::Hold, at, ..self }
    }

    /// Lets a new picture come into focus from its first tile on, unless the show is off.
    pub(crate) fn focusing(self) -> Self {
        let mode = match self.hold {
            HoldTime::Off => Mode::Follow,
            _ => Mode::Focus { since_ms: None },
        };
        Self { mode, at: 0, ..self }
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

    /// Plays at a pace: from where it is if that is another pace while it plays, else from the
    /// beginning.
    pub(crate) fn paced(self, pace: Pace, now_ms: f64, times: &[Option<f64>]) -> Self {
        let other = Self { pace, ..self };
        if self.is_playing() && pace != self.pace {
            other.resumed(now_ms, times)
        } else {
            other.playing(now_ms, times)
        }
    }

    /// Time went on, or more was drawn. What is played to its end is held there; with
    /// `more_to_come` it goes on with what comes.
    pub(crate) fn at_time(self, now_ms: f64, times: &[Option<f64>], more_to_come: bool) -> Self {
        match self.mode {
            Mode::Follow | Mode::Hold => self,
            Mode::Play { began_ms, from } => {
                self.played(now_ms - began_ms, from, times, more_to_come)
            }
            Mode::Focus { since_ms } => self.focused(now_ms, since_ms, times, more_to_come),
        }
    }

    fn played(self, elapsed: f64, from: usize, times: &[Option<f64>], more_to_come: bool) -> Self {
        let Some(start) = times.get(from).copied().flatten() else { return self.following() };
        let mut at = from;
        let drawn = (from..times.len()).filter_map(|tile| Some((tile, times[tile]?)));
        let mut last = from;
        for (number, (tile, ms)) in drawn.enumerate() {
            let due = match self.pace {
                Pace::True => ms - start,
                Pace::Slow => (ms - start) * Pace::SLOWER,
                Pace::Scales => number as f64 * self.hold.ms(),
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

    /// One tile at a time, however many came at once; a tile that comes late is shown as it comes.
    fn focused(
        self,
        now_ms: f64,
        since_ms: Option<f64>,
        times: &[Option<f64>],
        more_to_come: bool,
    ) -> Self {
        let drawn = |at: &usize| times[*at].is_some();
        let shown = since_ms.filter(|_| times.get(self.at).is_some_and(Option::is_some));
        let next = match shown {
            Some(since) if now_ms - since < self.hold.ms() => return self,
            Some(_) => (self.at + 1..times.len()).find(drawn),
            None => (0..times.len()).find(drawn),
        };
        match next {
            // Nothing can follow the last tile of the plan.
            Some(at) if at + 1 == times.len() => Self { at, ..self }.following(),
            Some(at) => Self { mode: Mode::Focus { since_ms: Some(now_ms) }, at, ..self },
            // Nothing is there any more when a job starts over.
            None if more_to_come && shown.is_none() => self.focusing(),
            None if more_to_come => self,
            None => self.following(),
        }
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
        assert_eq!([299.0, 300.0, 600.0].map(|ms| shown(Pace::Scales, ms)), [0, 1, 2].map(Some));
        assert!(tile_after(Pace::True, 99.0).is_playing());
        assert!(!tile_after(Pace::True, 100.0).is_playing());
    }

    #[test]
    fn the_chosen_pace_chosen_again_plays_again() {
        let over = Player::default().holding(2);
        let again = over.paced(over.pace, 50.0, &TIMES);
        assert!(again.is_playing());
        assert_eq!(again.tile(&TIMES), Some(0));
        let midway = again.at_time(350.0, &TIMES, false);
        assert_eq!(midway.tile(&TIMES), Some(1));
        assert_eq!(
            midway.paced(Pace::Slow, 350.0, &TIMES).tile(&TIMES),
            Some(1),
            "another goes on"
        );
        assert_eq!(midway.paced(Pace::Scales, 350.0, &TIMES).tile(&TIMES), Some(0));
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

    /// What is on the stage, looked at every 25 ms, while tiles are drawn at `drawn`: the time at
    /// which each tile came on.
    fn shows(hold: HoldTime, drawn: &[f64]) -> Vec<(usize, f64)> {
        let mut player = Player { hold, ..Player::default() }.focusing();
        let mut seen: Vec<(usize, f64)> = Vec::new();
        for now in (0..400).map(|tick| f64::from(tick) * 25.0) {
            let times: Vec<_> = drawn.iter().map(|&ms| (ms <= now).then_some(ms)).collect();
            player = player.at_time(now, &times, times.contains(&None));
            if let Some(tile) = player.tile(&times)
                && seen.last().is_none_or(|&(last, _)| last != tile)
            {
                seen.push((tile, now));
            }
        }
        assert!(!player.is_focusing(), "the show ends");
        seen
    }

    #[test]
    fn a_picture_of_a_fast_machine_comes_into_focus_at_a_speed_an_eye_can_follow() {
        let at_once = [10.0, 11.0, 12.0, 13.0];
        let seen = [(0, 25.0), (1, 325.0), (2, 625.0), (3, 925.0)];
        assert_eq!(shows(HoldTime::Normal, &at_once), seen);
        assert_eq!(
            shows(HoldTime::Short, &at_once),
            [(0, 25.0), (1, 175.0), (2, 325.0), (3, 475.0)]
        );
    }

    #[test]
    fn a_slow_machine_is_not_slowed_further() {
        let slow = [1000.0, 2000.0, 3000.0, 4000.0];
        let seen: Vec<_> = shows(HoldTime::Normal, &slow);
        assert_eq!(seen, [(0, 1000.0), (1, 2000.0), (2, 3000.0), (3, 4000.0)]);
    }

    #[test]
    fn tiles_that_come_in_a_burst_after_a_pause_are_held_each() {
        let seen = shows(HoldTime::Normal, &[0.0, 2000.0, 2001.0, 2002.0]);
        assert_eq!(seen, [(0, 0.0), (1, 2000.0), (2, 2300.0), (3, 2600.0)]);
    }

    #[test]
    fn a_show_that_is_off_or_skipped_follows_what_is_drawn() {
        let off = Player { hold: HoldTime::Off, ..Player::default() };
        assert_eq!(off.focusing(), off.following());
        let showing = Player::default().focusing().at_time(0.0, &TIMES, true);
        assert_eq!(showing.tile(&TIMES), Some(0));
        assert_eq!(showing.following().tile(&TIMES), Some(2));
    }

    #[test]
    fn a_show_goes_on_past_frames_that_never_came() {
        let with_gap = [Some(1.0), None, Some(2.0), None];
        let first = Player::default().focusing().at_time(0.0, &with_gap, false);
        let second = first.at_time(300.0, &with_gap, false);
        assert_eq!(second.tile(&with_gap), Some(2));
        assert!(!second.at_time(600.0, &with_gap, false).is_focusing(), "the job has ended");
        assert!(second.at_time(600.0, &with_gap, true).is_focusing(), "more may come");
    }

    #[test]
    fn a_job_that_starts_over_is_shown_from_its_first_tile_again() {
        let drawn = [Some(1.0), Some(2.0), Some(3.0), None];
        let midway =
            Player::default().focusing().at_time(0.0, &drawn, true).at_time(300.0, &drawn, true);
        let again = midway.at_time(600.0, &[None; 4], true);
        assert_eq!(again.tile(&[None; 4]), None);
        assert_eq!(again.at_time(625.0, &drawn, true).tile(&drawn), Some(0));
    }
}
