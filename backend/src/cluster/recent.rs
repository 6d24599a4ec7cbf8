//! What finished lately, as every gateway knows it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::jetstream::{
    Context,
    consumer::{DeliverPolicy, pull::OrderedConfig},
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use var_dd_protocol::{JobId, JobView};

use super::{
    ClusterError,
    names::{RECENT, RECENT_SUBJECT},
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
            if let Err(error) = self.read(&jetstream).await {
                tracing::warn!(%error, "the list of results cannot be read; trying again");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn read(&self, jetstream: &Context) -> Result<(), ClusterError> {
        let stream = jetstream.get_stream(RECENT).await.map_err(ClusterError::broker)?;
        let config = OrderedConfig {
            filter_subject: RECENT_SUBJECT.to_owned(),
            deliver_policy: DeliverPolicy::All,
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(ClusterError::broker)?;
        let mut messages = consumer.messages().await.map_err(ClusterError::broker)?;
        while let Some(message) = messages.next().await {
            let message = message.map_err(ClusterError::broker)?;
            let number = message.info().map_err(ClusterError::broker)?.stream_sequence;
            match serde_json::from_slice(&message.payload) {
                Ok(news) => self.learn(number, news),
                // A newer program may say more.
                Err(error) => tracing::warn!(%error, "news that cannot be read"),
            }
        }
        Ok(())
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
