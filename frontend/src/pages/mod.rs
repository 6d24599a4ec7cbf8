//! One file per place in the page.

mod compare;
mod missing;
mod playground;
mod result;

pub(crate) use compare::Compare;
pub(crate) use missing::Missing;
pub(crate) use playground::Playground;
pub(crate) use result::ResultPage;

use yew::prelude::*;

use crate::state::settings::Settings;

/// A callback that changes one thing of the settings.
fn set<T: 'static>(
    settings: &UseStateHandle<Settings>,
    change: impl Fn(Settings, T) -> Settings + 'static,
) -> Callback<T> {
    let settings = settings.clone();
    Callback::from(move |value| settings.set(change((*settings).clone(), value)))
}
