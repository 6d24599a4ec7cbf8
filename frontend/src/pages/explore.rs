//! The pad: a picture between four corners, which follows the finger.

use std::rc::Rc;

use gloo_timers::callback::Timeout;
use var_dd_protocol::ModelInfo;
use wasm_bindgen_futures::spawn_local;
use web_sys::{Element, HtmlInputElement};
use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    api,
    hooks::{
        Current, copy_text, random_below, use_backend, use_controls, use_current, use_preview,
        use_title,
    },
    route::Route,
    state::{
        classes,
        pad::{End, Pad, STEPS},
        settings::PICKED_SEEDS,
        store::Connection,
        words,
    },
};

/// After the last move, before the address says where the pad is: browsers bear few changes of it.
const ADDRESS_MS: u32 = 400;

/// A step of an arrow key, alone and with Shift.
const STEP: i64 = 5;
const FINE_STEP: i64 = 1;

/// Around the pad's steps, so that the ring is whole at its edges.
const MARGIN: u32 = 6;

/// A pad whose four corners are a class and a seed each.
#[component]
pub(crate) fn Explore() -> Html {
    use_title("Explore".into());
    let backend = use_backend();
    let controls = use_controls();
    let current = use_current();
    let (navigator, location) = (use_navigator(), use_location());
    // What the person did here; until then what the address says, else a pad of chance.
    let pad = use_state_eq(|| None::<Pad>);
    let chance = use_mut_ref(|| None::<Pad>);
    let copied = use_state_eq(|| None::<bool>);
    let of_address = use_memo((location, controls.models.clone()), |(location, models)| {
        let pairs = location.as_ref()?.query::<Vec<(String, String)>>().ok()?;
        Pad::of_query(&pairs, models)
    });
    let named = of_address.as_ref().as_ref().map(|(name, _)| name.clone());
    let model = match named {
        Some(name) => controls.models.iter().find(|model| model.name == name).cloned().map(Rc::new),
        None => controls.model.clone(),
    };
    let now = model.as_ref().map(|model| {
        let by_chance = || {
            let mut chance = chance.borrow_mut();
            chance.get_or_insert_with(|| Pad::new(model.classes.len(), random_below)).clone()
        };
        let of_address = of_address.as_ref().as_ref().map(|(_, pad)| pad.clone());
        (*pad).clone().or(of_address).unwrap_or_else(by_chance)
    });
    let wanted = now.as_ref().zip(model.as_ref()).and_then(|(now, model)| now.request(model));
    let usable = backend.store.connection.is_usable();
    let preview = use_preview(wanted.clone().filter(|_| usable));
    {
        let moved = (*pad).clone().zip(model.as_ref().map(|model| model.name.clone()));
        let (navigator, copied) = (navigator.clone(), copied.setter());
        use_effect_with(moved, move |moved| {
            copied.set(None);
            let later = moved.clone().zip(navigator).map(|((pad, model), navigator)| {
                Timeout::new(ADDRESS_MS, move || {
                    // Names and numbers always make a query.
                    let _ = navigator.replace_with_query(&Route::Explore, pad.query(&model));
                })
            });
            move || drop(later)
        });
    }
    let (Some(model), Some(now)) = (model, now) else {
        return html! {
            <main class="explore" id="main" tabindex="-1">
                <h1>{ "Explore" }</h1>
                <p class="hint">{ "Waiting for the server" }</p>
            </main>
        };
    };

    let go = {
        let (pad, now) = (pad.setter(), now.clone());
        Callback::from(move |(x, y): (i64, i64)| pad.set(Some(now.at(x, y))))
    };
    let ondown = {
        let go = go.clone();
        Callback::from(move |event: PointerEvent| {
            if let Some(square) = pad_of(&event) {
                // The pad hears of the pointer until it is let go, wherever it is.
                let _ = square.set_pointer_capture(event.pointer_id());
                go.emit(place_in(&square, &event));
            }
        })
    };
    let onmove = {
        let go = go.clone();
        Callback::from(move |event: PointerEvent| {
            if let Some(square) = pad_of(&event)
                && event.buttons() & 1 == 1
            {
                go.emit(place_in(&square, &event));
            }
        })
    };
    let onkeydown = {
        let (go, x, y) = (go.clone(), i64::from(now.x), i64::from(now.y));
        Callback::from(move |event: KeyboardEvent| {
            let step = if event.shift_key() { FINE_STEP } else { STEP };
            let to = match event.key().as_str() {
                _ if event.ctrl_key() || event.alt_key() || event.meta_key() => return,
                "ArrowLeft" => (x - step, y),
                "ArrowRight" => (x + step, y),
                "ArrowUp" => (x, y - step),
                "ArrowDown" => (x, y + step),
                "Home" => (0, 0),
                "End" => (STEPS.into(), STEPS.into()),
                _ => return,
            };
            event.prevent_default();
            event.stop_propagation();
            go.emit(to);
        })
    };
    let keep = {
        let (backend, current, navigator) = (backend.clone(), current.clone(), navigator.clone());
        let wanted = wanted.clone();
        Callback::from(move |_: MouseEvent| {
            let Some(request) = wanted.clone() else { return };
            current.set(Current::Asked(backend.generate(request)));
            if let Some(navigator) = &navigator {
                navigator.push(&Route::Playground);
            }
        })
    };
    let copy = {
        let (copied, query) = (copied.setter(), now.query(&model.name));
        Callback::from(move |_: MouseEvent| {
            let (copied, query) = (copied.clone(), query.clone());
            spawn_local(async move {
                let pairs = query.iter().map(|(name, value)| {
                    format!("{name}={}", String::from(js_sys::encode_uri_component(value)))
                });
                let pairs = pairs.collect::<Vec<_>>().join("&");
                let address = api::address(&format!("explore?{pairs}"));
                copied.set(Some(copy_text(&address).await));
            });
        })
    };
    let corner = |at: usize| {
        let end = now.corners[at];
        let (pad, before, model) = (pad.setter(), now.clone(), model.clone());
        let set = Callback::from(move |end: End| pad.set(Some(before.with(at, end))));
        draw_corner(at, end, &model, set)
    };
    let rate = match (&preview.error, preview.per_second) {
        (Some(error), _) => words::refusal(error),
        _ if backend.store.connection == Connection::Connecting => "Connecting…".to_owned(),
        _ if !usable => "No connection to the server".to_owned(),
        (None, Some(rate)) => format!("{rate:.0} pictures a second on this machine"),
        (None, None) => "Drag to see how many pictures a second this machine draws".to_owned(),
    };
    let words = now.words(&model);
    let followed = preview.of.is_some() && preview.of == wanted;
    html! {
        <main class="explore" id="main" tabindex="-1">
            <div class="lead">
                <h1>{ "Walk between four pictures" }</h1>
                <p>{ "Each corner is a class and a seed. Drag across the picture, or use the arrow keys: \
                    it is drawn anew at every place, in one step." }</p>
            </div>
            <datalist id="pad-classes">{ class_options(&model) }</datalist>
            <div class="pad-frame">
                { corner(0) }
                { corner(1) }
                <div
                    class="pad"
                    role="slider"
                    tabindex="0"
                    aria-label="Place between the corners"
                    aria-valuemin="0"
                    aria-valuemax={STEPS.to_string()}
                    aria-valuenow={now.x.to_string()}
                    aria-valuetext={words.clone()}
                    data-testid="pad"
                    data-x={now.x.to_string()}
                    data-y={now.y.to_string()}
                    data-followed={followed.to_string()}
                    data-count={preview.count.to_string()}
                    onpointerdown={ondown}
                    onpointermove={onmove}
                    {onkeydown}
                >
                    if let Some(picture) = &preview.picture {
                        <img src={picture.url().to_owned()} alt="" draggable="false" data-testid="pad-picture" />
                    }
                    <svg viewBox={format!("-{MARGIN} -{MARGIN} {0} {0}", STEPS + 2 * MARGIN)} aria-hidden="true">
                        <circle class="ring-shade" cx={now.x.to_string()} cy={now.y.to_string()} r="4" />
                        <circle class="ring" cx={now.x.to_string()} cy={now.y.to_string()} r="4" />
                    </svg>
                </div>
                { corner(2) }
                { corner(3) }
            </div>
            <p class="scale-caption" data-testid="pad-words">{ words }</p>
            <p class="hint" data-testid="pad-rate">{ rate }</p>
            <div class="actions">
                <button type="button" data-testid="pad-keep" disabled={!usable || wanted.is_none()} onclick={keep}>{ "Keep this picture" }</button>
                <button type="button" data-testid="pad-share" onclick={copy}>{ "Copy link" }</button>
            </div>
            <p class="hint" role="status" data-testid="pad-shared">{ match *copied {
                None => "",
                Some(true) => "Link copied",
                Some(false) => "The address of this page is the link",
            } }</p>
            <p class="hint"><Link<Route> to={Route::Picture}>{ "Go on from a picture of your own" }</Link<Route>>{ " instead" }</p>
        </main>
    }
}

/// The class and seed of a corner.
fn draw_corner(at: usize, end: End, model: &Rc<ModelInfo>, set: Callback<End>) -> Html {
    let name = model.classes.get(end.class).cloned().unwrap_or_default();
    let onchange = {
        let (model, set, name) = (model.clone(), set.clone(), name.clone());
        Callback::from(move |event: Event| {
            let input: HtmlInputElement = event.target_unchecked_into();
            match classes::of_text(&model.classes, &input.value()) {
                Some(class) => set.emit(End { class, ..end }),
                // What is no class gives way to the one that is drawn.
                None => input.set_value(&name),
            }
        })
    };
    let on_dice = set.reform(move |_: MouseEvent| End { seed: random_below(PICKED_SEEDS), ..end });
    html! {
        <div key={at} class={format!("pad-corner corner-{at}")}>
            <input
                type="text"
                list="pad-classes"
                autocomplete="off"
                spellcheck="false"
                aria-label={format!("Class at the {}", Pad::NAMES[at])}
                data-testid={format!("corner-{at}")}
                data-class={end.class.to_string()}
                data-seed={end.seed.to_string()}
                value={name}
                {onchange}
            />
            <button
                type="button"
                class="quiet"
                data-testid={format!("corner-seed-{at}")}
                title={format!("seed {}", end.seed)}
                aria-label={format!("New seed at the {}, now {}", Pad::NAMES[at], end.seed)}
                onclick={on_dice}
            >{ "↻" }</button>
        </div>
    }
}

fn class_options(model: &ModelInfo) -> Html {
    html! { { for model.classes.iter().map(|name| html! { <option value={name.clone()} /> }) } }
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
