//! The model, where several are loaded.

use std::rc::Rc;

use var_dd_protocol::ModelInfo;
use web_sys::HtmlSelectElement;
use yew::prelude::*;

use super::help;
use crate::state::glossary::Term;

/// A list of models, of which the one named `chosen` is; nothing where there is no choice.
pub(crate) fn model_picker(
    models: &Rc<Vec<ModelInfo>>,
    chosen: &str,
    on_choose: Callback<ModelInfo>,
) -> Html {
    if models.len() < 2 {
        return Html::default();
    }
    let onchange = {
        let models = models.clone();
        Callback::from(move |event: Event| {
            let name = event.target_unchecked_into::<HtmlSelectElement>().value();
            if let Some(model) = models.iter().find(|model| model.name == name) {
                on_choose.emit(model.clone());
            }
        })
    };
    html! {
        <div class="field">
            <div class="label-line">
                <label for="model">{ "Model" }</label>
                { help(Term::Model) }
            </div>
            <select id="model" data-testid="model" {onchange}>
                { for models.iter().map(|model| html! {
                    <option
                        key={model.name.clone()}
                        value={model.name.clone()}
                        selected={model.name == chosen}
                    >
                        { &model.name }
                    </option>
                }) }
            </select>
        </div>
    }
}
