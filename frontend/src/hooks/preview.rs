//! Pictures that follow what is wanted, newest first: what an instrument needs.

use std::{cell::RefCell, rc::Rc};

use futures_channel::oneshot::Receiver;
use var_dd_protocol::{ErrorBody, GenerateRequest};
use wasm_bindgen_futures::spawn_local;
use yew::prelude::*;

use super::use_backend;
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
    /// Whether anything is wanted, on its way or not.
    is_wanted: bool,
    /// Whether a request is on its way over plain HTTP.
    busy: bool,
    is_gone: bool,
    rate: Rate,
    shown: Preview,
}

/// The finished picture of what is wanted now, kept nowhere. On the WebSocket every wish is said at
/// once and the server draws the newest; over plain HTTP one is on its way at a time, and of those
/// wanted meanwhile only the newest leaves the page.
#[hook]
pub(crate) fn use_preview(wanted: Option<GenerateRequest>) -> Preview {
    let backend = use_backend();
    let shown = use_state_eq(Preview::default);
    let line = use_mut_ref(Line::default);
    {
        let (line, shown) = (line.clone(), shown.setter());
        use_effect_with(wanted, move |wanted| {
            let mut now = line.borrow_mut();
            now.last += 1;
            now.wanted = wanted.clone().map(|request| (now.last, request));
            now.is_wanted = wanted.is_some();
            let Some(request) = wanted else {
                now.shown.of = None;
                shown.set(now.shown.clone());
                return;
            };
            let number = now.last;
            match backend.preview(request.clone()) {
                Some(answer) => {
                    let wish = (number, request.clone());
                    spawn_local(hear(line.clone(), shown, wish, answer));
                }
                None => ask(&line, &mut now, shown),
            }
        });
    }
    use_effect_with((), move |()| move || line.borrow_mut().is_gone = true);
    (*shown).clone()
}

/// Waits for an answer on the WebSocket.
async fn hear(
    line: Rc<RefCell<Line>>,
    tell: UseStateSetter<Preview>,
    wish: (u64, GenerateRequest),
    answer: Receiver<Outcome>,
) {
    let answer = answer.await;
    let mut now = line.borrow_mut();
    if now.is_gone {
        return;
    }
    match answer {
        Ok(outcome) => now.heard(wish, outcome, &tell),
        // The connection is gone, or the server took what another part of the page wants instead.
        Err(_) if now.is_newest(wish.0) => ask(&line, &mut now, tell),
        Err(_) => {}
    }
}

/// Asks over plain HTTP for what is wanted, unless that is done already.
fn ask(line: &Rc<RefCell<Line>>, now: &mut Line, tell: UseStateSetter<Preview>) {
    if !now.busy {
        now.busy = true;
        spawn_local(follow(line.clone(), tell));
    }
}

async fn follow(line: Rc<RefCell<Line>>, tell: UseStateSetter<Preview>) {
    loop {
        let Some(wish) = line.borrow().wanted.clone() else { break };
        let outcome = api::preview(&wish.1).await;
        let mut now = line.borrow_mut();
        if now.is_gone {
            return;
        }
        now.heard(wish, outcome, &tell);
    }
    line.borrow_mut().busy = false;
}

impl Line {
    /// Whether nothing has come of the newest wish, and this is its number.
    fn is_newest(&self, number: u64) -> bool {
        self.wanted.as_ref().is_some_and(|(newest, _)| *newest == number)
    }

    /// Takes what came of a wish, unless something newer is shown.
    fn heard(
        &mut self,
        (number, request): (u64, GenerateRequest),
        outcome: Outcome,
        tell: &UseStateSetter<Preview>,
    ) {
        if self.is_newest(number) {
            self.wanted = None;
        }
        if number <= self.shown_number {
            return;
        }
        match outcome {
            Ok(picture) => {
                self.shown_number = number;
                self.rate.note(api::now_ms());
                self.shown = Preview {
                    picture: Some(picture),
                    of: self.is_wanted.then_some(request),
                    error: None,
                    per_second: self.rate.per_second().or(self.shown.per_second),
                    count: self.shown.count + 1,
                };
            }
            Err(error) => self.shown.error = Some(error),
        }
        tell.set(self.shown.clone());
    }
}
