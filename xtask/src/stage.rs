//! What a chore tells while it works: each stage, what it does, what came out, how long it took.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Runs one stage. `work` returns its value and, in a few words, what came out.
pub(crate) fn stage<T>(
    name: &str,
    doing: &str,
    work: impl FnOnce() -> Result<(T, String)>,
) -> Result<T> {
    eprintln!("{name:>10}  {doing} …");
    let start = Instant::now();
    match work() {
        Ok((value, done)) => {
            eprintln!("{:>10}  {done} ({})", "", seconds(start.elapsed()));
            Ok(value)
        }
        Err(error) => {
            eprintln!("{:>10}  failed ({})", "", seconds(start.elapsed()));
            Err(error)
        }
    }
}

/// A time as people read it: `0.4 s`, `75 s`, `6 min 05 s`.
pub(crate) fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..120 => format!("{whole} s"),
        _ => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_read_them() {
        let told = [400, 75_900, 365_000].map(|ms| seconds(Duration::from_millis(ms)));
        assert_eq!(told, ["0.4 s", "75 s", "6 min 05 s"]);
    }

    #[test]
    fn a_failed_stage_hands_on_its_error() {
        let result: Result<()> = stage("test", "failing", || anyhow::bail!("out of paper"));
        assert_eq!(result.unwrap_err().to_string(), "out of paper");
    }
}
