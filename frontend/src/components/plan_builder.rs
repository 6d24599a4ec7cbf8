//! A plan of one's own on a row of scales: who draws each, where passes begin, where codewords end.

use std::rc::Rc;

use var_dd_protocol::{ModelInfo, PassKind, Plan};
use web_sys::HtmlInputElement;
use yew::prelude::*;

use super::{explain, plan_editor::plan_editor};
use crate::state::{
    custom_plan::{CustomPlan, Problem},
    glossary::Term,
    plan_shape::PlanShape,
    words::size,
};

/// Properties of [`PlanBuilder`].
#[derive(PartialEq, Properties)]
pub(crate) struct PlanBuilderProps {
    pub(crate) model: Rc<ModelInfo>,
    /// The fields of the plan.
    pub(crate) custom: CustomPlan,
    pub(crate) problem: Option<Problem>,
    pub(crate) on_edit: Callback<CustomPlan>,
    /// A preset was chosen to begin with.
    pub(crate) on_start_from: Callback<usize>,
}

/// The row of scales with the plan drawn above it; its numbers one fold deeper.
#[component]
pub(crate) fn PlanBuilder(props: &PlanBuilderProps) -> Html {
    let PlanBuilderProps { model, custom, problem, on_edit, .. } = props;
    let scales = model.scales();
    // Why the last tap changed nothing.
    let why = use_state_eq(|| "");
    // Fields that make no plan (any more) leave the picture as it was.
    let last = use_mut_ref(|| None::<(Plan, PlanShape)>);
    let (plan, shape) = {
        let mut last = last.borrow_mut();
        let shown = PlanShape::shown(custom, scales, last.take());
        last.insert(shown).clone()
    };
    let change = {
        let (why, custom, on_edit) = (why.clone(), custom.clone(), on_edit.clone());
        Callback::from(move |changed: Result<PlanShape, &'static str>| match changed {
            Ok(shape) => {
                why.set("");
                on_edit.emit(shape.fields(&custom));
            }
            Err(reason) => why.set(reason),
        })
    };
    let columns = (0..scales).map(|scale| {
        let side = model.patch_nums[scale as usize];
        let on_begin = {
            let shape = shape.clone();
            change.reform(move |_: MouseEvent| shape.with_other_begin(scale))
        };
        let on_who = {
            let (shape, has_teacher) = (shape.clone(), model.has_teacher);
            change.reform(move |_: MouseEvent| match has_teacher {
                true => Ok(shape.with_other_network(scale)),
                false => Err("This model has no teacher; the student draws all of it."),
            })
        };
        let teachers = shape.is_teachers(scale);
        let begins = shape.begins(scale);
        let (who, other) = if teachers { ("teacher", "student") } else { ("student", "teacher") };
        html! {
            <div key={scale} class="chip-column">
                <button
                    type="button"
                    class={classes!("begin", begins.then_some("on"))}
                    data-testid={format!("begin-{scale}")}
                    aria-pressed={begins.to_string()}
                    aria-label={format!("A pass of the student begins at {}", size(side))}
                    onclick={on_begin}
                >{ if begins { "▸" } else { "·" } }</button>
                <button
                    type="button"
                    class={classes!("chip", who)}
                    data-testid={format!("chip-{scale}")}
                    data-who={who}
                    aria-label={format!("{}: the {who} draws it. Give it to the {other}", size(side))}
                    onclick={on_who}
                >
                    <span>{ format!("{side}×") }</span><wbr /><span>{ side }</span>
                </button>
            </div>
        }
    });
    let on_split = {
        let shape = shape.clone();
        change.reform(move |event: InputEvent| {
            let typed = event.target_unchecked_into::<HtmlInputElement>().value();
            Ok(shape.with_split(typed.parse().unwrap_or(shape.split)))
        })
    };
    let split = match model.patch_nums.get(shape.split as usize) {
        _ if shape.split == 0 => "none".to_owned(),
        Some(_) => format!("up to {}", size(model.patch_nums[shape.split as usize - 1])),
        None => "all of them".to_owned(),
    };
    let with_student = !matches!(plan, Plan::Teacher { .. });
    html! {
        <div class="plan-builder" data-testid="plan-builder">
            <div class="start-from" role="group" aria-label="Start from a preset">
                <span>{ "Start from" }</span>
                { for model.plans.iter().enumerate().map(|(index, preset)| html! {
                    <button
                        key={index}
                        type="button"
                        data-testid={format!("start-from-{index}")}
                        disabled={preset.plan.needs_teacher() && !model.has_teacher}
                        onclick={props.on_start_from.reform(move |_: MouseEvent| index)}
                    >{ &preset.name }</button>
                }) }
            </div>
            { picture(&plan, scales, &model.patch_nums) }
            <div class="chips" role="group" aria-label="Scales of the plan">{ for columns }</div>
            <p class="hint">
                { "Tap a scale to give it to the " }{ explain(Term::Teacher) }{ " or the " }{ explain(Term::Student) }
                { ". The teacher’s scales follow one another, so those between change too. " }
                { "▸ is where a " }{ explain(Term::Pass) }{ " begins." }
            </p>
            <p class="problem why" role="status" data-testid="plan-why">{ *why }</p>
            if with_student {
                <label class="split">
                    <span>{ "Codewords: " }<strong>{ split }</strong></span>
                    <input
                        type="range"
                        min="0"
                        max={scales.to_string()}
                        step="1"
                        value={shape.split.to_string()}
                        data-testid="split"
                        oninput={on_split}
                    />
                </label>
                <p class="hint words">
                    { "Before there, a token is a " }{ explain(Term::Codeword) }{ "; after it, any vector." }
                </p>
            }
            <details class="numbers">
                <summary data-testid="plan-numbers">{ "As numbers" }</summary>
                { plan_editor(custom, model, problem.as_ref(), on_edit) }
            </details>
            if let Some(problem) = problem.as_ref().filter(|problem| problem.field.is_of_plan()) {
                <p class="problem">{ format!("{}: {}", problem.field.name(), problem.message) }</p>
            }
        </div>
    }
}

/// The passes of a plan over its scales, the first at the top; what is drawn over is pale.
fn picture(plan: &Plan, scales: u32, sides: &[u32]) -> Html {
    const COLUMN: u32 = 10;
    const ROW: u32 = 5;
    let passes = plan.passes(scales);
    // Passes of the teacher in a row share a row: one follows the other.
    let mut rows: Vec<(PassKind, u32, u32)> = Vec::new();
    for pass in &passes {
        match rows.last_mut() {
            Some((PassKind::Teacher, _, end)) if pass.kind == PassKind::Teacher => {
                *end = pass.end_scale;
            }
            _ => rows.push((pass.kind, pass.first_scale, pass.end_scale)),
        }
    }
    let told = rows.iter().map(|&(kind, first, end)| {
        let who = match kind {
            PassKind::Student => "the student draws",
            PassKind::Draft => "the student drafts",
            PassKind::Teacher => "the teacher draws, one pass each,",
            PassKind::Kept => "what was there stays:",
        };
        let side = |scale: u32| sides.get(scale as usize).copied().map(size).unwrap_or_default();
        format!("{who} {} to {}", side(first), side(end.saturating_sub(1)))
    });
    let told = told.collect::<Vec<_>>().join("; then ");
    let count = rows.len() as u32;
    let cells = rows.iter().enumerate().flat_map(|(row, &(kind, first, end))| {
        let later = &rows[row + 1..];
        (first..end.min(scales))
            .map(move |scale| {
                let over = later.iter().any(|&(_, first, end)| (first..end).contains(&scale));
                let who = if kind == PassKind::Teacher { "teacher" } else { "student" };
                html! {
                    <rect
                        key={format!("{row}-{scale}")}
                        class={classes!(who, over.then_some("over"))}
                        x={(scale * COLUMN).to_string()}
                        y={(row as u32 * ROW).to_string()}
                        width={(COLUMN - 1).to_string()}
                        height={(ROW - 1).to_string()}
                        rx="1"
                    />
                }
            })
            .collect::<Vec<_>>()
    });
    let cells: Vec<Html> = cells.collect();
    html! {
        <svg
            class="plan-picture"
            viewBox={format!("0 0 {} {}", scales * COLUMN - 1, count * ROW)}
            role="img"
            aria-label={told}
            data-testid="plan-picture"
        >{ for cells }</svg>
    }
}
