//! What is kept of a job, and how it lies in a row.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::{Row, sqlite::SqliteRow};
use var_dd_protocol::{
    ErrorBody, FrameEntry, FrameHeader, GenerateRequest, JobEvent, JobId, JobState, JobView,
    Timings,
};

use super::StoreError;

/// SHA-256 of an owner's token.
pub type OwnerHash = [u8; 32];

/// What is kept of a job from its acceptance on. It says all that is needed to show the result when
/// its model is no longer loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its name.
    pub id: JobId,
    /// SHA-256 of the owner's token.
    pub owner: OwnerHash,
    /// Milliseconds since 1970 (UTC) at acceptance.
    pub created_ms: u64,
    /// Whether it outlives its viewers while it waits.
    pub stays: bool,
    /// Whether it is the server's own.
    pub example: bool,
    /// The request, model and seed filled in.
    pub request: GenerateRequest,
    /// Name of the class.
    pub class_name: String,
    /// Name of the plan if it is a preset of the model.
    pub plan_name: Option<String>,
    /// Side of each scale's token map.
    pub patch_nums: Vec<u32>,
    /// Side of the picture in pixels.
    pub image_size: u32,
}

/// A job that was accepted and has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct UnfinishedJob {
    /// Order of acceptance.
    pub number: i64,
    /// How many programs had it before this one.
    pub attempt: u32,
    /// How many of them ended while it was running.
    pub crashes: u32,
    /// The job.
    pub record: JobRecord,
}

/// A job as it is kept, ended or not.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredJob {
    /// Order of acceptance.
    pub number: i64,
    /// Order of ending, if it has.
    pub ended: Option<i64>,
    /// Where it stands.
    pub state: JobState,
    /// The job.
    pub record: JobRecord,
    /// Where the time went, if it finished.
    pub timings: Option<Timings>,
    /// What went wrong, if it failed.
    pub error: Option<ErrorBody>,
}

/// How a job ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Every event that is no frame, the last one included.
    pub events: Vec<(u64, JobEvent)>,
    /// Every frame with its encoded picture.
    pub frames: Vec<(u64, FrameHeader, Bytes)>,
}

/// An event of an ended job.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredEvent {
    /// No frame.
    Control {
        /// Sequence number.
        seq: u64,
        /// What happened.
        event: JobEvent,
    },
    /// A frame, whose picture is still to be read.
    Frame(StoredFrame),
}

/// A frame of an ended job.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFrame {
    /// Sequence number.
    pub seq: u64,
    /// What it shows.
    pub header: FrameHeader,
    /// First byte of the picture in the job's file.
    pub start: u64,
    /// Bytes of the picture.
    pub length: u64,
    /// CRC-32 of the picture; those of earlier versions have none.
    pub crc32: Option<u32>,
}

impl StoredFrame {
    /// Checks that bytes that were read are the picture that was kept.
    ///
    /// # Errors
    /// [`StoreError::DamagedResult`] when they are others.
    pub(crate) fn check(&self, job: &JobId, picture: &[u8]) -> Result<(), StoreError> {
        let found = picture.len() as u64;
        if found != self.length {
            let reason = format!("their file is cut short ({found} of {} bytes)", self.length);
            return Err(StoreError::damaged_result(job, reason));
        }
        match self.crc32 {
            Some(kept) if kept != crc32fast::hash(picture) => {
                Err(StoreError::damaged_result(job, "their file is not what was kept"))
            }
            _ => Ok(()),
        }
    }
}

impl StoredEvent {
    /// Sequence number.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Control { seq, .. } => *seq,
            Self::Frame(frame) => frame.seq,
        }
    }
}

/// Path of a frame on this server.
pub fn frame_url(job: &JobId, seq: u64) -> String {
    format!("/api/results/{job}/frames/{seq}")
}

/// Path of a finished picture on this server.
pub fn picture_url(job: &JobId, picture: u32) -> String {
    format!("/api/results/{job}/pictures/{picture}.png")
}

impl JobRecord {
    /// The job as people see it, with the frames kept so far.
    pub fn view<'a>(
        &self,
        state: JobState,
        timings: Option<Timings>,
        error: Option<ErrorBody>,
        frames: impl IntoIterator<Item = (u64, &'a FrameHeader)>,
    ) -> JobView {
        let frames: Vec<_> = frames
            .into_iter()
            .map(|(seq, header)| FrameEntry {
                seq,
                header: header.clone(),
                url: frame_url(&self.id, seq),
            })
            .collect();
        let mut finished: Vec<_> = frames
            .iter()
            .filter(|frame| frame.header.last)
            .map(|frame| frame.header.picture)
            .collect();
        finished.sort_unstable();
        let pictures = finished.into_iter().map(|picture| picture_url(&self.id, picture)).collect();
        JobView {
            id: self.id.clone(),
            state,
            request: self.request.clone(),
            class_name: self.class_name.clone(),
            plan_name: self.plan_name.clone(),
            patch_nums: self.patch_nums.clone(),
            image_size: self.image_size,
            created_ms: self.created_ms,
            passes: self.request.passes(self.patch_nums.len() as u32),
            frames,
            pictures,
            timings,
            error,
        }
    }
}

impl StoredJob {
    /// The result as people see it in a list: without frames.
    pub fn listed(&self) -> JobView {
        let mut view = self.record.view(self.state, self.timings, self.error.clone(), []);
        view.pictures = (0..self.record.request.count)
            .map(|picture| picture_url(&self.record.id, picture))
            .collect();
        view
    }
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Database(error.to_string()))
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::damaged("a row of the database", error))
}

pub(super) fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Finished => "finished",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
        JobState::Expired => "expired",
    }
}

/// A column that holds a number that is never negative.
pub(super) fn unsigned<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> Result<T, StoreError> {
    never_negative(row.try_get(column)?, column)
}

fn never_negative<T: TryFrom<i64>>(value: i64, column: &str) -> Result<T, StoreError> {
    T::try_from(value)
        .map_err(|_| StoreError::damaged("a row of the database", format!("{column} is {value}")))
}

pub(super) fn record(row: &SqliteRow) -> Result<JobRecord, StoreError> {
    let id: &str = row.try_get("id")?;
    let owner: &[u8] = row.try_get("owner")?;
    Ok(JobRecord {
        id: id.parse().map_err(|error| StoreError::damaged("a row of the database", error))?,
        owner: owner
            .try_into()
            .map_err(|error| StoreError::damaged("a row of the database", error))?,
        created_ms: unsigned(row, "created_ms")?,
        stays: row.try_get("stays")?,
        example: row.try_get("example")?,
        request: from_json(row.try_get("request")?)?,
        class_name: row.try_get("class_name")?,
        plan_name: row.try_get("plan_name")?,
        patch_nums: from_json(row.try_get("patch_nums")?)?,
        image_size: unsigned(row, "image_size")?,
    })
}

pub(super) fn unfinished(row: &SqliteRow) -> Result<UnfinishedJob, StoreError> {
    Ok(UnfinishedJob {
        number: row.try_get("number")?,
        attempt: unsigned(row, "attempt")?,
        crashes: unsigned(row, "crashes")?,
        record: record(row)?,
    })
}

pub(super) fn stored(row: &SqliteRow) -> Result<StoredJob, StoreError> {
    let state: &str = row.try_get("state")?;
    let timings: Option<&str> = row.try_get("timings")?;
    let error: Option<&str> = row.try_get("error")?;
    Ok(StoredJob {
        number: row.try_get("number")?,
        ended: row.try_get("ended")?,
        state: from_json(&format!("{state:?}"))?,
        record: record(row)?,
        timings: timings.map(from_json).transpose()?,
        error: error.map(from_json).transpose()?,
    })
}

pub(super) fn frame(row: &SqliteRow) -> Result<StoredFrame, StoreError> {
    let crc32: Option<i64> = row.try_get("crc32")?;
    Ok(StoredFrame {
        seq: unsigned(row, "seq")?,
        header: from_json(row.try_get("header")?)?,
        start: unsigned(row, "start")?,
        length: unsigned(row, "length")?,
        crc32: crc32.map(|value| never_negative(value, "crc32")).transpose()?,
    })
}
