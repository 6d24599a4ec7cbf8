//! The whole page.

use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    api,
    components::{Header, KeysDialog, Notices, explanations},
    hooks::{
        BackendProvider, Key, SessionProvider, focus_main, open_place, use_backend,
        use_closing_by_focus, use_focus_after_press, use_keys, use_settings_of_address,
    },
    pages::{Fetched, Missing, Part, Playground, ResultPage},
    route::Route,
};

/// The page with its connection and its places.
#[component]
pub(crate) fn App() -> Html {
    html! {
        <BackendProvider>
            <SessionProvider>
                <BrowserRouter basename={basename()}>
                    <Frame />
                </BrowserRouter>
            </SessionProvider>
        </BackendProvider>
    }
}

/// What a proxy puts before the addresses of the page, if anything.
fn basename() -> Option<String> {
    let root = api::root();
    (root != "/").then(|| root.trim_end_matches('/').to_owned())
}

/// What stands around every place.
#[component]
fn Frame() -> Html {
    use_settings_of_address();
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
    use_focus_of_place();
    use_closing_by_focus();
    use_focus_after_press();
    let skip = Callback::from(|event: MouseEvent| {
        event.prevent_default();
        focus_main();
    });
    html! {
        <div
            class="page"
            data-testid="connection"
            data-connection={backend.store.connection.name()}
        >
            <a class="skip" href="#main" onclick={skip}>{ "Skip to the pictures" }</a>
            <Header on_keys={show_keys.reform(|()| true)} />
            <Notices />
            <Switch<Route> render={draw} />
            { foot() }
            { explanations() }
            if *keys {
                <KeysDialog on_close={show_keys.reform(|()| false)} />
            }
        </div>
    }
}

/// Puts the focus on a place that was just opened, where the old place took it along.
#[hook]
fn use_focus_of_place() {
    // The parts of an address of a comparison are one place.
    let place = use_route::<Route>().map(|route| match route {
        Route::Compared { .. } => Route::Compare,
        route => route,
    });
    let before = use_mut_ref(|| None::<Route>);
    use_effect_with(place, move |place| {
        let before = before.replace(place.clone());
        if before.is_some() && before != *place {
            open_place();
        }
    });
}

fn draw(route: Route) -> Html {
    match route {
        Route::Playground => html! { <Playground /> },
        Route::Compare | Route::Compared { .. } => fetched(Part::Compare),
        Route::Explore => fetched(Part::Explore),
        Route::Picture => fetched(Part::AtHand),
        Route::Learn => fetched(Part::Learn),
        Route::History => fetched(Part::History),
        Route::Grid => fetched(Part::Grid),
        Route::Result { id } => html! { <ResultPage key={id.clone()} id={id.clone()} /> },
        Route::NotFound => html! { <Missing words="There is nothing at this address" /> },
    }
}

/// Where to read on, below every place.
fn foot() -> Html {
    html! {
        <footer class="foot">
            <Link<Route> to={Route::Learn}>{ "How it works" }</Link<Route>>
            <a href={api::path("method.html")}>{ "The method and its papers" }</a>
            <span>{ "Open source: MIT or Apache 2.0" }</span>
        </footer>
    }
}

fn fetched(part: Part) -> Html {
    html! { <Fetched key={part.name()} {part} /> }
}
