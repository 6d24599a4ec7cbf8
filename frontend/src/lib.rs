//! The page of the VAR-DD playground: a Yew single-page app, compiled to wasm.
//!
//! `state` thinks: pure types, fed with what happened, that say what to show and what to send; they
//! are tested natively. `api` is the only file that talks to the server. `components` and `pages`
//! draw.
//!
//! # How the page is put together
//! `static/index.html`, `static/start.js` and `static/service-worker.js` are templates. The build
//! replaces `{{style}}`, `{{script}}` (the finished `start.js`), `{{icon}}`, `{{module}}` (the module
//! that wasm-bindgen writes), `{{wasm}}`, `{{parts}}`, `{{theme}}` and `{{translation}}` by the
//! addresses of the hashed files, relative to the page, and copies `static/icons/` as it is to `icons/`. The server
//! writes the way back to the page before them, so that everything works at any depth and under any
//! path that a proxy puts before it. Nothing is inline, and the app never writes a `style`
//! attribute, so that it runs under `style-src 'self'`.
//!
//! What `wasm_split` marks in `pages/part.rs` becomes wasm files of their own, which the browser
//! fetches when somebody first goes there: what many use is in the file that starts the page.
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
//! | `seed`, `seed-dice`, `seed-lock`, `seed-told` | seed field, its buttons, and which picture it is for | |
//! | `count-<n>` | radio button of the number of pictures | |
//! | `model` | choice of model, if there are several | |
//! | `generate` | the button | |
//! | `generate-reason` | why the button is grey | |
//! | `to-draw` | what the button draws | |
//! | `link-note`, `link-undo` | what became of a link with settings, and the way back | |
//! | `visit`, `visit-keep` | that a place has the settings of its link, and the way to take them | |
//! | `job-state` | line of words under the stage | `data-state`: `none`, `asking`, `queued`, `running`, `finished`, `failed`, `cancelled`, `expired`, `refused`; `data-job`: its name |
//! | `connection` | on the body of the page | `data-connection`: `connecting`, `open`, `http`, `lost`, `refused` |
//! | `said` | what is read out of it | |
//! | `stage` | the large square | `data-picture`: picture brought forward, if any; `data-focusing`: a new picture comes into focus; `data-docked`: small beside Generate |
//! | `stage-picture` | each `img` on the stage | `data-job`, `data-picture`, `data-seq`, `data-pass`, `data-scale`, `data-last` |
//! | `scale-caption`, `on-stage` | the scale on the stage in words; class, plan and seed of the picture there | |
//! | `strip` | the strip, a slider | `aria-valuenow`: tile on the stage |
//! | `tile` | each tile | `data-pass`, `data-scale`, `data-drawn` (`true` or `false`), `data-seq`, `data-ms`, `data-current`, `data-seen`: whether it shows it yet |
//! | `play`, `pause`, `skip` | the player's button in its three states | |
//! | `pace-true`, `pace-slow`, `pace-scales` | player | |
//! | `times` | where the time went | |
//! | `cancel`, `look-closer`, `pixels`, `share`, `share-link`, `share-close` | actions | |
//! | `share-code`, `share-code-picture` | the link as a QR code | |
//! | `downloads`, `download-size`, `download`, `download-all`, `delete` | the menu of files | |
//! | `lightbox` | a picture over the whole window | `data-picture`, `data-zoom` |
//! | `lightbox-image`, `lightbox-close`, `share-this`, `next-picture`, `previous-picture`, `next-scale`, `previous-scale` | in it | |
//! | `explain-<term>`, `explanation-<term>` | a word that explains itself, and what it opens | |
//! | `plan-builder`, `start-from-<preset>`, `begin-<scale>`, `chip-<scale>`, `split`, `plan-why`, `plan-numbers`, `plan-picture` | a plan of one's own | `data-who` of a chip |
//! | `random-class` | button at the class | |
//! | `settings`, `hold-time`, `letters` | settings of this browser | |
//! | `recent`, `recent-item` | recent results | `data-job` |
//! | `make-your-own` | link on a result page | |
//! | `part-missing` | words of a place whose code did not arrive | |
//! | `missing` | words of a page without a picture | |
//! | `compare-plan-<index>`, `compare-custom-<index>`, `compare-start`, `compare-again` | choices of the comparison | |
//! | `compare-to-be` | the chosen plans, before anything is drawn | |
//! | `compare-quality`, `race-fid` | published quality of the plans | |
//! | `compare-column` | one plan | `data-job`, `data-state`, `data-tile` |
//! | `compare-scrubber`, `compare-play`, `compare-wipe`, `compare-sheet`, `compare-share` | comparison | |
//! | `desk`, `desk-open`, `gain-<scale>`, `mute-<scale>`, `solo-<scale>`, `reroll-<scale>` | the desk under a finished picture | |
//! | `budget`, `budget-words`, `budget-take` | the plan that fits a time | |
//! | `inspector`, `inspector-open`, `tokens`, `codeword` | tokens of a picture | |
//! | `inspected` | the picture looked into, a slider | `data-column`, `data-row`: the place, in tokens of the finest scale |
//! | `cross-with`, `cut`, `desk-picture`, `desk-told`, `desk-keep`, `desk-reset` | on it | |
//! | `family`, `ancestor` | what a picture goes on from | `data-job` |
//! | `pad` | the pad, a slider | `data-x`, `data-y`: its place; `data-followed`: whether its picture is of this place; `data-count`: pictures so far |
//! | `corner-<n>`, `corner-seed-<n>` | corners of the pad | `data-class`, `data-seed` |
//! | `pad-link` | what of a link to the pad could not be taken | |
//! | `to-pad` | the way from a picture to its place on the pad | |
//! | `pad-picture`, `pad-words`, `pad-rate`, `pad-keep`, `pad-share`, `pad-shared` | around the pad | |
//! | `recent-mine`, `recent-all`, `recent-more`, `recent-reuse` | recent results | |
//! | `open-file`, `opened`, `opened-said`, `opened-verify`, `opened-verdict`, `opened-go-on`, `opened-page`, `opened-close`, `opened-picture` | a picture file that is opened on the playground | |
//! | `lesson`, `lesson-<n>`, `lesson-back`, `lesson-on` | the lesson one is at, and the way to the others | `data-lesson` |
//! | `lesson-figure`, `lesson-slider` | its figure | `data-at`: place of the slider; `data-followed`: whether its picture is of this place |
//! | `lesson-picture`, `lesson-map`, `lesson-flow`, `lesson-measured`, `lesson-formulae` | in it | |
//! | `tool-waits` | words of a tool that has no picture yet | |
//! | `history-count` | how many results were found | `data-found` |
//! | `history-item`, `history-choice`, `history-item-star` | one of them | `data-job` |
//! | `history-text`, `history-plan`, `history-model`, `history-from`, `history-to`, `history-starred` | what is looked for | |
//! | `history-choose-all`, `history-compare`, `history-star`, `history-delete`, `history-zip`, `history-export`, `history-import` | what is done with those chosen | |
//! | `history-told`, `history-unkept`, `history-pair`, `history-pair-compare`, `history-more` | around the list | |
//! | `queue-open`, `queue`, `queued`, `queue-cancel`, `queue-cancel-all`, `queue-close` | what waits and runs | `data-count`, `data-job` |
//! | `grid-across`, `grid-across-values`, `grid-down`, `grid-down-values`, `grid-plan`, `grid-start`, `grid-reason` | what a grid is to be | |
//! | `grid`, `grid-cell`, `grid-told` | the grid | `data-there`, `data-count`: pictures that are there, and all |
//! | `grid-stop`, `grid-go-on`, `grid-sheet`, `grid-share` | what is done with it | |
//! | `undo`, `notice` | messages over the page | |
//! | `stopped` | message of a program that stopped | |
//! | `keys` | the dialog of keys | |
//! | `more-places` | opens the list of places where there is little room | |
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
