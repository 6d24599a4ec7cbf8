//! Pictures that follow what is wanted, newest first: what an instrument needs.

use std::{cell::RefCell, rc::Rc};

use var_dd_protocol::{ErrorBody, GenerateRequest};
use wasm_bindgen_futures::spawn_local;
use yew::prelude::*;

use crate::{
    api,
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
    wanted: Option<GenerateRequest>,
    /// Whether anything is wanted, on its way or not.
    is_wanted: bool,
    /// Whether a request is on its way.
    busy: bool,
    is_gone: bool,
    rate: Rate,
    shown: Preview,
}

/// The finished picture of what is wanted now, kept nowhere. While one is drawn only the newest of
/// those wanted meanwhile waits; the others never leave the page.
#[hook]
pub(crate) fn use_preview(wanted: Option<GenerateRequest>) -> Preview {
    let shown = use_state_eq(Preview::default);
    let line = use_mut_ref(Line::default);
    {
        let (line, shown) = (line.clone(), shown.setter());
        use_effect_with(wanted, move |wanted| {
            let mut now = line.borrow_mut();
            now.wanted.clone_from(wanted);
            now.is_wanted = wanted.is_some();
            if wanted.is_none() {
                now.shown.of = None;
                shown.set(now.shown.clone());
            } else if !now.busy {
                now.busy = true;
                spawn_local(follow(line.clone(), shown));
            }
        });
    }
    use_effect_with((), move |()| move || line.borrow_mut().is_gone = true);
    (*shown).clone()
}

async fn follow(line: Rc<RefCell<Line>>, tell: UseStateSetter<Preview>) {
    loop {
        let Some(request) = line.borrow_mut().wanted.take() else { break };
        let outcome = api::preview(&request).await;
        let mut line = line.borrow_mut();
        if line.is_gone {
            return;
        }
        match outcome {
            Ok(picture) => {
                line.rate.note(api::now_ms());
                line.shown = Preview {
                    picture: Some(picture),
                    of: line.is_wanted.then_some(request),
                    error: None,
                    per_second: line.rate.per_second().or(line.shown.per_second),
                    count: line.shown.count + 1,
                };
            }
            Err(error) => line.shown.error = Some(error),
        }
        tell.set(line.shown.clone());
    }
    line.borrow_mut().busy = false;
}
