//! What is done to pictures at hand: each a course of passes, like a plan.

use tch::Tensor;

use super::mask::Mask;
use crate::sample::plan::{Guidance, Pass, PassKind, Plan};

/// What to draw, and from what.
#[derive(Clone, Debug)]
pub enum Course<'a> {
    /// A picture from noise, as a plan says.
    Plan(&'a Plan),
    /// A picture at hand, shown scale by scale; no network runs.
    Shown {
        /// Its tokens, f32 `[B, N, Cv]`.
        tokens: &'a Tensor,
        /// A gain from 0 to 2 for what each scale adds; all 1 if none.
        gains: Option<&'a [f64]>,
    },
    /// Every token of a parent becomes its nearest codeword; one student step keeps the scales
    /// before `from_scale` and draws the others from the noise of the batch.
    Reroll {
        /// The parent's tokens, f32 `[B, N, Cv]`.
        parent: &'a Tensor,
        /// First scale that is drawn anew.
        from_scale: u32,
        /// As in [`Plan::FewStep`], or `from_scale` if that is larger.
        loss_split_t: u32,
    },
    /// Tokens inside a mask are drawn anew, scale by scale; those outside stay codewords of a
    /// parent.
    Edit {
        /// The parent's tokens, f32 `[B, N, Cv]`.
        parent: &'a Tensor,
        /// Which part is drawn.
        mask: &'a Mask,
        /// Who draws.
        by: Editor,
    },
}

/// Who draws inside a mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Editor {
    /// The teacher, by a law.
    Teacher(Guidance),
    /// The student, with codewords before a scale and vectors from it on: an experiment.
    Student {
        /// As in [`Plan::FewStep`].
        loss_split_t: u32,
    },
}

impl Editor {
    /// Who draws under a plan: the teacher wherever it takes part.
    pub fn of(plan: &Plan) -> Self {
        match plan.guidance() {
            Some(guidance) => Self::Teacher(guidance),
            None => Self::Student { loss_split_t: plan.loss_split_t() },
        }
    }
}

impl Course<'_> {
    /// The passes on a model with `scales` scales, in order.
    pub fn passes(&self, scales: u32) -> Vec<Pass> {
        match *self {
            Self::Plan(plan) => plan.passes(scales),
            Self::Shown { .. } => Pass::shown(scales),
            Self::Reroll { from_scale, .. } => Pass::rerolled(from_scale, scales),
            Self::Edit { by: Editor::Teacher(_), .. } => Pass::edited(PassKind::Teacher, scales),
            Self::Edit { .. } => Pass::edited(PassKind::Student, scales),
        }
    }

    /// Whether the teacher's weights are needed.
    pub fn needs_teacher(&self) -> bool {
        match *self {
            Self::Plan(plan) => plan.needs_teacher(),
            Self::Edit { by, .. } => matches!(by, Editor::Teacher(_)),
            _ => false,
        }
    }

    /// Whether it starts from noise.
    pub fn needs_noise(&self) -> bool {
        match *self {
            Self::Plan(plan) => plan.needs_noise(),
            Self::Shown { .. } => false,
            Self::Reroll { .. } => true,
            Self::Edit { by, .. } => matches!(by, Editor::Student { .. }),
        }
    }

    /// The tokens at hand, f32 `[B, N, Cv]`, if it starts from any.
    pub(in crate::sample) fn parent(&self) -> Option<&Tensor> {
        match *self {
            Self::Plan(_) => None,
            Self::Shown { tokens, .. } => Some(tokens),
            Self::Reroll { parent, .. } | Self::Edit { parent, .. } => Some(parent),
        }
    }
}
