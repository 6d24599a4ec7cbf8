//! The list of keys.

use web_sys::HtmlDialogElement;
use yew::prelude::*;

use crate::hooks::Key;

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
    let close = props.on_close.reform(|_: MouseEvent| ());
    let onclose = props.on_close.reform(|_: Event| ());
    html! {
        <dialog ref={dialog} class="keys" data-testid="keys" aria-labelledby="keys-title" {onclose}>
            <h2 id="keys-title">{ "Keys" }</h2>
            <dl>
                { for Key::LIST.iter().map(|(key, meaning)| html! {
                    <div key={*key}><dt><kbd>{ *key }</kbd></dt><dd>{ *meaning }</dd></div>
                }) }
            </dl>
            <button type="button" onclick={close}>{ "Close" }</button>
        </dialog>
    }
}
