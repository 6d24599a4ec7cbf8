//! A picture file that is opened on the playground: it is on the stage, its settings come back into
//! the controls, and a card tells what it is.

use std::rc::Rc;

use var_dd_protocol::{ErrorBody, Verification};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Element, File, HtmlElement, HtmlImageElement};
use yew::prelude::*;
use yew_router::prelude::*;

use super::{Sign, file_button, sign};
use crate::{
    api,
    hooks::{Controls, Current, hand_over, use_backend, use_files},
    route::Route,
    state::{
        job::Picture,
        opened::{MEDIA_TYPES, MOST_BYTES, Opened, Place},
        words,
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
struct Card {
    file: File,
    /// As it is shown, if it is a picture or a video at all.
    shown: Option<OnStage>,
    /// What was on the stage when it was opened.
    over: Current,
    /// What it says of itself, or why it says nothing.
    told: Result<Rc<Opened>, String>,
    /// Which of its settings could not be taken.
    left_out: Vec<String>,
}

/// How it compares with the same request drawn again.
#[derive(Clone, PartialEq)]
enum Check {
    NotAsked,
    Asking,
    Told(Result<Verification, ErrorBody>),
}

/// Takes files that are dropped, pasted or chosen.
#[hook]
pub(crate) fn use_opened(controls: &Controls, current: &Current) -> OpenedFile {
    let is_usable = use_backend().store.connection.is_usable();
    let card = use_state_eq(|| None::<Card>);
    let check = use_state_eq(|| Check::NotAsked);
    let (input, place) = (use_node_ref(), use_node_ref());
    let is_ready = !controls.models.is_empty();
    let take = {
        let (card, check, controls) = (card.setter(), check.setter(), controls.clone());
        let over = current.clone();
        Callback::from(move |file: File| {
            if controls.models.is_empty() {
                return;
            }
            let (card, check, controls) = (card.clone(), check.clone(), controls.clone());
            let over = over.clone();
            spawn_local(async move {
                let told = read(&file).await.map(Rc::new);
                let shown = shown(&file, told.as_ref().ok()).await;
                let mut left_out = Vec::new();
                if let Ok(opened) = &told {
                    let taken = opened.apply((*controls.settings).clone(), &controls.models);
                    controls.settings.set(taken.0);
                    left_out = taken.1;
                }
                check.set(Check::NotAsked);
                card.set(Some(Card { file, shown, over, told, left_out }));
            });
        })
    };
    let is_dragged = use_files(&take);
    // On a narrow screen the card is below the stage.
    {
        let place = place.clone();
        use_effect_with((*card).clone(), move |card| {
            if let Some(place) = place.cast::<Element>().filter(|_| card.is_some()) {
                let options = web_sys::ScrollIntoViewOptions::new();
                options.set_block(web_sys::ScrollLogicalPosition::Nearest);
                place.scroll_into_view_with_scroll_into_view_options(&options);
            }
        });
    }
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
    let verify = {
        let (card, check) = (card.clone(), check.setter());
        Callback::from(move |_: MouseEvent| {
            let Some(file) = card.as_ref().map(|card| card.file.clone()) else { return };
            check.set(Check::Asking);
            let check = check.clone();
            spawn_local(async move { check.set(Check::Told(api::verify(&file).await)) });
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
        let close = close.clone();
        match &card.told {
            Ok(opened) => draw(opened, &card, &check, is_usable, controls, &verify, close),
            Err(why) => without_settings(&card, why, &go_on, close),
        }
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
    Opened::read(file.name(), &js_sys::Uint8Array::new(&buffer).to_vec())
}

fn head(file_name: &str, close: Callback<MouseEvent>) -> Html {
    html! {
        <div class="opened-head">
            <h2>{ file_name.to_owned() }</h2>
            <button
                type="button"
                class="quiet"
                data-testid="opened-close"
                aria-label="Close what is told of this file"
                onclick={close}
            >{ sign(Sign::Close) }</button>
        </div>
    }
}

/// A file that says how it was drawn.
fn draw(
    opened: &Opened,
    card: &Card,
    check: &Check,
    is_usable: bool,
    controls: &Controls,
    verify: &Callback<MouseEvent>,
    close: Callback<MouseEvent>,
) -> Html {
    let cannot = opened.cannot_verify(&controls.models);
    let (told, is_trouble) = match (&cannot, check) {
        (Some(why), _) => (format!("It cannot be verified. {why}"), false),
        (None, Check::NotAsked) => (String::new(), false),
        (None, Check::Asking) => ("Drawing it again…".to_owned(), false),
        (None, Check::Told(Ok(outcome))) => {
            (format!("Drawn again: {}.", outcome.verdict()), outcome.largest_difference > 0)
        }
        (None, Check::Told(Err(error))) => (words::refusal(error), true),
    };
    // What is known is not asked for again; a server that was busy may be.
    let can_ask = matches!(check, Check::NotAsked | Check::Told(Err(_))) && is_usable;
    html! {
        <>
            { head(&opened.file_name, close) }
            <dl>
                { for opened.settings(&controls.models).into_iter().map(|(name, value)| html! {
                    <div key={name}><dt>{ name }</dt><dd>{ value }</dd></div>
                }) }
            </dl>
            <p class="hint">
                { if card.left_out.is_empty() {
                    "The controls have these settings now.".to_owned()
                } else {
                    format!("Not all of it is in the controls: {}.", card.left_out.join("; "))
                } }
            </p>
            { opened.place().map(|place| onward(&place)).unwrap_or_default() }
            if cannot.is_none() {
                <button
                    type="button"
                    data-testid="opened-verify"
                    disabled={!can_ask}
                    onclick={verify.clone()}
                >{ "Verify" }</button>
            }
            <p
                class={if is_trouble { "problem" } else { "hint" }}
                role="status"
                data-testid="opened-verdict"
            >{ told }</p>
        </>
    }
}

/// The way to the place in the page that shows the same.
fn onward(place: &Place<'_>) -> Html {
    let (page, words) = match place {
        Place::Page(page) if page.starts_with("grid") => ((*page).to_owned(), "Open the grid"),
        Place::Page(page) if page.starts_with("explore") => ((*page).to_owned(), "Open the walk"),
        Place::Page(page) => ((*page).to_owned(), "Open the comparison"),
        Place::Pad(model, pad) => (api::page("explore", &pad.query(model)), "Open in Explore"),
    };
    html! { <p><a href={api::path(&page)} data-testid="opened-page">{ words }</a></p> }
}

/// A file that does not.
fn without_settings(
    card: &Card,
    why: &str,
    go_on: &Callback<File>,
    close: Callback<MouseEvent>,
) -> Html {
    let file = &card.file;
    let is_picture = card.shown.is_some() && api::ENCODED_TYPES.contains(&file.type_().as_str());
    let onclick = {
        let file = file.clone();
        go_on.reform(move |_: MouseEvent| file.clone())
    };
    html! {
        <>
            { head(&file.name(), close) }
            <p class="problem">{ why.to_owned() }</p>
            if is_picture {
                <p class="hint">
                    { "You can go on from it as a picture of your own: it becomes tokens." }
                </p>
                <button type="button" data-testid="opened-go-on" {onclick}>
                    { "Go on from it" }
                </button>
            }
        </>
    }
}
