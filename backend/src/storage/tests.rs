use std::fs;

use tempfile::tempdir;
use var_dd_protocol::{FrameHeader, GenerateRequest, Guidance, JobState, MediaType, Plan, Timings};

use super::*;

fn record(bits: u128) -> JobRecord {
    JobRecord {
        id: JobId::from_bits(bits),
        owner: [7; 32],
        created_ms: 1_700_000_000_123,
        stays: true,
        example: false,
        request: GenerateRequest {
            model: Some("small".to_owned()),
            class: 3,
            plan: Plan::Teacher { guidance: Guidance::default() },
            seed: Some(var_dd_protocol::MAX_SEED),
            count: 2,
            last_frame_first: false,
            deadline_ms: None,
            explore: None,
        },
        class_name: "tree \"of\" life".to_owned(),
        plan_name: None,
        patch_nums: vec![1, 2],
        image_size: 16,
    }
}

fn header(picture: u32, last: bool) -> FrameHeader {
    FrameHeader {
        picture,
        pass: 1,
        scale: 1,
        width: 16,
        height: 16,
        media_type: MediaType::Png,
        last,
        at_ms: 12.345,
        encode_ms: 0.001,
    }
}

fn ending() -> Ending {
    Ending {
        events: vec![
            (0, JobEvent::Queued { position: 0 }),
            (3, JobEvent::Finished { timings: Timings::default() }),
        ],
        frames: vec![
            (1, header(0, false), Bytes::from_static(b"first")),
            (2, header(0, true), Bytes::from_static(b"second one")),
        ],
    }
}

#[tokio::test]
async fn a_job_reads_back_as_it_was_kept() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let job = record(1);
    store.accept(&job).await.unwrap();
    assert_eq!(store.find(&job.id).await.unwrap().unwrap().state, JobState::Queued);
    store.settle(&job.id, &ending()).await.unwrap();
    store.close().await;
    drop(store);
    let store = Store::open(directory.path()).await.unwrap();
    let found = store.find(&job.id).await.unwrap().unwrap();
    assert_eq!((&found.record, found.state), (&job, JobState::Finished));
    let events = store.events(&found, Some(0)).await.unwrap();
    assert_eq!(events.iter().map(StoredEvent::seq).collect::<Vec<_>>(), [1, 2, 3]);
    let frame = store.frame(&job.id, 2).await.unwrap().unwrap();
    assert_eq!(store.picture(&job.id, &frame).await.unwrap().unwrap(), "second one");
    assert_eq!(store.last_frame(&job.id, 0).await.unwrap(), Some(frame));
    assert_eq!(store.last_frame(&job.id, 1).await.unwrap(), None);
    assert!(store.take_over().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_job_ends_once() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let job = record(1);
    store.accept(&job).await.unwrap();
    store.settle(&job.id, &ending()).await.unwrap();
    assert!(store.settle(&job.id, &ending()).await.is_err());
    let unknown = JobId::from_bits(2);
    assert!(store.settle(&unknown, &ending()).await.is_err());
    let endless =
        Ending { events: vec![(0, JobEvent::Queued { position: 0 })], frames: Vec::new() };
    assert!(store.settle(&job.id, &endless).await.is_err());
}

#[tokio::test]
async fn pictures_without_a_result_are_swept_and_the_files_of_others_are_not() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let job = record(1);
    store.accept(&job).await.unwrap();
    store.settle(&job.id, &ending()).await.unwrap();
    store.close().await;
    drop(store);
    let frames = directory.path().join("frames");
    let kept = format!("{}.frames", job.id);
    let orphan = format!("{}.frames", JobId::from_bits(9));
    for name in [orphan.as_str(), &format!("{kept}#1"), "holiday.png", "notes.frames"] {
        fs::write(frames.join(name), "x").unwrap();
    }
    let _store = Store::open(directory.path()).await.unwrap();
    let mut left: Vec<_> = fs::read_dir(&frames)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [kept.as_str(), "holiday.png", "notes.frames"]);
}

#[tokio::test]
async fn a_directory_serves_one_program_at_a_time() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let second = Store::open(directory.path()).await.unwrap_err();
    assert!(matches!(second, StoreError::InUse { .. }), "{second}");
    drop(store);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = Store::open(&path).await.unwrap_err();
        assert!(matches!(error, StoreError::Directory { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn a_database_that_is_none_is_called_damaged() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("var-dd.db"), "this is no database at all ".repeat(100))
        .unwrap();
    let error = Store::open(directory.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_database_with_a_broken_page_is_called_damaged() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    for bits in 0..50 {
        store.accept(&record(bits)).await.unwrap();
    }
    store.close().await;
    drop(store);
    let path = directory.path().join("var-dd.db");
    let mut bytes = fs::read(&path).unwrap();
    for byte in &mut bytes[4096..] {
        *byte = 0xa5;
    }
    fs::write(&path, bytes).unwrap();
    let error = Store::open(directory.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_left_alone() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', TRUE, x'00', 0)",
    )
    .execute(&store.0.writer)
    .await
    .unwrap();
    store.close().await;
    drop(store);
    let error = Store::open(directory.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { .. }), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_called_by_its_name() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    store.accept(&record(0)).await.unwrap();
    // SQLite's own limit stands in for the disk's.
    sqlx::query("PRAGMA max_page_count = 1").execute(&store.0.writer).await.unwrap();
    let mut bits = 1;
    let error = loop {
        match store.accept(&record(bits)).await {
            Ok(_) => bits += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full(_)), "{error}");
}

#[tokio::test]
async fn a_changed_or_missing_file_of_pictures_is_an_error_that_names_its_result() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let job = record(1);
    store.accept(&job).await.unwrap();
    store.settle(&job.id, &ending()).await.unwrap();
    let frame = store.frame(&job.id, 2).await.unwrap().unwrap();
    let path = directory.path().join("frames").join(format!("{}.frames", job.id));
    fs::write(&path, "firstsec").unwrap();
    let cut_off = store.picture(&job.id, &frame).await.unwrap_err();
    fs::write(&path, "firstsecond two").unwrap();
    let changed = store.picture(&job.id, &frame).await.unwrap_err();
    assert!(changed.to_string().contains("not what was kept"), "{changed}");
    let unsummed = StoredFrame { crc32: None, ..frame.clone() };
    let taken = store.picture(&job.id, &unsummed).await.unwrap().unwrap();
    assert_eq!(taken, "second two", "kept by a version that had no sums");
    fs::remove_file(&path).unwrap();
    let missing = store.picture(&job.id, &frame).await.unwrap_err();
    fs::create_dir(&path).unwrap();
    let in_its_place = store.picture(&job.id, &frame).await.unwrap_err();
    for error in [cut_off, changed, missing, in_its_place] {
        assert!(matches!(error, StoreError::DamagedResult { .. }), "{error:?}");
        assert!(error.to_string().contains(job.id.as_str()), "{error}");
    }
    assert!(store.delete(&job.id).await.unwrap());
    assert_eq!(store.picture(&job.id, &frame).await.unwrap(), None, "deleted in the meantime");
    store.close().await;
    drop(store);
    Store::open(directory.path()).await.unwrap();
    assert!(path.is_dir(), "it is not this program's");
}

#[test]
fn a_file_that_cannot_be_read_names_its_result_and_no_path() {
    let job = JobId::from_bits(1);
    let error = |code| {
        let source = Box::new(std::io::Error::from_raw_os_error(code));
        StoreError::unreadable(&job, object_store::Error::Generic { store: "/srv", source })
    };
    // EACCES and EIO, then EMFILE.
    for code in [13, 5] {
        let error = error(code);
        assert!(matches!(error, StoreError::DamagedResult { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(job.as_str()) && !text.contains("/srv"), "{text}");
    }
    assert!(matches!(error(24), StoreError::Pictures(_)), "the file is as it was");
}

#[tokio::test]
async fn the_oldest_are_pruned_by_how_they_ended() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    for bits in 0..8 {
        let job = record(bits);
        store.accept(&job).await.unwrap();
        let mut ending = ending();
        if bits % 2 == 0 {
            ending.events[1].1 = JobEvent::Cancelled;
        }
        store.settle(&job.id, &ending).await.unwrap();
    }
    assert_eq!(store.prune(None, 3).await.unwrap(), 1);
    assert_eq!(store.prune(Some(1), 3).await.unwrap(), 3);
    let mut left = Vec::new();
    for bits in 0..8 {
        if store.find(&JobId::from_bits(bits)).await.unwrap().is_some() {
            left.push(bits);
        }
    }
    assert_eq!(left, [2, 4, 6, 7]);
    assert_eq!(fs::read_dir(directory.path().join("frames")).unwrap().count(), 4);
}

#[tokio::test]
async fn after_a_transaction_that_sqlite_ended_by_itself_what_is_accepted_is_durable_again() {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let job = record(0);
    store.accept(&job).await.unwrap();
    // As a full disk does in mid-transaction.
    let trigger =
        "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ROLLBACK, 'full'); END";
    sqlx::query(trigger).execute(&store.0.writer).await.unwrap();
    assert!(store.settle(&job.id, &ending()).await.is_err());
    assert!(store.settle(&JobId::from_bits(99), &ending()).await.is_err());
    store.accept(&record(1)).await.unwrap();
    assert!(store.find(&record(1).id).await.unwrap().is_some(), "it is not committed");
    sqlx::query("DROP TRIGGER full").execute(&store.0.writer).await.unwrap();
    store.settle(&job.id, &ending()).await.unwrap();
    assert_eq!(store.find(&job.id).await.unwrap().unwrap().state, JobState::Finished);
}

#[tokio::test]
async fn it_is_told_when_pictures_have_no_place() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    store.probe().await.unwrap();
    let frames = directory.path().join("frames");
    std::fs::remove_dir_all(&frames).unwrap();
    store.probe().await.unwrap();
    std::fs::remove_dir_all(&frames).unwrap();
    std::fs::write(&frames, "in the way").unwrap();
    let error = store.probe().await.unwrap_err().to_string();
    assert!(error.contains("frames"), "{error}");
}
