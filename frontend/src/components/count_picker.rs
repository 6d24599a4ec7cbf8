//! How many pictures.

use yew::prelude::*;

/// Properties of [`CountPicker`].
#[derive(PartialEq, Properties)]
pub(crate) struct CountPickerProps {
    pub(crate) most: u32,
    pub(crate) chosen: u32,
    pub(crate) on_choose: Callback<u32>,
}

/// Buttons from one to the most.
#[component]
pub(crate) fn CountPicker(props: &CountPickerProps) -> Html {
    html! {
        <fieldset class="field">
            <legend>{ "Pictures" }</legend>
            <div class="segments wide">
                { for (1..=props.most).map(|count| {
                    let onchange = props.on_choose.reform(move |_: Event| count);
                    html! {
                        <label key={count}>
                            <input
                                type="radio"
                                name="count"
                                data-testid={format!("count-{count}")}
                                checked={count == props.chosen}
                                {onchange}
                            />
                            <span>{ count }</span>
                        </label>
                    }
                }) }
            </div>
        </fieldset>
    }
}
