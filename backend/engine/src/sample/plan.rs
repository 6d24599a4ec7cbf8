//! Step plans (Distilled Decoding, sections 3.3 and 3.4; the released `sample.py` and its
//! teacher-involved twin).

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The teacher's law: classifier-free guidance and the filter before each draw.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guidance {
    /// Strength at the last scale; scale `k` of `S` uses `cfg · k / (S − 1)`.
    pub cfg: f64,
    /// Codewords kept; 0 keeps all.
    pub top_k: usize,
    /// Probability mass kept; 0 keeps all.
    pub top_p: f64,
}

impl Default for Guidance {
    /// What the published scores were made with.
    fn default() -> Self {
        Self { cfg: 2.0, top_k: 900, top_p: 0.95 }
    }
}

/// Which networks run, and from which scale on.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// The student alone, one pass per entry of `t_list`.
    FewStep {
        /// First scale drawn by each pass.
        t_list: Vec<usize>,
        /// Scales before this one become codewords, the others regressed vectors.
        loss_split_t: usize,
    },
    /// Student draft at `t_list[0]`, teacher over `teacher_start..t_list[1]`, student at
    /// `t_list[1]`.
    TeacherInvolved {
        /// Draft scale and scale of the last student pass.
        t_list: [usize; 2],
        /// Scales before this one become codewords, the others regressed vectors.
        loss_split_t: usize,
        /// First scale that the teacher draws; 0 means that there is no draft.
        teacher_start: usize,
        /// The teacher's law.
        guidance: Guidance,
        /// Run the given prefix block-causally. The released code, whose scores are published, lets
        /// every prefix position see every other.
        causal_prefix: bool,
    },
    /// The teacher alone (VAR), scale by scale.
    Teacher {
        /// The teacher's law.
        guidance: Guidance,
    },
}

/// The network of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassKind {
    /// One student pass over all tokens.
    Student,
    /// A student pass whose picture the teacher then partly redraws.
    Draft,
    /// One scale by the teacher.
    Teacher,
}

/// One network pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The network.
    pub kind: PassKind,
    /// Scales whose pictures the pass shows.
    pub scales: Range<usize>,
}

/// A plan that cannot run, with the bound and the value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// No step.
    #[error("t_list is empty; give at least the step 0, as in --t-list 0")]
    Empty,
    /// A first step that is not 0.
    #[error("t_list starts with {0}; the first step must be 0, since nothing is drawn before it")]
    FirstStep(usize),
    /// Steps out of order.
    #[error("t_list goes from {before} to {after}; each step must be greater than the one before")]
    NotIncreasing {
        /// A step.
        before: usize,
        /// The one after it.
        after: usize,
    },
    /// A step at or beyond the last scale.
    #[error("step {step} is out of range; the model has {scales} scales, so steps go from 0 to {}", scales - 1)]
    StepOutOfRange {
        /// The step.
        step: usize,
        /// Scales of the model.
        scales: usize,
    },
    /// Steps of a teacher-involved plan other than two.
    #[error(
        "a teacher-involved plan has exactly two steps (draft and rest), not {0}; give them as in \
         --t-list 0,5"
    )]
    TwoSteps(usize),
    /// The teacher starts after the scale where the student takes over again.
    #[error(
        "the teacher starts at scale {start}, after step {end} where the student takes over; start \
         must be at most {end}"
    )]
    StartAfterEnd {
        /// The teacher's first scale.
        start: usize,
        /// The last student step.
        end: usize,
    },
    /// The teacher starts where there is no scale.
    #[error("the teacher starts at scale {start}; the model has {scales} scales, so the start goes \
        from 0 to {}", scales - 1)]
    StartOutOfRange {
        /// The teacher's first scale.
        start: usize,
        /// Scales of the model.
        scales: usize,
    },
    /// The last student step lies beyond the end.
    #[error(
        "step {step} is out of range; the model has {scales} scales, so the last step of a \
         teacher-involved plan is at most {scales}"
    )]
    EndOutOfRange {
        /// The step.
        step: usize,
        /// Scales of the model.
        scales: usize,
    },
    /// A split beyond the end.
    #[error(
        "loss_split_t is {split}; the model has {scales} scales, so it goes from 0 to {scales}"
    )]
    SplitOutOfRange {
        /// The split.
        split: usize,
        /// Scales of the model.
        scales: usize,
    },
    /// A guidance strength that is no number, or negative.
    #[error("cfg is {0}; it must be a number from 0 to 100")]
    Cfg(f64),
    /// A mass outside 0…1.
    #[error("top_p is {0}; it must be a number from 0 (off) to 1")]
    TopP(f64),
}

impl Guidance {
    /// # Errors
    /// When a number is out of bounds.
    pub fn validate(&self) -> Result<(), PlanError> {
        if !(0.0..=100.0).contains(&self.cfg) {
            return Err(PlanError::Cfg(self.cfg));
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return Err(PlanError::TopP(self.top_p));
        }
        Ok(())
    }
}

impl Plan {
    /// A few-step or teacher-involved plan from the flags of the released scripts: with a
    /// `teacher_start`, 0 included, it is teacher-involved.
    ///
    /// # Errors
    /// When a teacher-involved plan has other than two steps; bounds are left to
    /// [`Plan::validate`].
    pub fn from_flags(
        t_list: &[usize],
        loss_split_t: usize,
        teacher_start: Option<usize>,
        guidance: Guidance,
        causal_prefix: bool,
    ) -> Result<Self, PlanError> {
        let Some(teacher_start) = teacher_start else {
            return Ok(Self::FewStep { t_list: t_list.to_vec(), loss_split_t });
        };
        let t_list = t_list.try_into().map_err(|_| PlanError::TwoSteps(t_list.len()))?;
        Ok(Self::TeacherInvolved { t_list, loss_split_t, teacher_start, guidance, causal_prefix })
    }

    /// Checks the plan against a model with `scales` scales.
    ///
    /// # Errors
    /// The first bound that is broken, with the value.
    pub fn validate(&self, scales: usize) -> Result<(), PlanError> {
        let check_split = |split| {
            if split <= scales { Ok(()) } else { Err(PlanError::SplitOutOfRange { split, scales }) }
        };
        match *self {
            Plan::FewStep { ref t_list, loss_split_t } => {
                match t_list.first() {
                    None => return Err(PlanError::Empty),
                    Some(0) => {}
                    Some(&first) => return Err(PlanError::FirstStep(first)),
                }
                if let Some(pair) = t_list.windows(2).find(|pair| pair[0] >= pair[1]) {
                    return Err(PlanError::NotIncreasing { before: pair[0], after: pair[1] });
                }
                if let Some(&step) = t_list.iter().find(|&&step| step >= scales) {
                    return Err(PlanError::StepOutOfRange { step, scales });
                }
                check_split(loss_split_t)
            }
            Plan::TeacherInvolved {
                t_list: [a, b], loss_split_t, teacher_start, guidance, ..
            } => {
                if b > scales {
                    return Err(PlanError::EndOutOfRange { step: b, scales });
                }
                if teacher_start > b {
                    return Err(PlanError::StartAfterEnd { start: teacher_start, end: b });
                }
                if teacher_start >= scales {
                    return Err(PlanError::StartOutOfRange { start: teacher_start, scales });
                }
                if a >= scales {
                    return Err(PlanError::StepOutOfRange { step: a, scales });
                }
                check_split(loss_split_t)?;
                guidance.validate()
            }
            Plan::Teacher { guidance } => guidance.validate(),
        }
    }

    /// The passes on a model with `scales` scales, in order. The plan must be valid.
    pub fn passes(&self, scales: usize) -> Vec<Pass> {
        let student = |kind, from| Pass { kind, scales: from..scales };
        let teacher = |scale| Pass { kind: PassKind::Teacher, scales: scale..scale + 1 };
        match *self {
            Plan::FewStep { ref t_list, .. } => {
                t_list.iter().map(|&t| student(PassKind::Student, t)).collect()
            }
            Plan::TeacherInvolved { t_list: [a, b], teacher_start, .. } => {
                let draft = (teacher_start > 0).then(|| student(PassKind::Draft, a));
                let rest = (b < scales).then(|| student(PassKind::Student, b));
                draft.into_iter().chain((teacher_start..b).map(teacher)).chain(rest).collect()
            }
            Plan::Teacher { .. } => (0..scales).map(teacher).collect(),
        }
    }

    /// Whether the plan needs the teacher's weights.
    pub fn needs_teacher(&self) -> bool {
        !matches!(self, Plan::FewStep { .. })
    }
}
