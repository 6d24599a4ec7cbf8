//! Keys of the whole page. Off while typing.

use gloo_events::EventListener;
use wasm_bindgen::JsCast;
use web_sys::{Element, HtmlElement, KeyboardEvent};
use yew::prelude::*;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Look for a class.
    Search,
    /// Generate.
    Generate,
    /// Pick a new seed.
    NewSeed,
    /// One scale back.
    Back,
    /// One scale on.
    On,
    /// Play, or hold.
    Play,
    /// Share.
    Share,
    /// Cancel.
    Cancel,
    /// Compare plans.
    Compare,
    /// Show the list of keys.
    List,
}

impl Key {
    /// Every key, as it is shown, with what it does.
    pub(crate) const LIST: [(&str, &str); 10] = [
        ("/", "look for a class"),
        ("Enter", "generate"),
        ("r", "new seed"),
        ("← →", "one scale back or on"),
        ("Space", "play, hold"),
        ("s", "share"),
        ("Esc", "cancel"),
        ("c", "compare plans"),
        ("?", "this list"),
        ("Tab", "from control to control"),
    ];

    fn of(event: &KeyboardEvent) -> Option<Self> {
        if event.ctrl_key() || event.alt_key() || event.meta_key() || event.default_prevented() {
            return None;
        }
        let key = match event.key().as_str() {
            "/" => Self::Search,
            "Enter" => Self::Generate,
            "r" | "R" => Self::NewSeed,
            "ArrowLeft" => Self::Back,
            "ArrowRight" => Self::On,
            " " => Self::Play,
            "s" | "S" => Self::Share,
            "Escape" => Self::Cancel,
            "c" | "C" => Self::Compare,
            "?" => Self::List,
            _ => return None,
        };
        let target = event.target().and_then(|target| target.dyn_into::<Element>().ok());
        target.is_none_or(|target| key.is_free_on(&target)).then_some(key)
    }

    /// Whether the element with the focus has no use of its own for the key.
    fn is_free_on(self, focus: &Element) -> bool {
        // An open dialog has the keyboard to itself.
        if focus.closest("dialog").ok().flatten().is_some() {
            return false;
        }
        let editable = focus.dyn_ref::<HtmlElement>().is_some_and(HtmlElement::is_content_editable);
        let kind = focus.get_attribute("type").unwrap_or_default();
        match focus.tag_name().as_str() {
            "TEXTAREA" | "SELECT" => false,
            "INPUT" if matches!(kind.as_str(), "radio" | "checkbox") => {
                !matches!(self, Self::Play | Self::Back | Self::On)
            }
            "INPUT" => false,
            "BUTTON" | "A" | "SUMMARY" => !matches!(self, Self::Play | Self::Generate),
            _ => !editable,
        }
    }
}

/// Hears the keys of the page while the component is there. `heard` says whether it had a use for
/// the key; what one component has no use for is left to the others and to the browser.
#[hook]
pub(crate) fn use_keys(heard: Callback<Key, bool>) {
    // The listener stays; what it calls changes with every drawing.
    let latest = use_mut_ref(|| heard.clone());
    *latest.borrow_mut() = heard;
    use_effect_with((), move |()| {
        let document = web_sys::window().and_then(|window| window.document());
        let listener = document.map(|document| {
            let options = gloo_events::EventListenerOptions::enable_prevent_default();
            EventListener::new_with_options(&document, "keydown", options, move |event| {
                let Some(event) = event.dyn_ref::<KeyboardEvent>() else { return };
                let Some(key) = Key::of(event) else { return };
                let heard = latest.borrow().clone();
                if heard.emit(key) {
                    event.prevent_default();
                }
            })
        });
        move || drop(listener)
    });
}
