//! What waits and runs of one's own, from any tab of this browser: a drawer beside every place.

use web_sys::HtmlDialogElement;
use yew::prelude::*;

use crate::{
    hooks::{focus_main, use_backend},
    state::{queue, words},
};

/// The button that opens the drawer, as long as something waits or runs, and the drawer.
#[component]
pub(crate) fn Queue() -> Html {
    let backend = use_backend();
    let store = &backend.store;
    let is_open = use_state_eq(|| false);
    let dialog = use_node_ref();
    // Jobs of other tabs are followed while somebody looks.
    let unknown: Vec<_> = store
        .mine
        .unfinished()
        .map(|own| own.id.clone())
        .filter(|id| store.job(id).is_none() && store.missing(id).is_none())
        .collect();
    {
        let backend = backend.clone();
        use_effect_with((*is_open, unknown.clone()), move |(is_open, unknown)| {
            if *is_open {
                backend.follow(unknown.clone());
            }
        });
    }
    {
        let dialog = dialog.clone();
        use_effect_with(*is_open, move |is_open| {
            if let Some(dialog) = dialog.cast::<HtmlDialogElement>().filter(|_| *is_open) {
                // It is in the document and closed, so that nothing can go wrong.
                let _ = dialog.show_modal();
            }
        });
    }
    let jobs = store.unfinished_own();
    let count = jobs.len() + unknown.len();
    if count == 0 && !*is_open {
        return Html::default();
    }
    let open = {
        let is_open = is_open.setter();
        Callback::from(move |_: MouseEvent| is_open.set(true))
    };
    let onclose = {
        let is_open = is_open.setter();
        Callback::from(move |_: Event| {
            is_open.set(false);
            // The button that opened it goes with the last job.
            if count == 0 {
                focus_main();
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
    let cancel_all = {
        let (backend, jobs) = (backend.clone(), jobs.clone());
        Callback::from(move |_: MouseEvent| jobs.iter().for_each(|job| backend.cancel(job.id())))
    };
    html! {
        <>
            <button
                type="button"
                class="quiet queue-open"
                data-testid="queue-open"
                data-count={count.to_string()}
                aria-label={format!("Queue: {count} of yours wait or run")}
                onclick={open}
            >{ count }</button>
            if *is_open {
                <dialog
                    ref={dialog}
                    class="drawer"
                    data-testid="queue"
                    aria-labelledby="queue-title"
                    {onclose}
                >
                    <h2 id="queue-title">{ "Queue" }</h2>
                    <p class="hint">{ "What you asked for in this browser, in any tab." }</p>
                    if count == 0 {
                        <p role="status">{ "Nothing waits or runs." }</p>
                    }
                    <ol>
                        { for jobs.iter().map(|job| {
                            let what = format!(
                                "{}, {}", job.about.class_name, words::plan(&job.about)
                            );
                            let estimate =
                                store.estimated_ms(&job.about.request, &job.about.patch_nums);
                            let (backend, id) = (backend.clone(), job.id().clone());
                            html! {
                                <li
                                    key={job.id().to_string()}
                                    data-testid="queued"
                                    data-job={job.id().to_string()}
                                >
                                    <p>
                                        <strong>{ what.clone() }</strong>
                                        <span class="hint">{ words::state(job) }</span>
                                        <span class="hint">
                                            { queue::time_left(job, estimate) }
                                        </span>
                                    </p>
                                    <button
                                        type="button"
                                        data-testid="queue-cancel"
                                        aria-label={format!("Cancel {what}")}
                                        onclick={Callback::from(move |_: MouseEvent| {
                                            backend.cancel(&id);
                                        })}
                                    >{ "Cancel" }</button>
                                </li>
                            }
                        }) }
                    </ol>
                    <div class="actions">
                        if jobs.len() > 1 {
                            <button
                                type="button"
                                data-testid="queue-cancel-all"
                                onclick={cancel_all}
                            >{ "Cancel all" }</button>
                        }
                        <button type="button" data-testid="queue-close" onclick={close}>
                            { "Close" }
                        </button>
                    </div>
                </dialog>
            }
        </>
    }
}
