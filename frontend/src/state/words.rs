//! What the page says.

use var_dd_protocol::{ErrorBody, ErrorCode, JobState, PassKind, Plan};

use super::{
    job::{About, Job},
    timeline::{Group, Timeline},
};

/// A number of things.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// A time as people read it.
pub(crate) fn duration(ms: f64) -> String {
    match ms.max(0.0) {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 59_950.0 => format!("{:.1} s", ms / 1000.0),
        ms => format!("{:.0} min {:.0} s", (ms / 60_000.0).floor(), (ms % 60_000.0) / 1000.0),
    }
}

/// Where a job stands.
pub(crate) fn state(job: &Job) -> String {
    match job.state {
        JobState::Queued => match job.position {
            None => "Waiting".into(),
            Some(0) => "Waiting, next".into(),
            Some(ahead) => format!("Waiting, {ahead} ahead of you"),
        },
        // After the last pass there is nothing to tell of the networks any more.
        JobState::Running if job.about.request.last_frame_first && job.last_picture().is_some() => {
            let (what, them) = if job.about.request.count == 1 {
                ("picture is", "it")
            } else {
                ("pictures are", "them")
            };
            format!("The {what} there; the steps to {them} follow")
        }
        JobState::Running => match job.running {
            None => "Drawing".into(),
            Some(running) => {
                let who = match running.of.kind {
                    PassKind::Student => "the student",
                    PassKind::Draft => "the student’s draft",
                    PassKind::Teacher => "the teacher",
                    PassKind::Kept => "the picture at hand",
                };
                format!("Drawing: {who}, pass {} of {}", running.pass + 1, running.passes)
            }
        },
        JobState::Finished => match job.timings {
            Some(timings) => {
                let all = duration(timings.last_frame_ms);
                match job.last_picture().filter(|_| job.about.request.last_frame_first) {
                    Some(picture) => {
                        format!("Finished in {}, all steps in {all}", duration(picture.at_ms))
                    }
                    None => format!("Finished in {all}"),
                }
            }
            None => "Finished".into(),
        },
        JobState::Failed => match &job.error {
            Some(error) => format!("It failed: {}", error.message),
            None => "It failed".into(),
        },
        JobState::Cancelled => "Cancelled".into(),
        JobState::Expired => {
            "Dropped: nobody was watching while it waited, or its time was over".into()
        }
    }
}

/// The name of a state in attributes.
pub(crate) fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Finished => "finished",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
        JobState::Expired => "expired",
    }
}

/// Why a request was refused, with what helps.
pub(crate) fn refusal(error: &ErrorBody) -> String {
    let what = match error.code {
        ErrorCode::QueueFull => "The queue is full".into(),
        ErrorCode::RateLimited | ErrorCode::TooManyConnections => {
            "That was too much at once".into()
        }
        ErrorCode::ShuttingDown => "The server is shutting down".into(),
        ErrorCode::StorageFailed => "The server cannot keep pictures at the moment".into(),
        _ => sentence(&error.message),
    };
    match error.retry_after_s {
        Some(seconds) => {
            format!("{what}. Try again in {}.", counted(seconds as usize, "second", "seconds"))
        }
        None => format!("{}.", what.trim_end_matches('.')),
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The plan of a job in words.
pub(crate) fn plan(about: &About) -> String {
    about.plan_name.clone().unwrap_or_else(|| custom_plan(&about.request.plan))
}

/// A plan that has no name.
pub(crate) fn custom_plan(plan: &Plan) -> String {
    let numbers = |list: &[u32]| list.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    match plan {
        Plan::FewStep { t_list, .. } => format!("student at {}", numbers(t_list)),
        Plan::TeacherInvolved { t_list, teacher_start, .. } => {
            format!("student at {}, teacher from {teacher_start}", numbers(t_list))
        }
        Plan::Teacher { .. } => "teacher".into(),
    }
}

/// What a plan costs, in passes of each network.
pub(crate) fn cost(plan: &Plan, scales: u32) -> String {
    let passes = plan.passes(scales);
    let teacher = passes.iter().filter(|pass| pass.kind == PassKind::Teacher).count();
    let student = passes.len() - teacher;
    let student = (student > 0).then(|| format!("{student} × student"));
    let teacher = (teacher > 0).then(|| format!("{teacher} × teacher"));
    let parts: Vec<_> = student.into_iter().chain(teacher).collect();
    format!("{}: {}", counted(passes.len(), "pass", "passes"), parts.join(" + "))
}

/// The heading of a group of tiles: who, and which part.
pub(crate) fn group(group: &Group, timeline: &Timeline) -> (&'static str, String) {
    let scales = timeline.tiles[group.tiles.clone()].iter().map(|tile| tile.place.1 + 1);
    match group.kind {
        PassKind::Student => ("student", format!("pass {}", group.pass + 1)),
        PassKind::Draft => ("student’s draft", format!("pass {}", group.pass + 1)),
        PassKind::Kept => ("kept", format!("pass {}", group.pass + 1)),
        PassKind::Teacher => {
            let (first, last) = (scales.clone().min().unwrap_or(0), scales.max().unwrap_or(0));
            let which = if first == last {
                format!("scale {first}")
            } else {
                format!("scales {first}–{last}")
            };
            ("teacher", which)
        }
    }
}

/// What a picture shows, for those who do not see it.
pub(crate) fn alternative(about: &About, picture: usize, side: Option<u32>) -> String {
    let which =
        if about.request.count > 1 { format!(", picture {}", picture + 1) } else { String::new() };
    let how_far =
        side.map(|side| format!(", up to the {side}×{side} token map")).unwrap_or_default();
    format!("{}{which}{how_far}", about.class_name)
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::{JobEvent, Timings};

    use super::*;
    use crate::state::job::tests::{hurried, job, two_steps};

    #[test]
    fn times_are_short() {
        let shown = [0.04, 9.9, 10.0, 512.4, 999.6, 61_000.0].map(duration);
        assert_eq!(shown, ["0.0 ms", "9.9 ms", "10 ms", "512 ms", "1.0 s", "1 min 1 s"]);
    }

    #[test]
    fn whoever_waits_is_told_how_many_are_ahead() {
        let mut job = job(two_steps(), 1);
        job.position = Some(2);
        assert_eq!(state(&job), "Waiting, 2 ahead of you");
    }

    #[test]
    fn whoever_is_in_a_hurry_is_told_when_the_picture_is_there_and_when_the_steps_are() {
        let mut job = hurried(two_steps(), 1, 0);
        assert_eq!(state(&job), "Drawing");
        job = hurried(two_steps(), 1, 1);
        assert_eq!(state(&job), "The picture is there; the steps to it follow");
        assert_eq!(state(&hurried(two_steps(), 2, 1)), "Drawing", "one of two");
        assert_eq!(
            state(&hurried(two_steps(), 2, 3)),
            "The pictures are there; the steps to them follow"
        );
        job = hurried(two_steps(), 1, 6);
        let timings = Timings { first_frame_ms: 100.0, last_frame_ms: 150.0, ..Timings::default() };
        job.event(9, JobEvent::Finished { timings });
        assert_eq!(state(&job), "Finished in 100 ms, all steps in 150 ms");
        job.about.request.last_frame_first = false;
        assert_eq!(state(&job), "Finished in 150 ms");
    }

    #[test]
    fn a_refusal_says_what_helps() {
        let error =
            ErrorBody::new(ErrorCode::QueueFull, "the queue holds 64 of 64 jobs").retry_after(1);
        assert_eq!(refusal(&error), "The queue is full. Try again in 1 second.");
        let error = ErrorBody::new(ErrorCode::ClassOutOfRange, "class 12 of 10");
        assert_eq!(refusal(&error), "Class 12 of 10.");
    }

    #[test]
    fn the_cost_of_a_plan_counts_passes_by_network() {
        assert_eq!(cost(&two_steps(), 4), "2 passes: 2 × student");
        let plan = Plan::Teacher { guidance: var_dd_protocol::Guidance::default() };
        assert_eq!(cost(&plan, 10), "10 passes: 10 × teacher");
    }
}
