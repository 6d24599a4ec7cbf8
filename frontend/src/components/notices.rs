//! What concerns the whole page: the connection, deletions that can be taken back, and what the
//! server has to say besides.

use gloo_timers::callback::Timeout;
use wasm_bindgen::JsCast;
use web_sys::HtmlElement;
use yew::prelude::*;

use super::{Sign, sign};
use crate::{
    hooks::{focus_main, has_lost_focus, use_backend},
    state::{
        store::{Action, Connection},
        words::counted,
    },
};

/// After the page is drawn anew the browser takes the focus off what cannot have it any more.
const FOCUS_MS: u32 = 100;

/// The button that takes deletions back.
const UNDO: &str = "[data-testid=undo]";

/// Where messages of single places go.
const OF_PLACES: &str = "notices-of-places";

/// Messages over the page and not in its flow: nothing jumps when one comes.
#[component]
pub(crate) fn Notices() -> Html {
    let backend = use_backend();
    let store = &backend.store;
    let seen = use_state_eq(String::new);
    let close = {
        let store = store.dispatcher();
        Callback::from(move |_: MouseEvent| store.dispatch(Action::Notice(None)))
    };
    let trouble = match (&store.connection, &store.info_error) {
        (Connection::Lost, _) if is_offline() => {
            Some("You are offline. The page goes on when the network is back.".to_owned())
        }
        (Connection::Lost, _) => Some("Connection lost. Trying again…".to_owned()),
        (Connection::Refused(why), _) => Some(format!("{}.", why.trim_end_matches('.'))),
        (Connection::PlainHttp(advice), _) if *seen != *advice => Some(advice.clone()),
        (Connection::PlainHttp(_), _) => None,
        (_, Some(error)) if store.info.is_none() => {
            Some(format!("{}.", error.message.trim_end_matches('.')))
        }
        _ => None,
    };
    let hide = match &store.connection {
        Connection::PlainHttp(advice) => {
            let (seen, advice) = (seen.setter(), advice.clone());
            Some(Callback::from(move |_: MouseEvent| seen.set(advice.clone())))
        }
        _ => None,
    };
    let deleting: Vec<_> = store.deleting().cloned().collect();
    let undo = {
        let (backend, deleting) = (backend.clone(), deleting.clone());
        Callback::from(move |_: MouseEvent| deleting.iter().for_each(|job| backend.keep(job)))
    };
    use_focus_of_undo(deleting.len());
    html! {
        <div class="notices">
            <div id={OF_PLACES} />
            <div role="alert">
                if let Some(words) = trouble {
                    <p class="notice lost" key={words.clone()}>
                        { words }
                        if let Some(hide) = hide { { close_button(hide) } }
                    </p>
                }
            </div>
            <div role="status">
                if !deleting.is_empty() {
                    <p class="notice" data-testid="undo-notice">
                        { match deleting.len() {
                            1 => "The result and its link will be deleted.".to_owned(),
                            count => {
                                format!("{} will be deleted.", counted(count, "result", "results"))
                            }
                        } }
                        <button type="button" data-testid="undo" onclick={undo}>{ "Undo" }</button>
                    </p>
                }
                if let Some(notice) = &store.notice {
                    <p class="notice" data-testid="notice" key={notice.clone()}>
                        { notice }
                        { close_button(close) }
                    </p>
                }
            </div>
        </div>
    }
}

/// Where the focus goes when what had it was deleted, or Undo itself went: to Undo, else to the
/// place at hand. Whoever has it elsewhere keeps it.
#[hook]
fn use_focus_of_undo(deleting: usize) {
    let before = use_mut_ref(|| 0);
    use_effect_with(deleting, move |&deleting| {
        let before = before.replace(deleting);
        let later = (deleting != before).then(|| {
            Timeout::new(FOCUS_MS, move || {
                if !has_lost_focus() {
                    return;
                }
                let undo = web_sys::window()
                    .and_then(|window| window.document())
                    .and_then(|document| document.query_selector(UNDO).ok().flatten())
                    .and_then(|undo| undo.dyn_into::<HtmlElement>().ok())
                    .filter(|_| deleting > before);
                match undo {
                    // It was just found in the document.
                    Some(undo) => drop(undo.focus()),
                    None => focus_main(),
                }
            })
        });
        move || drop(later)
    });
}

/// Puts a message of some place in the page among the others, so that all are at one place.
pub(super) fn in_notices(message: Html) -> Html {
    let document = web_sys::window().and_then(|window| window.document());
    match document.and_then(|document| document.get_element_by_id(OF_PLACES)) {
        Some(host) => create_portal(message, host),
        // The page is only being put together; there is nothing to tell yet.
        None => Html::default(),
    }
}

/// Takes a message away.
pub(crate) fn close_button(onclick: Callback<MouseEvent>) -> Html {
    html! {
        <button type="button" class="quiet" {onclick} aria-label="Close this message">
            { sign(Sign::Close) }
        </button>
    }
}

fn is_offline() -> bool {
    web_sys::window().is_some_and(|window| !window.navigator().on_line())
}
