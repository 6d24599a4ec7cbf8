//! Step plans: which network runs when, and which scales each pass draws.

use serde::{Deserialize, Serialize};

/// How a picture is drawn. Scales are counted from 0; a model has `S` of them.
///
/// The fields mean what they mean in the released sampling scripts of Distilled Decoding. The
/// server checks them against the model (`0 = t_0 < t_1 < … < S` and so on) and says which bound
/// was broken.
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
        /// Strength of classifier-free guidance at the last scale.
        cfg: f64,
        /// Codewords kept before the draw; 0 keeps all.
        top_k: u32,
        /// Probability mass kept before the draw; 0 keeps all.
        top_p: f64,
        /// Run the teacher's given prefix block-causally, not unmasked as the released code does.
        #[serde(default)]
        causal_prefix: bool,
    },
    /// The teacher alone, one pass per scale.
    Teacher {
        /// As in [`Plan::TeacherInvolved`].
        cfg: f64,
        /// As in [`Plan::TeacherInvolved`].
        top_k: u32,
        /// As in [`Plan::TeacherInvolved`].
        top_p: f64,
    },
}

/// Which network a pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PassKind {
    /// One pass of the distilled student over all tokens.
    Student,
    /// A student pass whose picture the teacher then partly redraws.
    Draft,
    /// One scale by the autoregressive teacher.
    Teacher,
}

/// One network pass of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pass {
    /// Which network.
    pub kind: PassKind,
    /// First scale whose picture the pass shows.
    pub first_scale: u32,
    /// One past the last scale whose picture the pass shows.
    pub end_scale: u32,
}

/// Place of a frame in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FramePosition {
    /// Pass, from 0.
    pub pass: u32,
    /// Scale, from 0.
    pub scale: u32,
}

impl Plan {
    /// The passes of this plan on a model with `scales` scales, in order.
    ///
    /// A student pass shows every scale from its `t` on; a teacher pass shows the one it drew.
    /// Meaningful for a plan that the server accepts; for another one the list is whatever its
    /// numbers give.
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
    ///
    /// ```
    /// use var_dd_protocol::Plan;
    /// let two_steps = Plan::FewStep { t_list: vec![0, 5], loss_split_t: 5 };
    /// assert_eq!(two_steps.frames(10).len(), 10 + 5);
    /// ```
    pub fn frames(&self, scales: u32) -> Vec<FramePosition> {
        (0..)
            .zip(self.passes(scales))
            .flat_map(|(pass, of)| {
                (of.first_scale..of.end_scale).map(move |scale| FramePosition { pass, scale })
            })
            .collect()
    }

    /// Whether the plan needs a model that carries its teacher.
    pub fn needs_teacher(&self) -> bool {
        !matches!(self, Plan::FewStep { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn teacher_involved(b: u32, teacher_start: u32) -> Plan {
        Plan::TeacherInvolved {
            t_list: [0, b],
            loss_split_t: 5,
            teacher_start,
            cfg: 2.0,
            top_k: 900,
            top_p: 0.95,
            causal_prefix: false,
        }
    }

    #[test]
    fn published_plans_have_the_frames_of_the_paper() {
        let count = |plan: Plan| plan.frames(10).len();
        assert_eq!(count(Plan::FewStep { t_list: vec![0], loss_split_t: 5 }), 10);
        assert_eq!(count(Plan::FewStep { t_list: vec![0, 5], loss_split_t: 5 }), 15);
        assert_eq!(count(teacher_involved(5, 4)), 10 + 1 + 5);
        assert_eq!(count(teacher_involved(5, 3)), 10 + 2 + 5);
        assert_eq!(count(teacher_involved(5, 0)), 5 + 5);
        assert_eq!(count(teacher_involved(10, 4)), 10 + 6);
        assert_eq!(count(Plan::Teacher { cfg: 2.0, top_k: 900, top_p: 0.95 }), 10);
    }

    #[test]
    fn passes_name_the_network_that_runs() {
        use PassKind::*;
        let kinds: Vec<_> =
            teacher_involved(5, 3).passes(10).iter().map(|pass| pass.kind).collect();
        assert_eq!(kinds, [Draft, Teacher, Teacher, Student]);
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let text = r#"{"kind":"few_step","t_list":[0],"loss_split_t":5,"topk":3}"#;
        assert!(serde_json::from_str::<Plan>(text).is_err());
    }
}
