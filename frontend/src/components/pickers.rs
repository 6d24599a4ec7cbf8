//! What every drawing takes: model, class and seed.

use yew::prelude::*;

use super::{ClassPicker, SeedField, model_picker::model_picker};
use crate::{
    hooks::{Controls, random_below},
    state::{
        custom_plan::{Field, Problem},
        settings::{PICKED_SEEDS, Settings},
    },
};

/// Model, class and seed; nothing until the server told its models. `problem` is what is amiss with
/// the settings, `of_seed` which picture the seed is for.
pub(crate) fn pickers(
    controls: &Controls,
    problem: Option<&Problem>,
    of_seed: Option<&'static str>,
) -> Html {
    let settings = &controls.settings;
    let Some(model) = &controls.model else { return Html::default() };
    html! {
        <>
            { model_picker(
                &controls.models,
                &model.name,
                {
                    let models = controls.models.clone();
                    controls.set(move |settings, model| settings.for_other_model(&model, &models))
                },
            ) }
            <ClassPicker
                model={model.clone()}
                chosen={settings.class}
                on_choose={controls.set(|settings, class| Settings { class, ..settings })}
            />
            <SeedField
                seed={settings.seed.clone()}
                locked={settings.seed_locked}
                told={of_seed}
                problem={problem.filter(|problem| problem.field == Field::Seed).cloned()}
                on_type={controls.set(|settings, seed| settings.typed_seed(seed))}
                on_dice={controls.set(|settings, ()| settings.with_seed(random_below(PICKED_SEEDS).to_string()))}
                on_lock={controls.set(|settings, seed_locked| Settings { seed_locked, ..settings })}
            />
        </>
    }
}
