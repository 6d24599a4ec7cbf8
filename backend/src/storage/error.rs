//! What can go wrong with the disk, as people see it.

use std::{io, path::Path};

use rustix::io::Errno;
use sqlx::migrate::MigrateError;
use thiserror::Error;
use var_dd_protocol::{ErrorBody, ErrorCode, JobId};

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
    /// The pictures of a result cannot be read.
    #[error(
        "the pictures of the result {job} are damaged: {reason}; restore them from a backup, or \
         let its owner delete it"
    )]
    DamagedResult {
        /// The result.
        job: JobId,
        /// What is wrong with them.
        reason: String,
    },
    /// The directory is not there any more.
    #[error(
        "the data directory {directory} was removed or replaced while the server used it; put it \
         back, or start the server again"
    )]
    Gone {
        /// The directory.
        directory: String,
    },
    /// No room.
    #[error(
        "the disk of the data directory is full: {0}; free some space or keep fewer results with \
         --keep-results"
    )]
    Full(String),
    /// The job has ended by another's word, which stands.
    #[error("the job was ended by somebody else")]
    EndedElsewhere,
    /// Anything else that the database says.
    #[error("the database failed: {0}")]
    Database(String),
    /// Anything else that the file system says.
    #[error("a file of pictures could not be written or read: {0}")]
    Pictures(String),
}

impl StoreError {
    /// An error about the directory itself.
    pub(super) fn directory(directory: &Path, error: &io::Error) -> Self {
        let directory = directory.display().to_string();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full(format!("{directory}: {error}"))
            }
            io::ErrorKind::FileTooLarge => Self::Full(format!(
                "{directory}: {error}, the limit of file sizes (`ulimit -f`) is too low"
            )),
            _ => Self::Directory { directory, reason: error.to_string() },
        }
    }

    /// A stored value that is not what this program writes.
    pub(super) fn damaged(what: &str, reason: impl ToString) -> Self {
        Self::Damaged { what: what.to_owned(), reason: reason.to_string() }
    }

    /// Pictures that are not what was kept.
    pub(super) fn damaged_result(job: &JobId, reason: impl ToString) -> Self {
        Self::DamagedResult { job: job.clone(), reason: reason.to_string() }
    }

    /// Pictures that the file system does not give. The reason is for everybody: it names no path.
    pub(super) fn unreadable(job: &JobId, error: object_store::Error) -> Self {
        match io_cause(&error) {
            Some(cause) if !lacks_means(cause) => {
                Self::damaged_result(job, format!("their file cannot be read ({cause})"))
            }
            _ => error.into(),
        }
    }

    /// An error at opening the database in `directory`.
    pub(super) fn opening(directory: &Path, error: sqlx::Error) -> Self {
        let at = directory.display().to_string();
        match primary_code(&error) {
            Some(code::IO_ERROR | code::FULL | code::CANNOT_OPEN) if no_room(directory) => {
                Self::Full(format!("{at} has no free block"))
            }
            Some(code::CORRUPT | code::NOT_A_DATABASE) => {
                Self::damaged(&format!("the database in {at}"), error)
            }
            Some(code::BUSY | code::LOCKED) => Self::Directory {
                directory: at,
                reason: "another program holds its database locked".into(),
            },
            _ => Self::Directory { directory: at, reason: format!("its database: {error}") },
        }
    }

    /// The error for everybody: without paths of the server, which are for its log.
    fn for_the_public(&self) -> String {
        let ask = "whoever runs the server finds more in its log";
        match self {
            Self::Directory { .. }
            | Self::InUse { .. }
            | Self::Newer { .. }
            | Self::Gone { .. } => {
                format!("the server cannot use its data directory; {ask}")
            }
            Self::Damaged { .. } => format!("what the server has kept is damaged; {ask}"),
            Self::Full(_) => format!("the disk of the server is full; {ask}"),
            Self::Database(_) => format!("the database of the server failed; {ask}"),
            Self::Pictures(_) => format!("a file of pictures could not be written or read; {ask}"),
            Self::DamagedResult { .. } | Self::EndedElsewhere => self.to_string(),
        }
    }

    /// An error of a migration in `directory`.
    pub(super) fn migration(directory: &Path, error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) => Self::Newer {
                directory: directory.display().to_string(),
                reason: error.to_string(),
            },
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                Self::opening(directory, error)
            }
            other => Self::Database(other.to_string()),
        }
    }
}

/// SQLite's primary result codes that mean something to a person.
mod code {
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const IO_ERROR: u32 = 10;
    pub(super) const CANNOT_OPEN: u32 = 14;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const NOT_A_DATABASE: u32 = 26;
}

/// The primary result code of an error of SQLite: an extended one holds it in its low byte.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<u32>().ok().map(|extended| extended & 0xff)
}

/// Whether the disk of a directory has no block left for this program.
pub(super) fn no_room(directory: &Path) -> bool {
    rustix::fs::statvfs(directory).is_ok_and(|disk| disk.f_bavail == 0)
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match primary_code(&error) {
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
        match io_cause(&error).map(io::Error::kind) {
            Some(
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::FileTooLarge,
            ) => Self::Full(error.to_string()),
            _ => Self::Pictures(error.to_string()),
        }
    }
}

/// What the operating system said.
fn io_cause(error: &object_store::Error) -> Option<&io::Error> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref::<io::Error>() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}

/// Whether only this moment lacks files or memory, and nothing is wrong with what was read.
fn lacks_means(error: &io::Error) -> bool {
    Errno::from_io_error(error)
        .is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOMEM].contains(&errno))
}

impl From<StoreError> for ErrorBody {
    fn from(error: StoreError) -> Self {
        // Here the two ways part: the whole to the log, what concerns everybody to the client.
        tracing::error!(%error, "the store failed");
        Self::new(ErrorCode::StorageFailed, error.for_the_public())
    }
}
