//! How far a long command is.

use std::{
    cell::Cell,
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// How often a log tells the progress.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A bar at a terminal, a line now and then in a log.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    began: Instant,
    /// Done before this run, which says nothing about its speed.
    before: usize,
    total: usize,
    done: Cell<usize>,
    told: Cell<Instant>,
}

impl Progress {
    /// Of `total` pictures, `before` of which were done by an earlier run.
    pub(super) fn new(total: usize, before: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} pictures, {msg}");
            let bar = ProgressBar::new(total as u64).with_position(before as u64);
            // The template is a constant; without it the bar is merely plainer.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        if before > 0 {
            eprintln!("{before} of {total} pictures are there already");
        }
        let began = Instant::now();
        Self { bar, began, before, total, done: Cell::new(before), told: Cell::new(began) }
    }

    /// That many more pictures are done.
    pub(super) fn advance(&self, pictures: usize) {
        let done = self.done.get() + pictures;
        self.done.set(done);
        let rate = (done - self.before) as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
        let left = HumanDuration(Duration::from_secs_f64(self.total.saturating_sub(done) as f64 / rate));
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            bar.set_message(format!("{rate:.2} per second, {left} left"));
        } else if self.told.get().elapsed() >= LOG_INTERVAL && done < self.total {
            self.told.set(Instant::now());
            eprintln!("{done}/{} pictures, {rate:.2} per second, {left} left", self.total);
        }
    }

    /// Ends it; says in words what this run did.
    pub(super) fn finish(&self) -> String {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let took = self.began.elapsed().as_secs_f64();
        let pictures = self.done.get() - self.before;
        let rate = pictures as f64 / took.max(1e-9);
        let before =
            if self.before > 0 { format!(" after {} of an earlier run", self.before) } else { String::new() };
        format!("{pictures} pictures{before} in {took:.1} s ({rate:.2} per second)")
    }
}
