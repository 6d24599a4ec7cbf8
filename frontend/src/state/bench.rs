//! What is done with a picture at hand: a part of it drawn anew under a mask, its fine scales drawn
//! anew, or crossed with another picture.

use var_dd_protocol::{Explore, GenerateRequest, Guidance, JobId, ModelInfo, Origin, Parent, Plan};

/// Cells along each side of a mask.
pub(crate) const MASK_SIDE: usize = 16;

/// Which cells of a square are drawn anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mask(Vec<bool>);

impl Default for Mask {
    fn default() -> Self {
        Self(vec![false; MASK_SIDE * MASK_SIDE])
    }
}

impl Mask {
    pub(crate) fn is_empty(&self) -> bool {
        !self.0.contains(&true)
    }

    /// How many cells are drawn anew.
    pub(crate) fn count(&self) -> usize {
        self.0.iter().filter(|&&mark| mark).count()
    }

    pub(crate) fn is_marked(&self, (column, row): (usize, usize)) -> bool {
        self.0.get(row * MASK_SIDE + column).copied().unwrap_or(false)
    }

    /// With all cells within `reach` of a straight way from one to another marked, or no longer.
    fn stroke(&mut self, from: (usize, usize), to: (usize, usize), reach: usize, mark: bool) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        for step in 0..=steps {
            let between =
                |from: usize, to: usize| (from * (steps - step) + to * step + steps / 2) / steps;
            let (x, y) = (between(from.0, to.0), between(from.1, to.1));
            for row in y.saturating_sub(reach)..=(y + reach).min(MASK_SIDE - 1) {
                for column in x.saturating_sub(reach)..=(x + reach).min(MASK_SIDE - 1) {
                    self.0[row * MASK_SIDE + column] = mark;
                }
            }
        }
    }

    /// As a request says it.
    fn text(&self) -> String {
        self.0.iter().map(|&mark| if mark { '1' } else { '0' }).collect()
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// What is under the mask is drawn anew.
    Edit,
    /// The scales from one on are drawn anew.
    Reroll,
    /// The scales from one on are another picture's.
    Cross,
}

/// Everything that a person set about a picture at hand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bench {
    pub(crate) work: Work,
    pub(crate) mask: Mask,
    /// Where the keys are on the mask: column and row.
    pub(crate) at: (usize, usize),
    /// The last cell of a stroke that is not over, and whether it marks.
    stroke: Option<((usize, usize), bool)>,
    /// Whether strokes are three cells wide.
    pub(crate) broad: bool,
    pub(crate) class: usize,
    pub(crate) seed: u64,
    /// Whether the student draws under the mask even where there is a teacher.
    pub(crate) by_student: bool,
    /// First scale that is drawn anew, or is another picture's.
    pub(crate) from_scale: u32,
    /// The picture to cross with.
    pub(crate) other: Option<JobId>,
}

/// One thing that a person does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Work(Work),
    /// A finger or a mouse goes down on a cell: it marks, or takes marks away where there are some.
    Down((usize, usize)),
    /// It moves on.
    Move((usize, usize)),
    /// The keys move, and mark where they come to if `draws`.
    Step {
        right: isize,
        down: isize,
        draws: bool,
    },
    /// The key of the cell is pressed.
    Toggle,
    /// All cells change.
    Invert,
    Clear,
    Broad(bool),
    Class(usize),
    Seed(u64),
    ByStudent(bool),
    From(u32),
    Other(Option<JobId>),
}

impl Bench {
    /// A bench at rest, for a model with `scales` scales.
    pub(crate) fn new(class: usize, seed: u64, scales: u32) -> Self {
        Self {
            work: Work::Edit,
            mask: Mask::default(),
            at: (MASK_SIDE / 2, MASK_SIDE / 2),
            stroke: None,
            broad: true,
            class,
            seed,
            by_student: false,
            from_scale: scales / 2,
            other: None,
        }
    }

    /// After a change.
    pub(crate) fn after(&self, change: Change) -> Self {
        let mut next = self.clone();
        match change {
            Change::Work(work) => next.work = work,
            Change::Down(at) => {
                let mark = !next.mask.is_marked(at);
                next.at = at;
                next.stroke = Some((at, mark));
                next.mask.stroke(at, at, next.reach(), mark);
            }
            Change::Move(at) => {
                if let Some((from, mark)) = next.stroke {
                    next.at = at;
                    next.stroke = Some((at, mark));
                    next.mask.stroke(from, at, next.reach(), mark);
                }
            }
            Change::Step { right, down, draws } => {
                let moved = |at: usize, by: isize| at.saturating_add_signed(by).min(MASK_SIDE - 1);
                next.at = (moved(next.at.0, right), moved(next.at.1, down));
                if draws {
                    next.mask.stroke(next.at, next.at, 0, true);
                }
            }
            Change::Toggle => {
                let mark = !next.mask.is_marked(next.at);
                next.mask.stroke(next.at, next.at, 0, mark);
            }
            Change::Invert => next.mask.0.iter_mut().for_each(|mark| *mark = !*mark),
            Change::Clear => next.mask = Mask::default(),
            Change::Broad(broad) => next.broad = broad,
            Change::Class(class) => next.class = class,
            Change::Seed(seed) => next.seed = seed,
            Change::ByStudent(by_student) => next.by_student = by_student,
            Change::From(scale) => next.from_scale = scale,
            Change::Other(other) => next.other = other,
        }
        next
    }

    fn reach(&self) -> usize {
        usize::from(self.broad)
    }

    /// The request for what is to be done with a picture at hand; nothing while there is nothing to
    /// do.
    pub(crate) fn request(&self, parent: &Parent, model: &ModelInfo) -> Option<GenerateRequest> {
        let parent = parent.clone();
        let by_student = self.by_student || !model.has_teacher;
        let from = match self.work {
            Work::Edit if self.mask.is_empty() => return None,
            Work::Edit => Origin::Edit { parent, mask: self.mask.text() },
            Work::Reroll => {
                Origin::Reroll { parent, from_scale: self.from_scale.min(model.scales() - 1) }
            }
            Work::Cross => {
                let result = self.other.clone()?;
                let other = Parent::Result { result, picture: 0, request: None };
                Origin::Crossover { parent, other, from_scale: self.from_scale }
            }
        };
        let plan = |is_it: &dyn Fn(&Plan) -> bool| {
            model.plans.iter().map(|preset| &preset.plan).find(|plan| is_it(plan)).cloned()
        };
        let plan = match self.work {
            // Whether it is among the presets or not: a teacher draws one without any of theirs.
            Work::Edit if !by_student => plan(&|plan| matches!(plan, Plan::Teacher { .. }))
                .unwrap_or(Plan::Teacher { guidance: Guidance::default() }),
            _ => plan(&|plan| !plan.needs_teacher())?,
        };
        Some(GenerateRequest {
            model: Some(model.name.clone()),
            seed: Some(self.seed),
            explore: Some(Box::new(Explore { from: Some(from), ..Explore::default() })),
            ..GenerateRequest::new(self.class as u32, plan)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::settings::tests::model;

    fn parent() -> Parent {
        Parent::Codes { codes: vec![1, 2, 3] }
    }

    fn painted(changes: &[Change]) -> Bench {
        let bench = Bench { broad: false, ..Bench::new(1, 7, 4) };
        changes.iter().fold(bench, |bench, change| bench.after(change.clone()))
    }

    #[test]
    fn a_stroke_leaves_no_gap_and_takes_away_where_it_begins_on_a_mark() {
        let stroke = [Change::Down((2, 2)), Change::Move((6, 4))];
        let bench = painted(&stroke);
        assert_eq!(bench.mask.count(), 5);
        assert!(bench.mask.is_marked((4, 3)) && bench.mask.is_marked((6, 4)));
        let back = [Change::Down((6, 4)), Change::Move((2, 2))];
        let bench = back.into_iter().fold(bench, |bench, change| bench.after(change));
        assert!(bench.mask.is_empty());
        let broad = painted(&[Change::Broad(true), Change::Down((0, 15))]);
        assert_eq!(broad.mask.count(), 4, "the edge cuts it off");
        assert!(painted(&[Change::Move((3, 3))]).mask.is_empty(), "nothing went down");
    }

    #[test]
    fn the_keys_move_within_the_mask_and_mark_it() {
        let step = |right, down, draws| Change::Step { right, down, draws };
        let bench = painted(&[step(1, 0, false), Change::Toggle, step(1, 0, true)]);
        assert_eq!((bench.at, bench.mask.count()), ((10, 8), 2));
        let far = painted(&[step(99, -99, false), Change::Toggle, Change::Invert]);
        assert_eq!((far.at, far.mask.count()), ((15, 0), 255));
        assert!(far.after(Change::Clear).mask.is_empty());
    }

    #[test]
    fn a_request_says_what_is_to_be_done_and_none_is_made_for_nothing() {
        let model = model("m", 3);
        assert_eq!(painted(&[]).request(&parent(), &model), None);
        assert_eq!(painted(&[Change::Work(Work::Cross)]).request(&parent(), &model), None);
        let edit = painted(&[Change::Down((1, 0))]).request(&parent(), &model).unwrap();
        let Some(Origin::Edit { mask, .. }) = edit.explore.unwrap().from else { panic!() };
        assert_eq!((mask.len(), mask.find('1')), (256, Some(1)));
        assert_eq!((edit.class, edit.seed), (1, Some(7)));
        assert_eq!(edit.plan.needs_teacher(), model.has_teacher);
        let student = [Change::Down((1, 0)), Change::ByStudent(true)];
        let student = painted(&student).request(&parent(), &model).unwrap();
        assert!(!student.plan.needs_teacher());
        let reroll = painted(&[Change::Work(Work::Reroll), Change::From(99)]);
        let reroll = reroll.request(&parent(), &model).unwrap().explore.unwrap().from;
        let last = model.scales() - 1;
        assert_eq!(reroll, Some(Origin::Reroll { parent: parent(), from_scale: last }));
    }
}
