//! Files that appear whole or not at all.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
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
/// file is whole. A link stays, and leads to the new file; into what is no file, as `/dev/stdout`,
/// is written as it is.
///
/// # Errors
/// When the file cannot be written. Nothing has changed then.
pub fn write(path: &Path, lasts: Lasts, bytes: &[u8]) -> io::Result<()> {
    write_with(path, lasts, |file| file.write_all(bytes))
}

/// As [`write()`], piece by piece.
///
/// # Errors
/// When the file cannot be written. Nothing has changed then.
pub fn write_with(
    path: &Path,
    lasts: Lasts,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    // By its own name: what links of `/proc` show of a pipe is no place.
    let is_stream = fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
    if is_stream {
        return write(&mut OpenOptions::new().write(true).open(path)?);
    }
    let path = &behind_links(path);
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

/// Where a path leads, over symbolic links; also where there is nothing yet.
fn behind_links(path: &Path) -> PathBuf {
    /// As many as Linux follows.
    const MOST: usize = 40;
    let mut place = path.to_owned();
    for _ in 0..MOST {
        // It is no link, or there is nothing.
        let Ok(target) = fs::read_link(&place) else { break };
        place = place.parent().map_or_else(|| target.clone(), |parent| parent.join(&target));
    }
    place
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
    use std::{io::Read, os::fd::AsRawFd};

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
    fn links_stay_and_lead_to_the_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("elsewhere")).unwrap();
        for (link, target) in [("one", "two"), ("two", "elsewhere/file"), ("loop", "loop")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        for bytes in [b"old", b"new"] {
            write(&at("one"), Lasts::ThroughKill, bytes).unwrap();
            assert_eq!(fs::read(at("elsewhere/file")).unwrap(), bytes);
        }
        assert!(at("one").is_symlink() && at("two").is_symlink());
        assert_eq!(fs::read_dir(at("elsewhere")).unwrap().count(), 1);
        // A circle is a place like any other.
        write(&at("loop"), Lasts::ThroughKill, b"new").unwrap();
        assert_eq!(fs::read(at("loop")).unwrap(), b"new");
    }

    #[test]
    fn a_pipe_is_written_to_by_the_link_that_the_system_has_for_it() {
        let (mut reader, writer) = io::pipe().unwrap();
        let link = format!("/proc/self/fd/{}", writer.as_raw_fd());
        write(Path::new(&link), Lasts::ThroughPowerLoss, b"whole").unwrap();
        drop(writer);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"whole");
    }

    #[test]
    fn what_is_no_file_is_written_to_and_stays() {
        let full = write(Path::new("/dev/full"), Lasts::ThroughPowerLoss, b"x").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        write(Path::new("/dev/null"), Lasts::ThroughPowerLoss, b"x").unwrap();
        for device in ["/dev/full", "/dev/null"] {
            assert!(!fs::metadata(device).unwrap().is_file(), "{device} is a file now");
        }
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
