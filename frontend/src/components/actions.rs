//! Share, download, delete.

use std::rc::Rc;

use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::HtmlInputElement;
use yew::prelude::*;

use crate::{
    api,
    hooks::{Key, owner_token, use_backend, use_keys},
    state::job::Job,
};

/// Properties of [`Actions`].
#[derive(PartialEq, Properties)]
pub(crate) struct ActionsProps {
    pub(crate) job: Rc<Job>,
    /// The picture brought forward, if any.
    pub(crate) forward: Option<usize>,
}

/// What can be done with a result.
#[component]
pub(crate) fn Actions(props: &ActionsProps) -> Html {
    let backend = use_backend();
    let job = &props.job;
    let id = job.id().clone();
    let link = use_node_ref();
    // Whether the link is shown, and whether it was copied.
    let shared = use_state_eq(|| None::<bool>);
    let with_parameters = use_state_eq(|| true);
    {
        let shared = shared.setter();
        use_effect_with(id.clone(), move |_| shared.set(None));
    }
    let address = api::link(&id, props.forward);
    let share = {
        let (shared, address) = (shared.setter(), address.clone());
        Callback::from(move |()| copy(address.clone(), shared.clone()))
    };
    {
        let share = share.clone();
        use_keys(Callback::from(move |key| {
            let wanted = key == Key::Share;
            if wanted {
                share.emit(());
            }
            wanted
        }));
    }
    {
        let link = link.clone();
        use_effect_with(*shared, move |shared| {
            if let (Some(false), Some(link)) = (shared, link.cast::<HtmlInputElement>()) {
                link.select();
            }
        });
    }
    let own = owner_token(&id).is_some();
    let pictures: Vec<usize> = match props.forward {
        Some(picture) => vec![picture],
        None => (0..job.frames.len()).collect(),
    };
    let delete = {
        let (backend, id) = (backend.clone(), id.clone());
        Callback::from(move |_: MouseEvent| backend.delete(&id))
    };
    let on_parameters = {
        let with_parameters = with_parameters.setter();
        Callback::from(move |event: Event| {
            with_parameters.set(event.target_unchecked_into::<HtmlInputElement>().checked());
        })
    };
    html! {
        <div class="actions">
            <div class="row">
                <button type="button" data-testid="share" onclick={share.reform(|_: MouseEvent| ())} title="Share (s)">
                    { "Copy link" }
                </button>
                if job.is_finished() {
                    { for pictures.iter().map(|&picture| html! {
                        <a
                            key={picture}
                            class="button"
                            data-testid={(picture == pictures[0]).then_some("download")}
                            href={api::download_path(&id, picture, *with_parameters)}
                            download=""
                        >{ if pictures.len() == 1 { "Download".to_owned() } else { format!("↓ {}", picture + 1) } }</a>
                    }) }
                    <label class="tick">
                        <input type="checkbox" checked={*with_parameters} onchange={on_parameters} />
                        <span>{ "with its settings inside" }</span>
                    </label>
                }
                if own && job.state.is_final() {
                    <button type="button" class="quiet" data-testid="delete" onclick={delete}>{ "Delete" }</button>
                }
            </div>
            if let Some(copied) = *shared {
                <label class="link">
                    <span role="status">{ if copied { "Link copied" } else { "Copy this link" } }</span>
                    <input ref={link} type="text" readonly=true data-testid="share-link" value={address} />
                </label>
            }
        </div>
    }
}

/// Copies the link; shows it for copying by hand where the browser does not allow that.
fn copy(address: String, shared: UseStateSetter<Option<bool>>) {
    let window = web_sys::window();
    // Pages from insecure addresses have no clipboard.
    let clipboard = window
        .filter(|window| window.is_secure_context())
        .map(|window| window.navigator().clipboard());
    spawn_local(async move {
        let copied = match clipboard {
            Some(clipboard) => JsFuture::from(clipboard.write_text(&address)).await.is_ok(),
            None => false,
        };
        shared.set(Some(copied));
    });
}
