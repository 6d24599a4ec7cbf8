//! Locks between processes, as files that are nothing else.
//!
//! The file that is locked is never the one that is written: that one gets another name when it is
//! whole, and a process that waits for its lock would then hold the finished file.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

use var_dd_engine::atomic_file::is_at;

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Closing the file frees the lock. `None` where there is nothing to lock: on a disk that
    /// cannot be written, or without locks.
    file: Option<File>,
    remove: bool,
}

impl Lock {
    /// Waits until nobody else holds the lock of this path; `waits` is called if somebody does.
    pub fn acquire(path: &Path, waits: &mut dyn FnMut()) -> Self {
        Self::take(path, Some(waits)).unwrap_or_else(|| Self::of_nothing(path))
    }

    /// The lock of this path; `None` if somebody else holds it.
    pub fn try_acquire(path: &Path) -> Option<Self> {
        Self::take(path, None)
    }

    /// What there is where nothing can be locked.
    fn of_nothing(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, remove: false }
    }

    /// Takes the lock. Where somebody else holds it, waits if there is a word for that, and else
    /// gives `None`.
    fn take(path: &Path, mut waits: Option<&mut dyn FnMut()>) -> Option<Self> {
        let none = || Some(Self::of_nothing(path));
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
                    let waits = waits.as_mut()?;
                    if !std::mem::replace(&mut has_said, true) {
                        waits();
                    }
                    if file.lock().is_err() {
                        return none();
                    }
                }
                Err(TryLockError::Error(_)) => return none(),
            }
            // Whoever held it may have removed the file.
            if is_at(&file, path) {
                return Some(Self { path: path.to_owned(), file: Some(file), remove: false });
            }
        }
    }

    /// Whether it keeps others out: not where there is nothing to lock.
    pub fn is_held(&self) -> bool {
        self.file.is_some()
    }

    /// Removes the lock's file together with the lock.
    #[must_use]
    pub fn removed_in_the_end(mut self) -> Self {
        self.remove = self.is_held();
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
    fn one_at_a_time_holds_the_lock_though_itsfile_comes_and_goes() {
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

    #[test]
    fn who_does_not_wait_is_told_that_somebody_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("one.lock");
        let lock = Lock::try_acquire(&path).unwrap().removed_in_the_end();
        assert!(lock.is_held() && Lock::try_acquire(&path).is_none());
        drop(lock);
        assert!(!path.exists() && Lock::try_acquire(&path).is_some());
    }
}
