//! A grid of pictures: one setting changes across, another one down.

use std::{cell::Cell, collections::BTreeMap, rc::Rc};

use gloo_timers::future::TimeoutFuture;
use var_dd_protocol::{
    Axis, ErrorBody, ErrorCode, GenerateRequest, Grid, GridValue, ModelInfo, SheetParameters,
    classes, plan_words,
};
use wasm_bindgen_futures::spawn_local;
use web_sys::{HtmlInputElement, HtmlSelectElement};
use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    api,
    components::{help, pickers, visit_note},
    hooks::{
        Key, Sheet, cells, copy_text, keep_place, kept_place, place_names::GRID, save_sheet,
        use_backend, use_keys, use_title, use_visited_controls,
    },
    route::Route,
    state::{
        address::Address,
        custom_plan::CustomPlan,
        glossary::{Term, of_axis},
        job::Picture,
        settings::{PlanChoice, Settings},
        store::Action,
        words,
    },
};

/// How long a server that is busy is left alone, in milliseconds, where it says nothing.
const PAUSE_MS: u32 = 1_000;

/// What a person set besides class, plan and seed.
#[derive(Clone, PartialEq)]
struct Sides {
    across: (Axis, String),
    down: (Axis, String),
}

impl Sides {
    /// Those that a person left here undrawn.
    fn kept() -> Option<Self> {
        let [across, down]: [String; 2] = kept_place(GRID)?;
        Some(Self { across: Axis::of_side(&across)?, down: Axis::of_side(&down)? })
    }

    fn keep(&self) {
        keep_place(GRID, &[side_words(&self.across), side_words(&self.down)]);
    }
}

/// A grid that is being filled, or is full.
#[derive(Clone, PartialEq)]
struct Drawn {
    grid: Rc<Grid>,
    title: String,
    /// Side of a picture in pixels.
    image_size: u32,
    address: String,
}

/// Pictures by the number of their cell, and why it does not go on.
#[derive(Clone, Default, PartialEq)]
struct Filled {
    pictures: Rc<BTreeMap<usize, Picture>>,
    error: Option<ErrorBody>,
    is_stopped: bool,
    /// How often it was begun.
    turn: u32,
}

enum Fill {
    Anew,
    Picture(usize, Picture),
    Error(ErrorBody),
    Stop,
    GoOn,
}

impl Reducible for Filled {
    type Action = Fill;

    fn reduce(self: Rc<Self>, fill: Fill) -> Rc<Self> {
        let now = (*self).clone();
        Rc::new(match fill {
            Fill::Anew => Self { turn: now.turn + 1, ..Self::default() },
            Fill::Picture(at, picture) => {
                let mut pictures = (*now.pictures).clone();
                pictures.insert(at, picture);
                Self { pictures: Rc::new(pictures), ..now }
            }
            Fill::Error(error) => Self { error: Some(error), ..now },
            Fill::Stop => Self { is_stopped: true, ..now },
            Fill::GoOn => Self { is_stopped: false, error: None, ..now },
        })
    }
}

/// The grid and its controls.
#[component]
pub(crate) fn GridPage() -> Html {
    let backend = use_backend();
    let (controls, visit) = use_visited_controls();
    let model = controls.model.clone();
    let sides = use_state_eq(Sides::kept);
    let drawn = use_state_eq(|| None::<Drawn>);
    let filled = use_reducer_eq(Filled::default);
    use_title(drawn.as_ref().map_or_else(|| "Grid".into(), |drawn| drawn.title.clone()));
    let is_usable = backend.store.connection.is_usable();

    // Seeds across, plans down, until somebody says otherwise.
    let suggested = model.as_ref().map(|model| Sides {
        across: (Axis::Seed, Axis::Seed.suggestion(model)),
        down: (Axis::Plan, Axis::Plan.suggestion(model)),
    });
    let now = (*sides).clone().or(suggested);
    let navigator = use_navigator();
    let location = use_location();
    let query = location.as_ref().map(|location| location.query_str().to_owned());
    let query = query.unwrap_or_default();

    // An address that names a grid: the place has its settings, and it is drawn.
    {
        let pairs = location.and_then(|location| location.query::<Vec<(String, String)>>().ok());
        let (controls, sides, drawn) = (controls.clone(), sides.setter(), drawn.clone());
        let (store, filled) = (backend.store.dispatcher(), filled.dispatcher());
        let visit = visit.clone();
        let due = !query.is_empty() && !controls.models.is_empty();
        use_effect_with((due, query.clone()), move |(due, query)| {
            // Without one in the address there is none: whoever comes back here begins anew.
            if query.is_empty() {
                visit.end();
                drawn.set(None);
            }
            let Some(pairs) = pairs.filter(|_| *due) else { return };
            if drawn.as_ref().is_some_and(|drawn| drawn.address == *query) {
                return;
            }
            match of_address(pairs, &controls.models, (*controls.settings).clone()) {
                Ok((settings, named, grid)) => {
                    // One's own comes back after a reload as one's own.
                    if !settings.draws_as(&controls.settings, &controls.models) {
                        visit.begin(settings);
                    }
                    sides.set(Some(named));
                    filled.dispatch(Fill::Anew);
                    drawn.set(Some(Drawn { address: query.clone(), ..grid }));
                }
                Err(why) => {
                    let words = format!("This link cannot be drawn: {why}.");
                    store.dispatch(Action::Notice(Some(words)));
                }
            }
        });
    }
    use_filling(&drawn, &filled, is_usable);

    let wanted = match (&model, &now) {
        (Some(model), Some(now)) => grid(&controls.settings, now, model).map(Some),
        _ => Ok(None),
    };
    let draw = {
        let (drawn, filled, navigator) = (drawn.clone(), filled.dispatcher(), navigator);
        let wanted = wanted.clone().ok().flatten();
        let (settings, now, model) = (controls.settings.clone(), now.clone(), model.clone());
        Callback::from(move |()| {
            let (Some(wanted), Some(now)) = (wanted.clone(), &now) else { return };
            let (Some(navigator), Some(model)) = (&navigator, &model) else { return };
            let query = address_of(&settings, now, model);
            filled.dispatch(Fill::Anew);
            let Ok(()) = navigator.push_with_query(&Route::Grid, &query) else { return };
            let address = navigator_query();
            drawn.set(Some(Drawn { address, ..wanted }));
        })
    };
    let stop = {
        let filled = filled.dispatcher();
        Callback::from(move |_: MouseEvent| filled.dispatch(Fill::Stop))
    };
    let go_on = {
        let filled = filled.dispatcher();
        Callback::from(move |_: MouseEvent| filled.dispatch(Fill::GoOn))
    };
    let share = {
        let store = backend.store.dispatcher();
        Callback::from(move |()| {
            let store = store.clone();
            let location = web_sys::window().and_then(|window| window.location().href().ok());
            let Some(address) = location else { return };
            spawn_local(async move {
                let words = match copy_text(&address).await {
                    true => "Link to this grid copied.".to_owned(),
                    false => format!("Copy this link: {address}"),
                };
                store.dispatch(Action::Notice(Some(words)));
            });
        })
    };
    let sheet = {
        let (drawn, filled, store) = (drawn.clone(), filled.clone(), backend.store.dispatcher());
        Callback::from(move |_: MouseEvent| {
            let Some(sheet) = drawn.as_ref().map(|drawn| sheet_of(drawn, &filled)) else { return };
            let store = store.clone();
            spawn_local(async move {
                if !save_sheet("var-dd-grid.png", &sheet).await {
                    let words = "The browser has no room for the sheet.".to_owned();
                    store.dispatch(Action::Notice(Some(words)));
                }
            });
        })
    };
    let count = drawn.as_ref().map_or(0, |drawn| drawn.grid.cells.len());
    let there = filled.pictures.len();
    let is_full = count > 0 && there == count;
    let runs = count > 0 && !is_full && !filled.is_stopped && filled.error.is_none();
    let (reason, is_problem) = match &wanted {
        _ if model.is_none() => ("Waiting for the server".to_owned(), false),
        Err(why) => (why.clone(), true),
        Ok(_) if !is_usable => ("No connection to the server".to_owned(), false),
        Ok(_) => (String::new(), false),
    };
    {
        let (draw, share) = (draw.clone(), share.clone());
        let (can_draw, is_drawn) = (reason.is_empty(), drawn.is_some());
        use_keys(Callback::from(move |key| {
            match key {
                Key::Generate if can_draw => draw.emit(()),
                Key::Share if is_drawn => share.emit(()),
                _ => return false,
            }
            true
        }));
    }
    let set_sides = {
        let sides = sides.setter();
        Callback::from(move |now: Sides| {
            now.keep();
            sides.set(Some(now));
        })
    };
    html! {
        <main class="compare grid-page" id="main" tabindex="-1">
            <section class="race" aria-label="The grid">
                <h1>{ drawn.as_ref().map_or("Grid", |drawn| drawn.title.as_str()) }</h1>
                if let Some(drawn) = &*drawn {
                    // Each picture is seen to come; that they begin and end is said.
                    <p class="unseen" role="status">
                        { match &filled.error {
                            Some(error) => words::refusal(error),
                            None if is_full => format!("{count} pictures."),
                            None if runs => format!("Drawing {count} pictures"),
                            None => "Stopped".to_owned(),
                        } }
                    </p>
                    <p
                        class="hint"
                        data-testid="grid-told"
                        data-there={there.to_string()}
                        data-count={count.to_string()}
                    >
                        { match &filled.error {
                            Some(error) => words::refusal(error),
                            None if is_full => format!("{count} pictures."),
                            None => format!("{there} of {count} pictures"),
                        } }
                    </p>
                    { draw_table(drawn, Some(&filled)) }
                    <div class="race-actions">
                        if runs {
                            <button type="button" data-testid="grid-stop" onclick={stop}>
                                { "Stop" }
                            </button>
                        } else if !is_full {
                            <button type="button" data-testid="grid-go-on" onclick={go_on}>
                                { "Go on" }
                            </button>
                        }
                        <button
                            type="button"
                            data-testid="grid-sheet"
                            disabled={there == 0}
                            onclick={sheet}
                        >{ "Sheet (PNG)" }</button>
                        <button
                            type="button"
                            data-testid="grid-share"
                            onclick={share.reform(|_: MouseEvent| ())}
                        >{ "Copy link" }</button>
                    </div>
                    <p class="hint">
                        { "Each picture leads to its settings. Nothing of a grid is kept on the \
                            server; this browser keeps its pictures for a reload." }
                    </p>
                } else {
                    <p>
                        { "Let one setting change from column to column and another from row to \
                            row, and see what each does." }
                    </p>
                    if let Ok(Some(wanted)) = &wanted {
                        <div class="to-come">{ draw_table(wanted, None) }</div>
                    }
                }
            </section>
            <aside class="rail" aria-label="What to draw">
                if let (Some(model), Some(now)) = (&model, &now) {
                    { visit_note(&visit) }
                    { side("across", "Across", &now.across, model, &{
                        let now = now.clone();
                        set_sides.reform(move |across| Sides { across, ..now.clone() })
                    }) }
                    { side("down", "Down", &now.down, model, &{
                        let now = now.clone();
                        set_sides.reform(move |down| Sides { down, ..now.clone() })
                    }) }
                    <p id="grid-help" class="hint">
                        { "Commas between values, or semicolons where a name has a comma; 1-4 is \
                            short for 1, 2, 3, 4. What changes here counts, whatever is chosen below." }
                    </p>
                    { pickers(&controls, controls.settings.seed().as_ref().err(), None) }
                    { plan(&controls, model) }
                    <div class="generate-bar">
                        <p
                            id="grid-reason"
                            class={if is_problem { "problem" } else { "reason" }}
                            data-testid="grid-reason"
                        >{ reason.clone() }</p>
                        <button
                            type="button"
                            class="generate"
                            data-testid="grid-start"
                            disabled={!reason.is_empty()}
                            aria-describedby="grid-reason"
                            onclick={draw.reform(|_: MouseEvent| ())}
                        >{ "Draw grid" }</button>
                    </div>
                } else {
                    <p class="hint">{ "Waiting for the server" }</p>
                }
            </aside>
        </main>
    }
}

/// The query of the address as it stands now.
fn navigator_query() -> String {
    let window = web_sys::window();
    window.and_then(|window| window.location().search().ok()).unwrap_or_default()
}

/// What changes along a side, and its values.
fn side(
    name: &'static str,
    label: &'static str,
    chosen: &(Axis, String),
    model: &Rc<ModelInfo>,
    set: &Callback<(Axis, String)>,
) -> Html {
    let on_axis = {
        let model = model.clone();
        set.reform(move |event: Event| {
            let chosen = event.target_unchecked_into::<HtmlSelectElement>().value();
            let axis = Axis::of_name(&chosen).unwrap_or(Axis::Seed);
            (axis, axis.suggestion(&model))
        })
    };
    let on_text = {
        let axis = chosen.0;
        set.reform(move |event: InputEvent| {
            (axis, event.target_unchecked_into::<HtmlInputElement>().value())
        })
    };
    html! {
        <fieldset class="field grid-side">
            <legend>{ label }</legend>
            { help(of_axis(chosen.0)) }
            <select
                aria-label={format!("{label}: what changes")}
                data-testid={format!("grid-{name}")}
                onchange={on_axis}
            >
                { for Axis::ALL.into_iter().map(|axis| html! {
                    <option key={axis.name()} value={axis.name()} selected={axis == chosen.0}>
                        { axis.name() }
                    </option>
                }) }
            </select>
            <input
                type="text"
                aria-label={format!("{label}: values")}
                data-testid={format!("grid-{name}-values")}
                aria-describedby="grid-help"
                value={chosen.1.clone()}
                oninput={on_text}
            />
        </fieldset>
    }
}

/// The plan of all pictures, where neither side changes it.
fn plan(controls: &crate::hooks::Controls, model: &Rc<ModelInfo>) -> Html {
    let chosen = controls.settings.plan;
    let custom = &controls.settings.custom;
    let is_built = *custom != CustomPlan::default() && custom.plan(model.scales()).is_ok();
    let onchange = controls.set(|settings: Settings, plan| Settings { plan, ..settings });
    let onchange = onchange.reform(|event: Event| {
        let value = event.target_unchecked_into::<HtmlSelectElement>().value();
        value.parse().map_or(PlanChoice::Custom, PlanChoice::Preset)
    });
    html! {
        <div class="field">
            <div class="label-line">
                <label for="grid-plan">{ "Plan" }</label>
                { help(Term::Plan) }
            </div>
            <select id="grid-plan" data-testid="grid-plan" {onchange}>
                { for model.plans.iter().enumerate().map(|(index, preset)| html! {
                    <option
                        key={index}
                        value={index.to_string()}
                        selected={chosen == PlanChoice::Preset(index)}
                    >{ &preset.name }</option>
                }) }
                if is_built || chosen == PlanChoice::Custom {
                    <option value="custom" selected={chosen == PlanChoice::Custom}>
                        { "of your own" }
                    </option>
                }
            </select>
        </div>
    }
}

/// The grid that settings and sides make.
fn grid(settings: &Settings, sides: &Sides, model: &ModelInfo) -> Result<Drawn, String> {
    let alone = Settings { count: 1, last_frame_first: false, ..settings.clone() };
    let base = alone
        .request(model)
        .map_err(|problem| format!("{}: {}", problem.field.name(), problem.message))?;
    let across = (sides.across.0, sides.across.1.as_str());
    let down = (sides.down.0, sides.down.1.as_str());
    let grid = Grid::new(&base, across, down, model)?;
    let title = grid.title(model);
    let image_size = model.image_size;
    Ok(Drawn { grid: Rc::new(grid), title, image_size, address: String::new() })
}

/// What changes along a side and its values, as an address has it.
fn side_words((axis, values): &(Axis, String)) -> String {
    format!("{}: {values}", axis.name())
}

/// The address of a grid, in words.
fn address_of(settings: &Settings, sides: &Sides, model: &ModelInfo) -> Vec<(String, String)> {
    // By its name where that leaves no doubt.
    let name = model.classes.get(settings.class).and_then(|name| name.split(',').next());
    let name = name.filter(|name| classes::of_text(&model.classes, name) == Some(settings.class));
    let class = name.map_or_else(|| settings.class.to_string(), str::to_owned);
    let plan = match settings.plan {
        PlanChoice::Preset(index) => model.plans.get(index).map(|preset| preset.name.clone()),
        PlanChoice::Custom => settings.plan(model).ok().map(|plan| plan_words(&plan)),
    };
    let of = |name: &str, value: String| (name.to_owned(), value);
    let mut pairs = vec![
        of("across", side_words(&sides.across)),
        of("down", side_words(&sides.down)),
        of("model", model.name.clone()),
        of("class", class),
        of("seed", settings.seed.clone()),
    ];
    pairs.extend(plan.map(|plan| of("plan", plan)));
    pairs
}

/// The grid that an address names, with the settings and sides that make it.
fn of_address(
    pairs: Vec<(String, String)>,
    models: &[ModelInfo],
    settings: Settings,
) -> Result<(Settings, Sides, Drawn), String> {
    let side = |name: &str| {
        let text = pairs.iter().rfind(|(other, _)| other == name).map(|(_, text)| text);
        let text = text.ok_or_else(|| format!("it does not say what changes {name}"))?;
        Axis::of_side(text).ok_or_else(|| format!("“{text}” is nothing that can change {name}"))
    };
    let sides = Sides { across: side("across")?, down: side("down")? };
    let (settings, left_out) = Address::of_pairs(pairs.clone()).apply(settings, models);
    if !left_out.is_empty() {
        return Err(left_out.join("; "));
    }
    let model = settings.model(models).ok_or("no model is loaded")?;
    let drawn = grid(&settings, &sides, model)?;
    Ok((settings, sides, drawn))
}

/// Fills the grid, one picture after the other: those that the browser has, then those that the
/// server draws.
#[hook]
fn use_filling(
    drawn: &UseStateHandle<Option<Drawn>>,
    filled: &UseReducerHandle<Filled>,
    is_usable: bool,
) {
    let grid = drawn.as_ref().map(|drawn| drawn.grid.clone());
    let runs = is_usable && !filled.is_stopped && filled.error.is_none();
    let (there, tell) = (filled.pictures.clone(), filled.dispatcher());
    use_effect_with((grid, runs, filled.turn), move |(grid, runs, _)| {
        let is_over = Rc::new(Cell::new(!runs));
        if let Some(grid) = grid.clone().filter(|_| *runs) {
            let is_over = is_over.clone();
            spawn_local(async move {
                let missing = |at: &usize| !there.contains_key(at);
                for at in (0..grid.cells.len()).filter(missing) {
                    let outcome = cell(&grid.cells[at], &is_over).await;
                    if is_over.get() {
                        return;
                    }
                    match outcome {
                        Ok(picture) => tell.dispatch(Fill::Picture(at, picture)),
                        Err(error) => return tell.dispatch(Fill::Error(error)),
                    }
                }
            });
        }
        move || is_over.set(true)
    });
}

/// The picture of one cell.
async fn cell(request: &GenerateRequest, is_over: &Cell<bool>) -> Result<Picture, ErrorBody> {
    if let Some(bytes) = cells::kept(request).await {
        return api::picture_of(&bytes);
    }
    loop {
        match api::preview_bytes(request).await {
            Ok(bytes) => {
                cells::keep(request, &bytes).await;
                return api::picture_of(&bytes);
            }
            Err(error) => {
                let busy = matches!(error.code, ErrorCode::RateLimited | ErrorCode::QueueFull);
                if !busy || is_over.get() {
                    return Err(error);
                }
                let pause_ms = error.retry_after_s.map_or(PAUSE_MS, |seconds| seconds * 1000);
                TimeoutFuture::new(pause_ms.min(60_000)).await;
            }
        }
    }
}

/// The pictures under the values of one side and beside those of the other; without `filled`, the
/// places where they will be.
fn draw_table(drawn: &Drawn, filled: Option<&Filled>) -> Html {
    let columns = drawn.grid.across.len();
    let pictures = filled.map(|filled| filled.pictures.clone()).unwrap_or_default();
    let (table, cell) = match filled {
        Some(_) => ("grid", "grid-cell"),
        None => ("grid-to-be", "grid-cell-to-be"),
    };
    let picture = |at: usize, name: String| {
        let query = drawn.grid.cells.get(at).map(Address::of_request).unwrap_or_default();
        html! {
            <td key={at} data-testid={cell} data-there={pictures.contains_key(&at).to_string()}>
                if let Some(picture) = pictures.get(&at) {
                    <Link<Route, Address> to={Route::Playground} query={query}>
                        <img src={picture.url().to_owned()} alt={name} />
                    </Link<Route, Address>>
                } else {
                    <span class="grid-empty" />
                }
            </td>
        }
    };
    html! {
        // A region that scrolls is reached by the keyboard.
        <div class="grid-scroll" tabindex="0" role="region" aria-label="Pictures">
            <table class={format!("grid of-{}", columns.min(12))} data-testid={table}>
                <thead>
                    <tr>
                        <td />
                        { for drawn.grid.across.iter().map(|value| html! {
                            <th scope="col">{ &value.label }</th>
                        }) }
                    </tr>
                </thead>
                <tbody>
                    { for drawn.grid.down.iter().enumerate().map(|(row, value)| html! {
                        <tr key={row}>
                            <th scope="row">{ &value.label }</th>
                            { for drawn.grid.across.iter().enumerate().map(|(column, across)| {
                                let name = format!("{}, {}", across.label, value.label);
                                picture(row * columns + column, name)
                            }) }
                        </tr>
                    }) }
                </tbody>
            </table>
        </div>
    }
}

/// The grid with its labels, as a file that says how each picture was drawn.
fn sheet_of(drawn: &Drawn, filled: &Filled) -> Sheet {
    let labels = |values: &[GridValue]| values.iter().map(|value| value.label.clone()).collect();
    let picture = |at| filled.pictures.get(&at).map(|picture| picture.url().to_owned());
    Sheet {
        title: drawn.title.clone(),
        across: labels(&drawn.grid.across),
        down: labels(&drawn.grid.down),
        side: drawn.image_size,
        pictures: (0..drawn.grid.cells.len()).map(picture).collect(),
        parameters: SheetParameters {
            requests: drawn.grid.cells.clone(),
            page: format!("grid{}", drawn.address),
        },
    }
}
