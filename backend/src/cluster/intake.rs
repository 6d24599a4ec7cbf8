//! Where a worker's jobs come from: the consumers of its models, people at a page first, as far as
//! there is room.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::{
    AckKind, Message,
    consumer::{Consumer, pull},
};
use futures_util::StreamExt;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};

/// Between two attempts at what failed.
const PAUSE: Duration = Duration::from_millis(500);
/// With so many jobs waiting in the broker a worker fetches the next one while it draws. With
/// fewer, another worker may be free before it is.
const DEEP: u64 = 8;

/// How many jobs a worker has that its device is not done with.
#[derive(Debug, Default)]
pub(super) struct Room {
    counts: Mutex<Counts>,
    /// Jobs that waited in the broker when the last one was taken.
    backlog: AtomicU64,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    /// Not begun yet.
    waiting: usize,
    /// On the device.
    drawing: usize,
}

impl Room {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing in a critical section leaves it half-done.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a job that was taken; given up on drop at the latest.
    pub(super) fn place(self: &Arc<Self>) -> Place {
        self.counts().waiting += 1;
        Place { room: self.clone(), stage: Stage::Waiting }
    }

    /// Whether more jobs are to be taken now.
    fn is_there(&self) -> bool {
        let counts = self.counts();
        let deep = self.backlog.load(Ordering::Relaxed) >= DEEP;
        counts.waiting == 0 && (counts.drawing == 0 || deep)
    }

    /// Has whoever waits for room look again.
    pub(super) fn look_again(&self) {
        self.changed.notify_one();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Drawing,
    Drawn,
}

/// The place of one job.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    stage: Stage,
}

impl Place {
    /// The device has begun with the job.
    pub(super) fn begun(&mut self) {
        self.reach(Stage::Drawing);
    }

    /// The device is done with it.
    pub(super) fn drawn(&mut self) {
        self.reach(Stage::Drawn);
    }

    fn reach(&mut self, stage: Stage) {
        if self.stage == stage || self.stage == Stage::Drawn {
            return;
        }
        let mut counts = self.room.counts();
        match self.stage {
            Stage::Waiting => counts.waiting -= 1,
            Stage::Drawing => counts.drawing -= 1,
            Stage::Drawn => {}
        }
        match stage {
            Stage::Waiting => counts.waiting += 1,
            Stage::Drawing => counts.drawing += 1,
            Stage::Drawn => {}
        }
        self.stage = stage;
        drop(counts);
        self.room.look_again();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.drawn();
    }
}

/// What a standing pull tells.
enum Come {
    Job(Box<Message>),
    /// The one at this consumer has ended.
    Ended(usize),
}

/// Takes jobs from consumers.
pub(super) struct Intake {
    room: Arc<Room>,
    /// In the order in which they are asked.
    consumers: Vec<Consumer<pull::Config>>,
    /// Most jobs taken at once.
    most: usize,
    /// How long a pull stays open.
    open_for: Duration,
    /// Whether a pull is open at each of them.
    standing: Vec<bool>,
    /// A pull is read as long as it is open: what lies unread in it is nobody's.
    pulls: JoinSet<()>,
    tell: mpsc::UnboundedSender<Come>,
    told: mpsc::UnboundedReceiver<Come>,
}

impl Intake {
    pub(super) fn new(
        room: Arc<Room>,
        consumers: Vec<Consumer<pull::Config>>,
        most: usize,
        open_for: Duration,
    ) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let (standing, pulls) = (vec![false; consumers.len()], JoinSet::new());
        Self { room, consumers, most, open_for, standing, pulls, tell, told }
    }

    /// The jobs that there are, else the next one that comes. None where there may be reason to
    /// stop, or to ask anew.
    pub(super) async fn next(&mut self) -> Vec<Message> {
        if self.room.is_there() {
            let taken = self.at_once().await;
            if !taken.is_empty() {
                return taken;
            }
            self.stand();
        }
        let room = self.room.clone();
        tokio::select! {
            come = self.told.recv() => come.and_then(|come| self.hear(come)).into_iter().collect(),
            () = room.changed.notified() => Vec::new(),
        }
    }

    /// Jobs that have come, else those of the first consumer that has some.
    async fn at_once(&mut self) -> Vec<Message> {
        while let Ok(come) = self.told.try_recv() {
            if let Some(message) = self.hear(come) {
                return vec![message];
            }
        }
        // A pull that is open has what there is.
        for index in (0..self.consumers.len()).filter(|&index| !self.standing[index]) {
            let fetch = self.consumers[index].fetch().max_messages(self.most).messages();
            let taken: Vec<_> = match fetch.await {
                Ok(messages) => messages.filter_map(async |message| message.ok()).collect().await,
                Err(error) => {
                    tracing::warn!(%error, "no jobs can be taken; trying again");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if let Some(last) = taken.last() {
                self.see(last);
                return taken;
            }
        }
        self.room.backlog.store(0, Ordering::Relaxed);
        Vec::new()
    }

    /// Opens a pull at every consumer where none is.
    fn stand(&mut self) {
        while self.pulls.try_join_next().is_some() {}
        for (index, consumer) in self.consumers.iter().enumerate() {
            if !std::mem::replace(&mut self.standing[index], true) {
                let (consumer, tell) = (consumer.clone(), self.tell.clone());
                self.pulls.spawn(stand(index, consumer, self.open_for, tell));
            }
        }
    }

    fn hear(&mut self, come: Come) -> Option<Message> {
        match come {
            Come::Job(message) => {
                self.see(&message);
                Some(*message)
            }
            Come::Ended(index) => {
                self.standing[index] = false;
                None
            }
        }
    }

    /// Remembers how many jobs wait behind this one.
    fn see(&self, message: &Message) {
        let pending = message.info().map_or(0, |info| info.pending);
        self.room.backlog.store(pending, Ordering::Relaxed);
    }

    /// Gives back what has come and was not taken.
    pub(super) async fn close(mut self) {
        self.pulls.shutdown().await;
        while let Ok(come) = self.told.try_recv() {
            if let Come::Job(message) = come
                && let Err(error) = message.ack_with(AckKind::Nak(None)).await
            {
                tracing::warn!(%error, "the queue cannot be told of a job");
            }
        }
    }
}

/// One pull for one job, open until there is one or the time is over.
async fn stand(
    index: usize,
    consumer: Consumer<pull::Config>,
    open_for: Duration,
    tell: mpsc::UnboundedSender<Come>,
) {
    match consumer.batch().max_messages(1).expires(open_for).messages().await {
        Ok(mut messages) => {
            while let Some(message) = messages.next().await {
                match message {
                    Ok(message) => {
                        let _ = tell.send(Come::Job(Box::new(message)));
                    }
                    Err(error) => tracing::debug!(%error, "a pull ended"),
                }
            }
        }
        Err(error) => {
            tracing::warn!(%error, "no jobs can be taken; trying again");
            tokio::time::sleep(PAUSE).await;
        }
    }
    let _ = tell.send(Come::Ended(index));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_takes_what_it_can_draw_now_and_more_only_from_a_long_queue() {
        let room = Arc::new(Room::default());
        assert!(room.is_there());
        let mut first = room.place();
        assert!(!room.is_there(), "a job waits for the device");
        first.begun();
        assert!(!room.is_there(), "the device is at work");
        room.backlog.store(DEEP, Ordering::Relaxed);
        assert!(room.is_there(), "and so many wait that each worker has a next one");
        let second = room.place();
        assert!(!room.is_there(), "that next one waits here");
        drop(second);
        room.backlog.store(0, Ordering::Relaxed);
        first.drawn();
        first.begun();
        assert!(room.is_there(), "what was drawn is not begun again");
        drop(first);
        assert!(room.is_there());
    }
}
