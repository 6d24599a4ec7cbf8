//! Files that the page makes and a person keeps.

use wasm_bindgen::JsCast;
use web_sys::{Blob, BlobPropertyBag, HtmlAnchorElement, Url};

/// Hands a file to the browser, which keeps it where downloads go. Whether it could.
pub(crate) fn download(name: &str, media_type: &str, bytes: &[u8]) -> bool {
    let parts = js_sys::Array::of1(&js_sys::Uint8Array::from(bytes));
    let kind = BlobPropertyBag::new();
    kind.set_type(media_type);
    Blob::new_with_u8_array_sequence_and_options(&parts, &kind)
        .is_ok_and(|blob| offer(name, &blob).is_some())
}

fn offer(name: &str, blob: &Blob) -> Option<()> {
    let url = Url::create_object_url_with_blob(blob).ok()?;
    let document = web_sys::window()?.document()?;
    let link: HtmlAnchorElement = document.create_element("a").ok()?.dyn_into().ok()?;
    link.set_href(&url);
    link.set_download(name);
    link.click();
    // The download has its own hold on the bytes once it was begun.
    gloo_timers::callback::Timeout::new(10_000, move || {
        // An address that is gone already is as good.
        let _ = Url::revoke_object_url(&url);
    })
    .forget();
    Some(())
}
