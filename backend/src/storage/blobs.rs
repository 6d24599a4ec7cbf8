//! Pictures on disk: one file per ended job, holding its encoded pictures one after the other.
//!
//! A job has up to some hundred frames; one file makes keeping them one atomic, durable step and
//! deleting them another. Where each picture lies in the file is the database's to know.

use std::{collections::HashSet, io, ops::Range, path::PathBuf};

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutPayload, local::LocalFileSystem, path::Path as Key};
use var_dd_protocol::JobId;

use super::StoreError;

const ENDING: &str = ".frames";

/// The files of pictures in one directory.
#[derive(Debug)]
pub(super) struct Blobs {
    directory: PathBuf,
    files: LocalFileSystem,
}

impl Blobs {
    /// Opens `directory`, making it if there is none.
    pub(super) fn open(directory: PathBuf) -> Result<Self, StoreError> {
        std::fs::create_dir_all(&directory)
            .map_err(|error| StoreError::directory(&directory, &error))?;
        let files = LocalFileSystem::new_with_prefix(&directory)?.with_fsync(true);
        Ok(Self { directory, files })
    }

    fn key(job: &JobId) -> Key {
        Key::from(format!("{job}{ENDING}"))
    }

    /// Writes the pictures of a job: all or nothing, and durable on return.
    pub(super) async fn put(
        &self,
        job: &JobId,
        pictures: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), StoreError> {
        let payload: PutPayload = pictures.into_iter().collect();
        self.files.put(&Self::key(job), payload).await?;
        Ok(())
    }

    /// Reads the bytes of one picture, fewer if the file ends before; `None` if the file is gone.
    pub(super) async fn get(
        &self,
        job: &JobId,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StoreError> {
        let end = range.end;
        match self.files.get_range(&Self::key(job), range).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => match self.files.head(&Self::key(job)).await {
                Ok(file) if file.size < end => Err(StoreError::damaged_result(
                    job,
                    format!("their file is cut short ({} of {end} bytes)", file.size),
                )),
                _ => Err(StoreError::unreadable(job, error)),
            },
        }
    }

    /// Deletes the pictures of a job, if there are any.
    pub(super) async fn delete(&self, job: &JobId) -> Result<(), StoreError> {
        match self.files.delete(&Self::key(job)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            // A directory in the place of a file is none of this program's making.
            Err(_) if self.directory.join(format!("{job}{ENDING}")).is_dir() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes files of jobs other than `kept`, and what a crash left half-written. Returns how
    /// many.
    pub(super) fn sweep(&self, kept: &HashSet<String>) -> Result<usize, StoreError> {
        let mut swept = 0;
        let mut sweep = || -> io::Result<()> {
            for entry in std::fs::read_dir(&self.directory)? {
                let entry = entry?;
                let name = entry.file_name();
                // A name of another make is not ours to delete.
                let Some((id, rest)) = name.to_str().and_then(|name| name.split_once(ENDING))
                else {
                    continue;
                };
                let half_written = rest.starts_with('#');
                let ours = id.parse::<JobId>().is_ok() && (rest.is_empty() || half_written);
                let is_file = !entry.file_type()?.is_dir();
                if ours && is_file && (half_written || !kept.contains(id)) {
                    std::fs::remove_file(entry.path())?;
                    swept += 1;
                }
            }
            Ok(())
        };
        sweep().map_err(|error| StoreError::directory(&self.directory, &error))?;
        Ok(swept)
    }
}
