//! The SQL of the store.

use std::collections::HashSet;

use sqlx::{Row, SqliteConnection};
use var_dd_protocol::{JobEvent, JobId};

use super::{
    Ending, JobRecord, Store, StoreError, StoredEvent, StoredFrame, StoredJob, UnfinishedJob,
    record::{frame, from_json, state_name, stored, to_json, unfinished, unsigned},
};

impl Store {
    /// Keeps an accepted job; it is durable on return. Returns its place in the order of
    /// acceptance.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn accept(&self, job: &JobRecord) -> Result<i64, StoreError> {
        self.check_in_place()?;
        let mut connection = self.0.writer.acquire().await?;
        insert_job(&mut connection, job).await
    }

    /// Takes over the jobs that an earlier program left unfinished, in the order of acceptance;
    /// each counts one attempt more, and one crash more if it was running.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_over(&self) -> Result<Vec<UnfinishedJob>, StoreError> {
        let mut transaction = self.0.writer.begin().await?;
        sqlx::query(
            "UPDATE jobs SET attempt = attempt + 1, crashes = crashes + (state = 'running'),
                state = 'queued'
             WHERE state IN ('queued', 'running')",
        )
        .execute(&mut *transaction)
        .await?;
        let rows = sqlx::query("SELECT * FROM jobs WHERE state = 'queued' ORDER BY number")
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        rows.iter().map(unfinished).collect()
    }

    /// Marks jobs as running, so that a crash of the program is counted against them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn started(&self, jobs: &[i64]) -> Result<(), StoreError> {
        let mut transaction = self.0.writer.begin().await?;
        for job in jobs {
            sqlx::query("UPDATE jobs SET state = 'running' WHERE number = ? AND state = 'queued'")
                .bind(job)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Puts running jobs back: the program ends in good order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_back(&self) -> Result<(), StoreError> {
        sqlx::query("UPDATE jobs SET state = 'queued' WHERE state = 'running'")
            .execute(&self.0.writer)
            .await?;
        Ok(())
    }

    /// Records the end of a job whose pictures are on disk, in one transaction.
    pub(super) async fn record_end(&self, job: &JobId, ending: &Ending) -> Result<(), StoreError> {
        let last = ending.last();
        let Some(state) = last.and_then(JobEvent::state).filter(|state| state.is_final()) else {
            return Err(StoreError::Database(format!("{last:?} does not end a job")));
        };
        let (timings, error) = match last {
            Some(JobEvent::Finished { timings }) => (Some(to_json(timings)?), None),
            Some(JobEvent::Failed { error }) => (None, Some(to_json(error)?)),
            _ => (None, None),
        };
        let mut transaction = self.0.writer.begin().await?;
        let number: Option<i64> = sqlx::query_scalar(
            "UPDATE jobs SET state = ?, timings = ?, error = ?,
                ended = (SELECT COALESCE(MAX(ended), 0) + 1 FROM jobs)
             WHERE id = ? AND state IN ('queued', 'running') RETURNING number",
        )
        .bind(state_name(state))
        .bind(timings)
        .bind(error)
        .bind(job.as_str())
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(number) = number else {
            return Err(StoreError::Database(format!("no unfinished job is named {job}")));
        };
        for (seq, event) in &ending.events {
            sqlx::query("INSERT INTO events (job, seq, event) VALUES (?, ?, ?)")
                .bind(number)
                .bind(*seq as i64)
                .bind(to_json(event)?)
                .execute(&mut *transaction)
                .await?;
        }
        let mut start = 0;
        for (seq, header, picture) in &ending.frames {
            let length = picture.len() as i64;
            sqlx::query(
                "INSERT INTO frames (job, seq, picture, last, header, start, length, crc32)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(number)
            .bind(*seq as i64)
            .bind(header.picture)
            .bind(header.last)
            .bind(to_json(header)?)
            .bind(start)
            .bind(length)
            .bind(crc32fast::hash(picture))
            .execute(&mut *transaction)
            .await?;
            start += length;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// A job as it is kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find(&self, job: &JobId) -> Result<Option<StoredJob>, StoreError> {
        let row = sqlx::query("SELECT * FROM jobs WHERE id = ?")
            .bind(job.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        row.as_ref().map(stored).transpose()
    }

    /// The events of an ended job from the one after `after` on, in order; none of a job that has
    /// not ended.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events(
        &self,
        job: &StoredJob,
        after: Option<u64>,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        // Sequence numbers fit easily; a number beyond, made up by a client, has nothing after it.
        let after = after.map_or(-1, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let rows =
            sqlx::query("SELECT seq, event FROM events WHERE job = ? AND seq > ? ORDER BY seq")
                .bind(job.number)
                .bind(after)
                .fetch_all(&self.0.reader)
                .await?;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            events.push(StoredEvent::Control {
                seq: unsigned(row, "seq")?,
                event: from_json(row.try_get("event")?)?,
            });
        }
        let rows = sqlx::query("SELECT * FROM frames WHERE job = ? AND seq > ? ORDER BY seq")
            .bind(job.number)
            .bind(after)
            .fetch_all(&self.0.reader)
            .await?;
        for row in &rows {
            events.push(StoredEvent::Frame(frame(row)?));
        }
        events.sort_unstable_by_key(StoredEvent::seq);
        Ok(events)
    }

    /// The frame of an ended job with a sequence number.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn frame(&self, job: &JobId, seq: u64) -> Result<Option<StoredFrame>, StoreError> {
        let row = sqlx::query(
            "SELECT frames.* FROM frames JOIN jobs ON jobs.number = frames.job WHERE jobs.id = ? \
             AND seq = ?",
        )
        .bind(job.as_str())
        .bind(i64::try_from(seq).unwrap_or(i64::MAX))
        .fetch_optional(&self.0.reader)
        .await?;
        row.as_ref().map(frame).transpose()
    }

    /// The last frame of a picture of an ended job.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn last_frame(
        &self,
        job: &JobId,
        picture: u32,
    ) -> Result<Option<StoredFrame>, StoreError> {
        let row = sqlx::query(
            "SELECT frames.* FROM frames JOIN jobs ON jobs.number = frames.job
             WHERE jobs.id = ? AND picture = ? AND last",
        )
        .bind(job.as_str())
        .bind(picture)
        .fetch_optional(&self.0.reader)
        .await?;
        row.as_ref().map(frame).transpose()
    }

    /// The newest `limit` finished jobs of those that ended before `before` (all if `None`).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn finished(
        &self,
        limit: u32,
        before: Option<i64>,
    ) -> Result<Vec<StoredJob>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM jobs WHERE state = 'finished' AND ended < ? ORDER BY ended DESC LIMIT ?",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&self.0.reader)
        .await?;
        rows.iter().map(stored).collect()
    }

    /// The newest finished example of a model.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn example(&self, model: &str) -> Result<Option<JobId>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM jobs WHERE state = 'finished' AND example AND model = ? ORDER BY ended \
             DESC LIMIT 1",
        )
        .bind(model)
        .fetch_optional(&self.0.reader)
        .await?;
        Ok(row.as_ref().map(stored).transpose()?.map(|job| job.record.id))
    }

    /// The jobs that have pictures on disk.
    pub(super) async fn ids_with_frames(&self) -> Result<HashSet<String>, StoreError> {
        let ids = sqlx::query_scalar(
            "SELECT id FROM jobs WHERE EXISTS (SELECT 1 FROM frames WHERE job = number)",
        )
        .fetch_all(&self.0.reader)
        .await?;
        Ok(ids.into_iter().collect())
    }

    pub(super) async fn delete_rows(&self, job: &JobId) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM jobs WHERE id = ?")
            .bind(job.as_str())
            .execute(&self.0.writer)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// The results beyond the newest `finished` (none if `None`), examples apart, and the jobs that
    /// ended otherwise beyond the newest `other`.
    pub(super) async fn beyond(
        &self,
        finished: Option<u32>,
        other: u32,
    ) -> Result<Vec<JobId>, StoreError> {
        // SQLite needs a LIMIT before an OFFSET; -1 is none.
        let mut old: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM jobs WHERE state IN ('failed', 'cancelled', 'expired')
             ORDER BY ended DESC LIMIT -1 OFFSET ?",
        )
        .bind(other)
        .fetch_all(&self.0.reader)
        .await?;
        if let Some(finished) = finished {
            let finished: Vec<String> = sqlx::query_scalar(
                "SELECT id FROM jobs WHERE state = 'finished' AND NOT example ORDER BY ended DESC \
                 LIMIT -1 OFFSET ?",
            )
            .bind(finished)
            .fetch_all(&self.0.reader)
            .await?;
            old.extend(finished);
        }
        old.iter()
            .map(|id| {
                id.parse().map_err(|error| StoreError::damaged("a row of the database", error))
            })
            .collect()
    }
}

/// Adds an accepted job; returns its place in the order of acceptance.
pub(super) async fn insert_job(
    connection: &mut SqliteConnection,
    job: &JobRecord,
) -> Result<i64, StoreError> {
    let done = sqlx::query(
        "INSERT INTO jobs (id, owner, state, created_ms, stays, example, model, request,
            class_name, plan_name,
                           patch_nums, image_size)
         VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(job.id.as_str())
    .bind(&job.owner[..])
    .bind(job.created_ms as i64)
    .bind(job.stays)
    .bind(job.example)
    .bind(job.request.model.as_deref().unwrap_or_default())
    .bind(to_json(&job.request)?)
    .bind(&job.class_name)
    .bind(&job.plan_name)
    .bind(to_json(&job.patch_nums)?)
    .bind(job.image_size)
    .execute(connection)
    .await?;
    Ok(done.last_insert_rowid())
}
