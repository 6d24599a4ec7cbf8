//! What is fetched when it is wanted, and again when a person asks for it after it did not come.

use std::future::Future;

use wasm_bindgen_futures::spawn_local;
use yew::prelude::*;

/// How far it is.
#[derive(Clone)]
pub(crate) enum Fetching<T> {
    /// It is not wanted yet, or on the way.
    Coming,
    Here(T),
    /// It did not come; this asks for it again.
    Missing(Callback<MouseEvent>),
}

impl<T> Fetching<T> {
    /// What is said of it while it is missing.
    pub(crate) const MISSING: &str = "This part of the playground could not be fetched.";
}

/// What `fetch` gives for what is wanted, if it comes; nothing is fetched while nothing is wanted.
#[hook]
pub(crate) fn use_fetched<W, T, F, A>(wanted: Option<W>, fetch: F) -> Fetching<T>
where
    W: Clone + PartialEq + 'static,
    T: Clone + 'static,
    F: FnOnce(W) -> A + 'static,
    A: Future<Output = Option<T>> + 'static,
{
    // Whether it came, and what.
    let came = use_state(|| None::<Option<T>>);
    let attempt = use_state_eq(|| 0_u32);
    {
        let came = came.setter();
        use_effect_with((wanted, *attempt), move |(wanted, _)| {
            if let Some(wanted) = wanted.clone() {
                spawn_local(async move { came.set(Some(fetch(wanted).await)) });
            }
        });
    }
    match &*came {
        None => Fetching::Coming,
        Some(Some(here)) => Fetching::Here(here.clone()),
        Some(None) => {
            let came = came.clone();
            Fetching::Missing(Callback::from(move |_: MouseEvent| {
                came.set(None);
                attempt.set(*attempt + 1);
            }))
        }
    }
}

/// Looks again for what could not be had, once there is a connection.
#[hook]
pub(crate) fn use_another_look(is_gone: &UseStateHandle<bool>, is_usable: bool) {
    let is_gone = is_gone.setter();
    use_effect_with(is_usable, move |&is_usable| {
        if is_usable {
            is_gone.set(false);
        }
    });
}
