//! Where there is nothing to show.

use yew::prelude::*;
use yew_router::prelude::*;

use crate::{hooks::use_title, route::Route};

/// Properties of [`Missing`].
#[derive(PartialEq, Properties)]
pub(crate) struct MissingProps {
    /// What is not there.
    pub(crate) words: AttrValue,
    /// What the person may do about it, if anything is known.
    #[prop_or_default]
    pub(crate) advice: AttrValue,
    /// What the person may do right here.
    #[prop_or_default]
    pub(crate) children: Html,
}

/// Words, and a way on.
#[component]
pub(crate) fn Missing(props: &MissingProps) -> Html {
    use_title("Nothing here".into());
    html! {
        <main class="missing" data-testid="missing" id="main" tabindex="-1">
            <h1>{ &props.words }</h1>
            if !props.advice.is_empty() {
                <p>{ &props.advice }</p>
            }
            { props.children.clone() }
            <p><Link<Route> to={Route::Playground} classes="button">{ "Draw one" }</Link<Route>></p>
        </main>
    }
}
