//! What the browser remembers for this page, and what the document remembers where the browser
//! does not.
//!
//! A browser may deny storage (reading `localStorage` then throws), have none, or have no room
//! left. The page goes on: what cannot be kept is kept in memory until the document is closed.

use std::cell::RefCell;

use gloo_events::EventListener;
use serde::{Serialize, de::DeserializeOwned};
use var_dd_protocol::{JobId, OwnerToken};
use wasm_bindgen::JsCast;
use yew::Callback;

use crate::state::{
    comparison::{Kept, KeptOnes},
    mine::Mine,
    settings::Settings,
};

/// Own jobs, oldest first, with their secrets.
const OWNED: &str = "var-dd.owned";

/// Deletions that are not done yet.
const DELETING: &str = "var-dd.deleting";

/// Own jobs remembered.
const MOST_OWNED: usize = 500;

/// What own results show, for the list of recent ones.
const MINE: &str = "var-dd.mine";

/// The settings of this tab.
const SETTINGS: &str = "var-dd.settings";

/// The job on the stage of this tab.
const CURRENT: &str = "var-dd.current";

/// Comparisons that this tab drew.
const COMPARISONS: &str = "var-dd.comparisons";

/// Chosen colours. `theme.js` reads this before the first paint.
const THEME: &str = "var-dd.theme";

thread_local! {
    /// What the browser would not keep.
    static UNKEPT: RefCell<Vec<(&'static str, String)>> = const { RefCell::new(Vec::new()) };
}

/// How long something is remembered.
#[derive(Clone, Copy)]
enum Area {
    /// By all tabs, for good.
    Browser,
    /// By this tab, until it is closed.
    Tab,
}

impl Area {
    fn storage(self) -> Option<web_sys::Storage> {
        let window = web_sys::window()?;
        let storage = match self {
            Self::Browser => window.local_storage(),
            Self::Tab => window.session_storage(),
        };
        storage.ok().flatten()
    }

    /// The value under `key`; nothing if there is none or it is not of this type.
    fn read<T: DeserializeOwned>(self, key: &'static str) -> Option<T> {
        let unkept = UNKEPT.with_borrow(|unkept| {
            unkept.iter().find(|(name, _)| *name == key).map(|(_, text)| text.clone())
        });
        let text = unkept.or_else(|| self.storage()?.get_item(key).ok()?)?;
        serde_json::from_str(&text).ok()
    }

    fn write<T: Serialize>(self, key: &'static str, value: &T) {
        let Ok(text) = serde_json::to_string(value) else { return };
        let kept = self.storage().is_some_and(|storage| storage.set_item(key, &text).is_ok());
        UNKEPT.with_borrow_mut(|unkept| {
            unkept.retain(|(name, _)| *name != key);
            if !kept {
                unkept.push((key, text));
            }
        });
    }

    fn remove(self, key: &'static str) {
        UNKEPT.with_borrow_mut(|unkept| unkept.retain(|(name, _)| *name != key));
        if let Some(storage) = self.storage() {
            // A browser that denies this remembers nothing anyway.
            let _ = storage.remove_item(key);
        }
    }
}

/// Keeps the secret of an own job.
pub(super) fn keep_owner_token(job: &JobId, token: &OwnerToken) {
    let mut owned = owned();
    owned.push((job.clone(), token.clone()));
    let surplus = owned.len().saturating_sub(MOST_OWNED);
    owned.drain(..surplus);
    Area::Browser.write(OWNED, &owned);
}

/// The secret of a job, if it is an own one.
pub(crate) fn owner_token(job: &JobId) -> Option<OwnerToken> {
    owned().into_iter().rev().find(|(own, _)| own == job).map(|(_, token)| token)
}

/// What can be read of them: one that cannot does not take the others with it.
fn owned() -> Vec<(JobId, OwnerToken)> {
    let all: Vec<serde_json::Value> = Area::Browser.read(OWNED).unwrap_or_default();
    all.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect()
}

/// Deletions that are not done yet: the job, its secret, and when it can no longer be taken back
/// (milliseconds since 1970).
pub(super) fn deletions() -> Vec<(JobId, OwnerToken, f64)> {
    Area::Browser.read(DELETING).unwrap_or_default()
}

/// Remembers a deletion until it is done or taken back, also over a reload.
pub(super) fn keep_deletion(job: &JobId, token: &OwnerToken, due_ms: f64) {
    let mut waiting = deletions();
    waiting.retain(|(other, ..)| other != job);
    waiting.push((job.clone(), token.clone(), due_ms));
    Area::Browser.write(DELETING, &waiting);
}

/// Whether a deletion is still to be done: another tab may have taken it back.
pub(super) fn has_deletion(job: &JobId) -> bool {
    deletions().iter().any(|(other, ..)| other == job)
}

/// Forgets a deletion that is done or taken back.
pub(super) fn end_deletion(job: &JobId) {
    let mut waiting = deletions();
    waiting.retain(|(other, ..)| other != job);
    Area::Browser.write(DELETING, &waiting);
}

/// What is remembered of own results.
pub(super) fn mine() -> Mine {
    Area::Browser.read(MINE).unwrap_or_default()
}

/// Remembers own results.
pub(super) fn keep_mine(mine: &Mine) {
    Area::Browser.write(MINE, mine);
}

/// Tells when another tab of this browser changed its own results.
pub(super) fn watch_mine(changed: Callback<()>) -> Option<EventListener> {
    let window = web_sys::window()?;
    Some(EventListener::new(&window, "storage", move |event| {
        let event = event.dyn_ref::<web_sys::StorageEvent>();
        if event.is_some_and(|event| event.key().as_deref() == Some(MINE)) {
            changed.emit(());
        }
    }))
}

/// The settings that this tab had before a reload.
pub(super) fn settings() -> Option<Settings> {
    Area::Tab.read(SETTINGS)
}

/// Remembers the settings for a reload.
pub(super) fn keep_settings(settings: &Settings) {
    Area::Tab.write(SETTINGS, settings);
}

/// Remembers the job on the stage for a reload.
pub(super) fn keep_current_job(job: &JobId) {
    Area::Tab.write(CURRENT, job);
}

/// The job that was on the stage before a reload.
pub(super) fn current_job() -> Option<JobId> {
    Area::Tab.read(CURRENT)
}

/// Forgets the job on the stage.
pub(super) fn forget_current_job() {
    Area::Tab.remove(CURRENT);
}

/// Remembers a comparison for a reload and for the way back to it.
pub(crate) fn keep_comparison(kept: Kept) {
    let all: KeptOnes = Area::Tab.read(COMPARISONS).unwrap_or_default();
    Area::Tab.write(COMPARISONS, &all.with(kept));
}

/// The comparison of an address that this tab drew.
pub(crate) fn kept_comparison(address: &str) -> Option<Kept> {
    Area::Tab.read::<KeptOnes>(COMPARISONS)?.of(address).cloned()
}

/// Remembers how a place was left, under a name of [`place_names`], for the way back to it.
pub(crate) fn keep_place<T: Serialize>(name: &'static str, left: &T) {
    Area::Tab.write(name, left);
}

/// How a place was left, as [`keep_place`] was given it.
pub(crate) fn kept_place<T: DeserializeOwned>(name: &'static str) -> Option<T> {
    Area::Tab.read(name)
}

/// The chosen colours, as [`keep_theme`] was given them.
pub(super) fn theme() -> Option<String> {
    Area::Browser.read(THEME)
}

/// Remembers the chosen colours.
pub(super) fn keep_theme(name: &str) {
    Area::Browser.write(THEME, &name);
}

/// What the person prefers, under a name of [`preference_names`].
pub(crate) fn preference(name: &'static str) -> Option<String> {
    Area::Browser.read(name)
}

/// Remembers what the person prefers.
pub(crate) fn keep_preference(name: &'static str, value: &str) {
    Area::Browser.write(name, &value);
}

/// Names of what a person may prefer, as the browser keeps them.
pub(crate) mod preference_names {
    /// How long each scale is held as a picture comes into focus.
    pub(crate) const HOLD: &str = "var-dd.hold";
    /// Whether small pictures are shown with crisp pixels.
    pub(crate) const PIXELS: &str = "var-dd.pixels";
    /// Whether the lessons were opened once, or are not wanted.
    pub(crate) const LEARNED: &str = "var-dd.learned";
    /// Whether single letters are keys of the page.
    pub(crate) const LETTERS: &str = "var-dd.letters";
}

/// Names of places that are found as they were left.
pub(crate) mod place_names {
    /// What was looked for and chosen in the history.
    pub(crate) const HISTORY: &str = "var-dd.left.history";
    /// The sides of a grid that is not drawn yet.
    pub(crate) const GRID: &str = "var-dd.left.grid";
}

/// A random whole number below `end`. Chance enough for a seed, not for a secret.
pub(crate) fn random_below(end: u64) -> u64 {
    ((js_sys::Math::random() * end as f64) as u64).min(end.saturating_sub(1))
}
