//! The editor of a plan of one's own.

use var_dd_protocol::ModelInfo;
use web_sys::{HtmlInputElement, HtmlSelectElement};
use yew::prelude::*;

use super::explain;
use crate::state::{
    custom_plan::{CustomKind, CustomPlan, Field, Problem},
    glossary::Term,
};

/// A field of the editor: its label, its name for tests, a hint, and where it is kept.
type Text = (Field, &'static str, String, fn(&mut CustomPlan) -> &mut String);

/// Fields of a plan of a model.
pub(crate) fn plan_editor(
    custom: &CustomPlan,
    model: &ModelInfo,
    problem: Option<&Problem>,
    on_edit: &Callback<CustomPlan>,
) -> Html {
    let (scales, has_teacher) = (model.scales(), model.has_teacher);
    let edit = |change: fn(&mut CustomPlan, String)| {
        let custom = custom.clone();
        on_edit.reform(move |value: String| {
            let mut custom = custom.clone();
            change(&mut custom, value);
            custom
        })
    };
    let on_kind = edit(|custom, name| {
        if let Some(kind) = CustomKind::of_name(&name) {
            custom.kind = kind;
        }
    })
    .reform(|event: Event| event.target_unchecked_into::<HtmlSelectElement>().value());
    let on_causal = {
        let custom = custom.clone();
        on_edit.reform(move |event: Event| {
            let causal_prefix = event.target_unchecked_into::<HtmlInputElement>().checked();
            CustomPlan { causal_prefix, ..custom.clone() }
        })
    };
    let fields = fields(custom.kind, scales).into_iter().map(|(field, testid, hint, place)| {
        let mut value = custom.clone();
        let value = place(&mut value).clone();
        let wrong = problem.filter(|problem| problem.field == field);
        let oninput = {
            let custom = custom.clone();
            on_edit.reform(move |event: InputEvent| {
                let mut custom = custom.clone();
                *place(&mut custom) = event.target_unchecked_into::<HtmlInputElement>().value();
                custom
            })
        };
        html! {
            <label key={testid} class="line">
                <span>{ field.name() }</span>
                <input
                    type="text"
                    inputmode="decimal"
                    autocomplete="off"
                    data-testid={testid}
                    {value}
                    aria-invalid={wrong.is_some().to_string()}
                    {oninput}
                />
                <small class={wrong.is_some().then_some("problem")}>
                    { wrong.map_or(hint, |problem| problem.message.clone()) }
                </small>
            </label>
        }
    });
    let general = problem.filter(|problem| problem.field == Field::Plan);
    html! {
        <div class="plan-editor">
            <p class="hint">{ format!(
                "Scales are counted from 0 here, as in the released scripts: {} is the last one.",
                scales.saturating_sub(1)
            ) }</p>
            <label class="line">
                <span>{ "networks" }</span>
                <select data-testid="custom-kind" onchange={on_kind}>
                    { for CustomKind::ALL.into_iter().map(|kind| html! {
                        <option
                            key={kind.name()}
                            value={kind.name()}
                            selected={kind == custom.kind}
                            disabled={!has_teacher && kind != CustomKind::FewStep}
                        >{ describe(kind) }</option>
                    }) }
                </select>
                <small>{ "the student is fast, the teacher more exact" }</small>
            </label>
            { for fields }
            <p class="hint words">
                { "What is " }
                if custom.kind != CustomKind::Teacher { { "the " }{ explain(Term::Split) } }
                if custom.kind == CustomKind::TeacherInvolved { { ", " } }
                if custom.kind != CustomKind::FewStep {
                    { explain(Term::TopK) }{ ", " }{ explain(Term::TopP) }
                }
                { "?" }
            </p>
            if custom.kind == CustomKind::TeacherInvolved {
                <label class="line tick">
                    <input type="checkbox" checked={custom.causal_prefix} onchange={on_causal} />
                    <span>
                        { "the teacher reads given scales one by one (the published scores are \
                           without)" }
                    </span>
                </label>
            }
            if let Some(problem) = general {
                <p class="problem">{ &problem.message }</p>
            }
        </div>
    }
}

fn describe(kind: CustomKind) -> &'static str {
    match kind {
        CustomKind::FewStep => "student only",
        CustomKind::TeacherInvolved => "student, teacher, student",
        CustomKind::Teacher => "teacher only",
    }
}

fn fields(kind: CustomKind, scales: u32) -> Vec<Text> {
    let last = scales.saturating_sub(1);
    let t_list = match kind {
        CustomKind::TeacherInvolved => format!("two scales, the second at most {scales}"),
        _ => format!("0, then increasing up to {last}"),
    };
    let steps: [Text; 2] = [
        (Field::TList, "custom-t-list", t_list, |custom| &mut custom.t_list),
        (Field::Split, "custom-split", format!("0 to {scales}"), |custom| &mut custom.split),
    ];
    let start: Text =
        (Field::Start, "custom-start", "0: the teacher begins, without a draft".into(), |custom| {
            &mut custom.start
        });
    let law: [Text; 3] = [
        (Field::Cfg, "custom-cfg", "strength at the last scale".into(), |custom| &mut custom.cfg),
        (Field::TopK, "custom-top-k", "0 keeps all".into(), |custom| &mut custom.top_k),
        (Field::TopP, "custom-top-p", "0 keeps all".into(), |custom| &mut custom.top_p),
    ];
    match kind {
        CustomKind::FewStep => steps.into(),
        CustomKind::TeacherInvolved => steps.into_iter().chain([start]).chain(law).collect(),
        CustomKind::Teacher => law.into(),
    }
}
