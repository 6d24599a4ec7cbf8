//! The settings of a page, and what the server offers for them.

use std::rc::Rc;

use var_dd_protocol::ModelInfo;
use yew::prelude::*;

use super::{random_below, use_backend};
use crate::state::settings::{PICKED_SEEDS, Settings};

/// What a person sets on a page, and what there is to choose from, shared: a model may name a
/// thousand classes, and a page is drawn anew for every frame.
#[derive(Clone, PartialEq)]
pub(crate) struct Controls {
    pub(crate) settings: UseStateHandle<Settings>,
    /// Empty until the server told them.
    pub(crate) models: Rc<Vec<ModelInfo>>,
    /// The chosen one.
    pub(crate) model: Option<Rc<ModelInfo>>,
}

impl Controls {
    /// A callback that changes one thing of the settings.
    pub(crate) fn set<T: 'static>(
        &self,
        change: impl Fn(Settings, T) -> Settings + 'static,
    ) -> Callback<T> {
        let settings = self.settings.clone();
        Callback::from(move |value| settings.set(change((*settings).clone(), value)))
    }
}

/// Settings of a first visit, the loaded models and the chosen one, copied only when they change.
#[hook]
pub(crate) fn use_controls() -> Controls {
    let settings = use_state_eq(|| Settings::new(random_below(PICKED_SEEDS)));
    let info = use_backend().store.info.clone();
    let models = use_memo(info, |info| {
        Rc::new(info.as_ref().map(|info| info.models.clone()).unwrap_or_default())
    });
    let model = use_memo(((*models).clone(), settings.model.clone()), |(models, _)| {
        settings.model(models).cloned().map(Rc::new)
    });
    Controls { models: (*models).clone(), model: (*model).clone(), settings }
}
