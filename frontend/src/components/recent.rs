//! Recent results, small.

use var_dd_protocol::JobView;
use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    hooks::{use_backend, use_recent},
    route::Route,
    state::words::counted,
};

/// Thumbnails that lead to their results.
#[component]
pub(crate) fn Recent() -> Html {
    use_recent();
    let backend = use_backend();
    let shown: Vec<&JobView> =
        backend.store.recent.iter().filter(|view| !view.pictures.is_empty()).collect();
    if shown.is_empty() {
        return Html::default();
    }
    html! {
        <section class="recent" data-testid="recent" aria-labelledby="recent-title">
            <h2 id="recent-title">{ "Recent" }</h2>
            <ul>
                { for shown.into_iter().map(|view| html! { <li key={view.id.to_string()}>{ draw(view) }</li> }) }
            </ul>
        </section>
    }
}

fn draw(view: &JobView) -> Html {
    let to = Route::Result { id: view.id.to_string() };
    let plan =
        view.plan_name.clone().unwrap_or_else(|| counted(view.passes.len(), "step", "steps"));
    let count = view.pictures.len();
    let side = view.image_size.to_string();
    html! {
        <Link<Route> {to} classes="recent-item">
            <span class="thumbnail" data-testid="recent-item" data-job={view.id.to_string()}>
                <img src={view.pictures[0].clone()} alt="" loading="lazy" width={side.clone()} height={side} />
                if count > 1 { <span class="count">{ format!("×{count}") }</span> }
            </span>
            <span class="what">{ &view.class_name }</span>
            <span class="how">{ plan }</span>
        </Link<Route>>
    }
}
