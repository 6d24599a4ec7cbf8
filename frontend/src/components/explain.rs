//! Short help at the words of the trade: a tap, a click or a key opens it.
//!
//! Each word is a button that opens a popover of the browser's own, which closes by `Esc` and by a
//! tap elsewhere and gives the focus back.

use yew::prelude::*;

use crate::state::glossary::Term;

/// A word that explains itself.
pub(crate) fn explain(term: Term) -> Html {
    explain_as(term, term.name())
}

/// As [`explain`], by another word.
pub(crate) fn explain_as(term: Term, words: &'static str) -> Html {
    html! {
        <button
            type="button"
            class="term"
            data-testid={format!("explain-{}", term.id())}
            popovertarget={format!("term-{}", term.id())}
        >{ words }</button>
    }
}

/// A sign beside a control that explains it.
pub(crate) fn help(term: Term) -> Html {
    html! {
        <button
            type="button"
            class="term help"
            data-testid={format!("explain-{}", term.id())}
            popovertarget={format!("term-{}", term.id())}
            aria-label={format!("Explain: {}", term.name())}
        >{ "?" }</button>
    }
}

/// What the words of [`explain`] open; once on the page.
pub(crate) fn explanations() -> Html {
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
