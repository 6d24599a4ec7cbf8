//! Two to six plans on one class and seed, side by side, in step by the time since each began.

use std::rc::Rc;

use gloo_timers::callback::Timeout;
use var_dd_protocol::{
    COMPARED_PLANS, Comparison, GenerateRequest, JobState, ModelInfo, Plan, SheetParameters,
};
use wasm_bindgen_futures::spawn_local;
use yew::prelude::*;
use yew_router::{
    history::{BrowserHistory, History, Location},
    prelude::*,
};

use crate::{
    api::{self, now_ms},
    components::{RaceView, explain, help, pickers, visit_note},
    hooks::{
        Backend, Controls, Key, Sheet, Visit, copy_text, keep_comparison, kept_comparison,
        prefers_stillness, save_sheet, use_backend, use_clock, use_keys, use_title,
        use_visited_controls,
    },
    route::Route,
    state::{
        address::Address,
        comparison::{self, Column, Comparing, Kept, Outcome, Purpose, Shown},
        custom_plan::CustomPlan,
        glossary::Term,
        job::Job,
        settings::{PlanChoice, Settings},
        store::{Action, Answer, Store},
        words,
    },
};

/// Most plans of one's own that are offered because they were drawn.
const OWN_PLANS: usize = 4;

/// Times slower than real when played by itself.
pub(crate) const SLOWER: f64 = 5.0;

/// The clock of all columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Clock {
    /// Everything shows its newest.
    Free,
    /// Stands at so many milliseconds.
    At(f64),
    /// Runs since a time of this document, real time divided by `slower`.
    Runs { since_ms: f64, slower: f64 },
}

/// What is drawn: the address it has, and the runs.
#[derive(Clone, Debug, PartialEq)]
struct Drawn {
    of: Comparison,
    /// Name of the class as the model has it.
    class_name: String,
    comparing: Comparing,
    origin: Origin,
}

/// Why a comparison is on the page.
#[derive(Clone, Debug, PartialEq)]
enum Origin {
    /// The person asked for it.
    Asked,
    /// An address asked for it, and it is drawn for this visit.
    Visited,
    /// It is as this tab drew it before.
    Kept(Kept),
}

/// Compare plans.
#[component]
pub(crate) fn Compare() -> Html {
    let backend = use_backend();
    let store = &backend.store;
    let (controls, visit) = use_visited_controls();
    let Controls { settings, models, model } = &controls;
    let drawn = use_state_eq(|| None::<Drawn>);
    let clock = use_state_eq(|| Clock::Free);
    // Whether the server has no room just now.
    let is_held_up = use_state_eq(|| false);
    use_title(drawn.as_ref().map_or_else(
        || "Compare".into(),
        |drawn| format!("{}: {} plans compared", drawn.class_name, drawn.of.plans.len()),
    ));

    // The plans to choose from, and those that are chosen.
    let offered = model.as_ref().map(|model| {
        let drawn = store.own_plans(model);
        offered(model, settings, &drawn[..drawn.len().min(OWN_PLANS)])
    });
    let offered = offered.unwrap_or_default();
    let chosen: Vec<Plan> = chosen(settings, model.as_deref(), &offered);
    let seed = settings.seed();
    let running = drawn.as_ref().is_some_and(|drawn| !drawn.comparing.is_over());
    let reason = reason(&controls, store.connection.is_usable(), chosen.len(), running);
    let wanted = match (model, &seed, &reason) {
        (Some(model), Ok(seed), None) => {
            let class_name = model.classes.get(settings.class).cloned().unwrap_or_default();
            let class = settings.class as u32;
            Some((
                Comparison::new(&model.name, class, &class_name, *seed, chosen.clone()),
                class_name,
            ))
        }
        _ => None,
    };
    let begin = {
        let (drawn, clock, offered) = (drawn.clone(), clock.clone(), offered.clone());
        let backend = backend.clone();
        Callback::from(move |(of, class_name, origin): (Comparison, String, Origin)| {
            let plans = of.plans.iter().map(|plan| {
                let name = offered.iter().find(|(_, other)| other == plan);
                let name = name.map_or_else(
                    || words::custom_plan(plan, backend.store.sides(Some(&of.model))),
                    |(name, _)| name.clone(),
                );
                (plan.clone(), name)
            });
            let comparing = match &origin {
                Origin::Kept(kept) => Comparing::of_kept(plans.collect(), kept.clone()),
                Origin::Asked | Origin::Visited => Comparing::new(plans.collect()),
            };
            clock.set(Clock::Free);
            drawn.set(Some(Drawn { of, class_name, comparing, origin }));
        })
    };

    // An address that names a comparison: the place has its settings, and it is drawn. One that
    // brings settings: the place has them.
    let location = use_location();
    let address = location.as_ref().map(|location| location.path().to_owned()).unwrap_or_default();
    let address = address.strip_prefix(&api::root()).unwrap_or_default().to_owned();
    use_settings_of_query(&controls, &visit, location.filter(|_| address == "compare"));
    let arrived = use_state_eq(String::new);
    {
        // Without one in the address there is none: whoever comes back here begins anew.
        let (drawn, arrived) = (drawn.setter(), arrived.setter());
        use_effect_with(address.starts_with("c/"), move |&is_named| {
            if !is_named {
                drawn.set(None);
                arrived.set(String::new());
            }
        });
    }
    {
        let (controls, drawn, arrived) = (controls.clone(), drawn.clone(), arrived.clone());
        let is_usable = store.connection.is_usable();
        let (store, begin) = (store.dispatcher(), begin.clone());
        let (visit, wanted) = (visit.clone(), wanted.clone());
        let due = address.starts_with("c/") && *arrived != address && !models.is_empty();
        use_effect_with((due && is_usable, address.clone()), move |(due, address)| {
            if !due {
                return;
            }
            arrived.set(address.clone());
            if drawn.as_ref().is_some_and(|drawn| drawn.of.to_string() == *address) {
                return;
            }
            match of_address(&controls, address) {
                Ok((settings, (of, class_name))) => {
                    // One's own comes back after a reload as one's own.
                    if wanted.is_none_or(|(own, _)| own != of) {
                        visit.begin(settings);
                    }
                    let kept = kept_comparison(&of.to_string())
                        .filter(|kept| kept.columns.len() == of.plans.len());
                    spawn_local(async move {
                        let origin = match kept {
                            Some(kept) if are_there(&kept, &store).await => Origin::Kept(kept),
                            _ => Origin::Visited,
                        };
                        begin.emit((of, class_name, origin));
                    });
                }
                Err(words) => {
                    let legible = Address::of_comparison(address, &controls.models);
                    let now = (*controls.settings).clone();
                    let (settings, left_out) = legible.apply_to_comparison(now, &controls.models);
                    visit.begin(settings);
                    let more = left_out.iter().map(|what| format!(" {}.", words::sentence(what)));
                    let more: String = more.collect();
                    let words = format!("{words}{more} The controls have what could be read.");
                    store.dispatch(Action::Notice(Some(words)));
                }
            }
        });
    }
    let start = {
        let (wanted, begin, arrived) = (wanted.clone(), begin, arrived.clone());
        Callback::from(move |()| {
            let Some((of, class_name)) = wanted.clone() else { return };
            arrived.set(of.to_string());
            // Its characters are as they are to stand in the address.
            BrowserHistory::new().push(api::path(&of.to_string()));
            begin.emit((of, class_name, Origin::Asked));
        })
    };
    {
        let (backend, drawn, is_held_up) = (backend.clone(), drawn.clone(), is_held_up.clone());
        use_effect(move || run(&backend, &drawn, &is_held_up));
    }

    let shown_jobs: Vec<Option<Rc<Job>>> = drawn.as_ref().map_or_else(Vec::new, |drawn| {
        let columns = drawn.comparing.columns.iter();
        columns.map(|column| job_of(&backend, column.shown.as_ref()?)).collect()
    });
    // What is drawn to warm up has no time on the clock.
    let counted = drawn.iter().flat_map(|drawn| &drawn.comparing.columns).zip(&shown_jobs);
    let counted = counted.filter(|(column, _)| column.warm_up.is_none());
    let moments = comparison::moments(counted.filter_map(|(_, job)| job.as_deref()));
    let length_ms = moments.last().copied().unwrap_or(0.0);
    // One plan that failed does not keep the others from being measured.
    let most_runs = drawn.as_ref().map_or(0, |drawn| drawn.comparing.most_runs());
    let all_there = !shown_jobs.is_empty()
        && drawn
            .as_ref()
            .is_some_and(|drawn| drawn.comparing.columns.iter().all(|column| column.runs() > 0));
    {
        let clock = clock.clone();
        let is_seen = drawn.as_ref().is_some_and(|drawn| matches!(drawn.origin, Origin::Kept(_)));
        // Once all are measured for the first time, they are played in step.
        use_effect_with(all_there, move |&all_there| {
            if all_there && !is_seen && !prefers_stillness() {
                clock.set(Clock::Runs { since_ms: now_ms(), slower: SLOWER });
            }
        });
    }
    // What was drawn stays for a reload, and for the way back to it.
    let kept = drawn.as_ref().and_then(|drawn| {
        let id = |shown: &Shown| job_of(&backend, shown).map(|job| job.id().clone());
        drawn.comparing.kept(&drawn.of.to_string(), id)
    });
    use_effect_with(kept, |kept| kept.iter().cloned().for_each(keep_comparison));
    let now = use_clock(matches!(*clock, Clock::Runs { .. }));
    let elapsed_ms = match *clock {
        Clock::Free => None,
        Clock::At(ms) => Some(ms),
        Clock::Runs { since_ms, slower } => Some(((now - since_ms) / slower).clamp(0.0, length_ms)),
    };
    {
        let clock = clock.clone();
        let is_over =
            matches!(*clock, Clock::Runs { .. }) && elapsed_ms.is_some_and(|ms| ms >= length_ms);
        use_effect_with(is_over, move |&is_over| {
            if is_over {
                clock.set(Clock::At(length_ms));
            }
        });
    }
    let step = {
        let clock = clock.clone();
        Callback::from(move |by: isize| {
            let at = elapsed_ms.unwrap_or(length_ms);
            clock.set(Clock::At(comparison::stepped(&moments, at, by)));
        })
    };
    let play = {
        let clock = clock.clone();
        Callback::from(move |slower: f64| {
            clock.set(match *clock {
                Clock::Runs { .. } => Clock::At(elapsed_ms.unwrap_or(length_ms)),
                _ => Clock::Runs { since_ms: now_ms(), slower },
            });
        })
    };
    let share = {
        let (drawn, store) = (drawn.clone(), store.dispatcher());
        Callback::from(move |()| {
            let Some(drawn) = &*drawn else { return };
            let (address, store) = (api::address(&drawn.of.to_string()), store.clone());
            spawn_local(async move {
                let words = match copy_text(&address).await {
                    true => "Link to this comparison copied.".to_owned(),
                    false => format!("Copy this link: {address}"),
                };
                store.dispatch(Action::Notice(Some(words)));
            });
        })
    };
    let sheet = {
        let (drawn, jobs, store) = (drawn.clone(), shown_jobs.clone(), store.dispatcher());
        Callback::from(move |_: MouseEvent| {
            let Some(sheet) = drawn.as_ref().map(|drawn| sheet_of(drawn, &jobs)) else { return };
            let store = store.clone();
            spawn_local(async move {
                if !save_sheet("var-dd-comparison.png", &sheet).await {
                    let words = "The browser has no room for the sheet.".to_owned();
                    store.dispatch(Action::Notice(Some(words)));
                }
            });
        })
    };
    let stop = {
        let (backend, drawn) = (backend.clone(), drawn.clone());
        Callback::from(move |()| {
            let Some(now) = &*drawn else { return };
            let running = now.comparing.running();
            let running = running.and_then(|(_, tag)| job_of(&backend, &Shown::Asked(tag)));
            if let Some(job) = running {
                backend.cancel(job.id());
            }
            drawn.set(Some(Drawn { comparing: now.comparing.clone().stopped(), ..now.clone() }));
        })
    };
    {
        let (start, step, play, share, stop) =
            (start.clone(), step.clone(), play.clone(), share.clone(), stop.clone());
        use_keys(Callback::from(move |key| {
            match key {
                Key::Generate => start.emit(()),
                Key::Back => step.emit(-1),
                Key::On => step.emit(1),
                Key::Play => play.emit(SLOWER),
                Key::Share => share.emit(()),
                Key::Cancel if running => stop.emit(()),
                _ => return false,
            }
            true
        }));
    }
    let again = {
        let drawn = drawn.clone();
        Callback::from(move |_: MouseEvent| {
            if let Some(now) = &*drawn {
                let comparing = now.comparing.clone().repeated();
                drawn.set(Some(Drawn { comparing, ..now.clone() }));
            }
        })
    };
    let is_other = match (&*drawn, &wanted) {
        (Some(drawn), Some((wanted, _))) => drawn.of != *wanted,
        _ => false,
    };
    html! {
        <main class="compare" id="main" tabindex="-1">
            <section class="race" aria-label="Side by side">
                <h1>{ match &*drawn {
                    Some(drawn) => format!("{}, seed {}", drawn.class_name, drawn.of.seed),
                    None => "Compare plans".to_owned(),
                } }</h1>
                if let Some(drawn) = &*drawn {
                    <p class="hint">
                        { format!("{} · ", drawn.of.model) }
                        { progress(&drawn.comparing, *is_held_up) }
                        if drawn.origin == Origin::Visited {
                            { ", now and on this server: whoever sent the link had other times" }
                        }
                        if let Some(words) = other_class(&address, drawn) {
                            { " · " }{ words }
                        }
                        if is_other { { " · The controls have changed since: draw again to see that." } }
                    </p>
                    <RaceView
                        columns={drawn.comparing.columns.clone()}
                        jobs={shown_jobs.clone()}
                        fids={published(models, drawn)}
                        answers={answers(&backend, &drawn.comparing)}
                        is_settled={all_there || drawn.comparing.is_over()}
                        {elapsed_ms}
                        {length_ms}
                        is_playing={matches!(*clock, Clock::Runs { .. })}
                        on_seek={{
                            let clock = clock.clone();
                            Callback::from(move |ms| clock.set(Clock::At(ms)))
                        }}
                        on_step={step}
                        on_play={play}
                    >
                        <button
                            type="button"
                            data-testid="compare-again"
                            disabled={running || most_runs == 0}
                            onclick={again}
                        >
                            { match most_runs < comparison::RUNS {
                                true => format!("Measure {} times", comparison::RUNS),
                                false => format!("Measure {} times more", comparison::RUNS),
                            } }
                        </button>
                        <button
                            type="button"
                            data-testid="compare-sheet"
                            disabled={running || most_runs == 0}
                            onclick={sheet}
                        >{ "Sheet (PNG)" }</button>
                        <button
                            type="button"
                            data-testid="compare-share"
                            onclick={share.reform(|_: MouseEvent| ())}
                        >{ "Copy link" }</button>
                        // It keeps its place when it goes, and the others theirs.
                        <button
                            type="button"
                            class={classes!("quiet", (!running).then_some("kept-place"))}
                            data-testid={running.then_some("cancel")}
                            onclick={stop.reform(|_: MouseEvent| ())}
                        >{ "Stop" }</button>
                    </RaceView>
                    <p class="hint" data-testid="compare-quality">{ quality(models, drawn) }</p>
                    <p class="hint">
                        { "Network: in the transformer, which draws the tokens. Pictures: in the \
                           decoder, which turns them into what one sees, once for every step on \
                           the way. Encoding: the rest, as files to be sent. Every plan is warmed \
                           up first, which is not counted, and they are drawn one after the other." }
                    </p>
                    <p class="hint words">
                        { "What is a " }{ explain(Term::Wipe) }{ ", the " }{ explain(Term::Difference) }
                        { ", " }{ explain(Term::Measuring) }{ "?" }
                    </p>
                } else {
                    <p>
                        { "Draw one class and seed by several plans, and see what each step costs \
                           and brings." }
                    </p>
                    if let Some(model) = model { { to_be(model, &offered, &chosen) } }
                }
            </section>
            <aside class="rail" aria-label="What to compare">
                if let Some(model) = model {
                    { visit_note(&visit) }
                    { pickers(&controls, seed.as_ref().err(), None) }
                    { plans(&controls, model, &offered, &chosen) }
                    <div class="generate-bar">
                        // Above the button, which so keeps its place when this comes and goes.
                        <p id="compare-reason" class="reason">{ reason.unwrap_or_default() }</p>
                        <button
                            type="button"
                            class="generate"
                            data-testid="compare-start"
                            // Disabled while it draws, it would lose the focus.
                            disabled={wanted.is_none() && !running}
                            aria-disabled={running.then_some("true")}
                            aria-describedby="compare-reason"
                            onclick={start.reform(|_: MouseEvent| ())}
                        >{ if drawn.is_some() && !is_other { "Draw again" } else { "Draw side by side" } }</button>
                    </div>
                } else {
                    <p class="hint">{ "Waiting for the server" }</p>
                }
            </aside>
        </main>
    }
}

/// Gives the place the settings that the query of its address brings. Without any it has the
/// person's own.
#[hook]
fn use_settings_of_query(controls: &Controls, visit: &Visit, location: Option<Location>) {
    let store = use_backend().store.dispatcher();
    let (controls, visit) = (controls.clone(), visit.clone());
    let is_ready = !controls.models.is_empty();
    use_effect_with((location, is_ready), move |(location, is_ready)| {
        let Some(location) = location.as_ref().filter(|_| *is_ready) else { return };
        let pairs = location.query::<Vec<(String, String)>>().unwrap_or_default();
        let address = Address::of_pairs(pairs);
        if address.is_empty() {
            return visit.end();
        }
        let now = (*controls.settings).clone();
        let (settings, left_out) = address.apply_to_comparison(now, &controls.models);
        visit.begin(settings);
        if !left_out.is_empty() {
            let words = words::of_link_left_out(&left_out);
            store.dispatch(Action::Notice(Some(words)));
        }
    });
}

/// The plans that are chosen, where their pictures will be.
fn to_be(model: &ModelInfo, offered: &[(String, Plan)], chosen: &[Plan]) -> Html {
    let plans = offered.iter().filter(|(_, plan)| chosen.contains(plan));
    html! {
        <div class={format!("columns of-{}", chosen.len())} data-testid="compare-to-be">
            { for plans.enumerate().map(|(index, (name, plan))| html! {
                <section key={index} class="column" aria-label={name.clone()}>
                    <h2>{ name }</h2>
                    <div class="square to-be" />
                    <p class="hint">{ words::cost(plan, model.scales()) }</p>
                </section>
            }) }
        </div>
    }
}

/// All pictures with their plans and times, as a file that says how each was drawn.
fn sheet_of(drawn: &Drawn, jobs: &[Option<Rc<Job>>]) -> Sheet {
    let columns = &drawn.comparing.columns;
    let label = |column: &Column| match column.total_ms() {
        Some(spread) => format!("{}: {}", column.name, words::duration(spread.median)),
        None => column.name.clone(),
    };
    let picture = |job: &Option<Rc<Job>>| {
        let job = job.as_ref().filter(|job| job.is_finished())?;
        Some(job.last_picture()?.picture.url().to_owned())
    };
    let side = jobs.iter().flatten().map(|job| job.about.image_size).next();
    Sheet {
        title: format!("{}, seed {}, {}", drawn.class_name, drawn.of.seed, drawn.of.model),
        across: columns.iter().map(label).collect(),
        down: vec![String::new()],
        side: side.unwrap_or(1),
        pictures: jobs.iter().map(picture).collect(),
        parameters: SheetParameters {
            requests: columns.iter().map(|column| request(&drawn.of, &column.plan)).collect(),
            page: drawn.of.to_string(),
        },
    }
}

/// The published FID of each plan that is drawn, where there is one.
fn published(models: &[ModelInfo], drawn: &Drawn) -> Vec<Option<f64>> {
    let model = models.iter().find(|model| model.name == drawn.of.model);
    let presets = model.map(|model| &model.plans[..]).unwrap_or_default();
    let fid = |plan: &Plan| presets.iter().find(|preset| preset.plan == *plan)?.fid;
    drawn.of.plans.iter().map(fid).collect()
}

/// How good the plans are by what is published of them, in words.
fn quality(models: &[ModelInfo], drawn: &Drawn) -> String {
    let names = drawn.comparing.columns.iter().map(|column| column.name.as_str());
    words::quality(&drawn.of.model, names.zip(published(models, drawn)))
}

/// Asks for run after run, and notes how each ended. One that the server has no room for is asked
/// for again after the time that it names.
fn run(
    backend: &Backend,
    drawn: &UseStateHandle<Option<Drawn>>,
    is_held_up: &UseStateHandle<bool>,
) {
    let Some(now) = &**drawn else { return };
    let comparing = &now.comparing;
    let set = |comparing: Comparing| drawn.set(Some(Drawn { comparing, ..now.clone() }));
    if comparing.has_spent() {
        let (rest, spent) = comparing.clone().without_spent();
        spent.iter().for_each(|job| backend.discard(job));
        return set(rest);
    }
    if let Some((_, tag)) = comparing.running() {
        let outcome = match backend.store.answer(tag) {
            Some(Answer::Refused(error)) => match error.retry_after_s {
                Some(seconds) => {
                    let is_held_up = is_held_up.clone();
                    is_held_up.set(true);
                    let end = move || is_held_up.set(false);
                    Timeout::new(seconds.max(1).saturating_mul(1000), end).forget();
                    return set(comparing.clone().put_back());
                }
                None => Some(Outcome::Failed),
            },
            Some(Answer::Accepted(id)) => match backend.store.job(id) {
                Some(job) if job.state.is_final() => Some(match job.timings {
                    Some(timings) if job.is_finished() => Outcome::Finished(id.clone(), timings),
                    _ => Outcome::Failed,
                }),
                Some(_) => None,
                None => Some(Outcome::Failed),
            },
            Some(Answer::Waiting) | None => None,
        };
        if let Some(outcome) = outcome {
            set(comparing.clone().ended(outcome));
        }
        return;
    }
    let is_possible = backend.store.connection.is_usable() && !**is_held_up;
    if let Some(run) = comparing.next().filter(|_| is_possible) {
        let request = request(&now.of, &comparing.columns[run.column].plan);
        // What an address asks for was kept when it was drawn first, or is somebody else's.
        // So is what is drawn only to warm up or to be measured.
        let tag = match (&now.origin, run.purpose) {
            (Origin::Asked | Origin::Kept(_), Purpose::Show) => backend.generate(request),
            _ => backend.generate_in_passing(request),
        };
        set(comparing.clone().asked(tag));
    }
}

/// What draws a plan of a comparison.
fn request(of: &Comparison, plan: &Plan) -> GenerateRequest {
    GenerateRequest {
        model: Some(of.model.clone()),
        class: of.class,
        plan: plan.clone(),
        seed: Some(of.seed),
        count: 1,
        // The steps are what is compared here, each at its own time.
        last_frame_first: false,
        deadline_ms: None,
        explore: None,
    }
}

fn job_of(backend: &Backend, shown: &Shown) -> Option<Rc<Job>> {
    let job = match shown {
        Shown::Asked(tag) => match backend.store.answer(*tag)? {
            Answer::Accepted(job) => job,
            Answer::Waiting | Answer::Refused(_) => return None,
        },
        Shown::Kept(job) => job,
    };
    backend.store.job(job).cloned()
}

/// What became of the request of each column.
fn answers(backend: &Backend, comparing: &Comparing) -> Vec<Option<Answer>> {
    let answer = |column: &Column| match column.shown.as_ref()? {
        Shown::Asked(tag) => backend.store.answer(*tag).cloned(),
        Shown::Kept(job) => Some(Answer::Accepted(job.clone())),
    };
    comparing.columns.iter().map(answer).collect()
}

/// Whether all results of a comparison that was kept are still there; the page knows them then.
async fn are_there(kept: &Kept, store: &UseReducerDispatcher<Store>) -> bool {
    let mut views = Vec::new();
    for (job, _) in &kept.columns {
        match api::view(job.as_str()).await {
            Ok(view) if view.state == JobState::Finished => views.push(view),
            _ => return false,
        }
    }
    views.into_iter().for_each(|view| store.dispatch(Action::View(Rc::new(view))));
    true
}

/// The settings of an address and what is to be drawn, or why it cannot be.
fn of_address(
    controls: &Controls,
    address: &str,
) -> Result<(Settings, (Comparison, String)), String> {
    let comparison: Comparison = address
        .parse()
        .map_err(|error| format!("This link to a comparison cannot be read: {error}."))?;
    let found = controls.models.iter().find(|model| model.name == comparison.model);
    let model = found.ok_or("This link to a comparison cannot be used here.")?;
    let class = comparison.class as usize;
    let class_name = model.classes.get(class).cloned();
    let class_name = class_name.ok_or_else(|| {
        format!("This comparison is of class {class}; {} has {}.", model.name, model.classes.len())
    })?;
    // All of it can be drawn, or nothing is begun.
    for plan in &comparison.plans {
        if plan.needs_teacher() && !model.has_teacher {
            return Err(format!(
                "This comparison needs a teacher, and {} has none here.",
                model.name
            ));
        }
        if plan.validate(model.scales()).is_err() {
            return Err(format!(
                "A plan of this comparison ({}) does not fit the {} scales of {}; the link may be \
                 cut off or changed.",
                words::custom_plan(plan, &model.patch_nums),
                model.scales(),
                model.name
            ));
        }
    }
    let settings = Settings {
        chosen: true,
        compared: comparison.plans.clone(),
        class,
        ..(*controls.settings).clone().for_model(model)
    };
    let settings = settings.with_seed(comparison.seed.to_string());
    // As the page itself would write it, so that it is told from others by its parts.
    let plans = comparison.plans;
    let of = Comparison::new(&model.name, comparison.class, &class_name, comparison.seed, plans);
    Ok((settings, (of, class_name)))
}

/// Of a link whose name of the class is not that of its number, which counts.
fn other_class(address: &str, Drawn { of, class_name, .. }: &Drawn) -> Option<String> {
    let named = address.parse::<Comparison>().ok()?.class_name;
    (!named.is_empty() && named != of.class_name).then(|| {
        format!("The link says “{named}”, but class {} of {} is {class_name}.", of.class, of.model)
    })
}

/// Plans to choose from, with their names: the presets, what an address brought, the one in the
/// editor, and those of one's own that were `drawn` lately.
fn offered(model: &ModelInfo, settings: &Settings, drawn: &[Plan]) -> Vec<(String, Plan)> {
    let mut offered: Vec<(String, Plan)> =
        model.plans.iter().map(|preset| (preset.name.clone(), preset.plan.clone())).collect();
    let custom = Settings { plan: PlanChoice::Custom, ..settings.clone() }.plan(model).ok();
    let is_built = settings.plan == PlanChoice::Custom || settings.custom != CustomPlan::default();
    let own = custom.filter(|_| is_built);
    for plan in settings.compared.iter().chain(&own).chain(drawn) {
        let can_run = model.has_teacher || !plan.needs_teacher();
        if can_run && offered.iter().all(|(_, other)| other != plan) {
            let mut name = words::custom_plan(plan, &model.patch_nums);
            if offered.iter().any(|(other, _)| *other == name) {
                name = format!("{name}, {}", words::plan_details(plan));
            }
            offered.push((name, plan.clone()));
        }
    }
    offered
}

/// The plans that are ticked: those of the last time, else the one on the stage and another.
fn chosen(settings: &Settings, model: Option<&ModelInfo>, offered: &[(String, Plan)]) -> Vec<Plan> {
    let is_offered = |plan: &Plan| offered.iter().any(|(_, other)| other == plan);
    let mut chosen: Vec<Plan> =
        settings.compared.iter().filter(|plan| is_offered(plan)).cloned().collect();
    if settings.compared.is_empty() {
        chosen.extend(model.and_then(|model| settings.plan(model).ok()).filter(is_offered));
        for (_, plan) in offered {
            if chosen.len() < *COMPARED_PLANS.start() && !chosen.contains(plan) {
                chosen.push(plan.clone());
            }
        }
    }
    // In the order of the list, whatever the order of the clicks.
    let place = |plan: &Plan| offered.iter().position(|(_, other)| other == plan);
    chosen.sort_by_key(place);
    chosen
}

/// Why nothing can be drawn now.
fn reason(controls: &Controls, is_usable: bool, chosen: usize, running: bool) -> Option<String> {
    let (fewest, most) = (COMPARED_PLANS.start(), COMPARED_PLANS.end());
    if running {
        Some("It is being drawn.".into())
    } else if !is_usable {
        Some("There is no connection to the server.".into())
    } else if chosen < *fewest || chosen > *most {
        Some(format!("Tick {fewest} to {most} plans."))
    } else {
        controls.settings.seed().err().map(|problem| problem.message)
    }
}

/// What is going on, in words.
fn progress(comparing: &Comparing, is_held_up: bool) -> String {
    match comparing.running() {
        Some((run, _)) => {
            let name = &comparing.columns[run.column].name;
            match run.purpose {
                Purpose::WarmUp => format!("warming up {name}, which is not counted"),
                Purpose::Show => format!("drawing {name}"),
                Purpose::Repeat => {
                    let number = comparing.columns[run.column].runs() + 1;
                    let of = number.next_multiple_of(comparison::RUNS);
                    format!("measuring {name}, run {number} of {of}")
                }
            }
        }
        None if is_held_up && !comparing.is_over() => {
            "the server takes no more from here for a moment; then it goes on".into()
        }
        None => match comparing.most_runs() {
            0 => "nothing was drawn".into(),
            1 => "each drawn once, after a warm-up".into(),
            runs => format!("median of {runs} runs, after a warm-up"),
        },
    }
}

/// Boxes to tick.
fn plans(
    controls: &Controls,
    model: &ModelInfo,
    offered: &[(String, Plan)],
    chosen: &[Plan],
) -> Html {
    let is_full = chosen.len() >= *COMPARED_PLANS.end();
    html! {
        <fieldset class="field plans">
            <legend>
                { format!("Plans, {} to {}", COMPARED_PLANS.start(), COMPARED_PLANS.end()) }
            </legend>
            { help(Term::Plan) }
            { for offered.iter().enumerate().map(|(index, (name, plan))| {
                let checked = chosen.contains(plan);
                let preset = model.plans.get(index);
                let testid = match preset {
                    Some(_) => format!("compare-plan-{index}"),
                    None => format!("compare-custom-{}", index - model.plans.len()),
                };
                let onchange = {
                    let (plan, chosen) = (plan.clone(), chosen.to_vec());
                    controls.set(move |settings, _: Event| {
                        let mut compared = chosen.clone();
                        match compared.iter().position(|other| *other == plan) {
                            Some(at) => drop(compared.remove(at)),
                            None => compared.push(plan.clone()),
                        }
                        Settings { compared, ..settings }
                    })
                };
                html! {
                    <label key={testid.clone()} class="plan">
                        <input
                            type="checkbox"
                            data-testid={testid}
                            {checked}
                            disabled={is_full && !checked}
                            {onchange}
                        />
                        <span class="plan-name">{ name }</span>
                        <span class="plan-detail">
                            <span>{ words::cost(plan, model.scales()) }</span>
                            if let Some(fid) = preset.and_then(|preset| preset.fid) {
                                <span>{ format!("FID {fid}") }</span>
                            }
                        </span>
                    </label>
                }
            }) }
            <p class="hint"><Link<Route> to={Route::Playground}>{ "Build another plan" }</Link<Route>>{ " in the playground; it is listed here then." }</p>
        </fieldset>
    }
}
