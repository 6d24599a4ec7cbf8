//! What a viewer of a job sees.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use var_dd_protocol::{
    ClientMessage, GenerateRequest, JobEvent, JobId, JobState, JobView, MediaType, OwnerToken,
    ServerMessage,
};
use var_dd_tests::{
    client::{Client, Event, What, finished_picture, frames, request},
    digest, expected_frames,
    program::Program,
};

use crate::{plans, since_start, slow_plan};

#[tokio::test]
async fn every_kind_of_plan_streams_exactly_its_frames_in_order() -> Result<()> {
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    let mut client = Client::connect(&program).await?;
    for (name, plan, expected) in plans(model.scales()) {
        let passes = plan.passes(model.scales());
        let accepted = client.generate(GenerateRequest { count: 2, ..request(plan, 11) }).await?;
        let events = client.events(&accepted.job).await?;
        let numbers: Vec<_> = events.iter().map(|event| event.seq).collect();
        // Not always from 0: of several positions in the queue a viewer who comes late is told the
        // last.
        ensure!(
            numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "{name}: numbers {numbers:?}"
        );
        for picture in 0..2 {
            let frames = frames(&events, picture);
            let places: Vec<_> = frames.iter().map(|&(pass, scale, _)| (pass, scale)).collect();
            ensure!(places == expected, "{name}, picture {picture}: {places:?}");
            let different: BTreeSet<_> = frames.iter().map(|(.., bytes)| digest(bytes)).collect();
            ensure!(
                different.len() == frames.len(),
                "{name}, picture {picture}: two frames are the same"
            );
        }
        check_headers(&events, model.image_size, expected.len())
            .with_context(|| name.to_owned())?;
        check_order(&events, &passes).with_context(|| name.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_request_in_a_hurry_gets_its_finished_pictures_first_and_then_the_same_frames()
-> Result<()> {
    let program = Program::start(&[])?;
    let scales = program.info().await?.models[0].scales();
    let mut client = Client::connect(&program).await?;
    for (name, plan, expected) in plans(scales) {
        let calm = GenerateRequest { count: 2, ..request(plan, 13) };
        let accepted = client.generate(calm.clone()).await?;
        let in_order = client.events(&accepted.job).await?;
        let accepted = client.generate(GenerateRequest { last_frame_first: true, ..calm }).await?;
        ensure!(accepted.request.last_frame_first, "{name}: {:?}", accepted.request);
        let events = client.events(&accepted.job).await?;
        for picture in 0..2 {
            let mut hurried = frames(&events, picture);
            let places: Vec<_> = hurried.iter().map(|&(pass, scale, _)| (pass, scale)).collect();
            ensure!(
                places.first() == expected.last(),
                "{name}, picture {picture} begins with {places:?}"
            );
            ensure!(
                places[1..] == expected[..expected.len() - 1],
                "{name}, picture {picture}: {places:?}"
            );
            hurried.rotate_left(1);
            ensure!(
                hurried == frames(&in_order, picture),
                "{name}, picture {picture}: other bytes"
            );
            let finished = finished_picture(&events, picture)?;
            ensure!(
                finished == hurried[hurried.len() - 1].2,
                "{name}, picture {picture}: another is the last"
            );
        }
        check_hurry(&events, expected.len()).with_context(|| name.to_owned())?;
        check_kept(&program, &accepted.job, &events).await.with_context(|| name.to_owned())?;
        // A second end would be heard before what is told again.
        client.watch(&accepted.job, None).await?;
        let again = client.events(&accepted.job).await?;
        ensure!(
            since_start(&again)? == since_start(&events)?,
            "{name}: told again it is another job"
        );
    }
    Ok(())
}

/// All passes, then the finished pictures, then the other frames, then one end.
fn check_hurry(events: &[Event], frames_per_picture: usize) -> Result<()> {
    let ends = events.iter().filter(|event| event.final_state().is_some()).count();
    let end = events.last().and_then(Event::final_state);
    ensure!(ends == 1 && end == Some(JobState::Finished), "{ends} ends, {end:?} the last");
    let is_frame = |event: &Event| matches!(event.what, What::Frame(..));
    let first = events.iter().position(is_frame).context("no frame")?;
    let rest = &events[first..events.len() - 1];
    ensure!(rest.iter().all(is_frame), "something else is among the frames");
    ensure!(rest.len() == 2 * frames_per_picture, "{} frames", rest.len());
    for (at, event) in rest.iter().enumerate() {
        let What::Frame(header, _) = &event.what else { continue };
        ensure!(header.last == (at < 2), "frame {at} says last: {}", header.last);
        ensure!(
            !header.last || header.media_type == MediaType::Png,
            "a finished {:?}",
            header.media_type
        );
    }
    Ok(())
}

/// The result has the pictures and frames that were streamed, in the order in which they were.
async fn check_kept(program: &Program, job: &JobId, events: &[Event]) -> Result<()> {
    let view: JobView = reqwest::get(program.url(&format!("/api/results/{job}")))
        .await?
        .error_for_status()?
        .json()
        .await?;
    ensure!(
        view.state == JobState::Finished && view.request.last_frame_first,
        "{:?}",
        view.request
    );
    let streamed = events.iter().filter_map(|event| match &event.what {
        What::Frame(header, bytes) => Some((event.seq, header, bytes)),
        What::Control(_) => None,
    });
    let streamed: Vec<_> = streamed.collect();
    ensure!(
        view.frames.len() == streamed.len(),
        "{} of {} frames are kept",
        view.frames.len(),
        streamed.len()
    );
    for (entry, (seq, header, bytes)) in view.frames.iter().zip(streamed) {
        ensure!((entry.seq, &entry.header) == (seq, header), "{entry:?} is kept in place of {seq}");
        let kept = reqwest::get(program.url(&entry.url)).await?.error_for_status()?.bytes().await?;
        ensure!(kept == *bytes, "frame {seq} is kept with other bytes");
    }
    ensure!(view.pictures.len() == 2, "{} pictures", view.pictures.len());
    for (picture, path) in (0..).zip(&view.pictures) {
        let kept = reqwest::get(program.url(path)).await?.error_for_status()?.bytes().await?;
        ensure!(kept == finished_picture(events, picture)?, "{path} is another picture");
    }
    let times = view.timings.context("no timings")?;
    ensure!(times.first_frame_ms < times.last_frame_ms, "{times:?}");
    let page =
        reqwest::get(program.url(&format!("/r/{job}"))).await?.error_for_status()?.text().await?;
    ensure!(
        page.contains(&format!("/api/results/{job}/pictures/0.png")),
        "the page shows another picture"
    );
    Ok(())
}

/// Each header tells the truth about its picture, and only the last frame of each picture says that
/// it is.
fn check_headers(events: &[Event], side: u32, frames_per_picture: usize) -> Result<()> {
    let mut seen = [0; 2];
    for event in events {
        let What::Frame(header, bytes) = &event.what else { continue };
        let count = &mut seen[header.picture as usize];
        *count += 1;
        ensure!(
            header.last == (*count == frames_per_picture),
            "frame {count} of {}: last",
            header.picture
        );
        ensure!(
            !header.last || header.media_type == MediaType::Png,
            "the last frame is {:?}",
            header.media_type
        );
        let picture = image::load_from_memory(bytes)?;
        ensure!((header.width, header.height) == (side, side), "header says {}", header.width);
        ensure!(
            (picture.width(), picture.height()) == (side, side),
            "picture is {}",
            picture.width()
        );
    }
    Ok(())
}

/// Queued, started, the passes with their frames inside, finished.
fn check_order(events: &[Event], passes: &[var_dd_protocol::Pass]) -> Result<()> {
    let mut running_pass = None;
    let mut begun = Vec::new();
    let mut states = Vec::new();
    for event in events {
        match &event.what {
            What::Control(JobEvent::PassBegan { pass, of, passes: total, .. }) => {
                ensure!(*total as usize == passes.len(), "{total} passes");
                running_pass = Some(*pass);
                begun.push(*of);
            }
            What::Control(JobEvent::PassEnded { pass, .. }) => ensure!(running_pass == Some(*pass)),
            What::Control(other) => states.extend(other.state()),
            What::Frame(header, _) => {
                ensure!(running_pass == Some(header.pass), "a frame outside its pass")
            }
        }
    }
    states.dedup(); // The place in the queue may be told more than once.
    ensure!(states == [JobState::Queued, JobState::Running, JobState::Finished], "{states:?}");
    ensure!(begun == passes, "{begun:?}");
    Ok(())
}

#[tokio::test]
async fn a_viewer_who_resumes_after_any_event_gets_the_same_rest() -> Result<()> {
    let program = Program::start(&[])?;
    let scales = program.info().await?.models[0].scales();
    for (name, plan, _) in plans(scales).into_iter().take(3) {
        let mut client = Client::connect(&program).await?;
        let accepted = client.generate(request(plan, 5)).await?;
        let all = client.events(&accepted.job).await?;
        drop(client);
        let mut other = Client::connect(&program).await?;
        let from_start = since_start(&all)?;
        let numbers = all[..all.len() - 1].iter().map(|event| Some(event.seq));
        for after in [None].into_iter().chain(numbers) {
            other.watch(&accepted.job, after).await?;
            let mut rest = other.events(&accepted.job).await?;
            // A place in the queue may be told again, or one that this viewer never heard of.
            rest.retain(|event| !matches!(event.what, What::Control(JobEvent::Queued { .. })));
            let seen = from_start.iter().take_while(|event| Some(event.seq) <= after).count();
            let expected = &from_start[seen..];
            ensure!(rest.len() == expected.len(), "{name} after {after:?}: {} events", rest.len());
            for (got, expected) in rest.iter().zip(expected) {
                ensure!(
                    got.seq == expected.seq && got.what == expected.what,
                    "{name} after {after:?}: {}",
                    got.seq
                );
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn two_viewers_of_a_running_job_get_the_same_bytes() -> Result<()> {
    let program = Program::start(&[])?;
    let scales = program.info().await?.models[0].scales();
    let mut first = Client::connect(&program).await?;
    let mut second = Client::connect(&program).await?;
    // Jobs ahead, so that the one watched moves up in the queue. Of its places there only the
    // newest is kept for those who come later; a server that still draws its example makes the same
    // happen by chance.
    for seed in 0..2 {
        first.generate(GenerateRequest { count: 4, ..request(slow_plan(scales), seed) }).await?;
    }
    let accepted =
        first.generate(GenerateRequest { count: 4, ..request(slow_plan(scales), 3) }).await?;
    // Joins in the middle.
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some(Event { what: What::Frame(..), .. })) {
        seen.push(first.event(&accepted.job).await?);
    }
    second.watch(&accepted.job, None).await?;
    // Both read at once: whoever does not is spared frames.
    let (rest, other) =
        tokio::try_join!(first.events(&accepted.job), second.events(&accepted.job))?;
    seen.extend(rest);
    let wire = |events: &[Event]| -> Result<Vec<_>> {
        let rest = since_start(events)?;
        for Event { what, .. } in &events[..events.len() - rest.len()] {
            ensure!(
                matches!(what, What::Control(JobEvent::Queued { .. })),
                "before the start: {what:?}"
            );
        }
        Ok(rest.iter().map(|event| (event.seq, digest(&event.wire))).collect())
    };
    let (one, two) = (wire(&seen)?, wire(&other)?);
    let apart = one.iter().zip(&two).position(|(a, b)| a != b);
    ensure!(
        one == two,
        "{} and {} events, apart from the one at {apart:?} on",
        one.len(),
        two.len()
    );
    let frames = seen.iter().filter(|event| matches!(event.what, What::Frame(..))).count();
    let expected = 4 * expected_frames(&slow_plan(scales), scales).len();
    ensure!(frames == expected, "{frames} frames of {expected}");
    Ok(())
}

#[tokio::test]
async fn a_picture_is_the_same_alone_and_in_a_batch_of_eight() -> Result<()> {
    let program = Program::start(&[])?;
    let scales = program.info().await?.models[0].scales();
    let mut client = Client::connect(&program).await?;
    for (name, plan, _) in plans(scales) {
        let alone = client.generate(request(plan.clone(), 77)).await?;
        let alone = client.events(&alone.job).await?;
        let batch =
            client.generate(GenerateRequest { count: 8, ..request(plan.clone(), 77) }).await?;
        let batch = client.events(&batch.job).await?;
        let pixels = |events| {
            Ok::<_, anyhow::Error>(image::load_from_memory(finished_picture(events, 0)?)?.to_rgb8())
        };
        let (one, eight) = (pixels(&alone)?, pixels(&batch)?);
        let apart = one.iter().zip(eight.iter()).map(|(a, b)| a.abs_diff(*b)).max();
        ensure!(apart <= Some(1), "{name}: {apart:?} of 255 apart");
        let distinct: BTreeSet<_> = (0..8)
            .map(|picture| Ok(digest(finished_picture(&batch, picture)?)))
            .collect::<Result<_>>()?;
        ensure!(
            distinct.len() == 8,
            "{name}: only {} different pictures in a batch of 8",
            distinct.len()
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_job_is_cancelled_by_its_owner_only() -> Result<()> {
    let program = Program::start(&[])?;
    let scales = program.info().await?.models[0].scales();
    let mut client = Client::connect(&program).await?;
    let accepted =
        client.generate(GenerateRequest { count: 8, ..request(slow_plan(scales), 1) }).await?;
    let cancel = |token| ClientMessage::Cancel { job: accepted.job.clone(), owner_token: token };
    client.send(&cancel(OwnerToken("0".repeat(accepted.owner_token.0.len())))).await?;
    let answer = client.message().await?;
    ensure!(
        matches!(answer, ServerMessage::Error { .. }),
        "a stranger's cancel is answered by {answer:?}"
    );
    client.send(&cancel(accepted.owner_token.clone())).await?;
    let events = client.events(&accepted.job).await?;
    ensure!(
        events.last().and_then(Event::final_state) == Some(JobState::Cancelled),
        "{:?}",
        events.last()
    );
    Ok(())
}
