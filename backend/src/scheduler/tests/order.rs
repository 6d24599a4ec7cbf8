//! Jobs whose finished pictures come before the frames on the way to them.

use std::ops::ControlFlow;

use var_dd_engine::sample::Frames;
use var_dd_protocol::{FramePosition, JobState, ModelInfo};

use super::*;
use crate::generator::{
    BatchRequest, GeneratorError, GeneratorEvent, Sink,
    fake::{Gate, picture},
};

fn hurried(request: GenerateRequest) -> GenerateRequest {
    GenerateRequest { last_frame_first: true, ..request }
}

fn place(frame: &SeenFrame) -> FramePosition {
    FramePosition { pass: frame.pass, scale: frame.scale }
}

#[tokio::test]
async fn the_finished_pictures_come_first_and_the_other_frames_follow_with_the_same_bytes() {
    let (scheduler, _directory) = start(config(), &generator()).await;
    let wanted = request(2, few_step(&[0, 1]), 2);
    let (_, viewer) = submit_and_watch(&scheduler, wanted.clone()).await;
    let in_order = all(viewer).await;
    let (accepted, viewer) = submit_and_watch(&scheduler, hurried(wanted.clone())).await;
    let events = all(viewer).await;

    let seen = frames(&events);
    assert_eq!(
        seen.iter().map(|frame| frame.last).collect::<Vec<_>>(),
        [&[true; 2][..], &[false; 8]].concat()
    );
    for index in 0..2 {
        let mut places: Vec<_> =
            seen.iter().filter(|frame| frame.picture == index).map(place).collect();
        places.rotate_left(1);
        assert_eq!(
            places,
            wanted.plan.frames(3),
            "picture {index}: the last one, then the others in order"
        );
    }
    for frame in frames(&in_order) {
        assert!(seen.contains(&frame), "{frame:?} is missing or has other bytes");
    }
    assert_eq!(seen.len(), frames(&in_order).len());

    let passes_end = events.iter().rposition(|event| {
        matches!(event, ViewerEvent::Control { event: JobEvent::PassEnded { pass: 1, .. }, .. })
    });
    let first_frame = events.iter().position(|event| matches!(event, ViewerEvent::Frame { .. }));
    assert!(passes_end < first_frame, "the passes come before the frames");
    let ends = events.iter().filter(|event| match event {
        ViewerEvent::Control { event, .. } => event.state().is_some_and(JobState::is_final),
        ViewerEvent::Frame { .. } | ViewerEvent::Lost { .. } => false,
    });
    assert_eq!(ends.count(), 1);
    assert!(matches!(final_event(&events), JobEvent::Finished { .. }));

    let view = scheduler.view(&accepted.job).await.unwrap();
    assert_eq!((view.state, view.frames.len(), view.pictures.len()), (JobState::Finished, 10, 2));
    assert!(view.request.last_frame_first);
    assert_eq!(scheduler.picture(&accepted.job, 1).await.unwrap(), seen[1].body);
}

#[tokio::test]
async fn jobs_in_a_hurry_and_others_do_not_share_a_batch() {
    let gate = Gate::closed();
    let generator = generator().with_gate(&gate);
    let (scheduler, _directory) = start(config(), &generator).await;
    let (_, running) = submit_and_watch(&scheduler, request(0, few_step(&[0]), 1)).await;
    gate.wait_for_device();
    let mut waiting = Vec::new();
    for (class, in_a_hurry) in [(1, false), (2, true), (3, false), (4, true)] {
        let request =
            GenerateRequest { last_frame_first: in_a_hurry, ..request(class, few_step(&[0]), 1) };
        waiting.push(submit_and_watch(&scheduler, request).await);
    }
    gate.open();
    all(running).await;
    for (_, viewer) in waiting {
        assert!(matches!(final_event(&all(viewer).await), JobEvent::Finished { .. }));
    }
    let batches: Vec<_> = generator
        .batches()
        .into_iter()
        .map(|batch| {
            (batch.frames, batch.pictures.iter().map(|picture| picture.class).collect::<Vec<_>>())
        })
        .collect();
    let expected = [
        (Frames::InOrder, vec![0]),
        (Frames::InOrder, vec![1, 3]),
        (Frames::LastFirst, vec![2, 4]),
    ];
    assert_eq!(batches, expected);
}

#[tokio::test]
async fn a_job_in_a_hurry_that_runs_in_parts_has_every_frame_once_and_ends_after_the_last_of_them()
{
    let generator = generator().with_memory(2);
    let limits = SchedulerConfig { max_batch: 3, ..config() };
    let (scheduler, _directory) = start(limits, &generator).await;
    let (accepted, viewer) =
        submit_and_watch(&scheduler, hurried(request(1, few_step(&[0, 1]), 8))).await;
    let events = all(viewer).await;
    assert!(matches!(final_event(&events), JobEvent::Finished { .. }));
    let seen = frames(&events);
    for index in 0..8 {
        let of_picture: Vec<_> = seen.iter().filter(|frame| frame.picture == index).collect();
        assert!(of_picture[0].last, "picture {index} begins with {:?}", of_picture[0]);
        let mut places: Vec<_> = of_picture.iter().map(|frame| place(frame)).collect();
        places.rotate_left(1);
        assert_eq!(places, accepted.request.plan.frames(3), "picture {index}");
    }
}

/// A model that draws the finished picture at its first call and forgets the way to it.
struct Forgetful(ModelInfo);

impl Generator for Forgetful {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    fn generate(&self, batch: &BatchRequest, sink: &mut Sink<'_>) -> Result<(), GeneratorError> {
        let (pass, scale) = (0, 2);
        let pictures = batch.pictures.iter().map(|&of| picture(16, of, pass, scale)).collect();
        let drawn = sink(GeneratorEvent::Decoded { pass, scale, pictures, decode_ms: 0.25 });
        assert_eq!(drawn, ControlFlow::Continue(()), "one frame of three is no reason to stop");
        Ok(())
    }
}

#[tokio::test]
async fn a_finished_picture_alone_does_not_finish_a_job_in_a_hurry() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let forgetful = Box::new(Forgetful(fake::model("small")));
    let scheduler = Scheduler::start(config(), store, vec![forgetful]).await.unwrap();
    let (_, viewer) = submit_and_watch(&scheduler, hurried(request(1, few_step(&[0]), 1))).await;
    let events = all(viewer).await;
    assert_eq!(frames(&events).iter().map(|frame| frame.last).collect::<Vec<_>>(), [true]);
    let JobEvent::Failed { error } = final_event(&events) else { panic!("{events:?}") };
    assert!(error.message.contains("without drawing picture 0"), "{}", error.message);
}
