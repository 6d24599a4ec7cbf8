//! The large square: one picture, or a grid of several that refine together.

use std::rc::Rc;

use yew::prelude::*;

use super::{Layers, OnStage, frame::token_grid};
use crate::{
    hooks::prefers_stillness,
    state::{job::Job, timeline::Timeline, words},
};

/// What is on the stage.
pub(crate) struct Stage {
    pub(crate) job: Option<Rc<Job>>,
    pub(crate) timeline: Rc<Timeline>,
    /// The tile whose pictures are shown, if any is drawn.
    pub(crate) tile: Option<usize>,
    /// The picture brought forward, if any.
    pub(crate) forward: Option<usize>,
    /// Whether pictures come into focus: the token grid of each scale is laid over them.
    pub(crate) focusing: bool,
    /// Whether pixels are shown as squares.
    pub(crate) crisp: bool,
    /// Whether the stage is out of sight and shown small over the page.
    pub(crate) docked: bool,
    /// Whether it is the picture before, and the new one is waited for.
    pub(crate) is_before: bool,
    /// A picture was tapped: its number, if there are several.
    pub(crate) on_tap: Callback<Option<usize>>,
}

impl Stage {
    /// The pictures of the tile.
    pub(crate) fn draw(&self) -> Html {
        let count = self.job.as_ref().map_or(1, |job| job.frames.len());
        let forward = self.forward.filter(|&picture| picture < count);
        let grid = self.tile.filter(|_| self.focusing).map(|at| (at, self.timeline.tiles[at].side));
        let picture = |picture: usize| {
            let Some(job) = &self.job else { return html! { { token_grid(16) } } };
            let timeline = &self.timeline;
            let shown = self.tile.and_then(|tile| timeline.frame_at(job, picture, tile));
            let sides = &job.about.patch_nums;
            let side = shown.and_then(|((_, scale), _)| sides.get(scale as usize)).copied();
            let end = timeline.tiles.last().map(|tile| tile.place);
            html! {
                <>
                    <Layers
                        {picture}
                        job={job.id().to_string()}
                        shown={shown.map(|(place, frame)| (place, frame.clone()))}
                        last={shown.map(|(place, _)| place) == end}
                        side={sides.last().copied().unwrap_or(1)}
                        alternative={words::alternative(&job.about, picture, side)}
                    />
                    // With a key of its own, so that each grid comes and goes anew.
                    if let Some((at, side)) = grid {
                        <div key={at} class="arriving">{ token_grid(side) }</div>
                    }
                </>
            }
        };
        let tap = |which: Option<usize>| {
            let on_tap = self.on_tap.clone();
            Callback::from(move |_: MouseEvent| on_tap.emit(which))
        };
        let cell = |one: usize, label: String| {
            html! {
                <button
                    key={one}
                    type="button"
                    class="cell"
                    onclick={tap(Some(one))}
                    aria-label={label}
                >
                    { picture(one) }
                    if count > 1 { <span class="cell-number">{ one + 1 }</span> }
                </button>
            }
        };
        // Always a list by number: whatever cell has the focus keeps it when others come or go.
        let cells: Vec<Html> = match &self.job {
            None => vec![html! { <div key="empty" class="cell">{ picture(0) }</div> }],
            Some(job) => (0..count)
                .filter(|&one| forward.is_none_or(|forward| forward == one))
                .map(|one| {
                    let name = words::alternative(&job.about, one, None);
                    let label = match forward {
                        _ if self.focusing && (count == 1 || forward.is_some()) => {
                            "Show the finished picture at once".to_owned()
                        }
                        _ if count == 1 => format!("{name}. Look closer"),
                        Some(_) => format!("{name}. Show all {count}"),
                        None => format!("{name}. Bring it forward"),
                    };
                    cell(one, label)
                })
                .collect(),
        };
        let shown = if forward.is_some() { 1 } else { count };
        let size = self.job.as_ref().map_or(0, |job| job.about.image_size);
        html! {
            <div
                class={classes!(
                    "stage",
                    format!("of-{shown}"),
                    (size <= 128).then_some("small-pictures"),
                    self.crisp.then_some("crisp"),
                    self.docked.then_some("docked"),
                    self.focusing.then_some("focusing"),
                    self.is_before.then_some("before"),
                )}
                data-testid="stage"
                data-picture={forward.map(|picture| picture.to_string())}
                data-focusing={self.focusing.to_string()}
                data-docked={self.docked.to_string()}
            >
                { for cells }
            </div>
        }
    }
}

/// A file of one's own in place of what is drawn here; out of sight (`docked`), a tap leads back.
pub(super) fn opened_stage(opened: &OnStage, docked: bool, on_tap: &Callback<()>) -> Html {
    let src = opened.picture.url().to_owned();
    let name = format!("The file that you opened: {}", opened.file_name);
    let shown = if opened.is_video {
        let moves = !prefers_stillness();
        html! {
            <video
                {src}
                aria-label={name}
                data-testid="opened-picture"
                controls={!docked}
                autoplay={moves}
                loop={moves}
                muted=true
                playsinline=true
            />
        }
    } else {
        html! { <img {src} alt={name} draggable="false" data-testid="opened-picture" /> }
    };
    html! {
        <div
            class={classes!(
                "stage",
                "of-1",
                "opened-stage",
                (opened.side <= 128).then_some("small-pictures"),
                docked.then_some("docked"),
            )}
            data-testid="stage"
            data-focusing="false"
            data-docked={docked.to_string()}
        >
            if docked {
                <button
                    type="button"
                    class="cell"
                    aria-label="Back to the file that you opened"
                    onclick={on_tap.reform(|_: MouseEvent| ())}
                >{ shown }</button>
            } else {
                <div class="cell">{ shown }</div>
            }
        </div>
    }
}
