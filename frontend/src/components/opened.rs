//! A picture file that is opened on the playground: it is on the stage, its settings come back into
//! the controls, and a card tells what it is.

use std::rc::Rc;

use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{File, HtmlElement, HtmlImageElement};
use yew::prelude::*;
use yew_router::prelude::*;

use super::{
    file_button,
    opened_card::OpenedCardProps,
    tools::{self, use_tools},
};
use crate::{
    api,
    hooks::{Controls, Current, hand_over, use_files, use_in_sight},
    route::Route,
    state::{
        job::Picture,
        opened::{MEDIA_TYPES, MOST_BYTES, Opened},
    },
};

/// What the place for files on the playground shows.
pub(crate) struct OpenedFile {
    /// What is told of the file, if there is one.
    pub(crate) card: Html,
    /// The button by which one is opened.
    pub(crate) button: Html,
    /// The file as the stage shows it, until something else comes onto the stage.
    pub(crate) on_stage: Option<OnStage>,
    /// Whether a file is being dragged over the page.
    pub(crate) is_dragged: bool,
}

/// A file that a browser can show.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OnStage {
    pub(crate) picture: Picture,
    pub(crate) file_name: String,
    pub(crate) is_video: bool,
    /// Its larger side in pixels.
    pub(crate) side: u32,
}

/// The newest file.
#[derive(Clone, PartialEq)]
pub(super) struct Card {
    pub(super) file: File,
    /// As it is shown, if it is a picture or a video at all.
    pub(super) shown: Option<OnStage>,
    /// What was on the stage when it was opened.
    over: Current,
    /// What it says of itself, or why it says nothing.
    pub(super) told: Result<Rc<Opened>, String>,
    /// Which of its settings could not be taken.
    pub(super) left_out: Vec<String>,
}

/// Takes files that are dropped, pasted or chosen.
#[hook]
pub(crate) fn use_opened(controls: &Controls, current: &Current) -> OpenedFile {
    let card = use_state_eq(|| None::<Card>);
    let tools = use_tools(card.is_some());
    let (input, place) = (use_node_ref(), use_node_ref());
    let is_ready = !controls.models.is_empty();
    let take = {
        let (card, controls) = (card.setter(), controls.clone());
        let over = current.clone();
        Callback::from(move |file: File| {
            if controls.models.is_empty() {
                return;
            }
            let (card, controls, over) = (card.clone(), controls.clone(), over.clone());
            spawn_local(async move {
                let told = read(&file).await.map(Rc::new);
                let shown = shown(&file, told.as_ref().ok()).await;
                let mut left_out = Vec::new();
                if let Ok(opened) = &told {
                    let taken = opened.apply((*controls.settings).clone(), &controls.models);
                    controls.settings.set(taken.0);
                    left_out = taken.1;
                }
                card.set(Some(Card { file, shown, over, told, left_out }));
            });
        })
    };
    let is_dragged = use_files(&take);
    // On a narrow screen the card is below the stage.
    use_in_sight(&place, (*card).clone());
    let close = {
        let (card, input) = (card.setter(), input.clone());
        Callback::from(move |_: MouseEvent| {
            card.set(None);
            // The button that had the focus goes away.
            if let Some(input) = input.cast::<HtmlElement>() {
                let _ = input.focus();
            }
        })
    };
    let navigator = use_navigator();
    let go_on = Callback::from(move |file: File| {
        hand_over(file);
        if let Some(navigator) = &navigator {
            navigator.push(&Route::Picture);
        }
    });
    let said = match card.as_ref().map(|card| (card, &card.told)) {
        None => String::new(),
        Some((_, Ok(opened))) => {
            format!("The controls have the settings of {}.", opened.file_name)
        }
        Some((card, Err(why))) => format!("{}: {why}", card.file.name()),
    };
    let drawn = (*card).clone().map(|card| {
        tools.draw(|tools| {
            (tools.opened_card)(OpenedCardProps { card, on_close: close, on_go_on: go_on })
        })
    });
    OpenedFile {
        card: html! {
            <>
                <p class="unseen" role="status" data-testid="opened-said">{ said }</p>
                if let Some(drawn) = drawn {
                    <section
                        ref={place}
                        class="opened"
                        data-testid="opened"
                        aria-label="The file that you opened"
                    >{ drawn }</section>
                }
            </>
        },
        button: html! {
            <div class="open-file">
                { file_button(
                    "open-file",
                    "Open a picture",
                    &MEDIA_TYPES,
                    is_ready,
                    &input,
                    &take,
                ) }
                <p class="hint">
                    { "or drop or paste a downloaded one, an export or a sheet: its settings come \
                        back" }
                </p>
            </div>
        },
        on_stage: card
            .as_ref()
            .filter(|card| card.over == *current)
            .and_then(|card| card.shown.clone()),
        is_dragged,
    }
}

/// A file as the stage shows it, if the browser can.
async fn shown(file: &File, opened: Option<&Rc<Opened>>) -> Option<OnStage> {
    let picture = api::picture_of_file(file)?;
    let video = opened.filter(|opened| opened.is_video());
    let side = match video {
        Some(video) => video.side(),
        None => {
            // Whatever its name says: only what can be decoded is a picture.
            let image = HtmlImageElement::new().ok()?;
            image.set_src(picture.url());
            JsFuture::from(image.decode()).await.ok()?;
            image.natural_width().max(image.natural_height())
        }
    };
    Some(OnStage { picture, file_name: file.name(), is_video: video.is_some(), side })
}

/// Reads a file.
async fn read(file: &File) -> Result<Opened, String> {
    if file.size() > MOST_BYTES {
        let megabytes = (file.size() / 1e6).round();
        return Err(format!(
            "It has {megabytes} MB; pictures that are drawn here have at most 16."
        ));
    }
    let buffer = JsFuture::from(file.array_buffer()).await;
    let buffer = buffer.map_err(|_| "The browser cannot read it.".to_owned())?;
    let tools = tools::fetched().await?;
    (tools.read_file)(file.name(), &js_sys::Uint8Array::new(&buffer).to_vec())
}
