//! Sharing a result: its link is copied, and shown for copying by hand.

use std::rc::Rc;

use gloo_timers::callback::Timeout;
use wasm_bindgen_futures::spawn_local;
use web_sys::HtmlInputElement;
use yew::prelude::*;

use super::{Sign, sign};
use crate::{api, hooks::copy_text, state::job::Job};

/// How long the link stays in sight after it was copied.
const SHARED_MS: u32 = 8_000;

/// Sharing: a callback that copies the link, and what is shown of it.
pub(super) struct Share {
    pub(super) press: Callback<()>,
    pub(super) card: Html,
}

/// Copies the link of a job, and of the picture brought forward.
#[hook]
pub(super) fn use_share(job: Option<&Rc<Job>>, forward: Option<usize>) -> Share {
    let field = use_node_ref();
    // How often it was asked for, and whether the last time the link was copied.
    let shared = use_state_eq(|| None::<(u32, bool)>);
    let address = job.map(|job| api::link(job.id(), forward));
    {
        let shared = shared.setter();
        use_effect_with(address.clone(), move |_| shared.set(None));
    }
    {
        let (shared, field) = (shared.clone(), field.clone());
        use_effect_with(*shared, move |&now| {
            // To copy by hand; pressed again, it is selected again.
            if let (Some((_, copied)), Some(field)) = (now, field.cast::<HtmlInputElement>())
                && !copied
            {
                // It is in the document; one that cannot take the focus stays as it is.
                let _ = field.focus();
                field.select();
            }
            let later = now.filter(|&(_, copied)| copied).map(|_| {
                let shared = shared.setter();
                Timeout::new(SHARED_MS, move || shared.set(None))
            });
            move || drop(later)
        });
    }
    let press = {
        let (shared, address) = (shared.clone(), address.clone());
        Callback::from(move |()| {
            let Some(address) = address.clone() else { return };
            let times = shared.map_or(0, |(times, _)| times) + 1;
            let shared = shared.setter();
            spawn_local(async move {
                let copied = copy_text(&address).await;
                shared.set(Some((times, copied)));
            });
        })
    };
    let close = {
        let shared = shared.setter();
        Callback::from(move |_: MouseEvent| shared.set(None))
    };
    let card = html! {
        <div class="toasts share" role="status">
            if let (Some((times, copied)), Some(address)) = (*shared, address) {
                <div class="toast" key={times}>
                    <label>
                        <span>{ if copied { "Link copied" } else { "Copy this link" } }</span>
                        <input
                            ref={field}
                            type="text"
                            readonly=true
                            data-testid="share-link"
                            value={address}
                        />
                    </label>
                    <button type="button" class="quiet" onclick={close} aria-label="Close">
                        { sign(Sign::Close) }
                    </button>
                </div>
            }
        </div>
    };
    Share { press, card }
}
