//! A shared result: the same stage and strip, with a caption.

use std::rc::Rc;

use var_dd_protocol::{ErrorCode, JobId};
use yew::prelude::*;
use yew_router::prelude::*;

use super::Missing;
use crate::{
    components::{Status, Viewer, between},
    hooks::{Controls, Current, use_backend, use_controls, use_current, use_result, use_title},
    route::Route,
    state::{job::Job, words},
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
    let (controls, current) = (use_controls(), use_current());
    let id: Option<JobId> = props.id.parse().ok();
    use_result(id.clone());
    let chosen = use_location().map(|location| location.query::<Vec<(String, String)>>());
    let chosen = chosen.and_then(Result::ok).and_then(chosen_picture);
    // What a click brought forward counts more than what the link chose.
    let clicked = use_state_eq(|| None::<Option<usize>>);
    let job = id.as_ref().and_then(|id| store.job(id)).cloned();
    let pictures = job.as_ref().map_or(0, |job| job.frames.len());
    let forward = clicked.unwrap_or(chosen.filter(|&index| pictures > 1 && index < pictures));
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
    let is_deleted = id.as_ref().is_some_and(|id| store.is_deleted(id));
    use_title(match (&job, &missing) {
        _ if is_deleted => "Deleted".into(),
        (_, Some(_)) => "Nothing here".into(),
        (Some(job), None) => job.about.class_name.clone(),
        (None, None) => "A result".into(),
    });
    if let Some(id) = id.filter(|_| is_deleted) {
        let can_undo = store.deleting().any(|deleting| *deleting == id);
        let advice = match can_undo {
            true => "Its link will show nothing any more in a few seconds, to anyone.",
            false => "Its link shows nothing any more, to anyone.",
        };
        let keep = Callback::from(move |_: MouseEvent| backend.keep(&id));
        return html! {
            <Missing words="You deleted this result" {advice}>
                if can_undo {
                    <p>
                        <button type="button" data-testid="undo-here" onclick={keep}>
                            { "Undo" }
                        </button>
                    </p>
                }
            </Missing>
        };
    }
    if let Some((words, advice)) = missing {
        return html! { <Missing {words} {advice} /> };
    }
    let on_forward = Callback::from(move |picture| clicked.set(Some(picture)));
    let status = job.as_ref().map_or_else(|| Status::of_answer(None), |job| Status::of_job(job));
    // Who asked for the finished picture first is not to see it give way to coarse ones.
    let plays_by_itself = job.as_ref().is_none_or(|job| !job.about.request.last_frame_first);
    html! {
        <main class="result" id="main" tabindex="-1">
            <div class="lead">
                <p>
                    { "Drawn scale by scale, coarse to fine; the strip below has each. " }
                    <span data-testid="learn-offer">
                        <Link<Route> to={Route::Learn} classes="learn-offer">
                            { "New here? How it works" }
                        </Link<Route>>
                    </span>
                </p>
            </div>
            <Viewer job={job.clone()} {status} {plays_by_itself} {forward} {on_forward} />
            <aside class="rail" aria-label="About this picture">
                if let Some(job) = &job {
                    { caption(job) }
                    <p class="onward">
                        <button
                            type="button"
                            class="generate"
                            data-testid="make-your-own"
                            disabled={controls.models.is_empty()}
                            onclick={onward(navigator, controls, current, job.clone())}
                        >{ "Make your own from here" }</button>
                    </p>
                } else {
                    <h1 class="unseen">{ "A result" }</h1>
                    <p class="hint">{ "Fetching it" }</p>
                }
            </aside>
        </main>
    }
}

/// Opens the playground with a job on its stage and the settings that gave it.
fn onward(
    navigator: Option<Navigator>,
    controls: Controls,
    current: UseStateHandle<Current>,
    job: Rc<Job>,
) -> Callback<MouseEvent> {
    Callback::from(move |_: MouseEvent| {
        controls.take_over(&job);
        current.set(Current::Resumed(job.id().clone()));
        if let Some(navigator) = &navigator {
            navigator.push(&Route::Playground);
        }
    })
}

/// The index of the picture that a link chose; links count from 1.
fn chosen_picture(query: Vec<(String, String)>) -> Option<usize> {
    let number = query.into_iter().rfind(|(name, _)| name == "picture")?.1;
    number.parse::<usize>().ok()?.checked_sub(1)
}

fn caption(job: &Job) -> Html {
    let about = &job.about;
    let request = &about.request;
    // What goes on from a picture does not run its whole plan.
    let is_plain = request.explore.as_ref().is_none_or(|explore| explore.from.is_none());
    let date = about.created_ms.map(|ms| {
        let date = js_sys::Date::new(&(ms as f64).into());
        String::from(date.to_locale_string("default", &js_sys::Object::new()))
    });
    let plain = |text: String| html! { text };
    let lines = [
        ("steps", Some(plain(words::plan(about)))),
        ("cost", is_plain.then(|| plain(words::cost(&request.plan, job.scales())))),
        ("between", between(about)),
        ("order", request.last_frame_first.then(|| plain("finished picture first".to_owned()))),
        ("seed", request.seed.map(|seed| plain(seed.to_string()))),
        ("pictures", (request.count > 1).then(|| plain(request.count.to_string()))),
        ("model", request.model.clone().map(plain)),
        ("drawn", date.map(plain)),
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
