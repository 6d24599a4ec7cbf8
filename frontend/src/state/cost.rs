//! What a plan will cost on this machine, by what others have cost here.

use var_dd_protocol::{GenerateRequest, PassKind, Plan};

use super::job::Job;

/// Milliseconds on the device that the pictures of `like` will take, by the newest of `jobs`
/// (newest first) of the same model: those that had as many pictures, else any, by the picture.
/// Absent until a pass of each network that it needs was seen. A job may have drawn less than it
/// needs or more: passes count by network, decoding by frame.
pub(crate) fn estimate_ms<'a>(
    jobs: impl Iterator<Item = &'a Job>,
    like: &GenerateRequest,
    scales: u32,
) -> Option<f64> {
    let (mut student, mut teacher, mut frame) = (None, None, None);
    let is_plain = |job: &&Job| {
        let request = &job.about.request;
        request.explore.is_none() && job.is_finished() && request.model == like.model
    };
    let (as_many, others): (Vec<_>, Vec<_>) =
        jobs.filter(is_plain).partition(|job| job.about.request.count == like.count);
    for job in as_many.into_iter().chain(others) {
        let Some(costs) = Costs::of(job) else { continue };
        let share = f64::from(like.count) / f64::from(job.about.request.count.max(1));
        student = student.or(costs.student.map(|ms| ms * share));
        teacher = teacher.or(costs.teacher.map(|ms| ms * share));
        frame = frame.or(Some(costs.frame * share));
    }
    let passes = like.plan.passes(scales);
    let teachers = passes.iter().filter(|pass| pass.kind == PassKind::Teacher).count();
    let of = |count: usize, each: Option<f64>| match count {
        0 => Some(0.0),
        count => each.map(|each| count as f64 * each),
    };
    // Who wants the picture first waits for one decoding alone.
    let frames = if like.last_frame_first { 1 } else { like.plan.frames(scales).len() };
    Some(of(passes.len() - teachers, student)? + of(teachers, teacher)? + of(frames, frame)?)
}

/// An estimate held between plans that were `measured`: no less than one that does no more of
/// anything, no more than one that does no less. What people compare must not contradict itself.
pub(crate) fn between_neighbours(
    estimate_ms: f64,
    plan: &Plan,
    scales: u32,
    measured: impl Iterator<Item = (f64, Plan)>,
) -> f64 {
    let size = |plan: &Plan| {
        let passes = plan.passes(scales);
        let teachers = passes.iter().filter(|pass| pass.kind == PassKind::Teacher).count();
        [passes.len() - teachers, teachers, plan.frames(scales).len()]
    };
    let within = |a: [usize; 3], b: [usize; 3]| a.iter().zip(b).all(|(a, b)| *a <= b);
    let of_plan = size(plan);
    let (mut least, mut most) = (0.0_f64, f64::INFINITY);
    for (ms, other) in measured {
        let other = size(&other);
        if within(other, of_plan) {
            least = least.max(ms);
        }
        if within(of_plan, other) {
            most = most.min(ms);
        }
    }
    estimate_ms.min(most).max(least)
}

/// What one job cost: milliseconds of a pass of each network and of a frame.
struct Costs {
    student: Option<f64>,
    teacher: Option<f64>,
    frame: f64,
}

impl Costs {
    fn of(job: &Job) -> Option<Self> {
        let timings = job.timings?;
        let frames = match job.about.request.last_frame_first {
            true => 1,
            false => job.about.request.plan.frames(job.scales()).len(),
        };
        let rest = job.drawn_ms()? - timings.transformer_ms;
        let mean = |wanted: fn(PassKind) -> bool| {
            let times: Vec<f64> =
                job.pass_ms.iter().filter(|(kind, _)| wanted(*kind)).map(|&(_, ms)| ms).collect();
            (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64)
        };
        let (mut student, mut teacher) =
            (mean(|kind| kind != PassKind::Teacher), mean(|kind| kind == PassKind::Teacher));
        if job.pass_ms.is_empty() && !job.about.passes.is_empty() {
            // Not seen live: the sum is all that is known, which one network had to itself or not.
            let each = timings.transformer_ms / job.about.passes.len() as f64;
            let teachers = |pass: &var_dd_protocol::Pass| pass.kind == PassKind::Teacher;
            if job.about.passes.iter().all(teachers) {
                teacher = Some(each);
            } else if !job.about.passes.iter().any(teachers) {
                student = Some(each);
            }
        }
        Some(Self { student, teacher, frame: (rest / frames.max(1) as f64).max(0.0) })
    }
}

/// A plan that is offered, with what is known of it on this machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Offer {
    /// Milliseconds; nothing where it cannot run or nothing is known.
    pub(crate) ms: Option<f64>,
    /// The published distance to real pictures; smaller is better.
    pub(crate) fid: Option<f64>,
}

/// What there is for the time that somebody has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Budget {
    /// What was typed is no time.
    NoTime,
    /// Nothing was measured here yet.
    Unknown,
    /// Even the fastest plan takes this long, in milliseconds.
    TooShort(f64),
    /// The best plan that fits.
    Fits { plan: usize, ms: f64 },
}

/// The best of the offers within a typed time: of the smallest published distance, or where none
/// is published, the longest. Nothing while nothing is typed.
pub(crate) fn within(typed: &str, offers: &[Offer]) -> Option<Budget> {
    let typed = typed.trim();
    if typed.is_empty() {
        return None;
    }
    let time = typed.replace(',', ".").parse::<f64>().ok();
    let Some(time) = time.filter(|time| time.is_finite() && *time > 0.0) else {
        return Some(Budget::NoTime);
    };
    let known = offers.iter().enumerate().filter_map(|(plan, of)| Some((plan, of.ms?, of.fid)));
    let Some(fastest) = known.clone().map(|(_, ms, _)| ms).reduce(f64::min) else {
        return Some(Budget::Unknown);
    };
    let worth = |fid: Option<f64>| fid.map_or(f64::NEG_INFINITY, |fid| -fid);
    let fitting = known.filter(|&(_, ms, _)| ms <= time);
    let best = fitting.max_by(|a, b| worth(a.2).total_cmp(&worth(b.2)).then(a.1.total_cmp(&b.1)));
    Some(best.map_or(Budget::TooShort(fastest), |(plan, ms, _)| Budget::Fits { plan, ms }))
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::{JobEvent, Pass, Timings};

    use super::*;
    use crate::state::job::tests::{job, request, two_steps};

    fn one_step() -> Plan {
        Plan::FewStep { t_list: vec![0], loss_split_t: 2 }
    }

    /// A finished job whose passes took 30 ms each and whose six frames took 2 ms each.
    fn finished(live: bool) -> Job {
        let mut job = job(two_steps(), 1);
        let of = Pass { kind: PassKind::Student, first_scale: 0, end_scale: 4 };
        for pass in 0..if live { 2 } else { 0 } {
            let began = 100.0 + f64::from(pass) * 36.0;
            let seq = u64::from(pass) * 2;
            job.event(seq, JobEvent::PassBegan { pass, of, passes: 2, at_ms: began });
            job.event(seq + 1, JobEvent::PassEnded { pass, at_ms: began + 30.0 });
        }
        let timings = Timings {
            queue_ms: 100.0,
            transformer_ms: 60.0,
            decode_ms: 8.0,
            first_frame_ms: 132.0,
            last_frame_ms: 172.0,
        };
        job.event(9, JobEvent::Finished { timings });
        job
    }

    #[test]
    fn a_plan_costs_its_passes_and_its_frames() {
        for live in [true, false] {
            let jobs = [finished(live)];
            let cost = |plan| estimate_ms(jobs.iter(), &request(plan, 1), 4);
            assert_eq!(cost(two_steps()), Some(60.0 + 6.0 * 2.0), "live: {live}");
            assert_eq!(cost(one_step()), Some(30.0 + 4.0 * 2.0), "live: {live}");
        }
    }

    #[test]
    fn more_pictures_are_priced_by_the_picture_until_as_many_were_drawn() {
        let alone = finished(true);
        let mut several = alone.clone();
        several.about.request.count = 3;
        let three = request(two_steps(), 3);
        assert_eq!(estimate_ms([&alone].into_iter(), &three, 4), Some(3.0 * 72.0));
        assert_eq!(estimate_ms([&alone, &several].into_iter(), &three, 4), Some(72.0));
    }

    #[test]
    fn an_estimate_lies_between_what_smaller_and_larger_plans_took() {
        let known = [(40.0, one_step())];
        let held = |estimate: f64, plan: &Plan| {
            between_neighbours(estimate, plan, 4, known.clone().into_iter())
        };
        assert_eq!(held(30.0, &two_steps()), 40.0, "two steps take no less than one");
        assert_eq!(held(70.0, &two_steps()), 70.0);
        let known = [(90.0, two_steps())];
        let held =
            |estimate| between_neighbours(estimate, &one_step(), 4, known.clone().into_iter());
        assert_eq!((held(95.0), held(50.0)), (90.0, 50.0));
    }

    #[test]
    fn what_was_never_seen_here_has_no_price() {
        let jobs = [finished(true)];
        assert_eq!(estimate_ms([].into_iter(), &request(one_step(), 1), 4), None);
        let other = GenerateRequest { model: Some("other".into()), ..request(one_step(), 1) };
        assert_eq!(estimate_ms(jobs.iter(), &other, 4), None);
    }

    #[test]
    fn of_the_plans_that_fit_a_time_the_best_is_offered() {
        let offer = |ms, fid| Offer { ms, fid };
        let offers = [
            offer(Some(40.0), Some(9.0)),
            offer(Some(80.0), Some(5.0)),
            offer(Some(90.0), Some(7.0)),
            offer(None, Some(1.0)),
        ];
        for (typed, expected) in [
            ("", None),
            ("soon", Some(Budget::NoTime)),
            ("-5", Some(Budget::NoTime)),
            ("inf", Some(Budget::NoTime)),
            ("10", Some(Budget::TooShort(40.0))),
            ("50,5", Some(Budget::Fits { plan: 0, ms: 40.0 })),
            (" 1000 ", Some(Budget::Fits { plan: 1, ms: 80.0 })),
        ] {
            assert_eq!(within(typed, &offers), expected, "{typed:?}");
        }
        let unscored = [offer(Some(40.0), None), offer(Some(80.0), None)];
        assert_eq!(within("100", &unscored), Some(Budget::Fits { plan: 1, ms: 80.0 }));
        assert_eq!(within("100", &[offer(None, None)]), Some(Budget::Unknown));
    }
}
