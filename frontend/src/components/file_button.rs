//! A button that lets a person choose a file.

use web_sys::{File, HtmlInputElement};
use yew::prelude::*;

/// A button called `name` that takes a file of one of the media types.
pub(crate) fn file_button(
    testid: &'static str,
    name: &'static str,
    media_types: &[&str],
    is_enabled: bool,
    input: &NodeRef,
    take: &Callback<File>,
) -> Html {
    let take = take.clone();
    let onchange = Callback::from(move |event: Event| {
        let input: HtmlInputElement = event.target_unchecked_into();
        if let Some(file) = input.files().and_then(|files| files.get(0)) {
            take.emit(file);
        }
        // The same file may be chosen again.
        input.set_value("");
    });
    html! {
        <label class={classes!("button", "file-button", (!is_enabled).then_some("disabled"))}>
            <input
                ref={input}
                type="file"
                accept={media_types.join(",")}
                data-testid={testid}
                disabled={!is_enabled}
                {onchange}
            />
            <span>{ name }</span>
        </label>
    }
}
