//! The playground: controls at the side, the stage in the middle, the strip beneath.

use var_dd_protocol::JobId;
use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    components::{Actions, CountPicker, OrderSwitch, Pickers, PlanPicker, Recent, Status, Viewer},
    hooks::{
        Controls, Key, current_job, forget_current_job, keep_current_job, random_below,
        use_backend, use_controls, use_keys, use_result, use_title,
    },
    state::{
        settings::{PICKED_SEEDS, PlanChoice, Settings, SettingsQuery},
        store::{Answer, Connection},
    },
};

/// What is on the stage.
#[derive(Clone, Debug, PartialEq)]
enum Current {
    /// What the person asked for, by the tag of the request.
    Asked(u32),
    /// A job from before the page was loaded.
    Resumed(JobId),
    /// Whatever the server has to show.
    Example,
}

/// Generate and watch.
#[component]
pub(crate) fn Playground() -> Html {
    let backend = use_backend();
    let store = &backend.store;
    let location = use_location();
    let query = use_memo(location, |location| {
        location
            .as_ref()
            .and_then(|location| location.query::<SettingsQuery>().ok())
            .unwrap_or_default()
    });
    let controls = use_controls();
    let Controls { settings, models, model } = &controls;
    let current = use_state_eq(|| current_job().map_or(Current::Example, Current::Resumed));
    let forward = use_state_eq(|| None::<usize>);

    // The job on the stage.
    let answer = match *current {
        Current::Asked(tag) => store.answer(tag).cloned(),
        _ => None,
    };
    let example = store.info.as_ref().and_then(|info| info.example.clone());
    let from_before = match &*current {
        Current::Asked(_) => None,
        Current::Resumed(job) if store.missing(job).is_none() => Some(job.clone()),
        Current::Resumed(_) | Current::Example => example,
    };
    use_result(from_before.clone());
    let id = match &answer {
        Some(Answer::Accepted(job)) => Some(job.clone()),
        _ => from_before,
    };
    let job = id.as_ref().and_then(|id| store.job(id)).cloned();
    let is_example = matches!(*current, Current::Example);
    let status =
        job.as_ref().map_or_else(|| Status::of_answer(answer.as_ref()), |job| Status::of_job(job));
    use_title(job.as_ref().map_or_else(|| "Generate".into(), |job| job.about.class_name.clone()));
    {
        let accepted = match &answer {
            Some(Answer::Accepted(job)) => Some(job.clone()),
            _ => None,
        };
        use_effect_with(accepted, |job| {
            if let Some(job) = job {
                keep_current_job(job);
            }
        });
    }

    // Settings: from the address, or those of the job that was here before a reload.
    {
        let settings = settings.clone();
        let before = match (&*current, &job) {
            (Current::Resumed(_), Some(job)) => Some(SettingsQuery::of(&job.about.request)),
            _ => None,
        };
        let wanted = if query.is_empty() { before } else { Some((*query).clone()) };
        let known = !models.is_empty();
        let (models, current) = (models.clone(), current.clone());
        let from_address = !query.is_empty();
        use_effect_with((known, wanted), move |(known, wanted)| {
            if !known {
                return;
            }
            let wanted = wanted.clone().unwrap_or_default();
            settings.set(wanted.apply((*settings).clone(), &models));
            if from_address {
                forget_current_job();
                current.set(Current::Example);
            }
        });
    }
    let request = model.as_ref().map(|model| settings.request(model));
    let problem = request.as_ref().and_then(|request| request.as_ref().err()).cloned();
    let can_ask = store.connection == Connection::Open
        && matches!(request, Some(Ok(_)))
        && answer != Some(Answer::Waiting);

    let generate = {
        let (backend, settings, current, forward) =
            (backend.clone(), settings.clone(), current.clone(), forward.clone());
        let model = model.clone();
        Callback::from(move |()| {
            let Some(model) = model.as_ref().filter(|_| can_ask) else { return };
            let ready = (*settings).clone().ready(random_below(PICKED_SEEDS));
            if let Ok(request) = ready.request(model) {
                current.set(Current::Asked(backend.generate(request)));
                forward.set(None);
            }
            settings.set(ready.used());
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
        let forward = forward.clone();
        move |picture| forward.set(picture)
    });
    let side = match model {
        Some(model) => html! {
            <>
                <Pickers controls={controls.clone()} problem={problem.clone()} lockable=true>
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
                    />
                    <OrderSwitch
                        last_frame_first={settings.last_frame_first}
                        on_choose={controls.set(|settings, last_frame_first| Settings { last_frame_first, ..settings })}
                    />
                </Pickers>
                <CountPicker
                    most={store.info.as_ref().map_or(1, |info| info.max_pictures)}
                    chosen={settings.count}
                    on_choose={controls.set(|settings, count| Settings { count, ..settings })}
                />
                <p class="hint about-model">{ format!(
                    "{} · {}×{} · {} scales · {:.1} M parameters · {} on {}",
                    model.name, model.image_size, model.image_size, model.scales(),
                    model.parameters as f64 / 1e6, model.dtype, model.device
                ) }</p>
            </>
        },
        None => html! { <p class="hint">{ "Waiting for the server" }</p> },
    };
    html! {
        <main class="playground">
            <h1 class="unseen">{ "VAR-DD playground" }</h1>
            <Viewer
                job={job.clone()}
                {status}
                plays_by_itself={is_example}
                forward={*forward}
                {on_forward}
                note={if is_example && job.is_some() { "an example to begin with" } else { "" }}
            >
                if let Some(job) = &job {
                    <Actions job={job.clone()} forward={*forward} />
                }
            </Viewer>
            <aside class="rail" aria-label="Controls">
                { side }
                <div class="generate-bar">
                    <button
                        type="button"
                        class="generate"
                        data-testid="generate"
                        disabled={!can_ask}
                        onclick={generate.reform(|_: MouseEvent| ())}
                    >{ "Generate" }</button>
                </div>
            </aside>
            <Recent />
        </main>
    }
}
