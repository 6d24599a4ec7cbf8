//! Settings of this browser, and the list of keys.

use web_sys::{HtmlDialogElement, HtmlInputElement, HtmlSelectElement};
use yew::prelude::*;

use crate::{
    hooks::{
        Key, keep_letters, keep_preference, letters_are_keys, preference, preference_names::HOLD,
    },
    state::player::HoldTime,
};

/// Properties of [`KeysDialog`].
#[derive(PartialEq, Properties)]
pub(crate) struct KeysDialogProps {
    /// It was closed.
    pub(crate) on_close: Callback<()>,
}

/// A dialog; open while it is there.
#[component]
pub(crate) fn KeysDialog(props: &KeysDialogProps) -> Html {
    let dialog = use_node_ref();
    {
        let dialog = dialog.clone();
        use_effect_with((), move |()| {
            if let Some(dialog) = dialog.cast::<HtmlDialogElement>() {
                // It is in the document and closed, so that nothing can go wrong.
                let _ = dialog.show_modal();
            }
        });
    }
    let letters = use_state_eq(letters_are_keys);
    let on_letters = {
        let letters = letters.clone();
        Callback::from(move |event: Event| {
            let are_keys = event.target_unchecked_into::<HtmlInputElement>().checked();
            keep_letters(are_keys);
            letters.set(are_keys);
        })
    };
    let hold = use_state_eq(|| {
        preference(HOLD).and_then(|name| HoldTime::of_name(&name)).unwrap_or_default()
    });
    let on_hold = {
        let hold = hold.clone();
        Callback::from(move |event: Event| {
            let chosen = event.target_unchecked_into::<HtmlSelectElement>().value();
            if let Some(chosen) = HoldTime::of_name(&chosen) {
                keep_preference(HOLD, chosen.name());
                hold.set(chosen);
            }
        })
    };
    // By the dialog itself, which gives the focus back.
    let close = {
        let dialog = dialog.clone();
        Callback::from(move |_: MouseEvent| {
            if let Some(dialog) = dialog.cast::<HtmlDialogElement>() {
                dialog.close();
            }
        })
    };
    let onclose = props.on_close.reform(|_: Event| ());
    html! {
        <dialog ref={dialog} class="keys" data-testid="keys" aria-labelledby="keys-title" {onclose}>
            <h2 id="keys-title">{ "Settings and keys" }</h2>
            <label class="setting">
                <span>{ "Coming into focus" }</span>
                <select data-testid="hold-time" onchange={on_hold}>
                    { for HoldTime::ALL.into_iter().map(|choice| html! {
                        <option
                            key={choice.name()}
                            value={choice.name()}
                            selected={choice == *hold}
                        >{ choice.words() }</option>
                    }) }
                </select>
            </label>
            <label class="tick">
                <input
                    type="checkbox"
                    data-testid="letters"
                    checked={*letters}
                    onchange={on_letters}
                />
                <span>{ "Use single letters and signs as shortcuts" }</span>
            </label>
            <dl>
                { for Key::LIST.iter().map(|(key, meaning)| html! {
                    <div key={*key}><dt><kbd>{ *key }</kbd></dt><dd>{ *meaning }</dd></div>
                }) }
            </dl>
            <button type="button" onclick={close}>{ "Close" }</button>
        </dialog>
    }
}
