//! Jobs that are stopped, fail, or cannot be kept.

use super::*;
use crate::generator::fake::{CLASS_OF_FAILURE, CLASS_OF_PANIC, Gate};

async fn error_of(scheduler: &Scheduler, class: u32) -> ErrorBody {
    let (accepted, viewer) = submit_and_watch(scheduler, request(class, few_step(&[0]), 1)).await;
    let events = all(viewer).await;
    let JobEvent::Failed { error } = final_event(&events) else { panic!("{events:?}") };
    assert_eq!(scheduler.view(&accepted.job).await.unwrap().error.as_ref(), Some(error));
    error.clone()
}

#[tokio::test]
async fn a_failing_or_panicking_model_fails_its_job_and_the_next_one_runs() {
    let (scheduler, _directory) = start(config(), &generator()).await;
    for class in [CLASS_OF_FAILURE, CLASS_OF_PANIC] {
        let error = error_of(&scheduler, class).await;
        assert_eq!(error.code, ErrorCode::Internal);
        assert!(error.message.contains("makes the stand-in"), "{}", error.message);
        // Paths and stacks are for the log.
        assert!(!error.message.contains(['/', '\n']), "{}", error.message);
        let asked = scheduler.preview(request(class, few_step(&[0]), 1)).await.unwrap_err();
        assert_eq!(asked.code, ErrorCode::Internal);
        assert!(!asked.message.contains(['/', '\n']), "{}", asked.message);
    }
    let (accepted, viewer) = submit_and_watch(&scheduler, request(1, few_step(&[0]), 1)).await;
    assert_drawn(&accepted.request, &all(viewer).await);
    assert_eq!(scheduler.recent(10, None).await.unwrap().results.len(), 1);
}

#[tokio::test]
async fn without_memory_for_a_batch_it_runs_in_halves_and_no_frame_comes_twice() {
    let gate = Gate::closed();
    let generator = generator().with_memory(2).with_gate(&gate);
    let (scheduler, _directory) = start(config(), &generator).await;
    let (_, first) = submit_and_watch(&scheduler, request(0, few_step(&[0]), 1)).await;
    gate.wait_for_device();
    let one = submit_and_watch(&scheduler, request(1, few_step(&[0, 1]), 5)).await;
    let other = submit_and_watch(&scheduler, request(2, few_step(&[0, 1]), 2)).await;
    gate.open();
    all(first).await;
    for (accepted, viewer) in [one, other] {
        assert_drawn(&accepted.request, &all(viewer).await);
    }
    let sizes: Vec<_> = generator.batches().iter().map(|batch| batch.pictures.len()).collect();
    assert_eq!(sizes, [1, 7, 3, 1, 2, 4, 2, 2]);
}

#[tokio::test]
async fn without_memory_for_one_picture_its_job_fails_alone() {
    let generator = generator().with_memory(0);
    let (scheduler, _directory) = start(config(), &generator).await;
    let error = error_of(&scheduler, 1).await;
    assert_eq!(error.code, ErrorCode::OutOfMemory);
    assert!(error.message.contains("memory for 0"), "{}", error.message);
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_by_its_owner_only_and_never_runs() {
    let gate = Gate::closed();
    let generator = generator().with_gate(&gate);
    let limits = SchedulerConfig { max_batch: 1, ..config() };
    let (scheduler, _directory) = start(limits, &generator).await;
    let (running, first) = submit_and_watch(&scheduler, request(1, few_step(&[0]), 1)).await;
    gate.wait_for_device();
    let (waiting, viewer) = submit_and_watch(&scheduler, request(2, few_step(&[0]), 1)).await;
    let stolen = scheduler.cancel(&waiting.job, &running.owner_token).await.unwrap_err();
    assert_eq!(stolen.code, ErrorCode::NotOwner);
    scheduler.cancel(&waiting.job, &waiting.owner_token).await.unwrap();
    assert_eq!(final_event(&all(viewer).await), &JobEvent::Cancelled);
    let again = scheduler.cancel(&waiting.job, &waiting.owner_token).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::Conflict);
    gate.open();
    all(first).await;
    assert_eq!(generator.batches().len(), 1);
    let unknown = scheduler.cancel(&JobId::from_bits(1), &waiting.owner_token).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_cancelled_job_leaves_the_others_of_its_batch_alone() {
    let gate = Gate::closed();
    let (scheduler, _directory) = start(config(), &generator().with_gate(&gate)).await;
    let (_, blocker) = submit_and_watch(&scheduler, request(0, few_step(&[0]), 1)).await;
    gate.wait_for_device();
    let (gone, mut gone_viewer) =
        submit_and_watch(&scheduler, request(1, few_step(&[0, 1]), 1)).await;
    let (stays, viewer) = submit_and_watch(&scheduler, request(2, few_step(&[0, 1]), 1)).await;
    gate.allow(2);
    all(blocker).await;
    until(&mut gone_viewer, |event| matches!(event, JobEvent::PassEnded { .. })).await;
    scheduler.cancel(&gone.job, &gone.owner_token).await.unwrap();
    gate.open();
    let events = all(gone_viewer).await;
    assert_eq!(final_event(&events), &JobEvent::Cancelled);
    assert!(frames(&events).iter().all(|frame| !frame.last));
    assert_drawn(&stays.request, &all(viewer).await);
}

#[tokio::test]
async fn when_every_job_of_a_batch_is_cancelled_the_device_stops_within_a_pass() {
    let gate = Gate::closed();
    let generator = generator().with_gate(&gate);
    let (scheduler, _directory) = start(config(), &generator).await;
    let (accepted, mut viewer) =
        submit_and_watch(&scheduler, request(1, few_step(&[0, 1, 2]), 1)).await;
    gate.allow(1);
    until(&mut viewer, |event| matches!(event, JobEvent::PassEnded { .. })).await;
    scheduler.cancel(&accepted.job, &accepted.owner_token).await.unwrap();
    // One more pass may go: only the stop keeps the device from waiting for a third one.
    gate.allow(1);
    let (next, viewer) = submit_and_watch(&scheduler, request(2, few_step(&[0]), 1)).await;
    gate.allow(1);
    assert_drawn(&next.request, &all(viewer).await);
}

#[tokio::test]
async fn a_result_is_deleted_by_its_owner_only() {
    let gate = Gate::closed();
    let (scheduler, directory) = start(config(), &generator().with_gate(&gate)).await;
    let (accepted, viewer) = submit_and_watch(&scheduler, request(1, few_step(&[0]), 1)).await;
    let early = scheduler.delete(&accepted.job, &accepted.owner_token).await.unwrap_err();
    assert_eq!(early.code, ErrorCode::Conflict);
    gate.open();
    all(viewer).await;
    let wrong = OwnerToken("0".repeat(64));
    assert_eq!(
        scheduler.delete(&accepted.job, &wrong).await.unwrap_err().code,
        ErrorCode::NotOwner
    );
    scheduler.delete(&accepted.job, &accepted.owner_token).await.unwrap();
    for error in [
        scheduler.delete(&accepted.job, &accepted.owner_token).await.unwrap_err(),
        scheduler.view(&accepted.job).await.unwrap_err(),
        scheduler.watch(&accepted.job, None).await.unwrap_err(),
        scheduler.frame(&accepted.job, 4).await.unwrap_err(),
    ] {
        assert_eq!(error.code, ErrorCode::NotFound);
    }
    assert!(scheduler.recent(10, None).await.unwrap().results.is_empty());
    assert_eq!(std::fs::read_dir(directory.path().join("frames")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_result_that_cannot_be_kept_fails_and_leaves_nothing_half_written() {
    let (scheduler, directory) = start(config(), &generator()).await;
    let pictures = directory.path().join("frames");
    std::fs::remove_dir(&pictures).unwrap();
    std::fs::write(&pictures, "in the way").unwrap();
    let error = error_of(&scheduler, 1).await;
    assert_eq!(error.code, ErrorCode::StorageFailed);
    std::fs::remove_file(&pictures).unwrap();
    std::fs::create_dir(&pictures).unwrap();
    let (accepted, viewer) = submit_and_watch(&scheduler, request(1, few_step(&[0]), 1)).await;
    assert_drawn(&accepted.request, &all(viewer).await);
}

#[tokio::test]
async fn a_waiting_job_that_nobody_watches_expires_unless_it_stays() {
    let gate = Gate::closed();
    let limits =
        SchedulerConfig { unwatched_grace: Duration::from_millis(400), max_batch: 1, ..config() };
    let (scheduler, _directory) = start(limits, &generator().with_gate(&gate)).await;
    let submit = |class, unwatched| scheduler.submit(request(class, few_step(&[0]), 1), unwatched);
    let running = submit(0, Unwatched::Stays).await.unwrap();
    gate.wait_for_device();
    let watched = submit(1, Unwatched::Expires).await.unwrap();
    let viewer = scheduler.watch(&watched.job, None).await.unwrap();
    let posted = submit(2, Unwatched::Stays).await.unwrap();
    let left = submit(3, Unwatched::Expires).await.unwrap();
    drop(scheduler.watch(&left.job, None).await.unwrap());
    // The dispatcher alone ends it; asking for the state does not count as watching.
    while scheduler.view(&left.job).await.unwrap().state == var_dd_protocol::JobState::Queued {
        tokio::task::yield_now().await;
    }
    let events = all(scheduler.watch(&left.job, None).await.unwrap()).await;
    assert_eq!(final_event(&events), &JobEvent::Expired);
    gate.open();
    assert_drawn(&watched.request, &all(viewer).await);
    for accepted in [running, posted] {
        let events = all(scheduler.watch(&accepted.job, None).await.unwrap()).await;
        assert_drawn(&accepted.request, &events);
    }
}
