//! Recent results, small: one's own and everyone's.

use var_dd_protocol::{GenerateRequest, JobId};
use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    api,
    hooks::{use_another_look, use_backend, use_controls, use_recent},
    route::Route,
    state::{mine::Own, settings::Settings, words::counted},
};

/// Own results shown at first, and how many more each time.
const STEP: usize = 12;

/// One result in the list.
struct Item<'a> {
    id: &'a JobId,
    class_name: &'a str,
    plan: String,
    request: &'a GenerateRequest,
    image_size: u32,
    picture: String,
}

/// Thumbnails that lead to their results.
#[component]
pub(crate) fn Recent() -> Html {
    use_recent();
    let backend = use_backend();
    let store = &backend.store;
    // What the person chose to see; at first whatever there is.
    let chosen = use_state_eq(|| None::<bool>);
    let shown = use_state_eq(|| STEP);
    let mine: Vec<Item> = store
        .mine
        .iter()
        .filter(|own| own.state == var_dd_protocol::JobState::Finished)
        .filter(|own| !store.is_deleted(&own.id))
        .map(of_own)
        .collect();
    let everyones: Vec<Item> = store
        .recent
        .iter()
        .filter(|view| !view.pictures.is_empty() && !store.is_deleted(&view.id))
        .map(|view| Item {
            id: &view.id,
            class_name: &view.class_name,
            plan: view
                .plan_name
                .clone()
                .unwrap_or_else(|| counted(view.passes.len(), "step", "steps")),
            request: &view.request,
            image_size: view.image_size,
            picture: view.pictures[0].clone(),
        })
        .collect();
    if mine.is_empty() && everyones.is_empty() {
        return Html::default();
    }
    let shows_mine = chosen.unwrap_or(!mine.is_empty());
    let (items, has_more) = if shows_mine {
        let has_more = mine.len() > *shown;
        (mine.into_iter().take(*shown).collect::<Vec<_>>(), has_more)
    } else {
        (everyones, store.more_recent.is_some())
    };
    let tab = |testid: &'static str, mine: bool, name: &str| {
        let chosen = chosen.setter();
        html! {
            <label>
                <input
                    type="radio"
                    name="recent"
                    data-testid={testid}
                    checked={mine == shows_mine}
                    onchange={Callback::from(move |_: Event| chosen.set(Some(mine)))}
                />
                <span>{ name.to_owned() }</span>
            </label>
        }
    };
    let on_more = {
        let (backend, shown) = (backend.clone(), shown.clone());
        Callback::from(move |_: MouseEvent| match shows_mine {
            true => shown.set(*shown + STEP),
            false => backend.more_recent(),
        })
    };
    html! {
        <section class="recent" data-testid="recent" aria-labelledby="recent-title">
            <div class="recent-head">
                <h2 id="recent-title">{ "Recent" }</h2>
                <fieldset class="segments" aria-labelledby="recent-title">
                    { tab("recent-mine", true, "Mine") }
                    { tab("recent-all", false, "Everyone’s") }
                </fieldset>
                <p class="hint">
                    { match shows_mine {
                        true => "of this browser; the others see them, too",
                        false => "of all who use this server",
                    } }
                </p>
            </div>
            if items.is_empty() {
                <p class="hint">
                    { if shows_mine { "What you draw is listed here." } else { "Nothing was drawn yet." } }
                </p>
            }
            <ul>
                { for items.into_iter().map(|item| html! {
                    <li key={item.id.to_string()}><Thumbnail
                        id={item.id.clone()}
                        class_name={item.class_name.to_owned()}
                        plan={item.plan}
                        request={item.request.clone()}
                        image_size={item.image_size}
                        picture={item.picture}
                    /></li>
                }) }
            </ul>
            if has_more {
                <p>
                    <button type="button" data-testid="recent-more" onclick={on_more}>
                        { "More" }
                    </button>
                </p>
            }
        </section>
    }
}

fn of_own(own: &Own) -> Item<'_> {
    Item {
        id: &own.id,
        class_name: &own.class_name,
        plan: own.plan.clone(),
        request: &own.request,
        image_size: own.image_size,
        picture: api::picture_path(&own.id, 0),
    }
}

#[derive(PartialEq, Properties)]
struct ThumbnailProps {
    id: JobId,
    class_name: AttrValue,
    plan: AttrValue,
    request: GenerateRequest,
    image_size: u32,
    picture: AttrValue,
}

/// One result: a link to it, and its settings for use here.
#[component]
fn Thumbnail(props: &ThumbnailProps) -> Html {
    let controls = use_controls();
    let store = use_backend().store;
    let is_usable = store.connection.is_usable();
    let is_gone = use_state_eq(|| false);
    let was_usable = use_mut_ref(|| false);
    use_another_look(&is_gone, is_usable);
    if *is_gone && *was_usable.borrow() {
        // The server made room for newer ones.
        return Html::default();
    }
    let to = Route::Result { id: props.id.to_string() };
    let count = props.request.count;
    let side = props.image_size.to_string();
    let seed = props.request.seed.map(|seed| format!("seed {seed}")).unwrap_or_default();
    let name = format!("{}, {}, {seed}", props.class_name, props.plan);
    let on_reuse = {
        let (request, settings) = (props.request.clone(), controls.settings.clone());
        let (models, class_name) = (controls.models.clone(), props.class_name.clone());
        Callback::from(move |_: MouseEvent| {
            let (taken, left_out) = (*settings).clone().drawing_again(&request, &models);
            // A seed that is asked for again is meant.
            settings.set(Settings { seed_used: false, ..taken });
            let mut words = format!("The controls now have the settings of this {class_name}.");
            if !left_out.is_empty() {
                words += &format!(" Not all could be taken: {}.", left_out.join("; "));
            }
            store.dispatch(crate::state::store::Action::Notice(Some(words)));
        })
    };
    let onerror = {
        let is_gone = is_gone.setter();
        Callback::from(move |_: Event| {
            was_usable.replace(is_usable);
            is_gone.set(true);
        })
    };
    html! {
        <div class="recent-entry">
            <Link<Route> {to} classes="recent-item">
                <span class="thumbnail" data-testid="recent-item" data-job={props.id.to_string()}>
                    // What cannot be had without a connection may be there all the same.
                    if *is_gone {
                        <span class="history-gone" />
                    } else {
                        <img
                            src={props.picture.clone()}
                            alt=""
                            loading="lazy"
                            width={side.clone()}
                            height={side}
                            {onerror}
                        />
                    }
                    if count > 1 { <span class="count">{ format!("×{count}") }</span> }
                </span>
                <span class="what">{ &props.class_name }</span>
                <span class="how">{ &props.plan }</span>
                <span class="unseen">{ seed }</span>
            </Link<Route>>
            <button
                type="button"
                class="quiet reuse"
                data-testid="recent-reuse"
                disabled={controls.models.is_empty()}
                onclick={on_reuse}
                aria-label={format!("Use the settings of {name}")}
            >{ "Use settings" }</button>
        </div>
    }
}
