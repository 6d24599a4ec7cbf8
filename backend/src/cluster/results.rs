//! What is kept of ended jobs, in an object store.
//!
//! ```text
//! PREFIX/results/JOB/record.json   the job, its events, where each picture lies
//! PREFIX/results/JOB/frames.N      the pictures of its Nth run, one after the other
//! ```
//! Objects are only ever created, the record last; so a run that is repeated cannot change what
//! another one kept, and a record never lacks its pictures. What a worker that went down between
//! the two left behind has no record; rules of the bucket may expire it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::{
    ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, path::Path as Key,
};
use serde::{Deserialize, Serialize};
use var_dd_protocol::{FrameHeader, JobEvent, JobId, JobState, JobView};

use super::{
    ClusterError,
    entry::{Posted, VERSION},
};
use crate::storage::{Ending, Pictures, StoreError, StoredEvent, StoredFrame};

/// What is kept of a job beside its pictures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The job.
    pub(super) posted: Posted,
    /// The run that was kept.
    pub(super) attempt: u32,
    /// Every event that is no frame, the last one included.
    pub(super) events: Vec<(u64, JobEvent)>,
    /// Every frame.
    pub(super) frames: Vec<KeptFrame>,
}

/// A frame, and where its picture lies in the object of pictures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeptFrame {
    seq: u64,
    header: FrameHeader,
    start: u64,
    length: u64,
    /// CRC-32 of the picture; those of earlier versions have none.
    #[serde(default)]
    crc32: Option<u32>,
}

impl Kept {
    /// How it ended.
    pub(super) fn last(&self) -> Option<&JobEvent> {
        self.events.last().map(|(_, event)| event)
    }

    /// Where it stands.
    pub(super) fn state(&self) -> JobState {
        self.last().and_then(JobEvent::state).unwrap_or(JobState::Failed)
    }

    /// Its events from the one after `after` on, in order.
    pub(super) fn events(&self, after: Option<u64>) -> Vec<StoredEvent> {
        let control = self
            .events
            .iter()
            .map(|(seq, event)| StoredEvent::Control { seq: *seq, event: event.clone() });
        let frames = self.frames.iter().map(|frame| StoredEvent::Frame(frame.stored()));
        let is_new = |event: &StoredEvent| after.is_none_or(|after| event.seq() > after);
        let mut events: Vec<_> = control.chain(frames).filter(is_new).collect();
        events.sort_unstable_by_key(StoredEvent::seq);
        events
    }

    /// The job as people see it.
    pub(super) fn view(&self) -> JobView {
        let (timings, error) = match self.last() {
            Some(JobEvent::Finished { timings }) => (Some(*timings), None),
            Some(JobEvent::Failed { error }) => (None, Some(error.clone())),
            _ => (None, None),
        };
        let frames = self.frames.iter().map(|frame| (frame.seq, &frame.header));
        self.posted.record.view(self.state(), timings, error, frames)
    }

    /// A frame that `wanted` accepts.
    pub(super) fn frame(&self, wanted: impl Fn(u64, &FrameHeader) -> bool) -> Option<StoredFrame> {
        let found = self.frames.iter().find(|frame| wanted(frame.seq, &frame.header));
        found.map(KeptFrame::stored)
    }
}

impl KeptFrame {
    fn stored(&self) -> StoredFrame {
        StoredFrame {
            seq: self.seq,
            header: self.header.clone(),
            start: self.start,
            length: self.length,
            crc32: self.crc32,
        }
    }
}

/// The results.
#[derive(Clone, Debug)]
pub(super) struct Results {
    objects: Arc<dyn ObjectStore>,
    prefix: Key,
}

impl Results {
    /// The results under a prefix of an object store.
    pub(super) fn new(objects: Arc<dyn ObjectStore>, prefix: Key) -> Self {
        Self { objects, prefix }
    }

    fn key(&self, job: &JobId, name: &str) -> Key {
        self.prefix.clone().join("results").join(job.as_str()).join(name)
    }

    fn record_key(&self, job: &JobId) -> Key {
        self.key(job, "record.json")
    }

    fn frames_key(&self, job: &JobId, attempt: u32) -> Key {
        self.key(job, &format!("frames.{attempt}"))
    }

    /// Creates an object; whether there was none.
    async fn create(&self, key: &Key, payload: PutPayload) -> Result<bool, ClusterError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.objects.put_opts(key, payload, options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(ClusterError::results(error)),
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, ClusterError> {
        match self.objects.get(key).await {
            Ok(found) => found.bytes().await.map(Some).map_err(ClusterError::results),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(ClusterError::results(error)),
        }
    }

    /// Keeps the end of a job. Asked again for the same run it does nothing.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub(super) async fn put(
        &self,
        posted: Posted,
        attempt: u32,
        ending: &Ending,
    ) -> Result<(), ClusterError> {
        let job = posted.record.id.clone();
        let mut start = 0;
        let mut frames = Vec::with_capacity(ending.frames.len());
        for (seq, header, picture) in &ending.frames {
            let length = picture.len() as u64;
            let crc32 = Some(crc32fast::hash(picture));
            frames.push(KeptFrame { seq: *seq, header: header.clone(), start, length, crc32 });
            start += length;
        }
        if !frames.is_empty() {
            let pictures: PutPayload =
                ending.frames.iter().map(|(_, _, picture)| picture.clone()).collect();
            self.create(&self.frames_key(&job, attempt), pictures).await?;
        }
        let kept = Kept { posted, attempt, events: ending.events.clone(), frames };
        let record =
            serde_json::to_vec(&kept).map_err(|error| ClusterError::format("a result", error))?;
        self.create(&self.record_key(&job), record.into()).await?;
        Ok(())
    }

    /// What is kept of a job.
    ///
    /// # Errors
    /// When the store gives no answer, or what lies there cannot be read.
    pub(super) async fn find(&self, job: &JobId) -> Result<Option<Kept>, ClusterError> {
        let Some(bytes) = self.get(&self.record_key(job)).await? else { return Ok(None) };
        let kept: Kept = serde_json::from_slice(&bytes)
            .map_err(|error| ClusterError::format(format!("the result {job}"), error))?;
        if kept.posted.version > VERSION {
            let reason = format!("it has version {}", kept.posted.version);
            return Err(ClusterError::format(format!("the result {job}"), reason));
        }
        Ok(Some(kept))
    }

    /// Deletes a result. The record goes first: what is left of a deletion that was interrupted is
    /// no result any more.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub(super) async fn delete(&self, kept: &Kept) -> Result<(), ClusterError> {
        let job = &kept.posted.record.id;
        for key in [self.record_key(job), self.frames_key(job, kept.attempt)] {
            match self.objects.delete(&key).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(ClusterError::results(error)),
            }
        }
        Ok(())
    }

    /// The pictures of one run of a job.
    pub(super) fn pictures(&self, attempt: u32) -> RunPictures {
        RunPictures { results: self.clone(), attempt }
    }

    /// Checks that objects can be created once, and only once, read and deleted.
    ///
    /// # Errors
    /// What cannot.
    pub(super) async fn probe(&self, name: &str) -> Result<(), ClusterError> {
        let key = self.prefix.clone().join("probe").join(name);
        let payload = || PutPayload::from_static(b"var-dd");
        let first = self.create(&key, payload()).await?;
        let second = self.create(&key, payload()).await?;
        let read = self.get(&key).await?;
        self.objects.delete(&key).await.map_err(ClusterError::results)?;
        match (first, second, read.as_deref()) {
            (true, false, Some(b"var-dd")) => Ok(()),
            (_, true, _) => Err(ClusterError::Results(
                "it lets an object be created twice; one with conditional writes is needed (S3's \
                 `If-None-Match: *`)"
                    .into(),
            )),
            _ => Err(ClusterError::Results("what was written cannot be read back".into())),
        }
    }
}

/// The pictures of one run of jobs.
#[derive(Clone, Debug)]
pub(super) struct RunPictures {
    results: Results,
    attempt: u32,
}

#[async_trait]
impl Pictures for RunPictures {
    async fn picture(&self, job: &JobId, frame: &StoredFrame) -> Result<Option<Bytes>, StoreError> {
        let key = self.results.frames_key(job, self.attempt);
        let range = frame.start..frame.start + frame.length;
        match self.results.objects.get_range(&key, range).await {
            Ok(bytes) => {
                frame.check(job, &bytes)?;
                Ok(Some(bytes))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
