//! Time as the scheduler counts it: milliseconds since 1970 that never go back.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The wall clock at the start, the monotonic one from then on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    start_unix_ms: f64,
}

impl Clock {
    pub(super) fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_unix_ms: unix.as_secs_f64() * 1000.0 }
    }

    pub(super) fn now_ms(&self) -> f64 {
        self.start_unix_ms + self.start.elapsed().as_secs_f64() * 1000.0
    }
}

/// Rounds to microseconds. Such a number survives JSON exactly whatever the reader, so that a
/// replayed frame has the bytes of the live one.
pub(super) fn milliseconds(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}
