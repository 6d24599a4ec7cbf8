//! The top of every page: name, places, colours, keys.

use web_sys::HtmlElement;
use yew::prelude::*;
use yew_router::prelude::*;

use super::Queue;
use crate::{api, hooks::use_theme, route::Route};

/// Properties of [`Header`].
#[derive(PartialEq, Properties)]
pub(crate) struct HeaderProps {
    /// The list of keys is wanted.
    pub(crate) on_keys: Callback<()>,
}

/// The top of the page.
#[component]
pub(crate) fn Header(props: &HeaderProps) -> Html {
    let route = use_route::<Route>();
    let (theme, choose) = use_theme();
    let on_theme = Callback::from(move |_: MouseEvent| choose.emit(theme.next()));
    let on_keys = props.on_keys.reform(|_: MouseEvent| ());
    let navigator = use_navigator();
    let menu = use_node_ref();
    let place = |(to, name, is_first): &(Route, &'static str, bool)| {
        let here = match (&route, to) {
            (Some(Route::Compared { .. }), Route::Compare) => true,
            (Some(Route::Picture), Route::Explore) => true,
            (route, to) => route.as_ref() == Some(to),
        };
        let href = api::path(to.to_path().trim_start_matches('/'));
        let (navigator, to, menu) = (navigator.clone(), to.clone(), menu.clone());
        let onclick = Callback::from(move |event: MouseEvent| {
            let elsewhere = event.meta_key() || event.ctrl_key() || event.shift_key();
            if let Some(navigator) = navigator.as_ref().filter(|_| !elsewhere) {
                event.prevent_default();
                if let Some(menu) = menu.cast::<HtmlElement>() {
                    // It is shown, or there is nothing to hide.
                    let _ = menu.hide_popover();
                }
                navigator.push(&to);
            }
        });
        html! {
            <a
                key={*name}
                {href}
                class={classes!("place", here.then_some("here"), is_first.then_some("first"))}
                aria-current={here.then_some("page")}
                {onclick}
            >{ *name }</a>
        }
    };
    let places = [
        (Route::Playground, "Playground", true),
        (Route::Compare, "Compare", true),
        (Route::Explore, "Explore", true),
        (Route::Grid, "Grid", false),
        (Route::History, "History", false),
        (Route::Learn, "Learn", false),
    ];
    html! {
        <header class="top">
            <Link<Route> to={Route::Playground} classes="brand">
                <svg viewBox="0 0 20 20" aria-hidden="true">
                    <rect class="lit" x="1" y="1" width="8" height="8" rx="1.5" />
                    <path d="M11 1h3.5v3.5H11zM15.5 1H19v3.5h-3.5zM11 5.5h3.5V9H11zM15.5 \
                        5.5H19V9h-3.5zM1 11h3.5v3.5H1zM5.5 11H9v3.5H5.5zM1 15.5h3.5V19H1zM5.5 \
                        15.5H9V19H5.5zM11 11h8v8h-8z" />
                </svg>
                <span>{ "VAR-DD" }</span>
            </Link<Route>>
            <nav aria-label="Places">
                { for places.iter().map(&place) }
                <button
                    type="button"
                    class="quiet more-places"
                    data-testid="more-places"
                    popovertarget="places"
                >{ "More" }</button>
                <div ref={menu.clone()} id="places" class="menu" popover="auto">
                    { for places.iter().map(&place) }
                </div>
            </nav>
            <div class="aside">
                <Queue />
                <button
                    type="button"
                    class="quiet"
                    data-testid="theme"
                    data-theme={theme.name()}
                    onclick={on_theme}
                    aria-label={format!("Colours: {}. Change to {}", theme.name(), theme.next().name())}
                >
                    <svg class="sign" viewBox="0 0 20 20" aria-hidden="true">
                        <path
                            d="M10 2a8 8 0 1 0 0 16 8 8 0 0 0 0-16zm0 1.6a6.4 6.4 0 0 1 0 12.8z"
                            fill-rule="evenodd"
                        />
                    </svg>
                </button>
                <button
                    type="button"
                    class="quiet"
                    data-testid="settings"
                    onclick={on_keys}
                    aria-label="Settings and keys"
                >
                    <svg class="sign" viewBox="0 0 20 20" aria-hidden="true">
                        <path d="M2 5h9v1.6H2zM15 5h3v1.6h-3zM2 13.4h3V15H2zM9 13.4h9V15H9z" />
                        <circle cx="13" cy="5.800" r="2.200" /><circle cx="7" cy="14.200" r="2.200" />
                    </svg>
                </button>
            </div>
        </header>
    }
}
