//! Where the time went: a bar that opens to its parts.

use std::rc::Rc;

use yew::prelude::*;

use crate::state::{
    job::Job,
    words::{duration, part_of_time},
};

/// The time of a finished job as a bar of its parts; opened, the parts in words.
pub(crate) fn times(job: Option<&Rc<Job>>) -> Html {
    let Some(parts) = job.and_then(|job| job.parts_of_time()) else {
        return Html::default();
    };
    // Of a job that this page did not ask for, nobody here knows the click.
    let since = match job.and_then(|job| job.clicked_ms()) {
        Some(_) => "from click to last frame",
        None => "from acceptance to last frame",
    };
    let total: f64 = parts.iter().map(|&(_, ms)| ms).sum();
    let mut at = 0.0;
    let bar = parts.iter().enumerate().map(|(number, &(_, ms))| {
        let (x, width) = (at, 100.0 * ms / total.max(0.001));
        at += width;
        html! {
            <rect
                key={number}
                class={format!("part part-{number}")}
                x={format!("{x:.2}")}
                y="0"
                width={format!("{width:.2}")}
                height="8"
            />
        }
    });
    html! {
        <details class="times" data-testid="times">
            <summary>
                <svg
                    class="time-bar"
                    viewBox="0 0 100 8"
                    preserveAspectRatio="none"
                    aria-hidden="true"
                >{ for bar }</svg>
                <span>{ "where it went" }</span>
            </summary>
            <dl>
                { for parts.iter().enumerate().map(|(number, &(part, ms))| html! {
                    <div key={number}>
                        <dt>
                            <i class={format!("swatch part-{number}")} aria-hidden="true" />
                            { part_of_time(part) }
                        </dt>
                        <dd>{ duration(ms) }</dd>
                    </div>
                }) }
                <div class="total"><dt>{ since }</dt><dd>{ duration(total) }</dd></div>
            </dl>
        </details>
    }
}
