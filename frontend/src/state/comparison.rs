//! Plans side by side: which runs are drawn one after the other, what they took, and what is shown
//! at a time since each began.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use var_dd_protocol::{JobId, Plan, Timings};

use super::{
    job::{Job, TimePart, parts_of_drawing},
    timeline::Timeline,
};

/// Runs of each plan when a median is asked for.
pub(crate) const RUNS: usize = 5;

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The first run of a plan is slower than all others; it is not measured.
    WarmUp,
    /// It is shown and measured.
    Show,
    /// It is measured once more.
    Repeat,
}

/// One run of one plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) column: usize,
    pub(crate) purpose: Purpose,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Finished(JobId, Timings),
    /// It was refused, failed or was stopped.
    Failed,
}

/// What a column shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shown {
    /// What comes of the request of this tag.
    Asked(u32),
    /// A job from before the page was loaded or left.
    Kept(JobId),
}

/// A comparison as a tab remembers it: by its address, with the job and the times of each plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) address: String,
    pub(crate) columns: Vec<(JobId, Vec<Timings>)>,
}

/// Comparisons that a tab remembers, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct KeptOnes(Vec<Kept>);

impl KeptOnes {
    /// With another one, in place of the same as it was before.
    pub(crate) fn with(mut self, kept: Kept) -> Self {
        const MOST: usize = 6;
        self.0.retain(|other| other.address != kept.address);
        self.0.push(kept);
        let surplus = self.0.len().saturating_sub(MOST);
        self.0.drain(..surplus);
        self
    }

    /// The one of an address.
    pub(crate) fn of(&self, address: &str) -> Option<&Kept> {
        self.0.iter().find(|kept| kept.address == address)
    }
}

/// How far a run is that is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarmUp {
    /// It is under way.
    Runs,
    /// It is over, and the run that counts is not yet asked for.
    Done,
}

/// One plan and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) plan: Plan,
    /// The plan in words.
    pub(crate) name: String,
    /// What is shown, once it was asked for.
    pub(crate) shown: Option<Shown>,
    /// Whether that was only asked for to warm up, and how far it is.
    pub(crate) warm_up: Option<WarmUp>,
    /// Times of the runs that were measured.
    times: Vec<Timings>,
}

/// What the run in the middle took, with the least and the most, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Column {
    /// How many runs were measured.
    pub(crate) fn runs(&self) -> usize {
        self.times.len()
    }

    /// From the device to the last picture.
    pub(crate) fn total_ms(&self) -> Option<Spread> {
        self.spread(drawing_ms)
    }

    /// The parts of that: those of the run in the middle, so that they make its whole, with the
    /// least and the most of all runs.
    pub(crate) fn parts_ms(&self) -> Option<[(TimePart, Spread); 3]> {
        let part = |at: usize| {
            let (part, _) = parts_of_drawing(self.times.first()?)[at];
            Some((part, self.spread(|timings| parts_of_drawing(timings)[at].1)?))
        };
        Some([part(0)?, part(1)?, part(2)?])
    }

    /// Whether it took longer than another by more than measurements differ by themselves: of
    /// several runs, the fastest of this one was slower than the slowest of the other.
    fn is_slower_than(&self, other: &Self) -> bool {
        let Some((own, others)) = self.total_ms().zip(other.total_ms()) else { return false };
        let is_single = self.runs().min(other.runs()) == 1;
        let noise = if is_single { NOISE_OF_RUNS } else { NOISE_OF_MEDIANS };
        own.median >= others.median * noise && !own.overlaps(&others)
    }

    /// Of the run in the middle by its time in all, or of the two there, with the least and the
    /// most of all runs.
    fn spread(&self, of: impl Fn(&Timings) -> f64) -> Option<Spread> {
        let mut runs: Vec<&Timings> = self.times.iter().collect();
        runs.sort_by(|a, b| drawing_ms(a).total_cmp(&drawing_ms(b)));
        let middle = [runs.get(runs.len().checked_sub(1)? / 2)?, runs.get(runs.len() / 2)?];
        let all = || self.times.iter().map(&of);
        Some(Spread {
            median: middle.into_iter().map(|run| of(run)).sum::<f64>() / 2.0,
            least: all().reduce(f64::min)?,
            most: all().reduce(f64::max)?,
        })
    }
}

impl Spread {
    fn overlaps(&self, other: &Self) -> bool {
        self.least <= other.most && other.least <= self.most
    }
}

fn drawing_ms(timings: &Timings) -> f64 {
    (timings.last_frame_ms - timings.queue_ms).max(0.0)
}

/// Plans that are drawn one after the other, so that none takes time from another.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Comparing {
    pub(crate) columns: Vec<Column>,
    todo: VecDeque<Run>,
    running: Option<(Run, u32)>,
    /// Jobs that nobody is to see again.
    spent: Vec<JobId>,
}

impl Comparing {
    /// Plans with their names. Each is warmed up first: whatever was drawn before, the server may
    /// have begun anew since.
    pub(crate) fn new(plans: Vec<(Plan, String)>) -> Self {
        let todo = [Purpose::WarmUp, Purpose::Show].into_iter();
        let all = 0..plans.len();
        let todo = todo.flat_map(|purpose| all.clone().map(move |column| Run { column, purpose }));
        let todo = todo.collect();
        let columns = plans.into_iter().map(|(plan, name)| Column {
            plan,
            name,
            shown: None,
            warm_up: None,
            times: Vec::new(),
        });
        Self { columns: columns.collect(), todo, running: None, spent: Vec::new() }
    }

    /// As it was kept, with nothing more to draw.
    pub(crate) fn of_kept(plans: Vec<(Plan, String)>, kept: Kept) -> Self {
        let columns = plans.into_iter().zip(kept.columns).map(|((plan, name), (job, times))| {
            Column { plan, name, shown: Some(Shown::Kept(job)), warm_up: None, times }
        });
        Self { columns: columns.collect(), ..Self::default() }
    }

    /// What a tab remembers of it once there is nothing more to draw; `job_of` says which job a
    /// column shows.
    pub(crate) fn kept(
        &self,
        address: &str,
        job_of: impl Fn(&Shown) -> Option<JobId>,
    ) -> Option<Kept> {
        let is_whole = self.is_over() && self.columns.iter().all(|column| column.runs() > 0);
        let columns = self
            .columns
            .iter()
            .filter(|_| is_whole)
            .map(|column| Some((job_of(column.shown.as_ref()?)?, column.times.clone())));
        let columns: Vec<_> = columns.collect::<Option<_>>()?;
        is_whole.then(|| Kept { address: address.to_owned(), columns })
    }

    /// How often the plan that was measured most was.
    pub(crate) fn most_runs(&self) -> usize {
        self.columns.iter().map(Column::runs).max().unwrap_or(0)
    }

    /// With more runs of every plan, in turn, until each was measured [`RUNS`] times, or as often
    /// again where that was done.
    pub(crate) fn repeated(mut self) -> Self {
        let until = (self.most_runs() + 1).next_multiple_of(RUNS);
        for round in 0..until {
            for (column, of) in self.columns.iter().enumerate() {
                if !of.times.is_empty() && of.times.len() + round < until {
                    self.todo.push_back(Run { column, purpose: Purpose::Repeat });
                }
            }
        }
        self
    }

    /// What is to be asked for now; nothing while a run is under way.
    pub(crate) fn next(&self) -> Option<Run> {
        self.todo.front().copied().filter(|_| self.running.is_none())
    }

    /// The run that is under way, with the tag of its request.
    pub(crate) fn running(&self) -> Option<(Run, u32)> {
        self.running
    }

    /// Whether there is nothing more to draw.
    pub(crate) fn is_over(&self) -> bool {
        self.running.is_none() && self.todo.is_empty()
    }

    /// The next run was asked for.
    pub(crate) fn asked(mut self, tag: u32) -> Self {
        if let Some(run) = self.todo.pop_front() {
            if run.purpose != Purpose::Repeat {
                let column = &mut self.columns[run.column];
                column.shown = Some(Shown::Asked(tag));
                column.warm_up = (run.purpose == Purpose::WarmUp).then_some(WarmUp::Runs);
            }
            self.running = Some((run, tag));
        }
        self
    }

    /// The run under way ended. A plan that fails once is not tried again.
    pub(crate) fn ended(mut self, outcome: Outcome) -> Self {
        let Some((run, _)) = self.running.take() else { return self };
        match outcome {
            Outcome::Finished(job, timings) => {
                let column = &mut self.columns[run.column];
                match run.purpose {
                    Purpose::WarmUp => column.warm_up = Some(WarmUp::Done),
                    Purpose::Show | Purpose::Repeat => column.times.push(timings),
                }
                if run.purpose != Purpose::Show {
                    self.spent.push(job);
                }
            }
            Outcome::Failed => {
                self.columns[run.column].warm_up = None;
                self.todo.retain(|other| other.column != run.column);
            }
        }
        self
    }

    /// The server has no room for the run under way just now: it is to be asked for again.
    pub(crate) fn put_back(mut self) -> Self {
        if let Some((run, _)) = self.running.take() {
            if run.purpose != Purpose::Repeat {
                let column = &mut self.columns[run.column];
                (column.shown, column.warm_up) = (None, None);
            }
            self.todo.push_front(run);
        }
        self
    }

    /// Nothing more is wanted.
    pub(crate) fn stopped(mut self) -> Self {
        self.todo.clear();
        self
    }

    /// Jobs that were drawn to be measured and not to be seen; they are handed out once.
    pub(crate) fn without_spent(mut self) -> (Self, Vec<JobId>) {
        let spent = std::mem::take(&mut self.spent);
        (self, spent)
    }

    /// Whether there are such jobs.
    pub(crate) fn has_spent(&self) -> bool {
        !self.spent.is_empty()
    }
}

/// What is no further apart than this is within what two runs of one plan differ by, when each was
/// run once.
const NOISE_OF_RUNS: f64 = 1.1;
/// The same of the medians of several runs.
const NOISE_OF_MEDIANS: f64 = 1.05;

/// How plans stand to each other by their time in all.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing<'a> {
    /// The fastest, and those that the measurement does not tell from it.
    pub(crate) fastest: Vec<&'a str>,
    /// The others with how many times as fast as each the fastest was, nearest first.
    pub(crate) slower: Vec<(&'a str, f64)>,
    /// Whether the runs of those that are not told apart overlap.
    pub(crate) overlap: bool,
}

impl<'a> Standing<'a> {
    /// Of all plans that were measured; nothing while there are fewer than two.
    pub(crate) fn of(columns: &'a [Column]) -> Option<Self> {
        let measured =
            columns.iter().filter_map(|column| Some((column, column.total_ms()?.median)));
        let mut measured: Vec<_> = measured.collect();
        measured.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        let &(first, first_ms) = measured.first().filter(|_| measured.len() > 1)?;
        let overlap = |column: &Column| {
            let are_several = column.runs().min(first.runs()) > 1;
            let both = column.total_ms().zip(first.total_ms());
            are_several && both.is_some_and(|(one, other)| one.overlaps(&other))
        };
        let mut standing = Self { fastest: Vec::new(), slower: Vec::new(), overlap: false };
        for (column, ms) in measured {
            if column.is_slower_than(first) {
                standing.slower.push((&column.name, ms / first_ms.max(0.01)));
            } else {
                standing.fastest.push(&column.name);
                standing.overlap |= !std::ptr::eq(column, first) && overlap(column);
            }
        }
        Some(standing)
    }

    /// What can come of plans that are not measured yet: one ahead of all, all alike or not told
    /// apart, and two not told apart with the others behind them.
    pub(crate) fn possible(columns: &'a [Column]) -> [Self; 4] {
        let mut names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        // Whoever is first may be named twice.
        names.sort_by_key(|name| std::cmp::Reverse(name.chars().count()));
        let behind = names.iter().skip(1).map(|&name| (name, 99.9));
        let ahead = Self {
            fastest: names.iter().take(1).copied().collect(),
            slower: behind.collect(),
            overlap: false,
        };
        let (two, others) = names.split_at(names.len().min(2));
        let mixed = Self {
            fastest: two.to_vec(),
            slower: others.iter().map(|&name| (name, 99.9)).collect(),
            overlap: true,
        };
        let alike = Self { fastest: names, slower: Vec::new(), overlap: false };
        let unclear = Self { overlap: true, ..alike.clone() };
        [ahead, alike, unclear, mixed]
    }
}

/// Milliseconds from the start of a job on the device to each tile; absent where a tile is not
/// drawn.
fn since_start(job: &Job, timeline: &Timeline) -> Vec<Option<f64>> {
    let frames = timeline.tiles.iter().map(|tile| tile.frame.as_ref());
    frames.map(|frame| frame.map(|frame| job.drawn_after_ms(frame))).collect()
}

/// The tile that a job had come to `ms` after it began on the device.
pub(crate) fn tile_at(job: &Job, timeline: &Timeline, ms: f64) -> Option<usize> {
    let times = since_start(job, timeline);
    (0..times.len()).rfind(|&tile| times[tile].is_some_and(|drawn| drawn <= ms))
}

/// The times at which any of the jobs shows something new, in order.
pub(crate) fn moments<'a>(jobs: impl Iterator<Item = &'a Job>) -> Vec<f64> {
    let times = jobs.flat_map(|job| since_start(job, &Timeline::of(job, None)));
    let mut moments: Vec<f64> = times.flatten().collect();
    moments.sort_by(f64::total_cmp);
    moments.dedup();
    moments
}

/// The moment `by` steps from the one that `ms` has come to, at most the first or the last.
pub(crate) fn stepped(moments: &[f64], ms: f64, by: isize) -> f64 {
    let here = moments.partition_point(|&moment| moment <= ms);
    // Before the first moment one step on leads to it.
    let at = here.saturating_add_signed(by).clamp(1, moments.len().max(1));
    moments.get(at - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::JobEvent;

    use super::*;
    use crate::state::{
        job::{
            Picture,
            tests::{header, job, two_steps},
        },
        words,
    };

    fn timings(transformer_ms: f64) -> Timings {
        let last_frame_ms = 100.0 + 2.0 * transformer_ms;
        Timings {
            queue_ms: 100.0,
            transformer_ms,
            decode_ms: transformer_ms / 2.0,
            last_frame_ms,
            ..Timings::default()
        }
    }

    fn comparing(plans: usize) -> Comparing {
        Comparing::new(vec![(two_steps(), "2 steps".to_owned()); plans])
    }

    /// Draws everything; the runs in order.
    fn drawn(mut comparing: Comparing) -> (Comparing, Vec<Run>) {
        let mut runs = Vec::new();
        while let Some(run) = comparing.next() {
            runs.push(run);
            let number = runs.len() as u32;
            comparing = comparing.asked(number);
            assert_eq!((comparing.next(), comparing.running()), (None, Some((run, number))));
            let job = JobId::from_bits(number.into());
            comparing = comparing.ended(Outcome::Finished(job, timings(f64::from(number))));
        }
        (comparing, runs)
    }

    #[test]
    fn plans_are_warmed_up_before_anything_is_measured() {
        let (comparing, runs) = drawn(comparing(2));
        let purposes: Vec<_> = runs.iter().map(|run| (run.column, run.purpose)).collect();
        assert_eq!(
            purposes,
            [(0, Purpose::WarmUp), (1, Purpose::WarmUp), (0, Purpose::Show), (1, Purpose::Show)]
        );
        assert!(comparing.is_over());
        let columns = comparing.columns.iter();
        assert_eq!(columns.map(network_ms).collect::<Vec<_>>(), [3.0, 4.0].map(Some));
        assert_eq!(comparing.columns[0].shown, Some(Shown::Asked(3)));
        let (comparing, spent) = comparing.without_spent();
        assert_eq!(spent, [JobId::from_bits(1), JobId::from_bits(2)]);
        assert!(!comparing.has_spent());
    }

    #[test]
    fn repeated_runs_take_turns_and_give_a_median() {
        let (comparing, _) = drawn(comparing(2));
        let shown: Vec<_> = comparing.columns.iter().map(|column| column.shown.clone()).collect();
        let (comparing, runs) = drawn(comparing.repeated());
        assert_eq!(runs.iter().map(|run| run.column).collect::<Vec<_>>(), [0, 1].repeat(RUNS - 1));
        for (column, shown) in comparing.columns.iter().zip(shown) {
            assert_eq!((column.runs(), column.shown.clone()), (RUNS, shown), "what is shown stays");
        }
        // Run 3 after the warm-ups, then 1, 3, 5 and 7 of the repeats.
        let parts = comparing.columns[0].parts_ms().unwrap();
        assert_eq!(
            parts[0],
            (TimePart::Transformer, Spread { median: 3.0, least: 1.0, most: 7.0 })
        );
        assert_eq!(parts[1].1.median, 1.5);
        assert_eq!(comparing.columns[0].total_ms().unwrap().median, 6.0);
        let (again, _) = drawn(comparing.repeated());
        assert_eq!(again.most_runs(), 2 * RUNS, "as often again");
    }

    #[test]
    fn a_comparison_is_kept_once_it_is_whole_with_its_jobs_and_times() {
        let job = |shown: &Shown| match shown {
            Shown::Asked(tag) => Some(JobId::from_bits((*tag).into())),
            Shown::Kept(job) => Some(job.clone()),
        };
        let started = comparing(2);
        assert_eq!(started.kept("c/1", job), None, "there is nothing yet");
        let (whole, _) = drawn(started);
        let (measured, _) = drawn(whole.repeated());
        let kept = measured.kept("c/1", job).unwrap();
        let plans = measured.columns.iter();
        let plans = plans.map(|column| (column.plan.clone(), column.name.clone())).collect();
        let again = Comparing::of_kept(plans, kept.clone());
        assert!(again.is_over());
        assert_eq!(again.kept("c/1", job), Some(kept.clone()));
        let totals = |of: &Comparing| of.columns.iter().map(Column::total_ms).collect::<Vec<_>>();
        assert_eq!(totals(&again), totals(&measured));

        let text = serde_json::to_string(&KeptOnes::default().with(kept.clone())).unwrap();
        let read: KeptOnes = serde_json::from_str(&text).unwrap();
        assert_eq!((read.of("c/1"), read.of("c/2")), (Some(&kept), None));
        let many = (0..9)
            .fold(read, |all, at| all.with(Kept { address: format!("c/{at}"), ..kept.clone() }));
        assert_eq!((many.of("c/1"), many.of("c/8").is_some(), many.0.len()), (None, true, 6));
    }

    #[test]
    fn a_run_that_the_server_has_no_room_for_comes_next() {
        let asked = comparing(2).asked(1).put_back();
        assert_eq!(asked.next(), Some(Run { column: 0, purpose: Purpose::WarmUp }));
        assert_eq!((asked.columns[0].shown.clone(), asked.columns[0].warm_up), (None, None));
        let (drawn, runs) = drawn(asked);
        assert_eq!((runs.len(), drawn.most_runs()), (4, 1));
    }

    #[test]
    fn a_plan_that_fails_does_not_hold_up_the_others() {
        let comparing = comparing(2).asked(1).ended(Outcome::Failed);
        assert_eq!(comparing.next(), Some(Run { column: 1, purpose: Purpose::WarmUp }));
        let (comparing, _) = drawn(comparing);
        assert_eq!(comparing.columns[0].parts_ms(), None);
        assert_eq!(comparing.columns[1].runs(), 1);
        assert!(comparing.repeated().stopped().is_over());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let column = Column {
            plan: two_steps(),
            name: String::new(),
            shown: None,
            warm_up: None,
            times: [4.0, 1.0, 2.0, 9.0].map(timings).to_vec(),
        };
        assert_eq!(network_ms(&column), Some(3.0));
    }

    #[test]
    fn the_parts_that_are_told_make_the_whole() {
        let run = |transformer_ms: f64, decode_ms: f64, last_frame_ms: f64| Timings {
            transformer_ms,
            decode_ms,
            last_frame_ms,
            ..Timings::default()
        };
        // The medians of the parts, each by itself, would make 7 of 13.
        let times = [run(1.0, 9.0, 12.0), run(9.0, 1.0, 13.0), run(3.0, 3.0, 20.0)];
        for count in 1..=times.len() {
            let times = times[..count].to_vec();
            let column = Column { times, ..took("1 step", &[]) };
            let parts = column.parts_ms().unwrap();
            let sum: f64 = parts.iter().map(|(_, spread)| spread.median).sum();
            assert_eq!(sum, column.total_ms().unwrap().median, "{count} runs");
            assert!(parts.iter().all(|(_, spread)| spread.median >= spread.least));
            assert!(parts.iter().all(|(_, spread)| spread.median <= spread.most));
        }
    }

    #[test]
    fn a_column_says_whether_it_is_only_warmed_up() {
        let warm_up = |comparing: &Comparing| comparing.columns[0].warm_up;
        let comparing = comparing(1);
        assert_eq!(warm_up(&comparing), None, "before it began");
        let comparing = comparing.asked(1);
        assert_eq!(warm_up(&comparing), Some(WarmUp::Runs));
        assert_eq!(warm_up(&comparing.clone().ended(Outcome::Failed)), None);
        let comparing = comparing.ended(Outcome::Finished(JobId::from_bits(1), timings(1.0)));
        assert_eq!(warm_up(&comparing), Some(WarmUp::Done), "until the run that counts");
        assert_eq!(warm_up(&comparing.asked(2)), None);
    }

    fn network_ms(column: &Column) -> Option<f64> {
        column.parts_ms().map(|parts| parts[0].1.median)
    }

    /// A column of runs that took so long in all.
    fn took(name: &str, all_ms: &[f64]) -> Column {
        let times = all_ms.iter().map(|ms| timings(ms / 2.0));
        let (plan, name) = (two_steps(), name.to_owned());
        Column { plan, name, shown: None, warm_up: None, times: times.collect() }
    }

    #[test]
    fn the_fastest_is_told_with_how_many_times_as_fast_it_was() {
        let told = |columns: &[Column]| words::standing(&Standing::of(columns).unwrap());
        let (fast, slow) = (took("1 step", &[100.0]), took("2 steps", &[184.0]));
        assert_eq!(told(&[slow.clone(), fast.clone()]), "1 step was 1.8× as fast as 2 steps.");
        let slowest = took("teacher, 6 steps", &[1230.0]);
        assert_eq!(
            told(&[slowest, slow, fast.clone()]),
            "1 step was the fastest: 1.8× as fast as 2 steps, 12× as fast as “teacher, 6 steps”."
        );
        assert_eq!(Standing::of(&[fast, took("2 steps", &[])]), None, "one alone");
    }

    #[test]
    fn what_lies_within_the_noise_is_called_equally_fast() {
        let told = |columns: &[Column]| words::standing(&Standing::of(columns).unwrap());
        let once = [took("student", &[108.0]), took("teacher", &[100.0])];
        assert_eq!(told(&once), "Teacher and student were about equally fast.");
        let close = [took("student", &[102.0, 103.0]), took("teacher", &[100.0, 101.0])];
        assert_eq!(told(&close), "Teacher and student were about equally fast.");
        // The same distance is told where many runs agree on it.
        let often = |ms: f64| [ms, ms + 1.0, ms - 1.0, ms, ms + 2.0];
        let steady = [took("student", &often(108.0)), took("teacher", &often(100.0))];
        assert_eq!(told(&steady), "Teacher was 1.1× as fast as student.");
        let three = [took("a", &[100.0]), took("b", &[105.0]), took("c", &[300.0])];
        assert_eq!(told(&three), "A and b were about equally fast, and 3.0× as fast as c.");
    }

    #[test]
    fn where_runs_overlap_no_difference_is_told_however_far_the_medians_are_apart() {
        let told = |columns: &[Column]| words::standing(&Standing::of(columns).unwrap());
        let wide = [
            took("student", &[90.0, 195.0, 210.0, 230.0, 240.0]),
            took("teacher", &[80.0, 90.0, 100.0, 110.0, 120.0]),
        ];
        assert_eq!(
            told(&wide),
            "No clear difference between teacher and student: their runs overlap."
        );
        let three = [wide.to_vec(), vec![took("c", &[300.0, 301.0])]].concat();
        assert_eq!(
            told(&three),
            "No clear difference between teacher and student: their runs overlap. Teacher was \
             3.0× as fast as c."
        );
    }

    fn two_frames() -> Job {
        let mut job = job(two_steps(), 1);
        job.frame(1, &header(0, (0, 0), 120.0), Picture::at("a"), 0.0);
        job.frame(2, &header(0, (0, 1), 150.0), Picture::at("b"), 0.0);
        let timings = Timings { queue_ms: 100.0, ..Timings::default() };
        job.event(3, JobEvent::Finished { timings });
        job
    }

    #[test]
    fn waiting_in_the_queue_is_not_counted() {
        let job = two_frames();
        let timeline = Timeline::of(&job, None);
        let tiles = [19.0, 20.0, 49.0, 50.0, 999.0].map(|ms| tile_at(&job, &timeline, ms));
        assert_eq!(tiles, [None, Some(0), Some(0), Some(1), Some(1)]);
    }

    #[test]
    fn steps_lead_from_one_change_to_the_next_and_stop_at_the_ends() {
        let job = two_frames();
        let moments = moments([&job, &job].into_iter());
        assert_eq!(moments, [20.0, 50.0]);
        for (ms, by, expected) in [
            (0.0, 1, 20.0),
            (20.0, 1, 50.0),
            (30.0, 1, 50.0),
            (50.0, 1, 50.0),
            (50.0, -1, 20.0),
            (20.0, -1, 20.0),
            (99.0, -1, 20.0),
        ] {
            assert_eq!(stepped(&moments, ms, by), expected, "{ms} {by}");
        }
        assert_eq!(stepped(&[], 5.0, 1), 0.0);
    }
}
