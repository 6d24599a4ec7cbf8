//! Copying a text, also where the browser has no clipboard for pages from insecure addresses.

use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Element, HtmlDocument, HtmlTextAreaElement};

/// Copies a text; false if the browser does not allow that.
pub(crate) async fn copy_text(text: &str) -> bool {
    let Some(window) = web_sys::window() else { return false };
    if window.is_secure_context() {
        let written = window.navigator().clipboard().write_text(text);
        if JsFuture::from(written).await.is_ok() {
            return true;
        }
    }
    copy_selection_of(text).unwrap_or(false)
}

/// Copies by selecting the text in a field that is there for a moment.
fn copy_selection_of(text: &str) -> Option<bool> {
    let document = web_sys::window()?.document()?;
    let focus = document.active_element();
    let field: HtmlTextAreaElement = document.create_element("textarea").ok()?.dyn_into().ok()?;
    field.set_value(text);
    field.set_read_only(true);
    field.set_class_name("unseen");
    // What an open dialog lies over can have no focus.
    let dialog = document.query_selector("dialog[open]").ok().flatten();
    let host = dialog.or_else(|| document.body().map(Element::from))?;
    host.append_child(&field).ok()?;
    field.select();
    let copied = document.clone().dyn_into::<HtmlDocument>().ok()?.exec_command("copy");
    field.remove();
    if let Some(focus) = focus.and_then(|focus| focus.dyn_into::<web_sys::HtmlElement>().ok()) {
        // It was there a moment ago.
        let _ = focus.focus();
    }
    Some(copied.unwrap_or(false))
}
