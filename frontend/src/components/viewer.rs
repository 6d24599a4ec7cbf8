//! The light table: stage, what is on it in words, strip, player and actions of one job.

use std::rc::Rc;

use gloo_events::EventListener;
use gloo_timers::callback::Timeout;
use var_dd_protocol::JobId;
use web_sys::Element;
use yew::prelude::*;

use super::{
    Actions, OnStage, Sign, Status, StatusLine, Strip,
    family::{between, family},
    lightbox::LightboxProps,
    player_bar::player_bar,
    sign,
    stage::{Stage, opened_stage},
    times::times,
    tools::{Fold, Tool, use_tools},
};
use crate::{
    hooks::{
        Backend, Key, bring_to_top, keep_preference, owner_token, preference,
        preference_names::PIXELS, use_backend, use_keys, use_player,
    },
    state::{job::Job, timeline::Timeline, words},
};

/// Properties of [`Viewer`].
#[derive(PartialEq, Properties)]
pub(crate) struct ViewerProps {
    pub(crate) job: Option<Rc<Job>>,
    pub(crate) status: Status,
    /// Whether a finished job plays once by itself when it comes.
    pub(crate) plays_by_itself: bool,
    /// The picture brought forward, if any.
    pub(crate) forward: Option<usize>,
    pub(crate) on_forward: Callback<Option<usize>>,
    /// A file of one's own that is on the stage in place of a job.
    #[prop_or_default]
    pub(crate) opened: Option<OnStage>,
    /// More words beside the state.
    #[prop_or_default]
    pub(crate) note: AttrValue,
}

/// After so long, the picture before fades, and what is done is done to the one that is waited for:
/// a fast machine has the new one there sooner, and a stage that only flickers helps nobody.
const BEFORE_AFTER_MS: u32 = 400;

/// Pictures that are on the stage: a job, its tiles, and the one to show.
#[derive(Clone, PartialEq)]
struct Shown {
    job: Rc<Job>,
    timeline: Rc<Timeline>,
    tile: usize,
    forward: Option<usize>,
}

/// A job to watch, scrub through, look at closely and, if it is an own one that runs, to stop.
#[component]
pub(crate) fn Viewer(props: &ViewerProps) -> Html {
    let backend = use_backend();
    let ViewerProps { job, forward, on_forward, .. } = props;
    let playing = use_player(job.clone(), *forward, props.plays_by_itself);
    let crisp = use_state_eq(|| preference(PIXELS).as_deref() == Some("crisp"));
    let is_closer = use_state_eq(|| false);
    let tools = use_tools(*is_closer);
    let slot = use_node_ref();
    let docked = use_docked(&slot);
    use_sight_of(&slot, &props.status, job.as_ref());

    // The picture before stays until the first tile of the new one is there.
    let before = use_mut_ref(|| None::<Shown>);
    let now = job.as_ref().zip(playing.tile).map(|(job, tile)| Shown {
        job: job.clone(),
        timeline: playing.timeline.clone(),
        tile,
        forward: *forward,
    });
    let is_news = now.is_some();
    let shown = {
        let mut before = before.borrow_mut();
        match now {
            Some(now) => *before = Some(now),
            None if props.status.keeps_picture() => {
                // One that was deleted meanwhile does not stay.
                before.take_if(|shown| backend.store.job(shown.job.id()).is_none());
            }
            None => *before = None,
        }
        before.clone()
    };
    let waits = job
        .as_ref()
        .filter(|job| shown.as_ref().is_some_and(|shown| !is_news && shown.job.id() != job.id()));
    let is_before = use_lasts(waits.map(|job| job.id()));
    let shown = if is_before { shown.map(|shown| whole(&backend, shown)) } else { shown };

    let stoppable = job.as_ref().map(|job| job.id()).filter(|id| {
        let runs = job.as_ref().is_some_and(|job| !job.state.is_final());
        runs && owner_token(id).is_some()
    });
    let cancel = stoppable.cloned().map(|id| {
        let backend = backend.clone();
        Callback::from(move |()| backend.cancel(&id))
    });
    // Not while a new picture is waited for: it would open over what one does by then.
    let look_closer = {
        let is_closer = is_closer.setter();
        Callback::from(move |()| is_closer.set(is_news))
    };
    {
        let (playing, cancel, forward, on_forward) =
            (playing.clone(), cancel.clone(), *forward, on_forward.clone());
        let look_closer = look_closer.clone();
        use_keys(Callback::from(move |key| {
            match (key, &cancel) {
                (Key::Back, _) => playing.step(-1),
                (Key::On, _) => playing.step(1),
                (Key::Play, _) => playing.toggle(),
                (Key::LookCloser, _) => look_closer.emit(()),
                (Key::Cancel, Some(cancel)) => cancel.emit(()),
                (Key::Cancel, None) if playing.is_focusing() => playing.skip(),
                (Key::Cancel, None) if forward.is_some() => on_forward.emit(None),
                _ => return false,
            }
            true
        }));
    }
    let on_tap = {
        let (playing, on_forward, look_closer, slot) =
            (playing.clone(), on_forward.clone(), look_closer.clone(), slot.clone());
        let forward = *forward;
        let count = shown.as_ref().map_or(0, |shown| shown.job.frames.len());
        Callback::from(move |picture: Option<usize>| {
            if docked {
                return bring_into_sight(&slot);
            }
            match picture {
                _ if playing.is_focusing() && (count == 1 || forward.is_some()) => playing.skip(),
                _ if count == 1 => look_closer.emit(()),
                picture if forward.is_none() => on_forward.emit(picture),
                _ => on_forward.emit(None),
            }
        })
    };
    let on_pixels = {
        let crisp = crisp.clone();
        Callback::from(move |chosen: bool| {
            keep_preference(PIXELS, if chosen { "crisp" } else { "smooth" });
            crisp.set(chosen);
        })
    };
    let to_stage = {
        let slot = slot.clone();
        Callback::from(move |()| bring_into_sight(&slot))
    };
    let close = {
        let is_closer = is_closer.setter();
        Callback::from(move |()| is_closer.set(false))
    };
    // Before the first picture of all, the grid of the new one.
    let (stage_job, timeline, tile, stage_forward) = match &shown {
        Some(shown) => (
            Some(shown.job.clone()),
            shown.timeline.clone(),
            Some(shown.tile.min(shown.timeline.tiles.len().saturating_sub(1))),
            shown.forward,
        ),
        None => (job.clone(), playing.timeline.clone(), None, *forward),
    };
    let scale = tile.and_then(|at| timeline.tiles.get(at)).map(|tile| words::tile(tile, &timeline));
    // From the click on, nothing speaks of the picture before as if it were the one asked for.
    let is_awaited = waits.is_some() || props.status.state == "asking";
    let caption = match (&props.opened, &stage_job) {
        (Some(opened), _) => format!("The file that you opened: {}", opened.file_name),
        (None, Some(before)) if is_awaited => words::before(&before.about),
        (None, _) => scale.unwrap_or_default(),
    };
    let named_job = waits.or(stage_job.as_ref());
    // What is done is done to one job: to the one that is waited for, once it takes its time.
    let told_job = if is_before { job.clone() } else { stage_job.clone() };
    let stage = Stage {
        job: stage_job.clone(),
        timeline: timeline.clone(),
        tile,
        forward: stage_forward,
        focusing: is_news && playing.is_focusing(),
        crisp: *crisp,
        docked,
        is_before: is_before && job.as_ref().is_some_and(|job| !job.state.is_final()),
        on_tap,
    };
    html! {
        <section class="table" aria-label="Pictures">
            <div ref={slot} class="stage-slot">
                { match &props.opened {
                    Some(opened) => opened_stage(opened, docked, &to_stage),
                    None => stage.draw(),
                } }
            </div>
            <p class="scale-caption" data-testid="scale-caption">{ caption }</p>
            <div class="told">
                <p class="on-stage" data-testid="on-stage">
                    { named_job.map(|job| name(job)).unwrap_or_default() }
                    if !props.note.is_empty() {
                        <span class="note">{ &props.note }</span>
                    }
                </p>
                { which_picture(stage_job.as_ref(), stage_forward, on_forward) }
                <StatusLine
                    status={props.status.clone()}
                    meanwhile={job.as_ref().filter(|_| is_news && playing.is_focusing())
                        .and_then(|job| words::shown_slowed(job))}
                >
                    { times(job.as_ref()) }
                    if let Some(cancel) = cancel {
                        <button
                            type="button"
                            class="quiet"
                            data-testid="cancel"
                            onclick={cancel.reform(|_: MouseEvent| ())}
                        >{ "Cancel" }</button>
                    }
                </StatusLine>
            </div>
            <div class="tools">
                { player_bar(&playing) }
                <Actions
                    job={told_job}
                    forward={stage_forward}
                    crisp={*crisp}
                    on_pixels={on_pixels.clone()}
                    on_look_closer={look_closer}
                />
            </div>
            <Strip job={job.clone()} playing={playing.clone()} forward={*forward} />
            { stage_job.as_ref().map(|job| family(job)).unwrap_or_default() }
            { for [Tool::Desk, Tool::Swipe, Tool::Inspector].map(|tool| html! {
                <Fold {tool} job={stage_job.clone()} picture={stage_forward.unwrap_or(0)} />
            }) }
            if let Some(job) = job.clone().filter(|_| *is_closer && playing.tile.is_some()) {
                { tools.draw(|tools| (tools.lightbox)(LightboxProps {
                    job,
                    playing: playing.clone(),
                    forward: *forward,
                    on_forward: on_forward.clone(),
                    crisp: *crisp,
                    on_pixels,
                    on_close: close,
                })) }
            }
        </section>
    }
}

/// A job that was there before with all that is drawn of it, wherever its show stood.
fn whole(backend: &Backend, shown: Shown) -> Shown {
    let job = backend.store.job(shown.job.id()).cloned().unwrap_or(shown.job);
    let timeline = Rc::new(Timeline::of(&job, shown.forward));
    let tile = timeline.tiles.iter().rposition(|tile| tile.frame.is_some()).unwrap_or(shown.tile);
    Shown { job, timeline, tile, forward: shown.forward }
}

/// Whether one and the same job has been waited for long enough to say so.
#[hook]
fn use_lasts(job: Option<&JobId>) -> bool {
    let lasts = use_state_eq(|| None::<JobId>);
    {
        let lasts = lasts.setter();
        use_effect_with(job.cloned(), move |job| {
            let later =
                job.clone().map(|job| Timeout::new(BEFORE_AFTER_MS, move || lasts.set(Some(job))));
            move || drop(later)
        });
    }
    job.is_some() && lasts.as_ref() == job
}

/// Which of several pictures was brought forward, with the ways to the others.
fn which_picture(
    job: Option<&Rc<Job>>,
    forward: Option<usize>,
    on_forward: &Callback<Option<usize>>,
) -> Html {
    let count = job.map_or(0, |job| job.frames.len());
    let Some(picture) = forward.filter(|&picture| count > 1 && picture < count) else {
        return Html::default();
    };
    let to = |testid: &'static str, name: &'static str, face: Html, to: Option<usize>| {
        html! {
            <button
                type="button"
                class="quiet"
                data-testid={testid}
                aria-label={name}
                onclick={on_forward.reform(move |_: MouseEvent| to)}
            >{ face }</button>
        }
    };
    html! {
        <p class="which-picture" data-testid="which-picture">
            { to(
                "picture-before",
                "The picture before",
                sign(Sign::Back),
                Some((picture + count - 1) % count),
            ) }
            <span>{ format!("Picture {} of {count}", picture + 1) }</span>
            { to("picture-after", "The next picture", sign(Sign::On), Some((picture + 1) % count)) }
            { to("all-pictures", "Show all pictures", html! { "All" }, None) }
        </p>
    }
}

/// Class, plan and seed of what is on the stage.
fn name(job: &Job) -> Html {
    let about = &job.about;
    let seed = about.request.seed.map(|seed| format!(" · seed {seed}")).unwrap_or_default();
    let rest = format!(" · {}{seed}", words::plan(about));
    let between = between(about).map(|corners| html! { <>{ " · between " }{ corners }</> });
    html! { <><strong>{ &about.class_name }</strong>{ rest }{ between.unwrap_or_default() }</> }
}

/// Whether the stage is scrolled out of sight on a narrow screen, where it is then shown small over
/// the page.
#[hook]
fn use_docked(slot: &NodeRef) -> bool {
    let docked = use_state_eq(|| false);
    {
        let (docked, slot) = (docked.setter(), slot.clone());
        use_effect_with((), move |()| {
            let look = move || {
                let narrow = web_sys::window()
                    .and_then(|window| window.match_media("(max-width: 899px)").ok().flatten())
                    .is_some_and(|query| query.matches());
                let gone = slot
                    .cast::<Element>()
                    .is_some_and(|slot| slot.get_bounding_client_rect().bottom() < 48.0);
                docked.set(narrow && gone);
            };
            let listeners = web_sys::window().map(|window| {
                ["scroll", "resize"].map(|event| {
                    let look = look.clone();
                    EventListener::new(&window, event, move |_| look())
                })
            });
            move || drop(listeners)
        });
    }
    *docked
}

/// Brings the stage into sight when pictures were asked for.
#[hook]
fn use_sight_of(slot: &NodeRef, status: &Status, job: Option<&Rc<Job>>) {
    let began_ms = *use_memo((), |()| crate::api::now_ms());
    let asked = status.state == "asking";
    let clicked = job.and_then(|job| job.clicked_ms()).filter(|&clicked| clicked >= began_ms);
    let slot = slot.clone();
    use_effect_with((asked, clicked), move |&(asked, clicked)| {
        // After the new state is drawn.
        let later =
            (asked || clicked.is_some()).then(|| Timeout::new(0, move || bring_into_sight(&slot)));
        move || drop(later)
    });
}

fn bring_into_sight(slot: &NodeRef) {
    let Some(slot) = slot.cast::<Element>() else { return };
    let height = web_sys::window().and_then(|window| window.inner_height().ok()?.as_f64());
    let place = slot.get_bounding_client_rect();
    if place.top() < 0.0 || height.is_some_and(|height| place.bottom() > height) {
        bring_to_top(&slot);
    }
}
