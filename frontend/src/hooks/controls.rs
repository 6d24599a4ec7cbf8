//! The settings of this tab, what is on its stage, and what the server offers for them: one state
//! for all places in the page, kept for a reload.

use std::rc::Rc;

use var_dd_protocol::{ErrorCode, JobId, ModelInfo};
use yew::prelude::*;
use yew_router::prelude::*;

use super::{memory, random_below, use_backend};
use crate::{
    route::Route,
    state::{
        address::Address,
        job::Job,
        settings::{PICKED_SEEDS, Settings},
        store::Answer,
        words,
    },
};

/// What is on the stage of the playground.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Current {
    /// What the person asked for, by the tag of the request.
    Asked(u32),
    /// A job from before the page was loaded, or one that was brought here from its own page.
    Resumed(JobId),
    /// Whatever the server has to show.
    Example,
}

/// What this tab remembers above all places.
#[derive(Clone, PartialEq)]
struct Session {
    settings: UseStateHandle<Settings>,
    current: UseStateHandle<Current>,
    link_note: UseStateHandle<Option<LinkNote>>,
}

/// What there is to say of the link that brought the person here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LinkNote {
    pub(crate) words: String,
    /// Whether all of the link could be used.
    is_whole: bool,
    /// The person's own settings before, if there were any.
    pub(crate) before: Option<Settings>,
}

impl LinkNote {
    /// What is left to say once a picture was asked for: of a link that could be used as a whole,
    /// only the way back to one's own settings.
    pub(crate) fn after_drawing(self) -> Option<Self> {
        match self.is_whole {
            false => Some(self),
            true => {
                let words = "The controls have the settings of the link.".to_owned();
                self.before.is_some().then_some(Self { words, ..self })
            }
        }
    }
}

/// Properties of [`SessionProvider`].
#[derive(PartialEq, Properties)]
pub(crate) struct SessionProviderProps {
    pub(crate) children: Html,
}

/// Keeps settings and stage for everything inside: from place to place, and over a reload.
#[component]
pub(crate) fn SessionProvider(props: &SessionProviderProps) -> Html {
    let settings = use_state_eq(|| {
        memory::settings().unwrap_or_else(|| Settings::new(random_below(PICKED_SEEDS)))
    });
    let current = use_state_eq(|| memory::current_job().map_or(Current::Example, Current::Resumed));
    use_effect_with((*settings).clone(), |settings| {
        if settings.chosen {
            memory::keep_settings(settings);
        }
    });
    // Whatever place is shown when the server answers, the stage is kept.
    let store = use_backend().store;
    {
        // A server that began anew may have other models, with other classes and plans.
        let settings = settings.clone();
        let last = use_mut_ref(|| None);
        use_effect_with(store.info.clone(), move |info| {
            let Some(info) = info.clone() else { return };
            let before = last.replace(Some(info.clone()));
            let before = before.as_ref().unwrap_or(&info);
            let Some(model) = settings.model(&info.models) else { return };
            let fitting = (*settings).clone().for_other_model(model, &before.models);
            if (fitting.class, fitting.plan) != (settings.class, settings.plan) {
                settings.set(fitting);
            }
        });
    }
    let job = match &*current {
        Current::Asked(tag) => match store.answer(*tag) {
            Some(Answer::Accepted(job)) => Some(job.clone()),
            _ => None,
        },
        Current::Resumed(job) => Some(job.clone()),
        Current::Example => None,
    };
    // What is deleted or empty is not looked for after a reload.
    let is_gone = job.as_ref().is_some_and(|job| {
        let missing = store.missing(job).is_some_and(|error| error.code == ErrorCode::NotFound);
        missing || store.is_deleted(job) || store.ended_empty(job)
    });
    let shows_nothing = is_gone || matches!(*current, Current::Example);
    use_effect_with((shows_nothing, job), |(shows_nothing, job)| match (shows_nothing, job) {
        (true, _) => memory::forget_current_job(),
        (false, Some(job)) => memory::keep_current_job(job),
        (false, None) => {}
    });
    let link_note = use_state_eq(|| None);
    let session = Session { settings, current, link_note };
    html! { <ContextProvider<Session> context={session}>{ props.children.clone() }</ContextProvider<Session>> }
}

#[hook]
fn use_session() -> Session {
    use_context().expect("components are inside the provider")
}

/// What is on the stage, for whichever place wants to know or to change it.
///
/// # Panics
/// Outside [`SessionProvider`].
#[hook]
pub(crate) fn use_current() -> UseStateHandle<Current> {
    use_session().current
}

/// What became of the link that brought the person here. It stays until it is closed: who generates
/// at once has not read it yet.
///
/// # Panics
/// Outside [`SessionProvider`].
#[hook]
pub(crate) fn use_link_note() -> UseStateHandle<Option<LinkNote>> {
    use_session().link_note
}

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
        Callback::from(move |value| {
            let changed = change((*settings).clone(), value);
            settings.set(Settings { chosen: true, ..changed });
        })
    }

    /// Takes over the settings that gave a job.
    pub(crate) fn take_over(&self, job: &Job) {
        let settings = (*self.settings).clone();
        self.settings.set(settings.of_request(&job.about.request, &self.models));
    }
}

/// The settings of this tab, the loaded models and the chosen one, copied only when they change.
///
/// # Panics
/// Outside [`SessionProvider`].
#[hook]
pub(crate) fn use_controls() -> Controls {
    let settings = use_session().settings;
    use_controls_of(settings)
}

#[hook]
fn use_controls_of(settings: UseStateHandle<Settings>) -> Controls {
    let info = use_backend().store.info.clone();
    let models = use_memo(info, |info| {
        Rc::new(info.as_ref().map(|info| info.models.clone()).unwrap_or_default())
    });
    let model = use_memo(((*models).clone(), settings.model.clone()), |(models, _)| {
        settings.model(models).cloned().map(Rc::new)
    });
    Controls { models: (*models).clone(), model: (*model).clone(), settings }
}

/// A look at what somebody else drew: the place has the settings of its link, and the person's own
/// are left alone.
#[derive(Clone, PartialEq)]
pub(crate) struct Visit {
    own: UseStateHandle<Settings>,
    of_place: UseStateHandle<Settings>,
    is_on: UseStateHandle<bool>,
}

impl Visit {
    /// Whether the place has settings of its own.
    pub(crate) fn is_on(&self) -> bool {
        *self.is_on
    }

    /// Gives the place settings of its own.
    pub(crate) fn begin(&self, settings: Settings) {
        self.of_place.set(settings);
        self.is_on.set(true);
    }

    /// Gives the place the person's own settings.
    pub(crate) fn end(&self) {
        self.is_on.set(false);
    }

    /// Makes the settings of the place the person's own.
    pub(crate) fn keep(&self) {
        self.own.set(Settings { chosen: true, ..(*self.of_place).clone() });
        self.end();
    }
}

/// The controls of a place whose address may bring settings of its own, and the visit by which it
/// has them.
///
/// # Panics
/// Outside [`SessionProvider`].
#[hook]
pub(crate) fn use_visited_controls() -> (Controls, Visit) {
    let own = use_session().settings;
    let of_place = use_state_eq(|| (*own).clone());
    let is_on = use_state_eq(|| false);
    let controls = use_controls_of(if *is_on { of_place.clone() } else { own.clone() });
    (controls, Visit { own, of_place, is_on })
}

/// Keeps the controls in step with what is shown before anything was chosen: `example` is on the
/// stage and its settings are what the controls say.
#[hook]
pub(crate) fn use_settings_of_example(controls: &Controls, example: Option<&Rc<Job>>) {
    let untouched = !controls.settings.chosen && !controls.models.is_empty();
    let example = example.filter(|_| untouched).cloned();
    let id = example.as_ref().map(|example| example.id().clone());
    let (settings, models) = (controls.settings.clone(), controls.models.clone());
    use_effect_with(id, move |_| {
        if let Some(example) = example {
            let taken = (*settings).clone().of_request(&example.about.request, &models);
            settings.set(Settings { chosen: false, ..taken });
        }
    });
}

/// Takes over the settings that the address of the playground asks for, once; they leave the
/// address then, so that a later reload does not bring them back.
#[hook]
pub(crate) fn use_settings_of_address() {
    let controls = use_controls();
    let note = use_link_note();
    let (location, navigator) = (use_location(), use_navigator());
    let address = use_memo(location, |location| {
        let pairs = location.as_ref().map(|location| location.query::<Vec<(String, String)>>());
        pairs.and_then(Result::ok).map(Address::of_pairs).unwrap_or_default()
    });
    let is_here = use_route::<Route>() == Some(Route::Playground);
    let due = (is_here && !address.is_empty() && !controls.models.is_empty()).then_some(address);
    use_effect_with(due, move |due| {
        let (Some(address), Some(navigator)) = (due, navigator) else { return };
        let before = (*controls.settings).clone();
        let (settings, left_out) = address.apply(before.clone(), &controls.models);
        // What nobody chose is nothing to go back to.
        let is_other = before.chosen && settings != before;
        controls.settings.set(settings);
        let is_whole = left_out.is_empty();
        let words = match is_whole {
            true => {
                "The controls have the settings of the link. Generate draws its picture.".into()
            }
            false => words::of_link_left_out(&left_out),
        };
        note.set(Some(LinkNote { words, is_whole, before: is_other.then_some(before) }));
        navigator.replace(&Route::Playground);
    });
}
