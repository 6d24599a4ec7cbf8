//! How far the stages are, one after the other.

use std::{ops::ControlFlow, time::Duration};

use var_dd_engine::train::Watch;

use super::super::progress::{Display, Progress, Task};

/// How often a log tells how far a stage is.
const LOG_INTERVAL: Duration = Duration::from_secs(20);

/// Shows the progress of stages on the error stream.
pub(super) struct Stages {
    display: Display,
    /// Of the stage that is at work.
    now: Option<Progress>,
}

impl Stages {
    pub(super) fn new() -> Self {
        Self::on(Display::of_errors(LOG_INTERVAL))
    }

    fn on(display: Display) -> Self {
        Self { display, now: None }
    }
}

/// The figures that a line has room for.
fn words(figures: &[(&str, f64)]) -> String {
    let shown = figures
        .iter()
        .filter(|(name, _)| !["learning_rate", "gradient_norm", "codes_right"].contains(name));
    let shown: Vec<_> =
        shown.take(5).map(|(name, value)| format!("{name} {}", significant(*value))).collect();
    shown.join("  ").replace('_', " ")
}

/// Four significant digits.
fn significant(value: f64) -> String {
    let digits = (3 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 8) as usize;
    format!("{value:.digits$}")
}

impl Watch for Stages {
    fn begin(&mut self, stage: &str, done: u64, total: u64, unit: &'static str) {
        let task = Task { stage: Some(stage.to_owned()), unit, total, before: done };
        self.now = Some(Progress::begin(task, self.display.clone()));
    }

    fn advance(&mut self, done: u64, figures: &[(&str, f64)]) -> ControlFlow<()> {
        if let Some(progress) = &self.now {
            progress.reach(done, &words(figures));
        }
        ControlFlow::Continue(())
    }

    fn tell(&mut self, text: &str) {
        match &self.now {
            Some(progress) => progress.tell(text),
            None => self.display.tell(text),
        }
    }

    fn end(&mut self) {
        if let Some(progress) = self.now.take() {
            let did = progress.finish();
            let nothing = progress.done_now() == 0;
            self.display.tell(&if nothing { progress.named("done already") } else { did });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    #[test]
    fn figures_are_short_words() {
        let figures = [
            ("loss", 1.23456),
            ("learning_rate", 0.1),
            ("held_out_loss", 12345.6),
            ("x", 0.000123456),
        ];
        assert_eq!(words(&figures), "loss 1.235  held out loss 12346  x 0.0001235");
    }

    #[test]
    fn a_log_follows_stage_after_stage() {
        let log = Rc::new(RefCell::new(Vec::new()));
        let mut stages = Stages::on(Display::Log { lines: log.clone(), interval: Duration::ZERO });
        stages.tell("before the first");
        stages.begin("vae", 24, 24, "steps");
        stages.end();
        stages.begin("teacher", 0, 2, "steps");
        let went_on = stages.advance(1, &[("loss", 2.5)]).is_continue();
        stages.tell("within the second");
        let went_on = went_on && stages.advance(2, &[]).is_continue();
        stages.end();
        assert!(went_on);
        let log = String::from_utf8_lossy(&log.borrow()).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(
            lines[..3],
            ["before the first", "vae: goes on after 24 of 24 steps", "vae: done already"]
        );
        assert!(
            lines[3].starts_with("teacher: 1/2 steps, ") && lines[3].ends_with(" left  loss 2.500"),
            "{log}"
        );
        assert_eq!(lines[4], "within the second");
        assert!(lines[5].starts_with("teacher: 2 steps in ") && lines.len() == 6, "{log}");
    }
}
