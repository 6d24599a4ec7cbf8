//! A plan as a picture: which scales the teacher draws, where passes of the student begin, and
//! where codewords end. Every change gives a plan that can run, or says why it cannot be made.

use std::ops::Range;

use var_dd_protocol::Plan;

use super::custom_plan::{CustomKind, CustomPlan};

/// The shape of a plan on a model with `scales` scales, all counted from 0.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlanShape {
    scales: u32,
    /// First scale of each pass of the student. With a teacher: of the draft, and of the pass after
    /// the teacher if there is one.
    passes: Vec<u32>,
    /// The scales that the teacher draws; not empty.
    teacher: Option<Range<u32>>,
    /// Tokens are codewords before this scale.
    pub(crate) split: u32,
}

/// Why a change cannot be made.
pub(crate) type Reason = &'static str;

impl PlanShape {
    /// The shape of a plan that can run.
    pub(crate) fn of(plan: &Plan, scales: u32) -> Self {
        let student = |passes: Vec<u32>, split| Self { scales, passes, teacher: None, split };
        match plan {
            Plan::FewStep { t_list, loss_split_t } => student(t_list.clone(), *loss_split_t),
            Plan::TeacherInvolved { t_list: [a, b], loss_split_t, teacher_start, .. } => {
                let teacher = *teacher_start..(*b).min(scales);
                let teacher = (!teacher.is_empty()).then_some(teacher);
                Self { teacher, ..student(vec![*a, *b], *loss_split_t) }.tidied()
            }
            Plan::Teacher { .. } => Self { teacher: Some(0..scales), ..student(vec![0], scales) },
        }
    }

    /// The plan that the fields of the editor give, with its shape. Fields that give none (any
    /// more) leave the `last` one as it was, unless that was for another number of scales.
    pub(crate) fn shown(
        custom: &CustomPlan,
        scales: u32,
        last: Option<(Plan, Self)>,
    ) -> (Plan, Self) {
        let last = last.filter(|(_, shape)| shape.scales == scales);
        let plan = match (custom.plan(scales), last) {
            (Ok(plan), _) => plan,
            (Err(_), Some(last)) => return last,
            (Err(_), None) => Plan::FewStep { t_list: vec![0], loss_split_t: 0 },
        };
        let shape = Self::of(&plan, scales);
        (plan, shape)
    }

    /// Passes as the rest of the shape demands them.
    fn tidied(mut self) -> Self {
        match &self.teacher {
            Some(teacher) => {
                let mut passes = Vec::new();
                if teacher.start > 0 {
                    passes.push(0);
                }
                if teacher.end < self.scales {
                    passes.push(teacher.end);
                }
                self.passes = passes;
            }
            None => {
                let first = |scale: &u32| *scale == 0 || self.passes.contains(scale);
                self.passes = (0..self.scales).filter(first).collect();
            }
        }
        self.split = self.split.min(self.scales);
        self
    }

    /// Whether the teacher draws a scale (in the end).
    pub(crate) fn is_teachers(&self, scale: u32) -> bool {
        self.teacher.as_ref().is_some_and(|teacher| teacher.contains(&scale))
    }

    /// Whether a pass of the student begins at a scale.
    pub(crate) fn begins(&self, scale: u32) -> bool {
        self.passes.contains(&scale)
    }

    /// Gives a scale to the teacher, or back to the student. The teacher's scales stay one run.
    pub(crate) fn with_other_network(&self, scale: u32) -> Self {
        let teacher = match self.teacher.clone() {
            None => Some(scale..scale + 1),
            Some(run) if scale < run.start => Some(scale..run.end),
            Some(run) if scale >= run.end => Some(run.start..scale + 1),
            // From the first one on or from this one on, all go back.
            Some(run) if scale == run.start => Some(scale + 1..run.end),
            Some(run) => Some(run.start..scale),
        };
        let teacher = teacher.filter(|run| !run.is_empty());
        // The pass after the teacher stays one when the teacher goes.
        Self { teacher, ..self.clone() }.tidied()
    }

    /// Lets a pass of the student begin at a scale, or not any more.
    ///
    /// # Errors
    /// Why there must be one, or cannot be one.
    pub(crate) fn with_other_begin(&self, scale: u32) -> Result<Self, Reason> {
        if let Some(teacher) = &self.teacher {
            return Err(match scale {
                scale if teacher.contains(&scale) => "The teacher draws this scale.",
                scale if scale == teacher.end => {
                    "A pass begins here because the student goes on where the teacher ends."
                }
                0 => "The student’s draft begins here; the teacher goes on from it.",
                _ => "Beside the teacher the student has one pass before it and one after it.",
            });
        }
        if scale == 0 {
            return Err("The first pass begins here: nothing is drawn before it.");
        }
        let mut passes = self.passes.clone();
        match passes.iter().position(|&first| first == scale) {
            Some(at) => drop(passes.remove(at)),
            None => passes.push(scale),
        }
        Ok(Self { passes, ..self.clone() }.tidied())
    }

    /// Lets codewords end before another scale.
    pub(crate) fn with_split(&self, split: u32) -> Self {
        Self { split, ..self.clone() }.tidied()
    }

    /// The same in the fields of the editor; what the shape says nothing of stays as it is.
    pub(crate) fn fields(&self, before: &CustomPlan) -> CustomPlan {
        let list =
            |scales: &[u32]| scales.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let mut custom = CustomPlan { split: self.split.to_string(), ..before.clone() };
        match &self.teacher {
            None => {
                custom.kind = CustomKind::FewStep;
                custom.t_list = list(&self.passes);
            }
            Some(run) if *run == (0..self.scales) => custom.kind = CustomKind::Teacher,
            Some(run) => {
                custom.kind = CustomKind::TeacherInvolved;
                custom.t_list = list(&[0, run.end]);
                custom.start = run.start.to_string();
            }
        }
        custom
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::job::tests::two_steps;

    const SCALES: u32 = 4;

    fn plan_of(shape: &PlanShape) -> Plan {
        shape.fields(&CustomPlan::default()).plan(SCALES).unwrap()
    }

    fn parts(plan: &Plan) -> (Vec<u32>, Option<u32>) {
        match plan {
            Plan::FewStep { t_list, .. } => (t_list.clone(), None),
            Plan::TeacherInvolved { t_list, teacher_start, .. } => {
                (t_list.to_vec(), Some(*teacher_start))
            }
            Plan::Teacher { .. } => (Vec::new(), Some(0)),
        }
    }

    #[test]
    fn a_plan_survives_its_shape() {
        let shape = PlanShape::of(&two_steps(), SCALES);
        assert_eq!(plan_of(&shape), two_steps());
        assert!(shape.begins(0) && shape.begins(2) && !shape.begins(1));
    }

    #[test]
    fn fields_that_make_no_plan_leave_what_is_shown_unless_the_model_has_other_scales() {
        let two = CustomPlan { t_list: "0, 2".into(), split: "2".into(), ..CustomPlan::default() };
        let last = PlanShape::shown(&two, SCALES, None);
        assert_eq!(last, (two_steps(), PlanShape::of(&two_steps(), SCALES)));
        let wrong = CustomPlan { split: String::new(), ..two };
        assert_eq!(PlanShape::shown(&wrong, SCALES, Some(last.clone())), last);
        let (plan, shape) = PlanShape::shown(&wrong, SCALES + 1, Some(last));
        assert_eq!(parts(&plan), (vec![0], None));
        assert_eq!(shape, PlanShape::of(&plan, SCALES + 1));
    }

    #[test]
    fn whatever_is_tapped_the_plan_can_run() {
        // Every shape within four taps of any kind from one pass of the student.
        let mut shapes = vec![PlanShape::of(&two_steps(), SCALES)];
        for _ in 0..4 {
            let mut next = Vec::new();
            for shape in &shapes {
                for scale in 0..SCALES {
                    next.push(shape.with_other_network(scale));
                    next.extend(shape.with_other_begin(scale));
                    next.push(shape.with_split(scale + 1));
                }
            }
            next.dedup();
            shapes = next;
            shapes.sort_by_key(|shape| format!("{shape:?}"));
            shapes.dedup();
            for shape in &shapes {
                let plan = shape.fields(&CustomPlan::default()).plan(SCALES);
                let plan = plan.unwrap_or_else(|problem| panic!("{shape:?}: {problem:?}"));
                assert_eq!(PlanShape::of(&plan, SCALES).teacher, shape.teacher, "{plan:?}");
            }
        }
    }

    #[test]
    fn the_teachers_scales_stay_one_run() {
        let shape = PlanShape::of(&two_steps(), SCALES).with_other_network(1);
        assert_eq!(parts(&plan_of(&shape)), (vec![0, 2], Some(1)));
        let wider = shape.with_other_network(3);
        assert_eq!(parts(&plan_of(&wider)), (vec![0, 4], Some(1)));
        let shorter = wider.with_other_network(2);
        assert_eq!(parts(&plan_of(&shorter)), (vec![0, 2], Some(1)));
        let all = wider.with_other_network(0);
        assert_eq!(parts(&plan_of(&all)), (vec![], Some(0)));
        let gone = shape.with_other_network(1);
        assert_eq!(parts(&plan_of(&gone)), (vec![0, 2], None));
    }

    #[test]
    fn what_cannot_be_changed_says_why() {
        let shape = PlanShape::of(&two_steps(), SCALES);
        assert!(shape.with_other_begin(0).is_err());
        assert_eq!(parts(&plan_of(&shape.with_other_begin(2).unwrap())), (vec![0], None));
        assert_eq!(parts(&plan_of(&shape.with_other_begin(3).unwrap())), (vec![0, 2, 3], None));
        let taught = shape.with_other_network(1);
        for scale in 0..SCALES {
            assert!(taught.with_other_begin(scale).is_err(), "at {scale}");
        }
    }
}
