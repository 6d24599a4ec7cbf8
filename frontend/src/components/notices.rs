//! Lost connection, refused connection, and what the server has to say besides.

use yew::prelude::*;

use crate::{
    hooks::use_backend,
    state::store::{Action, Connection},
};

/// The bar above the page; there is always room for it, so that nothing jumps.
#[component]
pub(crate) fn Notices() -> Html {
    let backend = use_backend();
    let store = &backend.store;
    let close = {
        let store = store.dispatcher();
        Callback::from(move |_: MouseEvent| store.dispatch(Action::Notice(None)))
    };
    let words = match (&store.connection, &store.info_error) {
        (Connection::Lost, _) => Some("Connection lost. Trying again…".to_owned()),
        (Connection::Refused(why), _) => Some(format!("{why}.")),
        (_, Some(error)) if store.info.is_none() => {
            Some(format!("{}.", error.message.trim_end_matches('.')))
        }
        _ => None,
    };
    html! {
        <div class="notices" role="alert">
            if let Some(words) = words {
                <p class="notice lost">{ words }</p>
            } else if let Some(notice) = &store.notice {
                <p class="notice">
                    { notice }
                    <button type="button" class="quiet" onclick={close} aria-label="Close this message">{ "×" }</button>
                </p>
            }
        </div>
    }
}
