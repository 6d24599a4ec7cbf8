//! A plan of one's own, as typed into the editor.

use serde::{Deserialize, Serialize};
use var_dd_protocol::Plan;

/// The kind of plan in the editor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CustomKind {
    FewStep,
    TeacherInvolved,
    Teacher,
}

impl CustomKind {
    pub(crate) const ALL: [Self; 3] = [Self::FewStep, Self::TeacherInvolved, Self::Teacher];

    /// Value of its option in the editor.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FewStep => "few-step",
            Self::TeacherInvolved => "teacher-involved",
            Self::Teacher => "teacher",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The editor's fields as typed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CustomPlan {
    pub(crate) kind: CustomKind,
    pub(crate) t_list: String,
    pub(crate) split: String,
    pub(crate) start: String,
    pub(crate) cfg: String,
    pub(crate) top_k: String,
    pub(crate) top_p: String,
    pub(crate) causal_prefix: bool,
}

impl Default for CustomPlan {
    fn default() -> Self {
        Self {
            kind: CustomKind::FewStep,
            t_list: "0".into(),
            split: "0".into(),
            start: "0".into(),
            cfg: "2".into(),
            top_k: "900".into(),
            top_p: "0.95".into(),
            causal_prefix: false,
        }
    }
}

impl CustomPlan {
    /// The fields that give `plan`; those that it has no value for stay as they are.
    pub(super) fn of(plan: &Plan, before: &Self) -> Self {
        let numbers = |list: &[u32]| list.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let mut custom = before.clone();
        let mut law = |cfg: f64, top_k: u32, top_p: f64| {
            (custom.cfg, custom.top_k, custom.top_p) =
                (cfg.to_string(), top_k.to_string(), top_p.to_string());
        };
        match plan {
            Plan::FewStep { t_list, loss_split_t } => {
                custom.kind = CustomKind::FewStep;
                custom.t_list = numbers(t_list);
                custom.split = loss_split_t.to_string();
            }
            Plan::TeacherInvolved {
                t_list,
                loss_split_t,
                teacher_start,
                cfg,
                top_k,
                top_p,
                causal_prefix,
            } => {
                law(*cfg, *top_k, *top_p);
                custom.kind = CustomKind::TeacherInvolved;
                custom.t_list = numbers(t_list);
                custom.split = loss_split_t.to_string();
                custom.start = teacher_start.to_string();
                custom.causal_prefix = *causal_prefix;
            }
            Plan::Teacher { cfg, top_k, top_p } => {
                law(*cfg, *top_k, *top_p);
                custom.kind = CustomKind::Teacher;
            }
        }
        custom
    }

    /// The plan.
    ///
    /// # Errors
    /// The field that is amiss, and why, with the bound and the value.
    pub(crate) fn plan(&self, scales: u32) -> Result<Plan, Problem> {
        let whole = |field, text: &str| {
            text.trim()
                .parse::<u32>()
                .map_err(|_| Problem::new(field, format!("{text:?} is not a whole number")))
        };
        let at_most = |field, text: &str, most: u32| match whole(field, text)? {
            value if value <= most => Ok(value),
            value => Err(Problem::new(field, format!("{value} is above {most}"))),
        };
        let law = || {
            let cfg = decimal(Field::Cfg, &self.cfg)?;
            let top_p = decimal(Field::TopP, &self.top_p)?;
            if !(0.0..=1.0).contains(&top_p) {
                return Err(Problem::new(Field::TopP, format!("{top_p} is not within 0…1")));
            }
            Ok((cfg, whole(Field::TopK, &self.top_k)?, top_p))
        };
        match self.kind {
            CustomKind::FewStep => {
                let t_list = self.t_list()?;
                if t_list.first() != Some(&0) {
                    return Err(Problem::new(
                        Field::TList,
                        "the first pass starts at scale 0".into(),
                    ));
                }
                if let Some(pair) = t_list.windows(2).find(|pair| pair[0] >= pair[1]) {
                    return Err(Problem::new(
                        Field::TList,
                        format!("{} does not come after {}", pair[1], pair[0]),
                    ));
                }
                if let Some(step) = t_list.iter().find(|&&step| step >= scales) {
                    let most = scales.saturating_sub(1);
                    return Err(Problem::new(
                        Field::TList,
                        format!("{step} is above the last scale, {most}"),
                    ));
                }
                Ok(Plan::FewStep {
                    t_list,
                    loss_split_t: at_most(Field::Split, &self.split, scales)?,
                })
            }
            CustomKind::TeacherInvolved => {
                let t_list = self.t_list()?;
                let [a, b] = t_list[..] else {
                    let message = format!("two scales are needed, here are {}", t_list.len());
                    return Err(Problem::new(Field::TList, message));
                };
                if b > scales {
                    return Err(Problem::new(Field::TList, format!("{b} is above {scales}")));
                }
                if a >= scales {
                    let most = scales.saturating_sub(1);
                    return Err(Problem::new(
                        Field::TList,
                        format!("{a} is above the last scale, {most}"),
                    ));
                }
                let most = b.min(scales.saturating_sub(1));
                let teacher_start = at_most(Field::Start, &self.start, most)?;
                let loss_split_t = at_most(Field::Split, &self.split, scales)?;
                let (cfg, top_k, top_p) = law()?;
                let causal_prefix = self.causal_prefix;
                Ok(Plan::TeacherInvolved {
                    t_list: [a, b],
                    loss_split_t,
                    teacher_start,
                    cfg,
                    top_k,
                    top_p,
                    causal_prefix,
                })
            }
            CustomKind::Teacher => {
                let (cfg, top_k, top_p) = law()?;
                Ok(Plan::Teacher { cfg, top_k, top_p })
            }
        }
    }

    fn t_list(&self) -> Result<Vec<u32>, Problem> {
        let parts = self.t_list.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty());
        let number = |part: &str| {
            part.parse()
                .map_err(|_| Problem::new(Field::TList, format!("{part:?} is not a whole number")))
        };
        parts.map(number).collect()
    }
}

fn decimal(field: Field, text: &str) -> Result<f64, Problem> {
    match text.trim().parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(Problem::new(field, format!("{text:?} is not a number"))),
    }
}

/// A field of the controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Class,
    Seed,
    Plan,
    TList,
    Split,
    Start,
    Cfg,
    TopK,
    TopP,
}

impl Field {
    /// What the page calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Seed => "seed",
            Self::Plan => "plan",
            Self::TList => "passes start at",
            Self::Split => "codewords before scale",
            Self::Start => "teacher from scale",
            Self::Cfg => "guidance",
            Self::TopK => "top-k",
            Self::TopP => "top-p",
        }
    }
}

/// What is amiss in a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    pub(crate) field: Field,
    pub(crate) message: String,
}

impl Problem {
    pub(super) fn new(field: Field, message: String) -> Self {
        Self { field, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::job::tests::two_steps;

    fn custom(kind: CustomKind, t_list: &str, split: &str, start: &str) -> Result<Plan, Field> {
        let custom = CustomPlan {
            kind,
            t_list: t_list.into(),
            split: split.into(),
            start: start.into(),
            ..CustomPlan::default()
        };
        custom.plan(4).map_err(|problem| problem.field)
    }

    #[test]
    fn a_few_step_plan_starts_at_0_and_increases_below_the_number_of_scales() {
        use CustomKind::FewStep;
        assert_eq!(custom(FewStep, "0, 2", "2", ""), Ok(two_steps()));
        assert_eq!(custom(FewStep, "0 2", "4", "").map(|plan| plan.passes(4).len()), Ok(2));
        for t_list in ["", "1", "0,2,2", "0,3,1", "0,4", "0,x", "0,-1"] {
            assert_eq!(custom(FewStep, t_list, "2", ""), Err(Field::TList), "{t_list}");
        }
        for split in ["", "5", "-1", "1.5"] {
            assert_eq!(custom(FewStep, "0", split, ""), Err(Field::Split), "{split}");
        }
    }

    #[test]
    fn a_teacher_involved_plan_keeps_its_bounds() {
        use CustomKind::TeacherInvolved;
        for (t_list, start) in [("0,3", "2"), ("0,4", "3"), ("0,3", "3"), ("0,0", "0")] {
            assert!(custom(TeacherInvolved, t_list, "2", start).is_ok(), "{t_list} from {start}");
        }
        for t_list in ["0", "0,1,2", "0,5", "4,4"] {
            assert_eq!(custom(TeacherInvolved, t_list, "2", "0"), Err(Field::TList), "{t_list}");
        }
        for (t_list, start) in [("0,2", "3"), ("0,4", "4"), ("0,3", "x")] {
            assert_eq!(
                custom(TeacherInvolved, t_list, "2", start),
                Err(Field::Start),
                "{t_list} from {start}"
            );
        }
    }

    #[test]
    fn the_law_of_the_teacher_is_checked() {
        let with = |cfg: &str, top_k: &str, top_p: &str| {
            let custom = CustomPlan {
                kind: CustomKind::Teacher,
                cfg: cfg.into(),
                top_k: top_k.into(),
                top_p: top_p.into(),
                ..CustomPlan::default()
            };
            custom.plan(4).map_err(|problem| problem.field)
        };
        assert!(with("1.5", "0", "1").is_ok());
        assert_eq!(with("NaN", "0", "0"), Err(Field::Cfg));
        assert_eq!(with("1", "-1", "0"), Err(Field::TopK));
        assert_eq!(with("1", "0", "1.01"), Err(Field::TopP));
    }
}
