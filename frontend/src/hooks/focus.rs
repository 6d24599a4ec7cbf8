//! The focus: on the main part of a place, and away from what lies open over it.

use gloo_events::EventListener;
use gloo_timers::callback::Timeout;
use wasm_bindgen::JsCast;
use web_sys::{
    Document, Element, FocusOptions, HtmlElement, Node, ScrollBehavior, ScrollToOptions, UiEvent,
};
use yew::prelude::*;

fn document() -> Option<Document> {
    web_sys::window().and_then(|window| window.document())
}

/// The main part of the place at hand. It can have the focus: every place says so.
fn main_part() -> Option<HtmlElement> {
    let main = document()?.query_selector("main").ok().flatten();
    main?.dyn_into().ok()
}

/// Puts the focus on the place at hand.
pub(crate) fn focus_main() {
    if let Some(main) = main_part() {
        let _ = main.focus();
    }
}

/// Puts the focus on the place at hand and scrolls nowhere.
fn focus_main_in_place() {
    if let Some(main) = main_part() {
        let options = FocusOptions::new();
        options.set_prevent_scroll(true);
        let _ = main.focus_with_options(&options);
    }
}

/// Opens a place from its top on, with the focus on its main part.
pub(crate) fn open_place() {
    // The main part alone would be scrolled to, and the header out of sight.
    focus_main_in_place();
    if let Some(window) = web_sys::window() {
        let top = ScrollToOptions::new();
        top.set_top(0.0);
        top.set_behavior(ScrollBehavior::Instant);
        window.scroll_to_with_scroll_to_options(&top);
    }
}

/// Whether the place as a whole has the focus.
pub(crate) fn has_main_focus() -> bool {
    let focused = document().and_then(|document| document.active_element());
    focused.is_some_and(|element| element.tag_name().eq_ignore_ascii_case("main"))
}

/// Whether what had the focus is gone, and nothing has it.
pub(crate) fn has_lost_focus() -> bool {
    let focused = document().and_then(|document| document.active_element());
    focused.is_none_or(|element| element.tag_name().eq_ignore_ascii_case("body"))
}

/// How long what is pressed has to go or to be disabled.
const GONE_MS: u32 = 300;

/// Where a press by the keyboard takes away or disables what was pressed, the place at hand gets the
/// focus: nobody is to begin anew at the top of the document.
#[hook]
pub(crate) fn use_focus_after_press() {
    use_effect_with((), |()| {
        let listener = document().map(|document| {
            EventListener::new(&document, "click", |event| {
                let pressed = event.target().and_then(|target| target.dyn_into::<Element>().ok());
                let focused = self::document().and_then(|document| document.active_element());
                // A key gives no number of clicks; what only a program clicks has no focus.
                let by_key = event.dyn_ref::<UiEvent>().is_some_and(|event| event.detail() == 0);
                if by_key && pressed.is_some() && pressed == focused {
                    Timeout::new(GONE_MS, || {
                        if has_lost_focus() {
                            focus_main_in_place();
                        }
                    })
                    .forget();
                }
            })
        });
        move || drop(listener)
    });
}

/// What the browser shows over the page. One that knows no popovers knows none that are open.
const OPEN_POPOVERS: &str = ":popover-open";

/// Whether an explanation, a menu or the like lies over the page.
pub(super) fn has_open_popover() -> bool {
    let open = document().and_then(|document| document.query_selector(OPEN_POPOVERS).ok());
    open.flatten().is_some()
}

/// Closes what lies open over the page once the focus has left it: it would hide where the focus
/// is. The browser closes it by itself for `Esc` and a click elsewhere only.
#[hook]
pub(crate) fn use_closing_by_focus() {
    use_effect_with((), |()| {
        let listener = document().map(|document| {
            EventListener::new(&document, "focusin", |event| {
                if let Some(focused) = event.target().and_then(|target| target.dyn_into().ok()) {
                    close_left(&focused);
                }
            })
        });
        move || drop(listener)
    });
}

/// Closes every popover that neither holds the element with the focus nor is opened by it.
fn close_left(focused: &Element) {
    let open = document().and_then(|document| document.query_selector_all(OPEN_POPOVERS).ok());
    let Some(open) = open else { return };
    let popovers = (0..open.length()).filter_map(|at| open.get(at)?.dyn_into::<HtmlElement>().ok());
    for popover in popovers {
        let is_inside = popover.contains(Some(focused.unchecked_ref::<Node>()));
        let opens_it = focused.get_attribute("popovertarget").is_some_and(|id| id == popover.id());
        if !is_inside && !opens_it {
            // It is shown, as it was found by that.
            let _ = popover.hide_popover();
        }
    }
}
