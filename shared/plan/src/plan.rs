//! The plan itself.

use serde::{Deserialize, Serialize};

use crate::{FramePosition, Guidance, Pass, PassKind, PlanError, PlanFlags};

/// How a picture is drawn. Scales are counted from 0; a model has `S` of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Plan {
    /// The student alone: one pass per entry of `t_list`.
    FewStep {
        /// First scale drawn by each pass; starts with 0 and increases.
        t_list: Vec<u32>,
        /// Tokens of scales before this one are codewords, from it on regressed vectors; `0..=S`.
        loss_split_t: u32,
    },
    /// A draft by the student, the middle scales by the teacher, the rest by the student again.
    TeacherInvolved {
        /// `[a, b]`: the draft starts at scale `a`, the last student pass at scale `b` (none if
        /// `b = S`).
        t_list: [u32; 2],
        /// As in [`Plan::FewStep`].
        loss_split_t: u32,
        /// The teacher draws scales `teacher_start..b`; there is no draft if it is 0.
        teacher_start: u32,
        /// The teacher's law; its numbers lie beside the other fields.
        #[serde(flatten)]
        guidance: Guidance,
        /// Run the teacher's given prefix block-causally. The released code, whose scores are
        /// published, lets every position of the prefix see every other.
        #[serde(default)]
        causal_prefix: bool,
    },
    /// The teacher alone, one pass per scale.
    Teacher {
        /// As in [`Plan::TeacherInvolved`].
        #[serde(flatten)]
        guidance: Guidance,
    },
}

impl Plan {
    /// The student alone, with passes at the scales of `t_list`.
    pub fn few_step(t_list: &[u32], loss_split_t: u32) -> Self {
        Self::FewStep { t_list: t_list.to_vec(), loss_split_t }
    }

    /// The teacher over scales `teacher_start..b` between student passes at `a` and `b`, with the
    /// unmasked prefix of the released code.
    pub fn teacher_involved(
        t_list: [u32; 2],
        loss_split_t: u32,
        teacher_start: u32,
        guidance: Guidance,
    ) -> Self {
        Self::TeacherInvolved {
            t_list,
            loss_split_t,
            teacher_start,
            guidance,
            causal_prefix: false,
        }
    }

    /// Checks the plan against a model with `scales` scales.
    ///
    /// # Errors
    /// The first bound that is broken, with the value.
    pub fn validate(&self, scales: u32) -> Result<(), PlanError> {
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

    /// The passes of this plan on a model with `scales` scales, in order.
    ///
    /// A student pass shows every scale from its `t` on; a teacher pass shows the one it drew.
    /// Meaningful for a valid plan; for another one the list is whatever its numbers give.
    pub fn passes(&self, scales: u32) -> Vec<Pass> {
        let student =
            |first_scale| Pass { kind: PassKind::Student, first_scale, end_scale: scales };
        let teacher =
            |scale| Pass { kind: PassKind::Teacher, first_scale: scale, end_scale: scale + 1 };
        match *self {
            Plan::FewStep { ref t_list, .. } => t_list.iter().map(|&t| student(t)).collect(),
            Plan::TeacherInvolved { t_list: [a, b], teacher_start, .. } => {
                let draft =
                    (teacher_start > 0).then_some(Pass { kind: PassKind::Draft, ..student(a) });
                let drawn = (teacher_start..b.min(scales)).map(teacher);
                let rest = (b < scales).then(|| student(b));
                draft.into_iter().chain(drawn).chain(rest).collect()
            }
            Plan::Teacher { .. } => (0..scales).map(teacher).collect(),
        }
    }

    /// Every frame of one picture in the order in which it is streamed, unless the last one is
    /// wanted first.
    pub fn frames(&self, scales: u32) -> Vec<FramePosition> {
        Pass::frames(&self.passes(scales))
    }

    /// Whether the plan needs a model that carries its teacher.
    pub fn needs_teacher(&self) -> bool {
        self.guidance().is_some()
    }

    /// Whether the plan starts from noise: every plan with a student does.
    pub fn needs_noise(&self) -> bool {
        !matches!(self, Plan::Teacher { .. })
    }

    /// The plan as the flags of the released scripts spell it.
    pub fn flags(&self) -> PlanFlags {
        self.into()
    }

    /// Tokens of scales before this one become codewords in a student pass; 0 where no student
    /// runs.
    pub fn loss_split_t(&self) -> u32 {
        match *self {
            Plan::FewStep { loss_split_t, .. } | Plan::TeacherInvolved { loss_split_t, .. } => {
                loss_split_t
            }
            Plan::Teacher { .. } => 0,
        }
    }

    /// The teacher's law, if the teacher takes part.
    pub fn guidance(&self) -> Option<Guidance> {
        match *self {
            Plan::FewStep { .. } => None,
            Plan::TeacherInvolved { guidance, .. } | Plan::Teacher { guidance } => Some(guidance),
        }
    }
}
