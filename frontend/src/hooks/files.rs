//! Files that a person drops on the page or pastes into it.

use std::cell::RefCell;

use gloo_events::{EventListener, EventListenerOptions};
use wasm_bindgen::JsCast;
use web_sys::{ClipboardEvent, DataTransfer, DragEvent, Event, File};
use yew::prelude::*;

thread_local! {
    /// A file that goes from one place in the page to another.
    static HANDED_OVER: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// Leaves a file for the place that is opened next.
pub(crate) fn hand_over(file: File) {
    HANDED_OVER.replace(Some(file));
}

/// The file that the place before left, once.
pub(crate) fn take_handed_over() -> Option<File> {
    HANDED_OVER.take()
}

/// Takes a file that is dropped or pasted anywhere on the page; whether one is being dragged over
/// it.
#[hook]
pub(crate) fn use_files(take: &Callback<File>) -> bool {
    let dragged = use_state_eq(|| false);
    let newest = use_mut_ref(|| take.clone());
    newest.replace(take.clone());
    {
        let dragged = dragged.setter();
        use_effect_with((), move |()| {
            let listeners = web_sys::window().map(|window| {
                let over = {
                    let dragged = dragged.clone();
                    listener(&window, "dragover", move |event: &DragEvent| {
                        let has_file = event.data_transfer().is_some_and(|data| holds_file(&data));
                        if has_file {
                            // Else the browser would open it in place of the page.
                            event.prevent_default();
                            dragged.set(true);
                        }
                    })
                };
                let leave = {
                    let dragged = dragged.clone();
                    listener(&window, "dragleave", move |event: &DragEvent| {
                        // From one element to the next is not out of the window.
                        if event.related_target().is_none() {
                            dragged.set(false);
                        }
                    })
                };
                let drop = {
                    let newest = newest.clone();
                    listener(&window, "drop", move |event: &DragEvent| {
                        dragged.set(false);
                        if let Some(file) = event.data_transfer().as_ref().and_then(first) {
                            event.prevent_default();
                            newest.borrow().emit(file);
                        }
                    })
                };
                let paste = listener(&window, "paste", move |event: &ClipboardEvent| {
                    if let Some(file) = event.clipboard_data().as_ref().and_then(first) {
                        newest.borrow().emit(file);
                    }
                });
                [over, leave, drop, paste]
            });
            move || drop(listeners)
        });
    }
    *dragged
}

fn listener<E: JsCast>(
    window: &web_sys::Window,
    kind: &'static str,
    act: impl Fn(&E) + 'static,
) -> EventListener {
    let options = EventListenerOptions::enable_prevent_default();
    EventListener::new_with_options(window, kind, options, move |event: &Event| {
        if let Some(event) = event.dyn_ref::<E>() {
            act(event);
        }
    })
}

fn holds_file(data: &DataTransfer) -> bool {
    data.types().iter().any(|kind| kind == "Files")
}

fn first(data: &DataTransfer) -> Option<File> {
    data.files().and_then(|files| files.get(0))
}
