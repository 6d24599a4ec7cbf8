//! The scheduler as a whole, with a stand-in for the engine and a real store.

mod asking;
mod ends;
mod fairness;
mod flow;
mod keeping;
mod order;
mod restart;
mod viewers;

use std::path::Path;

use tempfile::TempDir;
use var_dd_protocol::Plan;

use super::*;
use crate::{
    generator::fake::{self, FakeGenerator, few_step},
    jobs::ViewerEvent,
};

fn config() -> SchedulerConfig {
    SchedulerConfig {
        batch_window: Duration::ZERO,
        keep_for: Duration::ZERO,
        ..SchedulerConfig::default()
    }
}

fn request(class: u32, plan: Plan, count: u32) -> GenerateRequest {
    GenerateRequest {
        model: None,
        class,
        plan,
        seed: Some(1000 + u64::from(class)),
        count,
        last_frame_first: false,
        deadline_ms: None,
        explore: None,
    }
}

async fn start_in(
    directory: &Path,
    config: SchedulerConfig,
    generator: &FakeGenerator,
) -> Scheduler {
    let store = Store::open(directory).await.unwrap();
    Scheduler::start(config, store, vec![Box::new(generator.clone())]).await.unwrap()
}

/// A scheduler in an empty directory, which goes with the returned guard.
async fn start(config: SchedulerConfig, generator: &FakeGenerator) -> (Scheduler, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (start_in(directory.path(), config, generator).await, directory)
}

fn generator() -> FakeGenerator {
    FakeGenerator::new(fake::model("small"))
}

/// Everything up to the end.
async fn all(mut viewer: Viewer) -> Vec<ViewerEvent> {
    let mut events = Vec::new();
    while let Some(event) = viewer.next().await {
        events.push(event);
    }
    events
}

/// Reads until an event that `is_it` accepts, which is the last one returned.
async fn until(viewer: &mut Viewer, is_it: impl Fn(&JobEvent) -> bool) -> Vec<ViewerEvent> {
    let mut events = Vec::new();
    loop {
        let event = viewer.next().await.expect("the job ended too soon");
        let found = matches!(&event, ViewerEvent::Control { event, .. } if is_it(event));
        events.push(event);
        if found {
            return events;
        }
    }
}

async fn submit_and_watch(scheduler: &Scheduler, request: GenerateRequest) -> (Accepted, Viewer) {
    let accepted = scheduler.submit(request, Unwatched::Stays).await.unwrap();
    let viewer = scheduler.watch(&accepted.job, None).await.unwrap();
    (accepted, viewer)
}

fn final_event(events: &[ViewerEvent]) -> &JobEvent {
    match events.last() {
        Some(ViewerEvent::Control { event, .. }) => event,
        other => panic!("a job ends with an event of its own, not with {other:?}"),
    }
}

/// A frame as its viewer reads it.
#[derive(Clone, Debug, PartialEq)]
struct SeenFrame {
    picture: u32,
    pass: u32,
    scale: u32,
    last: bool,
    body: Vec<u8>,
}

fn frames(events: &[ViewerEvent]) -> Vec<SeenFrame> {
    let frame = |event: &ViewerEvent| match event {
        ViewerEvent::Control { .. } => None,
        ViewerEvent::Lost { error, .. } => panic!("lost: {error}"),
        ViewerEvent::Frame { seq, last, bytes } => {
            let frame = var_dd_protocol::Frame::decode(bytes).unwrap();
            assert_eq!((frame.seq, frame.header.last), (*seq, *last));
            Some(SeenFrame {
                picture: frame.header.picture,
                pass: frame.header.pass,
                scale: frame.header.scale,
                last: *last,
                body: frame.picture.to_vec(),
            })
        }
    };
    events.iter().filter_map(frame).collect()
}

/// Checks that every picture of a job has exactly the frames of its plan, in order, and is what the
/// model draws.
fn assert_drawn(request: &GenerateRequest, events: &[ViewerEvent]) {
    let seen = frames(events);
    for index in 0..request.count {
        let of_picture: Vec<_> = seen.iter().filter(|frame| frame.picture == index).collect();
        let places: Vec<_> = of_picture
            .iter()
            .map(|frame| var_dd_protocol::FramePosition { pass: frame.pass, scale: frame.scale })
            .collect();
        assert_eq!(places, request.plan.frames(3), "picture {index}");
        let lasts: Vec<_> = of_picture.iter().map(|frame| frame.last).collect();
        assert_eq!(lasts.iter().filter(|last| **last).count(), 1);
        let last = of_picture.last().unwrap();
        assert!(last.last);
        let read =
            image::load_from_memory_with_format(&last.body, image::ImageFormat::Png).unwrap();
        let of = crate::generator::PictureRequest {
            class: request.class,
            seed: request.seed.unwrap(),
            index,
        };
        assert_eq!(
            read.into_rgb8(),
            fake::picture(16, of, last.pass as usize, last.scale as usize)
        );
    }
    assert!(matches!(final_event(events), JobEvent::Finished { .. }));
    let numbers: Vec<_> = events.iter().map(ViewerEvent::seq).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}
