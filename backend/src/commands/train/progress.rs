//! How far a stage is: a bar at a terminal, a line now and then in a log.

use std::{
    io::IsTerminal,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use var_dd_engine::train::Watch;

/// How often a log tells the progress.
const LOG_INTERVAL: Duration = Duration::from_secs(20);

/// Shows progress on the error stream.
pub(super) struct Progress {
    terminal: bool,
    bar: Option<ProgressBar>,
    stage: String,
    unit: &'static str,
    total: u64,
    began: Instant,
    /// What was done when this run of the stage began, and is now.
    first: u64,
    done: u64,
    told: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            terminal: std::io::stderr().is_terminal(),
            bar: None,
            stage: String::new(),
            unit: "",
            total: 0,
            began: now,
            first: 0,
            done: 0,
            told: now,
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

/// The figures that a line has room for.
fn words(figures: &[(&str, f64)]) -> String {
    let shown =
        figures.iter().filter(|(name, _)| !["learning_rate", "gradient_norm", "codes_right"].contains(name));
    let shown: Vec<_> =
        shown.take(5).map(|(name, value)| format!("{name} {}", significant(*value))).collect();
    shown.join("  ").replace('_', " ")
}

/// Four significant digits.
fn significant(value: f64) -> String {
    let digits = (3 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 8) as usize;
    format!("{value:.digits$}")
}

impl Watch for Progress {
    fn begin(&mut self, stage: &str, done: u64, total: u64, unit: &'static str) {
        self.stage = stage.to_owned();
        (self.unit, self.total, self.first, self.done) = (unit, total, done, done);
        self.began = Instant::now();
        self.told = self.began;
        if self.terminal {
            let style =
                ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len}, {per_sec}, {eta} left  {msg}");
            let bar = ProgressBar::new(total).with_position(done).with_prefix(stage.to_owned());
            // The template is a constant; without it the bar is merely plainer.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.reset_eta();
            self.bar = Some(bar);
        } else if done > 0 {
            eprintln!("{stage}: goes on after {done} of {total} {unit}");
        }
    }

    fn advance(&mut self, done: u64, figures: &[(&str, f64)]) -> ControlFlow<()> {
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(words(figures));
        } else if self.told.elapsed() >= LOG_INTERVAL {
            self.told = Instant::now();
            let rate = (done - self.first) as f64 / self.began.elapsed().as_secs_f64();
            let left = HumanDuration(Duration::from_secs_f64((self.total - done) as f64 / rate.max(1e-6)));
            let Self { stage, total, unit, .. } = self;
            eprintln!(
                "{stage}: {done}/{total} {unit}, {rate:.2} per second, {left} left  {}",
                words(figures)
            );
        }
        ControlFlow::Continue(())
    }

    fn tell(&mut self, text: &str) {
        self.say(text);
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let (seconds, count) = (self.began.elapsed().as_secs_f64(), self.done - self.first);
        if count > 0 {
            let Self { stage, unit, .. } = self;
            eprintln!("{stage}: {count} {unit} in {seconds:.0} s ({:.2} per second)", count as f64 / seconds);
        } else {
            eprintln!("{}: done already", self.stage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_words() {
        let figures =
            [("loss", 1.23456), ("learning_rate", 0.1), ("held_out_loss", 12345.6), ("x", 0.000123456)];
        assert_eq!(words(&figures), "loss 1.235  held out loss 12346  x 0.0001235");
    }
}
