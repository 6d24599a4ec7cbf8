//! One table of valid and invalid plans, for everything that a plan goes through: the wire, the
//! check, the passes, the flags.

use proptest::prelude::*;
use var_dd_plan::{Guidance, PassKind, Plan, PlanError, PlanField, PlanFlags};

const OFF: Guidance = Guidance { cfg: 0.0, top_k: 0, top_p: 0.0 };

fn law(cfg: f64, top_p: f64) -> Guidance {
    Guidance { cfg, top_k: 900, top_p }
}

fn involved(t_list: [u32; 2], split: u32, start: u32) -> Plan {
    Plan::teacher_involved(t_list, split, start, Guidance::default())
}

/// Plan, scales of the model, frames.
fn valid() -> Vec<(Plan, u32, usize)> {
    vec![
        (Plan::few_step(&[0], 0), 1, 1),
        (Plan::few_step(&[0], 5), 10, 10),
        (Plan::few_step(&[0, 5], 5), 10, 10 + 5),
        (Plan::few_step(&[0, 1, 2, 3], 4), 4, 4 + 3 + 2 + 1),
        (Plan::few_step(&[0, 9], 10), 10, 10 + 1),
        (involved([0, 5], 5, 4), 10, 10 + 1 + 5),
        (involved([0, 5], 8, 3), 10, 10 + 2 + 5),
        (involved([0, 5], 9, 0), 10, 5 + 5),
        (involved([0, 10], 5, 4), 10, 10 + 6),
        (involved([3, 5], 5, 5), 10, 7 + 5),
        (involved([0, 0], 0, 0), 4, 4),
        (Plan::Teacher { guidance: Guidance::default() }, 10, 10),
        (Plan::Teacher { guidance: OFF }, 4, 4),
        (Plan::Teacher { guidance: law(100.0, 1.0) }, 4, 4),
    ]
}

/// Plan, scales of the model, what is wrong, the field it is in, and words of the message.
fn invalid() -> Vec<(Plan, u32, PlanError, PlanField, [&'static str; 2])> {
    use PlanError::*;
    let involved = |t_list, split, start| (involved(t_list, split, start), 10);
    let few_step = |t_list: &[u32], split| (Plan::few_step(t_list, split), 10);
    let teacher = |guidance| (Plan::Teacher { guidance }, 10);
    let row = |(plan, scales), error, field, says| (plan, scales, error, field, says);
    let beyond = |step| StepOutOfRange { step, scales: 10 };
    let (t_list, start) = (PlanField::TList, PlanField::TeacherStart);
    vec![
        row(few_step(&[], 0), Empty, t_list, ["empty", "0"]),
        row(few_step(&[1], 0), FirstStep(1), t_list, ["starts with 1", "must be 0"]),
        row(
            few_step(&[0, 2, 2], 0),
            NotIncreasing { before: 2, after: 2 },
            t_list,
            ["2 to 2", "greater"],
        ),
        row(few_step(&[0, 3, 1], 0), NotIncreasing { before: 3, after: 1 }, t_list, ["3", "1"]),
        row(few_step(&[0, 10], 0), beyond(10), t_list, ["step 10", "0 to 9"]),
        row(few_step(&[0, u32::MAX], 0), beyond(u32::MAX), t_list, ["4294967295", "0 to 9"]),
        row(
            few_step(&[0], 11),
            SplitOutOfRange { split: 11, scales: 10 },
            PlanField::LossSplitT,
            ["loss_split_t is 11", "0 to 10"],
        ),
        row(
            involved([0, 11], 5, 4),
            EndOutOfRange { step: 11, scales: 10 },
            t_list,
            ["step 11", "at most 10"],
        ),
        row(
            involved([0, 5], 5, 6),
            StartAfterEnd { start: 6, end: 5 },
            start,
            ["scale 6", "at most 5"],
        ),
        row(
            involved([0, 10], 5, 10),
            StartOutOfRange { start: 10, scales: 10 },
            start,
            ["scale 10", "0 to 9"],
        ),
        row(involved([10, 10], 5, 4), beyond(10), t_list, ["step 10", "0 to 9"]),
        row(
            involved([0, 5], 11, 4),
            SplitOutOfRange { split: 11, scales: 10 },
            PlanField::LossSplitT,
            ["11", "10"],
        ),
        row(teacher(law(-0.5, 0.5)), Cfg(-0.5), PlanField::Cfg, ["cfg is -0.5", "0 to 100"]),
        row(teacher(law(101.0, 0.5)), Cfg(101.0), PlanField::Cfg, ["101", "100"]),
        row(teacher(law(2.0, 1.01)), TopP(1.01), PlanField::TopP, ["top_p is 1.01", "to 1"]),
        row(teacher(law(2.0, -0.1)), TopP(-0.1), PlanField::TopP, ["-0.1", "0"]),
    ]
}

#[test]
fn valid_plans_pass_and_have_the_frames_of_the_paper() {
    for (plan, scales, frames) in valid() {
        assert_eq!(plan.validate(scales), Ok(()), "{plan:?}");
        assert_eq!(plan.frames(scales).len(), frames, "{plan:?}");
    }
}

#[test]
fn invalid_plans_are_refused_with_the_field_the_value_and_the_bound() {
    for (plan, scales, error, field, says) in invalid() {
        assert_eq!(plan.validate(scales), Err(error.clone()), "{plan:?}");
        assert_eq!(error.field(), field, "{error}");
        let message = error.to_string();
        assert!(says.iter().all(|words| message.contains(words)), "{message}");
    }
}

#[test]
fn numbers_that_are_none_are_refused() {
    for (cfg, top_p) in [(f64::NAN, 0.5), (f64::INFINITY, 0.5), (2.0, f64::NAN)] {
        let plan = Plan::Teacher { guidance: law(cfg, top_p) };
        assert!(plan.validate(10).is_err(), "{plan:?}");
    }
}

#[test]
fn every_plan_survives_the_wire_and_the_flags() {
    let plans = valid().into_iter().map(|(plan, ..)| plan);
    for plan in plans.chain(invalid().into_iter().map(|(plan, ..)| plan)) {
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan, "{text}");
        let flags = plan.flags();
        let text = serde_json::to_string(&flags).unwrap();
        let flags: PlanFlags = serde_json::from_str(&text).unwrap();
        assert_eq!(flags.plan(), Ok(plan), "{text}");
    }
}

#[test]
fn the_law_lies_beside_the_other_fields_on_the_wire() {
    let text = r#"{"kind":"teacher_involved","t_list":[0,5],"loss_split_t":5,"teacher_start":4,"cfg":2.0,"top_k":900,"top_p":0.95,"causal_prefix":false}"#;
    assert_eq!(serde_json::to_string(&involved([0, 5], 5, 4)).unwrap(), text);
    let text = r#"{"kind":"teacher","cfg":0.0,"top_k":0,"top_p":0.0}"#;
    assert_eq!(serde_json::to_string(&Plan::Teacher { guidance: OFF }).unwrap(), text);
}

#[test]
fn a_field_that_is_unknown_missing_or_no_number_is_refused() {
    for text in [
        r#"{"kind":"few_step","t_list":[0],"loss_split_t":5,"topk":3}"#,
        r#"{"kind":"few_step","t_list":[0]}"#,
        r#"{"kind":"few_step","t_list":[-1],"loss_split_t":5}"#,
        r#"{"kind":"few_step","t_list":[4294967296],"loss_split_t":5}"#,
        r#"{"kind":"teacher","cfg":2,"top_k":0,"top_p":0,"top_q":0}"#,
        r#"{"kind":"teacher","cfg":2,"top_k":0}"#,
        r#"{"kind":"teacher","cfg":null,"top_k":0,"top_p":0}"#,
        r#"{"kind":"teacher_involved","t_list":[0],"loss_split_t":5,"teacher_start":4,"cfg":2,"top_k":0,"top_p":0}"#,
        r#"{"kind":"student","t_list":[0],"loss_split_t":5}"#,
    ] {
        assert!(serde_json::from_str::<Plan>(text).is_err(), "{text}");
    }
}

#[test]
fn flags_without_a_law_mean_the_published_one_and_no_plan_of_three_steps_has_a_teacher() {
    let flags = PlanFlags {
        t_list: Some(vec![0, 5]),
        loss_split_t: Some(5),
        t_teacher_start: Some(0),
        ..PlanFlags::default()
    };
    assert_eq!(flags.plan(), Ok(involved([0, 5], 5, 0)));
    let three = PlanFlags { t_list: Some(vec![0, 3, 5]), ..flags };
    assert_eq!(three.plan(), Err(PlanError::TwoSteps(3)));
}

#[test]
fn flags_are_shown_as_typed() {
    let shown = |plan: &Plan| plan.flags().to_string();
    assert_eq!(shown(&Plan::few_step(&[0, 5], 5)), "--t-list 0,5 --loss-split-t 5");
    assert_eq!(
        shown(&involved([0, 5], 8, 0)),
        "--t-list 0,5 --loss-split-t 8 --t-teacher-start 0 --cfg 2 --top-k 900 --top-p 0.95"
    );
    let teacher = Plan::Teacher { guidance: OFF };
    assert_eq!(shown(&teacher), "--autoregressive --cfg 0 --top-k 0 --top-p 0");
}

#[test]
fn passes_name_the_network_that_runs() {
    use PassKind::*;
    let kinds = |plan: Plan| plan.passes(10).iter().map(|pass| pass.kind).collect::<Vec<_>>();
    assert_eq!(kinds(involved([0, 5], 5, 3)), [Draft, Teacher, Teacher, Student]);
    assert_eq!(kinds(involved([0, 10], 5, 9)), [Draft, Teacher]);
    assert_eq!(kinds(Plan::few_step(&[0, 4], 4)), [Student, Student]);
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let law = || {
        (0.0..100.0_f64, 0..10_000_u32, 0.0..1.0_f64).prop_map(|(cfg, top_k, top_p)| Guidance {
            cfg,
            top_k,
            top_p,
        })
    };
    let bound = || 0..13_u32;
    prop_oneof![
        (prop::collection::vec(bound(), 0..5), bound())
            .prop_map(|(t_list, loss_split_t)| Plan::FewStep { t_list, loss_split_t }),
        ([bound(), bound()], bound(), bound(), law()).prop_map(|(t_list, split, start, law)| {
            Plan::teacher_involved(t_list, split, start, law)
        }),
        law().prop_map(|guidance| Plan::Teacher { guidance }),
    ]
}

proptest! {
    #[test]
    fn the_last_frame_of_every_valid_plan_is_the_whole_picture(
        plan in any_plan(),
        scales in 1..11_u32,
    ) {
        // Passes of an invalid plan are asked for by lists of stored jobs, too: no panic.
        let (passes, frames) = (plan.passes(scales), plan.frames(scales));
        if plan.validate(scales).is_ok() {
            prop_assert_eq!(passes.last().map(|pass| pass.end_scale), Some(scales));
            prop_assert_eq!(frames.last().map(|frame| frame.scale + 1), Some(scales));
            let shown: usize = passes.iter().map(|pass| pass.scales().len()).sum();
            prop_assert_eq!(frames.len(), shown);
        }
    }
}
