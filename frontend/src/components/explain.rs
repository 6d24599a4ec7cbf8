//! Short help at the words of the trade: a tap, a click or a key opens it.
//!
//! Each word is a button that opens a popover of the browser's own, which closes by `Esc` and by a
//! tap elsewhere and gives the focus back.

use yew::prelude::*;

use crate::state::glossary::Term;

/// Properties of [`Explain`].
#[derive(PartialEq, Properties)]
pub(crate) struct ExplainProps {
    pub(crate) term: Term,
    /// What the button says; the term itself if absent.
    #[prop_or_default]
    pub(crate) words: Option<AttrValue>,
}

/// A word that explains itself.
#[component]
pub(crate) fn Explain(props: &ExplainProps) -> Html {
    let words = props.words.clone().unwrap_or_else(|| props.term.name().into());
    html! {
        <button
            type="button"
            class="term"
            data-testid={format!("explain-{}", props.term.id())}
            popovertarget={format!("term-{}", props.term.id())}
        >{ words }</button>
    }
}

/// What the words of [`Explain`] open; once on the page.
#[component]
pub(crate) fn Explanations() -> Html {
    html! {
        <aside class="explanations" aria-label="Explanations">
            { for Term::ALL.into_iter().map(|term| html! {
                <div
                    key={term.id()}
                    id={format!("term-{}", term.id())}
                    class="explanation"
                    data-testid={format!("explanation-{}", term.id())}
                    popover="auto"
                    role="note"
                    aria-label={term.name()}
                >
                    <p><strong>{ term.name() }</strong></p>
                    <p>{ term.meaning() }</p>
                </div>
            }) }
        </aside>
    }
}
