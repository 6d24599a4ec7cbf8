//! The family of a picture: what it goes on from, and how.

use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    api,
    route::Route,
    state::{
        desk::{Became, ancestors},
        job::Job,
        words::size,
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
                            <span>{ words(of.became, &job.about.patch_nums) }</span>
                        </Link<Route>>
                    </li>
                }) }
            </ul>
        </section>
    }
}

fn words(became: Became, sides: &[u32]) -> String {
    let at = |scale: u32| sides.get(scale as usize).copied().map(size);
    match became {
        Became::Shown => "the same, its scales weighed".into(),
        Became::Rerolled(scale) => match at(scale) {
            Some(side) if scale > 0 => format!("new from {side} on"),
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
