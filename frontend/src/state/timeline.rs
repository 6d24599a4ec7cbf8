//! The frames of a job in the order of its plan, whenever they come: what the strip shows.

use std::ops::Range;

use var_dd_protocol::PassKind;

use super::job::{Frame, Job, Place};

/// One place of the strip.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tile {
    pub(crate) place: Place,
    /// Side of the token map of its scale.
    pub(crate) side: u32,
    /// The frame that stands for it: of the picture brought forward, else of the first picture that
    /// has one.
    pub(crate) frame: Option<Frame>,
}

/// Tiles of one pass, or of several teacher passes in a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    pub(crate) kind: PassKind,
    /// First pass, from 0.
    pub(crate) pass: u32,
    pub(crate) tiles: Range<usize>,
    /// Whether a later pass draws these scales again.
    pub(crate) superseded: bool,
}

/// All places of a job's plan.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Timeline {
    pub(crate) tiles: Vec<Tile>,
    pub(crate) groups: Vec<Group>,
}

impl Timeline {
    /// The places of `job`, filled for the picture `forward` or for all of them.
    pub(crate) fn of(job: &Job, forward: Option<usize>) -> Self {
        let about = &job.about;
        let mut tiles = Vec::new();
        let mut groups: Vec<Group> = Vec::new();
        for (pass, of) in (0..).zip(&about.passes) {
            let first = tiles.len();
            for scale in of.first_scale..of.end_scale.min(job.scales()) {
                let place = (pass, scale);
                let mut shown = job.frames.iter().enumerate();
                let frame = match forward {
                    Some(picture) => job.frames.get(picture).and_then(|frames| frames.get(&place)),
                    None => shown.find_map(|(_, frames)| frames.get(&place)),
                };
                let side = about.patch_nums[scale as usize];
                tiles.push(Tile { place, side, frame: frame.cloned() });
            }
            match groups.last_mut() {
                Some(group) if of.kind == PassKind::Teacher && group.kind == PassKind::Teacher => {
                    group.tiles.end = tiles.len();
                }
                _ => groups.push(Group {
                    kind: of.kind,
                    pass,
                    tiles: first..tiles.len(),
                    superseded: false,
                }),
            }
        }
        for index in 0..groups.len() {
            let scales = |group: &Group| group.tiles.clone().map(|tile| tiles[tile].place.1);
            let again = groups[index + 1..].iter().any(|later| {
                let begun = later.tiles.clone().any(|tile| tiles[tile].frame.is_some());
                begun && scales(later).min() <= scales(&groups[index]).max()
            });
            groups[index].superseded = again;
        }
        Self { tiles, groups }
    }

    /// Milliseconds at which each tile was drawn, by the server's clock, for playing them in order:
    /// however long they were on their way. Absent where it is not drawn.
    pub(crate) fn times(&self) -> Vec<Option<f64>> {
        let frames = || self.tiles.iter().map(|tile| tile.frame.as_ref());
        let mut times: Vec<_> = frames().map(|frame| frame.map(|frame| frame.at_ms)).collect();
        let first = frames().flatten().next();
        if let Some((first, finished)) = first.zip(frames().next_back().flatten())
            && finished.seq < first.seq
        {
            // The finished picture came before the steps to it. Played, it comes after them, and as
            // long after the last step as it was drawn before the first: at its own time it would
            // be over before anything was seen.
            let newest = times.iter().flatten().copied().fold(first.at_ms, f64::max);
            if let Some(time) = times.last_mut() {
                *time = Some(newest + (first.at_ms - finished.at_ms).max(0.0));
            }
        }
        times
    }

    /// What picture number `picture` shows while `tile` is on the stage: its newest frame up to
    /// there.
    pub(crate) fn frame_at<'a>(
        &self,
        job: &'a Job,
        picture: usize,
        tile: usize,
    ) -> Option<(Place, &'a Frame)> {
        let place = self.tiles.get(tile)?.place;
        let (place, frame) = job.frames.get(picture)?.range(..=place).next_back()?;
        Some((*place, frame))
    }
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::{Guidance, Plan};

    use super::*;
    use crate::state::{
        job::{
            Picture,
            tests::{header, hurried, job, two_steps},
        },
        player::{Pace, Player},
    };

    fn three_steps() -> Plan {
        Plan::teacher_involved([0, 3], 2, 1, Guidance::default())
    }

    #[test]
    fn tiles_are_the_frames_of_the_plan_in_order() {
        let teacher = Plan::Teacher { guidance: Guidance::default() };
        for plan in [two_steps(), three_steps(), teacher] {
            let expected: Vec<_> =
                plan.frames(4).into_iter().map(|at| (at.pass, at.scale)).collect();
            let timeline = Timeline::of(&job(plan, 1), None);
            assert_eq!(timeline.tiles.iter().map(|tile| tile.place).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn passes_of_the_teacher_in_a_row_stand_together_and_those_of_the_student_apart() {
        let kinds = |plan| {
            let timeline = Timeline::of(&job(plan, 1), None);
            timeline.groups.iter().map(|group| (group.kind, group.tiles.len())).collect::<Vec<_>>()
        };
        assert_eq!(kinds(two_steps()), [(PassKind::Student, 4), (PassKind::Student, 2)]);
        let mixed = [(PassKind::Draft, 4), (PassKind::Teacher, 2), (PassKind::Student, 1)];
        assert_eq!(kinds(three_steps()), mixed);
    }

    #[test]
    fn a_draft_is_superseded_once_something_is_drawn_over_it() {
        let mut job = job(three_steps(), 1);
        job.frame(1, &header(0, (0, 0), 1.0), Picture::at("a"), 0.0);
        let superseded = |job: &Job| {
            Timeline::of(job, None).groups.iter().map(|g| g.superseded).collect::<Vec<_>>()
        };
        assert_eq!(superseded(&job), [false, false, false]);
        job.frame(2, &header(0, (1, 1), 2.0), Picture::at("b"), 0.0);
        assert_eq!(superseded(&job), [true, false, false]);
    }

    #[test]
    fn a_picture_that_lags_behind_shows_its_newest_frame() {
        let mut job = job(two_steps(), 2);
        job.frame(1, &header(0, (0, 0), 1.0), Picture::at("a0"), 0.0);
        job.frame(2, &header(1, (0, 0), 1.0), Picture::at("b0"), 0.0);
        job.frame(3, &header(1, (0, 1), 2.0), Picture::at("b1"), 0.0);
        let timeline = Timeline::of(&job, None);
        assert_eq!(timeline.tiles[1].frame.as_ref().unwrap().seq, 3);
        assert_eq!(timeline.frame_at(&job, 0, 1).unwrap().1.seq, 1);
        assert_eq!(timeline.frame_at(&job, 1, 1).unwrap().1.seq, 3);
        assert_eq!(Timeline::of(&job, Some(0)).tiles[1].frame, None);
    }

    #[test]
    fn a_finished_picture_that_comes_first_stays_on_the_stage_while_the_strip_fills() {
        let player = Player::default();
        for arrived in 1..=12 {
            let job = hurried(two_steps(), 2, arrived);
            for forward in [None, Some(0)] {
                let timeline = Timeline::of(&job, forward);
                let tile = player.tile(&timeline.times());
                assert_eq!(tile, Some(5), "after {arrived} frames");
                let (place, frame) = timeline.frame_at(&job, 0, 5).unwrap();
                assert_eq!((place, frame.seq), ((1, 3), 1));
            }
            // The other picture is not there until its own is finished: nothing coarse stands in
            // for it.
            let timeline = Timeline::of(&job, None);
            let other = timeline.frame_at(&job, 1, 5).map(|(place, _)| place);
            assert_eq!(other, (arrived > 1).then_some((1, 3)));
            assert_eq!(
                timeline.tiles.iter().filter(|tile| tile.frame.is_some()).count(),
                arrived.div_ceil(2)
            );
        }
    }

    #[test]
    fn a_finished_picture_that_came_first_is_played_last() {
        let timeline = Timeline::of(&hurried(two_steps(), 1, 6), None);
        assert_eq!(timeline.times(), [110.0, 120.0, 130.0, 140.0, 150.0, 160.0].map(Some));
        assert_eq!(
            timeline.tiles[5].frame.as_ref().unwrap().at_ms,
            100.0,
            "the strip tells when it came"
        );
        for (pace, tile_ms) in [(Pace::True, 10.0), (Pace::Slow, 50.0), (Pace::Scales, 300.0)] {
            let playing = Player::default().paced(pace, 0.0, &timeline.times());
            let seen: Vec<_> = (0..6)
                .map(|tile| playing.at_time(f64::from(tile) * tile_ms, &timeline.times(), false))
                .map(|player| player.tile(&timeline.times()))
                .collect();
            assert_eq!(seen, [0, 1, 2, 3, 4, 5].map(Some), "{pace:?}");
        }
    }

    #[test]
    fn scales_play_as_the_server_drew_them_however_they_came() {
        let mut job = Job::new(job(two_steps(), 1).about, Some(0.0));
        // All at once, late.
        for (number, at_ms) in (0..3).zip([110.0, 130.0, 190.0]) {
            job.frame(number.into(), &header(0, (0, number), at_ms), Picture::at("a"), 900.0);
        }
        let times = Timeline::of(&job, None).times();
        assert_eq!(times[..3], [110.0, 130.0, 190.0].map(Some));
    }

    #[test]
    fn what_came_of_the_steps_so_far_plays_in_order_too() {
        let alone = Timeline::of(&hurried(two_steps(), 1, 1), None);
        assert_eq!(alone.times(), [None, None, None, None, None, Some(100.0)]);
        let some = Timeline::of(&hurried(two_steps(), 1, 3), None);
        assert_eq!(some.times(), [Some(110.0), Some(120.0), None, None, None, Some(130.0)]);
    }
}
