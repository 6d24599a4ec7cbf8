//! Counters and histograms of the scheduler, for `/metrics`.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use var_dd_protocol::{JobState, MediaType, Timings};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EndLabel {
    state: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the values of the label")]
enum End {
    finished,
    failed,
    cancelled,
    expired,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FrameLabel {
    media_type: &'static str,
}

/// What the scheduler counts. Clones share their values.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub(super) accepted: Counter,
    pub(super) ended: Family<EndLabel, Counter>,
    pub(super) queued: Gauge,
    pub(super) running: Gauge,
    pub(super) viewers: Gauge,
    pub(super) frames: Family<FrameLabel, Counter>,
    pub(super) frame_bytes: Counter,
    pub(super) dropped_frames: Counter,
    pub(super) halved_batches: Counter,
    pub(super) batch_pictures: Histogram,
    pub(super) batch: Histogram,
    pub(super) queue: Histogram,
    pub(super) first_frame: Histogram,
    pub(super) last_frame: Histogram,
    pub(super) transformer: Histogram,
    pub(super) decode: Histogram,
    pub(super) encode: Histogram,
    pub(super) keep: Histogram,
}

/// From a millisecond to two minutes.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 18))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            ended: Family::default(),
            queued: Gauge::default(),
            running: Gauge::default(),
            viewers: Gauge::default(),
            frames: Family::default(),
            frame_bytes: Counter::default(),
            dropped_frames: Counter::default(),
            halved_batches: Counter::default(),
            batch_pictures: Histogram::new(exponential_buckets(1.0, 2.0, 8)),
            batch: seconds(),
            queue: seconds(),
            first_frame: seconds(),
            last_frame: seconds(),
            transformer: seconds(),
            decode: seconds(),
            encode: seconds(),
            keep: seconds(),
        }
    }
}

impl Metrics {
    /// A job ended.
    pub(super) fn ended(&self, state: JobState) {
        let state = match state {
            JobState::Finished => End::finished,
            JobState::Failed => End::failed,
            JobState::Cancelled => End::cancelled,
            JobState::Expired => End::expired,
            JobState::Queued | JobState::Running => return,
        };
        self.ended.get_or_create(&EndLabel { state }).inc();
    }

    /// A job finished.
    pub(super) fn finished(&self, timings: &Timings) {
        self.first_frame.observe(timings.first_frame_ms / 1000.0);
        self.last_frame.observe(timings.last_frame_ms / 1000.0);
    }

    /// A frame was encoded.
    pub(super) fn frame(&self, media_type: MediaType, bytes: usize, encode_ms: f64) {
        let media_type = media_type.as_str();
        self.frames.get_or_create(&FrameLabel { media_type }).inc();
        self.frame_bytes.inc_by(bytes as u64);
        self.encode.observe(encode_ms / 1000.0);
    }

    /// Adds everything to the metrics of the server.
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("var_dd");
        registry.register("jobs_accepted", "Jobs accepted", self.accepted.clone());
        registry.register("jobs_ended", "Jobs ended, by final state", self.ended.clone());
        registry.register("jobs_queued", "Jobs waiting", self.queued.clone());
        registry.register("jobs_running", "Jobs on the device or being kept", self.running.clone());
        registry.register("viewers", "Viewers of live jobs", self.viewers.clone());
        registry.register("frames", "Frames encoded", self.frames.clone());
        let (dropped, halved) = (&self.dropped_frames, &self.halved_batches);
        registry.register_with_unit(
            "frame",
            "Size of the frames encoded",
            Unit::Bytes,
            self.frame_bytes.clone(),
        );
        registry.register("frames_dropped", "Frames not sent to slow viewers", dropped.clone());
        registry.register(
            "batches_halved",
            "Batches that the device had no memory for",
            halved.clone(),
        );
        registry.register("batch_pictures", "Pictures per batch", self.batch_pictures.clone());
        for (name, help, histogram) in [
            ("batch", "Time of a batch on the device", &self.batch),
            ("queue", "Time of a job from acceptance to the device", &self.queue),
            (
                "first_frame",
                "Time of a finished job from acceptance to its first frame",
                &self.first_frame,
            ),
            (
                "last_frame",
                "Time of a finished job from acceptance to its last frame",
                &self.last_frame,
            ),
            ("transformer", "Time of a pass in the transformer", &self.transformer),
            ("decode", "Time of the decoder for one scale of a batch", &self.decode),
            ("encode", "Time to encode a frame", &self.encode),
            ("keep", "Time to make the end of a job durable", &self.keep),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
    }
}
