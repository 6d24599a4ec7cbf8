//! Frames as the page receives and shows them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use var_dd_protocol::{JobId, Plan};
use var_dd_tests::{
    browser::{Look, with_browsers},
    expected_frames,
    playground::{Playground, ReceivedFrame, ShownPicture},
    program::Program,
};

use crate::{set_up, slowest_plan};

#[tokio::test]
async fn each_kind_of_plan_shows_its_frames_in_order_and_the_link_has_the_same_bytes() -> Result<()>
{
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    let kinds: BTreeSet<_> = model.plans.iter().map(|preset| kind(&preset.plan)).collect();
    ensure!(kinds.len() == 4, "the demo model offers only {kinds:?}");
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        for (index, preset) in model.plans.iter().enumerate() {
            let expected = expected_frames(&preset.plan, model.scales());
            set_up(&playground, index, 1).await?;
            let job = playground.draw().await?;

            let received = playground.received(&job).await?;
            let places: Vec<_> = received.iter().map(|frame| (frame.pass, frame.scale)).collect();
            ensure!(places == expected, "{}: {places:?}", preset.name);
            let different: BTreeSet<_> = received.iter().map(|frame| &frame.digest).collect();
            ensure!(different.len() == received.len(), "{}: two frames are the same", preset.name);

            let tiles = playground.drawn_tiles().await?;
            let tiles: Vec<_> = tiles.iter().map(|tile| (tile.pass, tile.scale)).collect();
            ensure!(tiles == expected, "{}: the strip shows {tiles:?}", preset.name);
            check_shown(&playground, &job, &received).await.with_context(|| preset.name.clone())?;
            check_tiles(&playground, &received).await.with_context(|| preset.name.clone())?;

            let other =
                Playground::open(browsers, &program, Look::PHONE, &format!("/r/{job}")).await?;
            other.wait_for_state(&job, "finished").await?;
            other.choose_tile(received.len() - 1).await?;
            let picture = other.settled_on_stage(received.len() - 1).await?;
            ensure!(
                received.last().is_some_and(|last| last.last && last.digest == picture.digest),
                "{}: the link shows other bytes",
                preset.name
            );
        }
        let complaints = playground.page.complaints().await?;
        ensure!(complaints.is_empty(), "the page complains: {complaints:?}");
        Ok(())
    })
    .await
}

fn kind(plan: &Plan) -> &'static str {
    match plan {
        Plan::FewStep { t_list, .. } if t_list.len() == 1 => "one step",
        Plan::FewStep { .. } => "several steps",
        Plan::TeacherInvolved { .. } => "teacher-involved",
        Plan::Teacher { .. } => "teacher",
    }
}

/// What the stage showed while the picture came into focus: every received frame, in order.
async fn check_shown(
    playground: &Playground,
    job: &JobId,
    received: &[ReceivedFrame],
) -> Result<()> {
    playground.wait_until_shown().await?;
    let digests: BTreeMap<_, _> = received.iter().map(|frame| (frame.seq, &frame.digest)).collect();
    // The stage may show other jobs before this one, and even the same bytes at the coarsest scale.
    let shown = playground.shown().await?;
    let shown: Vec<_> = shown.iter().filter(|shown| shown.job == job.to_string()).collect();
    let strange = shown.iter().find(|shown| digests.get(&shown.seq) != Some(&&shown.digest));
    ensure!(strange.is_none(), "the stage showed other bytes: {strange:?}");
    let shown: Vec<_> = shown.iter().map(|shown| shown.seq).collect();
    let expected: Vec<_> = received.iter().map(|frame| frame.seq).collect();
    ensure!(shown == expected, "the stage showed {shown:?} of {expected:?}");
    Ok(())
}

/// Each tile brings its own frame to the stage.
async fn check_tiles(playground: &Playground, received: &[ReceivedFrame]) -> Result<()> {
    for (tile, frame) in received.iter().enumerate() {
        playground.choose_tile(tile).await?;
        let picture = playground.settled_on_stage(tile).await?;
        ensure!(
            (picture.seq, &picture.digest) == (frame.seq, &frame.digest),
            "tile {tile} shows another frame"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_finished_picture_that_is_wanted_first_stays_on_the_stage_while_the_strip_fills()
-> Result<()> {
    let program = Program::start(&[])?;
    let (model, slow) = slowest_plan(&program).await?;
    let expected = expected_frames(&model.plans[slow].plan, model.scales());
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::PHONE, "/").await?;
        set_up(&playground, slow, 2).await?;
        // By the keyboard: Space is the box's own there, not the player's.
        let ticked = "return document.querySelector('[data-testid=last-frame-first]').checked";
        ensure!(
            playground.page.value(ticked).await? == false,
            "the finished picture comes first unasked"
        );
        playground
            .page
            .value("document.querySelector('[data-testid=last-frame-first]').focus()")
            .await?;
        playground.page.keys(" ").await?;
        playground.page.wait_for("a ticked box", ticked).await?;
        let job = playground.draw().await?;

        let received = playground.received(&job).await?;
        let lasts: Vec<_> = received.iter().map(|frame| frame.last).collect();
        ensure!(
            lasts[..2] == [true; 2] && !lasts[2..].contains(&true),
            "the pictures do not come first: {lasts:?}"
        );
        ensure!(lasts.len() == 2 * expected.len(), "{} frames", lasts.len());
        let tiles = playground.drawn_tiles().await?;
        let tiles: Vec<_> = tiles.iter().map(|tile| (tile.pass, tile.scale)).collect();
        ensure!(tiles == expected, "the strip shows {tiles:?}");

        // The stage came to show the finished pictures and nothing after them.
        let own = |shown: &[ShownPicture]| -> Vec<(u32, u64, bool)> {
            let of = |shown: &ShownPicture| {
                received
                    .iter()
                    .find(|frame| (frame.seq, &frame.digest) == (shown.seq, &shown.digest))
            };
            shown
                .iter()
                .filter_map(of)
                .map(|frame| (frame.picture, frame.seq, frame.last))
                .collect()
        };
        let finished: Vec<_> =
            received[..2].iter().map(|frame| (frame.picture, frame.seq, true)).collect();
        // Both may come to be seen at once, in any order.
        let mut shown = own(&playground.shown().await?);
        shown.sort_unstable();
        ensure!(shown == finished, "the stage showed {shown:?}");
        let on_stage = own(&playground.on_stage().await?);
        ensure!(on_stage == finished, "the stage shows {on_stage:?}");
        playground.page.wait_for_text("all scales in").await?;

        // Each step can be looked at, and the link shows the finished picture too.
        playground.choose_tile(0).await?;
        let first = playground.settled_on_stage(0).await?;
        ensure!(
            received.iter().any(|frame| frame.digest == first.digest && frame.scale == 0),
            "{first:?}"
        );
        let other =
            Playground::open(browsers, &program, Look::DESKTOP, &format!("/r/{job}")).await?;
        other.wait_for_state(&job, "finished").await?;
        let picture = other.settled_on_stage(expected.len() - 1).await?;
        ensure!(picture.digest == received[0].digest, "the link shows other bytes");
        other.page.wait_for_text("finished picture first").await?;

        // Whoever goes on from there, or loads the page again, keeps the choice.
        other.click("make-your-own").await?;
        other.wait_until_ready().await?;
        playground.page.reload().await?;
        playground.wait_until_ready().await?;
        for place in [&other, &playground] {
            place.page.wait_for("the box ticked as before", ticked).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_reload_in_the_middle_loses_no_frame() -> Result<()> {
    let program = Program::start(&[])?;
    let (model, slow) = slowest_plan(&program).await?;
    let expected = expected_frames(&model.plans[slow].plan, model.scales());
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, slow, 8).await?;
        let job = playground.generate().await?;
        playground.page.wait_for("a frame", "return recorded.frames.length > 0").await?;
        playground.page.reload().await?;
        playground.wait_for_state(&job, "finished").await?;
        let tiles = playground.drawn_tiles().await?;
        let tiles: Vec<_> = tiles.iter().map(|tile| (tile.pass, tile.scale)).collect();
        ensure!(tiles == expected, "after the reload the strip shows {tiles:?}");
        let pictures = playground.on_stage().await?;
        ensure!(
            pictures.len() == 8,
            "after the reload the stage shows {} pictures",
            pictures.len()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_link_opened_while_the_job_runs_shows_it_to_its_end() -> Result<()> {
    let program = Program::start(&[])?;
    let (model, slow) = slowest_plan(&program).await?;
    let expected = expected_frames(&model.plans[slow].plan, model.scales());
    with_browsers(async |browsers| {
        let other = Playground::open(browsers, &program, Look::PHONE, "/").await?;
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        set_up(&playground, slow, 8).await?;
        let job = playground.generate().await?;
        other.goto(&format!("/r/{job}")).await?;
        other.wait_for_state(&job, "finished").await?;
        let tiles = other.drawn_tiles().await?;
        let tiles: Vec<_> = tiles.iter().map(|tile| (tile.pass, tile.scale)).collect();
        ensure!(tiles == expected, "the link shows {tiles:?}");
        Ok(())
    })
    .await
}
