//! The large square: one picture, or a grid of several that refine together.

use std::rc::Rc;

use yew::prelude::*;

use super::{Layers, TokenGrid};
use crate::{
    hooks::Playing,
    state::{job::Job, words},
};

/// Properties of [`Stage`].
#[derive(PartialEq, Properties)]
pub(crate) struct StageProps {
    pub(crate) job: Option<Rc<Job>>,
    pub(crate) playing: Playing,
    /// The picture brought forward, if any.
    pub(crate) forward: Option<usize>,
    /// A picture is to be brought forward, or all are to be shown.
    pub(crate) on_forward: Callback<Option<usize>>,
}

/// The pictures of the tile that the player is at.
#[component]
pub(crate) fn Stage(props: &StageProps) -> Html {
    let count = props.job.as_ref().map_or(1, |job| job.frames.len());
    let forward = props.forward.filter(|&picture| picture < count);
    let picture = |picture: usize| {
        let Some(job) = &props.job else { return html! { <TokenGrid side=16 /> } };
        let timeline = &props.playing.timeline;
        let tile = props.playing.tile;
        let shown = tile.and_then(|tile| timeline.frame_at(job, picture, tile));
        let sides = &job.about.patch_nums;
        let side = shown.and_then(|((_, scale), _)| sides.get(scale as usize)).copied();
        let end = timeline.tiles.last().map(|tile| tile.place);
        html! {
            <Layers
                {picture}
                shown={shown.map(|(place, frame)| (place, frame.clone()))}
                last={shown.map(|(place, _)| place) == end}
                side={sides.last().copied().unwrap_or(1)}
                alternative={words::alternative(&job.about, picture, side)}
            />
        }
    };
    let show = |which: Option<usize>| {
        let on_forward = props.on_forward.clone();
        Callback::from(move |_: MouseEvent| on_forward.emit(which))
    };
    let inside = match forward {
        _ if count == 1 => picture(0),
        Some(one) => html! {
            <button type="button" class="cell" onclick={show(None)} aria-label={format!("Picture \
                {}. Show all {count}", one + 1)}>
                { picture(one) }
            </button>
        },
        None => (0..count)
            .map(|one| {
                html! {
                    <button key={one} type="button" class="cell" onclick={show(Some(one))} aria-label={format!("Bring picture {} forward", one + 1)}>
                        { picture(one) }
                    </button>
                }
            })
            .collect(),
    };
    let shown = if forward.is_some() { 1 } else { count };
    html! {
        <div
            class={classes!("stage", format!("of-{shown}"))}
            data-testid="stage"
            data-picture={forward.map(|picture| picture.to_string())}
        >
            { inside }
        </div>
    }
}
