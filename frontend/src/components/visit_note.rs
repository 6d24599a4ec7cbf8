//! What a place with the settings of a link says of them.

use yew::prelude::*;

use crate::hooks::Visit;

/// That one's own settings are left alone, with the way to take those of the link; nothing where
/// the place has one's own.
pub(crate) fn visit_note(visit: &Visit) -> Html {
    if !visit.is_on() {
        return Html::default();
    }
    let keep = {
        let visit = visit.clone();
        Callback::from(move |_: MouseEvent| visit.keep())
    };
    html! {
        <div class="visit" role="status" data-testid="visit">
            <p class="hint">{ "Settings of the link. Your own are as you left them." }</p>
            <button type="button" data-testid="visit-keep" onclick={keep}>
                { "Make these mine" }
            </button>
        </div>
    }
}
