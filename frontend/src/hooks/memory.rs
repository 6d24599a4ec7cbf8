//! What the browser remembers: secrets of own jobs, the job on the stage, the colours.

use gloo_storage::{LocalStorage, SessionStorage, Storage};
use var_dd_protocol::{JobId, OwnerToken};

/// Own jobs, oldest first, with their secrets.
const OWNED: &str = "var-dd.owned";

/// Own jobs remembered.
const MOST_OWNED: usize = 500;

/// The job on the stage of this tab.
const CURRENT: &str = "var-dd.current";

/// Chosen colours.
const THEME: &str = "var-dd.theme";

// A browser that keeps nothing (private windows, full storage) still draws pictures, so failures
// pass silently.

/// Keeps the secret of an own job.
pub(super) fn keep_owner_token(job: &JobId, token: &OwnerToken) {
    let mut owned = owned();
    owned.push((job.clone(), token.clone()));
    let surplus = owned.len().saturating_sub(MOST_OWNED);
    owned.drain(..surplus);
    let _ = LocalStorage::set(OWNED, owned);
}

/// The secret of a job, if it is an own one.
pub(crate) fn owner_token(job: &JobId) -> Option<OwnerToken> {
    owned().into_iter().rev().find(|(own, _)| own == job).map(|(_, token)| token)
}

fn owned() -> Vec<(JobId, OwnerToken)> {
    LocalStorage::get(OWNED).unwrap_or_default()
}

/// Remembers the job on the stage for a reload.
pub(crate) fn keep_current_job(job: &JobId) {
    let _ = SessionStorage::set(CURRENT, job);
}

/// The job that was on the stage before a reload.
pub(crate) fn current_job() -> Option<JobId> {
    SessionStorage::get(CURRENT).ok()
}

/// Forgets the job on the stage.
pub(crate) fn forget_current_job() {
    SessionStorage::delete(CURRENT);
}

/// The chosen colours, as [`keep_theme`] was given them.
pub(super) fn theme() -> Option<String> {
    LocalStorage::get(THEME).ok()
}

/// Remembers the chosen colours.
pub(super) fn keep_theme(name: &str) {
    let _ = LocalStorage::set(THEME, name);
}

/// A random whole number below `end`. Chance enough for a seed, not for a secret.
pub(crate) fn random_below(end: u64) -> u64 {
    ((js_sys::Math::random() * end as f64) as u64).min(end.saturating_sub(1))
}
