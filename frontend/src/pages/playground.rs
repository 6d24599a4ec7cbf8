//! The playground: controls at the side, the stage in the middle, the strip beneath.

use gloo_timers::callback::Timeout;
use var_dd_protocol::{ErrorCode, JobId};
use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    components::{
        PlanPicker, Recent, Status, Viewer, close_button, count_picker, explain, explain_as,
        order_switch, pickers, use_opened,
    },
    hooks::{
        Controls, Current, Key, LinkNote, bring_to_top, preference, preference_names::LEARNED,
        random_below, use_backend, use_controls, use_current, use_keys, use_link_note, use_result,
        use_settings_of_example, use_title,
    },
    route::Route,
    state::{
        glossary::Term,
        settings::{PICKED_SEEDS, PlanChoice, Settings},
        store::{Answer, Connection},
        words,
    },
};

/// Generate and watch.
#[component]
pub(crate) fn Playground() -> Html {
    let backend = use_backend();
    let store = &backend.store;
    let controls = use_controls();
    let Controls { settings, model, .. } = &controls;
    let current = use_current();
    let brought_forward = use_state_eq(|| None::<(JobId, usize)>);

    // The job on the stage.
    let answer = match *current {
        Current::Asked(tag) => store.answer(tag).cloned(),
        _ => None,
    };
    let example = store.info.as_ref().and_then(|info| info.example.clone());
    // What was deleted gives way to what was there in the beginning.
    // One that cannot be had just now is asked for again.
    let is_missing =
        |job: &JobId| store.missing(job).is_some_and(|error| error.code == ErrorCode::NotFound);
    let is_gone = |job: &JobId| store.is_deleted(job) || is_missing(job);
    let accepted = match &answer {
        Some(Answer::Accepted(job)) => Some(job.clone()),
        _ => None,
    };
    let from_before = match (&*current, &accepted) {
        (Current::Asked(_), Some(job)) if is_gone(job) => example.clone(),
        (Current::Asked(_), _) => None,
        (Current::Resumed(job), _) if !is_gone(job) && !store.ended_empty(job) => Some(job.clone()),
        (Current::Resumed(_) | Current::Example, _) => example.clone(),
    };
    // One of which others have taken the place meanwhile is fetched again.
    let forgotten = accepted.clone().filter(|job| !is_gone(job) && store.job(job).is_none());
    use_result(from_before.clone().or(forgotten));
    // Until another job is accepted, the last one stays as it is.
    let is_open = matches!(answer, Some(Answer::Waiting | Answer::Refused(_)));
    let last = use_mut_ref(|| None::<JobId>);
    let stays = last.borrow().clone().filter(|job| is_open && !is_gone(job));
    let id = accepted.filter(|job| !is_gone(job)).or(from_before).or(stays);
    last.replace(id.clone());
    let job = id.as_ref().and_then(|id| store.job(id)).cloned();
    // A picture that was brought forward is one of its own job and of no other.
    let pictures = job.as_ref().map_or(0, |job| job.frames.len());
    let forward = (*brought_forward).clone().filter(|(of, _)| id.as_ref() == Some(of));
    let forward = forward.map(|(_, picture)| picture).filter(|&at| pictures > 1 && at < pictures);
    use_end_of_refusal(answer.as_ref(), &current, id.clone());
    let is_example = matches!(*current, Current::Example);
    let opened = use_opened(&controls, &current);
    // A file that was opened is on the stage in its place.
    let on_stage = job.as_ref().filter(|_| opened.on_stage.is_none());
    let status = match on_stage.filter(|_| !is_open) {
        Some(job) => Status::of_job(job),
        None => {
            let of_stage = |answer: &&Answer| {
                opened.on_stage.is_none()
                    && !matches!(answer, Answer::Accepted(job) if is_gone(job))
            };
            Status::of_answer(answer.as_ref().filter(of_stage))
        }
    };
    use_title(job.as_ref().map_or_else(|| "Generate".into(), |job| job.about.class_name.clone()));
    use_settings_of_example(&controls, job.as_ref().filter(|_| is_example));
    let request = model.as_ref().map(|model| settings.request(model));
    let problem = request.as_ref().and_then(|request| request.as_ref().err()).cloned();
    let is_asking = answer == Some(Answer::Waiting);
    let can_ask = store.connection.is_usable() && matches!(request, Some(Ok(_))) && !is_asking;

    let link_note = use_link_note();
    let generate = {
        let (backend, settings, current, brought_forward) =
            (backend.clone(), settings.clone(), current.clone(), brought_forward.setter());
        let (model, link_note) = (model.clone(), link_note.clone());
        Callback::from(move |()| {
            let Some(model) = model.as_ref().filter(|_| can_ask) else { return };
            link_note.set((*link_note).clone().and_then(LinkNote::after_drawing));
            let ready = (*settings).clone().ready(random_below(PICKED_SEEDS));
            if let Ok(request) = ready.request(model) {
                current.set(Current::Asked(backend.generate(request)));
                brought_forward.set(None);
            }
            settings.set(Settings { chosen: true, ..ready.used() });
        })
    };
    {
        let generate = generate.clone();
        use_keys(Callback::from(move |key| {
            let wanted = key == Key::Generate;
            if wanted {
                generate.emit(());
            }
            wanted
        }));
    }

    let on_forward = Callback::from({
        let (brought_forward, id) = (brought_forward.setter(), id.clone());
        move |picture| brought_forward.set(id.clone().zip(picture))
    });
    let has_learned = use_state_eq(|| preference(LEARNED).is_some());
    let close_note = {
        let link_note = link_note.setter();
        Callback::from(move |_: MouseEvent| link_note.set(None))
    };
    let reason = match &problem {
        _ if store.connection == Connection::Connecting => "Connecting…".into(),
        _ if !store.connection.is_usable() => "No connection to the server".into(),
        _ if model.is_none() => "Waiting for the server".into(),
        Some(problem) => format!("{}: {}", problem.field.name(), problem.message),
        None => "Asking the server…".into(),
    };
    let to_draw = model.as_ref().and_then(|model| words::to_draw(settings, model));
    let side = match model {
        Some(model) => {
            let plan = html! {
                <>
                    <PlanPicker
                        model={model.clone()}
                        chosen={settings.plan}
                        custom={settings.custom.clone()}
                        count={settings.count}
                        last_frame_first={settings.last_frame_first}
                        problem={problem.clone()}
                        on_choose={{
                            let model = model.clone();
                            controls.set(move |settings, plan| match plan {
                                PlanChoice::Custom => settings.customised(&model),
                                plan => Settings { plan, ..settings },
                            })
                        }}
                        on_edit={controls.set(|settings, custom| Settings { custom, ..settings })}
                        on_start_from={{
                            let model = model.clone();
                            controls.set(move |settings, preset| settings.started_from(preset, &model))
                        }}
                    />
                    { order_switch(
                        settings.last_frame_first,
                        &controls.set(|settings, last_frame_first| Settings { last_frame_first, ..settings }),
                    ) }
                </>
            };
            html! {
            <>
                { pickers(&controls, problem.as_ref(), Some(words::of_seed(settings))) }
                { plan }
                { count_picker(
                    store.info.as_ref().map_or(1, |info| info.max_pictures),
                    settings.count,
                    &controls.set(|settings, count| Settings { count, ..settings }),
                ) }
                <p class="hint about-model">{ format!(
                    "{} · {}×{} · {} scales · {:.1} M parameters · {} on {}",
                    model.name, model.image_size, model.image_size, model.scales(),
                    model.parameters as f64 / 1e6, model.dtype, model.device
                ) }
                    <br />
                    { "Whoever uses this server sees what you draw, until you delete it." }
                </p>
                { opened.button }
            </>
            }
        }
        None => {
            html! { <div key="waiting" class="waiting"><p class="hint">{ "Waiting for the server" }</p></div> }
        }
    };
    html! {
        <main
            class={classes!(
                "playground",
                (!is_example).then_some("followed"),
                opened.is_dragged.then_some("dragged"),
            )}
            id="main"
            tabindex="-1"
        >
            <div class="lead">
                <h1>{ "Watch a picture come into focus" }</h1>
                <p>
                    { "The " }{ explain(Term::Student) }
                    { ", a fast network, draws it at ever finer " }
                    { explain_as(Term::Scale, "scales") }{ ", all in one or two " }
                    <span class="together">{ explain_as(Term::Pass, "passes") }{ "." }</span>
                    if !*has_learned {
                        { " " }
                        <Link<Route> to={Route::Learn} classes="learn-offer">
                            { "New here? How it works" }
                        </Link<Route>>
                    }
                </p>
                <div class="link-notes" role="status">
                    if let Some(note) = &*link_note {
                        <p class="link-note" data-testid="link-note">
                            <span>{ &note.words }</span>
                            if let Some(before) = &note.before {
                                <button
                                    type="button"
                                    data-testid="link-undo"
                                    onclick={undo_link(settings, &link_note, before)}
                                >{ "Back to mine" }</button>
                            }
                            { close_button(close_note) }
                        </p>
                    }
                </div>
            </div>
            <Viewer
                job={on_stage.cloned()}
                opened={opened.on_stage.clone()}
                {status}
                plays_by_itself={is_example}
                {forward}
                {on_forward}
                note={if on_stage.is_some() && id == example { "an example" } else { "" }}
            />
            <aside class="rail" aria-label="Controls">
                { opened.card }
                { side }
                <div class="generate-bar">
                    if can_ask {
                        <p class="reason to-draw">
                            <span id="to-draw" data-testid="to-draw">{ to_draw }</span>
                            <button
                                type="button"
                                class="quiet to-controls"
                                data-testid="to-controls"
                                aria-label="Change what is drawn"
                                onclick={Callback::from(|_: MouseEvent| show_controls())}
                            >{ "Change" }</button>
                        </p>
                    } else {
                        <p id="generate-reason" class="reason" data-testid="generate-reason">
                            { reason }
                        </p>
                    }
                    <button
                        type="button"
                        class="generate"
                        data-testid="generate"
                        // Disabled for the moment of the question, it would lose the focus.
                        disabled={!can_ask && !is_asking}
                        aria-disabled={is_asking.then_some("true")}
                        aria-describedby={if can_ask { "to-draw" } else { "generate-reason" }}
                        onclick={generate.reform(|_: MouseEvent| ())}
                    >{ "Generate" }</button>
                </div>
            </aside>
            <Recent />
        </main>
    }
}

/// Brings the controls into sight, which on a phone lie under the picture.
fn show_controls() {
    let document = web_sys::window().and_then(|window| window.document());
    let controls = document.and_then(|document| document.query_selector(".rail").ok().flatten());
    if let Some(controls) = controls {
        bring_to_top(&controls);
    }
}

/// Takes the settings of a link back.
fn undo_link(
    settings: &UseStateHandle<Settings>,
    note: &UseStateHandle<Option<LinkNote>>,
    before: &Settings,
) -> Callback<MouseEvent> {
    let (settings, note, before) = (settings.setter(), note.setter(), before.clone());
    Callback::from(move |_: MouseEvent| {
        settings.set(before.clone());
        note.set(None);
    })
}

/// Takes a refusal off the stage once the server would accept again.
#[hook]
fn use_end_of_refusal(
    answer: Option<&Answer>,
    current: &UseStateHandle<Current>,
    last: Option<JobId>,
) {
    let wait_s = match answer {
        Some(Answer::Refused(error)) => error.retry_after_s,
        _ => None,
    };
    let current = current.clone();
    use_effect_with((wait_s, (*current).clone()), move |_| {
        let end = wait_s.map(|seconds| {
            Timeout::new(seconds.saturating_mul(1000), move || {
                current.set(last.map_or(Current::Example, Current::Resumed));
            })
        });
        move || drop(end)
    });
}
