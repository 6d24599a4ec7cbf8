//! What survives the end of the program, in good order or not.

use std::fs;

use super::*;
use crate::generator::fake::Gate;

/// What the disk would hold if the power failed now.
fn copy_of(directory: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("frames")).unwrap();
    for from in [directory.to_owned(), directory.join("frames")] {
        for entry in fs::read_dir(&from).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, copy.path().join(path.strip_prefix(directory).unwrap())).unwrap();
            }
        }
    }
    copy
}

#[tokio::test]
async fn after_a_crash_every_accepted_job_has_one_result_and_its_viewers_miss_nothing() {
    let gate = Gate::closed();
    let limits = SchedulerConfig { max_batch: 1, ..config() };
    let (crashed, directory) = start(limits.clone(), &generator().with_gate(&gate)).await;
    let (done, viewer) = submit_and_watch(&crashed, request(0, few_step(&[0]), 1)).await;
    gate.allow(1);
    let before = all(viewer).await;
    let (running, mut viewer) = submit_and_watch(&crashed, request(1, few_step(&[0, 1]), 1)).await;
    gate.allow(1);
    let seen = until(&mut viewer, |event| matches!(event, JobEvent::PassEnded { .. })).await;
    let (waiting, _viewer) = submit_and_watch(&crashed, request(2, few_step(&[0]), 1)).await;
    gate.wait_for_device();
    let disk = copy_of(directory.path());

    let generator = generator();
    let scheduler = start_in(disk.path(), limits, &generator).await;
    let after = seen.last().map(ViewerEvent::seq);
    let resumed = all(scheduler.watch(&running.job, after).await.unwrap()).await;
    assert!(matches!(resumed[0], ViewerEvent::Control { event: JobEvent::Queued { .. }, .. }));
    assert_drawn(&running.request, &resumed);
    assert_drawn(&waiting.request, &all(scheduler.watch(&waiting.job, None).await.unwrap()).await);
    assert_eq!(all(scheduler.watch(&running.job, after).await.unwrap()).await, resumed);
    assert_eq!(all(scheduler.watch(&done.job, None).await.unwrap()).await, before);
    let classes: Vec<_> = generator.batches().iter().map(|batch| batch.pictures[0].class).collect();
    assert_eq!(classes, [1, 2], "in the order of acceptance, and not what was done");
    let results = scheduler.recent(10, None).await.unwrap().results;
    assert_eq!(results.len(), 3);
    scheduler.delete(&running.job, &running.owner_token).await.unwrap();
    gate.open();
    crashed.shutdown().await;
}

#[test]
fn a_program_that_goes_without_a_word_leaves_its_directory_to_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::closed();
    let first = tokio::runtime::Runtime::new().unwrap();
    let accepted = first.block_on(async {
        let scheduler = start_in(directory.path(), config(), &generator().with_gate(&gate)).await;
        let accepted =
            scheduler.submit(request(1, few_step(&[0]), 1), Unwatched::Stays).await.unwrap();
        gate.wait_for_device();
        accepted
    });
    drop(first);
    let second = tokio::runtime::Runtime::new().unwrap();
    second.block_on(async {
        let scheduler = start_in(directory.path(), config(), &generator()).await;
        let events = all(scheduler.watch(&accepted.job, None).await.unwrap()).await;
        assert_drawn(&accepted.request, &events);
        scheduler.shutdown().await;
    });
    gate.open();
}

#[tokio::test]
async fn a_shutdown_stops_the_running_batch_and_leaves_its_jobs_to_the_next_start() {
    let gate = Gate::closed();
    let (scheduler, directory) = start(config(), &generator().with_gate(&gate)).await;
    let (accepted, mut viewer) =
        submit_and_watch(&scheduler, request(1, few_step(&[0, 1]), 1)).await;
    gate.allow(1);
    until(&mut viewer, |event| matches!(event, JobEvent::PassEnded { .. })).await;
    let stopping = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.shutdown().await }
    });
    while scheduler.stats().accepting {
        tokio::task::yield_now().await;
    }
    let refused =
        scheduler.submit(request(1, few_step(&[0]), 1), Unwatched::Stays).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ShuttingDown);
    gate.open();
    stopping.await.unwrap();
    scheduler.shutdown().await;
    let rest = all(viewer).await;
    assert!(rest.iter().all(|event| match event {
        ViewerEvent::Frame { last, .. } => !last,
        ViewerEvent::Lost { .. } => false,
        ViewerEvent::Control { event, .. } => event.state().is_none(),
    }));
    drop(scheduler);

    let store = Store::open(directory.path()).await.unwrap();
    let left = store.take_over().await.unwrap();
    assert_eq!((left.len(), left[0].attempt, left[0].crashes), (1, 1, 0));
    drop(store);
    let scheduler = start_in(directory.path(), config(), &generator()).await;
    let events = all(scheduler.watch(&accepted.job, None).await.unwrap()).await;
    assert_drawn(&accepted.request, &events);
}

#[tokio::test]
async fn an_unfinished_job_whose_model_is_gone_fails_and_a_result_still_shows() {
    let gate = Gate::closed();
    let (scheduler, directory) = start(config(), &generator().with_gate(&gate)).await;
    let (done, viewer) = submit_and_watch(&scheduler, request(0, few_step(&[0]), 1)).await;
    gate.allow(1);
    all(viewer).await;
    let (left, _viewer) = submit_and_watch(&scheduler, request(1, few_step(&[0]), 1)).await;
    gate.wait_for_device();
    let disk = copy_of(directory.path());
    let scheduler =
        start_in(disk.path(), config(), &FakeGenerator::new(fake::model("another"))).await;
    let events = all(scheduler.watch(&left.job, None).await.unwrap()).await;
    let JobEvent::Failed { error } = final_event(&events) else { panic!("{events:?}") };
    assert_eq!(error.code, ErrorCode::UnknownModel);
    let view = scheduler.view(&done.job).await.unwrap();
    assert_eq!((view.class_name.as_str(), &view.patch_nums[..]), ("class 0", &[1, 2, 4][..]));
    gate.open();
}

#[tokio::test]
async fn a_job_that_was_running_at_every_crash_is_given_up() {
    let gate = Gate::closed();
    let (scheduler, directory) = start(config(), &generator().with_gate(&gate)).await;
    let (accepted, _viewer) = submit_and_watch(&scheduler, request(1, few_step(&[0]), 1)).await;
    gate.wait_for_device();
    let disk = copy_of(directory.path());
    gate.open();
    {
        let store = Store::open(disk.path()).await.unwrap();
        for _ in 0..MAX_CRASHES {
            let left = store.take_over().await.unwrap();
            store.started(&[left[0].number]).await.unwrap();
        }
        store.close().await;
    }
    let scheduler = start_in(disk.path(), config(), &generator()).await;
    let view = scheduler.view(&accepted.job).await.unwrap();
    assert_eq!(view.error.unwrap().code, ErrorCode::Internal);
}

#[tokio::test]
async fn two_models_of_one_name_or_none_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let none = Scheduler::start(config(), store.clone(), Vec::new()).await;
    assert!(matches!(none, Err(StartError::NoModel)));
    let twice: Vec<Box<dyn Generator>> = vec![Box::new(generator()), Box::new(generator())];
    let error = Scheduler::start(config(), store, twice).await.unwrap_err();
    assert!(error.to_string().contains("\"small\""), "{error}");
}
