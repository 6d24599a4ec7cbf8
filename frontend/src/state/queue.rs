//! How long a job will still take, by what others took on this machine.

use var_dd_protocol::JobState;

use super::{job::Job, words};

/// How long a job will still take in words, where it can be known; `estimate_ms` is what it costs
/// on the device as a whole.
pub(crate) fn time_left(job: &Job, estimate_ms: Option<f64>) -> String {
    let Some(estimate_ms) = estimate_ms else { return String::new() };
    match (job.state, job.running) {
        // How long those ahead of it take, only they know.
        (JobState::Queued, _) => {
            format!("about {} once it is its turn", words::duration(estimate_ms))
        }
        (JobState::Running, Some(running)) => {
            let left = 1.0 - f64::from(running.pass) / f64::from(running.passes.max(1));
            format!("about {} left", words::duration(estimate_ms * left))
        }
        (JobState::Running, None) => format!("about {} left", words::duration(estimate_ms)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::JobEvent;

    use super::*;
    use crate::state::job::tests::{job, request, two_steps};

    #[test]
    fn the_time_left_shrinks_with_the_passes_that_are_done() {
        let mut job = job(two_steps(), 1);
        assert_eq!(time_left(&job, None), "");
        assert_eq!(time_left(&job, Some(2000.0)), "about 2.0 s once it is its turn");
        job.event(1, JobEvent::Started { request: request(two_steps(), 1) });
        assert_eq!(time_left(&job, Some(2000.0)), "about 2.0 s left");
        let of = job.about.passes[1];
        job.event(2, JobEvent::PassBegan { pass: 1, of, passes: 2, at_ms: 9.0 });
        assert_eq!(time_left(&job, Some(2000.0)), "about 1.0 s left");
    }
}
