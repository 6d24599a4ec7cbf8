//! The focus on the main part of a place.

use wasm_bindgen::JsCast;
use web_sys::{Document, HtmlElement};

fn document() -> Option<Document> {
    web_sys::window().and_then(|window| window.document())
}

/// Puts the focus on the place at hand.
pub(crate) fn focus_main() {
    let main = document().and_then(|document| document.query_selector("main").ok().flatten());
    if let Some(main) = main.and_then(|main| main.dyn_into::<HtmlElement>().ok()) {
        // It can have the focus: every place says so.
        let _ = main.focus();
    }
}

/// Whether the place as a whole has the focus.
pub(crate) fn has_main_focus() -> bool {
    let focused = document().and_then(|document| document.active_element());
    focused.is_some_and(|element| element.tag_name().eq_ignore_ascii_case("main"))
}
