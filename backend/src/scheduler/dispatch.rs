//! The task that feeds the device.

use std::{
    sync::{Arc, mpsc as std_mpsc},
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use var_dd_protocol::JobEvent;

use super::{
    draw::{self, BatchPicture},
    question,
    queue::Ran,
    state::{Batch, Dispatch, Shared},
    worker::{self, Task, Work},
};
use crate::generator::{Generator, PictureRequest};

/// Reports that the device may be ahead of the encoders.
const REPORTS_WAITING: usize = 8;

/// The device thread as the dispatcher sees it.
#[derive(Debug)]
pub(super) struct Device {
    tasks: std_mpsc::SyncSender<Task>,
    thread: thread::JoinHandle<()>,
}

impl Device {
    /// Starts the thread that owns the generators, and with them the device; back when they are
    /// prepared.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) async fn start(
        shared: &Arc<Shared>,
        generators: Vec<Box<dyn Generator>>,
    ) -> std::io::Result<Self> {
        // Room for one batch whatever questions wait.
        let (tasks, given) = std_mpsc::sync_channel(1 + question::WAITING);
        shared.questions.connect(Some(tasks.clone()));
        let clock = shared.clock;
        let max_batch = u32::try_from(shared.config.max_batch).unwrap_or(u32::MAX).max(1);
        let (prepared, ready) = oneshot::channel();
        let thread = thread::Builder::new().name("device".to_owned()).spawn(move || {
            let ready = move || {
                // Nobody waits any more only when the server is going down.
                let _ = prepared.send(());
            };
            worker::run(generators, max_batch, ready, clock, &given);
        })?;
        // The thread drops its end only after it has said so.
        let _ = ready.await;
        Ok(Self { tasks, thread })
    }
}

/// Runs batch after batch until the server shuts down, then brings everything to rest.
pub(super) async fn run(shared: Arc<Shared>, device: Device) {
    let mut tasks = JoinSet::new();
    while !shared.is_closing() {
        let Dispatch { expired, batch, look_again_ms } = shared.step();
        for job in expired {
            let shared = shared.clone();
            tasks.spawn(async move {
                shared.settle(job, JobEvent::Expired).await;
            });
        }
        if let Some(work) = prepare(&shared, batch, &Handle::current(), true)
            && let Err(refused) = device.tasks.try_send(Task::Draw(work))
        {
            // The device is idle, so its channel has room: only a dead thread refuses.
            tracing::error!(%refused, "the device thread is gone; no more jobs are taken until \
                the next start");
            shared.close();
        }
        while tasks.try_join_next().is_some() {}
        shared.forget_done();
        let woken = shared.wake.notified();
        match look_again_ms {
            None => woken.await,
            Some(at_ms) => {
                let wait_ms = (at_ms - shared.clock.now_ms()).max(0.0);
                let _ =
                    tokio::time::timeout(Duration::from_secs_f64(wait_ms / 1000.0), woken).await;
            }
        }
    }
    rest(shared, device, tasks).await;
}

/// A batch for the device, with somebody to follow it; `None` if it is empty. `outer` is one that
/// others may be drawn between the passes of.
fn prepare(shared: &Arc<Shared>, batch: Batch, tasks: &Handle, outer: bool) -> Option<Work> {
    let Batch { parts, taken } = batch;
    let pictures: Vec<_> = parts
        .into_iter()
        .flat_map(|(job, indices)| {
            indices.map(move |index| BatchPicture { job: job.clone(), index })
        })
        .collect();
    let first = pictures.first()?.job.clone();
    let now_ms = shared.clock.now_ms();
    let mut started = Vec::new();
    for picture in &pictures {
        if let Some(queue_ms) = picture.job.started(now_ms) {
            shared.metrics.queue.observe(queue_ms / 1000.0);
            started.push(picture.job.clone());
        }
    }
    shared.metrics.batch_pictures.observe(pictures.len() as f64);
    let marked = shared.clone();
    shared.adopt(tasks.spawn(async move {
        let numbers: Vec<i64> =
            join_all(started.iter().map(|job| job.kept())).await.into_iter().flatten().collect();
        if let Err(error) = marked.ends.started(&numbers).await {
            tracing::warn!(%error, "jobs cannot be marked as running");
        }
    }));
    let (reports, from_device) = mpsc::channel(REPORTS_WAITING);
    shared.adopt(tasks.spawn(draw::follow(shared.clone(), pictures.clone(), from_device)));
    // The device thread ends when the dispatcher does; it must not keep the store open until then.
    let weak = Arc::downgrade(shared);
    let between = outer.then(|| {
        let (weak, tasks, taken) = (weak.clone(), tasks.clone(), taken.clone());
        Box::new(move |remaining_ms| {
            let shared = weak.upgrade().filter(|shared| !shared.is_closing())?;
            let batch = shared.step_between(&taken, remaining_ms);
            prepare(&shared, batch, &tasks, false)
        }) as Box<dyn Fn(f64) -> Option<Work> + Send>
    });
    let (jobs, closing) = (pictures.clone(), weak.clone());
    Some(Work {
        model: first.model,
        plan: first.plan().clone(),
        explore: first.explore(),
        frames: first.frames,
        pictures: pictures.iter().map(picture_request).collect(),
        unwanted: Box::new(move |range| {
            let Some(shared) = closing.upgrade().filter(|shared| !shared.is_closing()) else {
                return true;
            };
            let now_ms = shared.clock.now_ms();
            jobs[range].iter().all(|picture| picture.job.is_over() || picture.job.is_late(now_ms))
        }),
        between,
        drawn: Box::new(move |batch_ms| {
            if let Some(shared) = weak.upgrade() {
                let batch = Ran {
                    model: first.model,
                    plan: first.plan(),
                    frames: first.frames,
                    taken: &taken,
                };
                shared.drawn(batch, batch_ms, outer);
            }
        }),
        reports,
    })
}

fn picture_request(picture: &BatchPicture) -> PictureRequest {
    let request = &picture.job.record.request;
    PictureRequest {
        class: request.class,
        seed: request.seed.unwrap_or_default(),
        index: picture.index,
    }
}

/// Lets the device and the tasks end; what has not ended by then is left to the next start.
async fn rest(shared: Arc<Shared>, device: Device, mut tasks: JoinSet<()>) {
    let Device { tasks: sender, thread } = device;
    shared.questions.connect(None);
    drop(sender);
    while tasks.join_next().await.is_some() {}
    for task in shared.adopted() {
        // A panic was told of where it happened.
        let _ = task.await;
    }
    if !matches!(tokio::task::spawn_blocking(move || thread.join()).await, Ok(Ok(()))) {
        tracing::error!("the device thread ended with a panic");
    }
    shared.leave_all();
    if let Err(error) = shared.ends.put_back().await {
        tracing::warn!(%error, "running jobs cannot be put back");
    }
    shared.ends.close().await;
    shared.closed.send_replace(true);
}
