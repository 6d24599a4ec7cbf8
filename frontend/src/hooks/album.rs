//! Pictures of a list of requests, drawn one at a time while the device has nothing else to do for
//! this page.

use std::{cell::RefCell, rc::Rc};

use gloo_timers::{callback::Timeout, future::TimeoutFuture};
use var_dd_protocol::{ErrorBody, GenerateRequest};
use wasm_bindgen_futures::spawn_local;
use yew::prelude::*;

use crate::{api, state::job::Picture};

/// After a refusal that does not say how long to wait.
const PAUSE_MS: u32 = 2000;

/// A picture that was refused so often is left out.
const TRIES: u8 = 3;

/// Between two looks whether the page can be seen again.
const HIDDEN_MS: u32 = 1000;

/// What was drawn so far, in the order of the requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Album {
    pub(crate) pictures: Vec<Option<Picture>>,
    /// Why the last one was refused, if it was.
    pub(crate) error: Option<ErrorBody>,
    /// Whether no more will come.
    pub(crate) is_over: bool,
}

impl Album {
    /// How many pictures are there.
    pub(crate) fn drawn(&self) -> usize {
        self.pictures.iter().flatten().count()
    }

    /// The picture to show after one of them, round from the last to the first: the next one, if
    /// it is there; of those that were refused for good none is waited for.
    pub(crate) fn after(&self, at: usize) -> Option<usize> {
        let count = self.pictures.len();
        let is_there = |&next: &usize| self.pictures[next].is_some();
        let mut others = (1..=count).map(|by| (at + by) % count);
        if self.is_over { others.find(is_there) } else { others.next().filter(is_there) }
    }
}

#[derive(Default)]
struct Line {
    wanted: Rc<Vec<GenerateRequest>>,
    tries: Vec<u8>,
    shown: Album,
    may_ask: bool,
    /// Whether a request is on its way, or about to be.
    busy: bool,
    is_gone: bool,
}

impl Line {
    /// The first request that has no picture and is still worth trying.
    fn next(&self) -> Option<usize> {
        let of = self.shown.pictures.iter().zip(&self.tries);
        of.into_iter().position(|(picture, &tries)| picture.is_none() && tries < TRIES)
    }
}

/// The pictures of `wanted`, asked for in its order while `may_ask`. Another list begins anew.
#[hook]
pub(crate) fn use_album(wanted: Rc<Vec<GenerateRequest>>, may_ask: bool) -> Album {
    let shown = use_state_eq(Album::default);
    let line = use_mut_ref(Line::default);
    {
        let (line, shown) = (line.clone(), shown.setter());
        use_effect_with((wanted, may_ask), move |(wanted, may_ask)| {
            let mut now = line.borrow_mut();
            if now.wanted != *wanted {
                now.wanted = wanted.clone();
                now.tries = vec![0; wanted.len()];
                now.shown = Album {
                    pictures: vec![None; wanted.len()],
                    is_over: wanted.is_empty(),
                    ..Album::default()
                };
                shown.set(now.shown.clone());
            }
            now.may_ask = *may_ask;
            if *may_ask && !now.busy && now.next().is_some() {
                now.busy = true;
                spawn_local(fill(line.clone(), shown));
            }
        });
    }
    use_effect_with((), move |()| move || line.borrow_mut().is_gone = true);
    (*shown).clone()
}

async fn fill(line: Rc<RefCell<Line>>, tell: UseStateSetter<Album>) {
    loop {
        if is_hidden() && !line.borrow().is_gone {
            TimeoutFuture::new(HIDDEN_MS).await;
            continue;
        }
        let (at, of) = {
            let mut now = line.borrow_mut();
            let next = now.next().filter(|_| now.may_ask && !now.is_gone);
            let Some(at) = next else {
                now.busy = false;
                return;
            };
            (at, now.wanted.clone())
        };
        let Some(request) = of.get(at) else { continue };
        let outcome = api::preview(request).await;
        let pause_ms = {
            let mut now = line.borrow_mut();
            // What came for another list, or for a page that is left, is not shown.
            if now.is_gone || !Rc::ptr_eq(&now.wanted, &of) {
                continue;
            }
            match outcome {
                Ok(picture) => {
                    now.shown.pictures[at] = Some(picture);
                    now.shown.error = None;
                    now.shown.is_over = now.next().is_none();
                    tell.set(now.shown.clone());
                    continue;
                }
                Err(error) => {
                    // Who is told to wait is not refused for good.
                    let pause_ms = error.retry_after_s.map(|seconds| seconds.saturating_mul(1000));
                    now.tries[at] += u8::from(pause_ms.is_none());
                    now.shown.error = Some(error);
                    now.shown.is_over = now.next().is_none();
                    tell.set(now.shown.clone());
                    pause_ms.unwrap_or(PAUSE_MS)
                }
            }
        };
        TimeoutFuture::new(pause_ms).await;
    }
}

fn is_hidden() -> bool {
    let document = web_sys::window().and_then(|window| window.document());
    document.is_some_and(|document| document.hidden())
}

/// Whether something has stayed as it is for so many milliseconds.
#[hook]
pub(crate) fn use_rested<T: Clone + PartialEq + 'static>(of: T, rest_ms: u32) -> bool {
    let rested = use_state_eq(|| None::<T>);
    {
        let rested = rested.setter();
        use_effect_with(of.clone(), move |of| {
            let of = of.clone();
            let timer = Timeout::new(rest_ms, move || rested.set(Some(of)));
            move || drop(timer)
        });
    }
    rested.as_ref() == Some(&of)
}
