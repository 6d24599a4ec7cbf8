//! One file per place in the page.

mod compare;
mod missing;
mod playground;
mod result;

pub(crate) use compare::Compare;
pub(crate) use missing::Missing;
pub(crate) use playground::Playground;
pub(crate) use result::ResultPage;

use std::rc::Rc;

use var_dd_protocol::ModelInfo;
use yew::prelude::*;

use crate::{hooks::use_backend, state::settings::Settings};

/// What the server offers, shared: a model may name a thousand classes, and a page is drawn anew for every frame.
#[derive(Clone)]
struct Offer {
    models: Option<Rc<Vec<ModelInfo>>>,
    /// The chosen one.
    model: Option<Rc<ModelInfo>>,
}

/// The loaded models and the chosen one, copied only when they change.
#[hook]
fn use_offer(settings: &Settings) -> Offer {
    let info = use_backend().store.info.clone();
    let models = use_memo(info, |info| info.as_ref().map(|info| Rc::new(info.models.clone())));
    let model = use_memo((models.clone(), settings.model.clone()), |(models, _)| {
        models.as_ref().as_ref().and_then(|models| settings.model(models)).cloned().map(Rc::new)
    });
    Offer { models: (*models).clone(), model: (*model).clone() }
}

/// A callback that changes one thing of the settings.
fn set<T: 'static>(
    settings: &UseStateHandle<Settings>,
    change: impl Fn(Settings, T) -> Settings + 'static,
) -> Callback<T> {
    let settings = settings.clone();
    Callback::from(move |value| settings.set(change((*settings).clone(), value)))
}
