//! The server and everything known of it, for all components.

use std::{cell::RefCell, rc::Rc};

use futures_channel::oneshot::Receiver;
use gloo_events::EventListener;
use gloo_timers::{callback::Timeout, future::TimeoutFuture};
use var_dd_protocol::{ErrorBody, ErrorCode, GenerateRequest, JobId, JobState, OwnerToken};
use wasm_bindgen_futures::spawn_local;
use yew::prelude::*;

use super::{archive, gathered::gathered, memory};
use crate::{
    api::{self, Server},
    state::{
        history::Entry,
        store::{Action, Connection, Store},
    },
};

/// How often, and after how long, a new server is asked for its example.
const EXAMPLE_TRIES: u32 = 8;
const EXAMPLE_PAUSE_MS: u32 = 1_500;

/// How long a deletion can be taken back.
pub(crate) const UNDO_MS: u32 = 8_000;

/// How long after that another tab is taken to be gone.
const UNDO_SLACK_MS: u32 = 2_000;

/// Changes within this time are one reason to ask for recent results.
const RECENT_MS: u32 = 150;

/// Own jobs from before the page was loaded that are looked after.
const MOST_RESUMED: usize = 8;

/// Deletions that can still be taken back, each with what will do it.
#[derive(Clone, Default)]
struct Waiting(Rc<RefCell<Vec<(JobId, OwnerToken, Timeout)>>>);

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Waiting {
    /// Takes a deletion out; false if it does not wait.
    fn take(&self, job: &JobId) -> bool {
        let mut waiting = self.0.borrow_mut();
        let at = waiting.iter().position(|(other, ..)| other == job);
        at.map(|at| waiting.swap_remove(at)).is_some()
    }
}

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
    deleting: Waiting,
}

impl Backend {
    /// Asks for a job; returns the tag under which the store has the answer.
    pub(crate) fn generate(&self, request: GenerateRequest) -> u32 {
        self.ask(request, true)
    }

    /// As [`Backend::generate`], for what is looked at and not the person's own: the history leaves
    /// it out.
    pub(crate) fn generate_in_passing(&self, request: GenerateRequest) -> u32 {
        self.ask(request, false)
    }

    fn ask(&self, request: GenerateRequest, is_remembered: bool) -> u32 {
        let now_ms = api::now_ms();
        let tag = self.server.generate(request);
        self.store.dispatch(Action::Asked { tag, now_ms, is_remembered });
        tag
    }

    /// Asks for a finished picture that is kept nowhere, as [`Server::preview`] does.
    pub(crate) fn preview(&self, request: GenerateRequest) -> Option<Receiver<api::Outcome>> {
        self.server.preview(request)
    }

    /// Stops a job of one's own.
    pub(crate) fn cancel(&self, job: &JobId) {
        match memory::owner_token(job) {
            Some(token) => {
                self.server.cancel(job.clone(), token);
                if !self.store.connection.is_usable() {
                    self.notice("There is no connection; this is cancelled as soon as it is back.");
                }
            }
            None => self.notice("Only whoever asked for these pictures can stop them."),
        }
    }

    /// Deletes a result of one's own, unless that is taken back within [`UNDO_MS`].
    pub(crate) fn delete(&self, job: &JobId) {
        let Some(token) = memory::owner_token(job) else {
            return self.notice("Only whoever asked for these pictures can delete them.");
        };
        self.delete_by(job, token);
    }

    /// Deletes own results, unless that is taken back within [`UNDO_MS`]; those whose secret is not
    /// known are taken off the list of this browser alone, at once.
    pub(crate) fn delete_all(&self, entries: &[Entry]) {
        let mut unowned = Vec::new();
        for entry in entries {
            let id = &entry.own.id;
            match entry.owner_token.clone().or_else(|| memory::owner_token(id)) {
                Some(token) => self.delete_by(id, token),
                None => unowned.push(id.clone()),
            }
        }
        unowned.iter().for_each(|id| forget(&self.store.dispatcher(), id));
    }

    fn delete_by(&self, job: &JobId, token: OwnerToken) {
        if self.store.is_deleted(job) {
            return;
        }
        let (store, deleting, id) = (self.store.dispatcher(), self.deleting.clone(), job.clone());
        store.dispatch(Action::Deleting(id.clone()));
        memory::keep_deletion(&id, &token, js_sys::Date::now() + f64::from(UNDO_MS));
        let secret = token.clone();
        let later = Timeout::new(UNDO_MS, move || {
            deleting.take(&id);
            if !memory::has_deletion(&id) {
                return store.dispatch(Action::Kept(id));
            }
            spawn_local(async move {
                if let Err(error) = carry_out(&store, &id, &secret).await {
                    memory::end_deletion(&id);
                    store.dispatch(Action::Notice(Some(error.message)));
                    store.dispatch(Action::Kept(id));
                }
            });
        });
        self.deleting.0.borrow_mut().push((job.clone(), token, later));
    }

    /// Deletes a result of one's own at once and without a word: one that nobody was to see.
    pub(crate) fn discard(&self, job: &JobId) {
        let Some(token) = memory::owner_token(job) else { return };
        let (store, job) = (self.store.dispatcher(), job.clone());
        spawn_local(async move {
            if api::delete(&job, &token).await.is_ok() {
                store.dispatch(Action::Deleted(job));
            }
        });
    }

    /// Takes a deletion back.
    pub(crate) fn keep(&self, job: &JobId) {
        if self.deleting.take(job) {
            memory::end_deletion(job);
            self.store.dispatch(Action::Kept(job.clone()));
        }
    }

    /// Follows own jobs that another tab asked for, or an earlier page.
    pub(crate) fn follow(&self, jobs: Vec<JobId>) {
        for job in jobs {
            spawn_local(resume(self.store.dispatcher(), self.server.clone(), job));
        }
    }

    /// Asks for the results that follow those in the list.
    pub(crate) fn more_recent(&self) {
        let (store, next) = (self.store.dispatcher(), self.store.more_recent.clone());
        spawn_local(async move {
            match api::recent(next.as_deref()).await {
                Ok(page) => store.dispatch(Action::Recent { page, is_more: true }),
                Err(error) => store.dispatch(Action::Notice(Some(error.message))),
            }
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
            let dispatch = gathered(Callback::from(move |action| dispatch.dispatch(action)));
            let keep = Callback::from(|(job, token)| memory::keep_owner_token(&job, &token));
            Server::connect(dispatch, keep)
        })
    };
    // Once at the start, and after a lost connection: the server may have come back with other
    // models.
    let was_lost = use_mut_ref(|| true);
    {
        let dispatch = store.dispatcher();
        use_effect_with(store.connection.clone(), move |connection| {
            let due = match connection {
                Connection::Lost | Connection::Refused(_) => {
                    *was_lost.borrow_mut() = true;
                    false
                }
                // It was asked for on the way to this connection.
                Connection::PlainHttp(_) => {
                    *was_lost.borrow_mut() = false;
                    false
                }
                Connection::Connecting | Connection::Open => was_lost.replace(false),
            };
            if due {
                spawn_local(learn_what_is_offered(dispatch));
            }
        });
    }
    let deleting = (*use_memo((), |()| Waiting::default())).clone();
    {
        let deleting = deleting.clone();
        use_effect_with((), move |()| {
            let listener = web_sys::window().map(|window| {
                EventListener::new(&window, "pagehide", move |_| {
                    for (job, token, _) in deleting.0.take() {
                        api::delete_on_leaving(&job, &token);
                        // The document may be gone before that; the next one looks after it.
                        memory::keep_deletion(&job, &token, 0.0);
                        archive::note(Vec::new(), vec![job]);
                    }
                })
            });
            move || drop(listener)
        });
    }
    let backend = Backend { store, server: (*server).clone(), deleting };
    use_own_results(&backend);
    html! { <ContextProvider<Backend> context={backend}>{ props.children.clone() }</ContextProvider<Backend>> }
}

/// Fetches what the server offers; for a while again, if it does not say so or its example is still
/// being drawn.
async fn learn_what_is_offered(store: UseReducerDispatcher<Store>) {
    for _ in 0..EXAMPLE_TRIES {
        let info = api::info().await;
        let complete = info.as_ref().is_ok_and(|info| info.example.is_some());
        // The first picture that anyone sees: with it at hand the page is built once, not twice.
        let example = info.as_ref().ok().and_then(|info| info.example.clone());
        let view = match example.filter(|_| api::is_at_playground()) {
            Some(example) => api::view(example.as_str()).await.ok(),
            None => None,
        };
        store.dispatch(Action::Info(info.map(Rc::new)));
        if let Some(view) = view.filter(|view| view.state.is_final()) {
            store.dispatch(Action::View(Rc::new(view)));
        }
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
    let known = job.as_ref().is_some_and(|job| {
        backend.store.job(job).is_some_and(|job| job.state.is_final() && job.has_frames())
    });
    use_effect_with((job, is_lost), move |(job, is_lost)| {
        let Some(job) = job.clone().filter(|_| !is_lost && !known) else { return };
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

/// Remembers own results in this browser, learns what other tabs remember, and follows those that
/// had not ended when the page was loaded.
#[hook]
fn use_own_results(backend: &Backend) {
    let store = backend.store.dispatcher();
    {
        let (store, server) = (store.clone(), backend.server.clone());
        use_effect_with((), move |()| {
            resume_deletions(&store);
            let mine = memory::mine();
            let unfinished: Vec<_> = mine.unfinished().map(|own| own.id.clone()).collect();
            archive::migrate(&mine);
            store.dispatch(Action::Mine(Rc::new(mine)));
            for job in unfinished.into_iter().take(MOST_RESUMED) {
                spawn_local(resume(store.clone(), server.clone(), job));
            }
            let changed = Callback::from(move |()| {
                store.dispatch(Action::Mine(Rc::new(memory::mine())));
            });
            let listener = memory::watch_mine(changed);
            move || drop(listener)
        });
    }
    let is_gone = |id: &JobId| {
        backend.store.missing(id).is_some_and(|error| error.code == ErrorCode::NotFound)
    };
    let mine = backend.store.mine.iter().map(|own| own.id.clone());
    let deleted: Vec<_> = mine.filter(is_gone).collect();
    use_effect_with((backend.store.own_news(), deleted), move |(news, deleted)| {
        if news.is_empty() && deleted.is_empty() {
            return;
        }
        // Other tabs may have remembered more meanwhile.
        let mut mine = memory::mine();
        news.iter().for_each(|own| mine.note(own.clone()));
        deleted.iter().for_each(|id| mine.forget(id));
        memory::keep_mine(&mine);
        store.dispatch(Action::Mine(Rc::new(mine)));
        archive::note(news.clone(), deleted.clone());
    });
}

/// Learns how an own job stands, and follows it while it runs.
async fn resume(store: UseReducerDispatcher<Store>, server: Server, job: JobId) {
    match api::view(job.as_str()).await {
        Ok(view) => {
            let runs = !view.state.is_final();
            store.dispatch(Action::View(Rc::new(view)));
            if runs {
                server.watch(job);
            }
        }
        Err(error) if error.code == ErrorCode::NotFound => forget(&store, &job),
        // It stays in the list for another time.
        Err(_) => {}
    }
}

/// Deletes a result of one's own; the browser forgets it.
///
/// # Errors
/// When the server did not; then nothing is forgotten.
async fn carry_out(
    store: &UseReducerDispatcher<Store>,
    job: &JobId,
    token: &OwnerToken,
) -> Result<(), ErrorBody> {
    match api::delete(job, token).await {
        Err(error) if error.code != ErrorCode::NotFound => return Err(error),
        _ => {}
    }
    memory::end_deletion(job);
    forget(store, job);
    store.dispatch(Action::Deleted(job.clone()));
    Ok(())
}

/// Does the deletions that an earlier page was not done with. Those that another tab can still take
/// back are looked at again once it cannot.
fn resume_deletions(store: &UseReducerDispatcher<Store>) {
    for (job, token, due_ms) in memory::deletions() {
        let wait_ms = due_ms - js_sys::Date::now();
        let store = store.clone();
        let finish = move || {
            if !memory::has_deletion(&job) {
                return;
            }
            // Whatever the server says now, it is nothing to be shown; if it cannot be deleted yet,
            // the next page tries again.
            forget(&store, &job);
            store.dispatch(Action::Deleted(job.clone()));
            spawn_local(async move { drop(carry_out(&store, &job, &token).await) });
        };
        if wait_ms > 0.0 {
            Timeout::new(wait_ms as u32 + UNDO_SLACK_MS, finish).forget();
        } else {
            finish();
        }
    }
}

fn forget(store: &UseReducerDispatcher<Store>, job: &JobId) {
    let mut mine = memory::mine();
    mine.forget(job);
    memory::keep_mine(&mine);
    store.dispatch(Action::Mine(Rc::new(mine)));
    archive::note(Vec::new(), vec![job.clone()]);
}

/// Keeps the list of recent results fresh: asked for once, then when something of one's own
/// finished here or in another tab, and when a lost connection is back.
#[hook]
pub(crate) fn use_recent() {
    let backend = use_backend();
    let is_lost = backend.store.connection == Connection::Lost;
    let finished = backend.store.mine.iter().filter(|own| own.state.is_final()).count();
    let when = (is_lost, backend.store.own_finished(), finished);
    let store = backend.store.dispatcher();
    use_effect_with(when, move |&(is_lost, ..)| {
        // Several changes that come together are one reason to ask.
        let later = (!is_lost).then(|| {
            Timeout::new(RECENT_MS, move || {
                spawn_local(async move {
                    // Without it the page is whole all the same.
                    if let Ok(page) = api::recent(None).await {
                        store.dispatch(Action::Recent { page, is_more: false });
                    }
                });
            })
        });
        move || drop(later)
    });
}
