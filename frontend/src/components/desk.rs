//! The desk under a finished picture: a fader for each scale, another picture for the fine ones,
//! and a new drawing from any scale on.

use std::rc::Rc;

use var_dd_protocol::{GenerateRequest, JobId, JobState};
use web_sys::{HtmlInputElement, HtmlSelectElement};
use yew::prelude::*;
use yew_router::prelude::*;

use super::{Difference, tools::FoldedProps};
use crate::{
    hooks::{Current, random_below, use_backend, use_current, use_preview},
    route::Route,
    state::{
        desk::{Desk as Faders, reroll},
        job::Job,
        settings::PICKED_SEEDS,
        store::Store,
        words::{self, size},
    },
};

/// The desk.
#[component]
pub(super) fn Desk(props: &FoldedProps) -> Html {
    let picture = props.picture;
    let job = props.finished();
    let backend = use_backend();
    let (current, navigator) = (use_current(), use_navigator());
    let told = use_state_eq(|| None::<String>);
    // Each picture has a desk of its own, which is at rest when the picture comes.
    let whose = job.map(|job| (job.id().clone(), picture));
    let kept = use_state_eq(|| (None, Faders::new(0)));
    let scales = job.map_or(0, |job| job.about.patch_nums.len());
    let desk = if kept.0 == whose { kept.1.clone() } else { Faders::new(scales) };
    let request = |desk: &Faders| Some(desk.request(job?.id(), &job?.about.request, picture));
    let (untouched, wanted) = (request(&Faders::new(scales)), request(&desk));
    let before = use_preview(untouched.clone());
    let played = use_preview(wanted.clone().filter(|_| !desk.is_at_rest()));
    // Pictures of the desk before are not shown on this one, and at rest there is but one.
    let refused = played.error.filter(|_| !desk.is_at_rest()).or(before.error);
    let before = before.picture.filter(|_| before.of == untouched);
    let now = played.picture.filter(|_| played.of.is_some()).or(before.clone());
    // What a button asks for comes onto the stage of the playground.
    let draw = {
        let (backend, current) = (backend.clone(), current.clone());
        Callback::from(move |request: GenerateRequest| {
            current.set(Current::Asked(backend.generate(request)));
            if let Some(navigator) = &navigator {
                navigator.push(&Route::Playground);
            }
        })
    };
    let edit = {
        let (navigator, result) = (use_navigator(), job.map(|job| job.id().to_string()));
        Callback::from(move |_: MouseEvent| {
            if let Some((navigator, result)) = navigator.as_ref().zip(result.as_ref()) {
                let query = [("of", result.clone()), ("picture", picture.to_string())];
                // Names and numbers always make a query.
                let _ = navigator.push_with_query(&Route::Picture, query);
            }
        })
    };
    let change = {
        let (kept, whose) = (kept.setter(), whose.clone());
        Callback::from(move |changed: Faders| kept.set((whose.clone(), changed)))
    };
    let Some((job, wanted)) = job.zip(wanted) else { return Html::default() };
    let sides = &job.about.patch_nums;
    let rows = sides.iter().enumerate().map(|(at, &side)| {
        let reroll = reroll_button(job, picture, at, side, &draw);
        draw_row(at, side, &desk, &change, reroll)
    });
    let model = job.about.request.model.as_deref();
    let others = others(&backend.store, model, Some(job.id()));
    let on_told = {
        let told = told.setter();
        Callback::from(move |words: String| told.set(Some(words)))
    };
    let keep = draw.reform(move |_: MouseEvent| wanted.clone());
    let reset = change.reform(move |_: MouseEvent| Faders::new(scales));
    let words = match &refused {
        Some(error) => words::refusal(error),
        None => (*told).clone().unwrap_or_default(),
    };
    html! {
        <div class="desk-open">
            <p class="hint">
                { "A fader says how much its scale adds to the picture. “New from” keeps the \
                    scales before, and the student draws the others anew. M mutes a scale; S \
                    shows it alone." }
            </p>
            <div class="desk-pictures">
                <figure>
                    <div class="desk-square">
                        if let Some(picture) = &now {
                            <img
                                src={picture.url().to_owned()}
                                alt="The picture by these faders"
                                data-testid="desk-picture"
                            />
                        }
                    </div>
                    <figcaption>{ "by these faders" }</figcaption>
                </figure>
                if let (Some(before), Some(now)) = (&before, &now) {
                    <Difference
                        of={before.url().to_owned()}
                        to={now.url().to_owned()}
                        caption="what changed, four times as bright"
                        {on_told}
                    />
                }
            </div>
            <p class="desk-told" role="status" data-testid="desk-told">{ words }</p>
            <ul class="faders">{ for rows }</ul>
            { draw_crossover(&desk, &others, sides, &change) }
            <div class="actions">
                <button
                    type="button"
                    data-testid="desk-keep"
                    disabled={desk.is_at_rest()}
                    onclick={keep}
                >{ "Keep this picture" }</button>
                <button
                    type="button"
                    data-testid="desk-reset"
                    disabled={desk.is_at_rest()}
                    onclick={reset}
                >{ "Reset" }</button>
                <button type="button" data-testid="desk-edit" onclick={edit}>
                    { "Draw a part anew" }
                </button>
            </div>
        </div>
    }
}

fn reroll_button(
    job: &Rc<Job>,
    picture: usize,
    at: usize,
    side: u32,
    draw: &Callback<GenerateRequest>,
) -> Html {
    let onclick = {
        let job = job.clone();
        draw.reform(move |_: MouseEvent| {
            let seed = random_below(PICKED_SEEDS);
            reroll(job.id(), &job.about.request, picture, at as u32, seed)
        })
    };
    html! {
        <button type="button" class="reroll" data-testid={format!("reroll-{at}")} {onclick}>
            { format!("New from {} on", size(side)) }
        </button>
    }
}

fn draw_row(at: usize, side: u32, desk: &Faders, change: &Callback<Faders>, reroll: Html) -> Html {
    let name = size(side);
    let oninput = {
        let desk = desk.clone();
        change.reform(move |event: InputEvent| {
            let slider: HtmlInputElement = event.target_unchecked_into();
            desk.with_gain(at, slider.value_as_number())
        })
    };
    let press = |changed: Faders| change.reform(move |_: MouseEvent| changed.clone());
    let (muted, solo) = (desk.is_muted(at), desk.is_solo(at));
    let gain = desk.gain(at);
    html! {
        <li key={at} class={classes!((desk.heard()[at] == 0.0).then_some("silent"))}>
            <span class="fader-name">{ &name }</span>
            <input
                type="range"
                min="0"
                max="2"
                step="0.05"
                value={gain.to_string()}
                aria-label={format!("What {name} adds")}
                aria-valuetext={format!("{gain:.2} times")}
                data-testid={format!("gain-{at}")}
                {oninput}
            />
            <span class="fader-gain" aria-hidden="true">{ format!("{gain:.2}") }</span>
            <button
                type="button"
                class={classes!("quiet", muted.then_some("on"))}
                aria-pressed={muted.to_string()}
                aria-label={format!("Mute {name}")}
                title="Mute"
                data-testid={format!("mute-{at}")}
                onclick={press(desk.with_other_mute(at))}
            >{ "M" }</button>
            <button
                type="button"
                class={classes!("quiet", solo.then_some("on"))}
                aria-pressed={solo.to_string()}
                aria-label={format!("{name} alone")}
                title="Alone"
                data-testid={format!("solo-{at}")}
                onclick={press(desk.with_other_solo(at))}
            >{ "S" }</button>
            { reroll }
        </li>
    }
}

/// Finished results of a model besides one of them, with their names: one's own before the others.
pub(crate) fn others(
    store: &Store,
    model: Option<&str>,
    besides: Option<&JobId>,
) -> Vec<(JobId, String)> {
    let named = |class: &str, plan: &str, request: &GenerateRequest| {
        let seed = request.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
        format!("{class}, {plan}{seed}")
    };
    let mine = store.mine.iter();
    let mine =
        mine.map(|own| (&own.id, own.state, &own.class_name, own.plan.clone(), &own.request));
    let all = store.recent.iter().map(|of| {
        let plan = of.plan_name.clone();
        let plan = plan.unwrap_or_else(|| words::custom_plan(&of.request.plan, &of.patch_nums));
        (&of.id, of.state, &of.class_name, plan, &of.request)
    });
    let mut found: Vec<(JobId, String)> = Vec::new();
    for (id, state, class, plan, request) in mine.chain(all) {
        let fits = state == JobState::Finished
            && request.model.as_deref() == model
            && Some(id) != besides
            && !store.is_deleted(id);
        if fits && found.iter().all(|(known, _)| known != id) {
            found.push((id.clone(), named(class, &plan, request)));
        }
    }
    found
}

fn draw_crossover(
    desk: &Faders,
    others: &[(JobId, String)],
    sides: &[u32],
    change: &Callback<Faders>,
) -> Html {
    let chosen = desk.other().cloned();
    let cut = chosen.as_ref().map_or(sides.len() as u32 / 2, |(_, cut)| *cut);
    let on_other = {
        let desk = desk.clone();
        change.reform(move |other: Option<JobId>| desk.with_picture(other.map(|id| (id, cut))))
    };
    let on_cut = {
        let (desk, other) = (desk.clone(), chosen.clone());
        change.reform(move |cut: u32| {
            desk.with_picture(other.as_ref().map(|(other, _)| (other.clone(), cut)))
        })
    };
    crossing(others, chosen.as_ref().map(|(other, _)| other), cut, sides, &on_other, &on_cut)
}

/// The choice of a picture to cross with, and of the first scale that is its.
pub(crate) fn crossing(
    others: &[(JobId, String)],
    chosen: Option<&JobId>,
    cut: u32,
    sides: &[u32],
    on_other: &Callback<Option<JobId>>,
    on_cut: &Callback<u32>,
) -> Html {
    let onchange = {
        let others = others.to_vec();
        on_other.reform(move |event: Event| {
            let value = event.target_unchecked_into::<HtmlSelectElement>().value();
            others.iter().find(|(id, _)| id.as_str() == value).map(|(id, _)| id.clone())
        })
    };
    let oninput = on_cut.reform(move |event: InputEvent| {
        event.target_unchecked_into::<HtmlInputElement>().value().parse().unwrap_or(cut)
    });
    let words = match sides.get(cut as usize) {
        Some(_) if cut == 0 => "all scales of the other".to_owned(),
        Some(&side) => format!("from {} on of the other", size(side)),
        None => "no scale of the other".to_owned(),
    };
    html! {
        <div class="crossover">
            <label class="line">
                <span>{ "Cross with" }</span>
                <select data-testid="cross-with" disabled={others.is_empty()} {onchange}>
                    <option value="" selected={chosen.is_none()}>
                        { if others.is_empty() { "no other result yet" } else { "nothing" } }
                    </option>
                    { for others.iter().map(|(id, name)| html! {
                        <option
                            key={id.to_string()}
                            value={id.to_string()}
                            selected={chosen == Some(id)}
                        >{ name }</option>
                    }) }
                </select>
            </label>
            if chosen.is_some() {
                <label class="split">
                    <span>{ "Crossed: " }<strong>{ words.clone() }</strong></span>
                    <input
                        type="range"
                        min="0"
                        max={sides.len().to_string()}
                        step="1"
                        value={cut.to_string()}
                        aria-valuetext={words}
                        data-testid="cut"
                        {oninput}
                    />
                </label>
            }
        </div>
    }
}
