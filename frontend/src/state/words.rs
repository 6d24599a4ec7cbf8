//! What the page says.

use var_dd_protocol::{ErrorBody, ErrorCode, Guidance, JobState, ModelInfo, PassKind, Plan};

use super::{
    comparison::Standing,
    job::{About, Job, TimePart},
    settings::Settings,
    timeline::{Group, Tile, Timeline},
};

/// A scale as people call it: by the sides of its token map.
pub(crate) fn size(side: u32) -> String {
    format!("{side}×{side}")
}

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

/// What of a link could not be taken.
pub(crate) fn of_link_left_out(left_out: &[String]) -> String {
    format!(
        "Not all of this link could be used as it stands: {}. The controls say what will be drawn.",
        left_out.join("; ")
    )
}

/// Of a job that is finished while the eye still follows how it came about.
pub(crate) fn shown_slowed(job: &Job) -> Option<String> {
    let (_, all_ms) = job.totals().filter(|_| job.is_finished())?;
    Some(format!("Took {}, shown slowed", duration(all_ms)))
}

/// Where a job stands.
pub(crate) fn state(job: &Job) -> String {
    match job.state {
        JobState::Queued => match job.position {
            None => "Waiting".into(),
            Some(0) => "Waiting, next in line".into(),
            Some(ahead) => format!("Waiting, {ahead} ahead of it"),
        },
        // After the last pass there is nothing to tell of the networks any more.
        JobState::Running if job.about.request.last_frame_first && job.last_picture().is_some() => {
            let (what, them) = if job.about.request.count == 1 {
                ("picture is", "it")
            } else {
                ("pictures are", "them")
            };
            format!("The {what} there; the scales on the way to {them} follow")
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
        JobState::Finished => match job.totals() {
            Some((pictures_ms, all_ms)) if job.about.request.last_frame_first => {
                format!("Finished in {}, all scales in {}", duration(pictures_ms), duration(all_ms))
            }
            Some((_, all_ms)) => format!("Finished in {}", duration(all_ms)),
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

/// A part of the time.
pub(crate) fn part_of_time(part: TimePart) -> &'static str {
    match part {
        TimePart::Wait => "waiting",
        TimePart::Transformer => "transformer",
        TimePart::Decoder => "decoder",
        TimePart::Encoding => "encoding",
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

/// An English text with its first letter large.
pub(crate) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// The plan of a job in words.
pub(crate) fn plan(about: &About) -> String {
    let own = || custom_plan(&about.request.plan, &about.patch_nums);
    about.plan_name.clone().unwrap_or_else(own)
}

/// The corners of a picture that lies between some, in words.
pub(crate) fn corners(about: &About) -> Option<String> {
    let blend = &about.request.explore.as_ref()?.blend;
    (!blend.is_empty()).then(|| counted(blend.len(), "corner", "corners"))
}

/// A plan that has no name, on a model of scales with these sides.
pub(crate) fn custom_plan(plan: &Plan, sides: &[u32]) -> String {
    let at = |&scale: &u32| match sides.get(scale as usize) {
        Some(&side) => size(side),
        None => "the end".into(),
    };
    let all = |list: &[u32]| list.iter().map(at).collect::<Vec<_>>().join(", ");
    match plan {
        Plan::FewStep { t_list, .. } => format!("student at {}", all(t_list)),
        Plan::TeacherInvolved { t_list, teacher_start, .. } => {
            format!("teacher from {}, student at {}", at(teacher_start), all(t_list))
        }
        Plan::Teacher { .. } => "teacher".into(),
    }
}

/// What tells plans apart that draw the same scales.
pub(crate) fn plan_details(plan: &Plan) -> String {
    let law = |guidance: &Guidance| {
        let Guidance { cfg, top_k, top_p } = guidance;
        format!("guidance {cfg}, top-k {top_k}, top-p {top_p}")
    };
    match plan {
        Plan::FewStep { loss_split_t, .. } => format!("split {loss_split_t}"),
        Plan::TeacherInvolved { loss_split_t, guidance, causal_prefix, .. } => {
            let prefix = if *causal_prefix { ", causal prefix" } else { "" };
            format!("split {loss_split_t}, {}{prefix}", law(guidance))
        }
        Plan::Teacher { guidance } => law(guidance),
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
    let sides = timeline.tiles[group.tiles.clone()].iter().map(|tile| tile.side);
    match group.kind {
        PassKind::Student => ("student", format!("pass {}", group.pass + 1)),
        PassKind::Draft => ("student’s draft", format!("pass {}", group.pass + 1)),
        PassKind::Kept => ("kept", "from the picture before".to_owned()),
        PassKind::Teacher => {
            let (first, last) = (sides.clone().min().unwrap_or(0), sides.max().unwrap_or(0));
            let which = if first == last {
                size(first)
            } else {
                format!("{} to {}", size(first), size(last))
            };
            ("teacher", which)
        }
    }
}

/// What one sees while a tile is on the stage: its scale, its tokens, and who drew them how.
pub(crate) fn tile(tile: &Tile, timeline: &Timeline) -> String {
    let count = tile.side * tile.side;
    let group = timeline.groups.iter().find(|group| {
        timeline.tiles[group.tiles.clone()].iter().any(|other| other.place == tile.place)
    });
    let them = if count == 1 { "it" } else { "all of them at once" };
    let how = match group.map(|group| (group.kind, group.pass)) {
        Some((PassKind::Student, 0)) => format!("the student guesses {them}"),
        Some((PassKind::Student, _)) => {
            format!("the student guesses {them}, knowing the coarser scales")
        }
        Some((PassKind::Draft, _)) => format!("the student drafts {them}"),
        Some((PassKind::Teacher, _)) if count == 1 => "the teacher draws it".into(),
        Some((PassKind::Teacher, _)) => "the teacher draws them, one pass for this scale".into(),
        Some((PassKind::Kept, _)) => "kept from the picture that it goes on from".into(),
        None => return format!("{} · {}", size(tile.side), tokens(count)),
    };
    format!("{} · {} · {how}", size(tile.side), tokens(count))
}

/// Why a text chose no class, of which `fitting` have it in their names.
pub(crate) fn no_class(text: &str, fitting: usize) -> String {
    match fitting {
        0 => format!("No class is called “{text}”."),
        several => format!("“{text}” fits {}.", counted(several, "class", "classes")),
    }
}

/// How plans stand to each other, in one sentence.
pub(crate) fn standing(standing: &Standing) -> String {
    let times =
        |ratio: f64| if ratio < 9.95 { format!("{ratio:.1}×") } else { format!("{ratio:.0}×") };
    let slower = standing.slower.iter();
    let slower: Vec<_> = slower
        .map(|&(name, ratio)| format!("{} as fast as {}", times(ratio), named(name)))
        .collect();
    let slower = slower.join(", ");
    let sentence_of = match &standing.fastest[..] {
        [] => return String::new(),
        [one] if standing.slower.len() == 1 => format!("{} was {slower}.", named(one)),
        [one] => format!("{} was the fastest: {slower}.", named(one)),
        [all @ .., last] => {
            let first = named(all.first().unwrap_or(last));
            let all: Vec<_> = all.iter().map(|name| named(name)).collect();
            let all = format!("{} and {}", all.join(", "), named(last));
            match (standing.overlap, slower.is_empty()) {
                (false, true) => format!("{all} were about equally fast."),
                (false, false) => format!("{all} were about equally fast, and {slower}."),
                (true, alone) => {
                    let unclear = format!("no clear difference between {all}: their runs overlap.");
                    match alone {
                        true => unclear,
                        false => format!("{unclear} {} was {slower}.", sentence(&first)),
                    }
                }
            }
        }
    };
    sentence(&sentence_of)
}

/// What will be drawn, by its class, plan and seed.
pub(crate) fn to_draw(settings: &Settings, model: &ModelInfo) -> Option<String> {
    let request = settings.request(model).ok()?;
    // The line is short; some classes have several names.
    let class = model.classes.get(settings.class)?.split(',').next()?;
    let plan = match model.preset_name(&request.plan) {
        Some(name) => name.to_owned(),
        None => custom_plan(&request.plan, &model.patch_nums),
    };
    let count = match request.count {
        1 => String::new(),
        count => format!("{count} × "),
    };
    // As it will be drawn: `007` is 7.
    let seed = match (settings.next_seed(), request.seed) {
        (Some(_), Some(seed)) => format!("seed {seed}"),
        _ => "new seed".to_owned(),
    };
    Some(format!("{count}{class} · {plan} · {seed}"))
}

/// Which picture the seed in its field is for.
pub(crate) fn of_seed(settings: &Settings) -> &'static str {
    match settings.next_seed() {
        Some(_) if settings.seed_locked => "For every picture, until it is unlocked.",
        Some(_) => "For the next picture, then a new one.",
        None => "Used already; the next gets a new seed.",
    }
}

/// How good plans of a model are by their published FID, the best first, in words.
pub(crate) fn quality<'a>(
    model: &str,
    plans: impl Iterator<Item = (&'a str, Option<f64>)>,
) -> String {
    const FID: &str = "FID (Fréchet distance to real pictures, lower is better)";
    let (known, unknown): (Vec<_>, Vec<_>) = plans.partition(|(_, fid)| fid.is_some());
    if known.is_empty() {
        return format!(
            "How good these plans are was not measured: no {FID} is published for them with \
             {model}."
        );
    }
    let mut known: Vec<(f64, &str)> =
        known.into_iter().filter_map(|(name, fid)| Some((fid?, name))).collect();
    known.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let known: Vec<_> = known.iter().map(|(fid, name)| format!("{} {fid}", named(name))).collect();
    let unknown: Vec<_> = unknown.iter().map(|(name, _)| named(name)).collect();
    let rest = match unknown.is_empty() {
        true => String::new(),
        false => format!("; none is published for {}", unknown.join(", ")),
    };
    format!("How good they are, by their published {FID}: {}{rest}.", known.join(", "))
}

/// A name as a part of a sentence.
fn named(name: &str) -> String {
    if name.contains(',') { format!("“{name}”") } else { name.to_owned() }
}

/// What one sees while another picture is waited for.
pub(crate) fn before(about: &About) -> String {
    let seed = about.request.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
    format!("Waiting for the new picture; still seen: {}{seed}", about.class_name)
}

fn tokens(count: u32) -> String {
    counted(count as usize, "token", "tokens")
}

/// How large the pictures of a file are: pictures of a side so many times enlarged.
pub(crate) fn file_size(side: u32, times: u32, crisp: bool) -> String {
    let pixels = side * times;
    match (times, crisp) {
        (1, _) => format!("{pixels} px, as drawn"),
        (_, true) => format!("{pixels} px, crisp"),
        (_, false) => format!("{pixels} px, smooth"),
    }
}

/// What a picture shows, for those who do not see it.
pub(crate) fn alternative(about: &About, picture: usize, side: Option<u32>) -> String {
    let which =
        if about.request.count > 1 { format!(", picture {}", picture + 1) } else { String::new() };
    let how_far =
        side.map(|side| format!(", up to the {} token map", size(side))).unwrap_or_default();
    format!("{}{which}{how_far}", about.class_name)
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::{Guidance, JobEvent, Timings};

    use super::*;
    use crate::state::{
        job::tests::{hurried, job, two_steps},
        settings::tests::model,
    };

    #[test]
    fn times_are_short() {
        let shown = [0.04, 9.9, 10.0, 512.4, 999.6, 61_000.0].map(duration);
        assert_eq!(shown, ["0.0 ms", "9.9 ms", "10 ms", "512 ms", "1.0 s", "1 min 1 s"]);
    }

    #[test]
    fn whoever_waits_is_told_how_many_are_ahead() {
        let mut job = job(two_steps(), 1);
        job.position = Some(2);
        assert_eq!(state(&job), "Waiting, 2 ahead of it");
    }

    #[test]
    fn whoever_is_in_a_hurry_is_told_when_the_picture_is_there_and_when_the_steps_are() {
        let mut job = hurried(two_steps(), 1, 0);
        assert_eq!(state(&job), "Drawing");
        job = hurried(two_steps(), 1, 1);
        assert_eq!(state(&job), "The picture is there; the scales on the way to it follow");
        assert_eq!(state(&hurried(two_steps(), 2, 1)), "Drawing", "one of two");
        assert_eq!(
            state(&hurried(two_steps(), 2, 3)),
            "The pictures are there; the scales on the way to them follow"
        );
        job = hurried(two_steps(), 1, 6);
        let timings = Timings { first_frame_ms: 100.0, last_frame_ms: 150.0, ..Timings::default() };
        job.event(9, JobEvent::Finished { timings });
        assert_eq!(state(&job), "Finished in 100 ms, all scales in 150 ms");
        job.about.request.last_frame_first = false;
        assert_eq!(state(&job), "Finished in 150 ms");
    }

    #[test]
    fn plans_are_told_by_their_published_quality_or_that_none_is_published() {
        let told = |fids: [Option<f64>; 2]| {
            quality("m", ["1 step", "teacher, 6 steps"].into_iter().zip(fids))
        };
        assert_eq!(
            told([Some(9.94), Some(4.19)]),
            "How good they are, by their published FID (Fréchet distance to real pictures, lower \
             is better): “teacher, 6 steps” 4.19, 1 step 9.94."
        );
        assert!(
            told([Some(9.94), None])
                .ends_with(": 1 step 9.94; none is published for “teacher, 6 steps”.")
        );
        assert_eq!(
            told([None, None]),
            "How good these plans are was not measured: no FID (Fréchet distance to real \
             pictures, lower is better) is published for them with m."
        );
    }

    #[test]
    fn a_scale_is_told_by_its_size_its_tokens_and_who_drew_it() {
        let plan = Plan::TeacherInvolved {
            t_list: [0, 3],
            loss_split_t: 2,
            teacher_start: 1,
            guidance: Guidance { cfg: 2.0, top_k: 0, top_p: 0.0 },
            causal_prefix: false,
        };
        let told = |plan: Plan, at: usize| {
            let timeline = Timeline::of(&job(plan, 1), None);
            tile(&timeline.tiles[at], &timeline)
        };
        assert_eq!(told(two_steps(), 0), "1×1 · 1 token · the student guesses it");
        assert_eq!(
            told(two_steps(), 3),
            "4×4 · 16 tokens · the student guesses all of them at once"
        );
        assert_eq!(
            told(two_steps(), 4),
            "3×3 · 9 tokens · the student guesses all of them at once, knowing the coarser scales"
        );
        assert_eq!(
            told(plan.clone(), 1),
            "2×2 · 4 tokens · the student drafts all of them at once"
        );
        assert_eq!(
            told(plan.clone(), 5),
            "3×3 · 9 tokens · the teacher draws them, one pass for this scale"
        );
        let timeline = Timeline::of(&job(plan.clone(), 1), None);
        assert_eq!(group(&timeline.groups[1], &timeline), ("teacher", "2×2 to 3×3".into()));
        assert_eq!(custom_plan(&plan, &[1, 2, 3, 4]), "teacher from 2×2, student at 1×1, 4×4");
    }

    #[test]
    fn what_will_be_drawn_is_told_with_the_seed_that_it_gets() {
        let model = model("a", 3);
        let told = |settings: &Settings| to_draw(settings, &model).unwrap_or_default();
        let fresh = Settings { class: 2, ..Settings::new(5) };
        assert_eq!(told(&fresh), "class 2 · 1 step · seed 5");
        assert!(of_seed(&fresh).starts_with("For the next picture"));
        let used = fresh.clone().used();
        assert_eq!(told(&used), "class 2 · 1 step · new seed");
        assert!(of_seed(&used).contains("the next gets a new seed"));
        let locked = Settings { seed_locked: true, count: 4, ..used };
        assert_eq!(told(&locked), "4 × class 2 · 1 step · seed 5");
        assert!(of_seed(&locked).starts_with("For every picture"));
        let own = Plan::FewStep { t_list: vec![0, 1], loss_split_t: 3 };
        assert_eq!(told(&fresh.with_plan(&own, &model)), "class 2 · student at 1×1, 2×2 · seed 5");
        assert_eq!(to_draw(&Settings { seed: "x".into(), ..locked }, &model), None);
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
