//! The server and everything known of it, for all components.

use std::rc::Rc;

use gloo_timers::future::TimeoutFuture;
use var_dd_protocol::{ErrorCode, GenerateRequest, JobId, JobState};
use wasm_bindgen_futures::spawn_local;
use yew::prelude::*;

use super::memory;
use crate::{
    api::{self, Server},
    state::store::{Action, Connection, Store},
};

/// How often, and after how long, a new server is asked for its example.
const EXAMPLE_TRIES: u32 = 8;
const EXAMPLE_PAUSE_MS: u32 = 1_500;

impl Reducible for Store {
    type Action = Action;

    fn reduce(self: Rc<Self>, action: Action) -> Rc<Self> {
        Rc::new(self.after(action))
    }
}

/// The server and what is known of it.
#[derive(Clone, PartialEq)]
pub(crate) struct Backend {
    pub(crate) store: UseReducerHandle<Store>,
    server: Server,
}

impl Backend {
    /// Asks for a job; returns the tag under which the store has the answer.
    pub(crate) fn generate(&self, request: GenerateRequest) -> u32 {
        let now_ms = api::now_ms();
        let tag = self.server.generate(request);
        self.store.dispatch(Action::Asked { tag, now_ms });
        tag
    }

    /// Stops a job of one's own.
    pub(crate) fn cancel(&self, job: &JobId) {
        match memory::owner_token(job) {
            Some(token) => self.server.cancel(job.clone(), token),
            None => self.notice("Only whoever asked for these pictures can stop them."),
        }
    }

    /// Deletes a result of one's own.
    pub(crate) fn delete(&self, job: &JobId) {
        let Some(token) = memory::owner_token(job) else {
            return self.notice("Only whoever asked for these pictures can delete them.");
        };
        let (store, job) = (self.store.dispatcher(), job.clone());
        spawn_local(async move {
            let action = match api::delete(&job, &token).await {
                Ok(()) => Action::Deleted(job),
                Err(error) if error.code == ErrorCode::NotFound => Action::Deleted(job),
                Err(error) => Action::Notice(Some(error.message)),
            };
            store.dispatch(action);
        });
    }

    /// Tells the person something that concerns no job.
    pub(crate) fn notice(&self, text: &str) {
        self.store.dispatch(Action::Notice(Some(text.to_owned())));
    }
}

/// Properties of [`BackendProvider`].
#[derive(PartialEq, Properties)]
pub(crate) struct BackendProviderProps {
    pub(crate) children: Html,
}

/// Connects to the server and gives it to everything inside.
#[component]
pub(crate) fn BackendProvider(props: &BackendProviderProps) -> Html {
    let store = use_reducer_eq(Store::default);
    let server = {
        let dispatch = store.dispatcher();
        use_memo((), move |()| {
            let dispatch = Callback::from(move |action| dispatch.dispatch(action));
            let keep = Callback::from(|(job, token)| memory::keep_owner_token(&job, &token));
            Server::connect(dispatch, keep)
        })
    };
    {
        let dispatch = store.dispatcher();
        // At the start, and after a lost connection: the server may have come back with other
        // models.
        use_effect_with(store.connection.clone(), move |connection| {
            if matches!(connection, Connection::Connecting | Connection::Open) {
                spawn_local(learn_what_is_offered(dispatch));
            }
        });
    }
    let backend = Backend { store, server: (*server).clone() };
    html! { <ContextProvider<Backend> context={backend}>{ props.children.clone() }</ContextProvider<Backend>> }
}

/// Fetches what the server offers; for a while again, if its example is still being drawn.
async fn learn_what_is_offered(store: UseReducerDispatcher<Store>) {
    for _ in 0..EXAMPLE_TRIES {
        let info = api::info().await;
        let complete = info.as_ref().map_or(true, |info| info.example.is_some());
        store.dispatch(Action::Info(info.map(Rc::new)));
        if complete {
            return;
        }
        TimeoutFuture::new(EXAMPLE_PAUSE_MS).await;
    }
}

/// The server and what is known of it.
///
/// # Panics
/// Outside [`BackendProvider`].
#[hook]
pub(crate) fn use_backend() -> Backend {
    use_context().expect("components are inside the provider")
}

/// Fetches a result, and follows it while it runs.
#[hook]
pub(crate) fn use_result(job: Option<JobId>) {
    let backend = use_backend();
    // Once more when a lost connection is back: what could not be had then may be now.
    let is_lost = backend.store.connection == Connection::Lost;
    use_effect_with((job, is_lost), move |(job, is_lost)| {
        let Some(job) = job.clone().filter(|_| !is_lost) else { return };
        spawn_local(async move {
            match api::view(job.as_str()).await {
                Ok(view) => {
                    let runs = matches!(view.state, JobState::Queued | JobState::Running);
                    backend.store.dispatch(Action::View(Rc::new(view)));
                    if runs {
                        backend.server.watch(job);
                    }
                }
                Err(error) => backend.store.dispatch(Action::Missing { job, error }),
            }
        });
    });
}

/// Keeps the list of recent results fresh.
#[hook]
pub(crate) fn use_recent() {
    let backend = use_backend();
    let when = (backend.store.connection == Connection::Open, backend.store.finished());
    let store = backend.store.dispatcher();
    use_effect_with(when, move |_| {
        spawn_local(async move {
            // Without it the page is whole all the same.
            if let Ok(recent) = api::recent().await {
                store.dispatch(Action::Recent(Rc::new(recent)));
            }
        });
    });
}
