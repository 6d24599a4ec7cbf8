//! A picture at hand: one of a person's own as the tokens of a model, or one of a result; and what
//! can be drawn from it.

use std::rc::Rc;

use gloo_timers::callback::Timeout;
use var_dd_protocol::{ErrorBody, ErrorCode, JobId, ModelInfo, Parent};
use wasm_bindgen_futures::spawn_local;
use web_sys::{Element, File, HtmlInputElement};
use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    api,
    components::{ClassPicker, Difference, Wipe, crossing, file_button, others},
    hooks::{
        Current, prefers_stillness, random_below, take_handed_over, use_backend, use_controls,
        use_current, use_files, use_preview, use_title,
    },
    route::Route,
    state::{
        bench::{Bench, Change, MASK_SIDE, Work},
        settings::PICKED_SEEDS,
        words::{self, counted, size},
    },
};

/// How long each scale is shown while a picture comes into focus.
const HOLD_MS: u32 = 350;

impl Reducible for Bench {
    type Action = Change;

    fn reduce(self: Rc<Self>, change: Change) -> Rc<Self> {
        Rc::new(self.after(change))
    }
}

/// The picture to go on from.
#[derive(Clone, PartialEq)]
struct Base {
    parent: Parent,
    model: String,
    /// The picture up to each scale, or the finished one alone.
    frames: Rc<Vec<String>>,
    /// Side of each scale that the frames show.
    sides: Vec<u32>,
}

/// What became of the newest file or result.
#[derive(Clone, PartialEq)]
enum Found {
    Nothing,
    Looking,
    Refused(ErrorBody),
    There(Base),
}

/// Go on from a picture at hand.
#[component]
pub(crate) fn AtHand() -> Html {
    use_title("Your own picture".into());
    let backend = use_backend();
    let controls = use_controls();
    let current = use_current();
    let navigator = use_navigator();
    let found = use_state_eq(|| Found::Nothing);
    let bench = use_reducer_eq(|| Bench::new(0, random_below(PICKED_SEEDS), 0));
    let is_usable = backend.store.connection.is_usable();
    let base = match &*found {
        Found::There(base) => Some(base.clone()),
        _ => None,
    };
    let model = match &base {
        Some(base) => controls.models.iter().find(|model| model.name == base.model),
        None => controls.model.as_deref(),
    };
    let model = model.cloned().map(Rc::new);

    // The result that the address names, once.
    let location = use_location();
    let of_address = use_memo(location, |location| {
        let query = location.as_ref()?.query::<Vec<(String, String)>>().ok()?;
        let value = |name: &str| query.iter().find(|(other, _)| other == name).map(|(_, at)| at);
        let result = value("of")?.clone();
        Some((result, value("picture").and_then(|at| at.parse().ok()).unwrap_or(0)))
    });
    let of_address_is_none = of_address.is_none();
    {
        let (found, bench) = (found.setter(), bench.dispatcher());
        use_effect_with(of_address, move |of_address| {
            let Some((result, picture)) = (**of_address).clone() else { return };
            found.set(Found::Looking);
            spawn_local(async move {
                match of_result(&result, picture).await {
                    Ok((base, class)) => {
                        bench.dispatch(Change::Class(class));
                        found.set(Found::There(base));
                    }
                    Err(error) => found.set(Found::Refused(error)),
                }
            });
        });
    }
    {
        let (bench, class) = (bench.dispatcher(), controls.settings.class);
        let scales = model.as_ref().map(|model| model.scales());
        // A result has a class of its own.
        let class = of_address_is_none.then_some(class);
        use_effect_with(scales, move |scales| {
            if let Some(class) = class {
                bench.dispatch(Change::Class(class));
            }
            bench.dispatch(Change::From(scales.unwrap_or(0) / 2));
        });
    }
    // Of several files that are taken the last one counts, whichever is done first.
    let taken = use_mut_ref(|| 0_u32);
    let take = {
        let (found, model) = (found.setter(), model.clone());
        Callback::from(move |file: File| {
            let Some(model) = model.clone() else { return };
            if let Err(error) = check(&file) {
                return found.set(Found::Refused(error));
            }
            found.set(Found::Looking);
            *taken.borrow_mut() += 1;
            let (found, taken, number) = (found.clone(), taken.clone(), *taken.borrow());
            spawn_local(async move {
                let outcome = match api::encode(&model.name, &file).await {
                    Ok(picture) => Found::There(Base {
                        parent: Parent::Codes { codes: picture.codes },
                        model: model.name.clone(),
                        frames: Rc::new(picture.frames),
                        sides: model.patch_nums.clone(),
                    }),
                    Err(error) => Found::Refused(error),
                };
                if *taken.borrow() == number {
                    found.set(outcome);
                }
            });
        })
    };
    let is_dragged = use_files(&take);
    {
        let take = take.clone();
        use_effect_with(model.is_some(), move |is_there| {
            if let Some(file) = is_there.then(take_handed_over).flatten() {
                take.emit(file);
            }
        });
    }
    let scale = use_scales(base.as_ref());
    let wanted = base.as_ref().zip(model.as_ref());
    let wanted = wanted.and_then(|(base, model)| bench.request(&base.parent, model));
    let drawn = use_preview(wanted.clone());
    let keep = {
        let (backend, wanted) = (backend.clone(), wanted.clone());
        Callback::from(move |_: MouseEvent| {
            let Some(request) = wanted.clone() else { return };
            current.set(Current::Asked(backend.generate(request)));
            if let Some(navigator) = &navigator {
                navigator.push(&Route::Playground);
            }
        })
    };
    let (told, is_trouble) = match (&*found, &drawn.error) {
        (Found::Refused(error), _) => (words::refusal(error), true),
        (Found::Looking, _) => ("Looking at it…".to_owned(), false),
        (Found::There(_), Some(error)) if wanted.is_some() => (words::refusal(error), true),
        _ if !is_usable => ("No connection to the server".to_owned(), false),
        _ => (String::new(), false),
    };
    let result = drawn.picture.as_ref().filter(|_| drawn.of.is_some());
    let result = result.map(|picture| picture.url());
    let is_followed = wanted.is_some() && drawn.of == wanted;
    let another = {
        let bench = bench.dispatcher();
        Callback::from(move |_: MouseEvent| {
            bench.dispatch(Change::Seed(random_below(PICKED_SEEDS)));
        })
    };
    let others = model.as_ref().map(|model| others(&backend.store, Some(&model.name), None));
    let others = others.unwrap_or_default();
    html! {
        <main class="explore at-hand" id="main" tabindex="-1">
            <div class="lead">
                <h1>{ "Go on from a picture of yours" }</h1>
                <p>
                    { "It becomes tokens, scale by scale, as if the model had drawn it. Then a \
                       part \
                        of it, or its fine scales, can be drawn anew." }</p>
            </div>
            <div class={classes!("drop", is_dragged.then_some("dragged"))}>
                { file_button(
                    "own-file",
                    "Choose a picture",
                    &api::ENCODED_TYPES,
                    model.is_some() && is_usable,
                    &NodeRef::default(),
                    &take,
                ) }
                <p class="hint">
                    { "or drop one here, or paste it. PNG, JPEG or WebP; a square is cut from its \
                        middle." }
                </p>
            </div>
            <p class="hint" data-testid="own-privacy">
                { "The picture goes to this server to become tokens; neither is kept, nor is what \
                    you try here. Only what you press “Keep” for is: with the tokens of your \
                    picture, in no list, for those who have its link." }
            </p>
            <p
                class={classes!("own-told", is_trouble.then_some("problem"))}
                role="status"
                data-testid="own-told"
            >{ told }</p>
            if let Some((base, model)) = base.as_ref().zip(model.as_ref()) {
                <div class="bench" data-testid="bench">
                    { draw_base(base, &bench, &scale) }
                    <figure>
                        { draw_result(base, result) }
                        <figcaption
                            data-testid="bench-followed"
                            data-followed={is_followed.to_string()}
                        >
                            { if wanted.is_some() {
                                "what becomes of it"
                            } else {
                                "nothing to draw yet"
                            } }
                        </figcaption>
                    </figure>
                    <div class="bench-work">
                        { draw_work(&bench) }
                        { draw_settings(&bench, model, &others) }
                        <div class="actions">
                            <button
                                type="button"
                                data-testid="bench-seed"
                                disabled={wanted.is_none() || bench.work == Work::Cross}
                                onclick={another}
                            >{ "Another try" }</button>
                            <button
                                type="button"
                                data-testid="bench-keep"
                                disabled={wanted.is_none() || !is_usable}
                                onclick={keep}
                            >
                                { "Keep this picture" }
                            </button>
                        </div>
                    </div>
                </div>
            }
            <p class="hint">
                <Link<Route> to={Route::Explore}>{ "Walk between four pictures" }</Link<Route>>
                { " instead" }
            </p>
        </main>
    }
}

/// A finished picture of a result, and its class.
async fn of_result(result: &str, picture: usize) -> Result<(Base, usize), ErrorBody> {
    let view = api::view(result).await?;
    let Some(of) = view.pictures.get(picture) else {
        let message = format!(
            "the result has no finished picture {}; it has {}, so choose another on its page",
            picture + 1,
            view.pictures.len()
        );
        return Err(ErrorBody::new(ErrorCode::NotFound, message));
    };
    let base = Base {
        parent: Parent::Result { result: view.id, picture: picture as u32, request: None },
        model: view.request.model.unwrap_or_default(),
        frames: Rc::new(vec![of.clone()]),
        sides: view.patch_nums.last().copied().into_iter().collect(),
    };
    Ok((base, view.request.class as usize))
}

/// Refuses what the server would refuse for its kind.
fn check(file: &File) -> Result<(), ErrorBody> {
    let kind = file.type_();
    if api::ENCODED_TYPES.contains(&kind.as_str()) {
        return Ok(());
    }
    let what =
        if kind.is_empty() { "of an unknown kind".to_owned() } else { format!("“{kind}”") };
    let message = format!("“{}” is {what}; choose a PNG, a JPEG or a WebP", file.name());
    Err(ErrorBody::new(ErrorCode::InvalidPicture, message))
}

/// The scale of a picture that is shown: it comes into focus by itself, and then stays where the
/// person puts it.
#[hook]
fn use_scales(base: Option<&Base>) -> UseStateHandle<usize> {
    let scale = use_state_eq(|| 0_usize);
    let runs = use_state_eq(|| false);
    let last = base.map_or(0, |base| base.frames.len().saturating_sub(1));
    {
        let (scale, runs) = (scale.setter(), runs.setter());
        use_effect_with(base.cloned(), move |base| {
            let still = base.is_none() || prefers_stillness();
            scale.set(if still { last } else { 0 });
            runs.set(!still);
        });
    }
    {
        let (at, scale, runs) = (*scale, scale.setter(), runs.clone());
        use_effect_with((at, *runs), move |&(at, is_running)| {
            let next = (is_running && at < last)
                .then(|| Timeout::new(HOLD_MS, move || scale.set((at + 1).min(last))));
            if is_running && at >= last {
                runs.set(false);
            }
            move || drop(next)
        });
    }
    scale
}

/// The picture at hand: under the mask, or with its scales.
fn draw_base(base: &Base, bench: &UseReducerHandle<Bench>, scale: &UseStateHandle<usize>) -> Html {
    let at = (**scale).min(base.frames.len().saturating_sub(1));
    let frame = base.frames.get(at).cloned().unwrap_or_default();
    let several = base.frames.len() > 1;
    let caption = base.sides.get(at).filter(|_| several).map(|&side| {
        format!("{} · {}", size(side), counted((side * side) as usize, "token", "tokens"))
    });
    let caption = caption.unwrap_or_else(|| "as it is".to_owned());
    html! {
        <figure>
            <div class="own-square">
                <img
                    src={frame}
                    alt={format!("The picture at hand, {caption}")}
                    draggable="false"
                    data-testid="own-picture"
                    data-scale={at.to_string()}
                />
                if bench.work == Work::Edit {
                    { draw_mask(bench) }
                }
            </div>
            <figcaption>{ caption }</figcaption>
            if several {
                <input
                    type="range"
                    min="0"
                    max={(base.frames.len() - 1).to_string()}
                    step="1"
                    value={at.to_string()}
                    aria-label="Scales of the picture at hand"
                    aria-valuetext={base.sides.get(at).map(|&side| size(side))}
                    data-testid="own-scale"
                    oninput={{
                        let scale = scale.setter();
                        Callback::from(move |event: InputEvent| {
                            let typed = event.target_unchecked_into::<HtmlInputElement>().value();
                            scale.set(typed.parse().unwrap_or(0));
                        })
                    }}
                />
            }
        </figure>
    }
}

fn draw_mask(bench: &UseReducerHandle<Bench>) -> Html {
    let change = bench.dispatcher();
    let onpointerdown = {
        let change = change.clone();
        Callback::from(move |event: PointerEvent| {
            if let Some((grid, at)) = cell_of(&event) {
                // The mask hears of the pointer until it is let go, wherever it is.
                let _ = grid.set_pointer_capture(event.pointer_id());
                change.dispatch(Change::Down(at));
            }
        })
    };
    let onpointermove = {
        let change = change.clone();
        Callback::from(move |event: PointerEvent| {
            if let Some((_, at)) = cell_of(&event).filter(|_| event.buttons() & 1 == 1) {
                change.dispatch(Change::Move(at));
            }
        })
    };
    let onkeydown = Callback::from(move |event: KeyboardEvent| {
        let step = |right, down| Change::Step { right, down, draws: event.shift_key() };
        let far = MASK_SIDE as isize;
        let what = match event.key().as_str() {
            _ if event.ctrl_key() || event.alt_key() || event.meta_key() => return,
            "ArrowLeft" => step(-1, 0),
            "ArrowRight" => step(1, 0),
            "ArrowUp" => step(0, -1),
            "ArrowDown" => step(0, 1),
            "Home" => step(-far, 0),
            "End" => step(far, 0),
            // Held down it marks once.
            " " | "Enter" if event.repeat() => return event.prevent_default(),
            " " | "Enter" => Change::Toggle,
            _ => return,
        };
        event.prevent_default();
        event.stop_propagation();
        change.dispatch(what);
    });
    let id = |(column, row): (usize, usize)| format!("mask-{column}-{row}");
    let cell = |at: (usize, usize)| {
        let (is_marked, is_here) = (bench.mask.is_marked(at), bench.at == at);
        html! {
            <div
                key={at.0}
                id={id(at)}
                role="gridcell"
                class={classes!(is_marked.then_some("marked"), is_here.then_some("at"))}
                aria-selected={is_marked.to_string()}
                aria-label={format!("row {}, column {}", at.1 + 1, at.0 + 1)}
            />
        }
    };
    html! {
        <div
            class="mask"
            role="grid"
            tabindex="0"
            aria-label="What is drawn anew: arrow keys move, the space bar marks"
            aria-multiselectable="true"
            aria-activedescendant={id(bench.at)}
            data-testid="mask"
            data-marked={bench.mask.count().to_string()}
            {onpointerdown}
            {onpointermove}
            {onkeydown}
        >
            { for (0..MASK_SIDE).map(|row| html! {
                <div key={row} role="row">
                    { for (0..MASK_SIDE).map(|column| cell((column, row))) }
                </div>
            }) }
        </div>
    }
}

/// The mask that an event is on, and the cell.
fn cell_of(event: &PointerEvent) -> Option<(Element, (usize, usize))> {
    let mask = event.target_dyn_into::<Element>()?.closest(".mask").ok().flatten()?;
    let place = mask.get_bounding_client_rect();
    let cell = |at: i32, from: f64, size: f64| {
        let part = (f64::from(at) - from) / size.max(1.0);
        ((part * MASK_SIDE as f64).max(0.0) as usize).min(MASK_SIDE - 1)
    };
    let at = (
        cell(event.client_x(), place.left(), place.width()),
        cell(event.client_y(), place.top(), place.height()),
    );
    Some((mask, at))
}

/// What was drawn, over the picture at hand.
fn draw_result(base: &Base, drawn: Option<&str>) -> Html {
    let before = base.frames.last().cloned().unwrap_or_default();
    let Some(drawn) = drawn else {
        return html! {
            <div class="own-square"><img src={before} alt="" draggable="false" /></div>
        };
    };
    let base = before.clone();
    let left = html! { <img src={before} alt="The picture at hand" draggable="false" /> };
    let right = html! {
        <img
            src={drawn.to_owned()}
            alt="What becomes of it"
            draggable="false"
            data-testid="bench-picture"
        />
    };
    html! {
        <>
            <Wipe
                {left}
                {right}
                names={vec!["before".to_owned(), "after".to_owned()]}
                pair={(0, 1)}
            />
            <Difference of={base} to={drawn.to_owned()} />
        </>
    }
}

/// The choice of what is to be done.
fn draw_work(bench: &UseReducerHandle<Bench>) -> Html {
    let choice = |work: Work, testid: &'static str, name: &'static str| {
        let change = bench.dispatcher();
        let onchange = Callback::from(move |_: Event| change.dispatch(Change::Work(work)));
        html! {
            <label>
                <input
                    type="radio"
                    name="work"
                    data-testid={testid}
                    checked={bench.work == work}
                    {onchange}
                />
                <span>{ name }</span>
            </label>
        }
    };
    html! {
        <div class="segments wide" role="radiogroup" aria-label="What to do with it">
            { choice(Work::Edit, "work-edit", "A part anew") }
            { choice(Work::Reroll, "work-reroll", "Scales anew") }
            { choice(Work::Cross, "work-cross", "Cross") }
        </div>
    }
}

/// What else there is to say about it.
fn draw_settings(
    bench: &UseReducerHandle<Bench>,
    model: &Rc<ModelInfo>,
    others: &[(JobId, String)],
) -> Html {
    let change = bench.dispatcher();
    let set = |what: Change| {
        let change = change.clone();
        Callback::from(move |_: MouseEvent| change.dispatch(what.clone()))
    };
    let on_from = {
        let change = change.clone();
        Callback::from(move |from: u32| change.dispatch(Change::From(from)))
    };
    let class = html! {
        <ClassPicker
            model={model.clone()}
            chosen={bench.class}
            on_choose={{
                let change = change.clone();
                Callback::from(move |class| change.dispatch(Change::Class(class)))
            }}
        />
    };
    let tick = |testid: &'static str, checked: bool, name: &'static str, of: fn(bool) -> Change| {
        let change = change.clone();
        let onchange = Callback::from(move |event: Event| {
            let input: HtmlInputElement = event.target_unchecked_into();
            change.dispatch(of(input.checked()));
        });
        html! {
            <label class="tick">
                <input type="checkbox" data-testid={testid} {checked} {onchange} />
                <span>{ name }</span>
            </label>
        }
    };
    match bench.work {
        Work::Edit => html! {
            <>
                <p class="hint">
                    { "Paint over the picture, or move over it by the arrow keys and mark by the \
                        space bar; with Shift the arrows mark as they go. What is marked is drawn \
                        anew as the class below, all else stays." }</p>
                <div class="mask-tools">
                    { tick("mask-broad", bench.broad, "broad brush", Change::Broad) }
                    <button
                        type="button"
                        class="quiet"
                        data-testid="mask-invert"
                        onclick={set(Change::Invert)}
                    >
                        { "Turn over" }
                    </button>
                    <button
                        type="button"
                        class="quiet"
                        data-testid="mask-clear"
                        disabled={bench.mask.is_empty()}
                        onclick={set(Change::Clear)}
                    >
                        { "Clear" }
                    </button>
                </div>
                { class }
                if model.has_teacher {
                    { tick(
                        "by-student",
                        bench.by_student,
                        "let the student draw (experimental)",
                        Change::ByStudent,
                    ) }
                } else {
                    <p class="hint">
                        { "The student draws, as this model has no teacher: an experiment." }
                    </p>
                }
            </>
        },
        Work::Reroll => {
            let from = bench.from_scale.min(model.scales() - 1);
            let side = model.patch_nums.get(from as usize).copied().unwrap_or(1);
            html! {
                <>
                    <p class="hint">
                        { "Scales before this one stay; the student draws the others anew, as the \
                            class below." }
                    </p>
                    <label class="split">
                        <span>
                            { "Drawn anew: " }<strong>{ format!("from {} on", size(side)) }</strong>
                        </span>
                        <input
                            type="range"
                            min="0"
                            max={(model.scales() - 1).to_string()}
                            step="1"
                            value={from.to_string()}
                            aria-valuetext={format!("from {} on", size(side))}
                            data-testid="reroll-from"
                            oninput={on_from.reform(move |event: InputEvent| {
                                let input: HtmlInputElement = event.target_unchecked_into();
                                input.value().parse().unwrap_or(from)
                            })}
                        />
                    </label>
                    { class }
                </>
            }
        }
        Work::Cross => html! {
            <>
                <p class="hint">{ "Coarse scales of this picture, fine ones of another." }</p>
                { crossing(
                    others,
                    bench.other.as_ref(),
                    bench.from_scale,
                    &model.patch_nums,
                    &{
                        let change = change.clone();
                        Callback::from(move |other| change.dispatch(Change::Other(other)))
                    },
                    &on_from,
                ) }
            </>
        },
    }
}
