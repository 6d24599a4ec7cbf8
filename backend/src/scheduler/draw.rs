//! One batch on its way from the device to its jobs: reports in, encoded frames and ends out.

use std::{ops::Range, sync::Arc};

use futures_util::{StreamExt, stream};
use image::RgbImage;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use var_dd_protocol::{ErrorBody, FramePosition, JobEvent};

use super::{
    encode::encode,
    live::{EncodedPicture, LiveJob, internal},
    state::Shared,
    worker::Report,
};
use crate::generator::GeneratorEvent;

/// Reports whose pictures are encoded at the same time.
const REPORTS_AHEAD: usize = 4;

/// One picture of a batch.
#[derive(Clone, Debug)]
pub(super) struct BatchPicture {
    /// The job it belongs to.
    pub(super) job: Arc<LiveJob>,
    /// Its index in the job.
    pub(super) index: u32,
}

type Encoding = JoinHandle<Result<EncodedPicture, ErrorBody>>;

/// A report with its pictures on the way to the encoders, or past them.
enum Passed<E> {
    Report(Report),
    Frames {
        pictures: Range<usize>,
        at: FramePosition,
        decode_ms: f64,
        /// `None` where nobody wants the frame.
        encoded: Vec<Option<E>>,
    },
}

/// Takes the reports of a batch until the device is done with it, and ends the jobs that are
/// complete.
///
/// Pictures are encoded side by side; what comes out keeps the order of the reports, so every job's
/// events are numbered in the order in which they happened.
pub(super) async fn follow(
    shared: Arc<Shared>,
    batch: Vec<BatchPicture>,
    reports: mpsc::Receiver<Report>,
) {
    let mut ends = JoinSet::new();
    let reports = stream::unfold(reports, async |mut reports| {
        let report = reports.recv().await?;
        Some((report, reports))
    });
    let mut passed = reports
        .map(|report| encoded(send_to_encoders(&shared, &batch, report)))
        .buffered(REPORTS_AHEAD)
        .boxed();
    while let Some(passed) = passed.next().await {
        match passed {
            Passed::Report(report) => tell(&shared, &batch, report, &mut ends),
            Passed::Frames { pictures, at, decode_ms, encoded } => {
                shared.metrics.decode.observe(decode_ms / 1000.0);
                for job in jobs(&batch[pictures.clone()]) {
                    job.decoded(decode_ms);
                }
                for (picture, encoded) in batch[pictures.clone()].iter().zip(encoded) {
                    match encoded {
                        None => {}
                        Some(Ok(encoded)) => {
                            shared.metrics.frame(
                                encoded.media_type,
                                encoded.bytes.len(),
                                encoded.encode_ms,
                            );
                            picture.job.add_frame(
                                picture.index,
                                at,
                                encoded,
                                shared.clock.now_ms(),
                            );
                        }
                        Some(Err(error)) => {
                            end(&shared, &mut ends, &picture.job, JobEvent::Failed { error })
                        }
                    }
                }
                for job in jobs(&batch[pictures]) {
                    if let Some(timings) = job.complete() {
                        end(&shared, &mut ends, job, JobEvent::Finished { timings });
                    }
                }
            }
        }
    }
    drop(passed);
    // A job that is over, or left to the next start, misses pictures rightly; another one never.
    for picture in &batch {
        if !shared.is_closing() && !picture.job.is_over() && !picture.job.has_picture(picture.index)
        {
            let last = if picture.job.is_late(shared.clock.now_ms()) {
                JobEvent::Expired
            } else {
                let index = picture.index;
                let error = internal(format!("the model ended without drawing picture {index}"));
                JobEvent::Failed { error }
            };
            end(&shared, &mut ends, &picture.job, last);
        }
    }
    while ends.join_next().await.is_some() {}
    shared.batch_done();
}

/// The jobs of some pictures, each once. Pictures of a job lie side by side.
fn jobs(pictures: &[BatchPicture]) -> impl Iterator<Item = &Arc<LiveJob>> {
    pictures
        .chunk_by(|a, b| Arc::ptr_eq(&a.job, &b.job))
        .filter_map(|chunk| Some(&chunk.first()?.job))
}

fn end(shared: &Arc<Shared>, ends: &mut JoinSet<()>, job: &Arc<LiveJob>, last: JobEvent) {
    // At once: what comes next must find that it is over, and not end it in another way.
    let Some(ending) = job.freeze(last.clone()) else { return };
    let (shared, job) = (shared.clone(), job.clone());
    ends.spawn(async move {
        shared.settle_frozen(job, last, ending).await;
    });
}

/// Tells the jobs what a report says, pictures apart.
fn tell(shared: &Arc<Shared>, batch: &[BatchPicture], report: Report, ends: &mut JoinSet<()>) {
    match report {
        Report::Event { pictures, at_ms, event } => match event {
            GeneratorEvent::PassBegan { pass, passes, of } => {
                for job in jobs(&batch[pictures]) {
                    job.pass_began(pass, passes, of, at_ms);
                }
            }
            GeneratorEvent::PassEnded { pass, transformer_ms } => {
                shared.metrics.transformer.observe(transformer_ms / 1000.0);
                for job in jobs(&batch[pictures]) {
                    job.pass_ended(pass, transformer_ms, at_ms);
                }
            }
            // As many pictures as were asked for have gone to the encoders.
            GeneratorEvent::Decoded { pictures: drawn, .. } => {
                let message =
                    format!("the model drew {} pictures of {}", drawn.len(), pictures.len());
                for job in jobs(&batch[pictures]) {
                    let error = internal(message.clone());
                    end(shared, ends, job, JobEvent::Failed { error });
                }
            }
        },
        Report::Halved => {
            shared.metrics.halved_batches.inc();
        }
        Report::Failed { pictures, error } => {
            for job in jobs(&batch[pictures]) {
                let error = error.clone();
                end(shared, ends, job, JobEvent::Failed { error });
            }
        }
    }
}

/// Starts to encode the pictures of a report.
fn send_to_encoders(
    shared: &Arc<Shared>,
    batch: &[BatchPicture],
    report: Report,
) -> Passed<Encoding> {
    match report {
        Report::Event {
            pictures,
            event: GeneratorEvent::Decoded { pass, scale, pictures: drawn, decode_ms },
            ..
        } if drawn.len() == pictures.len() => {
            let at = FramePosition { pass: pass as u32, scale: scale as u32 };
            let wanted = batch[pictures.clone()].iter().zip(drawn);
            let encoded = wanted
                .map(|(of, picture)| {
                    of.job
                        .wants(of.index, at)
                        .then(|| send_to_encoder(shared, picture, of.job.is_last(at)))
                })
                .collect();
            Passed::Frames { pictures, at, decode_ms, encoded }
        }
        report => Passed::Report(report),
    }
}

fn send_to_encoder(shared: &Arc<Shared>, picture: RgbImage, last: bool) -> Encoding {
    let encoders = shared.encoders.clone();
    tokio::spawn(async move {
        // As many at a time as there are processors: more would only make the first ones late.
        let _permit = encoders.acquire_owned().await;
        tokio::task::spawn_blocking(move || encode(&picture, last))
            .await
            .map_err(|error| internal(format!("encoding a picture failed: {error}")))?
            .map_err(|error| internal(format!("a picture cannot be encoded: {error}")))
    })
}

/// Waits for the encoders.
async fn encoded(passed: Passed<Encoding>) -> Passed<Result<EncodedPicture, ErrorBody>> {
    match passed {
        Passed::Report(report) => Passed::Report(report),
        Passed::Frames { pictures, at, decode_ms, encoded } => {
            let mut done = Vec::with_capacity(encoded.len());
            for encoding in encoded {
                done.push(match encoding {
                    None => None,
                    Some(encoding) => Some(encoding.await.unwrap_or_else(|error| {
                        Err(internal(format!("encoding a picture failed: {error}")))
                    })),
                });
            }
            Passed::Frames { pictures, at, decode_ms, encoded: done }
        }
    }
}
