//! The page of the VAR-DD playground: a Yew single-page app, compiled to wasm.
//!
//! `state` thinks: pure types, fed with what happened, that say what to show and what to send; they
//! are tested natively. `api` is the only file that talks to the server. `components` and `pages`
//! draw.
//!
//! # How the page is put together
//! `static/index.html`, `static/start.js` and `static/service-worker.js` are templates. The build
//! replaces `{{style}}`, `{{script}}` (the finished `start.js`), `{{icon}}`, `{{module}}` (the module
//! that wasm-bindgen writes), `{{wasm}}`, `{{theme}}` and `{{translation}}` by the addresses of the
//! hashed files, relative to the page, and copies `static/icons/` as it is to `icons/`. The server
//! writes the way back to the page before them, so that everything works at any depth and under any
//! path that a proxy puts before it. Nothing is inline, and the app never writes a `style`
//! attribute, so that it runs under `style-src 'self'`.
//!
//! # Hooks for tests in a browser
//! Elements carry `data-testid`, and attributes that say what they show:
//!
//! | `data-testid` | element | further attributes |
//! |---|---|---|
//! | `class-search` | input of the class picker | `data-class`: number chosen |
//! | `class-option-<number>` | one class in the open list | |
//! | `plan-<index>`, `plan-custom` | radio button of a plan | |
//! | `custom-kind`, `custom-t-list`, `custom-split`, `custom-start` | fields of the plan editor | |
//! | `seed`, `seed-dice`, `seed-lock` | seed field and its buttons | |
//! | `count-<n>` | radio button of the number of pictures | |
//! | `model` | choice of model, if there are several | |
//! | `generate` | the button | |
//! | `job-state` | line of words under the stage | `data-state`: `none`, `asking`, `queued`, `running`, `finished`, `failed`, `cancelled`, `expired`, `refused`; `data-job`: its name |
//! | `connection` | on the body of the page | `data-connection`: `connecting`, `open`, `http`, `lost`, `refused` |
//! | `stage` | the large square | `data-picture`: picture brought forward, if any |
//! | `stage-picture` | each `img` on the stage | `data-picture`, `data-seq`, `data-pass`, `data-scale`, `data-last` |
//! | `strip` | the strip, a slider | `aria-valuenow`: tile on the stage |
//! | `tile` | each tile | `data-pass`, `data-scale`, `data-drawn` (`true` or `false`), `data-seq`, `data-ms`, `data-current` |
//! | `play`, `hold`, `pace-true`, `pace-slow`, `pace-scales` | player | |
//! | `times` | line of times | |
//! | `cancel`, `share`, `share-link`, `download`, `delete` | actions | |
//! | `recent`, `recent-item` | recent results | `data-job` |
//! | `make-your-own` | link on a result page | |
//! | `missing` | words of a page without a picture | |
//! | `compare-plan-<index>`, `compare-custom-<index>`, `compare-start`, `compare-again` | choices of the comparison | |
//! | `compare-column` | one plan | `data-job`, `data-state`, `data-tile` |
//! | `compare-scrubber`, `compare-play`, `compare-wipe`, `compare-share` | comparison | |
//! | `recent-mine`, `recent-all`, `recent-more`, `recent-reuse` | recent results | |
//! | `own-queue`, `cancel-other`, `cancel-all` | own jobs besides the one on the stage | `data-job` |
//! | `undo`, `notice` | messages over the page | |
//! | `stopped` | message of a program that stopped | |
//! | `keys` | the dialog of keys | |
//! | `theme` | button | `data-theme`: `auto`, `light`, `dark` |

mod api;
mod app;
mod components;
mod hooks;
mod pages;
mod route;
mod state;

use wasm_bindgen::prelude::wasm_bindgen;

/// Draws the app into `#app` of the document.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| report(&panic.to_string())));
    let root = web_sys::window()
        .and_then(|window| window.document())
        .and_then(|document| document.get_element_by_id("app"));
    if let Some(root) = root {
        yew::Renderer::<app::App>::with_root(root).render();
    }
}

/// Tells the start script that the program stops; it puts a message over the page.
fn report(fault: &str) {
    let told = web_sys::CustomEventInit::new();
    told.set_detail(&fault.into());
    let event = web_sys::CustomEvent::new_with_event_init_dict("var-dd-panic", &told);
    if let (Some(window), Ok(event)) = (web_sys::window(), event) {
        // Nobody is left to hear of a failure.
        let _ = window.dispatch_event(&event);
    }
}
