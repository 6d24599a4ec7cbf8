//! What is wrong with a plan.

/// A plan that cannot run, with the value and the bound.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// No step.
    #[error("t_list is empty; give at least the step 0")]
    Empty,
    /// A first step that is not 0.
    #[error("t_list starts with {0}; the first step must be 0, since nothing is drawn before it")]
    FirstStep(u32),
    /// Steps out of order.
    #[error("t_list goes from {before} to {after}; each step must be greater than the one before")]
    NotIncreasing {
        /// A step.
        before: u32,
        /// The one after it.
        after: u32,
    },
    /// A step at or beyond the last scale.
    #[error(
        "step {step} is out of range; the model has {scales} scales, so steps go from 0 to {}",
        scales.saturating_sub(1)
    )]
    StepOutOfRange {
        /// The step.
        step: u32,
        /// Scales of the model.
        scales: u32,
    },
    /// Steps of a teacher-involved plan other than two.
    #[error("a teacher-involved plan has exactly two steps (draft and rest, as in 0,5), not {0}")]
    TwoSteps(usize),
    /// The teacher starts after the scale where the student takes over again.
    #[error(
        "the teacher starts at scale {start}, after step {end} where the student takes over; start \
         must be at most {end}"
    )]
    StartAfterEnd {
        /// The teacher's first scale.
        start: u32,
        /// The last student step.
        end: u32,
    },
    /// The teacher starts where there is no scale.
    #[error(
        "the teacher starts at scale {start}; the model has {scales} scales, so the start goes \
         from 0 to {}",
        scales.saturating_sub(1)
    )]
    StartOutOfRange {
        /// The teacher's first scale.
        start: u32,
        /// Scales of the model.
        scales: u32,
    },
    /// The last student step lies beyond the end.
    #[error(
        "step {step} is out of range; the model has {scales} scales, so the last step of a \
         teacher-involved plan is at most {scales}"
    )]
    EndOutOfRange {
        /// The step.
        step: u32,
        /// Scales of the model.
        scales: u32,
    },
    /// A split beyond the end.
    #[error(
        "loss_split_t is {split}; the model has {scales} scales, so it goes from 0 to {scales}"
    )]
    SplitOutOfRange {
        /// The split.
        split: u32,
        /// Scales of the model.
        scales: u32,
    },
    /// A guidance strength that is no number, negative or above 100.
    #[error("cfg is {0}; it must be a number from 0 to 100")]
    Cfg(f64),
    /// A mass outside 0…1.
    #[error("top_p is {0}; it must be a number from 0 (off) to 1")]
    TopP(f64),
}

/// A field of a plan, for those who show an error beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanField {
    /// `t_list`.
    TList,
    /// `loss_split_t`.
    LossSplitT,
    /// `teacher_start`.
    TeacherStart,
    /// `cfg`.
    Cfg,
    /// `top_p`.
    TopP,
}

impl PlanError {
    /// The field whose value is wrong.
    pub fn field(&self) -> PlanField {
        use PlanError::*;
        match self {
            Empty
            | FirstStep(_)
            | NotIncreasing { .. }
            | StepOutOfRange { .. }
            | TwoSteps(_)
            | EndOutOfRange { .. } => PlanField::TList,
            StartAfterEnd { .. } | StartOutOfRange { .. } => PlanField::TeacherStart,
            SplitOutOfRange { .. } => PlanField::LossSplitT,
            Cfg(_) => PlanField::Cfg,
            TopP(_) => PlanField::TopP,
        }
    }
}
