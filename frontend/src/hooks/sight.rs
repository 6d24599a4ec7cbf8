//! What appears or was asked for is brought into sight.

use gloo_timers::callback::Timeout;
use web_sys::{Element, ScrollBehavior, ScrollIntoViewOptions, ScrollLogicalPosition};
use yew::prelude::*;

/// Scrolls no further than it takes to see the place, or its beginning, whenever `shown` changes to
/// another value than none.
#[hook]
pub(crate) fn use_in_sight<T: PartialEq + 'static>(place: &NodeRef, shown: Option<T>) {
    let place = place.clone();
    use_effect_with(shown, move |shown| {
        // The browser first holds in place what was read while this appeared above it.
        let later = shown.as_ref().map(|_| {
            Timeout::new(0, move || {
                let Some(place) = place.cast::<Element>() else { return };
                let options = ScrollIntoViewOptions::new();
                // Of what has no room as a whole, its beginning.
                let room = place.owner_document().and_then(|document| document.document_element());
                let is_tall = room.is_some_and(|room| place.client_height() > room.client_height());
                options.set_block(match is_tall {
                    true => ScrollLogicalPosition::Start,
                    false => ScrollLogicalPosition::Nearest,
                });
                // A glide would end where the place was when it began.
                options.set_behavior(ScrollBehavior::Instant);
                place.scroll_into_view_with_scroll_into_view_options(&options);
            })
        });
        move || drop(later)
    });
}

/// Brings the beginning of the place to the top; whether by a glide, the style sheet says.
pub(crate) fn bring_to_top(place: &Element) {
    let options = ScrollIntoViewOptions::new();
    options.set_block(ScrollLogicalPosition::Start);
    place.scroll_into_view_with_scroll_into_view_options(&options);
}
