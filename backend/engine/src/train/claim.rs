//! One process at a time works in a directory.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
};

use super::TrainError;

/// A directory that is this process's as long as it lives, however it ends.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: File,
}

impl Claim {
    /// Takes the directory, makes it if there is none, and clears away what a killed process had
    /// not finished writing.
    ///
    /// # Errors
    /// When another process has it, or it cannot be written.
    pub(super) fn take(directory: &Path) -> Result<Self, TrainError> {
        let failed = |source| TrainError::Write { path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        let lock = File::create(directory.join(".lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(TrainError::Busy { path: directory.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        for entry in fs::read_dir(directory).map_err(failed)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') && name.ends_with(".tmp") {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(Self { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_process_at_a_time_and_cleared_of_what_a_kill_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vae");
        let claim = Claim::take(&path).unwrap();
        fs::write(path.join(".x1.tmp"), b"half").unwrap();
        fs::write(path.join("whole.tmp"), b"someone's").unwrap();
        let error = Claim::take(&path).unwrap_err().to_string();
        assert!(error.contains("another process") && path.join(".x1.tmp").exists(), "{error}");
        drop(claim);
        Claim::take(&path).unwrap();
        assert!(!path.join(".x1.tmp").exists() && path.join("whole.tmp").exists());
    }
}
