//! The pad: a square to move over, with the map behind it and the pins of a walk on it.

use var_dd_protocol::pad::STEPS;
use web_sys::Element;
use yew::prelude::*;

use crate::{
    hooks::{letters_are_keys, sign_of},
    state::{
        job::Picture,
        pad::Pad,
        walk::{MAP_SIDE, MARGIN, map_order},
    },
};

/// A step of an arrow key, alone and with Shift.
const STEP: i64 = 5;
const FINE_STEP: i64 = 1;

/// What a person does on the pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PadAction {
    /// Goes to a place, which may lie beyond the edge.
    Go(i64, i64),
    /// Takes hold of it by a pointer, or lets it go.
    Hold(bool),
    /// Sets a pin where it is.
    Pin,
    /// Takes a pin away.
    Unpin,
    /// Plays the walk, or stops it.
    Play,
}

/// Properties of [`PadView`].
#[derive(PartialEq, Properties)]
pub(crate) struct PadViewProps {
    pub(crate) pad: Pad,
    /// Pictures of the map, as far as they are drawn, in the order of [`map_order`].
    pub(crate) map: Vec<Option<Picture>>,
    /// Where the walk is, while it is played.
    pub(crate) walker: Option<(f64, f64)>,
    /// The place in words.
    pub(crate) words: String,
    /// Whether the picture of the place is there.
    pub(crate) followed: bool,
    /// Pictures that were shown.
    pub(crate) count: u32,
    pub(crate) on_action: Callback<PadAction>,
}

/// The pad.
#[component]
pub(crate) fn PadView(props: &PadViewProps) -> Html {
    let pad = &props.pad;
    let on_action = &props.on_action;
    let to = |on_action: &Callback<PadAction>, square: &Element, event: &PointerEvent| {
        let (x, y) = place_in(square, event);
        on_action.emit(PadAction::Go(x, y));
    };
    let onpointerdown = {
        let on_action = on_action.clone();
        Callback::from(move |event: PointerEvent| {
            if let Some(square) = pad_of(&event).filter(|_| event.buttons() & 1 == 1) {
                // The pad hears of the pointer until it is let go, wherever it is.
                let _ = square.set_pointer_capture(event.pointer_id());
                on_action.emit(PadAction::Hold(true));
                to(&on_action, &square, &event);
            }
        })
    };
    let onpointermove = {
        let on_action = on_action.clone();
        Callback::from(move |event: PointerEvent| {
            if let Some(square) = pad_of(&event).filter(|_| event.buttons() & 1 == 1) {
                to(&on_action, &square, &event);
            }
        })
    };
    let let_go = on_action.reform(|_: PointerEvent| PadAction::Hold(false));
    let ondblclick = on_action.reform(|_: MouseEvent| PadAction::Pin);
    let onkeydown = {
        let (on_action, x, y) = (on_action.clone(), i64::from(pad.x), i64::from(pad.y));
        Callback::from(move |event: KeyboardEvent| {
            if event.ctrl_key() || event.alt_key() || event.meta_key() {
                return;
            }
            let step = if event.shift_key() { FINE_STEP } else { STEP };
            let action = match sign_of(&event).as_str() {
                "ArrowLeft" => PadAction::Go(x - step, y),
                "ArrowRight" => PadAction::Go(x + step, y),
                "ArrowUp" => PadAction::Go(x, y - step),
                "ArrowDown" => PadAction::Go(x, y + step),
                "Home" => PadAction::Go(0, 0),
                "End" => PadAction::Go(STEPS.into(), STEPS.into()),
                "p" if !letters_are_keys() => return,
                "Enter" | "p" if !event.repeat() => PadAction::Pin,
                "Delete" | "Backspace" if !event.repeat() => PadAction::Unpin,
                " " if !event.repeat() => PadAction::Play,
                _ => return,
            };
            event.prevent_default();
            event.stop_propagation();
            on_action.emit(action);
        })
    };
    let (x, y) = props.walker.unwrap_or((pad.x.into(), pad.y.into()));
    let drawn = props.map.iter().flatten().count();
    let view_box = format!("-{MARGIN} -{MARGIN} {0} {0}", STEPS + 2 * MARGIN);
    let walk: Vec<_> = pad.pins.iter().map(|(x, y)| format!("{x},{y}")).collect();
    let walk = walk.join(" ");
    let ring = |class: &'static str| {
        html! { <circle {class} cx={format!("{x:.2}")} cy={format!("{y:.2}")} r="4" /> }
    };
    html! {
        <div
            class="pad"
            role="slider"
            tabindex="0"
            aria-label="Place between the corners"
            aria-describedby="pad-help"
            aria-valuemin="0"
            aria-valuemax={STEPS.to_string()}
            aria-valuenow={pad.x.to_string()}
            aria-valuetext={props.words.clone()}
            data-testid="pad"
            data-x={pad.x.to_string()}
            data-y={pad.y.to_string()}
            data-followed={props.followed.to_string()}
            data-count={props.count.to_string()}
            data-map={drawn.to_string()}
            data-pins={pad.pins.len().to_string()}
            {onpointerdown}
            {onpointermove}
            onpointerup={let_go.clone()}
            onpointercancel={let_go.clone()}
            onlostpointercapture={let_go}
            {ondblclick}
            {onkeydown}
        >
            { draw_map(&props.map) }
            <svg viewBox={view_box} aria-hidden="true">
                if pad.pins.len() > 1 {
                    <polygon class="way-shade" points={walk.clone()} />
                    <polygon class="way" points={walk} />
                }
                { for pad.pins.iter().enumerate().map(|(at, (x, y))| html! {
                    <g key={at} class="pin">
                        <circle cx={x.to_string()} cy={y.to_string()} r="3" />
                        <text x={x.to_string()} y={(f64::from(*y) + 1.3).to_string()}>
                            { at + 1 }
                        </text>
                    </g>
                }) }
                { ring("ring-shade") }
                { ring("ring") }
            </svg>
        </div>
    }
}

/// The cells of the map, row by row.
fn draw_map(pictures: &[Option<Picture>]) -> Html {
    let mut cells = vec![None; MAP_SIDE * MAP_SIDE];
    for ((column, row), picture) in map_order().into_iter().zip(pictures) {
        cells[row * MAP_SIDE + column] = picture.as_ref();
    }
    html! {
        <div class="map" aria-hidden="true">
            { for cells.into_iter().enumerate().map(|(at, picture)| html! {
                <div key={at}>
                    if let Some(picture) = picture {
                        <img
                            src={picture.url().to_owned()}
                            alt=""
                            draggable="false"
                            data-testid="map-cell"
                        />
                    }
                </div>
            }) }
        </div>
    }
}

/// The pad that an event is on.
fn pad_of(event: &PointerEvent) -> Option<Element> {
    event.target_dyn_into::<Element>()?.closest(".pad").ok().flatten()
}

/// Where a pointer is on the pad, in steps.
fn place_in(square: &Element, event: &PointerEvent) -> (i64, i64) {
    let place = square.get_bounding_client_rect();
    let part = |at: i32, from: f64, size: f64| {
        let part = (f64::from(at) - from) / size.max(1.0);
        (part * f64::from(STEPS + 2 * MARGIN)).round() as i64 - i64::from(MARGIN)
    };
    (
        part(event.client_x(), place.left(), place.width()),
        part(event.client_y(), place.top(), place.height()),
    )
}
