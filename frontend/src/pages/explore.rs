//! The pad: a picture between four corners, which follows the finger; and walks over it.

use std::rc::Rc;

use gloo_timers::callback::Timeout;
use var_dd_protocol::{
    ModelInfo, classes,
    pad::{End, Linked},
};
use wasm_bindgen_futures::spawn_local;
use web_sys::HtmlInputElement;
use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    api,
    components::{PadAction, PadView, Sign, WalkView, sign},
    hooks::{
        Current, Key, copy_text, random_below, use_album, use_backend, use_controls, use_current,
        use_keys, use_preview, use_rested, use_title,
    },
    route::Route,
    state::{
        pad::Pad,
        settings::PICKED_SEEDS,
        store::Connection,
        walk::{self, PICTURE_MS},
        words,
    },
};

/// After the last move, before the address says where the pad is: browsers bear few changes of it.
const ADDRESS_MS: u32 = 400;

/// After the last move, before the map is drawn on.
const REST_MS: u32 = 300;

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
    // Why what was typed at a corner chose nothing.
    let missed = use_state_eq(|| None::<String>);
    let is_held = use_state_eq(|| false);
    // The picture of the walk that is shown, while it is played.
    let step = use_state_eq(|| None::<usize>);
    let is_plain = location.as_ref().is_none_or(|location| location.query_str().is_empty());
    let linked = use_memo((location, controls.models.clone()), |(location, models)| {
        let pairs = location.as_ref().map(|location| location.query::<Vec<(String, String)>>());
        let pairs = pairs.and_then(Result::ok).filter(|_| !models.is_empty());
        pairs.map(|pairs| Linked::of_query(&pairs, models)).unwrap_or_default()
    });
    // The link of a server with other models, or one that was cut.
    let is_strange = pad.is_none() && !linked.left_out.is_empty();
    let model = match &linked.model {
        Some(name) => {
            controls.models.iter().find(|model| model.name == *name).cloned().map(Rc::new)
        }
        None => controls.model.clone(),
    };
    let now = model.as_ref().map(|model| {
        let by_chance = || {
            let mut chance = chance.borrow_mut();
            let chance =
                chance.get_or_insert_with(|| Pad::new(model.classes.len(), random_below)).clone();
            chance.linked(&linked)
        };
        (*pad).clone().unwrap_or_else(by_chance)
    });
    let wanted = now.as_ref().zip(model.as_ref()).and_then(|(now, model)| now.request(model));
    let usable = backend.store.connection.is_usable();
    let preview = use_preview(wanted.clone());
    let followed = preview.of.is_some() && preview.of == wanted;

    // The map and the walk are drawn while nothing is moved; the walk, which is waited for, first.
    let place = now.as_ref().map(|now| (now.corners, now.x, now.y));
    let rested = use_rested((place, *is_held), REST_MS) && !*is_held;
    let drawn_from = now.as_ref().map(|now| now.corners).zip(model.clone());
    let map = use_memo(drawn_from, |of| {
        let of = of.as_ref().map(|(corners, model)| (Pad::between(*corners), model));
        Rc::new(of.map(|(pad, model)| walk::map_requests(&pad, model)).unwrap_or_default())
    });
    let pins = now.as_ref().map(|now| now.pins.clone()).unwrap_or_default();
    let length = now.as_ref().map_or(0, |now| now.length);
    let places = use_memo((pins, length), |(pins, length)| walk::places(pins, *length));
    let walked =
        use_memo((now.as_ref().map(|now| now.corners), model.clone(), places.clone()), |of| {
            let (Some(corners), Some(model), places) = of else { return Rc::default() };
            Rc::new(walk::requests(&Pad::between(*corners), model, places))
        });
    let is_playing = step.is_some() && !places.is_empty();
    let drawn_walk = use_album((*walked).clone(), usable && is_playing && rested);
    let is_walk_due = is_playing && !drawn_walk.is_over;
    let drawn_map = use_album((*map).clone(), usable && rested && followed && !is_walk_due);
    {
        // The next picture, once it is there, after this one was seen.
        let next = step.filter(|_| is_playing && rested).and_then(|at| drawn_walk.after(at));
        let step = step.clone();
        use_effect_with((*step, next), move |(_, next)| {
            let later = next.map(|next| Timeout::new(PICTURE_MS, move || step.set(Some(next))));
            move || drop(later)
        });
    }
    {
        // A pad of chance as well, so that it is the same one after a reload or the way back; not
        // that of a link, of which not all may have been read.
        let by_chance = now.clone().filter(|_| is_plain && followed);
        let moved = (*pad).clone().or(by_chance);
        let moved = moved.zip(model.as_ref().map(|model| model.name.clone()));
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
    let walker = step.filter(|_| is_playing).and_then(|at| places.get(at)).copied();
    // A walk that is stopped leaves the pad where it came to.
    let stopped = now.as_ref().map(|now| match walker {
        Some((x, y)) => now.at(x.round() as i64, y.round() as i64),
        None => now.clone(),
    });
    let page = stopped.as_ref().zip(model.as_ref());
    let page = page.map(|(pad, model)| api::page("explore", &pad.query(&model.name)));
    let copy = {
        let (copied, address) = (copied.setter(), page.as_deref().map(api::address));
        Callback::from(move |()| {
            let Some(address) = address.clone() else { return };
            let copied = copied.clone();
            spawn_local(async move { copied.set(Some(copy_text(&address).await)) });
        })
    };
    {
        let copy = copy.clone();
        use_keys(Callback::from(move |key| {
            let wanted = key == Key::Share;
            if wanted {
                copy.emit(());
            }
            wanted
        }));
    }
    let (Some(model), Some(now), Some(stopped), Some(page)) = (model, now, stopped, page) else {
        return html! {
            <main class="explore" id="main" tabindex="-1">
                <h1>{ "Explore" }</h1>
                <p class="hint">{ "Waiting for the server" }</p>
            </main>
        };
    };

    let play = {
        let (pad, step, stopped) = (pad.setter(), step.setter(), stopped.clone());
        let is_walk = !places.is_empty();
        Callback::from(move |()| {
            if is_playing {
                pad.set(Some(stopped.clone()));
            }
            step.set((is_walk && !is_playing).then_some(0));
        })
    };
    let change = {
        let (pad, step) = (pad.setter(), step.setter());
        Callback::from(move |changed: Pad| {
            pad.set(Some(changed));
            // The pad is moved by hand: the walk stands still.
            step.set(None);
        })
    };
    let on_action = {
        let (change, play, now) = (change.clone(), play.clone(), stopped.clone());
        let is_held = is_held.setter();
        Callback::from(move |action: PadAction| match action {
            PadAction::Go(x, y) => change.emit(now.at(x, y)),
            PadAction::Hold(held) => is_held.set(held),
            PadAction::Pin => change.emit(now.pinned()),
            PadAction::Unpin => {
                if let Some(at) = now.pin_to_remove() {
                    change.emit(now.without_pin(at));
                }
            }
            PadAction::Play => play.emit(()),
        })
    };
    let keep = {
        let (backend, current, navigator) = (backend.clone(), current.clone(), navigator.clone());
        let wanted = stopped.request(&model);
        Callback::from(move |_: MouseEvent| {
            let Some(request) = wanted.clone() else { return };
            current.set(Current::Asked(backend.generate(request)));
            if let Some(navigator) = &navigator {
                navigator.push(&Route::Playground);
            }
        })
    };
    let corner = |at: usize| {
        let end = now.corners[at];
        let (change, before) = (change.clone(), stopped.clone());
        let set = Callback::from(move |end: End| change.emit(before.with(at, end)));
        draw_corner(at, end, &model, set, missed.setter())
    };
    let trouble = preview.error.as_ref().or(drawn_map.error.as_ref()).or(drawn_walk.error.as_ref());
    let rate = match (trouble, preview.per_second) {
        (Some(error), _) => words::refusal(error),
        _ if backend.store.connection == Connection::Connecting => "Connecting…".to_owned(),
        _ if !usable => "No connection to the server".to_owned(),
        (None, Some(rate)) => format!("{rate:.0} pictures a second on this machine"),
        (None, None) => "Drag to see how many pictures a second are drawn".to_owned(),
    };
    let words = stopped.words(&model);
    let of_walk =
        step.filter(|_| is_playing).and_then(|at| drawn_walk.pictures.get(at).cloned()?);
    let shown = of_walk.or(preview.picture.clone());
    html! {
        <main class="explore" id="main" tabindex="-1">
            <div class="lead">
                <h1>{ "Walk between four pictures" }</h1>
                <p>
                    { "Each corner is a class and a seed. Drag over the map" }
                    <span class="wide-only">{ ", or use the arrow keys" }</span>
                    { ": the picture is drawn anew at every place, in one step." }
                </p>
                if is_strange {
                    <p class="problem" role="status" data-testid="pad-link">
                        { format!(
                            "Not all of this link could be used as it stands: {}. What else it says is \
                             here; set the rest on the pad, or ask for the link again.",
                            linked.left_out.join("; ")
                        ) }
                    </p>
                }
            </div>
            <datalist id="pad-classes">{ class_options(&model) }</datalist>
            <div class="pad-table">
                <div class="pad-frame">
                    { corner(0) }
                    { corner(1) }
                    <PadView
                        pad={now.clone()}
                        map={drawn_map.pictures.clone()}
                        {walker}
                        words={words.clone()}
                        {followed}
                        count={preview.count}
                        {on_action}
                    />
                    { corner(2) }
                    { corner(3) }
                </div>
                <div class="pad-picture">
                    <div class="square">
                        if let Some(picture) = &shown {
                            <img
                                src={picture.url().to_owned()}
                                alt={format!("The picture at this place: {words}")}
                                draggable="false"
                                data-testid="pad-picture"
                                data-step={step.filter(|_| is_playing).map(|at| at.to_string())}
                            />
                        }
                    </div>
                    <p class="scale-caption" data-testid="pad-words">{ words }</p>
                    <p
                        class={if trouble.is_some() { "problem" } else { "hint" }}
                        data-testid="pad-rate"
                    >{ rate }</p>
                </div>
                <div class="pad-actions">
                    <div class="actions">
                        <button
                            type="button"
                            data-testid="pad-keep"
                            disabled={!usable || wanted.is_none()}
                            onclick={keep}
                        >{ "Keep this picture" }</button>
                        <button
                            type="button"
                            data-testid="pin"
                            disabled={stopped.pinned() == stopped}
                            onclick={{
                                let (change, pinned) = (change.clone(), stopped.pinned());
                                Callback::from(move |_: MouseEvent| change.emit(pinned.clone()))
                            }}
                        >{ "Pin this place" }</button>
                        <button
                            type="button"
                            data-testid="pad-share"
                            onclick={copy.reform(|_: MouseEvent| ())}
                        >{ "Copy link" }</button>
                    </div>
                    <p class="problem" role="status" data-testid="pad-missed">
                        { (*missed).clone() }
                    </p>
                    <p class="hint" role="status" data-testid="pad-shared">{ match *copied {
                        None => "",
                        Some(true) => "Link copied",
                        Some(false) => "The address of this page is the link",
                    } }</p>
                </div>
                <WalkView
                    pad={stopped}
                    {page}
                    model={model.clone()}
                    {places}
                    drawn={drawn_walk.drawn()}
                    {is_playing}
                    is_usable={usable}
                    on_pad={change}
                    on_play={play}
                />
            </div>
            <p class="hint">
                <Link<Route> to={Route::Picture}>
                    { "Go on from a picture of your own" }
                </Link<Route>>
                { " instead" }
            </p>
        </main>
    }
}

/// The class and seed of a corner.
fn draw_corner(
    at: usize,
    end: End,
    model: &Rc<ModelInfo>,
    set: Callback<End>,
    missed: UseStateSetter<Option<String>>,
) -> Html {
    let name = model.classes.get(end.class).cloned().unwrap_or_default();
    let onchange = {
        let (model, set, name) = (model.clone(), set.clone(), name.clone());
        Callback::from(move |event: Event| {
            let input: HtmlInputElement = event.target_unchecked_into();
            let text = input.value();
            let class = classes::of_text(&model.classes, &text);
            missed.set(class.is_none().then(|| {
                let fitting = classes::search(&model.classes, &text).len();
                let why = words::no_class(text.trim(), fitting);
                format!("{why} It is still {name} at the {}.", Pad::NAMES[at])
            }));
            match class {
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
            >{ sign(Sign::Dice) }</button>
        </div>
    }
}

fn class_options(model: &ModelInfo) -> Html {
    html! { { for model.classes.iter().map(|name| html! { <option value={name.clone()} /> }) } }
}
