//! Sharing a result: its link is copied, and shown for copying by hand or as a code for a camera.

use std::rc::Rc;

use gloo_timers::callback::Timeout;
use wasm_bindgen_futures::spawn_local;
use web_sys::HtmlInputElement;
use yew::prelude::*;

use super::{Sign, sign};
use crate::{api, hooks::copy_text, state::job::Job};

/// How long the link stays in sight after it was copied, if nobody is at it.
const SHARED_MS: u32 = 4_000;

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
    let has_code = use_state_eq(|| false);
    let is_held = use_state_eq(|| false);
    let has_focus = use_state_eq(|| false);
    let address = job.map(|job| api::link(job.id(), forward));
    {
        let (shared, has_code) = (shared.setter(), has_code.setter());
        let (is_held, has_focus) = (is_held.setter(), has_focus.setter());
        use_effect_with(address.clone(), move |_| {
            shared.set(None);
            has_code.set(false);
            is_held.set(false);
            has_focus.set(false);
        });
    }
    {
        let field = field.clone();
        let when = (*shared, *has_code, *is_held);
        use_effect_with(when, move |&(now, has_code, is_held)| {
            // To copy by hand; pressed again, it is selected again.
            if let (Some((_, copied)), Some(field)) = (now, field.cast::<HtmlInputElement>())
                && !copied
                && !has_code
                && !is_held
            {
                // It is in the document; one that cannot take the focus stays as it is.
                let _ = field.focus();
                field.select();
            }
        });
    }
    {
        // Whoever is aiming a camera, or on the way to a button, is given the time.
        let stays = *has_code || *is_held || *has_focus;
        let shared = shared.clone();
        use_effect_with((*shared, stays), move |&(now, stays)| {
            let later = now.filter(|&(_, copied)| copied && !stays).map(|_| {
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
        let (shared, has_code) = (shared.setter(), has_code.setter());
        let (is_held, has_focus) = (is_held.setter(), has_focus.setter());
        Callback::from(move |_: MouseEvent| {
            shared.set(None);
            has_code.set(false);
            is_held.set(false);
            has_focus.set(false);
        })
    };
    let on_code = {
        let has_code = has_code.clone();
        Callback::from(move |_: MouseEvent| has_code.set(!*has_code))
    };
    let hold = |holds: bool| {
        let is_held = is_held.setter();
        Callback::from(move |_: PointerEvent| is_held.set(holds))
    };
    let hold_by_focus = |holds: bool| {
        let has_focus = has_focus.setter();
        Callback::from(move |_: FocusEvent| has_focus.set(holds))
    };
    let card = html! {
        <div class="toasts share" role="status">
            if let (Some((times, copied)), Some(address)) = (*shared, address) {
                <div
                    class="toast"
                    key={times}
                    onpointerenter={hold(true)}
                    onpointerleave={hold(false)}
                    onfocusin={hold_by_focus(true)}
                    onfocusout={hold_by_focus(false)}
                >
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
                    <button
                        type="button"
                        data-testid="share-code"
                        aria-expanded={has_code.to_string()}
                        onclick={on_code}
                    >{ "QR code" }</button>
                    <button
                        type="button"
                        class="quiet"
                        data-testid="share-close"
                        onclick={close}
                        aria-label="Close"
                    >{ sign(Sign::Close) }</button>
                    if let Some(job) = job.filter(|_| *has_code) {
                        <img
                            class="code"
                            src={api::qr_path(job.id())}
                            alt="The link as a QR code"
                            data-testid="share-code-picture"
                        />
                    }
                </div>
            }
        </div>
    };
    Share { press, card }
}
