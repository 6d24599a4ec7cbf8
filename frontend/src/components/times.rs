//! Where the time went: a bar, and its parts over the picture once they are asked for.

use std::rc::Rc;

use yew::prelude::*;

use crate::state::{
    job::{Job, TimePart},
    words::{duration, part_of_time},
};

/// The time of a finished job as a bar of its parts, and a button for the parts in words.
pub(crate) fn times(job: Option<&Rc<Job>>) -> Html {
    let Some((job, parts)) = job.and_then(|job| Some((job, job.parts_of_time()?))) else {
        return Html::default();
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
    let drawing = parts.iter().filter(|(part, _)| part.is_drawing());
    let drawing: f64 = drawing.map(|&(_, ms)| ms).sum();
    let line = |number: usize, (part, ms): (TimePart, f64)| {
        html! {
            <div key={number} class={part.is_drawing().then_some("inner")}>
                <dt>
                    <i class={format!("swatch part-{number}")} aria-hidden="true" />
                    { part_of_time(part) }
                </dt>
                <dd>{ duration(ms) }</dd>
            </div>
        }
    };
    let lines = |of_drawing: bool| {
        let those = parts.iter().copied().enumerate();
        let those = those.filter(|(_, (part, _))| part.is_drawing() == of_drawing);
        those.map(|(number, part)| line(number, part)).collect::<Html>()
    };
    // Another job's are shown when they are asked for.
    let key = job.id().to_string();
    html! {
        <div {key} class="times" data-testid="times">
            <button
                type="button"
                class="quiet"
                data-testid="times-open"
                popovertarget="parts-of-time"
            >
                <svg
                    class="time-bar"
                    viewBox="0 0 100 8"
                    preserveAspectRatio="none"
                    aria-hidden="true"
                >{ for bar }</svg>
                <span>{ "where it went" }</span>
            </button>
            <div
                id="parts-of-time"
                class="parts-of-time"
                popover="auto"
                role="note"
                aria-label="Where the time went"
            >
                <dl>
                    { lines(false) }
                    <div class="drawing">
                        <dt>{ "drawing, as in the strip" }</dt>
                        <dd>{ duration(drawing) }</dd>
                    </div>
                    { lines(true) }
                    <div class="total">
                        <dt>{ "from acceptance to last frame" }</dt>
                        <dd>{ duration(total) }</dd>
                    </div>
                    // Of a job that this page did not ask for, nobody here knows the click.
                    if let Some(ms) = job.on_the_way_ms() {
                        <div class="on-the-way" data-testid="times-on-the-way">
                            <dt>{ "on top, network and browser" }</dt>
                            <dd>{ duration(ms) }</dd>
                        </div>
                    }
                </dl>
            </div>
        </div>
    }
}
