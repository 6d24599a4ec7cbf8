//! All results of this browser: to find, to star, to compare, to delete, to take along.

use std::{collections::BTreeSet, rc::Rc};

use gloo_timers::future::TimeoutFuture;
use serde::{Deserialize, Serialize};
use var_dd_protocol::{ErrorBody, ErrorCode, JobId, JobState, JobView};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{File, HtmlInputElement, HtmlSelectElement};
use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    api,
    components::{Sign, Wipe, file_button, sign},
    hooks::{
        archive, download, keep_place, kept_place, place_names::HISTORY, use_another_look,
        use_backend, use_in_sight, use_title,
    },
    route::Route,
    state::{
        address::Address,
        bundle::{self, Bundle},
        history::{self, Entry, Search},
        words::{self, counted},
    },
};

/// Results shown at first, and how many more each time.
const STEP: usize = 60;

/// Most pictures in one ZIP file, which is put together in memory.
const MOST_IN_BUNDLE: usize = 400;

/// How often a picture is asked for that the server is too busy to send, and how long after.
const TRIES: u32 = 5;
const PAUSE_MS: u32 = 1_500;

/// The largest file of results that is read, in bytes.
const MOST_BYTES: f64 = 64e6;

/// What was set when the place was left, for whoever comes back from a result.
#[derive(PartialEq, Serialize, Deserialize)]
struct Left {
    search: Search,
    chosen: BTreeSet<JobId>,
    shown: usize,
    filters_open: bool,
}

/// Two results over each other.
#[derive(Clone, PartialEq)]
enum Pair {
    None,
    Looking,
    Refused(String),
    There(Rc<JobView>, Rc<JobView>),
}

/// The list and what can be done with it.
#[component]
pub(crate) fn History() -> Html {
    use_title("History".into());
    let backend = use_backend();
    let listed = use_state_eq(|| None::<Rc<archive::Listed>>);
    let left = use_memo((), |()| kept_place::<Left>(HISTORY));
    let left = (*left).as_ref();
    let search = use_state_eq(|| left.map(|left| left.search.clone()).unwrap_or_default());
    let chosen = use_state_eq(|| left.map(|left| left.chosen.clone()).unwrap_or_default());
    let shown = use_state_eq(|| left.map_or(STEP, |left| left.shown));
    let filters_open = use_state_eq(|| left.is_some_and(|left| left.filters_open));
    let told = use_state_eq(String::new);
    let bundling = use_state_eq(|| false);
    let now = Left {
        search: (*search).clone(),
        chosen: (*chosen).clone(),
        shown: *shown,
        filters_open: *filters_open,
    };
    use_effect_with(now, |now| keep_place(HISTORY, now));
    {
        let listed = listed.setter();
        use_effect_with((), move |()| {
            let read = Callback::from(move |()| {
                let listed = listed.clone();
                spawn_local(async move { listed.set(Some(Rc::new(archive::all().await))) });
            });
            read.emit(());
            let listener = archive::watch(read);
            move || drop(listener)
        });
    }
    let pair = use_pair();
    let pair_place = use_node_ref();
    use_in_sight(&pair_place, (*pair != Pair::None).then(|| (*pair).clone()));
    let navigator = use_navigator();
    let all: Vec<&Entry> = listed.iter().flat_map(|listed| &listed.entries).collect();
    let all: Vec<&Entry> =
        all.into_iter().filter(|entry| !backend.store.is_deleted(&entry.own.id)).collect();
    let found: Vec<&Entry> = all
        .iter()
        .copied()
        .filter(|entry| search.finds(entry, &entry.made_ms.map(day).unwrap_or_default()))
        .collect();
    // What was deleted or is out of sight is not acted on.
    let picked: Vec<Entry> =
        found.iter().filter(|entry| chosen.contains(&entry.own.id)).copied().cloned().collect();
    // Without a choice, what was found is meant.
    let meant: Rc<Vec<Entry>> = Rc::new(match picked.is_empty() {
        true => found.iter().copied().cloned().collect(),
        false => picked.clone(),
    });
    let picked = Rc::new(picked);
    let is_kept = listed.as_ref().is_none_or(|listed| listed.is_kept);

    let on_choose = {
        let chosen = chosen.clone();
        Callback::from(move |id: JobId| {
            let mut now = (*chosen).clone();
            if !now.remove(&id) {
                now.insert(id);
            }
            chosen.set(now);
        })
    };
    let on_star = Callback::from(|(id, starred): (JobId, bool)| {
        spawn_local(archive::star(vec![id], starred));
    });
    // Once all of them have theirs, the same button takes them off.
    let lacks_star = picked.is_empty() || picked.iter().any(|entry| !entry.starred);
    let star_all = {
        let picked = picked.clone();
        Callback::from(move |_: MouseEvent| {
            let ids = picked.iter().map(|entry| entry.own.id.clone()).collect();
            spawn_local(archive::star(ids, lacks_star));
        })
    };
    let compare = {
        let picked = picked.clone();
        Callback::from(move |_: MouseEvent| {
            let ([one, other], Some(navigator)) = (picked.as_slice(), &navigator) else { return };
            let query = vec![("a", one.own.id.to_string()), ("b", other.own.id.to_string())];
            // Plain letters and digits.
            let _ = navigator.push_with_query(&Route::History, &query);
        })
    };
    let delete = {
        let (backend, picked, chosen) = (backend.clone(), picked.clone(), chosen.setter());
        Callback::from(move |_: MouseEvent| {
            backend.delete_all(&picked);
            chosen.set(BTreeSet::new());
        })
    };
    let export = {
        let (meant, told) = (meant.clone(), told.setter());
        Callback::from(move |_: MouseEvent| {
            let text = history::to_file((*meant).clone());
            let is_there = download("var-dd-history.json", "application/json", text.as_bytes());
            told.set(match is_there {
                true => format!(
                    "{} exported. Whoever has the file can delete them: keep it to yourself.",
                    counted(meant.len(), "result is", "results are")
                ),
                false => "The browser has no room for the file.".into(),
            });
        })
    };
    let import = {
        let told = told.setter();
        Callback::from(move |file: File| {
            let told = told.clone();
            spawn_local(async move { told.set(imported(&file).await) });
        })
    };
    let bundle = {
        let (meant, told, bundling) = (meant.clone(), told.setter(), bundling.setter());
        Callback::from(move |_: MouseEvent| {
            let (meant, told, bundling) = (meant.clone(), told.clone(), bundling.clone());
            bundling.set(true);
            spawn_local(async move {
                let outcome = bundled(&meant, &told).await;
                told.set(outcome);
                bundling.set(false);
            });
        })
    };
    let choose_found = {
        let (chosen, ids) = (chosen.setter(), found.iter().map(|entry| entry.own.id.clone()));
        let ids: BTreeSet<JobId> =
            if picked.len() == found.len() { BTreeSet::new() } else { ids.collect() };
        Callback::from(move |_: MouseEvent| chosen.set(ids.clone()))
    };
    let on_more = {
        let shown = shown.clone();
        Callback::from(move |_: MouseEvent| shown.set(*shown + STEP))
    };
    let few = picked.len();
    let which = counted(meant.len(), "result", "results");
    let is_all_chosen = few > 0 && few == found.len();
    html! {
        <main class="history" id="main" tabindex="-1">
            <div class="lead">
                <h1>{ "History" }</h1>
                <p>{ "What you drew in this browser. Nobody else sees this list; the \
                    pictures themselves are among “Everyone’s” on this server until you delete \
                    them." }</p>
            </div>
            if !is_kept {
                <p class="problem" data-testid="history-unkept">
                    { "This browser denies storage or has no room left: what is new here lasts \
                        until this tab is closed. Export it to keep it." }
                </p>
            }
            <div ref={pair_place}>{ draw_pair(&pair) }</div>
            { draw_search(&search, &filters_open, &all) }
            <div class="history-bars">
                <div class="history-bar" role="group" aria-label="What to do with those chosen">
                    <p data-testid="history-count" data-found={found.len().to_string()}>
                        { match few {
                            0 => format!("{which} of {}", all.len()),
                            few => format!("{few} of {} chosen", found.len()),
                        } }
                    </p>
                    <button
                        type="button"
                        class="quiet"
                        data-testid="history-choose-all"
                        disabled={found.is_empty()}
                        onclick={choose_found}
                    >{ if is_all_chosen { "Choose none" } else { "Choose all" } }</button>
                    <button
                        type="button"
                        data-testid="history-compare"
                        disabled={few != 2}
                        onclick={compare}
                    >{ "Compare two" }</button>
                    <button
                        type="button"
                        data-testid="history-star"
                        disabled={few == 0}
                        onclick={star_all}
                    >{ if lacks_star { "Star" } else { "Take the star off" } }</button>
                    <button
                        type="button"
                        data-testid="history-delete"
                        disabled={few == 0}
                        onclick={delete}
                    >{ "Delete" }</button>
                </div>
                <div class="history-bar history-files" role="group" aria-label="Files">
                    <button
                        type="button"
                        data-testid="history-zip"
                        disabled={meant.is_empty() || *bundling}
                        onclick={bundle}
                    >{ "Pictures (ZIP)" }</button>
                    <button
                        type="button"
                        data-testid="history-export"
                        disabled={meant.is_empty()}
                        onclick={export}
                    >{ "Export list" }</button>
                    { file_button(
                        "history-import",
                        "Import list",
                        &["application/json", ".json"],
                        true,
                        &NodeRef::default(),
                        &import,
                    ) }
                </div>
            </div>
            <p class="hint history-advice">
                { "Tick two to compare them. Without a choice, files hold all that was found. An \
                    exported list brings this history to another browser; pictures carry their \
                    settings." }
            </p>
            <p class="hint history-told" role="status" data-testid="history-told">
                { (*told).clone() }
            </p>
            if listed.is_some() && all.is_empty() {
                <p class="hint">
                    { "Nothing was drawn here yet. " }
                    <Link<Route> to={Route::Playground}>{ "Draw something" }</Link<Route>>
                </p>
            } else if listed.is_some() && found.is_empty() {
                <p class="hint">{ "Nothing here is what you look for." }</p>
            }
            <ul class="history-list">
                { for found.iter().take(*shown).map(|entry| html! {
                    <Item
                        key={entry.own.id.to_string()}
                        entry={(*entry).clone()}
                        is_chosen={chosen.contains(&entry.own.id)}
                        on_choose={on_choose.clone()}
                        on_star={on_star.clone()}
                    />
                }) }
            </ul>
            if found.len() > *shown {
                <p>
                    <button type="button" data-testid="history-more" onclick={on_more}>
                        { "More" }
                    </button>
                </p>
            }
        </main>
    }
}

/// The day of a time, as the person's calendar has it: `2026-03-01`.
fn day(ms: f64) -> String {
    let date = js_sys::Date::new(&ms.into());
    format!("{:04}-{:02}-{:02}", date.get_full_year(), date.get_month() + 1, date.get_date())
}

/// The fields by which results are looked for.
fn draw_search(
    search: &UseStateHandle<Search>,
    is_open: &UseStateHandle<bool>,
    all: &[&Entry],
) -> Html {
    let entries: Vec<Entry> = all.iter().copied().cloned().collect();
    let plans = history::choices(&entries, |entry| &entry.own.plan);
    let models =
        history::choices(&entries, |entry| entry.own.request.model.as_deref().unwrap_or_default());
    let set = |change: fn(Search, String) -> Search| {
        let search = search.clone();
        Callback::from(move |value| search.set(change((*search).clone(), value)))
    };
    let field = |kind: &'static str,
                 testid: &'static str,
                 label: &'static str,
                 value: &str,
                 change: fn(Search, String) -> Search| {
        let typed = set(change)
            .reform(|event: InputEvent| event.target_unchecked_into::<HtmlInputElement>().value());
        html! {
            <label>
                <span>{ label }</span>
                <input
                    type={kind}
                    data-testid={testid}
                    value={value.to_owned()}
                    oninput={typed}
                />
            </label>
        }
    };
    let list = |testid: &'static str,
                label: &'static str,
                names: Vec<String>,
                value: &str,
                change: fn(Search, String) -> Search| {
        let picked = set(change)
            .reform(|event: Event| event.target_unchecked_into::<HtmlSelectElement>().value());
        html! {
            <label>
                <span>{ label }</span>
                <select data-testid={testid} onchange={picked}>
                    <option value="" selected={value.is_empty()}>{ "any" }</option>
                    { for names.into_iter().map(|name| html! {
                        <option
                            key={name.clone()}
                            value={name.clone()}
                            selected={name == value}
                        >{ name.clone() }</option>
                    }) }
                </select>
            </label>
        }
    };
    let only_starred = {
        let search = search.clone();
        Callback::from(move |event: Event| {
            let starred = event.target_unchecked_into::<HtmlInputElement>().checked();
            search.set(Search { starred, ..(*search).clone() });
        })
    };
    let filters = [&search.plan, &search.model, &search.from, &search.to];
    let set_filters =
        filters.iter().filter(|filter| !filter.is_empty()).count() + usize::from(search.starred);
    let on_filters = {
        let is_open = is_open.clone();
        Callback::from(move |_: MouseEvent| is_open.set(!*is_open))
    };
    html! {
        <form
            class={classes!("history-search", is_open.then_some("open"))}
            role="search"
            onsubmit={Callback::from(|event: SubmitEvent| event.prevent_default())}
        >
            { field("search", "history-text", "Class, plan, model or seed", &search.text,
                |search, text| Search { text, ..search }) }
            // Where the window is narrow, the other fields would fill it.
            <button
                type="button"
                class="history-filters"
                data-testid="history-filters"
                aria-expanded={is_open.to_string()}
                onclick={on_filters}
            >
                { match set_filters {
                    0 => "Filters".to_owned(),
                    count => format!("Filters · {count}"),
                } }
            </button>
            { list("history-plan", "Plan", plans, &search.plan,
                |search, plan| Search { plan, ..search }) }
            { list("history-model", "Model", models, &search.model,
                |search, model| Search { model, ..search }) }
            { field("date", "history-from", "From", &search.from,
                |search, from| Search { from, ..search }) }
            { field("date", "history-to", "To", &search.to,
                |search, to| Search { to, ..search }) }
            <label class="tick">
                <input
                    type="checkbox"
                    data-testid="history-starred"
                    checked={search.starred}
                    onchange={only_starred}
                />
                <span>{ "starred only" }</span>
            </label>
        </form>
    }
}

/// Properties of [`Item`].
#[derive(PartialEq, Properties)]
struct ItemProps {
    entry: Entry,
    is_chosen: bool,
    on_choose: Callback<JobId>,
    on_star: Callback<(JobId, bool)>,
}

/// One result.
#[component]
fn Item(props: &ItemProps) -> Html {
    let own = &props.entry.own;
    let is_gone = use_state_eq(|| false);
    let is_usable = use_backend().store.connection.is_usable();
    use_another_look(&is_gone, is_usable);
    let id = own.id.clone();
    let seed = own.request.seed.map(|seed| format!("seed {seed}")).unwrap_or_default();
    let name = format!("{}, {}, {seed}", own.class_name, own.plan);
    let date = props.entry.made_ms.map(day);
    let starred = props.entry.starred;
    let on_star = {
        let id = id.clone();
        props.on_star.reform(move |_: MouseEvent| (id.clone(), !starred))
    };
    let on_choose = {
        let id = id.clone();
        props.on_choose.reform(move |_: Event| id.clone())
    };
    let onerror = {
        let is_gone = is_gone.setter();
        Callback::from(move |_: Event| is_gone.set(true))
    };
    let is_there = own.state == JobState::Finished && !*is_gone;
    let side = own.image_size.to_string();
    html! {
        <li class="history-item" data-testid="history-item" data-job={id.to_string()}>
            <div class="thumbnail">
                if is_there {
                    <Link<Route> to={Route::Result { id: id.to_string() }}>
                        <img
                            src={api::picture_path(&id, 0)}
                            alt={name.clone()}
                            loading="lazy"
                            width={side.clone()}
                            height={side}
                            {onerror}
                        />
                    </Link<Route>>
                } else {
                    <span class="history-gone">
                        { match *is_gone {
                            true if is_usable => "not to be had; it may be gone",
                            true => "not to be had without a connection",
                            false => words::state_name(own.state),
                        } }
                    </span>
                }
                if own.request.count > 1 {
                    <span class="count">{ format!("×{}", own.request.count) }</span>
                }
                <label class="history-choice">
                    <input
                        type="checkbox"
                        data-testid="history-choice"
                        aria-label={format!("Choose {name}")}
                        checked={props.is_chosen}
                        onchange={on_choose}
                    />
                </label>
                <button
                    type="button"
                    class={classes!("quiet", "history-star", starred.then_some("starred"))}
                    data-testid="history-item-star"
                    aria-label={format!("Star of {name}")}
                    aria-pressed={starred.to_string()}
                    onclick={on_star}
                >{ sign(if starred { Sign::StarFilled } else { Sign::Star }) }</button>
            </div>
            <p class="what">{ &own.class_name }</p>
            <p class="how">{ &own.plan }</p>
            <p class="how">{ seed }</p>
            if let Some(date) = date {
                <p class="how"><time datetime={date.clone()}>{ date.clone() }</time></p>
            }
            if !is_there {
                <Link<Route, Address>
                    to={Route::Playground}
                    query={Address::of_request(&own.request)}
                >{ "Use its settings" }</Link<Route, Address>>
            }
        </li>
    }
}

/// The two results that the address names.
#[hook]
fn use_pair() -> UseStateHandle<Pair> {
    let pair = use_state_eq(|| Pair::None);
    let location = use_location();
    let named = use_memo(location, |location| {
        let query = location.as_ref()?.query::<Vec<(String, String)>>().ok()?;
        let value = |name: &str| query.iter().find(|(other, _)| other == name).map(|(_, at)| at);
        Some((value("a")?.clone(), value("b")?.clone()))
    });
    {
        let pair = pair.setter();
        use_effect_with((*named).clone(), move |named| {
            let Some((one, other)) = named.clone() else { return pair.set(Pair::None) };
            pair.set(Pair::Looking);
            spawn_local(async move {
                let both: Result<_, ErrorBody> = async {
                    Ok((Rc::new(api::view(&one).await?), Rc::new(api::view(&other).await?)))
                }
                .await;
                pair.set(match both {
                    Ok((one, other)) if one.pictures.is_empty() || other.pictures.is_empty() => {
                        Pair::Refused("One of the two has no finished picture.".into())
                    }
                    Ok((one, other)) => Pair::There(one, other),
                    Err(error) => Pair::Refused(words::refusal(&error)),
                });
            });
        });
    }
    pair
}

fn draw_pair(pair: &Pair) -> Html {
    let (one, other) = match pair {
        Pair::None => return Html::default(),
        Pair::Looking => return html! { <p class="hint" role="status">{ "Fetching both…" }</p> },
        Pair::Refused(why) => {
            let words = format!("They cannot be compared. {why}");
            return html! { <p class="problem" role="status">{ words }</p> };
        }
        Pair::There(one, other) => (one, other),
    };
    let name = |view: &JobView| {
        let plan = view.plan_name.clone();
        let plan = plan.unwrap_or_else(|| words::custom_plan(&view.request.plan, &view.patch_nums));
        let seed = view.request.seed.map(|seed| format!(" · seed {seed}")).unwrap_or_default();
        format!("{} · {plan}{seed}", view.class_name)
    };
    let picture = |view: &JobView| {
        html! {
            <img src={view.pictures[0].clone()} alt={name(view)} draggable="false" />
        }
    };
    let caption = |view: &JobView| {
        html! {
            <Link<Route> to={Route::Result { id: view.id.to_string() }}>{ name(view) }</Link<Route>>
        }
    };
    let link = history::comparison(&one.request, &other.request, &one.class_name);
    html! {
        <section class="history-pair" data-testid="history-pair" aria-label="Two results compared">
            <Wipe
                left={picture(one)}
                right={picture(other)}
                names={vec![name(one), name(other)]}
                captions={vec![caption(one), caption(other)]}
                pair={(0, 1)}
            />
            if let Some(link) = link {
                <p class="hint">
                    { "They differ in their plan alone: " }
                    <a href={api::path(&link.to_string())} data-testid="history-pair-compare">
                        { "compare the plans in step" }
                    </a>
                </p>
            }
            <Link<Route> to={Route::History}>{ "Close the comparison" }</Link<Route>>
        </section>
    }
}

/// Takes over a file of results; what is to be told.
async fn imported(file: &File) -> String {
    let name = file.name();
    if file.size() > MOST_BYTES {
        return format!("“{name}” is too large for a history: it has more than 64 MB.");
    }
    let text = JsFuture::from(file.text()).await.ok().and_then(|text| text.as_string());
    let Some(text) = text else { return format!("The browser cannot read “{name}”.") };
    match history::of_file(&name, &text) {
        Ok(entries) => {
            let all = entries.len();
            let new = archive::import(entries).await;
            let known = match all - new.min(all) {
                0 => String::new(),
                known => format!(", {known} were here already"),
            };
            format!("{} added{known}.", counted(new, "result", "results"))
        }
        Err(why) => why,
    }
}

/// Downloads the pictures of results as one file; what is to be told.
async fn bundled(entries: &[Entry], tell: &UseStateSetter<String>) -> String {
    let pictures: Vec<(&Entry, usize)> = entries
        .iter()
        .filter(|entry| entry.own.state == JobState::Finished)
        .flat_map(|entry| (0..entry.own.request.count as usize).map(move |at| (entry, at)))
        .collect();
    if pictures.len() > MOST_IN_BUNDLE {
        return format!(
            "{} are too many for one file; choose results with at most {MOST_IN_BUNDLE}.",
            counted(pictures.len(), "picture", "pictures")
        );
    }
    let mut bundle = Bundle::new();
    let (mut there, mut missing) = (0, 0);
    for (at, (entry, picture)) in pictures.iter().enumerate() {
        tell.set(format!("Fetching picture {} of {}…", at + 1, pictures.len()));
        match fetched(&entry.own.id, *picture).await {
            Ok(Some(bytes)) => {
                if bundle.add(&bundle::file_name(&entry.own, *picture), &bytes).is_err() {
                    return "The file cannot be made: it is too large.".into();
                }
                there += 1;
            }
            Ok(None) => missing += 1,
            Err(why) => return why,
        }
    }
    if there == 0 {
        return "None of these pictures is on the server any more.".into();
    }
    let is_there = bundle
        .finish()
        .is_ok_and(|bytes| download("var-dd-pictures.zip", "application/zip", &bytes));
    let lacking = match missing {
        0 => String::new(),
        missing => format!(" {missing} are not on the server any more."),
    };
    match is_there {
        true => format!("{} downloaded.{lacking}", counted(there, "picture", "pictures")),
        false => "The browser has no room for the file.".into(),
    }
}

/// A picture, or nothing if the server has it no more.
///
/// # Errors
/// Why it cannot be had, in words.
async fn fetched(job: &JobId, picture: usize) -> Result<Option<Vec<u8>>, String> {
    for _ in 0..TRIES {
        match api::picture_bytes(job, picture).await {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.code == ErrorCode::NotFound => return Ok(None),
            Err(error) if error.code == ErrorCode::RateLimited => {
                TimeoutFuture::new(PAUSE_MS).await;
            }
            Err(error) => return Err(words::refusal(&error)),
        }
    }
    Err("The server is too busy to send the pictures; try again in a minute.".into())
}
