//! The player of a job, with a clock that runs while it plays.

use std::rc::Rc;

use gloo_timers::callback::Interval;
use var_dd_protocol::JobId;
use yew::prelude::*;

use super::memory::{preference, preference_names::HOLD};
use crate::{
    api::now_ms,
    state::{
        job::Job,
        player::{HoldTime, Pace, Player},
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
    /// Whether what was drawn is played again.
    pub(crate) fn is_playing(&self) -> bool {
        self.player.is_playing()
    }

    /// Whether a new picture comes into focus.
    pub(crate) fn is_focusing(&self) -> bool {
        self.player.is_focusing()
    }

    pub(crate) fn pace(&self) -> Pace {
        self.player.pace
    }

    /// Whether a tile is drawn and may be brought to the stage.
    pub(crate) fn is_drawn(&self, tile: usize) -> bool {
        self.times.get(tile).is_some_and(Option::is_some)
    }

    /// Holds a tile that is drawn.
    pub(crate) fn choose(&self, tile: usize) {
        if self.is_drawn(tile) {
            self.player.set(self.player.holding(tile));
        }
    }

    /// Holds a neighbour of the tile on the stage.
    pub(crate) fn step(&self, by: isize) {
        self.player.set(self.player.stepped(by, &self.times));
    }

    /// Plays, or holds what is on the stage; a picture that comes into focus is shown finished.
    pub(crate) fn toggle(&self) {
        self.player.set(match self.tile {
            _ if self.player.is_focusing() => self.player.following(),
            Some(tile) if self.player.is_playing() => self.player.holding(tile),
            _ => remembering(*self.player).resumed(now_ms(), &self.times),
        });
    }

    /// Shows what is furthest on, at once.
    pub(crate) fn skip(&self) {
        self.player.set(self.player.following());
    }

    /// Plays at a pace.
    pub(crate) fn play_at(&self, pace: Pace) {
        self.player.set(remembering(*self.player).paced(pace, now_ms(), &self.times));
    }
}

/// The player of `job`; a new one for every other job. A job that still runs, or was asked for
/// here, comes into focus; with `by_itself` a finished one plays once when it comes.
#[hook]
pub(crate) fn use_player(job: Option<Rc<Job>>, forward: Option<usize>, by_itself: bool) -> Playing {
    let player = use_state_eq(Player::default);
    // What was asked for before this player was there is no news.
    let began_ms = *use_memo((), |()| now_ms());
    let timeline = use_memo((job.clone(), forward), |(job, forward)| {
        job.as_ref().map_or(Timeline { tiles: Vec::new(), groups: Vec::new() }, |job| {
            Timeline::of(job, *forward)
        })
    });
    let times = use_memo(timeline.clone(), |timeline| timeline.times());
    let ended = job.as_ref().is_some_and(|job| job.state.is_final());
    let id = job.as_ref().map(|job| job.id().clone());
    // Until the player of another job is there, the one before it has nothing to say of it.
    let whose = use_mut_ref(|| None::<JobId>);
    let is_its = *whose.borrow() == id;
    // What another job begins with, which the first look at it shows already: the end of a show
    // must not be seen before its beginning.
    let begins = (!is_its).then(|| {
        let fresh = remembering(player.fresh());
        let Some(job) = job.as_ref().filter(|_| !prefers_stillness()) else { return fresh };
        let is_news = !ended || job.clicked_ms().is_some_and(|clicked| clicked >= began_ms);
        match is_news {
            // Who wants the finished picture first does not wait for a show.
            true if job.about.request.last_frame_first => fresh,
            true => fresh.focusing(),
            false if by_itself => fresh.playing(now_ms(), &times),
            false => fresh,
        }
    });
    {
        let player = player.clone();
        use_effect_with(id, move |id| {
            whose.replace(id.clone());
            if let Some(begins) = begins {
                player.set(begins);
            }
        });
    }
    {
        // Looks at the clock by itself: the page is drawn anew only where the player moves on.
        let handle = player.clone();
        let now = (*player, times.clone(), ended, is_its);
        use_effect_with(now, move |(player, times, ended, is_its)| {
            let (player, times, ended) = (*player, times.clone(), *ended);
            let look = move || handle.set(player.at_time(now_ms(), &times, !ended));
            let moves = *is_its && (player.is_playing() || player.is_focusing());
            let ticks = moves.then(|| {
                look();
                Interval::new(TICK_MS, look)
            });
            move || drop(ticks)
        });
    }
    let tile = begins.unwrap_or(*player).tile(&times);
    Playing { player, timeline, times, tile }
}

/// A player that holds each scale for as long as the person chose.
fn remembering(player: Player) -> Player {
    let hold = preference(HOLD).and_then(|name| HoldTime::of_name(&name)).unwrap_or_default();
    player.with_hold(hold)
}

/// Whether the person asked for less motion.
pub(crate) fn prefers_stillness() -> bool {
    let query = web_sys::window()
        .and_then(|window| window.match_media("(prefers-reduced-motion: reduce)").ok());
    query.flatten().is_some_and(|query| query.matches())
}
