//! The walk through the pins of the pad: its pins, playing it, and taking it away as a file.

use std::rc::Rc;

use var_dd_protocol::{
    ModelInfo, WalkFormat,
    pad::{LENGTHS, MAX_PINS},
};
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::spawn_local;
use web_sys::{HtmlAnchorElement, HtmlElement, HtmlSelectElement};
use yew::prelude::*;

use super::{Sign, sign};
use crate::{
    api,
    state::{
        job::Picture,
        pad::Pad,
        walk::{self, PICTURE_MS},
        words,
    },
};

/// The kinds of files and what they are called.
const FORMATS: [(WalkFormat, &str); 3] =
    [(WalkFormat::Gif, "GIF"), (WalkFormat::Apng, "APNG"), (WalkFormat::Mp4, "MP4")];

/// Properties of [`WalkView`].
#[derive(PartialEq, Properties)]
pub(crate) struct WalkViewProps {
    pub(crate) pad: Pad,
    pub(crate) model: Rc<ModelInfo>,
    /// The place in the page that shows it, without a slash at its beginning.
    pub(crate) page: String,
    /// Places of the walk; none while there is none.
    pub(crate) places: Rc<Vec<(f64, f64)>>,
    /// Pictures of the walk that are there.
    pub(crate) drawn: usize,
    pub(crate) is_playing: bool,
    /// Whether the server can be asked.
    pub(crate) is_usable: bool,
    /// Another place, or other pins.
    pub(crate) on_pad: Callback<Pad>,
    pub(crate) on_play: Callback<()>,
}

/// How the file is coming along.
#[derive(Clone, Debug, PartialEq)]
enum Saving {
    Idle,
    Drawing,
    /// It was handed to the browser, which needs it a little longer.
    Saved(Picture),
    Refused(String),
}

/// The walk.
#[component]
pub(crate) fn WalkView(props: &WalkViewProps) -> Html {
    let pad = &props.pad;
    let saving = use_state_eq(|| Saving::Idle);
    let pins = pad.pins.len();
    {
        let saving = saving.setter();
        use_effect_with((pad.pins.clone(), pad.corners), move |_| saving.set(Saving::Idle));
    }
    let is_walk = !props.places.is_empty();
    let lengths = use_node_ref();
    {
        // A browser does not choose by the attribute any more once a person has chosen.
        let lengths = lengths.clone();
        use_effect_with(pad.length, move |length| {
            let at = LENGTHS.iter().position(|other| other == length);
            if let Some((lengths, at)) = lengths.cast::<HtmlSelectElement>().zip(at) {
                lengths.set_selected_index(at as i32);
            }
        });
    }
    let on_length = {
        let pad = pad.clone();
        props.on_pad.reform(move |event: Event| {
            let list: HtmlSelectElement = event.target_unchecked_into();
            let length = LENGTHS.get(list.selected_index().max(0) as usize).copied();
            Pad { length: length.unwrap_or(pad.length), ..pad.clone() }
        })
    };
    let save = |format: WalkFormat| {
        let (pad, model, places) = (pad.clone(), props.model.clone(), props.places.clone());
        let (saving, page) = (saving.setter(), props.page.clone());
        Callback::from(move |_: MouseEvent| {
            let request = walk::file_request(&pad, &model, &places, format, &page);
            let Some(request) = request else { return };
            let saving = saving.clone();
            saving.set(Saving::Drawing);
            spawn_local(async move {
                saving.set(match api::walk(&request).await {
                    Ok(file) => {
                        download(file.url(), &format!("walk.{}", format.ending()));
                        Saving::Saved(file)
                    }
                    Err(error) => Saving::Refused(words::refusal(&error)),
                });
            });
        })
    };
    let is_saving = *saving == Saving::Drawing;
    let told = match &*saving {
        Saving::Drawing => format!("Drawing {} pictures for the file…", props.places.len()),
        Saving::Saved(_) => "The file is with your browser’s downloads".to_owned(),
        Saving::Refused(words) => words.clone(),
        Saving::Idle if pins >= MAX_PINS => {
            format!("{MAX_PINS} pins, which is all there is room for")
        }
        Saving::Idle if is_walk && props.is_playing && props.drawn < props.places.len() => {
            format!("Drawing the walk: {} of {}", props.drawn, props.places.len())
        }
        Saving::Idle => String::new(),
    };
    let is_refused = matches!(*saving, Saving::Refused(_));
    html! {
        <section class="walk" aria-labelledby="walk-head" data-testid="walk">
            <h2 id="walk-head">{ "A walk through pins" }</h2>
            <p class="hint" id="pad-help">
                { "Pin places by a double click, Enter or the button: from two on a walk goes \
                    round them. The space bar plays it, Delete takes a pin away." }
            </p>
            <ul class="pins" aria-label="Pins">
                { for (0..pins).map(|at| draw_pin(props, at)) }
            </ul>
            <div class="walk-tools">
                <button
                    type="button"
                    data-testid="walk-play"
                    aria-pressed={props.is_playing.to_string()}
                    disabled={!is_walk || !(props.is_usable || props.is_playing)}
                    onclick={props.on_play.reform(|_: MouseEvent| ())}
                >{ if props.is_playing { "Stop" } else { "Play the walk" } }</button>
                <label>
                    <span class="unseen">{ "How long it takes" }</span>
                    <select ref={lengths} data-testid="walk-length" onchange={on_length}>
                        { for LENGTHS.into_iter().map(|length| html! {
                            <option key={length} selected={length == pad.length}>
                                { format!("{:.0} s", f64::from(PICTURE_MS) * length as f64 / 1e3) }
                            </option>
                        }) }
                    </select>
                </label>
                <div class="saves" role="group" aria-labelledby="walk-save">
                    <span id="walk-save">{ "Save" }</span>
                    { for FORMATS.map(|(format, name)| html! {
                        <button
                            type="button"
                            data-testid={format!("walk-{}", name.to_ascii_lowercase())}
                            aria-label={format!("Save the walk as {name}")}
                            disabled={!is_walk || is_saving || !props.is_usable}
                            onclick={save(format)}
                        >{ name }</button>
                    }) }
                </div>
            </div>
            <p
                class={classes!("walk-told", if is_refused { "problem" } else { "hint" })}
                role="status"
                data-testid="walk-told"
            >{ told }</p>
        </section>
    }
}

/// A pin: its number goes there, the cross takes it away.
fn draw_pin(props: &WalkViewProps, at: usize) -> Html {
    let pad = &props.pad;
    let Some(&(x, y)) = pad.pins.get(at) else { return Html::default() };
    let to = |pad: Pad| props.on_pad.reform(move |_: MouseEvent| pad.clone());
    let number = at + 1;
    html! {
        <li key={at}>
            <button
                type="button"
                class="quiet"
                data-testid={format!("pin-{at}")}
                title={format!("{x} % across, {y} % down")}
                aria-label={format!("Go to pin {number}, {x} % across, {y} % down")}
                onclick={to(pad.at(x.into(), y.into()))}
            >{ number }</button>
            <button
                type="button"
                class="quiet"
                data-testid={format!("unpin-{at}")}
                aria-label={format!("Take pin {number} away")}
                onclick={to(pad.without_pin(at))}
            >{ sign(Sign::Close) }</button>
        </li>
    }
}

/// Hands a file in the memory of the browser to the person.
fn download(url: &str, name: &str) {
    let document = web_sys::window().and_then(|window| window.document());
    let link = document.and_then(|document| document.create_element("a").ok());
    if let Some(link) = link.and_then(|link| link.dyn_into::<HtmlAnchorElement>().ok()) {
        link.set_href(url);
        link.set_download(name);
        link.unchecked_ref::<HtmlElement>().click();
    }
}
