//! The task that feeds the device.

use std::{
    sync::{Arc, Weak, mpsc as std_mpsc},
    thread,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use var_dd_protocol::JobEvent;

use super::{
    draw::{self, BatchPicture},
    state::{Shared, Step},
    worker::{self, Work},
};
use crate::generator::{Generator, PictureRequest};

/// Reports that the device may be ahead of the encoders.
const REPORTS_WAITING: usize = 8;

/// The device thread as the dispatcher sees it.
#[derive(Debug)]
pub(super) struct Device {
    work: std_mpsc::SyncSender<Work>,
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
        let (work, works) = std_mpsc::sync_channel(1);
        // The thread ends when the dispatcher does; it must not keep the store open until then.
        let weak: Weak<Shared> = Arc::downgrade(shared);
        let clock = shared.clock;
        let max_batch = u32::try_from(shared.config.max_batch).unwrap_or(u32::MAX).max(1);
        let (prepared, ready) = oneshot::channel();
        let thread = thread::Builder::new().name("device".to_owned()).spawn(move || {
            let ready = move || {
                // Nobody waits any more only when the server is going down.
                let _ = prepared.send(());
            };
            worker::run(generators, max_batch, ready, clock, &works, |batch_ms| {
                if let Some(shared) = weak.upgrade() {
                    shared.device_idle(batch_ms);
                }
            });
        })?;
        // The thread drops its end only after it has said so.
        let _ = ready.await;
        Ok(Self { work, thread })
    }
}

/// Runs batch after batch until the server shuts down, then brings everything to rest.
pub(super) async fn run(shared: Arc<Shared>, device: Device) {
    let mut tasks = JoinSet::new();
    while !shared.is_closing() {
        let Step { expired, batch, look_again_ms } = shared.step();
        for job in expired {
            let shared = shared.clone();
            tasks.spawn(async move {
                shared.settle(job, JobEvent::Expired).await;
            });
        }
        if !batch.is_empty() {
            let pictures = batch
                .into_iter()
                .flat_map(|(job, indices)| {
                    indices.map(move |index| BatchPicture { job: job.clone(), index })
                })
                .collect();
            start_batch(&shared, &device, pictures, &mut tasks);
        }
        while tasks.try_join_next().is_some() {}
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

fn start_batch(
    shared: &Arc<Shared>,
    device: &Device,
    pictures: Vec<BatchPicture>,
    tasks: &mut JoinSet<()>,
) {
    let now_ms = shared.clock.now_ms();
    let mut numbers = Vec::new();
    for picture in &pictures {
        if let Some(queue_ms) = picture.job.started(now_ms) {
            shared.metrics.queue.observe(queue_ms / 1000.0);
            numbers.push(picture.job.number);
        }
    }
    shared.metrics.batch_pictures.observe(pictures.len() as f64);
    let marked = shared.clone();
    tasks.spawn(async move {
        if let Err(error) = marked.store.started(&numbers).await {
            tracing::warn!(%error, "jobs cannot be marked as running");
        }
    });
    let Some(first) = pictures.first() else { return };
    let (reports, from_device) = mpsc::channel(REPORTS_WAITING);
    let (jobs, closing) = (pictures.clone(), Arc::downgrade(shared));
    let work = Work {
        model: first.job.model,
        plan: first.job.plan.clone(),
        frames: first.job.frames,
        pictures: pictures.iter().map(picture_request).collect(),
        unwanted: Box::new(move |range| {
            let closing = closing.upgrade().is_none_or(|shared| shared.is_closing());
            closing || jobs[range].iter().all(|picture| picture.job.is_over())
        }),
        reports,
    };
    if let Err(refused) = device.work.try_send(work) {
        // The device is idle, so its channel has room: only a dead thread refuses.
        tracing::error!(%refused, "the device thread is gone; no more jobs are taken until the \
            next start");
        shared.close();
    }
    tasks.spawn(draw::follow(shared.clone(), pictures, from_device));
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
    let Device { work, thread } = device;
    drop(work);
    while tasks.join_next().await.is_some() {}
    if !matches!(tokio::task::spawn_blocking(move || thread.join()).await, Ok(Ok(()))) {
        tracing::error!("the device thread ended with a panic");
    }
    shared.leave_all();
    if let Err(error) = shared.store.put_back().await {
        tracing::warn!(%error, "running jobs cannot be put back");
    }
    shared.store.close().await;
    shared.closed.send_replace(true);
}
