//! Errors as people and programs see them.

use serde::{Deserialize, Serialize};

/// Stable name of an error. Programs match on it; the message is for people and may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The message is not one of the protocol.
    MalformedMessage,
    /// The body of an HTTP request is not what it should be.
    MalformedBody,
    /// The other side speaks another version.
    ProtocolVersion,
    /// A message or body is over the size limit.
    TooLarge,
    /// No model of this name is loaded.
    UnknownModel,
    /// The class number is not one of the model's.
    ClassOutOfRange,
    /// The step plan cannot run on the model.
    InvalidPlan,
    /// The plan needs a teacher and the model has none.
    NoTeacher,
    /// What the request goes on from, or lies between, cannot be: seeds by scale, a blend, gains,
    /// a mask, a parent. The error names the field.
    InvalidExplore,
    /// A picture that was sent is none, or is out of bounds.
    InvalidPicture,
    /// Number of pictures out of bounds.
    CountOutOfRange,
    /// Seed out of bounds.
    SeedOutOfRange,
    /// Deadline out of bounds.
    DeadlineOutOfRange,
    /// The deadline passed before all was drawn.
    DeadlinePassed,
    /// Another request was made under the same key.
    KeyReused,
    /// The queue is full.
    QueueFull,
    /// Too many requests from one place.
    RateLimited,
    /// Too many connections, or jobs watched on one.
    TooManyConnections,
    /// The address is one of the server's, but not with this HTTP method.
    MethodNotAllowed,
    /// The other side took too long.
    Timeout,
    /// No job or result of this name (any more).
    NotFound,
    /// The owner's token is missing or wrong.
    NotOwner,
    /// The request comes from a page of another origin.
    OriginRefused,
    /// The job is in a state in which this cannot be done.
    Conflict,
    /// The server is shutting down.
    ShuttingDown,
    /// The device ran out of memory.
    OutOfMemory,
    /// The result could not be kept.
    StorageFailed,
    /// A fault of the server.
    Internal,
}

/// An error: body of every HTTP error, and part of messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[error("{message}")]
pub struct ErrorBody {
    /// Stable name.
    pub code: ErrorCode,
    /// What was wrong, the value, and what to do.
    pub message: String,
    /// Seconds after which to try again, where trying again helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
    /// Field of the request that is wrong, as `explore.gains`, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl ErrorBody {
    /// An error that trying again does not mend.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_s: None, field: None }
    }

    /// The same error with the field of the request that is wrong.
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// The same error with the seconds after which to try again.
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }
}
