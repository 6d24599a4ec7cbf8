//! The plan: presets with what they cost and what is published of them, and one of one's own.

use std::rc::Rc;

use var_dd_protocol::{GenerateRequest, ModelInfo, Plan};
use web_sys::HtmlInputElement;
use yew::prelude::*;

use super::{explain, help, plan_builder::PlanBuilderProps, tools::use_tools};
use crate::{
    hooks::{is_composing, use_backend},
    state::{
        cost::{Budget, Offer, within},
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
    let typed = use_state_eq(String::new);
    let tools = use_tools(props.chosen == PlanChoice::Custom);
    // As it was last here, else as its passes were in other plans.
    let ms_of = |plan: &Plan| {
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
        let measured = store.measured_ms(&like).map(|ms| (ms, ""));
        let estimated = || store.estimated_ms(&like, &model.patch_nums).map(|ms| (ms, "about "));
        measured.or_else(estimated)
    };
    let cost =
        |plan: &Plan| ms_of(plan).map(|(ms, about)| format!("{about}{}", words::duration(ms)));
    let option =
        |choice: PlanChoice, testid: String, name: String, cost: Option<String>, detail: Html| {
            let onchange = props.on_choose.reform(move |_: Event| choice);
            html! {
                <label key={testid.clone()} class="plan">
                    <input
                        type="radio"
                        name="plan"
                        data-testid={testid}
                        checked={props.chosen == choice}
                        {onchange}
                    />
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
    let offers: Vec<Offer> = model
        .plans
        .iter()
        .map(|preset| {
            let can_run = !preset.plan.needs_teacher() || model.has_teacher;
            let ms = ms_of(&preset.plan).filter(|_| can_run).map(|(ms, _)| ms);
            Offer { ms, fid: preset.fid }
        })
        .collect();
    let is_custom = props.chosen == PlanChoice::Custom;
    let (own_cost, own_detail) = own
        .filter(|_| is_custom)
        .unwrap_or_else(|| (None, html! { <span>{ "put together scale by scale" }</span> }));
    html! {
        <fieldset class="field plans">
            <legend>{ "Steps" }</legend>
            { help(Term::Plan) }
            { for presets }
            { option(PlanChoice::Custom, "plan-custom".into(), "Your own".into(), own_cost, own_detail) }
            if is_custom {
                { tools.draw(|tools| (tools.plan_builder)(PlanBuilderProps {
                    model: model.clone(),
                    custom: props.custom.clone(),
                    problem: props.problem.clone(),
                    on_edit: props.on_edit.clone(),
                    on_start_from: props.on_start_from.clone(),
                })) }
            }
            { draw_budget(&typed, &offers, props) }
            <p class="hint words">
                { "What is a " }{ explain(Term::Step) }{ ", a " }{ explain(Term::Token) }{ ", a " }
                { explain(Term::Pass) }{ ", the " }{ explain(Term::Student) }{ ", the " }
                { explain(Term::Teacher) }
                if model.plans.iter().any(|preset| preset.fid.is_some()) { { ", " }{ explain(Term::Fid) } }
                { ", " }{ explain(Term::Guidance) }{ "?" }
            </p>
        </fieldset>
    }
}

/// A field for the time that one has, and the plan that fits it.
fn draw_budget(typed: &UseStateHandle<String>, offers: &[Offer], props: &PlanPickerProps) -> Html {
    let (model, choose) = (&props.model, &props.on_choose);
    let oninput = {
        let typed = typed.setter();
        Callback::from(move |event: InputEvent| {
            typed.set(event.target_unchecked_into::<HtmlInputElement>().value());
        })
    };
    let (words, fitting) = match within(typed, offers) {
        None => (String::new(), None),
        Some(Budget::NoTime) => ("A time is a number of milliseconds, as 50".to_owned(), None),
        Some(Budget::Unknown) => {
            ("Draw one picture first: times are those of this machine".to_owned(), None)
        }
        Some(Budget::TooShort(ms)) => (format!("The fastest takes {}", words::duration(ms)), None),
        Some(Budget::Fits { plan, ms }) => {
            let name = model.plans.get(plan).map_or("", |preset| preset.name.as_str());
            let fid = offers[plan].fid.map(|fid| format!(", FID {fid}")).unwrap_or_default();
            // With nothing published, it is not known which is best.
            let why = match offers.iter().any(|offer| offer.fid.is_some()) {
                true => "",
                false => ", the slowest that does; which is best was not measured",
            };
            // Taking it puts one's own away, which is not lost by that.
            let is_taken = props.chosen == PlanChoice::Preset(plan);
            let kept = match is_taken && props.custom != CustomPlan::default() {
                true => ". It is chosen; the plan you built is kept under “Your own”",
                false => "",
            };
            (format!("{name} fits: {}{fid}{why}{kept}", words::duration(ms)), Some(plan))
        }
    };
    // Enter takes what is offered. It never draws: whoever types a time is choosing a plan.
    let onkeydown = {
        let choose = choose.clone();
        Callback::from(move |event: KeyboardEvent| {
            if event.key() != "Enter" || is_composing(&event) {
                return;
            }
            event.prevent_default();
            if let Some(plan) = fitting {
                choose.emit(PlanChoice::Preset(plan));
            }
        })
    };
    let to_take = fitting.filter(|&plan| props.chosen != PlanChoice::Preset(plan));
    html! {
        <div class="budget">
            <label>
                { "I have " }
                <input
                    type="text"
                    inputmode="decimal"
                    autocomplete="off"
                    size="6"
                    data-testid="budget"
                    value={(**typed).clone()}
                    {oninput}
                    {onkeydown}
                />
                { " ms for a picture" }
            </label>
            <p class="hint" role="status" data-testid="budget-words">{ words }</p>
            if let Some(plan) = to_take {
                <button
                    type="button"
                    data-testid="budget-take"
                    onclick={choose.reform(move |_: MouseEvent| PlanChoice::Preset(plan))}
                >{ "Take it" }</button>
            }
        </div>
    }
}
