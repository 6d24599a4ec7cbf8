//! Several viewers, slow ones, and those that come back.

use var_dd_protocol::JobState;

use super::*;
use crate::generator::fake::Gate;

#[tokio::test]
async fn after_any_number_a_live_job_and_its_replay_give_the_identical_rest() {
    let gate = Gate::closed();
    let (scheduler, _directory) = start(config(), &generator().with_gate(&gate)).await;
    let (accepted, mut first) =
        submit_and_watch(&scheduler, request(1, few_step(&[0, 1]), 2)).await;
    gate.allow(1);
    until(&mut first, |event| matches!(event, JobEvent::PassEnded { .. })).await;
    let afters: Vec<_> = std::iter::once(None).chain((0..20).map(Some)).collect();
    let mut live = Vec::new();
    for &after in &afters {
        live.push(scheduler.watch(&accepted.job, after).await.unwrap());
    }
    gate.open();
    all(first).await;
    let whole = all(scheduler.watch(&accepted.job, None).await.unwrap()).await;
    assert_drawn(&accepted.request, &whole);
    assert_eq!(scheduler.view(&accepted.job).await.unwrap().state, JobState::Finished);
    for (after, live) in afters.into_iter().zip(live) {
        let rest: Vec<_> = whole
            .iter()
            .filter(|event| after.is_none_or(|after| event.seq() > after))
            .cloned()
            .collect();
        assert_eq!(all(live).await, rest, "live after {after:?}");
        let replayed = all(scheduler.watch(&accepted.job, after).await.unwrap()).await;
        assert_eq!(replayed, rest, "replayed after {after:?}");
    }
    let beyond = scheduler.watch(&accepted.job, Some(u64::MAX)).await.unwrap();
    assert_eq!(all(beyond).await, []);
}

#[tokio::test]
async fn a_slow_viewer_is_spared_intermediate_frames_but_no_last_frame_and_no_state() {
    let gate = Gate::closed();
    let limits = SchedulerConfig { viewer_backlog_bytes: 0, ..config() };
    let (scheduler, _directory) = start(limits, &generator().with_gate(&gate)).await;
    let mut registry = Registry::default();
    scheduler.register_metrics(&mut registry);
    let (accepted, slow) = submit_and_watch(&scheduler, request(1, few_step(&[0, 1]), 3)).await;
    gate.open();
    while scheduler.view(&accepted.job).await.unwrap().state != JobState::Finished {
        tokio::task::yield_now().await;
    }
    let seen = all(slow).await;
    let whole = all(scheduler.watch(&accepted.job, None).await.unwrap()).await;
    assert_drawn(&accepted.request, &whole);
    let wanted = |event: &ViewerEvent| !matches!(event, ViewerEvent::Frame { last: false, .. });
    let spared: Vec<_> = whole.into_iter().filter(wanted).collect();
    assert_eq!(seen, spared);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("var_dd_frames_dropped_total 12"), "{text}");
}

#[tokio::test]
async fn a_viewer_that_comes_late_misses_nothing_however_small_its_backlog() {
    let gate = Gate::closed();
    let limits = SchedulerConfig { viewer_backlog_bytes: 0, ..config() };
    let (scheduler, _directory) = start(limits, &generator().with_gate(&gate)).await;
    let (accepted, mut early) =
        submit_and_watch(&scheduler, request(1, few_step(&[0, 1]), 1)).await;
    gate.allow(1);
    until(&mut early, |event| matches!(event, JobEvent::PassEnded { .. })).await;
    // All of the first pass is in the log when the device stands at the second gate and its frames
    // are out.
    while scheduler.view(&accepted.job).await.unwrap().frames.len() < 3 {
        tokio::task::yield_now().await;
    }
    let mut late = scheduler.watch(&accepted.job, None).await.unwrap();
    gate.open();
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.extend(late.next().await);
    }
    assert_eq!(frames(&seen).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_jobs_with_many_viewers_and_cancels_all_end_once() {
    let limits = SchedulerConfig {
        batch_window: Duration::from_millis(1),
        queue_limit: 1000,
        max_batch: 5,
        ..config()
    };
    let generator = generator().with_memory(4);
    let (scheduler, _directory) = start(limits, &generator).await;
    let mut people = tokio::task::JoinSet::new();
    for person in 0..24_u32 {
        let scheduler = scheduler.clone();
        people.spawn(async move {
            let plan = few_step(if person % 3 == 0 { &[0] } else { &[0, 1] });
            let wanted = request(person % 6, plan, 1 + person % 8);
            let (accepted, mut viewer) = submit_and_watch(&scheduler, wanted).await;
            let other = scheduler.watch(&accepted.job, None).await.unwrap();
            if person % 5 == 0 {
                viewer.next().await;
                let cancelled = scheduler.cancel(&accepted.job, &accepted.owner_token).await;
                let too_late = |error: &ErrorBody| error.code == ErrorCode::Conflict;
                assert!(cancelled.as_ref().err().is_none_or(too_late), "{cancelled:?}");
            }
            let resumed = scheduler.watch(&accepted.job, Some(0)).await.unwrap();
            let (one, two, three) = tokio::join!(all(viewer), all(other), all(resumed));
            for events in [&one, &two, &three] {
                assert_eq!(final_event(events), final_event(&one));
            }
            match final_event(&two) {
                JobEvent::Finished { .. } => assert_drawn(&accepted.request, &two),
                end => assert_eq!((end, person % 5), (&JobEvent::Cancelled, 0)),
            }
            let replayed = all(scheduler.watch(&accepted.job, None).await.unwrap()).await;
            // A replay has no longer the positions in the queue that were superseded.
            let superseded = two.iter().take_while(|event| event.seq() < replayed[0].seq()).count();
            assert_eq!(replayed, two[superseded..]);
        });
    }
    while let Some(person) = people.join_next().await {
        person.unwrap();
    }
    let stats = scheduler.stats();
    assert_eq!((stats.queued, stats.running, stats.viewers), (0, 0, 0));
    scheduler.shutdown().await;
}
