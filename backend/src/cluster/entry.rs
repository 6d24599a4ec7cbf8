//! What stands in the log of a job.

use serde::{Deserialize, Serialize};
use var_dd_protocol::{FrameHeader, JobEvent};

use crate::storage::JobRecord;

/// Version of the format. Raised when an older program would read a newer entry wrongly; fields
/// that it may leave unread do not raise it.
pub(super) const VERSION: u32 = 1;

/// A job as the gateway that accepted it wrote it down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Posted {
    /// Version of the format.
    pub(super) version: u32,
    /// The job.
    pub(super) record: JobRecord,
    /// Jobs ahead of it at that time.
    pub(super) position: u32,
    /// SHA-256 of the request as asked, where the client gave it a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) asked: Option<[u8; 32]>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// How often workers have taken it; 0 before the first time.
    pub(super) attempt: u32,
    /// How many of them were heard of no more once they had begun to draw it.
    pub(super) crashes: u32,
    /// What happened.
    #[serde(flatten)]
    pub(super) what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum What {
    /// A gateway took it; always the first entry.
    Accepted {
        /// The job.
        posted: Box<Posted>,
    },
    /// A worker has it.
    Taken {
        /// Its name.
        worker: String,
    },
    /// Events for viewers, in order.
    Told {
        /// At least one.
        events: Vec<Told>,
    },
    /// The worker gave it back in good order.
    Returned,
    /// Whoever wrote this keeps the end, then tells it. Nobody else may end the job, unless the
    /// writer is taken for dead and a worker begins anew.
    Ending,
    /// It is over, and what is kept of it lies in the object store.
    Ended {
        /// Sequence number of the event.
        seq: u64,
        /// How.
        event: JobEvent,
    },
}

/// One event for viewers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Told {
    /// A picture, which lies in `FRAMES`.
    Frame {
        /// Sequence number among the job's events.
        seq: u64,
        /// What it shows.
        frame: FrameHeader,
    },
    /// Something else.
    Event {
        /// Sequence number among the job's events.
        seq: u64,
        /// What.
        event: JobEvent,
    },
}

impl Entry {
    /// Whether the job waits after this entry: for a worker, or in one for the device.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.what, What::Accepted { .. } | What::Returned | What::Taken { .. })
    }

    /// The entry of a worker that takes the job after this one.
    pub(super) fn taken(&self, worker: &str) -> Self {
        Self {
            attempt: self.attempt + 1,
            // Whoever drew it before has not given it back.
            crashes: self.crashes + u32::from(!self.is_waiting()),
            what: What::Taken { worker: worker.to_owned() },
        }
    }

    /// An entry of the same run.
    pub(super) fn then(&self, what: What) -> Self {
        Self { attempt: self.attempt, crashes: self.crashes, what }
    }
}
