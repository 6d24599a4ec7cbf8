//! Where the time went: one small line.

use std::rc::Rc;

use yew::prelude::*;

use crate::state::{job::Job, words::duration};

/// Properties of [`Times`].
#[derive(PartialEq, Properties)]
pub(crate) struct TimesProps {
    pub(crate) job: Option<Rc<Job>>,
}

/// First and last frame since the click, or the finished picture and the last of the steps that
/// follow it; queue, networks and decoder as the server measured them.
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
    let (first, last) = if job.about.request.last_frame_first {
        (job.last_picture().map(|picture| ("finished picture", picture.ms)), "last step")
    } else {
        (times().reduce(f64::min).map(|ms| ("first frame", ms)), "last frame")
    };
    let last = times().reduce(f64::max).filter(|_| job.is_finished()).map(|ms| (last, ms));
    let server = job.timings.filter(|_| job.is_finished()).map(|timings| {
        [
            ("queue", timings.queue_ms),
            ("transformer", timings.transformer_ms),
            ("decoder", timings.decode_ms),
        ]
    });
    first.into_iter().chain(last).chain(server.into_iter().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::{JobEvent, Timings};

    use super::*;
    use crate::state::job::tests::{hurried, two_steps};

    #[test]
    fn a_finished_picture_that_comes_first_is_not_called_the_last_frame() {
        assert_eq!(facts(&hurried(two_steps(), 2, 1)), []);
        let mut job = hurried(two_steps(), 2, 12);
        assert_eq!(facts(&job), [("finished picture", 110.0)]);
        job.event(20, JobEvent::Finished { timings: Timings::default() });
        assert_eq!(facts(&job)[..2], [("finished picture", 110.0), ("last step", 210.0)]);
    }
}
