//! What finished lately, as every gateway knows it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::jetstream::{Context, consumer::DeliverPolicy};
use serde::{Deserialize, Serialize};
use var_dd_protocol::{JobId, JobView};

use super::{
    ClusterError,
    names::{RECENT, RECENT_SUBJECT},
    reader::Reader,
};

/// A message about results.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Recent {
    /// A job finished.
    Finished {
        /// As it is listed, without frames.
        view: Box<JobView>,
        /// Whether it is the servers' own.
        example: bool,
    },
    /// A result was deleted.
    Deleted(JobId),
}

impl Recent {
    /// The name by which the broker knows it when it comes twice.
    pub(super) fn message_id(&self) -> String {
        match self {
            Self::Finished { view, .. } => format!("finished-{}", view.id),
            Self::Deleted(job) => format!("deleted-{job}"),
        }
    }
}

/// Results kept in mind; older ones are still there for whoever knows their names.
const MOST: usize = 2_000;

/// Between two attempts to reach the broker.
const PAUSE: Duration = Duration::from_secs(1);

/// The newest results, kept up to date in the background.
#[derive(Clone, Debug, Default)]
pub(super) struct RecentList(Arc<Mutex<Listed>>);

#[derive(Debug, Default)]
struct Listed {
    /// By the number of their message.
    results: BTreeMap<u64, JobView>,
    example: Option<JobView>,
}

impl RecentList {
    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what there is and goes on reading, until dropped with the task that it runs on.
    pub(super) async fn follow(self, jetstream: Context) {
        loop {
            let Err(error) = self.read(&jetstream).await;
            tracing::warn!(%error, "the list of results cannot be read; trying again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn read(&self, jetstream: &Context) -> Result<Infallible, ClusterError> {
        let stream = jetstream.get_stream(RECENT).await.map_err(ClusterError::broker)?;
        let mut reader = Reader::new(stream, RECENT_SUBJECT, DeliverPolicy::All);
        loop {
            let Some((number, message)) = reader.next().await? else { continue };
            match serde_json::from_slice(&message.payload) {
                Ok(news) => self.learn(number, news),
                // A newer program may say more.
                Err(error) => tracing::warn!(%error, "news that cannot be read"),
            }
        }
    }

    fn learn(&self, number: u64, news: Recent) {
        let mut listed = self.listed();
        match news {
            Recent::Finished { view, example } => {
                if example {
                    listed.example = Some((*view).clone());
                }
                listed.results.insert(number, *view);
                while listed.results.len() > MOST {
                    listed.results.pop_first();
                }
            }
            Recent::Deleted(job) => {
                listed.results.retain(|_, view| view.id != job);
                listed.example.take_if(|view| view.id == job);
            }
        }
    }

    /// At most `limit` results of those before `before`, the newest first, with their numbers.
    pub(super) fn before(&self, before: Option<u64>, limit: usize) -> Vec<(u64, JobView)> {
        let listed = self.listed();
        let range = listed.results.range(..before.unwrap_or(u64::MAX));
        range.rev().take(limit).map(|(number, view)| (*number, view.clone())).collect()
    }

    /// The newest example of a model.
    pub(super) fn example(&self, model: &str) -> Option<JobId> {
        let listed = self.listed();
        let example = listed.example.as_ref()?;
        (example.request.model.as_deref() == Some(model)).then(|| example.id.clone())
    }
}
