//! Colours and title of the document.

use yew::prelude::*;

use super::memory;

/// Which colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Theme {
    /// Those of the system.
    #[default]
    Auto,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    /// Its name, for people and attributes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// The one after it.
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Auto => Self::Light,
            Self::Light => Self::Dark,
            Self::Dark => Self::Auto,
        }
    }

    fn remembered() -> Self {
        let name = memory::theme();
        Self::ALL
            .into_iter()
            .find(|theme| Some(theme.name()) == name.as_deref())
            .unwrap_or_default()
    }
}

/// The colours, and how to change them.
#[hook]
pub(crate) fn use_theme() -> (Theme, Callback<Theme>) {
    let theme = use_state_eq(Theme::remembered);
    use_effect_with(*theme, |theme| {
        let root = web_sys::window()
            .and_then(|window| window.document())
            .and_then(|doc| doc.document_element());
        if let Some(root) = root {
            // The style sheet has a rule for each.
            let _ = root.set_attribute("data-theme", theme.name());
        }
    });
    let choose = {
        let theme = theme.setter();
        Callback::from(move |chosen: Theme| {
            memory::keep_theme(chosen.name());
            theme.set(chosen);
        })
    };
    (*theme, choose)
}

/// Gives the document a title while the component is there.
#[hook]
pub(crate) fn use_title(title: String) {
    use_effect_with(title, |title| {
        if let Some(document) = web_sys::window().and_then(|window| window.document()) {
            document.set_title(&format!("{title} · VAR-DD playground"));
        }
    });
}
