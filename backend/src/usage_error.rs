//! Requests that cannot be met as typed.

/// A request that cannot be met as typed: a flag out of bounds, flags that contradict each other, a
/// name that the model does not have. The program ends with code 2, as for an unknown flag.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
