//! Files that appear whole or not at all.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

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
    if is_stream(path) {
        return write(&mut OpenOptions::new().write(true).open(path)?);
    }
    Unnamed::write(path, lasts, write)?.appear()
}

/// Writes several files as [`write()`] does one: none appears before all of them are whole. They
/// appear in their order.
///
/// # Errors
/// When a file cannot be written. Nothing has changed then.
pub fn write_together(files: &[(&Path, &[u8])], lasts: Lasts) -> io::Result<()> {
    let mut whole = Vec::with_capacity(files.len());
    for &(path, bytes) in files {
        if path.is_dir() {
            let reason = format!("{} is a directory", path.display());
            return Err(io::Error::new(io::ErrorKind::IsADirectory, reason));
        }
        if is_stream(path) {
            write(path, lasts, bytes)?;
        } else {
            whole.push(Unnamed::write(path, lasts, |file| file.write_all(bytes))?);
        }
    }
    whole.into_iter().try_for_each(Unnamed::appear)
}

/// Refuses a place where [`write()`] could make no file, before anything is computed for it. Leaves
/// nothing.
///
/// # Errors
/// When no file can be made there.
pub fn probe(path: &Path) -> io::Result<()> {
    if is_stream(path) {
        return Ok(());
    }
    tempfile::tempfile_in(directory_of(&behind_links(path))).map(drop)
}

/// Refuses a directory in which no file could be made, before anything is computed for it. It and
/// those above it need not be there yet. Leaves nothing.
///
/// # Errors
/// When something else is in its place, or no file can be made in it.
pub fn probe_directory(directory: &Path) -> io::Result<()> {
    let found = directory.ancestors().find(|place| place.symlink_metadata().is_ok());
    // A path without a root begins in the working directory.
    let place = found.unwrap_or(Path::new("."));
    if !place.is_dir() {
        let reason = format!("{} is no directory", place.display());
        return Err(io::Error::new(io::ErrorKind::NotADirectory, reason));
    }
    tempfile::tempfile_in(place).map(drop)
}

/// A file that is whole, and has not got its name yet.
struct Unnamed {
    file: NamedTempFile,
    place: PathBuf,
}

impl Unnamed {
    fn write(
        path: &Path,
        lasts: Lasts,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<Self> {
        let place = behind_links(path);
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED.0)
            .suffix(UNFINISHED.1)
            // As any new file, less the process's mask.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory_of(&place))?;
        write(file.as_file_mut())?;
        if lasts == Lasts::ThroughPowerLoss {
            file.as_file().sync_all()?;
        }
        Ok(Self { file, place })
    }

    fn appear(self) -> io::Result<()> {
        self.file.persist(&self.place)?;
        Ok(())
    }
}

/// Whether a path leads to what is neither file nor directory: a pipe, or a device.
fn is_stream(path: &Path) -> bool {
    // By its own name: what links of `/proc` show of a pipe is no place.
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// The directory that a file lies in.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
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

/// Whether an open file or directory is still the one at its path: another process may have removed
/// it, or put another one there. A lock of one that is gone is nobody's.
pub fn is_at(open: &File, path: &Path) -> bool {
    match (open.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
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
    fn of_several_files_all_appear_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("a"), "old").unwrap();
        fs::create_dir(at("blocked")).unwrap();
        let [a, b, blocked, nowhere] = ["a", "b", "blocked", "nowhere/c"].map(at);
        for amiss in [&blocked, &nowhere] {
            let files: [(&Path, &[u8]); 3] = [(&a, b"new"), (&b, b"new"), (amiss, b"new")];
            assert!(write_together(&files, Lasts::ThroughKill).is_err(), "{amiss:?}");
            assert_eq!(fs::read(&a).unwrap(), b"old");
            assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "nothing is left");
        }
        let files: [(&Path, &[u8]); 2] = [(&a, b"new"), (&b, b"other")];
        write_together(&files, Lasts::ThroughKill).unwrap();
        assert_eq!(fs::read(&a).unwrap(), b"new");
        assert_eq!(fs::read(&b).unwrap(), b"other");
    }

    #[test]
    fn places_are_probed_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        for place in [directory.path().to_owned(), at("a"), at("a/b"), "a".into(), "".into()] {
            probe_directory(&place).unwrap();
        }
        for (place, named) in [("file", "file"), ("file/a/b", "file"), ("link/a", "link")] {
            let error = probe_directory(&at(place)).unwrap_err().to_string();
            assert_eq!(error, format!("{} is no directory", at(named).display()));
        }
        probe(&at("a")).unwrap();
        probe(Path::new("/dev/null")).unwrap();
        assert!(probe(&at("a/b")).is_err());
        // Nothing can be made there, whoever asks.
        assert!(probe(Path::new("/proc/a")).is_err());
        assert!(probe_directory(Path::new("/proc/a/b")).is_err());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
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

    #[test]
    fn what_was_replaced_is_no_longer_at_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::create_dir(&path).unwrap();
        let open = File::open(&path).unwrap();
        assert!(is_at(&open, &path));
        fs::rename(&path, directory.path().join("b")).unwrap();
        assert!(!is_at(&open, &path));
        fs::create_dir(&path).unwrap();
        assert!(!is_at(&open, &path));
    }
}
