//! Where the time went: one small line.

use std::rc::Rc;

use yew::prelude::*;

use crate::state::{job::Job, words::duration};

/// Properties of [`Times`].
#[derive(PartialEq, Properties)]
pub(crate) struct TimesProps {
    pub(crate) job: Option<Rc<Job>>,
}

/// First and last frame since the click; queue, networks and decoder as the server measured them.
#[component]
pub(crate) fn Times(props: &TimesProps) -> Html {
    let facts = props.job.as_ref().map(|job| facts(job)).unwrap_or_default();
    html! {
        <dl class="times" data-testid="times">
            { for facts.into_iter().map(|(name, ms)| html! {
                <div key={name}><dt>{ name }</dt><dd>{ duration(ms) }</dd></div>
            }) }
        </dl>
    }
}

fn facts(job: &Job) -> Vec<(&'static str, f64)> {
    let times = || job.frames.iter().flat_map(|frames| frames.values()).map(|frame| frame.ms);
    let first = times().reduce(f64::min).map(|ms| ("first frame", ms));
    let last = times().reduce(f64::max).filter(|_| job.is_finished()).map(|ms| ("last frame", ms));
    let server = job.timings.filter(|_| job.is_finished()).map(|timings| {
        [("queue", timings.queue_ms), ("transformer", timings.transformer_ms), ("decoder", timings.decode_ms)]
    });
    first.into_iter().chain(last).chain(server.into_iter().flatten()).collect()
}
