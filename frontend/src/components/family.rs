//! The family of a picture: what it goes on from or lies between, and how.

use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    api,
    route::Route,
    state::{
        desk::{Became, ancestors},
        job::{About, Job},
        pad::Pad,
        words::{self, size},
    },
};

/// The ancestors of a job's pictures as a strip, the nearest first; nothing if it has none.
pub(crate) fn family(job: &Job) -> Html {
    let line = ancestors(&job.about.request);
    if line.is_empty() {
        return Html::default();
    }
    html! {
        <section class="family" data-testid="family" aria-label="Family">
            <p class="hint">{ "It goes on from" }</p>
            <ul>
                { for line.into_iter().enumerate().map(|(at, of)| html! {
                    <li key={at} data-testid="ancestor" data-job={of.result.to_string()}>
                        <Link<Route> to={Route::Result { id: of.result.to_string() }}>
                            <img
                                src={api::picture_path(&of.result, of.picture)}
                                alt=""
                                width="48"
                                height="48"
                            />
                            <span>{ became(of.became, &job.about.patch_nums) }</span>
                        </Link<Route>>
                    </li>
                }) }
            </ul>
        </section>
    }
}

/// What a picture lies between, if it does: a way back to its place on the pad, if it has one.
pub(crate) fn between(about: &About) -> Option<Html> {
    let corners = words::corners(about)?;
    let pad = Pad::of_request(&about.request).zip(about.request.model.as_deref());
    Some(match pad {
        Some((pad, model)) => html! {
            <span data-testid="to-pad">
                <Link<Route, Vec<(String, String)>>
                    to={Route::Explore}
                    query={Some(pad.query(model))}
                >{ corners }</Link<Route, Vec<(String, String)>>>
            </span>
        },
        None => html! { corners },
    })
}

fn became(became: Became, sides: &[u32]) -> String {
    let at = |scale: u32| sides.get(scale as usize).copied().map(size);
    match became {
        Became::Shown => "the same, its scales weighed".into(),
        Became::Rerolled(scale) => match at(scale) {
            Some(side) if scale > 0 => format!("its scales before {side}, the others are new"),
            _ => "all of it new".into(),
        },
        Became::CoarseOf(scale) => match at(scale) {
            Some(side) => format!("its scales before {side}"),
            None => "all its scales".into(),
        },
        Became::FineOf(scale) => match at(scale) {
            Some(side) => format!("its scales from {side} on"),
            None => "none of its scales".into(),
        },
        Became::Edited => "a part of it drawn anew".into(),
    }
}
