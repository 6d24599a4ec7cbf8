//! What the server says, gathered until the browser paints next: many messages that arrive within
//! one frame of the screen change the page once.

use std::{cell::RefCell, rc::Rc};

use gloo_timers::callback::Timeout;
use wasm_bindgen::{JsCast, closure::Closure};
use yew::Callback;

use crate::state::store::Action;

/// A page out of sight is not painted; what came is then taken in after this time.
const UNPAINTED_MS: u32 = 50;

#[derive(Default)]
struct Waiting {
    actions: Vec<Action>,
    /// Takes them in where nothing is painted.
    late: Option<Timeout>,
}

/// Passes actions on to `dispatch` in their order, right before the browser paints.
pub(super) fn gathered(dispatch: Callback<Action>) -> Callback<Action> {
    let waiting = Rc::new(RefCell::new(Waiting::default()));
    let take_in: Rc<dyn Fn()> = {
        let waiting = waiting.clone();
        Rc::new(move || {
            // Whichever comes second finds nothing.
            let Waiting { actions, late } = waiting.take();
            drop(late);
            for action in actions {
                dispatch.emit(action);
            }
        })
    };
    Callback::from(move |action| {
        let mut now = waiting.borrow_mut();
        now.actions.push(action);
        if now.late.is_some() {
            return;
        }
        let late = take_in.clone();
        now.late = Some(Timeout::new(UNPAINTED_MS, move || late()));
        let painted = take_in.clone();
        let painted = Closure::once_into_js(move || painted());
        if let Some(window) = web_sys::window() {
            // Without it, the time above is still there.
            let _ = window.request_animation_frame(painted.unchecked_ref());
        }
    })
}
