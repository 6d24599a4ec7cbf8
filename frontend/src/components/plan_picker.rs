//! The plan: presets with what they cost and what is published of them, and one of one's own.

use std::rc::Rc;

use var_dd_protocol::{GenerateRequest, ModelInfo};
use yew::prelude::*;

use super::PlanEditor;
use crate::{
    hooks::use_backend,
    state::{
        custom_plan::{CustomPlan, Problem},
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
}

/// Radio buttons of the plans.
#[component]
pub(crate) fn PlanPicker(props: &PlanPickerProps) -> Html {
    let backend = use_backend();
    let model = &props.model;
    let measured = |plan: &var_dd_protocol::Plan| {
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
        backend.store.measured_ms(&like)
    };
    let option = |choice: PlanChoice, testid: String, name: String, detail: Html| {
        let onchange = props.on_choose.reform(move |_: Event| choice);
        html! {
            <label key={testid.clone()} class="plan">
                <input type="radio" name="plan" data-testid={testid} checked={props.chosen == choice} {onchange} />
                <span class="plan-name">{ name }</span>
                <span class="plan-detail">{ detail }</span>
            </label>
        }
    };
    let presets = model.plans.iter().enumerate().map(|(index, preset)| {
        let detail = html! {
            <>
                <span>{ words::cost(&preset.plan, model.scales()) }</span>
                if let Some(fid) = preset.fid {
                    <span title="Published Fréchet distance on ImageNet-256, 50,000 pictures; \
                        lower is better">
                        { format!("FID {fid}") }
                    </span>
                }
                if let Some(ms) = measured(&preset.plan) {
                    <span title="The last time here">{ words::duration(ms) }</span>
                }
            </>
        };
        option(PlanChoice::Preset(index), format!("plan-{index}"), preset.name.clone(), detail)
    });
    let is_custom = props.chosen == PlanChoice::Custom;
    html! {
        <fieldset class="field plans">
            <legend>{ "Steps" }</legend>
            { for presets }
            { option(PlanChoice::Custom, "plan-custom".into(), "Your own".into(), html! { <span>{ "any \
                scales, any order of networks" }</span> }) }
            if is_custom {
                <PlanEditor
                    custom={props.custom.clone()}
                    scales={model.scales()}
                    has_teacher={model.has_teacher}
                    problem={props.problem.clone()}
                    on_edit={props.on_edit.clone()}
                />
            }
        </fieldset>
    }
}
