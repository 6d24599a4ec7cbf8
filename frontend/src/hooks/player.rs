//! The player of a job, with a clock that runs while it plays.

use std::rc::Rc;

use gloo_timers::callback::Interval;
use yew::prelude::*;

use crate::{
    api::now_ms,
    state::{
        job::Job,
        player::{Pace, Player},
        timeline::Timeline,
    },
};

/// Between two looks at the clock.
const TICK_MS: u32 = 25;

/// A number that changes every few milliseconds while `running`: now, by the clock of this
/// document.
#[hook]
pub(crate) fn use_clock(running: bool) -> f64 {
    let now = use_state_eq(now_ms);
    {
        let now = now.setter();
        use_effect_with(running, move |&running| {
            if running {
                now.set(now_ms());
            }
            let ticks = running.then(|| Interval::new(TICK_MS, move || now.set(now_ms())));
            move || drop(ticks)
        });
    }
    *now
}

/// A player and what it plays.
#[derive(Clone, PartialEq)]
pub(crate) struct Playing {
    player: UseStateHandle<Player>,
    pub(crate) timeline: Rc<Timeline>,
    times: Rc<Vec<Option<f64>>>,
    /// The tile on the stage, if any is drawn.
    pub(crate) tile: Option<usize>,
}

impl Playing {
    pub(crate) fn is_playing(&self) -> bool {
        self.player.is_playing()
    }

    pub(crate) fn pace(&self) -> Pace {
        self.player.pace
    }

    /// Holds a tile that is drawn.
    pub(crate) fn choose(&self, tile: usize) {
        if self.times.get(tile).is_some_and(Option::is_some) {
            self.player.set(self.player.holding(tile));
        }
    }

    /// Holds a neighbour of the tile on the stage.
    pub(crate) fn step(&self, by: isize) {
        self.player.set(self.player.stepped(by, &self.times));
    }

    /// Plays, or holds what is on the stage.
    pub(crate) fn toggle(&self) {
        self.player.set(match self.tile {
            Some(tile) if self.player.is_playing() => self.player.holding(tile),
            _ => self.player.resumed(now_ms(), &self.times),
        });
    }

    /// Plays at a pace.
    pub(crate) fn play_at(&self, pace: Pace) {
        self.player.set(self.player.paced(pace, now_ms(), &self.times));
    }
}

/// The player of `job`; a new one for every other job. With `by_itself` a finished job plays once
/// when it comes.
#[hook]
pub(crate) fn use_player(job: Option<Rc<Job>>, forward: Option<usize>, by_itself: bool) -> Playing {
    let player = use_state_eq(Player::default);
    let timeline = use_memo((job.clone(), forward), |(job, forward)| {
        job.as_ref().map_or(Timeline { tiles: Vec::new(), groups: Vec::new() }, |job| {
            Timeline::of(job, *forward)
        })
    });
    let times = use_memo(timeline.clone(), |timeline| timeline.times());
    let ended = job.as_ref().is_some_and(|job| job.state.is_final());
    {
        let (player, times) = (player.clone(), times.clone());
        let plays = by_itself && ended && !prefers_stillness();
        use_effect_with((job.as_ref().map(|job| job.id().clone()), plays), move |(_, plays)| {
            let fresh = player.fresh();
            player.set(if *plays { fresh.playing(now_ms(), &times) } else { fresh });
        });
    }
    let now = use_clock(player.is_playing());
    {
        let (player, times) = (player.clone(), times.clone());
        use_effect_with(now, move |&now| player.set(player.at_time(now, &times, !ended)));
    }
    let tile = player.tile(&times);
    Playing { player, timeline, times, tile }
}

/// Whether the person asked for less motion.
pub(crate) fn prefers_stillness() -> bool {
    let query = web_sys::window()
        .and_then(|window| window.match_media("(prefers-reduced-motion: reduce)").ok());
    query.flatten().is_some_and(|query| query.matches())
}
