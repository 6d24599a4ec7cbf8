//! The plan: presets with what they cost and what is published of them, and one of one's own.

use std::rc::Rc;

use var_dd_protocol::{GenerateRequest, ModelInfo, Plan};
use yew::prelude::*;

use super::{PlanBuilder, explain};
use crate::{
    hooks::use_backend,
    state::{
        custom_plan::{CustomPlan, Problem},
        glossary::Term,
        settings::PlanChoice,
        words,
    },
};

/// Properties of [`PlanPicker`].
#[derive(PartialEq, Properties)]
pub(crate) struct PlanPickerProps {
    pub(crate) model: Rc<ModelInfo>,
    pub(crate) chosen: PlanChoice,
    pub(crate) custom: CustomPlan,
    /// Pictures asked for; the time that is shown was measured with as many.
    pub(crate) count: u32,
    /// Whether the finished picture is wanted first; the same goes for this.
    pub(crate) last_frame_first: bool,
    pub(crate) problem: Option<Problem>,
    pub(crate) on_choose: Callback<PlanChoice>,
    pub(crate) on_edit: Callback<CustomPlan>,
    /// A preset was chosen to begin one's own with.
    pub(crate) on_start_from: Callback<usize>,
}

/// Radio buttons of the plans.
#[component]
pub(crate) fn PlanPicker(props: &PlanPickerProps) -> Html {
    let backend = use_backend();
    let model = &props.model;
    // As it was last here, else as its passes were in other plans.
    let cost = |plan: &Plan| {
        let like = GenerateRequest {
            model: Some(model.name.clone()),
            class: 0,
            plan: plan.clone(),
            seed: None,
            count: props.count,
            last_frame_first: props.last_frame_first,
            deadline_ms: None,
            explore: None,
        };
        let store = &backend.store;
        let measured = store.measured_ms(&like).map(words::duration);
        let estimated = || {
            let ms = store.estimated_ms(&like, model.scales())?;
            Some(format!("about {}", words::duration(ms)))
        };
        measured.or_else(estimated)
    };
    let option = |choice: PlanChoice,
                  testid: String,
                  name: String,
                  cost: Option<String>,
                  detail: Html| {
        let onchange = props.on_choose.reform(move |_: Event| choice);
        html! {
            <label key={testid.clone()} class="plan">
                <input type="radio" name="plan" data-testid={testid} checked={props.chosen == choice} {onchange} />
                <span class="plan-name">{ name }</span>
                <span class="plan-cost" data-testid="cost">{ cost }</span>
                <span class="plan-detail">{ detail }</span>
            </label>
        }
    };
    let detail = |plan: &Plan, fid: Option<f64>| {
        html! {
            <>
                <span>{ words::cost(plan, model.scales()) }</span>
                if let Some(fid) = fid { <span>{ format!("FID {fid}") }</span> }
            </>
        }
    };
    let presets = model.plans.iter().enumerate().map(|(index, preset)| {
        let (detail, cost) = (detail(&preset.plan, preset.fid), cost(&preset.plan));
        option(
            PlanChoice::Preset(index),
            format!("plan-{index}"),
            preset.name.clone(),
            cost,
            detail,
        )
    });
    // What is published of a plan is so whoever put it together.
    let own = props.custom.plan(model.scales()).ok().map(|plan| {
        let published = model.plans.iter().find(|preset| preset.plan == plan);
        (cost(&plan), detail(&plan, published.and_then(|preset| preset.fid)))
    });
    let is_custom = props.chosen == PlanChoice::Custom;
    let (own_cost, own_detail) = own
        .filter(|_| is_custom)
        .unwrap_or_else(|| (None, html! { <span>{ "put together scale by scale" }</span> }));
    html! {
        <fieldset class="field plans">
            <legend>{ "Steps" }</legend>
            { for presets }
            { option(PlanChoice::Custom, "plan-custom".into(), "Your own".into(), own_cost, own_detail) }
            if is_custom {
                <PlanBuilder
                    model={model.clone()}
                    custom={props.custom.clone()}
                    problem={props.problem.clone()}
                    on_edit={props.on_edit.clone()}
                    on_start_from={props.on_start_from.clone()}
                />
            }
            <p class="hint words">
                { "What is a " }{ explain(Term::Step) }{ ", the " }{ explain(Term::Student) }{ ", the " }
                { explain(Term::Teacher) }
                if model.plans.iter().any(|preset| preset.fid.is_some()) { { ", " }{ explain(Term::Fid) } }
                { ", " }{ explain(Term::Guidance) }{ "?" }
            </p>
        </fieldset>
    }
}
