//! What is told of a picture file that was opened.

use var_dd_protocol::{ErrorBody, ModelInfo, Verification};
use wasm_bindgen_futures::spawn_local;
use web_sys::File;
use yew::prelude::*;

use super::{Sign, opened::Card, sign};
use crate::{
    api,
    hooks::{use_backend, use_controls},
    state::{
        opened::{Opened, Place},
        words,
    },
};

/// How it compares with the same request drawn again.
#[derive(Clone, PartialEq)]
enum Check {
    NotAsked,
    Asking,
    Told(Result<Verification, ErrorBody>),
}

/// Properties of [`OpenedCard`].
#[derive(PartialEq, Properties)]
pub(super) struct OpenedCardProps {
    pub(super) card: Card,
    pub(super) on_close: Callback<MouseEvent>,
    /// Goes on from the picture as one of one's own.
    pub(super) on_go_on: Callback<File>,
}

/// The settings that a file says, or why it says none.
#[component]
pub(super) fn OpenedCard(props: &OpenedCardProps) -> Html {
    let OpenedCardProps { card, on_close, on_go_on } = props;
    let is_usable = use_backend().store.connection.is_usable();
    let models = use_controls().models;
    // Of this file.
    let checked = use_state_eq(|| None::<(File, Check)>);
    let check = checked.as_ref().filter(|(of, _)| *of == card.file).map(|(_, check)| check);
    let check = check.cloned().unwrap_or(Check::NotAsked);
    let verify = {
        let (file, checked) = (card.file.clone(), checked.setter());
        Callback::from(move |_: MouseEvent| {
            checked.set(Some((file.clone(), Check::Asking)));
            let (file, checked) = (file.clone(), checked.clone());
            spawn_local(async move {
                let told = Check::Told(api::verify(&file).await);
                checked.set(Some((file, told)));
            });
        })
    };
    match &card.told {
        Ok(opened) => draw(opened, card, &check, is_usable, &models, &verify, on_close.clone()),
        Err(why) => without_settings(card, why, on_go_on, on_close.clone()),
    }
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
    models: &[ModelInfo],
    verify: &Callback<MouseEvent>,
    close: Callback<MouseEvent>,
) -> Html {
    let cannot = opened.cannot_verify(models);
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
                { for opened.settings(models).into_iter().map(|(name, value)| html! {
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
