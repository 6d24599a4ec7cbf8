//! Whether the finished picture comes before the steps to it.

use web_sys::HtmlInputElement;
use yew::prelude::*;

/// Properties of [`OrderSwitch`].
#[derive(PartialEq, Properties)]
pub(crate) struct OrderSwitchProps {
    pub(crate) last_frame_first: bool,
    pub(crate) on_choose: Callback<bool>,
}

/// A box to tick.
#[component]
pub(crate) fn OrderSwitch(props: &OrderSwitchProps) -> Html {
    let onchange = props
        .on_choose
        .reform(|event: Event| event.target_unchecked_into::<HtmlInputElement>().checked());
    html! {
        <div class="order">
            <label>
                <input
                    type="checkbox"
                    data-testid="last-frame-first"
                    checked={props.last_frame_first}
                    aria-describedby="order-help"
                    {onchange}
                />
                <span>{ "Finished picture first" }</span>
            </label>
            <small id="order-help">{ "for those in a hurry; the steps follow" }</small>
        </div>
    }
}
