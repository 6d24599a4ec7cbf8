//! Tools that wait folded until they are wanted. Their code is fetched when the first of them is.

// The macro that marks a split declares the function at both of its ends.
#![allow(unsafe_code)]

use std::{cell::Cell, rc::Rc};

use wasm_split_helpers::{SplitLoaderError, wasm_split};
use web_sys::HtmlDetailsElement;
use yew::prelude::*;

use super::{
    desk::Desk,
    inspector::Inspector,
    lightbox::{Lightbox, LightboxProps},
    opened_card::{OpenedCard, OpenedCardProps},
    plan_builder::{PlanBuilder, PlanBuilderProps},
    swipe::Swipe,
};
use crate::{
    hooks::{Fetching, use_fetched},
    state::{job::Job, opened::Opened},
};

/// What the fetched code can do.
#[derive(Clone, Copy)]
pub(super) struct Tools {
    desk: fn(FoldedProps) -> Html,
    swipe: fn(FoldedProps) -> Html,
    inspector: fn(FoldedProps) -> Html,
    pub(super) lightbox: fn(LightboxProps) -> Html,
    pub(super) plan_builder: fn(PlanBuilderProps) -> Html,
    pub(super) opened_card: fn(OpenedCardProps) -> Html,
    /// Reads a file by its name and its bytes.
    pub(super) read_file: fn(String, &[u8]) -> Result<Opened, String>,
}

#[wasm_split(tools, fallible)]
fn tools() -> Result<Tools, SplitLoaderError> {
    Ok(Tools {
        desk: |props| html! { <Desk ..props /> },
        swipe: |props| html! { <Swipe ..props /> },
        inspector: |props| html! { <Inspector ..props /> },
        lightbox: |props| html! { <Lightbox ..props /> },
        plan_builder: |props| html! { <PlanBuilder ..props /> },
        opened_card: |props| html! { <OpenedCard ..props /> },
        read_file: Opened::read,
    })
}

thread_local! {
    static HERE: Cell<Option<Tools>> = const { Cell::new(None) };
}

/// The tools, once their code is here.
///
/// # Errors
/// In words, if it could not be fetched.
pub(super) async fn fetched() -> Result<Tools, String> {
    if let Some(tools) = HERE.get() {
        return Ok(tools);
    }
    let tools = tools().await.map_err(|_| Fetching::<Tools>::MISSING.to_owned())?;
    HERE.set(Some(tools));
    Ok(tools)
}

impl Fetching<Tools> {
    /// One of them, or why it is not there.
    pub(super) fn draw(self, tool: impl FnOnce(Tools) -> Html) -> Html {
        match self {
            Self::Here(tools) => tool(tools),
            Self::Coming => html! { <p class="hint" role="status">{ "Loading" }</p> },
            Self::Missing(again) => html! {
                <div class="part-missing" data-testid="part-missing">
                    <p role="alert">{ Self::MISSING }</p>
                    <button type="button" onclick={again}>{ "Try again" }</button>
                </div>
            },
        }
    }
}

/// The tools, which are fetched once they are wanted.
#[hook]
pub(super) fn use_tools(wanted: bool) -> Fetching<Tools> {
    let is_due = wanted && HERE.get().is_none();
    let fetching = use_fetched(is_due.then_some(()), |()| async { fetched().await.ok() });
    HERE.get().map_or(fetching, Fetching::Here)
}

/// A tool for the picture on the stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tool {
    /// A fader for each scale.
    Desk,
    /// The picture over another one.
    Swipe,
    /// The tokens that cover a place.
    Inspector,
}

impl Tool {
    /// What the fold says.
    fn summary(self) -> &'static str {
        match self {
            Self::Desk => "Play with its scales",
            Self::Swipe => "Lay it over another picture",
            Self::Inspector => "Look into its tokens",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Desk => "desk",
            Self::Swipe => "swipe",
            Self::Inspector => "inspector",
        }
    }
}

/// What a tool works on.
#[derive(Clone, PartialEq, Properties)]
pub(super) struct FoldedProps {
    /// What is on the stage, if anything. A tool waits until it is finished.
    pub(super) job: Option<Rc<Job>>,
    /// The picture of several that is meant.
    pub(super) picture: usize,
    /// Whether it is to be seen.
    #[prop_or_default]
    pub(super) is_open: bool,
}

impl FoldedProps {
    /// What there is to work on while the tool is to be seen.
    pub(super) fn finished(&self) -> Option<&Rc<Job>> {
        let job = self.job.as_ref().filter(|job| job.is_finished() && job.has_frames());
        job.filter(|_| self.is_open)
    }
}

/// Properties of [`Fold`].
#[derive(PartialEq, Properties)]
pub(super) struct FoldProps {
    pub(super) tool: Tool,
    pub(super) job: Option<Rc<Job>>,
    pub(super) picture: usize,
}

/// A tool, folded until it is wanted.
#[component]
pub(super) fn Fold(props: &FoldProps) -> Html {
    let is_open = use_state_eq(|| false);
    let was_open = use_mut_ref(|| false);
    let tools = use_tools(*is_open);
    let ontoggle = {
        let is_open = is_open.setter();
        Callback::from(move |event: Event| {
            is_open.set(event.target_unchecked_into::<HtmlDetailsElement>().open());
        })
    };
    // Folded again it keeps what was set.
    let is_there = *was_open.borrow() || *is_open;
    was_open.replace(is_there);
    let FoldProps { tool, job, picture } = props;
    let inside = FoldedProps { job: job.clone(), picture: *picture, is_open: *is_open };
    let is_idle = *is_open && inside.finished().is_none();
    let name = tool.name();
    html! {
        <details class={classes!("desk", name)} data-testid={name} {ontoggle}>
            <summary data-testid={format!("{name}-open")}>{ tool.summary() }</summary>
            if is_idle {
                <p class="hint" data-testid="tool-waits">
                    { "This needs a finished picture that was drawn here." }
                </p>
            }
            if is_there {
                { tools.draw(|tools| match tool {
                    Tool::Desk => (tools.desk)(inside),
                    Tool::Swipe => (tools.swipe)(inside),
                    Tool::Inspector => (tools.inspector)(inside),
                }) }
            }
        </details>
    }
}
