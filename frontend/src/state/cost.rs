//! What a plan will cost on this machine, by what others have cost here.

use var_dd_protocol::{GenerateRequest, Pass, PassKind, Plan, number_of};

use super::{job::Job, mine::Own};

/// Most jobs, the newest ones, that an estimate is made of.
const JOBS: usize = 12;

/// What a pass costs besides its tokens, in tokens for each token of the whole pyramid, where that
/// cannot be told from what was drawn.
const BESIDES: f64 = 0.125;

/// A finished job, as far as it tells what others will cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    request: &'a GenerateRequest,
    /// Milliseconds of each pass that was seen to end.
    pass_ms: &'a [(Pass, f64)],
    /// Milliseconds of all passes together.
    transformer_ms: f64,
    /// Milliseconds on the device until the pictures were there.
    drawn_ms: f64,
}

impl<'a> Seen<'a> {
    /// A job of this page, if it is finished.
    pub(crate) fn of_job(job: &'a Job) -> Option<Self> {
        let timings = job.timings.filter(|_| job.is_finished())?;
        Some(Self {
            request: &job.about.request,
            pass_ms: &job.pass_ms,
            transformer_ms: timings.transformer_ms,
            drawn_ms: job.drawn_ms()?,
        })
    }

    /// What is remembered of one from before the page was loaded.
    pub(crate) fn of_own(own: &'a Own) -> Option<Self> {
        Some(Self {
            request: &own.request,
            pass_ms: &[],
            transformer_ms: own.transformer_ms?,
            drawn_ms: own.drawn_ms?,
        })
    }

    /// Milliseconds of a frame.
    fn frame_ms(&self, scales: u32) -> f64 {
        let frames = frames(self.request, scales).max(1);
        ((self.drawn_ms - self.transformer_ms) / frames as f64).max(0.0)
    }

    /// What it tells of the work of the networks: pass by pass, or all of them together.
    fn work(&self, sides: &[u32]) -> Vec<(Work, f64)> {
        let plan = &self.request.plan;
        if self.pass_ms.is_empty() {
            return vec![(Work::of_plan(plan, sides), self.transformer_ms)];
        }
        let passes = self.pass_ms.iter();
        passes.map(|(pass, ms)| (Work::of_pass(pass, plan, sides), *ms)).collect()
    }
}

/// Frames that are decoded before the pictures are there. Who wants the picture first waits for
/// one alone.
fn frames(request: &GenerateRequest, scales: u32) -> usize {
    if request.last_frame_first { 1 } else { request.plan.frames(scales).len() }
}

/// What the networks have to do: student and teacher are of one size, and a pass costs something
/// in itself and something for each token.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Work {
    passes: f64,
    tokens: f64,
}

impl Work {
    fn of_pass(pass: &Pass, plan: &Plan, sides: &[u32]) -> Self {
        let scales = sides.get(pass.first_scale as usize..pass.end_scale as usize);
        let tokens: u32 = scales.unwrap_or_default().iter().map(|side| side * side).sum();
        // With guidance the teacher draws every token twice: with its class and without.
        let is_guided = pass.kind == PassKind::Teacher
            && match plan {
                Plan::TeacherInvolved { guidance, .. } | Plan::Teacher { guidance } => {
                    guidance.cfg > 0.0
                }
                Plan::FewStep { .. } => false,
            };
        let tokens = f64::from(if is_guided { 2 * tokens } else { tokens });
        Self { passes: 1.0, tokens }
    }

    fn of_plan(plan: &Plan, sides: &[u32]) -> Self {
        let passes = plan.passes(sides.len() as u32);
        let each = passes.iter().map(|pass| Self::of_pass(pass, plan, sides));
        each.fold(Self { passes: 0.0, tokens: 0.0 }, |sum, one| Self {
            passes: sum.passes + one.passes,
            tokens: sum.tokens + one.tokens,
        })
    }
}

/// Milliseconds of a pass and of a token that fit what was `seen` best (least squares); nothing if
/// that is nothing.
fn prices(seen: &[(Work, f64)], sides: &[u32]) -> Option<(f64, f64)> {
    let sum = |of: &dyn Fn(&Work, f64) -> f64| seen.iter().map(|(work, ms)| of(work, *ms)).sum();
    let passes_passes: f64 = sum(&|work, _| work.passes * work.passes);
    let passes_tokens: f64 = sum(&|work, _| work.passes * work.tokens);
    let tokens_tokens: f64 = sum(&|work, _| work.tokens * work.tokens);
    let passes_ms: f64 = sum(&|work, ms| work.passes * ms);
    let tokens_ms: f64 = sum(&|work, ms| work.tokens * ms);
    let scale = passes_passes * tokens_tokens;
    if scale <= 0.0 {
        return None;
    }
    let determinant = scale - passes_tokens * passes_tokens;
    if determinant > 0.01 * scale {
        let pass = (tokens_tokens * passes_ms - passes_tokens * tokens_ms) / determinant;
        let token = (passes_passes * tokens_ms - passes_tokens * passes_ms) / determinant;
        if pass >= 0.0 && token >= 0.0 {
            return Some((pass, token));
        }
    }
    // All that was seen is of one kind.
    let pyramid: u32 = sides.iter().map(|side| side * side).sum();
    let besides = BESIDES * f64::from(pyramid);
    let whole = |work: &Work| work.tokens + besides * work.passes;
    let whole_ms: f64 = sum(&|work, ms| whole(work) * ms);
    let whole_whole: f64 = sum(&|work, _| whole(work) * whole(work));
    let token = whole_ms / whole_whole;
    Some((besides * token, token))
}

/// Milliseconds on the device that the pictures of `like` will take on scales of these `sides`, by
/// the newest of the jobs that were `seen` (newest first) of the same model: those that had as many
/// pictures, else any, by the picture. Absent until one was seen.
pub(crate) fn estimate_ms<'a>(
    seen: impl Iterator<Item = Seen<'a>>,
    like: &GenerateRequest,
    sides: &[u32],
) -> Option<f64> {
    let scales = sides.len() as u32;
    let is_plain = |seen: &Seen| {
        let request = seen.request;
        let fits = request.plan.validate(scales).is_ok();
        fits && request.explore.is_none() && request.model == like.model
    };
    let (as_many, others): (Vec<_>, Vec<_>) =
        seen.filter(is_plain).partition(|seen| seen.request.count == like.count);
    let seen = if as_many.is_empty() { others } else { as_many };
    let share = |of: &Seen| f64::from(like.count) / f64::from(of.request.count.max(1));
    let newest = seen.first()?;
    let frame_ms = newest.frame_ms(scales) * share(newest);
    let work = seen.iter().take(JOBS).flat_map(|of| {
        let share = share(of);
        of.work(sides).into_iter().map(move |(work, ms)| (work, ms * share))
    });
    let (pass_ms, token_ms) = prices(&work.collect::<Vec<_>>(), sides)?;
    let Work { passes, tokens } = Work::of_plan(&like.plan, sides);
    Some(passes * pass_ms + tokens * token_ms + frames(like, scales) as f64 * frame_ms)
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
    let Some(time) = number_of(typed).filter(|time| *time > 0.0) else {
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
    use var_dd_protocol::{Guidance, JobEvent, Timings};

    use super::*;
    use crate::state::job::tests::{job, request, two_steps};

    const SIDES: [u32; 4] = [1, 2, 3, 4];

    fn one_step() -> Plan {
        Plan::FewStep { t_list: vec![0], loss_split_t: 2 }
    }

    fn teacher() -> Plan {
        Plan::Teacher { guidance: Guidance { cfg: 2.0, top_k: 0, top_p: 0.0 } }
    }

    /// A finished job of a machine where a pass costs 5 ms, a token 1 ms and a frame 2 ms.
    fn finished(plan: Plan, live: bool) -> Job {
        let mut job = job(plan.clone(), 1);
        let (passes, mut at) = (plan.passes(4), 100.0);
        let mut transformer_ms = 0.0;
        for (pass, &of) in (0..).zip(&passes) {
            let ms = 5.0 + Work::of_pass(&of, &plan, &SIDES).tokens;
            if live {
                let seq = u64::from(pass) * 2;
                let passes = passes.len() as u32;
                job.event(seq, JobEvent::PassBegan { pass, of, passes, at_ms: at });
                job.event(seq + 1, JobEvent::PassEnded { pass, at_ms: at + ms });
            }
            transformer_ms += ms;
            at += ms;
        }
        let last_frame_ms = at + 2.0 * plan.frames(4).len() as f64;
        let timings = Timings {
            queue_ms: 100.0,
            transformer_ms,
            decode_ms: 1.0,
            first_frame_ms: 110.0,
            last_frame_ms,
        };
        job.event(99, JobEvent::Finished { timings });
        job
    }

    fn cost(jobs: &[&Job], like: &GenerateRequest) -> Option<f64> {
        estimate_ms(jobs.iter().filter_map(|job| Seen::of_job(job)), like, &SIDES)
    }

    #[test]
    fn passes_that_were_seen_price_all_plans() {
        // 30 tokens in one pass; 30 and 25 in two; 60 with guidance in four.
        let exact = [(one_step(), 35.0 + 8.0), (two_steps(), 65.0 + 12.0)];
        for (plan, ms) in exact {
            let estimate = cost(&[&finished(teacher(), true)], &request(plan, 1)).unwrap();
            assert!((estimate - ms).abs() < 0.01, "{estimate} for {ms}");
        }
        // Of two kinds of jobs from before a reload, too.
        let before = [finished(one_step(), false), finished(teacher(), false)];
        let own: Vec<_> = before.iter().map(Own::of).collect();
        let seen = own.iter().filter_map(Seen::of_own);
        let estimate = estimate_ms(seen, &request(two_steps(), 1), &SIDES).unwrap();
        assert!((estimate - (65.0 + 2.0 * 6.0)).abs() < 0.01, "{estimate}");
    }

    #[test]
    fn one_kind_of_plan_never_makes_the_teacher_look_as_fast_as_one_step() {
        for live in [true, false] {
            let jobs = [&finished(one_step(), live)];
            let same = cost(&jobs, &request(one_step(), 1)).unwrap();
            assert!((same - 43.0).abs() < 0.01, "{same}");
            let slower = cost(&jobs, &request(teacher(), 1)).unwrap();
            assert!(slower > 1.5 * same, "{slower} and {same}");
        }
    }

    #[test]
    fn more_pictures_are_priced_by_the_picture_until_as_many_were_drawn() {
        let alone = finished(two_steps(), true);
        let mut several = alone.clone();
        several.about.request.count = 3;
        let three = request(two_steps(), 3);
        assert_eq!(cost(&[&alone], &three).map(f64::round), Some(3.0 * 77.0));
        assert_eq!(cost(&[&alone, &several], &three).map(f64::round), Some(77.0));
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
        assert_eq!(cost(&[], &request(one_step(), 1)), None);
        let other = GenerateRequest { model: Some("other".into()), ..request(one_step(), 1) };
        assert_eq!(cost(&[&finished(one_step(), true)], &other), None);
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
