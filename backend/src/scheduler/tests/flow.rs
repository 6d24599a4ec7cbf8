//! Jobs that go well.

use prometheus_client::encoding::text::encode;
use var_dd_protocol::JobState;

use super::*;
use crate::generator::fake::Gate;

#[tokio::test]
async fn a_job_is_told_from_queue_to_end_in_order() {
    let (scheduler, _directory) = start(config(), &generator()).await;
    let (accepted, viewer) = submit_and_watch(&scheduler, request(2, few_step(&[0, 1]), 1)).await;
    let events = all(viewer).await;
    assert_drawn(&accepted.request, &events);
    let told: Vec<_> = events
        .iter()
        .map(|event| match event {
            ViewerEvent::Control { event, .. } => {
                serde_json::to_value(event).unwrap()["type"].to_string()
            }
            ViewerEvent::Frame { .. } => "frame".to_owned(),
            ViewerEvent::Lost { .. } => "lost".to_owned(),
        })
        .map(|name| name.trim_matches('"').to_owned())
        .collect();
    let expected = "queued started pass_began pass_ended frame frame frame pass_began pass_ended \
        frame frame finished";
    assert_eq!(told.join(" "), expected);
    let numbers: Vec<_> = events.iter().map(ViewerEvent::seq).collect();
    assert_eq!(numbers, (0..12).collect::<Vec<u64>>());
    scheduler.shutdown().await;
}

#[tokio::test]
async fn a_finished_job_is_a_result_with_its_pictures() {
    let (scheduler, _directory) = start(config(), &generator()).await;
    let (accepted, viewer) = submit_and_watch(&scheduler, request(3, few_step(&[0]), 2)).await;
    let events = all(viewer).await;
    let view = scheduler.view(&accepted.job).await.unwrap();
    assert_eq!((view.state, view.class_name.as_str()), (JobState::Finished, "class 3"));
    assert_eq!((view.plan_name.as_deref(), view.image_size), (Some("1 step"), 16));
    assert_eq!((view.frames.len(), view.passes.len(), view.pictures.len()), (6, 1, 2));
    for (frame, seen) in view.frames.iter().zip(frames(&events)) {
        let (media_type, bytes) = scheduler.frame(&accepted.job, frame.seq).await.unwrap();
        assert_eq!((media_type, bytes.as_ref()), (frame.header.media_type, &seen.body[..]));
        if seen.last {
            assert_eq!(scheduler.picture(&accepted.job, seen.picture).await.unwrap(), seen.body);
        }
    }
    let JobEvent::Finished { timings } = final_event(&events) else { unreachable!() };
    assert_eq!(view.timings.as_ref(), Some(timings));
    assert_eq!((timings.transformer_ms, timings.decode_ms), (1.5, 0.75));
    assert!(
        timings.queue_ms <= timings.first_frame_ms
            && timings.first_frame_ms <= timings.last_frame_ms
    );
    let none = scheduler.picture(&accepted.job, 2).await.unwrap_err();
    assert_eq!(none.code, ErrorCode::NotFound);
    assert_eq!(scheduler.recent(10, None).await.unwrap().results[0].id, accepted.job);
}

#[tokio::test]
async fn the_same_request_gives_the_same_bytes_whatever_shares_its_batch() {
    let gate = Gate::closed();
    let generator = generator().with_gate(&gate);
    let (scheduler, _directory) = start(config(), &generator).await;
    let (first, alone) = submit_and_watch(&scheduler, request(1, few_step(&[0]), 1)).await;
    gate.wait_for_device();
    let mut together = Vec::new();
    for class in [1, 2, 3] {
        together.push(submit_and_watch(&scheduler, request(class, few_step(&[0]), 1)).await);
    }
    gate.open();
    let alone = all(alone).await;
    assert_drawn(&first.request, &alone);
    for (at, (accepted, viewer)) in together.into_iter().enumerate() {
        let events = all(viewer).await;
        assert_drawn(&accepted.request, &events);
        assert_eq!(frames(&events) == frames(&alone), at == 0);
    }
    let sizes: Vec<_> = generator.batches().iter().map(|batch| batch.pictures.len()).collect();
    assert_eq!(sizes, [1, 3]);
}

#[tokio::test]
async fn a_job_over_the_batch_limit_runs_in_parts_and_tells_of_each_pass_once() {
    let generator = generator();
    let limits = SchedulerConfig { max_batch: 3, ..config() };
    let (scheduler, _directory) = start(limits, &generator).await;
    let (accepted, viewer) = submit_and_watch(&scheduler, request(1, few_step(&[0, 1]), 8)).await;
    let events = all(viewer).await;
    assert_drawn(&accepted.request, &events);
    let began = events.iter().filter(|event| {
        matches!(event, ViewerEvent::Control { event: JobEvent::PassBegan { .. }, .. })
    });
    assert_eq!(began.count(), 2);
    let sizes: Vec<_> = generator.batches().iter().map(|batch| batch.pictures.len()).collect();
    assert_eq!(sizes, [3, 3, 2]);
}

#[tokio::test]
async fn the_queue_tells_positions_and_refuses_a_job_too_many() {
    let gate = Gate::closed();
    let limits = SchedulerConfig { queue_limit: 2, max_batch: 1, ..config() };
    let (scheduler, _directory) = start(limits, &generator().with_gate(&gate)).await;
    let submit = || submit_and_watch(&scheduler, request(1, few_step(&[0]), 1));
    let (_, running) = submit().await;
    gate.wait_for_device();
    let (_, mut next) = submit().await;
    let (_, mut last) = submit().await;
    let full = scheduler.submit(request(1, few_step(&[0]), 1), Unwatched::Stays).await.unwrap_err();
    assert_eq!(full.code, ErrorCode::QueueFull);
    assert!(full.retry_after_s.is_some());
    assert!(full.message.contains("2 of 2"), "{}", full.message);
    let position = |event: Option<ViewerEvent>| match event {
        Some(ViewerEvent::Control { event: JobEvent::Queued { position }, .. }) => position,
        other => panic!("{other:?} is no position"),
    };
    assert_eq!(position(next.next().await), 0);
    assert_eq!(position(last.next().await), 1);
    assert_eq!(scheduler.stats().queued, 2);
    gate.open();
    assert_eq!(position(last.next().await), 0);
    for viewer in [running, next, last] {
        assert!(matches!(final_event(&all(viewer).await), JobEvent::Finished { .. }));
    }
    assert_eq!((scheduler.stats().queued, scheduler.stats().running), (0, 0));
}

#[tokio::test]
async fn recent_results_come_in_pages_newest_first() {
    let (scheduler, _directory) = start(config(), &generator()).await;
    let mut ids = Vec::new();
    for class in 0..5 {
        let (accepted, viewer) =
            submit_and_watch(&scheduler, request(class, few_step(&[0]), 1)).await;
        all(viewer).await;
        ids.insert(0, accepted.job);
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = scheduler.recent(2, before.as_deref()).await.unwrap();
        assert!(
            page.results
                .iter()
                .all(|result| result.frames.is_empty() && result.pictures.len() == 1)
        );
        seen.extend(page.results.into_iter().map(|result| result.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
    for limit in [0, 101, u32::MAX] {
        let error = scheduler.recent(limit, None).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::MalformedBody);
        assert!(error.message.contains("1 to 100"), "{}", error.message);
    }
    let error = scheduler.recent(5, Some("yesterday")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::MalformedBody);
}

#[tokio::test]
async fn only_as_many_results_are_kept_as_wanted_and_the_example() {
    let limits = SchedulerConfig { keep_results: Some(2), ..config() };
    let (scheduler, directory) = start(limits, &generator()).await;
    assert_eq!(scheduler.example(), None);
    let example = scheduler.submit_example(request(5, few_step(&[0]), 1)).await.unwrap();
    all(scheduler.watch(&example, None).await.unwrap()).await;
    assert_eq!(scheduler.example(), Some(example.clone()));
    let mut ids = Vec::new();
    for class in 0..4 {
        let (accepted, viewer) =
            submit_and_watch(&scheduler, request(class, few_step(&[0]), 1)).await;
        all(viewer).await;
        ids.push(accepted.job);
    }
    scheduler.shutdown().await;
    drop(scheduler);
    let limits = SchedulerConfig { keep_results: Some(2), ..config() };
    let scheduler = start_in(directory.path(), limits, &generator()).await;
    let kept: Vec<_> =
        scheduler.recent(10, None).await.unwrap().results.into_iter().map(|view| view.id).collect();
    assert_eq!(kept, [ids[3].clone(), ids[2].clone(), example.clone()]);
    assert_eq!(scheduler.view(&ids[0]).await.unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(scheduler.example(), Some(example));
    assert_eq!(std::fs::read_dir(directory.path().join("frames")).unwrap().count(), 3);
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let (scheduler, _directory) = start(config(), &generator()).await;
    let mut registry = Registry::default();
    scheduler.register_metrics(&mut registry);
    for class in [1, fake::CLASS_OF_FAILURE] {
        let (_, viewer) = submit_and_watch(&scheduler, request(class, few_step(&[0]), 2)).await;
        all(viewer).await;
    }
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for line in [
        "var_dd_jobs_accepted_total 2",
        "var_dd_jobs_ended_total{state=\"finished\"} 1",
        "var_dd_jobs_ended_total{state=\"failed\"} 1",
        "var_dd_frames_total{media_type=\"image/jpeg\"} 4",
        "var_dd_frames_total{media_type=\"image/png\"} 2",
        "var_dd_first_frame_seconds_count 1",
        "var_dd_batch_pictures_sum 4.0",
        "var_dd_jobs_queued 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
