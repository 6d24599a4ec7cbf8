//! Keys of the whole page. Off while typing.

use gloo_events::EventListener;
use wasm_bindgen::JsCast;
use web_sys::{Element, HtmlElement, KeyboardEvent};
use yew::prelude::*;

use super::{
    focus::has_open_popover,
    memory::{keep_preference, preference, preference_names::LETTERS},
};

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
    /// Show the picture large.
    LookCloser,
    /// Compare plans.
    Compare,
    /// Show the list of keys.
    List,
}

impl Key {
    /// Every key, as it is shown, with what it does.
    pub(crate) const LIST: [(&str, &str); 11] = [
        ("/", "look for a class"),
        ("Enter", "generate"),
        ("r", "new seed"),
        ("← →", "one scale back or on"),
        ("Space", "play, pause, or skip to the finished picture"),
        ("f", "look closer, over the whole window"),
        ("s", "copy the link"),
        ("Esc", "cancel"),
        ("c", "compare plans"),
        ("?", "this list"),
        ("Tab", "from control to control"),
    ];

    fn of(event: &KeyboardEvent) -> Option<Self> {
        if event.ctrl_key() || event.alt_key() || event.meta_key() || event.default_prevented() {
            return None;
        }
        if is_composing(event) {
            return None;
        }
        let key = Self::named(&event.key(), &event.code())?;
        // What lies open over the page closes first.
        if key == Self::Cancel && has_open_popover() {
            return None;
        }
        if key.is_letter() && !letters_are_keys() {
            return None;
        }
        // A key that is held down scrubs; it does not ask for a hundred pictures.
        if event.repeat() && !matches!(key, Self::Back | Self::On) {
            return None;
        }
        let target = event.target().and_then(|target| target.dyn_into::<Element>().ok());
        target.is_none_or(|target| key.is_free_on(&target)).then_some(key)
    }

    /// The key by the sign it makes.
    fn named(key: &str, code: &str) -> Option<Self> {
        Some(match sign(key, code).as_str() {
            "/" => Self::Search,
            "Enter" => Self::Generate,
            "r" => Self::NewSeed,
            "ArrowLeft" => Self::Back,
            "ArrowRight" => Self::On,
            " " => Self::Play,
            "f" => Self::LookCloser,
            "s" => Self::Share,
            "Escape" => Self::Cancel,
            "c" => Self::Compare,
            "?" => Self::List,
            _ => return None,
        })
    }

    /// Whether it is a single sign, which some people's tools type by themselves.
    fn is_letter(self) -> bool {
        matches!(
            self,
            Self::Search
                | Self::NewSeed
                | Self::LookCloser
                | Self::Share
                | Self::Compare
                | Self::List
        )
    }

    /// Whether the element with the focus has no use of its own for the key.
    fn is_free_on(self, focus: &Element) -> bool {
        // An open dialog has the keyboard to itself.
        if focus.closest("dialog").ok().flatten().is_some() {
            return false;
        }
        let editable = focus.dyn_ref::<HtmlElement>().is_some_and(HtmlElement::is_content_editable);
        let kind = focus.get_attribute("type").unwrap_or_default();
        !editable && self.is_free_in(&focus.tag_name(), &kind)
    }

    /// Whether elements of a tag, and fields of a type, have no use of their own for the key.
    fn is_free_in(self, tag: &str, kind: &str) -> bool {
        match (tag, kind) {
            ("TEXTAREA" | "SELECT", _) => false,
            ("INPUT", "radio" | "checkbox") => !matches!(self, Self::Play | Self::Back | Self::On),
            // Enter chooses a file, and whoever moves a slider is not done with it.
            ("INPUT", "file" | "range") => false,
            // Whoever has typed is ready to see it.
            ("INPUT", _) => self == Self::Generate,
            ("BUTTON" | "A" | "SUMMARY" | "OPTION", _) => {
                !matches!(self, Self::Play | Self::Generate)
            }
            _ => true,
        }
    }
}

/// The sign that a key makes; where the layout makes no Latin letter (Cyrillic, Greek), that of its
/// place on the keyboard.
fn sign(key: &str, code: &str) -> String {
    // Latin letters with marks and without dots are none of the plain ones.
    let is_latin = |sign: char| sign < '\u{250}';
    let is_foreign = key.chars().count() == 1 && !key.chars().all(is_latin);
    match code.strip_prefix("Key").filter(|_| is_foreign) {
        Some(letter) => letter.to_ascii_lowercase(),
        // On a Russian layout the key that has both signs makes a full stop.
        None if code == "Slash" && (is_foreign || key == ".") => "/".to_owned(),
        None if key.len() == 1 => key.to_ascii_lowercase(),
        None => key.to_owned(),
    }
}

/// The sign of a key that was pressed, as shortcuts know it.
pub(crate) fn sign_of(event: &KeyboardEvent) -> String {
    sign(&event.key(), &event.code())
}

/// Whether a key belongs to a composition (Chinese, Japanese, Korean…), the one that ends it
/// included, which Safari tells by its number alone.
pub(crate) fn is_composing(event: &KeyboardEvent) -> bool {
    const OF_COMPOSITION: u32 = 229;
    event.is_composing() || event.key() == "Process" || event.key_code() == OF_COMPOSITION
}

/// Whether it is Enter held down on a button, which the browser would press again and again.
fn presses_again(event: &KeyboardEvent) -> bool {
    let target = event.target().and_then(|target| target.dyn_into::<Element>().ok());
    event.repeat()
        && event.key() == "Enter"
        && target.is_some_and(|target| matches!(target.tag_name().as_str(), "BUTTON" | "SUMMARY"))
}

/// Whether single letters are keys of the page.
pub(crate) fn letters_are_keys() -> bool {
    preference(LETTERS).as_deref() != Some("off")
}

/// Turns the keys that are single letters on or off.
pub(crate) fn keep_letters(are_keys: bool) {
    keep_preference(LETTERS, if are_keys { "on" } else { "off" });
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
                if presses_again(event) {
                    return event.prevent_default();
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_by_their_sign_and_on_other_alphabets_by_their_place() {
        for (key, code, expected) in [
            ("r", "KeyR", Some(Key::NewSeed)),
            ("R", "KeyR", Some(Key::NewSeed)),
            // A Dvorak layout has its letters elsewhere.
            ("r", "KeyO", Some(Key::NewSeed)),
            ("к", "KeyR", Some(Key::NewSeed)),
            ("ρ", "KeyR", Some(Key::NewSeed)),
            ("с", "KeyC", Some(Key::Compare)),
            ("Enter", "NumpadEnter", Some(Key::Generate)),
            (".", "Slash", Some(Key::Search)),
            (".", "Period", None),
            ("?", "Minus", Some(Key::List)),
            ("x", "KeyR", None),
            ("й", "KeyQ", None),
            // A Turkish layout has a letter of its own there.
            ("ı", "KeyR", None),
            ("F5", "F5", None),
        ] {
            assert_eq!(Key::named(key, code), expected, "{key} at {code}");
        }
    }

    #[test]
    fn enter_draws_from_where_one_types_and_not_from_what_has_a_use_for_it() {
        for (tag, kind, expected) in [
            ("INPUT", "text", true),
            ("INPUT", "", true),
            ("INPUT", "radio", true),
            ("DIV", "", true),
            ("INPUT", "file", false),
            ("INPUT", "range", false),
            ("SELECT", "", false),
            ("BUTTON", "button", false),
        ] {
            assert_eq!(Key::Generate.is_free_in(tag, kind), expected, "{tag} {kind}");
        }
        assert!(!Key::Back.is_free_in("INPUT", "range"), "the slider moves by it");
        assert!(Key::Back.is_free_in("BUTTON", "button"));
    }
}
