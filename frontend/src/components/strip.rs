//! The strip of scales under the stage: passes apart, tiles to choose, scrub and step through.

use std::rc::Rc;

use wasm_bindgen::JsCast;
use web_sys::{Element, HtmlElement};
use yew::prelude::*;

use super::frame::token_grid;
use crate::{
    hooks::Playing,
    state::{
        job::{Frame, Job},
        timeline::{Group, Tile},
        words,
    },
};

/// Properties of [`Strip`].
#[derive(PartialEq, Properties)]
pub(crate) struct StripProps {
    pub(crate) job: Option<Rc<Job>>,
    pub(crate) playing: Playing,
    /// The picture brought forward, if any: the one whose scales these are.
    pub(crate) forward: Option<usize>,
}

/// The strip: a slider over all tiles.
#[component]
pub(crate) fn Strip(props: &StripProps) -> Html {
    let strip = use_node_ref();
    let playing = &props.playing;
    let timeline = &playing.timeline;
    {
        let strip = strip.clone();
        let what = (playing.tile, props.job.as_ref().map(|job| job.id().clone()));
        use_effect_with(what, move |_| keep_current_in_sight(&strip));
    }
    let onclick = {
        let playing = playing.clone();
        Callback::from(move |event: MouseEvent| {
            let target = event.target().and_then(|target| target.dyn_into::<Element>().ok());
            if let Some(tile) = target.and_then(|element| tile_of(&element)) {
                playing.choose(tile);
            }
        })
    };
    let onpointermove = {
        let playing = playing.clone();
        Callback::from(move |event: PointerEvent| {
            // A finger scrolls the strip and chooses by a tap; a mouse with its button down scrubs.
            if event.pointer_type() == "mouse"
                && event.buttons() & 1 == 1
                && let Some(tile) = tile_under(&event)
            {
                playing.choose(tile);
            }
        })
    };
    let onkeydown = {
        let playing = playing.clone();
        Callback::from(move |event: KeyboardEvent| {
            let by = match event.key().as_str() {
                _ if event.ctrl_key() || event.alt_key() || event.meta_key() => return,
                "ArrowLeft" | "ArrowDown" => -1,
                "ArrowRight" | "ArrowUp" => 1,
                "Home" | "PageUp" => isize::MIN / 2,
                "End" | "PageDown" => isize::MAX / 2,
                _ => return,
            };
            event.prevent_default();
            playing.step(by);
        })
    };
    let last = timeline.tiles.len().saturating_sub(1);
    let several = props.job.as_ref().is_some_and(|job| job.frames.len() > 1);
    let whose = several.then_some(props.forward.unwrap_or(0));
    html! {
        <div
            ref={strip}
            class="strip"
            role="slider"
            tabindex="0"
            aria-label="Scales"
            aria-orientation="horizontal"
            aria-valuemin="0"
            aria-valuemax={last.to_string()}
            aria-valuenow={playing.tile.unwrap_or(0).to_string()}
            aria-valuetext={in_words(playing, props.job.as_deref(), whose)}
            aria-disabled={playing.tile.is_none().to_string()}
            data-testid="strip"
            {onclick}
            {onpointermove}
            {onkeydown}
        >
            { for timeline.groups.iter().map(|group| draw_group(group, props, whose)) }
        </div>
    }
}

/// `whose` is the picture whose scales these are, if there are several.
fn in_words(playing: &Playing, job: Option<&Job>, whose: Option<usize>) -> String {
    let timeline = &playing.timeline;
    let Some(at) = playing.tile else { return "nothing drawn yet".into() };
    let group = timeline.groups.iter().find(|group| group.tiles.contains(&at));
    let who = group.map(|group| words::group(group, timeline));
    let tile = timeline.tiles.get(at);
    let size = words::size(tile.map_or(0, |tile| tile.side));
    let drawn = tile.and_then(|tile| tile.frame.as_ref()).zip(job).map(|(frame, job)| {
        format!(", {} after drawing began", words::duration(job.drawn_after_ms(frame)))
    });
    let drawn = drawn.unwrap_or_default();
    let picture = whose.map(|picture| format!(", picture {}", picture + 1)).unwrap_or_default();
    match who {
        Some((who, which)) => format!("{size}, {who}, {which}{picture}{drawn}"),
        None => format!("{size}{picture}{drawn}"),
    }
}

/// `whose` is the picture whose scales these are, if there are several.
fn draw_group(group: &Group, props: &StripProps, whose: Option<usize>) -> Html {
    let timeline = &props.playing.timeline;
    let (who, mut which) = words::group(group, timeline);
    let class = classes!("pass", who, group.superseded.then_some("superseded"));
    // Not in the note, which phones have no room for.
    if let Some(picture) = whose.filter(|_| group.pass == 0) {
        which.push_str(&format!(" · picture {}", picture + 1));
    }
    let mut note = String::new();
    if group.superseded {
        note.push_str(" · redrawn by a later pass");
    }
    // Once, where the times begin.
    if group.pass == 0 {
        note.push_str(" · times since drawing began");
    }
    html! {
        <div key={group.pass} class={class} aria-hidden="true">
            <p class="pass-name">
                <strong>{ who }</strong>
                { " " }
                <span>{ which }</span>
                <em>{ note }</em>
            </p>
            <div class="tiles">
                { for group.tiles.clone().map(|at| draw_tile(at, &timeline.tiles[at], props)) }
            </div>
        </div>
    }
}

fn draw_tile(at: usize, tile: &Tile, props: &StripProps) -> Html {
    let playing = &props.playing;
    let (pass, scale) = tile.place;
    let frame = tile.frame.as_ref();
    let current = playing.tile == Some(at);
    let drawn_after_ms = |frame: &Frame| props.job.as_ref().map(|job| job.drawn_after_ms(frame));
    // While a picture comes into focus, the strip fills in step with the stage.
    let seen = frame.filter(|_| !playing.is_focusing() || playing.tile >= Some(at));
    html! {
        <div
            key={at}
            class={classes!("tile", current.then_some("current"), seen.is_none().then_some("empty"))}
            data-testid="tile"
            data-tile={at.to_string()}
            data-pass={pass.to_string()}
            data-scale={scale.to_string()}
            data-drawn={frame.is_some().to_string()}
            data-seq={frame.map(|frame| frame.seq.to_string())}
            data-ms={frame.and_then(drawn_after_ms).map(|ms| format!("{ms:.1}"))}
            data-current={current.to_string()}
            data-seen={seen.is_some().to_string()}
        >
            <div class="negative">
                if let Some(frame) = seen {
                    <img src={frame.picture.url().to_owned()} alt="" draggable="false" />
                } else {
                    { token_grid(tile.side) }
                }
            </div>
            <span class="side">{ words::size(tile.side) }</span>
            <span class="ms">
                { seen.and_then(drawn_after_ms).map(words::duration).unwrap_or_default() }
            </span>
        </div>
    }
}

/// The number of the tile that an element belongs to.
fn tile_of(element: &Element) -> Option<usize> {
    element.closest("[data-tile]").ok()??.get_attribute("data-tile")?.parse().ok()
}

fn tile_under(event: &PointerEvent) -> Option<usize> {
    let document = web_sys::window()?.document()?;
    let element = document.element_from_point(event.client_x() as f32, event.client_y() as f32)?;
    tile_of(&element)
}

/// Scrolls the strip, and nothing else, so that the current tile is seen with its neighbours.
fn keep_current_in_sight(strip: &NodeRef) {
    let Some(strip) = strip.cast::<HtmlElement>() else { return };
    let Some(tile) = strip.query_selector(".tile.current").ok().flatten() else {
        // A new picture fills it from its beginning.
        return strip.set_scroll_left(0);
    };
    let (strip_box, tile_box) = (strip.get_bounding_client_rect(), tile.get_bounding_client_rect());
    let room = tile_box.width();
    let left = tile_box.left() - strip_box.left() - room;
    let right = tile_box.right() - strip_box.right() + room;
    let by = if left < 0.0 { left } else { right.max(0.0) };
    if by != 0.0 {
        strip.set_scroll_left(strip.scroll_left() + by as i32);
    }
}
