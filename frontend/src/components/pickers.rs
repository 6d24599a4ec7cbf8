//! What every drawing takes: model, class and seed.

use yew::prelude::*;

use super::{ClassPicker, ModelPicker, SeedField};
use crate::{
    hooks::{Controls, random_below},
    state::{
        custom_plan::{Field, Problem},
        settings::{PICKED_SEEDS, Settings},
    },
};

/// Properties of [`Pickers`].
#[derive(PartialEq, Properties)]
pub(crate) struct PickersProps {
    pub(crate) controls: Controls,
    /// What is amiss with the settings.
    pub(crate) problem: Option<Problem>,
    /// Whether the seed can stay from picture to picture.
    #[prop_or_default]
    pub(crate) lockable: bool,
    /// What stands between class and seed.
    #[prop_or_default]
    pub(crate) children: Html,
}

/// Model, class and seed; nothing until the server told its models.
#[component]
pub(crate) fn Pickers(props: &PickersProps) -> Html {
    let controls = &props.controls;
    let settings = &controls.settings;
    let Some(model) = &controls.model else { return Html::default() };
    html! {
        <>
            <ModelPicker
                models={controls.models.clone()}
                chosen={model.name.clone()}
                on_choose={controls.set(|settings, model| settings.for_model(&model))}
            />
            <ClassPicker
                model={model.clone()}
                chosen={settings.class}
                on_choose={controls.set(|settings, class| Settings { class, ..settings })}
            />
            { props.children.clone() }
            <SeedField
                seed={settings.seed.clone()}
                locked={props.lockable.then_some(settings.seed_locked)}
                problem={props.problem.clone().filter(|problem| problem.field == Field::Seed)}
                on_type={controls.set(|settings, seed| settings.typed_seed(seed))}
                on_dice={controls.set(|settings, ()| settings.with_seed(random_below(PICKED_SEEDS).to_string()))}
                on_lock={controls.set(|settings, seed_locked| Settings { seed_locked, ..settings })}
            />
        </>
    }
}
