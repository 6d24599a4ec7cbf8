//! Places whose code the browser fetches when they are first opened, so that nobody waits for more
//! than the place at hand.

// The macro that marks a split declares the function at both of its ends.
#![allow(unsafe_code)]

use wasm_split_helpers::{SplitLoaderError, wasm_split};
use yew::prelude::*;

use super::{AtHand, Compare, Explore, GridPage, History, Learn};
use crate::hooks::{Fetching, has_main_focus, open_place, use_fetched};

/// A place drawn, or that its code did not arrive.
type Drawn = Result<Html, SplitLoaderError>;

/// A place that is fetched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    Compare,
    Explore,
    AtHand,
    Grid,
    History,
    Learn,
}

impl Part {
    /// What tells it from the others.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Compare => "compare",
            Self::Explore => "explore",
            Self::AtHand => "picture",
            Self::Grid => "grid",
            Self::History => "history",
            Self::Learn => "learn",
        }
    }

    async fn draw(self) -> Drawn {
        match self {
            Self::Compare => compare().await,
            Self::Explore => explore().await,
            Self::AtHand => at_hand().await,
            Self::Grid => grid().await,
            Self::History => history().await,
            Self::Learn => learn().await,
        }
    }
}

#[wasm_split(compare, fallible)]
fn compare() -> Drawn {
    Ok(html! { <Compare /> })
}

#[wasm_split(explore, fallible)]
fn explore() -> Drawn {
    Ok(html! { <Explore /> })
}

// What plays with one picture is what plays with many.
#[wasm_split(explore, fallible)]
fn at_hand() -> Drawn {
    Ok(html! { <AtHand /> })
}

#[wasm_split(grid, fallible)]
fn grid() -> Drawn {
    Ok(html! { <GridPage /> })
}

#[wasm_split(history, fallible)]
fn history() -> Drawn {
    Ok(html! { <History /> })
}

#[wasm_split(learn, fallible)]
fn learn() -> Drawn {
    Ok(html! { <Learn /> })
}

/// Properties of [`Fetched`].
#[derive(PartialEq, Properties)]
pub(crate) struct FetchedProps {
    pub(crate) part: Part,
}

fn reload(_: MouseEvent) {
    if let Some(window) = web_sys::window() {
        // What cannot be loaded again stays as it is.
        let _ = window.location().reload();
    }
}

/// A place once its code is here; until then, that it comes.
#[component]
pub(crate) fn Fetched(props: &FetchedProps) -> Html {
    let had_focus = use_mut_ref(|| false);
    let place = {
        let had_focus = had_focus.clone();
        use_fetched(Some(props.part), |part| async move {
            let place = part.draw().await;
            *had_focus.borrow_mut() = has_main_focus();
            place.ok()
        })
    };
    // The place takes the focus along that waited for it.
    use_effect_with(matches!(place, Fetching::Coming), move |_| {
        if had_focus.take() {
            open_place();
        }
    });
    match place {
        Fetching::Here(place) => place,
        Fetching::Missing(again) => html! {
            <main class="missing" data-testid="part-missing" id="main" tabindex="-1">
                <p role="alert">{ Fetching::<Html>::MISSING }</p>
                <button type="button" onclick={again}>{ "Try again" }</button>
                // A server that was replaced has other parts.
                <button type="button" onclick={reload}>{ "Reload the page" }</button>
            </main>
        },
        Fetching::Coming => html! {
            <main class="missing" id="main" tabindex="-1">
                <p class="starting" role="status">{ "Loading" }</p>
            </main>
        },
    }
}
