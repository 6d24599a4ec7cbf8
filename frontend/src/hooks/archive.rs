//! All own results in the database of the browser (IndexedDB), and in the memory of this tab where
//! the browser denies that or has no room.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use gloo_events::EventListener;
use idb::{Error, TransactionMode};
use var_dd_protocol::JobId;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::spawn_local;
use web_sys::BroadcastChannel;
use yew::Callback;

use super::{database, memory};
use crate::state::{
    history::{Entry, newest_first},
    mine::{Mine, Own},
};

const DATABASE: &str = "var-dd";

/// The store of results: JSON by the name of the job.
const RESULTS: &str = "results";

/// The channel on which the tabs of a browser tell each other that something changed.
const CHANNEL: &str = "var-dd.history";

thread_local! {
    /// What the browser would not keep; nothing for what was deleted.
    static UNKEPT: RefCell<BTreeMap<JobId, Option<Entry>>> = const { RefCell::new(BTreeMap::new()) };
    static IS_KEPT: Cell<bool> = const { Cell::new(true) };
    /// Own results as they were noted last.
    static NOTED: RefCell<BTreeMap<JobId, Own>> = const { RefCell::new(BTreeMap::new()) };
    static NEWS: RefCell<Option<BroadcastChannel>> = const { RefCell::new(None) };
}

/// All results.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    /// The newest first.
    pub(crate) entries: Vec<Entry>,
    /// Whether the browser keeps them beyond this tab.
    pub(crate) is_kept: bool,
}

/// Notes what was heard of own results, and forgets what is gone.
pub(super) fn note(mut news: Vec<Own>, gone: Vec<JobId>) {
    NOTED.with_borrow_mut(|noted| {
        news.retain(|own| noted.insert(own.id.clone(), own.clone()).as_ref() != Some(own));
    });
    spawn_local(async move {
        let now_ms = js_sys::Date::now();
        let ids = news.iter().map(|own| own.id.clone()).chain(gone.iter().cloned()).collect();
        change(ids, |id, known| {
            if gone.contains(id) {
                return None;
            }
            let own = news.iter().find(|own| own.id == *id)?.clone();
            let token = memory::owner_token(id);
            Some(Entry::noted(known, own, token, now_ms))
        })
        .await;
    });
}

/// Takes over what the page remembered before it had a history, at the end of the list.
pub(super) fn migrate(mine: &Mine) {
    let mine: Vec<Own> = mine.iter().cloned().collect();
    spawn_local(async move {
        let ids: Vec<_> = mine.iter().map(|own| own.id.clone()).collect();
        let now_ms = js_sys::Date::now();
        change(ids, |id, known| {
            let place = mine.iter().position(|own| own.id == *id);
            known.or_else(|| {
                let place = place?;
                Some(Entry {
                    own: mine.get(place)?.clone(),
                    // In the order in which they were.
                    noted_ms: now_ms - 1000.0 * (place + 1) as f64,
                    made_ms: None,
                    starred: false,
                    owner_token: memory::owner_token(id),
                })
            })
        })
        .await;
    });
}

/// Changes the star of results.
pub(crate) async fn star(ids: Vec<JobId>, starred: bool) {
    change(ids, |_, known| known.map(|known| Entry { starred, ..known })).await;
}

/// Takes over results of a file; how many are new.
pub(crate) async fn import(entries: Vec<Entry>) -> usize {
    let before = all().await.entries.len();
    let ids = entries.iter().map(|entry| entry.own.id.clone()).collect();
    change(ids, |id, known| {
        let other = entries.iter().find(|entry| entry.own.id == *id)?.clone();
        Some(match known {
            Some(known) => known.merged(other),
            None => other,
        })
    })
    .await;
    all().await.entries.len().saturating_sub(before)
}

/// All results.
pub(crate) async fn all() -> Listed {
    let read = read_all().await;
    let is_read = read.is_ok();
    let mut entries = read.unwrap_or_default();
    UNKEPT.with_borrow(|unkept| {
        entries.retain(|entry| !unkept.contains_key(&entry.own.id));
        entries.extend(unkept.values().flatten().cloned());
    });
    Listed { entries: newest_first(entries), is_kept: is_read && IS_KEPT.get() }
}

/// Tells when this or another tab changed the results.
pub(crate) fn watch(changed: Callback<()>) -> Option<EventListener> {
    let channel = BroadcastChannel::new(CHANNEL).ok()?;
    Some(EventListener::new(&channel, "message", move |_| changed.emit(())))
}

fn tell() {
    NEWS.with_borrow_mut(|news| {
        if news.is_none() {
            *news = BroadcastChannel::new(CHANNEL).ok();
        }
        if let Some(news) = news {
            // Without it, other places learn of it when they are opened.
            let _ = news.post_message(&JsValue::NULL);
        }
    });
}

/// Puts what `change` makes of each result in its place, or nothing.
async fn change(ids: Vec<JobId>, change: impl Fn(&JobId, Option<Entry>) -> Option<Entry>) {
    if ids.is_empty() {
        return;
    }
    let mut made = Vec::new();
    match keep(&ids, &change, &mut made).await {
        Ok(any) => {
            let any_unkept = UNKEPT.with_borrow_mut(|unkept| {
                let before = unkept.len();
                unkept.retain(|id, _| !ids.contains(id));
                before != unkept.len()
            });
            if any_unkept {
                IS_KEPT.set(UNKEPT.with_borrow(BTreeMap::is_empty));
            }
            if any || any_unkept {
                tell();
            }
        }
        Err(_) => {
            IS_KEPT.set(false);
            UNKEPT.with_borrow_mut(|unkept| {
                for id in ids {
                    let known = || unkept.get(&id).cloned().flatten();
                    let entry = match made.iter().find(|(other, _)| *other == id) {
                        Some((_, entry)) => entry.clone(),
                        None => change(&id, known()),
                    };
                    unkept.insert(id, entry);
                }
            });
            tell();
        }
    }
}

/// The part of [`change`] in the database; `made` has what was to be kept, also when that fails.
/// Whether anything is other than before.
async fn keep(
    ids: &[JobId],
    change: &impl Fn(&JobId, Option<Entry>) -> Option<Entry>,
    made: &mut Vec<(JobId, Option<Entry>)>,
) -> Result<bool, Error> {
    let database = database::open(DATABASE, RESULTS).await?;
    let transaction = database.transaction(&[RESULTS], TransactionMode::ReadWrite)?;
    let store = transaction.object_store(RESULTS)?;
    let mut any = false;
    for id in ids {
        let key = JsValue::from_str(id.as_str());
        let kept = store.get(key.clone())?.await?.and_then(|value| entry(&value));
        let unkept = UNKEPT.with_borrow(|unkept| unkept.get(id).cloned());
        let before = unkept.unwrap_or_else(|| kept.clone());
        let after = change(id, before);
        made.push((id.clone(), after.clone()));
        if after == kept {
            continue;
        }
        any = true;
        match after {
            Some(after) => {
                // Its maps have names for keys, so it always becomes JSON.
                let text = serde_json::to_string(&after).unwrap_or_default();
                store.put(&JsValue::from_str(&text), Some(&key))?.await?;
            }
            None => store.delete(key)?.await?,
        }
    }
    // With no room left, the browser takes everything back at the end.
    match transaction.await?.is_committed() {
        true => Ok(any),
        false => Err(Error::UpdateFailed(JsValue::NULL)),
    }
}

async fn read_all() -> Result<Vec<Entry>, Error> {
    let database = database::open(DATABASE, RESULTS).await?;
    let transaction = database.transaction(&[RESULTS], TransactionMode::ReadOnly)?;
    let values = transaction.object_store(RESULTS)?.get_all(None, None)?.await?;
    Ok(values.iter().filter_map(entry).collect())
}

fn entry(value: &JsValue) -> Option<Entry> {
    serde_json::from_str(&value.as_string()?).ok()
}
