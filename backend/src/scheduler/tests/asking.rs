//! Keys under which jobs are asked for, deadlines, and the end of a server.

use super::*;
use crate::generator::fake::Gate;

fn asking(key: &str) -> Asking {
    let client = Client::default();
    Asking { unwatched: Unwatched::Stays, client, key: Some(key.to_owned()) }
}

#[tokio::test]
async fn twenty_requests_at_once_under_one_key_make_one_job() {
    let (scheduler, _directory) = start(config(), &generator()).await;
    let open = GenerateRequest { seed: None, ..request(1, few_step(&[0]), 1) };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (scheduler, open) = (scheduler.clone(), open.clone());
        tasks.spawn(async move { scheduler.submit_as(open, asking("one")).await.unwrap() });
    }
    let accepted = tasks.join_all().await;
    let first = &accepted[0];
    for other in &accepted {
        assert_eq!((&other.job, &other.owner_token), (&first.job, &first.owner_token));
        assert_eq!(other.request, first.request, "the seed too");
    }
    all(scheduler.watch(&first.job, None).await.unwrap()).await;
    assert_eq!(scheduler.recent(10, None).await.unwrap().results.len(), 1);
}

#[tokio::test]
async fn a_key_holds_across_a_restart_and_for_one_request_only() {
    let directory = tempfile::tempdir().unwrap();
    let wanted = request(1, few_step(&[0]), 1);
    let scheduler = start_in(directory.path(), config(), &generator()).await;
    let first = scheduler.submit_as(wanted.clone(), asking("one")).await.unwrap();
    scheduler.shutdown().await;
    drop(scheduler);

    let scheduler = start_in(directory.path(), config(), &generator()).await;
    let again = scheduler.submit_as(wanted.clone(), asking("one")).await.unwrap();
    assert_eq!((&again.job, &again.owner_token), (&first.job, &first.owner_token));
    let other = GenerateRequest { class: 2, ..wanted.clone() };
    let refused = scheduler.submit_as(other.clone(), asking("one")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::KeyReused);
    assert_ne!(scheduler.submit_as(other, asking("two")).await.unwrap().job, first.job);
    assert_ne!(scheduler.submit(wanted.clone(), Unwatched::Stays).await.unwrap().job, first.job);
    all(scheduler.watch(&first.job, None).await.unwrap()).await;
    // The token is good for what an owner may do, and with the job its key goes.
    scheduler.delete(&first.job, &again.owner_token).await.unwrap();
    assert_ne!(scheduler.submit_as(wanted, asking("one")).await.unwrap().job, first.job);
}

#[tokio::test]
async fn a_job_whose_deadline_passes_while_it_waits_is_never_drawn() {
    let gate = Gate::closed();
    let generator = generator().with_gate(&gate);
    let limits = SchedulerConfig { max_batch: 1, ..config() };
    let (scheduler, _directory) = start(limits, &generator).await;
    let (_, first) = submit_and_watch(&scheduler, request(0, few_step(&[0]), 1)).await;
    gate.wait_for_device();
    let hurried = GenerateRequest { deadline_ms: Some(50), ..request(1, few_step(&[0]), 1) };
    let (late, viewer) = submit_and_watch(&scheduler, hurried).await;
    assert_eq!(final_event(&all(viewer).await), &JobEvent::Expired);
    let view = scheduler.view(&late.job).await.unwrap();
    assert_eq!(view.state, var_dd_protocol::JobState::Expired);
    gate.open();
    all(first).await;
    let (next, viewer) = submit_and_watch(&scheduler, request(2, few_step(&[0]), 1)).await;
    assert_drawn(&next.request, &all(viewer).await);
    let classes: Vec<_> = generator.batches().iter().map(|batch| batch.pictures[0].class).collect();
    assert_eq!(classes, [0, 2]);
}

#[tokio::test]
async fn a_running_job_stops_at_the_next_pass_after_its_deadline() {
    let gate = Gate::closed();
    let (scheduler, _directory) = start(config(), &generator().with_gate(&gate)).await;
    let hurried = GenerateRequest { deadline_ms: Some(300), ..request(1, few_step(&[0, 1, 2]), 1) };
    let (_, mut viewer) = submit_and_watch(&scheduler, hurried).await;
    gate.allow(1);
    until(&mut viewer, |event| matches!(event, JobEvent::PassEnded { .. })).await;
    let events = all(viewer).await;
    assert_eq!(final_event(&events), &JobEvent::Expired);
    // One more pass may go: only the stop keeps the device from waiting for a third one.
    gate.allow(1);
    let (next, viewer) = submit_and_watch(&scheduler, request(2, few_step(&[0]), 1)).await;
    gate.allow(1);
    assert_drawn(&next.request, &all(viewer).await);
}

#[tokio::test]
async fn a_deadline_that_is_met_changes_nothing() {
    let (scheduler, _directory) = start(config(), &generator()).await;
    let calm = GenerateRequest {
        deadline_ms: Some(var_dd_protocol::MAX_DEADLINE_MS),
        ..request(1, few_step(&[0]), 2)
    };
    let (accepted, viewer) = submit_and_watch(&scheduler, calm).await;
    assert_drawn(&accepted.request, &all(viewer).await);
}

#[tokio::test]
async fn what_runs_ends_before_the_server_does_and_what_waits_is_left_to_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::closed();
    let limits = SchedulerConfig { max_batch: 1, ..config() };
    let slow = generator().with_gate(&gate);
    let scheduler = start_in(directory.path(), limits.clone(), &slow).await;
    // Three pictures, one a batch: a job that has begun ends whole.
    let (running, viewer) = submit_and_watch(&scheduler, request(1, few_step(&[0]), 3)).await;
    gate.wait_for_device();
    let (waiting, other) = submit_and_watch(&scheduler, request(2, few_step(&[0]), 1)).await;
    let draining = tokio::spawn({
        let scheduler = scheduler.clone();
        async move {
            scheduler.drain(Duration::from_secs(60)).await;
            scheduler.shutdown().await;
        }
    });
    while scheduler.stats().accepting {
        tokio::task::yield_now().await;
    }
    let refused = scheduler.submit(request(3, few_step(&[0]), 1), Unwatched::Stays).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::ShuttingDown);
    gate.open();
    assert_drawn(&running.request, &all(viewer).await);
    draining.await.unwrap();
    assert!(!all(other).await.iter().any(|event| matches!(
        event,
        ViewerEvent::Control { event: JobEvent::Started { .. }, .. }
    )));
    drop(scheduler);
    let scheduler = start_in(directory.path(), limits, &generator()).await;
    let events = all(scheduler.watch(&waiting.job, None).await.unwrap()).await;
    assert_drawn(&waiting.request, &events);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_left_to_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Gate::closed();
    let slow = generator().with_gate(&gate);
    let scheduler = start_in(directory.path(), config(), &slow).await;
    let (running, viewer) = submit_and_watch(&scheduler, request(1, few_step(&[0, 1]), 1)).await;
    gate.wait_for_device();
    scheduler.drain(Duration::from_millis(50)).await;
    scheduler.drawing.0.close();
    gate.open();
    scheduler.shutdown().await;
    drop((viewer, scheduler));
    let scheduler = start_in(directory.path(), config(), &generator()).await;
    let events = all(scheduler.watch(&running.job, None).await.unwrap()).await;
    assert_drawn(&running.request, &events);
}
