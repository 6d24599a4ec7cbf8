//! Files that appear whole or not at all.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use super::TrainError;

/// Writes `bytes` to `path` by way of a file beside it; what was there before stays until the new file is whole.
///
/// # Errors
/// When the directory or the file cannot be written, a full disk included. Nothing has changed then.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut file = tempfile::Builder::new().prefix(".").suffix(".tmp").tempfile_in(directory)?;
        file.write_all(bytes)?;
        // Else a full disk may show only after the old file is gone.
        file.as_file().sync_all()?;
        #[cfg(unix)]
        fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| TrainError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write(&path, b"old").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        // A directory in the way of the new file.
        let blocked = directory.path().join("blocked");
        fs::create_dir_all(blocked.join("inside")).unwrap();
        let error = write(&blocked, b"new").unwrap_err().to_string();
        assert!(error.contains("blocked"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file is left");
    }
}
