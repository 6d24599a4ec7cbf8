//! What can go wrong with the disk, as people see it.

use std::io;

use sqlx::migrate::MigrateError;
use thiserror::Error;
use var_dd_protocol::{ErrorBody, ErrorCode};

/// Why the data directory cannot be used, or a result not be kept.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The directory cannot be made, read or written.
    #[error(
        "the data directory {directory} cannot be used: {reason}; give another one with --data-dir"
    )]
    Directory {
        /// The directory.
        directory: String,
        /// What the operating system said.
        reason: String,
    },
    /// Another program has the directory.
    #[error(
        "the data directory {directory} is in use by another var-dd; stop that one or give another \
         directory with --data-dir"
    )]
    InUse {
        /// The directory.
        directory: String,
    },
    /// The database was made by a program that knows more.
    #[error(
        "the database in {directory} was made by a newer var-dd ({reason}); use that version or \
         give another directory with --data-dir"
    )]
    Newer {
        /// The directory.
        directory: String,
        /// Which migration.
        reason: String,
    },
    /// What is there cannot be read.
    #[error(
        "{what} is damaged: {reason}; restore it from a backup or move it away to start afresh"
    )]
    Damaged {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No room.
    #[error(
        "the disk of the data directory is full: {0}; free some space or keep fewer results with \
         --keep-results"
    )]
    Full(String),
    /// Anything else that the database says.
    #[error("the database failed: {0}")]
    Database(String),
    /// Anything else that the file system says.
    #[error("a file of pictures could not be written or read: {0}")]
    Pictures(String),
}

impl StoreError {
    /// An error about the directory itself.
    pub(super) fn directory(directory: &std::path::Path, error: &io::Error) -> Self {
        let directory = directory.display().to_string();
        match error.kind() {
            io::ErrorKind::StorageFull => Self::Full(format!("{directory}: {error}")),
            _ => Self::Directory { directory, reason: error.to_string() },
        }
    }

    /// A stored value that is not what this program writes.
    pub(super) fn damaged(what: &str, reason: impl ToString) -> Self {
        Self::Damaged { what: what.to_owned(), reason: reason.to_string() }
    }

    /// An error of a migration in `directory`.
    pub(super) fn migration(directory: &std::path::Path, error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) => Self::Newer {
                directory: directory.display().to_string(),
                reason: error.to_string(),
            },
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self::Database(other.to_string()),
        }
    }
}

/// SQLite's primary result codes that mean something to a person.
mod code {
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const NOT_A_DATABASE: u32 = 26;
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let primary = error
            .as_database_error()
            .and_then(|error| error.code()?.parse::<u32>().ok())
            .map(|extended| extended & 0xff);
        match primary {
            Some(code::CORRUPT | code::NOT_A_DATABASE) => Self::damaged("the database", error),
            Some(code::FULL) => Self::Full(error.to_string()),
            _ if matches!(error, sqlx::Error::ColumnDecode { .. }) => {
                Self::damaged("the database", error)
            }
            _ => Self::Database(error.to_string()),
        }
    }
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(cause) = source {
            if cause.downcast_ref::<io::Error>().map(io::Error::kind)
                == Some(io::ErrorKind::StorageFull)
            {
                return Self::Full(error.to_string());
            }
            source = cause.source();
        }
        Self::Pictures(error.to_string())
    }
}

impl From<StoreError> for ErrorBody {
    fn from(error: StoreError) -> Self {
        Self::new(ErrorCode::StorageFailed, error.to_string())
    }
}
