//! More than one machine: gateways that serve the page, workers that draw, one queue between them.
//!
//! ```text
//! browsers ──► gateway ──┐                            ┌── worker ──► GPU
//! browsers ──► gateway ──┼── NATS JetStream ──────────┼── worker ──► GPU
//!                        │   JOBS    work queue       │
//!                        │   EVENTS  a log per job    │
//!                        │   FRAMES  pictures, memory │
//!                        └── object store ◄───────────┘   results
//! ```
//! A job exists from the first entry of its log on: [`entry`] says what may stand there. Every
//! entry is published with the sequence number that the log must have ended with, so a worker that was
//! taken for dead and comes back is refused, and a job ends once without any lock. [`journal`] is
//! that log, [`results`] what is kept after it, [`gateway`] and [`worker`] the two roles.

mod ask;
pub mod check;
mod connection;
mod entry;
mod failover;
mod followed;
mod gateway;
mod intake;
mod journal;
mod names;
mod reader;
mod recent;
mod results;
mod worker;

use thiserror::Error;
use var_dd_protocol::{ErrorBody, ErrorCode};

pub use self::{
    connection::{ClusterArgs, Connection},
    gateway::{Gateway, GatewayConfig},
    worker::{Worker, WorkerConfig},
};

/// Why the parts between the machines cannot be used.
#[derive(Clone, Debug, Error)]
pub enum ClusterError {
    /// A flag that cannot be.
    #[error("{0}")]
    Flag(String),
    /// The broker says no, or nothing.
    #[error("the broker (NATS) cannot be used: {0}")]
    Broker(String),
    /// The object store says no, or nothing.
    #[error("the object store cannot be used: {0}")]
    Results(String),
    /// What lies there is not what this program writes.
    #[error("{what} cannot be read: {reason}; was it written by another version of var-dd?")]
    Format {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ClusterError {
    fn broker(error: impl std::fmt::Display) -> Self {
        Self::Broker(error.to_string())
    }

    fn results(error: impl std::fmt::Display) -> Self {
        Self::Results(error.to_string())
    }

    fn format(what: impl Into<String>, error: impl std::fmt::Display) -> Self {
        Self::Format { what: what.into(), reason: error.to_string() }
    }
}

impl From<ClusterError> for ErrorBody {
    fn from(error: ClusterError) -> Self {
        // Addresses and answers of the parts behind are for the log.
        tracing::error!(%error, "the cluster failed");
        let message = match error {
            ClusterError::Broker(_) => "the queue cannot be reached at the moment; try again soon",
            ClusterError::Results(_) => "results cannot be reached at the moment; try again soon",
            ClusterError::Flag(_) | ClusterError::Format { .. } => {
                "what was kept cannot be read; whoever runs the servers finds more in their logs"
            }
        };
        Self::new(ErrorCode::StorageFailed, message).retry_after(5)
    }
}
