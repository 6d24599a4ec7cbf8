//! The line of words under the stage.

use gloo_timers::callback::Timeout;
use var_dd_protocol::{JobId, JobState};
use yew::prelude::*;

use crate::{
    hooks::use_backend,
    state::{
        job::Job,
        store::{Answer, Connection},
        words,
    },
};

/// What the line says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Status {
    /// Its name in attributes.
    pub(crate) state: &'static str,
    pub(crate) words: String,
    pub(crate) job: Option<JobId>,
    pub(crate) is_trouble: bool,
}

impl Status {
    /// Of a click that is not a job (yet), or of nothing.
    pub(crate) fn of_answer(answer: Option<&Answer>) -> Self {
        let (state, words, is_trouble) = match answer {
            None => ("none", String::new(), false),
            Some(Answer::Waiting) => ("asking", "Asking the server…".into(), false),
            Some(Answer::Accepted(_)) => ("queued", "Waiting".into(), false),
            Some(Answer::Refused(error)) => ("refused", words::refusal(error), true),
        };
        let job = match answer {
            Some(Answer::Accepted(job)) => Some(job.clone()),
            _ => None,
        };
        Self { state, words, job, is_trouble }
    }

    /// Whether the picture that was on the stage stays until there is another.
    pub(super) fn keeps_picture(&self) -> bool {
        self.state != "none"
    }

    /// Whether nothing more will be said of it.
    fn is_final(&self) -> bool {
        !matches!(self.state, "asking" | "queued" | "running")
    }

    /// Of a job.
    pub(crate) fn of_job(job: &Job) -> Self {
        let is_trouble = matches!(job.state, JobState::Failed | JobState::Expired);
        Self {
            state: words::state_name(job.state),
            words: words::state(job),
            job: Some(job.id().clone()),
            is_trouble,
        }
    }
}

/// Properties of [`StatusLine`].
#[derive(PartialEq, Properties)]
pub(crate) struct StatusLineProps {
    pub(crate) status: Status,
    /// Words that stand in its place for now, and are not read out.
    #[prop_or_default]
    pub(crate) meanwhile: Option<String>,
    /// Buttons that belong to it.
    #[prop_or_default]
    pub(crate) children: Html,
}

/// Passes of a fast machine are not read out one by one: what does not stay this long is not said.
const SAID_AFTER_MS: u32 = 600;

/// Of a job that is not heard of any more.
const INTERRUPTED: &str = "Interrupted: it goes on once the connection is back";

/// The line. What stays is read out.
#[component]
pub(crate) fn StatusLine(props: &StatusLineProps) -> Html {
    let Status { state, words, job, is_trouble } = &props.status;
    // Whatever the server does meanwhile, nobody here knows.
    let is_lost = use_backend().store.connection == Connection::Lost;
    let is_interrupted = is_lost && matches!(*state, "queued" | "running");
    let words = if is_interrupted { INTERRUPTED } else { words.as_str() };
    let said = use_state_eq(String::new);
    {
        let said = said.setter();
        let is_final = props.status.is_final();
        // Of a job that runs, its state is said and not each of its passes.
        let what = (*state, job.clone(), is_interrupted, is_final.then(|| words.to_owned()));
        let words = words.to_owned();
        use_effect_with(what, move |_| {
            let later = Timeout::new(SAID_AFTER_MS, move || said.set(words));
            move || drop(later)
        });
    }
    html! {
        <div class={classes!("status", *state, is_trouble.then_some("trouble"))}>
            <p
                data-testid="job-state"
                data-state={*state}
                data-job={job.as_ref().map(|job| job.to_string())}
            >{ props.meanwhile.clone().unwrap_or_else(|| words.to_owned()) }</p>
            <p class="unseen" role="status" data-testid="said">{ &*said }</p>
            { props.children.clone() }
        </div>
    }
}
