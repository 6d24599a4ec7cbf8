//! How far a long command is: a bar at a terminal, a line now and then in a log.

use std::{
    cell::{Cell, RefCell},
    io::{IsTerminal, Write, stderr},
    rc::Rc,
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// How often a log tells how many pictures there are.
const PICTURES_INTERVAL: Duration = Duration::from_secs(10);

/// Where progress is shown.
#[derive(Clone)]
pub(super) enum Display {
    /// As a bar on the error stream.
    Terminal,
    /// In lines, one at most in so much time.
    Log { lines: Rc<RefCell<dyn Write>>, interval: Duration },
}

impl Display {
    /// The error stream: a terminal, or else a log that is told so often.
    pub(super) fn of_errors(interval: Duration) -> Self {
        if stderr().is_terminal() {
            Self::Terminal
        } else {
            Self::Log { lines: Rc::new(RefCell::new(stderr())), interval }
        }
    }

    /// Says something of its own.
    pub(super) fn tell(&self, text: &str) {
        // Nobody to tell it to is no reason to stop the work.
        let _ = match self {
            Self::Terminal => writeln!(stderr(), "{text}"),
            Self::Log { lines, .. } => writeln!(lines.borrow_mut(), "{text}"),
        };
    }
}

/// What there is to do.
pub(super) struct Task {
    /// What it is a part of, told before everything else.
    pub(super) stage: Option<String>,
    /// What is counted, as "pictures".
    pub(super) unit: &'static str,
    pub(super) total: u64,
    /// Done by an earlier run, which says nothing about the speed of this one.
    pub(super) before: u64,
}

/// How much of a task is done, at what rate, and how long the rest takes.
pub(super) struct Progress {
    task: Task,
    /// The stage as it is told.
    prefix: String,
    display: Display,
    bar: Option<ProgressBar>,
    began: Instant,
    done: Cell<u64>,
    last_line: Cell<Instant>,
}

impl Progress {
    /// Of `total` pictures, `before` of which were done by an earlier run.
    pub(super) fn of_pictures(total: usize, before: usize) -> Self {
        let task =
            Task { stage: None, unit: "pictures", total: total as u64, before: before as u64 };
        Self::begin(task, Display::of_errors(PICTURES_INTERVAL))
    }

    /// Begins, and says what an earlier run did.
    pub(super) fn begin(task: Task, display: Display) -> Self {
        let prefix = task.stage.as_ref().map(|stage| format!("{stage}: ")).unwrap_or_default();
        let bar = matches!(display, Display::Terminal).then(|| {
            let style = ProgressStyle::with_template("{prefix}{bar:30} {msg}");
            let bar =
                ProgressBar::new(task.total).with_position(task.before).with_prefix(prefix.clone());
            bar.set_message(format!("{}/{} {}", task.before, task.total, task.unit));
            // The template is a constant; without it the bar is merely plainer.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let began = Instant::now();
        let (done, last_line) = (Cell::new(task.before), Cell::new(began));
        let progress = Self { task, prefix, display, bar, began, done, last_line };
        let Task { unit, total, before, .. } = progress.task;
        if before > 0 {
            progress.tell(&progress.named(&format!("goes on after {before} of {total} {unit}")));
        }
        progress
    }

    /// That many more are done.
    pub(super) fn advance(&self, more: usize) {
        self.reach(self.done.get() + more as u64, "");
    }

    /// So many are done, the earlier run's among them; `figures` are shown behind.
    pub(super) fn reach(&self, done: u64, figures: &str) {
        self.done.set(done);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(self.words(figures));
        }
        // The words at the end tell the last of a task, but no figures.
        let worth_a_line = done < self.task.total || !figures.is_empty();
        if let Display::Log { interval, .. } = &self.display
            && worth_a_line
            && self.last_line.get().elapsed() >= *interval
        {
            self.last_line.set(Instant::now());
            self.tell(&self.named(&self.words(figures)));
        }
    }

    fn words(&self, figures: &str) -> String {
        let (done, Task { unit, total, .. }) = (self.done.get(), &self.task);
        let rate = self.rate(self.began.elapsed());
        let seconds = total.saturating_sub(done) as f64 / rate.max(1e-6);
        let left = HumanDuration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        let gap = if figures.is_empty() { "" } else { "  " };
        let rate = rate_in_words(rate);
        format!("{done}/{total} {unit}, {rate}, {left} left{gap}{figures}")
    }

    /// How many of them this run did per second.
    fn rate(&self, took: Duration) -> f64 {
        self.done_now() as f64 / took.as_secs_f64().max(1e-9)
    }

    /// How many of them this run did.
    pub(super) fn done_now(&self) -> u64 {
        self.done.get().saturating_sub(self.task.before)
    }

    /// Words about it, behind its stage.
    pub(super) fn named(&self, words: &str) -> String {
        format!("{}{words}", self.prefix)
    }

    /// Says something of its own.
    pub(super) fn tell(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.display.tell(text)),
            None => self.display.tell(text),
        }
    }

    /// Ends it; says in words what this run did.
    pub(super) fn finish(&self) -> String {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let took = self.began.elapsed();
        let Task { unit, before, .. } = self.task;
        let earlier =
            if before > 0 { format!(" after {before} of an earlier run") } else { String::new() };
        let done = self.done_now();
        if done == 0 {
            let all = if before > 0 {
                format!("all {before} {unit} are there already")
            } else {
                format!("no {unit}")
            };
            return self.named(&all);
        }
        let (seconds, rate) = (took.as_secs_f64(), rate_in_words(self.rate(took)));
        let unit = if done == 1 { unit.trim_end_matches('s') } else { unit };
        self.named(&format!("{done} {unit}{earlier} in {seconds:.1} s ({rate})"))
    }
}

/// A rate in the unit in which it can be read.
fn rate_in_words(per_second: f64) -> String {
    match per_second {
        0.0 => "0 per second".into(),
        rate if rate >= 0.1 => format!("{rate:.2} per second"),
        rate if rate * 60.0 >= 0.1 => format!("{:.2} per minute", rate * 60.0),
        rate => format!("{:.2} per hour", rate * 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(task: Task, interval: Duration) -> (Progress, Rc<RefCell<Vec<u8>>>) {
        let log = Rc::new(RefCell::new(Vec::new()));
        (Progress::begin(task, Display::Log { lines: log.clone(), interval }), log)
    }

    /// The lines, with `#` for what depends on the clock.
    fn timeless(log: &[u8]) -> Vec<String> {
        let part = |part: &str| match (part.strip_suffix(" per second"), part.split_once(" left")) {
            (Some(rate), _) if rate.parse::<f64>().is_ok_and(f64::is_finite) => {
                "# per second".to_owned()
            }
            (_, Some((_, figures))) => format!("# left{figures}"),
            _ => part.to_owned(),
        };
        let line = |line: &str| line.split(", ").map(part).collect::<Vec<_>>().join(", ");
        String::from_utf8_lossy(log).lines().map(line).collect()
    }

    #[test]
    fn a_log_tells_stage_count_rate_time_left_and_figures() {
        let task = Task { stage: Some("vae".into()), unit: "steps", total: 8, before: 2 };
        let (progress, log) = begun(task, Duration::ZERO);
        progress.reach(5, "loss 1.235");
        progress.tell("half of it");
        progress.advance(2);
        progress.reach(8, "loss 0.5");
        let expected = [
            "vae: goes on after 2 of 8 steps",
            "vae: 5/8 steps, # per second, # left  loss 1.235",
            "half of it",
            "vae: 7/8 steps, # per second, # left",
            "vae: 8/8 steps, # per second, # left  loss 0.5",
        ];
        assert_eq!(timeless(&log.borrow()), expected);
        assert_eq!(progress.done_now(), 6);
        let end = progress.finish();
        assert!(end.starts_with("vae: 6 steps after 2 of an earlier run in "), "{end}");
        assert!(end.ends_with(" per second)"), "{end}");
    }

    #[test]
    fn a_log_is_told_now_and_then_and_not_what_the_end_says_anyway() {
        for (interval, expected) in
            [(Duration::MAX, vec![]), (Duration::ZERO, vec!["3/8 pictures, # per second, # left"])]
        {
            let (progress, log) =
                begun(Task { stage: None, unit: "pictures", total: 8, before: 0 }, interval);
            progress.advance(3);
            progress.advance(5);
            assert_eq!(timeless(&log.borrow()), expected);
            assert!(progress.finish().starts_with("8 pictures in "));
        }
    }

    #[test]
    fn however_much_there_is_to_do_something_is_told() {
        let task = Task { stage: None, unit: "steps", total: u64::MAX, before: 0 };
        let (progress, log) = begun(task, Duration::ZERO);
        progress.advance(0);
        assert_eq!(
            timeless(&log.borrow()),
            [format!("0/{} steps, # per second, # left", u64::MAX)]
        );
    }
}
