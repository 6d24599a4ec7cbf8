//! A shared result: the same stage and strip, with a caption.

use var_dd_protocol::{ErrorCode, JobId};
use yew::prelude::*;
use yew_router::prelude::*;

use super::Missing;
use crate::{
    components::{Actions, Status, Viewer},
    hooks::{use_backend, use_result, use_title},
    route::Route,
    state::{job::Job, settings::SettingsQuery, words},
};

/// Properties of [`ResultPage`].
#[derive(PartialEq, Properties)]
pub(crate) struct ResultPageProps {
    /// Name of the result, as in the address.
    pub(crate) id: AttrValue,
}

/// The page of a result.
#[component]
pub(crate) fn ResultPage(props: &ResultPageProps) -> Html {
    let backend = use_backend();
    let store = &backend.store;
    let navigator = use_navigator();
    let id: Option<JobId> = props.id.parse().ok();
    use_result(id.clone());
    let forward = use_state_eq(|| None::<usize>);
    let job = id.as_ref().and_then(|id| store.job(id)).cloned();
    use_title(job.as_ref().map_or_else(|| "A result".into(), |job| job.about.class_name.clone()));
    let missing = match &id {
        None => Some((
            "This link has no picture",
            "The address is not one of a result; it may be cut off.".to_owned(),
        )),
        Some(id) => store.missing(id).map(|error| match error.code {
            ErrorCode::NotFound => (
                "This link has no picture (any more)",
                "It may have been deleted, or made room for newer ones.".to_owned(),
            ),
            _ => ("This link cannot be shown now", words::refusal(error)),
        }),
    };
    if let Some((words, advice)) = missing {
        return html! { <Missing {words} {advice} /> };
    }
    let on_forward = {
        let forward = forward.clone();
        Callback::from(move |picture| forward.set(picture))
    };
    let status = job.as_ref().map_or_else(|| Status::of_answer(None), |job| Status::of_job(job));
    // Who asked for the finished picture first is not to see it give way to coarse ones.
    let plays_by_itself = job.as_ref().is_none_or(|job| !job.about.request.last_frame_first);
    html! {
        <main class="result">
            <Viewer job={job.clone()} {status} {plays_by_itself} forward={*forward} {on_forward} />
            <aside class="rail" aria-label="About this picture">
                if let Some(job) = &job {
                    { caption(job) }
                    <p class="onward">
                        <a
                            class="button generate"
                            data-testid="make-your-own"
                            href="/"
                            onclick={onward(navigator, job)}
                        >{ "Make your own from here" }</a>
                    </p>
                    <Actions job={job.clone()} forward={*forward} />
                } else {
                    <h1 class="unseen">{ "A result" }</h1>
                    <p class="hint">{ "Fetching it" }</p>
                }
            </aside>
        </main>
    }
}

/// Opens the playground with the settings of a job.
fn onward(navigator: Option<Navigator>, job: &Job) -> Callback<MouseEvent> {
    let query = SettingsQuery::of(&job.about.request);
    Callback::from(move |event: MouseEvent| {
        if let Some(navigator) = &navigator
            && navigator.push_with_query(&Route::Playground, &query).is_ok()
        {
            event.prevent_default();
        }
    })
}

fn caption(job: &Job) -> Html {
    let about = &job.about;
    let request = &about.request;
    let date = about.created_ms.map(|ms| {
        let date = js_sys::Date::new(&(ms as f64).into());
        String::from(date.to_locale_string("default", &js_sys::Object::new()))
    });
    let lines = [
        ("steps", Some(words::plan(about))),
        ("cost", Some(words::cost(&request.plan, job.scales()))),
        ("order", request.last_frame_first.then(|| "finished picture first".to_owned())),
        ("seed", request.seed.map(|seed| seed.to_string())),
        ("pictures", (request.count > 1).then(|| request.count.to_string())),
        ("model", request.model.clone()),
        ("drawn", date),
    ];
    html! {
        <div class="caption">
            <h1>{ &about.class_name }</h1>
            <dl>
                { for lines.into_iter().filter_map(|(name, value)| value.map(|value| html! {
                    <div key={name}><dt>{ name }</dt><dd>{ value }</dd></div>
                })) }
            </dl>
        </div>
    }
}
