//! The picture on the stage beside any other: one laid over the other, and where they differ.

use var_dd_protocol::JobId;
use web_sys::HtmlSelectElement;
use yew::prelude::*;

use super::{Difference, Wipe, others, tools::FoldedProps};
use crate::{
    api,
    hooks::use_backend,
    state::{desk::ancestors, job::Job},
};

/// A picture that can be laid beside: its result, its index there, and its name.
type Other = (JobId, usize, String);

/// The picture on the stage over another one.
#[component]
pub(super) fn Swipe(props: &FoldedProps) -> Html {
    let backend = use_backend();
    // What was chosen, for this picture.
    let chosen = use_state_eq(|| None::<(JobId, usize, JobId, usize)>);
    let Some(job) = props.finished() else { return Html::default() };
    let choices = choices(
        job,
        props.picture,
        others(&backend.store, job.about.request.model.as_deref(), Some(job.id())),
    );
    let is_chosen = |(result, picture, _): &&Other| {
        chosen.as_ref().is_some_and(|(of, at, other, index)| {
            of == job.id() && *at == props.picture && other == result && index == picture
        })
    };
    let Some(other) = choices.iter().find(is_chosen).or(choices.first()) else {
        return html! {
            <p class="hint">{ "There is no other picture of this model yet: draw one more." }</p>
        };
    };
    let onchange = {
        let (chosen, choices) = (chosen.setter(), choices.clone());
        let (of, at) = (job.id().clone(), props.picture);
        Callback::from(move |event: Event| {
            let list: HtmlSelectElement = event.target_unchecked_into();
            let picked = choices.get(list.selected_index().max(0) as usize);
            let picked =
                picked.map(|(result, picture, _)| (of.clone(), at, result.clone(), *picture));
            chosen.set(picked);
        })
    };
    let url_of_other = api::picture_path(&other.0, other.1);
    let url = api::picture_path(job.id(), props.picture);
    let image = |url: &str, alternative: String, testid: &'static str| {
        html! {
            <img
                src={url.to_owned()}
                alt={alternative}
                draggable="false"
                data-testid={testid}
            />
        }
    };
    html! {
        <div class="desk-open">
            <label class="line">
                <span>{ "The other picture" }</span>
                <select data-testid="swipe-with" {onchange}>
                    { for choices.iter().map(|choice| html! {
                        <option
                            key={format!("{} {}", choice.0, choice.1)}
                            value={format!("{} {}", choice.0, choice.1)}
                            selected={choice == other}
                        >{ &choice.2 }</option>
                    }) }
                </select>
            </label>
            <div class="swipe-pair">
                <Wipe
                    left={image(&url_of_other, other.2.clone(), "swipe-left")}
                    right={image(&url, "The picture on the stage".to_owned(), "swipe-right")}
                    names={vec![other.2.clone(), "on the stage".to_owned()]}
                    pair={(0, 1)}
                />
                <Difference of={url_of_other.clone()} to={url.clone()} />
            </div>
        </div>
    }
}

/// All that a picture can be laid beside: what it goes on from, the others of its result, then
/// other results, the newest first.
fn choices(job: &Job, picture: usize, others: Vec<(JobId, String)>) -> Vec<Other> {
    let mut choices: Vec<Other> = Vec::new();
    let mut offer = |result: JobId, picture: usize, name: String| {
        if choices.iter().all(|(known, at, _)| (known, *at) != (&result, picture)) {
            choices.push((result, picture, name));
        }
    };
    let line = ancestors(&job.about.request);
    let name_of = |result: &JobId| others.iter().find(|(id, _)| id == result).map(|(_, name)| name);
    for of in &line {
        let name = name_of(&of.result).map_or(String::new(), |name| format!(": {name}"));
        offer(of.result.clone(), of.picture, format!("what it goes on from{name}"));
    }
    let count = job.about.request.count as usize;
    for index in (0..count).filter(|&index| index != picture) {
        offer(job.id().clone(), index, format!("picture {} of this result", index + 1));
    }
    for (result, name) in others {
        offer(result, 0, name);
    }
    choices
}
