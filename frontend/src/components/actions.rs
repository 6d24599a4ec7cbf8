//! What can be done with the pictures on the stage: look closer, share, download, delete.

use std::rc::Rc;

use gloo_timers::callback::Timeout;
use var_dd_protocol::JobId;
use wasm_bindgen::JsCast;
use web_sys::{HtmlElement, HtmlInputElement, HtmlSelectElement};
use yew::prelude::*;

use super::{notices::in_notices, share::use_share};
use crate::{
    api::{self, FileSize},
    hooks::{Key, owner_token, use_backend, use_keys},
    state::{job::Job, words},
};

/// Properties of [`Actions`].
#[derive(PartialEq, Properties)]
pub(crate) struct ActionsProps {
    /// What is on the stage, if anything; without it the buttons wait in their places.
    pub(crate) job: Option<Rc<Job>>,
    /// The picture brought forward, if any.
    pub(crate) forward: Option<usize>,
    /// Whether pixels are shown as squares.
    pub(crate) crisp: bool,
    pub(crate) on_pixels: Callback<bool>,
    pub(crate) on_look_closer: Callback<()>,
}

/// The buttons.
#[component]
pub(crate) fn Actions(props: &ActionsProps) -> Html {
    let job = props.job.as_ref();
    let is_there = job.is_some_and(|job| job.has_frames());
    let is_finished = job.is_some_and(|job| job.is_finished());
    let share = use_share(job, props.forward);
    {
        let press = share.press.clone();
        use_keys(Callback::from(move |key| {
            let wanted = key == Key::Share;
            if wanted {
                press.emit(());
            }
            wanted
        }));
    }
    let on_pixels = {
        let (on_pixels, crisp) = (props.on_pixels.clone(), props.crisp);
        Callback::from(move |_: MouseEvent| on_pixels.emit(!crisp))
    };
    html! {
        <div class="actions">
            <button
                type="button"
                data-testid="look-closer"
                disabled={!is_there}
                onclick={props.on_look_closer.reform(|_: MouseEvent| ())}
            >{ "Look closer" }</button>
            <button
                type="button"
                data-testid="pixels"
                aria-pressed={props.crisp.to_string()}
                class={classes!("wide-only", props.crisp.then_some("on"))}
                disabled={!is_there}
                onclick={on_pixels}
            >{ "Crisp pixels" }</button>
            <button
                type="button"
                data-testid="share"
                disabled={job.is_none()}
                onclick={share.press.reform(|_: MouseEvent| ())}
            >{ "Copy link" }</button>
            <button
                type="button"
                data-testid="downloads"
                disabled={!is_finished}
                popovertarget="download-menu"
            >{ "Download" }</button>
            if let Some(job) = job {
                <Downloads
                    key={job.id().to_string()}
                    job={job.clone()}
                    forward={props.forward}
                    crisp={props.crisp}
                />
            }
            { in_notices(share.card) }
        </div>
    }
}

/// Properties of [`Downloads`].
#[derive(PartialEq, Properties)]
struct DownloadsProps {
    job: Rc<Job>,
    forward: Option<usize>,
    crisp: bool,
}

/// The menu under Download: files, what is in them, and the way to be rid of all.
#[component]
fn Downloads(props: &DownloadsProps) -> Html {
    let backend = use_backend();
    let job = &props.job;
    let id = job.id().clone();
    let list = use_node_ref();
    let with_parameters = use_state_eq(|| true);
    let pictures: Vec<usize> = match props.forward {
        Some(picture) => vec![picture],
        None => (0..job.frames.len()).collect(),
    };
    let on_parameters = {
        let with_parameters = with_parameters.setter();
        Callback::from(move |event: Event| {
            with_parameters.set(event.target_unchecked_into::<HtmlInputElement>().checked());
        })
    };
    let times = use_state_eq(|| 1);
    let size = FileSize { times: *times, crisp: props.crisp };
    let sizes: Vec<u32> = FileSize::times_of(job.about.image_size).collect();
    let on_size = {
        let (times, sizes) = (times.setter(), sizes.clone());
        Callback::from(move |event: Event| {
            let list: HtmlSelectElement = event.target_unchecked_into();
            let chosen = usize::try_from(list.selected_index()).ok();
            times.set(chosen.and_then(|at| sizes.get(at).copied()).unwrap_or(1));
        })
    };
    let on_all = {
        let list = list.clone();
        Callback::from(move |_: MouseEvent| download_all(&list))
    };
    let delete = {
        let (backend, id, list) = (backend.clone(), id.clone(), list.clone());
        Callback::from(move |_: MouseEvent| {
            if let Some(list) = list.cast::<HtmlElement>() {
                // It is shown, or there is nothing to hide.
                let _ = list.hide_popover();
            }
            backend.delete(&id);
        })
    };
    let own = owner_token(&id).is_some();
    let several = pictures.len() > 1;
    html! {
        <div ref={list} id="download-menu" class="menu" popover="auto">
            if job.is_finished() {
                <label class="file-size">
                    <span>{ "Size" }</span>
                    <select data-testid="download-size" onchange={on_size}>
                        { for sizes.iter().map(|&each| html! {
                            <option key={each} selected={each == *times}>
                                { words::file_size(job.about.image_size, each, props.crisp) }
                            </option>
                        }) }
                    </select>
                </label>
                if several {
                    <button type="button" data-testid="download-all" onclick={on_all}>
                        { format!("All {}", pictures.len()) }
                    </button>
                }
                { for pictures.iter().map(|&picture| html! {
                    <a
                        key={picture}
                        class="button file"
                        data-testid={(picture == pictures[0]).then_some("download")}
                        href={api::download_path(&id, picture, *with_parameters, size)}
                        download=""
                    >{ match job.frames.len() {
                        1 => "Picture (PNG)".to_owned(),
                        _ => format!("Picture {} (PNG)", picture + 1),
                    } }</a>
                }) }
                { exports(&id, pictures.first().copied().unwrap_or(0), job.frames.len() > 1, size) }
                <label class="tick">
                    <input type="checkbox" checked={*with_parameters} onchange={on_parameters} />
                    <span>{ "settings in the file" }</span>
                </label>
            }
            if own && job.state.is_final() {
                <button type="button" class="apart" data-testid="delete" onclick={delete}>
                    { if job.frames.len() == 1 { "Delete this picture" } else { "Delete" } }
                </button>
            }
        </div>
    }
}

/// A result as one file, and the code of its link.
fn exports(id: &JobId, picture: usize, several: bool, size: FileSize) -> Html {
    let kinds = [
        ("gif", "Animation (GIF)"),
        ("apng", "Animation (APNG)"),
        ("webp", "Animation (WebP)"),
        ("mp4", "Video (MP4)"),
        ("filmstrip", "All scales (PNG)"),
        ("sheet", "All pictures (PNG)"),
    ];
    let shown = if several { &kinds[..] } else { &kinds[..5] };
    html! {
        <>
            { for shown.iter().map(|&(kind, name)| html! {
                <a
                    key={kind}
                    class="button"
                    data-testid={format!("export-{kind}")}
                    href={api::export_path(id, kind, picture, size)}
                    download=""
                >{ name }</a>
            }) }
            <a
                class="button"
                data-testid="qr"
                href={api::qr_path(id)}
                download={format!("var-dd-{id}-qr.svg")}
            >{ "QR code of the link (SVG)" }</a>
        </>
    }
}

/// Clicks each file in turn; a browser takes several downloads only one after the other.
fn download_all(list: &NodeRef) {
    let Some(list) = list.cast::<HtmlElement>() else { return };
    let Ok(files) = list.query_selector_all("a.file") else { return };
    for at in 0..files.length() {
        if let Some(file) = files.get(at).and_then(|file| file.dyn_into::<HtmlElement>().ok()) {
            Timeout::new(at * 300, move || file.click()).forget();
        }
    }
}
