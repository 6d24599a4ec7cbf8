//! The directory under a running server: is it still there, can something be written.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{FRAMES, StoreError};

/// What a probe writes: as much as a small result.
static BLOCK: [u8; 64 << 10] = [0x5a; 64 << 10];

/// The database as it was opened. Somebody may remove or replace it under the running program, and
/// what is written then goes nowhere without any error.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    database: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    /// Remembers the database in `directory`.
    pub(super) fn of(directory: &Path, database: &Path) -> Result<Self, StoreError> {
        let metadata = std::fs::metadata(database)
            .map_err(|error| StoreError::directory(directory, &error))?;
        Ok(Self {
            directory: directory.to_owned(),
            database: database.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Checks that it is still the same one.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match std::fs::metadata(&self.database) {
            Ok(now) if (now.dev(), now.ino()) == (self.device, self.inode) => Ok(()),
            _ => Err(StoreError::Gone { directory: self.directory.display().to_string() }),
        }
    }

    /// Writes a block beside the database and one beside the pictures, which may lie on another
    /// disk, and waits until they are there.
    pub(super) fn probe(&self) -> Result<(), StoreError> {
        self.check()?;
        for directory in [&self.directory, &self.directory.join(FRAMES)] {
            let written = || -> std::io::Result<()> {
                // Pictures make theirs anew, too.
                std::fs::create_dir_all(directory)?;
                let mut file = tempfile::tempfile_in(directory)?;
                file.write_all(&BLOCK)?;
                file.sync_all()?;
                // The directory itself takes part in every file that is made.
                File::open(directory)?.sync_all()
            };
            written().map_err(|error| StoreError::directory(directory, &error))?;
        }
        Ok(())
    }
}
