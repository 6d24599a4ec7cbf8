//! Disks that are full for a while, and results that are damaged.

use std::{fs, path::PathBuf};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use var_dd_protocol::JobState;

use super::*;
use crate::generator::fake::Gate;

fn patient() -> SchedulerConfig {
    SchedulerConfig { keep_for: Duration::from_secs(600), ..config() }
}

/// Makes it impossible to keep pictures, and possible again.
fn block(directory: &Path) -> PathBuf {
    let pictures = directory.join("frames");
    fs::rename(&pictures, directory.join("away")).unwrap();
    fs::write(&pictures, "in the way").unwrap();
    pictures
}

fn unblock(directory: &Path) {
    fs::remove_file(directory.join("frames")).unwrap();
    fs::rename(directory.join("away"), directory.join("frames")).unwrap();
}

#[tokio::test]
async fn an_end_is_told_once_it_is_kept_and_until_then_that_it_is_not() {
    let (scheduler, directory) = start(patient(), &generator()).await;
    block(directory.path());
    let (accepted, mut viewer) = submit_and_watch(&scheduler, request(1, few_step(&[0]), 1)).await;
    let mut events = until(&mut viewer, |event| matches!(event, JobEvent::NotKept { .. })).await;
    let view = scheduler.view(&accepted.job).await.unwrap();
    assert_eq!(view.state, JobState::Running, "it is not over for anybody");
    assert_eq!(scheduler.can_keep().await.unwrap_err().code, ErrorCode::StorageFailed);
    for refused in [
        scheduler.cancel(&accepted.job, &accepted.owner_token).await.unwrap_err(),
        scheduler.delete(&accepted.job, &accepted.owner_token).await.unwrap_err(),
    ] {
        assert_eq!(refused.code, ErrorCode::Conflict);
    }
    unblock(directory.path());
    events.extend(all(viewer).await);
    assert_drawn(&accepted.request, &events);
    let said = |event: &&ViewerEvent| {
        matches!(event, ViewerEvent::Control { event: JobEvent::NotKept { .. }, .. })
    };
    assert_eq!(events.iter().filter(said).count(), 1);
    assert_eq!(all(scheduler.watch(&accepted.job, None).await.unwrap()).await, events);
    assert!(scheduler.can_keep().await.is_ok());
    let mut registry = Registry::default();
    scheduler.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("jobs_ended_total{state=\"finished\"} 1"), "{text}");
    assert!(!text.contains("state=\"failed\""), "{text}");
}

#[tokio::test]
async fn what_could_not_be_kept_before_a_restart_is_drawn_again_and_ends_once() {
    let directory = tempfile::tempdir().unwrap();
    let scheduler = start_in(directory.path(), patient(), &generator()).await;
    block(directory.path());
    let (accepted, mut viewer) = submit_and_watch(&scheduler, request(1, few_step(&[0]), 1)).await;
    until(&mut viewer, |event| matches!(event, JobEvent::NotKept { .. })).await;
    scheduler.shutdown().await;
    assert!(all(viewer).await.is_empty(), "no end was told");
    drop(scheduler);
    unblock(directory.path());
    let scheduler = start_in(directory.path(), patient(), &generator()).await;
    let events = all(scheduler.watch(&accepted.job, None).await.unwrap()).await;
    assert_drawn(&accepted.request, &events);
}

#[tokio::test]
async fn a_directory_that_was_removed_takes_no_job_and_is_not_ready() {
    let (scheduler, directory) = start(config(), &generator()).await;
    assert!(scheduler.can_keep().await.is_ok());
    let away = directory.path().with_extension("away");
    fs::rename(directory.path(), &away).unwrap();
    for error in [
        scheduler.can_keep().await.unwrap_err(),
        scheduler.submit(request(1, few_step(&[0]), 1), Unwatched::Stays).await.unwrap_err(),
    ] {
        assert_eq!(error.code, ErrorCode::StorageFailed);
        assert!(!error.message.contains('/'), "{}", error.message);
    }
    // Another one in its place is not the one that was opened.
    fs::create_dir(directory.path()).unwrap();
    fs::write(directory.path().join("var-dd.db"), "").unwrap();
    assert!(scheduler.can_keep().await.is_err());
    fs::remove_dir_all(directory.path()).unwrap();
    fs::rename(&away, directory.path()).unwrap();
    assert!(scheduler.can_keep().await.is_ok());
    let (accepted, viewer) = submit_and_watch(&scheduler, request(1, few_step(&[0]), 1)).await;
    assert_drawn(&accepted.request, &all(viewer).await);
}

/// Another connection to the database, which nobody writes to until it is closed.
async fn hold(directory: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(directory.join("var-dd.db"));
    let mut connection = options.connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn a_job_is_drawn_while_its_acceptance_is_written_and_shown_to_nobody_before() {
    let gate = Gate::closed();
    let generator = generator().with_gate(&gate);
    let (scheduler, directory) = start(config(), &generator).await;
    let held = hold(directory.path()).await;
    let asked = request(1, few_step(&[0]), 1);
    let accepting = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.submit(asked, Unwatched::Stays).await }
    });
    let device = gate.clone();
    tokio::task::spawn_blocking(move || device.wait_for_device()).await.unwrap();
    gate.open();
    while generator.batches().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!accepting.is_finished(), "what is not on disk is not accepted");
    held.close().await.unwrap();
    let accepted = accepting.await.unwrap().unwrap();
    let events = all(scheduler.watch(&accepted.job, None).await.unwrap()).await;
    assert_drawn(&accepted.request, &events);
    assert_eq!(all(scheduler.watch(&accepted.job, None).await.unwrap()).await, events);
}

#[tokio::test]
async fn a_job_whose_acceptance_cannot_be_written_is_none_though_it_was_drawn() {
    let (scheduler, directory) = start(config(), &generator()).await;
    let away = directory.path().with_extension("away");
    fs::rename(directory.path(), &away).unwrap();
    let refused = scheduler.submit(request(1, few_step(&[0]), 1), Unwatched::Stays).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::StorageFailed);
    let stats = scheduler.stats();
    assert_eq!((stats.queued, stats.running, stats.not_kept), (0, 0, 0));
    fs::rename(&away, directory.path()).unwrap();
    let (accepted, viewer) = submit_and_watch(&scheduler, request(2, few_step(&[0]), 1)).await;
    assert_drawn(&accepted.request, &all(viewer).await);
    assert_eq!(scheduler.recent(10, None).await.unwrap().results.len(), 1);
}

#[tokio::test]
async fn a_result_whose_pictures_are_damaged_says_so_by_name() {
    let (scheduler, directory) = start(config(), &generator()).await;
    for cut in [true, false] {
        let (accepted, viewer) = submit_and_watch(&scheduler, request(1, few_step(&[0]), 1)).await;
        all(viewer).await;
        let job = &accepted.job;
        let file = directory.path().join(format!("frames/{job}.frames"));
        let length = fs::metadata(&file).unwrap().len();
        if cut {
            fs::File::options().write(true).open(&file).unwrap().set_len(length - 10).unwrap();
        } else {
            fs::remove_file(&file).unwrap();
        }
        let events = all(scheduler.watch(job, None).await.unwrap()).await;
        let Some(ViewerEvent::Lost { error, .. }) = events.last() else { panic!("{events:?}") };
        let errors = [error.clone(), scheduler.picture(job, 0).await.unwrap_err()];
        for error in errors {
            assert_eq!(error.code, ErrorCode::StorageFailed);
            for part in [job.as_str(), "damaged", "delete"] {
                assert!(error.message.contains(part), "{part} is missing in {}", error.message);
            }
            assert!(!error.message.contains('/'), "{}", error.message);
        }
        scheduler.delete(job, &accepted.owner_token).await.unwrap();
        assert_eq!(scheduler.picture(job, 0).await.unwrap_err().code, ErrorCode::NotFound);
    }
}

#[tokio::test]
async fn a_result_that_is_deleted_while_it_is_replayed_says_so() {
    let (scheduler, _directory) = start(config(), &generator()).await;
    let (accepted, viewer) = submit_and_watch(&scheduler, request(1, few_step(&[0]), 1)).await;
    all(viewer).await;
    let mut viewer = scheduler.watch(&accepted.job, None).await.unwrap();
    viewer.next().await.unwrap();
    scheduler.delete(&accepted.job, &accepted.owner_token).await.unwrap();
    let events = all(viewer).await;
    let Some(ViewerEvent::Lost { error, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(error.code, ErrorCode::NotFound);
}
