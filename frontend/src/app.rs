//! The whole page.

use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    components::{Header, KeysDialog, Notices},
    hooks::{BackendProvider, Key, use_backend, use_keys},
    pages::{Compare, Missing, Playground, ResultPage},
    route::Route,
};

/// The page with its connection and its places.
#[component]
pub(crate) fn App() -> Html {
    html! {
        <BrowserRouter>
            <BackendProvider>
                <Frame />
            </BackendProvider>
        </BrowserRouter>
    }
}

/// What stands around every place.
#[component]
fn Frame() -> Html {
    let backend = use_backend();
    let navigator = use_navigator();
    let keys = use_state_eq(|| false);
    let show_keys = {
        let keys = keys.setter();
        Callback::from(move |show| keys.set(show))
    };
    {
        let (show_keys, navigator) = (show_keys.clone(), navigator.clone());
        use_keys(Callback::from(move |key| {
            match (key, &navigator) {
                (Key::List, _) => show_keys.emit(true),
                (Key::Compare, Some(navigator)) => navigator.push(&Route::Compare),
                _ => return false,
            }
            true
        }));
    }
    html! {
        <div class="page" data-testid="connection" data-connection={backend.store.connection.name()}>
            <Header on_keys={show_keys.reform(|()| true)} />
            <Notices />
            <Switch<Route> render={draw} />
            if *keys {
                <KeysDialog on_close={show_keys.reform(|()| false)} />
            }
        </div>
    }
}

fn draw(route: Route) -> Html {
    match route {
        Route::Playground => html! { <Playground /> },
        Route::Compare => html! { <Compare /> },
        Route::Result { id } => html! { <ResultPage key={id.clone()} id={id.clone()} /> },
        Route::NotFound => html! { <Missing words="There is nothing at this address" /> },
    }
}
