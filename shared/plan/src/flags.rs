//! A plan spelled by the flags of the released scripts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Guidance, Plan, PlanError};

/// A plan as the flags of the released scripts spell it: on the command line, and in the
/// `config.json` of a model. With a `t_teacher_start`, 0 included, it is teacher-involved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanFlags {
    /// First scale of each student pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t_list: Option<Vec<u32>>,
    /// Codewords before this scale, vectors from it on; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_split_t: Option<u32>,
    /// First scale that the teacher draws; absent without a teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t_teacher_start: Option<u32>,
    /// The teacher alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub autoregressive: bool,
    /// As [`Guidance::cfg`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cfg: Option<f64>,
    /// As [`Guidance::top_k`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// As [`Guidance::top_p`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Whether the teacher's given prefix runs block-causally.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub causal_prefix: bool,
}

impl PlanFlags {
    /// The teacher's law with the given numbers over `base`.
    pub fn guidance(&self, base: Guidance) -> Guidance {
        Guidance {
            cfg: self.cfg.unwrap_or(base.cfg),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
        }
    }

    /// The plan; its bounds are left to [`Plan::validate`].
    ///
    /// # Errors
    /// [`PlanError::TwoSteps`] for a teacher-involved plan of other than two steps.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        let guidance = self.guidance(Guidance::default());
        if self.autoregressive {
            return Ok(Plan::Teacher { guidance });
        }
        let t_list = self.t_list.clone().unwrap_or_default();
        let loss_split_t = self.loss_split_t.unwrap_or(0);
        let Some(teacher_start) = self.t_teacher_start else {
            return Ok(Plan::FewStep { t_list, loss_split_t });
        };
        let t_list =
            t_list.try_into().map_err(|t_list: Vec<_>| PlanError::TwoSteps(t_list.len()))?;
        let causal_prefix = self.causal_prefix;
        Ok(Plan::TeacherInvolved { t_list, loss_split_t, teacher_start, guidance, causal_prefix })
    }
}

impl From<&Plan> for PlanFlags {
    fn from(plan: &Plan) -> Self {
        let (t_list, loss_split_t) = match *plan {
            Plan::FewStep { ref t_list, loss_split_t } => {
                (Some(t_list.clone()), Some(loss_split_t))
            }
            Plan::TeacherInvolved { t_list, loss_split_t, .. } => {
                (Some(t_list.to_vec()), Some(loss_split_t))
            }
            Plan::Teacher { .. } => (None, None),
        };
        let (t_teacher_start, causal_prefix) = match *plan {
            Plan::TeacherInvolved { teacher_start, causal_prefix, .. } => {
                (Some(teacher_start), causal_prefix)
            }
            _ => (None, false),
        };
        let guidance = plan.guidance();
        Self {
            t_list,
            loss_split_t,
            t_teacher_start,
            autoregressive: matches!(plan, Plan::Teacher { .. }),
            cfg: guidance.map(|guidance| guidance.cfg),
            top_k: guidance.map(|guidance| guidance.top_k),
            top_p: guidance.map(|guidance| guidance.top_p),
            causal_prefix,
        }
    }
}

/// As typed on a command line.
impl fmt::Display for PlanFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |t_list: &Vec<u32>| {
            t_list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        let flags = [
            ("--t-list", self.t_list.as_ref().map(list)),
            ("--loss-split-t", self.loss_split_t.map(|split| split.to_string())),
            ("--t-teacher-start", self.t_teacher_start.map(|start| start.to_string())),
            ("--autoregressive", self.autoregressive.then(String::new)),
            ("--cfg", self.cfg.map(|cfg| cfg.to_string())),
            ("--top-k", self.top_k.map(|top_k| top_k.to_string())),
            ("--top-p", self.top_p.map(|top_p| top_p.to_string())),
            ("--causal-prefix", self.causal_prefix.then(String::new)),
        ];
        let given = flags.into_iter().filter_map(|(flag, value)| Some((flag, value?)));
        for (index, (flag, value)) in given.enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{flag}")?;
            if !value.is_empty() {
                write!(f, " {value}")?;
            }
        }
        Ok(())
    }
}
