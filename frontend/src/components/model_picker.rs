//! The model, where several are loaded.

use std::rc::Rc;

use var_dd_protocol::ModelInfo;
use web_sys::HtmlSelectElement;
use yew::prelude::*;

/// Properties of [`ModelPicker`].
#[derive(PartialEq, Properties)]
pub(crate) struct ModelPickerProps {
    pub(crate) models: Rc<Vec<ModelInfo>>,
    /// Name of the chosen one.
    pub(crate) chosen: String,
    pub(crate) on_choose: Callback<ModelInfo>,
}

/// A list of models; nothing where there is no choice.
#[component]
pub(crate) fn ModelPicker(props: &ModelPickerProps) -> Html {
    if props.models.len() < 2 {
        return Html::default();
    }
    let onchange = {
        let (models, on_choose) = (props.models.clone(), props.on_choose.clone());
        Callback::from(move |event: Event| {
            let name = event.target_unchecked_into::<HtmlSelectElement>().value();
            if let Some(model) = models.iter().find(|model| model.name == name) {
                on_choose.emit(model.clone());
            }
        })
    };
    html! {
        <div class="field">
            <label for="model">{ "Model" }</label>
            <select id="model" data-testid="model" {onchange}>
                { for props.models.iter().map(|model| html! {
                    <option key={model.name.clone()} value={model.name.clone()} selected={model.name == props.chosen}>
                        { &model.name }
                    </option>
                }) }
            </select>
        </div>
    }
}
