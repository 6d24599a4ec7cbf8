//! Whether the finished picture comes before the steps to it.

use web_sys::HtmlInputElement;
use yew::prelude::*;

/// A box to tick.
pub(crate) fn order_switch(last_frame_first: bool, on_choose: &Callback<bool>) -> Html {
    let onchange = on_choose
        .reform(|event: Event| event.target_unchecked_into::<HtmlInputElement>().checked());
    html! {
        <div class="order">
            <label>
                <input
                    type="checkbox"
                    data-testid="last-frame-first"
                    checked={last_frame_first}
                    aria-describedby="order-help"
                    {onchange}
                />
                <span>{ "Finished picture first" }</span>
            </label>
            <small id="order-help">{ "for those in a hurry; the scales on the way follow" }</small>
        </div>
    }
}
