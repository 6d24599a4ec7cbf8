//! Files that appear whole or not at all.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// What names of unfinished files begin and end with.
const UNFINISHED: (&str, &str) = (".", ".tmp");

/// Whether a file outlives a failure of the power as well as one of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// Waits until it is on the disk: what cannot be made again soon, and what replaces something.
    /// A full disk shows before the old file is gone.
    ThroughPowerLoss,
    /// Leaves that to the system: one of many.
    ThroughKill,
}

/// Writes `bytes` to `path` by way of a file beside it; what was there before stays until the new
/// file is whole.
///
/// # Errors
/// When the file cannot be written. Nothing has changed then.
pub fn write(path: &Path, lasts: Lasts, bytes: &[u8]) -> io::Result<()> {
    write_with(path, lasts, |file| file.write_all(bytes))
}

/// As [`write`], piece by piece.
///
/// # Errors
/// When the file cannot be written. Nothing has changed then.
pub fn write_with(
    path: &Path,
    lasts: Lasts,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED.0)
        .suffix(UNFINISHED.1)
        // As any new file, less the process's mask.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory.unwrap_or(Path::new(".")))?;
    write(file.as_file_mut())?;
    if lasts == Lasts::ThroughPowerLoss {
        file.as_file().sync_all()?;
    }
    file.persist(path)?;
    Ok(())
}

/// Removes what killed programs left unfinished in a directory. Nobody may be writing there.
pub fn remove_unfinished(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let unfinished = name
            .to_str()
            .is_some_and(|name| name.starts_with(UNFINISHED.0) && name.ends_with(UNFINISHED.1));
        if unfinished {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write(&path, Lasts::ThroughPowerLoss, b"old").unwrap();
        let failed = write_with(&path, Lasts::ThroughKill, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("the disk is full"))
        });
        assert!(failed.unwrap_err().to_string().contains("the disk is full"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        // A directory in the way of the new file.
        let blocked = directory.path().join("blocked");
        fs::create_dir_all(blocked.join("inside")).unwrap();
        assert!(write(&blocked, Lasts::ThroughKill, b"new").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn unfinished_files_are_removed_and_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".abc.tmp"), "").unwrap();
        write(&directory.path().join("a"), Lasts::ThroughKill, b"whole").unwrap();
        remove_unfinished(directory.path());
        let left: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["a"]);
    }
}
