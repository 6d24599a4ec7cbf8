//! Plans side by side, in step by the time since each began.

use super::{job::Job, timeline::Timeline};

/// Milliseconds from the start of a job on the device to each tile; absent where a tile is not
/// drawn.
fn since_start(job: &Job, timeline: &Timeline) -> Vec<Option<f64>> {
    let queue_ms = job.timings.map_or(0.0, |timings| timings.queue_ms);
    let since = |at_ms: f64| (at_ms - queue_ms).max(0.0);
    timeline.tiles.iter().map(|tile| tile.frame.as_ref().map(|frame| since(frame.at_ms))).collect()
}

/// The tile that a job had come to `ms` after it began on the device.
pub(crate) fn tile_at(job: &Job, timeline: &Timeline, ms: f64) -> Option<usize> {
    let times = since_start(job, timeline);
    (0..times.len()).rfind(|&tile| times[tile].is_some_and(|drawn| drawn <= ms))
}

/// Milliseconds from the start of a job on the device to its last tile.
pub(crate) fn length_ms(job: &Job) -> f64 {
    since_start(job, &Timeline::of(job, None)).into_iter().flatten().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::{JobEvent, Timings};

    use super::*;
    use crate::state::job::{
        Picture,
        tests::{header, job, two_steps},
    };

    #[test]
    fn waiting_in_the_queue_is_not_counted() {
        let mut job = job(two_steps(), 1);
        job.frame(1, &header(0, (0, 0), 120.0), Picture::at("a"), 0.0);
        job.frame(2, &header(0, (0, 1), 150.0), Picture::at("b"), 0.0);
        let timings = Timings { queue_ms: 100.0, ..Timings::default() };
        job.event(3, JobEvent::Finished { timings });
        let timeline = Timeline::of(&job, None);
        let tiles = [19.0, 20.0, 49.0, 50.0, 999.0].map(|ms| tile_at(&job, &timeline, ms));
        assert_eq!(tiles, [None, Some(0), Some(0), Some(1), Some(1)]);
        assert_eq!(length_ms(&job), 50.0);
    }
}
