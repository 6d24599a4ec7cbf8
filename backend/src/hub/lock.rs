//! Locks between processes, as files that are nothing else.
//!
//! The file that is locked is never the one that is written: that one gets another name when it is
//! whole, and a process that waits for its lock would then hold the finished file.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Closing the file frees the lock. `None` where there is nothing to lock: on a disk that
    /// cannot be written, or without locks.
    _file: Option<File>,
    remove: bool,
}

impl Lock {
    /// Waits until nobody else holds the lock of this path; `waits` is called if somebody does.
    pub fn acquire(path: &Path, waits: &mut dyn FnMut()) -> Self {
        let none = || Self { path: path.to_owned(), _file: None, remove: false };
        if let Some(directory) = path.parent() {
            // Where nothing can be made there is nothing to lock either.
            let _ = fs::create_dir_all(directory);
        }
        let mut has_said = false;
        loop {
            let opened = OpenOptions::new().create(true).write(true).truncate(false).open(path);
            let Ok(file) = opened else { return none() };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut has_said, true) {
                        waits();
                    }
                    if file.lock().is_err() {
                        return none();
                    }
                }
                Err(TryLockError::Error(_)) => return none(),
            }
            // Whoever held it may have removed the file; the lock of a removed file is nobody's.
            let same = match (file.metadata(), fs::metadata(path)) {
                (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
                _ => false,
            };
            if same {
                return Self { path: path.to_owned(), _file: Some(file), remove: false };
            }
        }
    }

    /// Removes the lock's file together with the lock.
    #[must_use]
    pub fn removed_in_the_end(mut self) -> Self {
        self.remove = self._file.is_some();
        self
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.remove {
            // A file that is left locks nobody out.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn one_at_a_time_holds_the_lock_though_its_file_comes_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("locks/one.lock");
        let (inside, turns) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = Lock::acquire(&path, &mut || {}).removed_in_the_end();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        turns.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 400);
        assert!(!path.exists());
    }
}
