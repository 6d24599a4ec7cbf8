//! What outlives the program: jobs and results in SQLite, their pictures in files, all under one
//! directory.
//!
//! ```text
//! DIR/lock              held while a program uses the directory
//! DIR/var-dd.db         jobs, event logs, where each picture lies
//! DIR/frames/ID.frames  the pictures of one ended job
//! ```
//! A job's pictures are on disk before the one transaction that records its end, and its rows are
//! gone before its pictures are deleted; so a crash can leave a file too many, which the next start
//! sweeps, and never a result without its pictures.

mod blobs;
mod error;
mod keys;
mod place;
mod record;
mod results;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{
    Connection,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
    },
};
use var_dd_protocol::{JobEvent, JobId};

use self::{blobs::Blobs, place::Place, record::to_json};
pub use self::{
    error::StoreError,
    keys::{AskedBefore, RequestKey},
    record::{
        Ending, JobRecord, OwnerHash, StoredEvent, StoredFrame, StoredJob, UnfinishedJob,
        frame_url, picture_url,
    },
};

/// The directory of pictures, in the data directory.
const FRAMES: &str = "frames";

/// Where the ends of jobs go: those of this program into its store, those of a worker to whoever
/// asked for them.
#[async_trait]
pub trait Ends: fmt::Debug + Send + Sync {
    /// Keeps the end of a job with everything that led to it. `ending.events` holds the final
    /// event.
    ///
    /// # Errors
    /// When it cannot be kept; [`StoreError::EndedElsewhere`] if it never can.
    async fn settle(&self, job: &JobRecord, ending: &Ending) -> Result<(), StoreError>;

    /// Marks jobs as running, so that a crash of the program is counted against them.
    ///
    /// # Errors
    /// When that cannot be kept.
    async fn started(&self, numbers: &[i64]) -> Result<(), StoreError>;

    /// Puts running jobs back: the program ends in good order.
    ///
    /// # Errors
    /// When that cannot be kept.
    async fn put_back(&self) -> Result<(), StoreError>;

    /// Deletes the oldest results beyond the newest `finished` (none if `None`), and the oldest of
    /// those that ended otherwise beyond the newest `other`. Returns how many went.
    ///
    /// # Errors
    /// When they cannot be deleted.
    async fn prune(&self, finished: Option<u32>, other: u32) -> Result<usize, StoreError>;

    /// Comes to rest; later calls fail.
    async fn close(&self);
}

/// Where the pictures of ended jobs are read.
#[async_trait]
pub trait Pictures: fmt::Debug + Send + Sync {
    /// Reads the picture of a frame; `None` if its job was deleted in the meantime.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was kept.
    async fn picture(&self, job: &JobId, frame: &StoredFrame) -> Result<Option<Bytes>, StoreError>;
}

#[async_trait]
impl Ends for Store {
    async fn settle(&self, job: &JobRecord, ending: &Ending) -> Result<(), StoreError> {
        self.settle(&job.id, ending).await
    }

    async fn started(&self, numbers: &[i64]) -> Result<(), StoreError> {
        self.started(numbers).await
    }

    async fn put_back(&self) -> Result<(), StoreError> {
        self.put_back().await
    }

    async fn prune(&self, finished: Option<u32>, other: u32) -> Result<usize, StoreError> {
        self.prune(finished, other).await
    }

    async fn close(&self) {
        self.close().await;
    }
}

#[async_trait]
impl Pictures for Store {
    async fn picture(&self, job: &JobId, frame: &StoredFrame) -> Result<Option<Bytes>, StoreError> {
        self.picture(job, frame).await
    }
}

/// Jobs, results and pictures under one directory. A cheap handle.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    /// The one connection that writes: SQLite has one writer at a time anyway, and here none is
    /// ever refused.
    writer: SqlitePool,
    reader: SqlitePool,
    blobs: Blobs,
    place: Place,
    /// Released by the operating system, however the program ends.
    _lock: File,
}

impl Store {
    /// Opens the store under `directory`, making it if there is none, and deletes pictures that a
    /// crash left without a result.
    ///
    /// # Errors
    /// When the directory cannot be used, is in use, or holds what this program cannot read.
    pub async fn open(directory: &Path) -> Result<Self, StoreError> {
        let blocking = directory.to_owned();
        let (lock, blobs) = tokio::task::spawn_blocking(move || {
            let lock = lock(&blocking)?;
            Ok::<_, StoreError>((lock, Blobs::open(blocking.join(FRAMES))?))
        })
        .await
        .map_err(|error| StoreError::Database(error.to_string()))??;
        let database = directory.join("var-dd.db");
        let (writer, reader) = open_database(directory, &database).await?;
        let place = Place::of(directory, &database)?;
        let store = Self(Arc::new(Inner {
            directory: directory.to_owned(),
            writer,
            reader,
            blobs,
            place,
            _lock: lock,
        }));
        store.sweep().await?;
        Ok(store)
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let kept = self.ids_with_frames().await?;
        let store = self.clone();
        let swept = tokio::task::spawn_blocking(move || store.0.blobs.sweep(&kept))
            .await
            .map_err(|error| StoreError::Pictures(error.to_string()))??;
        if swept > 0 {
            tracing::info!(files = swept, "deleted pictures that an interrupted run left behind");
        }
        Ok(())
    }

    /// Checks that the database is still where it was opened.
    pub(super) fn check_in_place(&self) -> Result<(), StoreError> {
        self.0.place.check()
    }

    /// Checks that something can be kept: writes a block and waits until it is on the disk.
    ///
    /// # Errors
    /// When the directory is gone, the disk is full, or anything else keeps it from that.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.0.place.probe())
            .await
            .map_err(|error| StoreError::Pictures(error.to_string()))?
    }

    /// Keeps the end of a job with everything that led to it. `ending.events` holds the final
    /// event.
    ///
    /// # Errors
    /// When it cannot be kept; then the job counts as unfinished still.
    pub async fn settle(&self, job: &JobId, ending: &Ending) -> Result<(), StoreError> {
        self.check_in_place()?;
        if !ending.frames.is_empty() {
            let pictures = ending.frames.iter().map(|(_, _, picture)| picture.clone());
            self.0.blobs.put(job, pictures).await?;
        }
        // Should this fail, the pictures stay until the next start: the end may be recorded all the
        // same.
        self.record_end(job, ending).await
    }

    /// Reads the picture of a frame; `None` if its job was deleted in the meantime.
    ///
    /// # Errors
    /// When the file cannot be read, or is not what was kept.
    pub async fn picture(
        &self,
        job: &JobId,
        frame: &StoredFrame,
    ) -> Result<Option<Bytes>, StoreError> {
        let picture = self.0.blobs.get(job, frame.start..frame.start + frame.length).await?;
        match &picture {
            Some(picture) => frame.check(job, picture)?,
            None => {
                // A file goes after its rows.
                if self.find(job).await?.is_some() {
                    return Err(StoreError::damaged_result(job, "their file is gone"));
                }
            }
        }
        Ok(picture)
    }

    /// Deletes a job and its pictures. Returns whether there was one.
    ///
    /// # Errors
    /// When the database or the file system fails.
    pub async fn delete(&self, job: &JobId) -> Result<bool, StoreError> {
        let deleted = self.delete_rows(job).await?;
        self.0.blobs.delete(job).await?;
        Ok(deleted)
    }

    /// Deletes the oldest results beyond the newest `finished`, and the oldest of those that ended
    /// otherwise beyond the newest `other`. Examples stay. Returns how many went.
    ///
    /// # Errors
    /// When the database or the file system fails.
    pub async fn prune(&self, finished: Option<u32>, other: u32) -> Result<usize, StoreError> {
        let beyond = self.beyond(finished, other).await?;
        for job in &beyond {
            self.delete(job).await?;
        }
        Ok(beyond.len())
    }

    /// Closes the database; later calls fail.
    pub async fn close(&self) {
        self.0.reader.close().await;
        self.0.writer.close().await;
    }
}

/// The connections that write and read the database, which is made or brought up to date.
async fn open_database(
    directory: &Path,
    database: &Path,
) -> Result<(SqlitePool, SqlitePool), StoreError> {
    let failed = |error: sqlx::Error| StoreError::opening(directory, error);
    let options = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(10))
        .foreign_keys(true);
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        // A full disk makes SQLite end a transaction by itself; the library does not notice,
        // and what came after would stay in a transaction for ever. A connection that is not
        // back at rest is given up instead.
        .after_release(|connection, _| {
            Box::pin(async move {
                connection.ping().await?; // by now a rollback has been tried
                Ok(!connection.is_in_transaction())
            })
        })
        .connect_with(options.clone())
        .await
        .map_err(failed)?;
    let check: String =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&writer).await.map_err(failed)?;
    if check != "ok" {
        return Err(StoreError::damaged(
            &format!("the database in {}", directory.display()),
            check,
        ));
    }
    sqlx::migrate!("src/storage/migrations")
        .run(&writer)
        .await
        .map_err(|error| StoreError::migration(directory, error))?;
    let reader = SqlitePoolOptions::new()
        .max_connections(4)
        .connect_with(options.read_only(true))
        .await
        .map_err(failed)?;
    Ok((writer, reader))
}

impl Ending {
    /// The final event.
    fn last(&self) -> Option<&JobEvent> {
        self.events.last().map(|(_, event)| event)
    }
}

/// Makes the directory and takes its lock; this also shows that it can be written.
fn lock(directory: &Path) -> Result<File, StoreError> {
    let failed = |error: std::io::Error| StoreError::directory(directory, &error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join("lock"))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::InUse { directory: directory.display().to_string() })
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
