//! What is promised whoever runs the jobs.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use var_dd::{
    generator::fake::{CLASS_OF_FAILURE, CLASS_OF_PANIC, few_step},
    jobs::{Accepted, Asking, Client, Jobs, Unwatched, Viewer, ViewerEvent},
};
use var_dd_protocol::{
    ErrorCode, Frame, GenerateRequest, JobEvent, JobId, JobState, OwnerToken, PictureParameters,
};

use crate::setting::{QUEUE_LIMIT, Setting};

/// Frames of a picture by the plan of these tests.
pub(crate) const FRAMES: usize = 5;

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

pub(crate) fn request(class: u32) -> GenerateRequest {
    GenerateRequest {
        seed: Some(1000 + u64::from(class)),
        ..GenerateRequest::new(class, few_step(&[0, 1]))
    }
}

pub(crate) fn asking(unwatched: Unwatched, key: Option<&str>) -> Asking {
    Asking { unwatched, client: Client::default(), key: key.map(str::to_owned) }
}

pub(crate) async fn submit(jobs: &Arc<dyn Jobs>, class: u32) -> Accepted {
    jobs.submit_as(request(class), asking(Unwatched::Stays, None)).await.unwrap()
}

/// Everything up to the end.
pub(crate) async fn all(mut viewer: Viewer) -> Vec<ViewerEvent> {
    let mut events = Vec::new();
    while let Some(event) = timeout(LONG, viewer.next()).await.expect("it goes on") {
        events.push(event);
    }
    events
}

pub(crate) async fn watched(jobs: &Arc<dyn Jobs>, job: &JobId) -> Vec<ViewerEvent> {
    all(jobs.watch(job, None).await.unwrap()).await
}

/// How it ended.
pub(crate) fn last(events: &[ViewerEvent]) -> &JobEvent {
    match events.last() {
        Some(ViewerEvent::Control { event, .. }) => event,
        other => panic!("{other:?} is no end"),
    }
}

fn ends(events: &[ViewerEvent]) -> usize {
    let is_end = |event: &&ViewerEvent| {
        matches!(event, ViewerEvent::Control { event, .. }
            if event.state().is_some_and(JobState::is_final))
    };
    events.iter().filter(is_end).count()
}

/// What of events is the same whenever a job is drawn: pictures by place.
pub(crate) fn pictures(events: &[ViewerEvent]) -> Vec<(u32, u32, u32, Vec<u8>)> {
    events
        .iter()
        .filter_map(|event| match event {
            ViewerEvent::Frame { bytes, .. } => {
                let frame = Frame::decode(bytes).unwrap();
                let header = frame.header;
                Some((header.picture, header.pass, header.scale, frame.picture.to_vec()))
            }
            _ => None,
        })
        .collect()
}

async fn state(jobs: &Arc<dyn Jobs>, job: &JobId) -> JobState {
    jobs.view(job).await.unwrap().state
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Waits until the device is held before a pass of a job.
async fn begun(setting: &Setting) {
    let gate = setting.gate.clone();
    timeout(LONG, tokio::task::spawn_blocking(move || gate.wait_for_device()))
        .await
        .unwrap()
        .unwrap();
}

pub(crate) async fn a_job_is_drawn_and_stays_what_it_was(setting: &Setting) {
    let jobs = &setting.jobs;
    let accepted = submit(jobs, 2).await;
    let viewer = jobs.watch(&accepted.job, None).await.unwrap();
    setting.gate.open();
    let live = all(viewer).await;
    assert!(matches!(last(&live), JobEvent::Finished { .. }), "{live:?}");
    assert_eq!(ends(&live), 1);
    let seqs: Vec<_> = live.iter().map(ViewerEvent::seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    // Two passes: three scales, then two of them again.
    let drawn = pictures(&live);
    assert_eq!(drawn.len(), FRAMES);

    let replayed = watched(jobs, &accepted.job).await;
    assert_eq!(pictures(&replayed), drawn);
    assert_eq!(last(&replayed), last(&live));
    let view = jobs.view(&accepted.job).await.unwrap();
    assert_eq!(
        (view.state, view.frames.len(), view.pictures.len()),
        (JobState::Finished, FRAMES, 1)
    );
    assert_eq!(view.request, accepted.request);
    for (frame, (.., picture)) in view.frames.iter().zip(&drawn) {
        assert_eq!(jobs.frame(&accepted.job, frame.seq).await.unwrap().1, picture[..]);
    }
    let finished = jobs.picture(&accepted.job, 0).await.unwrap();
    assert_eq!(finished, drawn.last().unwrap().3[..]);
    assert_eq!(jobs.picture(&accepted.job, 1).await.unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(jobs.frame(&accepted.job, 77).await.unwrap_err().code, ErrorCode::NotFound);
}

pub(crate) async fn a_viewer_goes_on_after_any_event_without_gap_or_repeat(setting: &Setting) {
    let jobs = &setting.jobs;
    let accepted = submit(jobs, 3).await;
    let first = jobs.watch(&accepted.job, None).await.unwrap();
    setting.gate.allow(1);
    begun(setting).await;
    // While it is drawn, and when it is over.
    let joined = jobs.watch(&accepted.job, None).await.unwrap();
    setting.gate.open();
    let whole = all(first).await;
    assert_eq!(pictures(&all(joined).await), pictures(&whole));
    for (at, event) in whole.iter().enumerate() {
        let rest = all(jobs.watch(&accepted.job, Some(event.seq())).await.unwrap()).await;
        assert_eq!(rest, whole[at + 1..], "after {}", event.seq());
    }
}

pub(crate) async fn twenty_at_once_under_a_key_are_one_job(setting: &Setting) {
    let jobs = &setting.jobs;
    let ask = || jobs.submit_as(request(4), asking(Unwatched::Stays, Some("a key")));
    let accepted: Vec<_> =
        join_all((0..20).map(|_| ask())).await.into_iter().map(Result::unwrap).collect();
    for other in &accepted {
        assert_eq!(other.job, accepted[0].job);
        assert_eq!(other.owner_token.0, accepted[0].owner_token.0);
    }
    let other = jobs.submit_as(request(5), asking(Unwatched::Stays, Some("a key"))).await;
    assert_eq!(other.unwrap_err().code, ErrorCode::KeyReused);
    setting.gate.open();
    watched(jobs, &accepted[0].job).await;
    assert_eq!(ask().await.unwrap().job, accepted[0].job, "also when it is over");
    assert_eq!(setting.generator.batches().len(), 1, "drawn once");
}

pub(crate) async fn the_owner_alone_cancels_and_deletes(setting: &Setting) {
    let jobs = &setting.jobs;
    let accepted = submit(jobs, 1).await;
    let stranger = OwnerToken("0".repeat(64));
    let code = |outcome: Result<(), var_dd_protocol::ErrorBody>| outcome.unwrap_err().code;
    assert_eq!(code(jobs.cancel(&accepted.job, &stranger).await), ErrorCode::NotOwner);
    assert_eq!(code(jobs.delete(&accepted.job, &stranger).await), ErrorCode::NotOwner);
    assert_eq!(code(jobs.delete(&accepted.job, &accepted.owner_token).await), ErrorCode::Conflict);
    setting.gate.open();
    watched(jobs, &accepted.job).await;
    assert_eq!(code(jobs.cancel(&accepted.job, &accepted.owner_token).await), ErrorCode::Conflict);
    assert_eq!(code(jobs.delete(&accepted.job, &stranger).await), ErrorCode::NotOwner);
    jobs.delete(&accepted.job, &accepted.owner_token).await.unwrap();
    assert_eq!(jobs.view(&accepted.job).await.unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(jobs.watch(&accepted.job, None).await.unwrap_err().code, ErrorCode::NotFound);
    let nobody = JobId::from_bits(7);
    assert_eq!(jobs.view(&nobody).await.unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(code(jobs.cancel(&nobody, &stranger).await), ErrorCode::NotFound);
}

pub(crate) async fn what_is_cancelled_ends_once_and_is_not_drawn_on(setting: &Setting) {
    let jobs = &setting.jobs;
    let runs = submit(jobs, 1).await;
    begun(setting).await;
    let waits = submit(jobs, 2).await;
    let viewers =
        [jobs.watch(&runs.job, None).await.unwrap(), jobs.watch(&waits.job, None).await.unwrap()];
    jobs.cancel(&waits.job, &waits.owner_token).await.unwrap();
    jobs.cancel(&runs.job, &runs.owner_token).await.unwrap();
    let again = jobs.cancel(&runs.job, &runs.owner_token).await;
    assert_eq!(again.unwrap_err().code, ErrorCode::Conflict);
    setting.gate.open();
    for viewer in viewers {
        let events = all(viewer).await;
        assert_eq!((last(&events), ends(&events)), (&JobEvent::Cancelled, 1));
        assert!(pictures(&events).is_empty());
    }
    for job in [&runs.job, &waits.job] {
        assert_eq!(state(jobs, job).await, JobState::Cancelled);
    }
    // Others come after them.
    let next = submit(jobs, 3).await;
    assert!(matches!(last(&watched(jobs, &next.job).await), JobEvent::Finished { .. }));
    let classes: Vec<_> =
        setting.generator.batches().iter().map(|batch| batch.pictures[0].class).collect();
    assert_eq!(classes, [1, 3], "the one that waited never began");
}

pub(crate) async fn what_cannot_be_drawn_fails_with_the_reason(setting: &Setting) {
    let jobs = &setting.jobs;
    setting.gate.open();
    for class in [CLASS_OF_FAILURE, CLASS_OF_PANIC] {
        let accepted = submit(jobs, class).await;
        let events = watched(jobs, &accepted.job).await;
        let JobEvent::Failed { error } = last(&events) else { panic!("{events:?}") };
        assert!(error.message.contains(&format!("class {class} makes")), "{error}");
        assert!(!error.message.contains("/srv"), "{error}");
        assert_eq!(ends(&events), 1);
        let view = jobs.view(&accepted.job).await.unwrap();
        assert_eq!((view.state, view.error.as_ref()), (JobState::Failed, Some(error)));
    }
    let bad = jobs.submit_as(request(99), asking(Unwatched::Stays, None)).await;
    assert_eq!(bad.unwrap_err().code, ErrorCode::ClassOutOfRange);
}

pub(crate) async fn a_full_queue_refuses_and_says_when_to_come_again(setting: &Setting) {
    let jobs = &setting.jobs;
    let first = submit(jobs, 0).await;
    begun(setting).await;
    let mut taken = vec![first];
    for class in 1..=QUEUE_LIMIT as u32 {
        taken.push(submit(jobs, class).await);
    }
    for _ in 0..3 {
        let refused = jobs.submit_as(request(5), asking(Unwatched::Stays, None)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::QueueFull);
        assert!(refused.retry_after_s.is_some(), "{refused}");
    }
    setting.gate.open();
    for accepted in &taken {
        let events = watched(jobs, &accepted.job).await;
        assert!(matches!(last(&events), JobEvent::Finished { .. }));
    }
    assert_eq!(setting.generator.batches().len(), taken.len());
}

pub(crate) async fn nobody_waits_for_a_job_that_nobody_watches(setting: &Setting) {
    let jobs = &setting.jobs;
    let held = submit(jobs, 0).await;
    begun(setting).await;
    let ask = |class| jobs.submit_as(request(class), asking(Unwatched::Expires, None));
    let (left, kept) = (ask(1).await.unwrap(), ask(2).await.unwrap());
    let watching = jobs.watch(&kept.job, None).await.unwrap();
    drop(jobs.watch(&left.job, None).await.unwrap());
    until("it expires", async || state(jobs, &left.job).await == JobState::Expired).await;
    assert_eq!(state(jobs, &kept.job).await, JobState::Queued);
    setting.gate.open();
    assert!(matches!(last(&all(watching).await), JobEvent::Finished { .. }));
    watched(jobs, &held.job).await;
}

pub(crate) async fn a_job_that_comes_too_late_expires(setting: &Setting) {
    let jobs = &setting.jobs;
    let held = submit(jobs, 0).await;
    begun(setting).await;
    let wanted = GenerateRequest { deadline_ms: Some(300), ..request(1) };
    let late = jobs.submit_as(wanted, asking(Unwatched::Stays, None)).await.unwrap();
    let events = watched(jobs, &late.job).await;
    assert_eq!((last(&events), ends(&events)), (&JobEvent::Expired, 1));
    setting.gate.open();
    watched(jobs, &held.job).await;
    assert_eq!(setting.generator.batches().len(), 1, "no pass of it was drawn");
}

pub(crate) async fn results_are_listed_page_by_page_until_deleted(setting: &Setting) {
    let jobs = &setting.jobs;
    setting.gate.open();
    let mut all = Vec::new();
    for class in 0..4 {
        let accepted = submit(jobs, class).await;
        watched(jobs, &accepted.job).await;
        all.push(accepted);
    }
    let listed = async |limit, before: Option<&str>| {
        let page = jobs.recent(limit, before).await.unwrap();
        (page.results.into_iter().map(|view| view.id).collect::<Vec<_>>(), page.next)
    };
    until("all are listed", async || listed(10, None).await.0.len() == 4).await;
    let newest: Vec<_> = all.iter().rev().map(|accepted| accepted.job.clone()).collect();
    let (page, next) = listed(3, None).await;
    assert_eq!(page, newest[..3]);
    let (page, end) = listed(3, next.as_deref()).await;
    assert_eq!((&page[..], end), (&newest[3..], None));
    jobs.delete(&all[1].job, &all[1].owner_token).await.unwrap();
    until("it is gone", async || listed(10, None).await.0.len() == 3).await;
    for (limit, before) in [(0, None), (101, None), (5, Some("x"))] {
        let error = jobs.recent(limit, before).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::MalformedBody);
    }
}

pub(crate) async fn questions_are_answered_and_leave_nothing(setting: &Setting) {
    let jobs = &setting.jobs;
    setting.gate.open();
    let accepted = submit(jobs, 2).await;
    watched(jobs, &accepted.job).await;
    let finished = jobs.picture(&accepted.job, 0).await.unwrap();
    let finished = image::load_from_memory(&finished).unwrap().to_rgb8();
    let parameters = PictureParameters { request: accepted.request.clone(), picture: 0 };
    assert_eq!(jobs.draw_again(parameters).await.unwrap(), finished);
    let (header, bytes) = jobs.preview(accepted.request.clone()).await.unwrap();
    assert!(header.last && !bytes.is_empty());
    let report = jobs.tokens(&accepted.job, 0).await.unwrap();
    assert_eq!(report.scales.len(), 3);
    assert_eq!(jobs.tokens(&accepted.job, 1).await.unwrap_err().code, ErrorCode::NotFound);
    let tokens = jobs.encode("stand-in", finished).await.unwrap();
    assert_eq!((tokens.model.as_str(), tokens.frames.len()), ("stand-in", 3));
    let unknown = GenerateRequest { model: Some("other".into()), ..request(1) };
    assert_eq!(jobs.preview(unknown).await.unwrap_err().code, ErrorCode::UnknownModel);
    until("nothing is listed", async || jobs.recent(10, None).await.unwrap().results.len() == 1)
        .await;
}

/// Every promise, kept by each of those who run jobs.
macro_rules! kept_by_all {
    ($($promise:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                super::$promise(&super::Setting::embedded().await).await;
            })+
        }

        mod clustered {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                super::$promise(&super::Setting::clustered().await).await;
            })+
        }
    };
}

kept_by_all!(
    a_job_is_drawn_and_stays_what_it_was,
    a_viewer_goes_on_after_any_event_without_gap_or_repeat,
    twenty_at_once_under_a_key_are_one_job,
    the_owner_alone_cancels_and_deletes,
    what_is_cancelled_ends_once_and_is_not_drawn_on,
    what_cannot_be_drawn_fails_with_the_reason,
    a_full_queue_refuses_and_says_when_to_come_again,
    nobody_waits_for_a_job_that_nobody_watches,
    a_job_that_comes_too_late_expires,
    results_are_listed_page_by_page_until_deleted,
    questions_are_answered_and_leave_nothing,
);
