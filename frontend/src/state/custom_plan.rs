//! A plan of one's own, as typed into the editor.

use serde::{Deserialize, Serialize};
use var_dd_protocol::{Guidance, Plan, PlanError, PlanField, number_of, seed_of};

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
        if let Some(Guidance { cfg, top_k, top_p }) = plan.guidance() {
            (custom.cfg, custom.top_k, custom.top_p) =
                (cfg.to_string(), top_k.to_string(), top_p.to_string());
        }
        match plan {
            Plan::FewStep { t_list, loss_split_t } => {
                custom.kind = CustomKind::FewStep;
                custom.t_list = numbers(t_list);
                custom.split = loss_split_t.to_string();
            }
            Plan::TeacherInvolved {
                t_list, loss_split_t, teacher_start, causal_prefix, ..
            } => {
                custom.kind = CustomKind::TeacherInvolved;
                custom.t_list = numbers(t_list);
                custom.split = loss_split_t.to_string();
                custom.start = teacher_start.to_string();
                custom.causal_prefix = *causal_prefix;
            }
            Plan::Teacher { .. } => custom.kind = CustomKind::Teacher,
        }
        custom
    }

    /// The plan.
    ///
    /// # Errors
    /// The field that is amiss, and why, with the bound and the value.
    pub(crate) fn plan(&self, scales: u32) -> Result<Plan, Problem> {
        let guidance = || {
            Ok::<_, Problem>(Guidance {
                cfg: decimal(Field::Cfg, &self.cfg)?,
                top_k: whole(Field::TopK, &self.top_k)?,
                top_p: decimal(Field::TopP, &self.top_p)?,
            })
        };
        let plan = match self.kind {
            CustomKind::FewStep => Plan::FewStep {
                t_list: self.t_list()?,
                loss_split_t: whole(Field::Split, &self.split)?,
            },
            CustomKind::TeacherInvolved => Plan::TeacherInvolved {
                t_list: self
                    .t_list()?
                    .try_into()
                    .map_err(|t_list: Vec<u32>| Problem::from(PlanError::TwoSteps(t_list.len())))?,
                loss_split_t: whole(Field::Split, &self.split)?,
                teacher_start: whole(Field::Start, &self.start)?,
                guidance: guidance()?,
                causal_prefix: self.causal_prefix,
            },
            CustomKind::Teacher => Plan::Teacher { guidance: guidance()? },
        };
        plan.validate(scales)?;
        Ok(plan)
    }

    fn t_list(&self) -> Result<Vec<u32>, Problem> {
        let parts = self.t_list.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| whole(Field::TList, part)).collect()
    }
}

/// Written as a seed may be: `1e1`, `5.0`, digits of any script.
fn whole(field: Field, text: &str) -> Result<u32, Problem> {
    let number = seed_of(text).ok().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| Problem::new(field, no_number(text, "a whole number")))
}

fn no_number(text: &str, what: &str) -> String {
    match text.trim() {
        "" => format!("{what} is needed"),
        text => format!("“{text}” is not {what}"),
    }
}

fn decimal(field: Field, text: &str) -> Result<f64, Problem> {
    let problem = || Problem::new(field, no_number(text, "a number"));
    number_of(text).ok_or_else(problem)
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
    /// Whether it belongs to a plan of one's own.
    pub(crate) fn is_of_plan(self) -> bool {
        !matches!(self, Self::Class | Self::Seed)
    }

    /// What the page calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Seed => "seed",
            Self::Plan => "plan",
            Self::TList => "passes start at",
            Self::Split => "codewords end before",
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

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Self {
        let field = match error.field() {
            PlanField::TList => Field::TList,
            PlanField::LossSplitT => Field::Split,
            PlanField::TeacherStart => Field::Start,
            PlanField::Cfg => Field::Cfg,
            PlanField::TopP => Field::TopP,
        };
        Self::new(field, error.to_string())
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
    fn what_is_typed_becomes_a_plan() {
        use CustomKind::{FewStep, TeacherInvolved};
        assert_eq!(custom(FewStep, "0, 2", "2", ""), Ok(two_steps()));
        assert_eq!(custom(FewStep, "0 2", "2", ""), Ok(two_steps()));
        assert_eq!(custom(FewStep, "0, 2.0", "２", ""), Ok(two_steps()));
        assert_eq!(
            custom(TeacherInvolved, "0,3", "2", "1"),
            Ok(Plan::teacher_involved([0, 3], 2, 1, Guidance::default()))
        );
    }

    #[test]
    fn what_is_wrong_is_shown_at_its_field() {
        use CustomKind::{FewStep, TeacherInvolved};
        for t_list in ["", "1", "0,2,2", "0,4", "0,x", "0,-1"] {
            assert_eq!(custom(FewStep, t_list, "2", ""), Err(Field::TList), "{t_list}");
        }
        for split in ["", "5", "-1", "1.5"] {
            assert_eq!(custom(FewStep, "0", split, ""), Err(Field::Split), "{split}");
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
        assert_eq!(with("101", "0", "0"), Err(Field::Cfg));
        assert_eq!(with("1", "-1", "0"), Err(Field::TopK));
        assert_eq!(with("1", "0", "1.01"), Err(Field::TopP));
    }
}
