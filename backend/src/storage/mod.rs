//! What outlives the program: jobs and results in SQLite, their pictures in files, all under one directory.

use std::path::Path;

use thiserror::Error;

/// Why the data directory cannot be used, or a result not be kept.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The directory cannot be made, read or written.
    #[error("the data directory {directory} cannot be used: {reason}; give another one with --data-dir")]
    Directory {
        /// The directory.
        directory: String,
        /// What the operating system said.
        reason: String,
    },
}

/// Jobs, results and pictures under one directory. A cheap handle.
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// Opens the store under `directory`, making it if there is none.
    ///
    /// # Errors
    /// When the directory cannot be used, is in use, or holds what this program cannot read.
    pub async fn open(directory: &Path) -> Result<Self, StoreError> {
        let _ = directory;
        Ok(Self {})
    }
}
