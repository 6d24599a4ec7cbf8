//! Pictures that follow what is wanted, newest first: what an instrument needs.

use std::{cell::RefCell, rc::Rc};

use futures_channel::oneshot::Receiver;
use gloo_timers::future::TimeoutFuture;
use var_dd_protocol::{ErrorBody, GenerateRequest};
use wasm_bindgen_futures::spawn_local;
use yew::prelude::*;

use super::{Backend, use_backend};
use crate::{
    api::{self, Outcome},
    state::{job::Picture, rate::Rate},
};

/// What came of the newest request that was drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Preview {
    /// The newest picture.
    pub(crate) picture: Option<Picture>,
    /// The request that it shows; none of a time when nothing was wanted.
    pub(crate) of: Option<GenerateRequest>,
    /// Why the newest request was refused.
    pub(crate) error: Option<ErrorBody>,
    /// Pictures a second while one follows the other.
    pub(crate) per_second: Option<f64>,
    /// Pictures so far.
    pub(crate) count: u32,
}

#[derive(Default)]
struct Line {
    /// What no picture has come of yet, with its number among all that were wanted.
    wanted: Option<(u64, GenerateRequest)>,
    last: u64,
    /// The number of the newest picture.
    shown_number: u64,
    /// What is wanted, whatever came of it.
    asked: Option<GenerateRequest>,
    /// Whether the server can be asked.
    is_usable: bool,
    /// The number of the newest wish that was said.
    said_number: u64,
    /// Wishes on their way over the WebSocket.
    on_their_way: u32,
    /// Whether a request is on its way over plain HTTP.
    busy: bool,
    is_gone: bool,
    rate: Rate,
    shown: Preview,
}

/// Wishes on their way at a time over the WebSocket: while one is drawn another one waits, so that
/// the device does not rest between them.
const ON_THEIR_WAY: u32 = 2;

/// The finished picture of what is wanted now, kept nowhere. Of what is wanted while others are on
/// their way only the newest leaves the page. What is wanted while there is no connection, or was
/// refused for lack of one, is asked for once there is.
#[hook]
pub(crate) fn use_preview(wanted: Option<GenerateRequest>) -> Preview {
    let backend = use_backend();
    let shown = use_state_eq(Preview::default);
    let line = use_mut_ref(Line::default);
    {
        let (line, shown) = (line.clone(), shown.setter());
        let is_usable = backend.store.connection.is_usable();
        use_effect_with((wanted, is_usable), move |(wanted, is_usable)| {
            let mut now = line.borrow_mut();
            now.is_usable = *is_usable;
            let failed = *is_usable && now.shown.error.is_some();
            if now.asked != *wanted || failed {
                now.last += 1;
                now.wanted = wanted.clone().map(|request| (now.last, request));
                now.asked = wanted.clone();
            }
            if wanted.is_none() {
                now.shown.of = None;
                shown.set(now.shown.clone());
            }
            say(&line, &mut now, &shown, &backend);
        });
    }
    use_effect_with((), move |()| move || line.borrow_mut().is_gone = true);
    (*shown).clone()
}

/// Says what is wanted, unless that is done already or enough is on its way.
fn say(
    line: &Rc<RefCell<Line>>,
    now: &mut Line,
    tell: &UseStateSetter<Preview>,
    backend: &Backend,
) {
    let Some(wish) = now.wanted.clone() else { return };
    if !now.is_usable || wish.0 == now.said_number || now.on_their_way == ON_THEIR_WAY {
        return;
    }
    now.said_number = wish.0;
    match backend.preview(wish.1.clone()) {
        Some(answer) => {
            now.on_their_way += 1;
            spawn_local(hear(line.clone(), tell.clone(), backend.clone(), wish, answer));
        }
        None => ask(line, now, tell),
    }
}

/// Waits for an answer on the WebSocket.
async fn hear(
    line: Rc<RefCell<Line>>,
    tell: UseStateSetter<Preview>,
    backend: Backend,
    wish: (u64, GenerateRequest),
    answer: Receiver<Outcome>,
) {
    let answer = answer.await;
    let number = wish.0;
    let pause_ms = {
        let mut now = line.borrow_mut();
        now.on_their_way -= 1;
        if now.is_gone {
            return;
        }
        match answer {
            Ok(outcome) => now.heard(wish, outcome, &tell),
            // The connection is gone, or the server took what another part of the page wants
            // instead.
            Err(_) => {
                if now.is_newest(number) {
                    ask(&line, &mut now, &tell);
                }
                None
            }
        }
    };
    if let Some(pause_ms) = pause_ms {
        TimeoutFuture::new(pause_ms).await;
    }
    let mut now = line.borrow_mut();
    if now.is_gone {
        return;
    }
    if pause_ms.is_some() && now.is_newest(number) {
        now.said_number = 0;
    }
    say(&line, &mut now, &tell, &backend);
}

/// Asks over plain HTTP for what is wanted, unless that is done already.
fn ask(line: &Rc<RefCell<Line>>, now: &mut Line, tell: &UseStateSetter<Preview>) {
    if !now.busy {
        now.busy = true;
        spawn_local(follow(line.clone(), tell.clone()));
    }
}

async fn follow(line: Rc<RefCell<Line>>, tell: UseStateSetter<Preview>) {
    loop {
        let Some(wish) = line.borrow().wanted.clone() else { break };
        let outcome = api::preview(&wish.1).await;
        let pause_ms = {
            let mut now = line.borrow_mut();
            if now.is_gone {
                return;
            }
            now.heard(wish, outcome, &tell)
        };
        if let Some(pause_ms) = pause_ms {
            TimeoutFuture::new(pause_ms).await;
        }
    }
    line.borrow_mut().busy = false;
}

impl Line {
    /// Whether nothing has come of the newest wish, and this is its number.
    fn is_newest(&self, number: u64) -> bool {
        self.wanted.as_ref().is_some_and(|(newest, _)| *newest == number)
    }

    /// Takes what came of a wish, unless something newer is shown. A wish that the server has no
    /// room for now is kept; returned is when to ask for it again, in milliseconds.
    fn heard(
        &mut self,
        (number, request): (u64, GenerateRequest),
        outcome: Outcome,
        tell: &UseStateSetter<Preview>,
    ) -> Option<u32> {
        let later = outcome.as_ref().err().and_then(|error| error.retry_after_s);
        let later = later.filter(|_| self.is_newest(number));
        if self.is_newest(number) && later.is_none() {
            self.wanted = None;
        }
        if number <= self.shown_number {
            return None;
        }
        match outcome {
            Ok(picture) => {
                self.shown_number = number;
                self.rate.note(api::now_ms());
                self.shown = Preview {
                    picture: Some(picture),
                    of: self.asked.is_some().then_some(request),
                    error: None,
                    per_second: self.rate.per_second().or(self.shown.per_second),
                    count: self.shown.count + 1,
                };
            }
            Err(error) => self.shown.error = Some(error),
        }
        tell.set(self.shown.clone());
        later.map(|seconds| seconds.saturating_mul(1000))
    }
}
