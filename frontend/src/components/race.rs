//! Plans side by side on one clock, or one over the other with a line to drag between them.

use std::rc::Rc;

use web_sys::{HtmlInputElement, HtmlSelectElement};
use yew::prelude::*;
use yew_router::prelude::*;

use super::{Difference, Layers, Sign, Status, Wipe, explain_as, sign};
use crate::{
    hooks::use_in_sight,
    route::Route,
    state::{
        comparison::{self, Column, Spread, Standing, WarmUp},
        glossary::Term,
        job::{Job, TimePart},
        store::Answer,
        timeline::Timeline,
        words,
    },
};

/// Properties of [`RaceView`].
#[derive(PartialEq, Properties)]
pub(crate) struct RaceViewProps {
    pub(crate) columns: Vec<Column>,
    /// The job of each column, once there is one.
    pub(crate) jobs: Vec<Option<Rc<Job>>>,
    /// Published FID of each column's plan, where it has one.
    pub(crate) fids: Vec<Option<f64>>,
    /// What became of each column's request.
    pub(crate) answers: Vec<Option<Answer>>,
    /// Whether nothing more comes that could change how the plans stand.
    pub(crate) is_settled: bool,
    /// Milliseconds since each began; absent while everything shows its newest.
    pub(crate) elapsed_ms: Option<f64>,
    /// Milliseconds that the longest took.
    pub(crate) length_ms: f64,
    pub(crate) is_playing: bool,
    pub(crate) on_seek: Callback<f64>,
    /// One change on or back.
    pub(crate) on_step: Callback<isize>,
    /// Play this many times slower than real, or hold.
    pub(crate) on_play: Callback<f64>,
    /// Buttons for all of it, beside the difference.
    #[prop_or_default]
    pub(crate) children: Html,
}

/// The columns and their clock.
#[component]
pub(crate) fn RaceView(props: &RaceViewProps) -> Html {
    // The two columns that lie over each other.
    let wiped = use_state_eq(|| None::<(usize, usize)>);
    // The column that the others are held against.
    let against = use_state_eq(|| None::<usize>);
    let count = props.columns.len();
    let now: Vec<Option<Now>> = (0..count).map(|index| now(props, index)).collect();
    let is_finished = |&column: &usize| {
        now.get(column).and_then(Option::as_ref).is_some_and(|now| now.is_finished)
    };
    let against_now = against.filter(is_finished);
    let wiped_now = wiped.filter(|&(a, b)| a < count && b < count);
    let step = |by: isize| props.on_step.reform(move |_: MouseEvent| by);
    let play = |slower: f64| props.on_play.reform(move |_: MouseEvent| slower);
    let on_seek = props.on_seek.reform(|event: InputEvent| {
        event.target_unchecked_into::<HtmlInputElement>().value_as_number()
    });
    // By a millisecond nothing changes: the arrow keys go from change to change.
    let on_arrow = {
        let on_step = props.on_step.clone();
        Callback::from(move |event: KeyboardEvent| {
            let by = match event.key().as_str() {
                _ if event.ctrl_key() || event.alt_key() || event.meta_key() => return,
                "ArrowLeft" | "ArrowDown" => -1,
                "ArrowRight" | "ArrowUp" => 1,
                _ => return,
            };
            event.prevent_default();
            event.stop_propagation();
            on_step.emit(by);
        })
    };
    let at_ms = props.elapsed_ms.unwrap_or(props.length_ms);
    let is_still = props.length_ms <= 0.0;
    // On a phone the pair is not where its button is.
    let pair = use_node_ref();
    use_in_sight(&pair, wiped_now.map(|_| ()));
    let on_wipe = {
        let wiped = wiped.clone();
        Callback::from(move |_: MouseEvent| {
            wiped.set(if wiped_now.is_some() { None } else { Some((0, 1)) });
        })
    };
    let on_against = {
        let against = against.setter();
        Callback::from(move |event: Event| {
            let list: HtmlSelectElement = event.target_unchecked_into();
            // The first choice is none of them.
            against.set(usize::try_from(list.selected_index() - 1).ok());
        })
    };
    html! {
        <>
            <div
                class={classes!(
                    "columns",
                    format!("of-{count}"),
                    wiped_now.is_some().then_some("wiped"),
                    props.fids.iter().any(Option::is_some).then_some("with-fids"),
                )}
            >
                if let Some((left, right)) = wiped_now {
                    <div ref={pair} class="wiped-pair">
                        <Wipe
                            left={side(&now, left)}
                            right={side(&now, right)}
                            names={props.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>()}
                            pair={(left, right)}
                            on_pair={{
                                let wiped = wiped.setter();
                                Callback::from(move |pair| wiped.set(Some(pair)))
                            }}
                        />
                        { difference(&now, left, right) }
                    </div>
                }
                { for (0..count).map(|index| {
                    draw_column(props, &now, index, wiped_now.is_none(), against_now)
                }) }
            </div>
            { verdict(props) }
            <div class="clock">
                <div class="clock-line">
                    <button
                        type="button"
                        class="quiet"
                        disabled={is_still}
                        onclick={step(-1)}
                        aria-label="One change back"
                    >{ sign(Sign::Back) }</button>
                    <button
                        type="button"
                        data-testid="compare-play"
                        disabled={is_still}
                        onclick={play(5.0)}
                    >
                        { if props.is_playing { "Pause" } else { "Play slowed" } }
                    </button>
                    <button
                        type="button"
                        class="quiet"
                        disabled={is_still}
                        onclick={step(1)}
                        aria-label="One change on"
                    >{ sign(Sign::On) }</button>
                    <input
                        type="range"
                        data-testid="compare-scrubber"
                        aria-label="Time since each began"
                        min="0"
                        max={format!("{:.1}", props.length_ms.max(1.0))}
                        step="0.1"
                        value={format!("{at_ms:.1}")}
                        disabled={is_still}
                        aria-valuetext={format!("{at_ms:.0} milliseconds")}
                        oninput={on_seek}
                        onkeydown={on_arrow}
                    />
                    <p class="time" key={format!("{at_ms:.0}")}>
                        { format!("{at_ms:.0} of {}", words::duration(props.length_ms)) }
                    </p>
                </div>
                <div class="clock-more">
                    <button type="button" disabled={is_still} onclick={play(1.0)}>
                        { "True speed" }
                    </button>
                    <button
                        type="button"
                        class={classes!(wiped_now.is_some().then_some("on"))}
                        data-testid="compare-wipe"
                        aria-pressed={wiped_now.is_some().to_string()}
                        disabled={is_still}
                        onclick={on_wipe}
                    >{ "Wipe between two" }</button>
                </div>
            </div>
            <div class="race-actions">
                <label class="race-against">
                    <span>{ "Difference to" }</span>
                    <select
                        data-testid="race-against"
                        // Two that lie over each other have a difference of their own.
                        disabled={is_still || wiped_now.is_some()}
                        onchange={on_against}
                    >
                        <option selected={against_now.is_none()}>{ "none" }</option>
                        { for props.columns.iter().enumerate().map(|(index, column)| html! {
                            <option key={index} selected={against_now == Some(index)}>
                                { &column.name }
                            </option>
                        }) }
                    </select>
                </label>
                { props.children.clone() }
            </div>
        </>
    }
}

/// What a comparison is worth as long as each plan was measured once.
const ONE_RUN: &str = " One run each: measure to be sure.";

/// Which plan was faster, in words. Whatever it will be, there is room for it from the beginning.
fn verdict(props: &RaceViewProps) -> Html {
    let told = Standing::of(&props.columns).filter(|_| props.is_settled);
    let is_single = props.columns.iter().all(|column| column.runs() == 1);
    let told = told.map(|standing| {
        let runs = if is_single { ONE_RUN } else { "" };
        format!("{}{runs}", words::standing(&standing))
    });
    let told = told.unwrap_or_default();
    let possible = Standing::possible(&props.columns);
    let possible = possible.iter().map(|standing| words::standing(standing) + ONE_RUN);
    let longest = possible.max_by_key(|words| words.chars().count());
    html! {
        <p class="verdict">
            <span class="kept-place" aria-hidden="true">{ longest.unwrap_or_default() }</span>
            <span role="status" data-testid="compare-verdict">{ told }</span>
        </p>
    }
}

/// What a column shows now: the tile, and its picture.
struct Now {
    tile: Option<usize>,
    tiles: usize,
    /// Side of the token map of its scale.
    side: Option<u32>,
    /// Address of the picture.
    url: Option<String>,
    picture: Html,
    /// Whether its job is finished.
    is_finished: bool,
}

fn now(props: &RaceViewProps, index: usize) -> Option<Now> {
    let job = props.jobs.get(index)?.as_ref()?;
    let timeline = Timeline::of(job, None);
    let newest = timeline.tiles.iter().rposition(|tile| tile.frame.is_some());
    let tile = match props.elapsed_ms {
        Some(ms) => comparison::tile_at(job, &timeline, ms),
        None => newest,
    };
    let shown = tile.and_then(|tile| timeline.frame_at(job, 0, tile));
    let sides = &job.about.patch_nums;
    let side = shown.and_then(|((_, scale), _)| sides.get(scale as usize)).copied();
    let picture = html! {
        <Layers
            picture=0
            shown={shown.map(|(place, frame)| (place, frame.clone()))}
            last={tile.is_some() && tile == timeline.tiles.len().checked_sub(1)}
            side={sides.last().copied().unwrap_or(1)}
            alternative={format!("{}: {}", props.columns[index].name, words::alternative(&job.about, 0, side))}
        />
    };
    let url = shown.map(|(_, frame)| frame.picture.url().to_owned());
    let (tiles, is_finished) = (timeline.tiles.len(), job.is_finished());
    Some(Now { tile, tiles, side, url, picture, is_finished })
}

fn side(now: &[Option<Now>], index: usize) -> Html {
    let now = now.get(index).and_then(Option::as_ref);
    now.map(|now| now.picture.clone()).unwrap_or_default()
}

/// Where the pictures that two columns show now differ, once both are finished.
fn difference(now: &[Option<Now>], index: usize, to: usize) -> Html {
    let url = |index: usize| now.get(index)?.as_ref().filter(|now| now.is_finished)?.url.clone();
    let Some((of, other)) = url(index).zip(url(to)) else {
        return Html::default();
    };
    html! { <Difference {of} to={other} /> }
}

fn draw_column(
    props: &RaceViewProps,
    all: &[Option<Now>],
    index: usize,
    with_picture: bool,
    against: Option<usize>,
) -> Html {
    let column = &props.columns[index];
    let job = props.jobs.get(index).and_then(Option::as_ref);
    let answer = props.answers.get(index).and_then(Option::as_ref);
    let status = job.map_or_else(|| Status::of_answer(answer), |job| Status::of_job(job));
    let now = all.get(index).and_then(Option::as_ref);
    let drawn = now.and_then(|now| now.tile).map_or(0, |tile| tile + 1);
    let tiles = now.map_or(0, |now| now.tiles);
    let scale = now.and_then(|now| now.side).map(|side| format!("{side}×{side}"));
    let is_over = column.runs() > 0;
    let told = match column.warm_up {
        _ if status.is_trouble => status.words.as_str(),
        _ if props.is_settled && !is_over => NOT_DRAWN,
        Some(WarmUp::Runs) => WARMING,
        Some(WarmUp::Done) => WARMED_UP,
        None => status.words.as_str(),
    };
    // What was only drawn to warm up is nothing to be had.
    let is_warm = column.warm_up == Some(WarmUp::Done) || status.state == "finished";
    let state = if is_warm && !is_over { "warm" } else { status.state };
    html! {
        <section
            key={index}
            class="column"
            data-testid="compare-column"
            data-job={job.map(|job| job.id().to_string())}
            data-state={state}
            data-tile={drawn.checked_sub(1).map(|tile| tile.to_string())}
            aria-label={column.name.clone()}
        >
            <h2>{ &column.name }</h2>
            if with_picture {
                <div class="square">{ side(all, index) }</div>
            }
            <progress
                max={tiles.max(1).to_string()}
                value={drawn.to_string()}
                aria-label="Frames shown"
            />
            <p class="hint race-steps">
                <span key={format!("{drawn} {scale:?}")}>{ steps(drawn, tiles, scale) }</span>
                if let Some(job) = job.filter(|_| is_over) {
                    <span class="race-dot">{ " · " }</span>
                    <Link<Route> to={Route::Result { id: job.id().to_string() }}>
                        { "Open" }
                        <span class="unseen">{ format!(" the result of {}", column.name) }</span>
                    </Link<Route>>
                }
            </p>
            if is_over {
                <dl class="race-times">
                    { for column.parts_ms().into_iter().flatten().map(|(part, spread)| {
                        time(name_of(part), Some(spread), column.runs())
                    }) }
                    { time(IN_ALL, column.total_ms(), column.runs()) }
                    if props.fids.iter().any(Option::is_some) {
                        <div>
                            <dt>{ explain_as(Term::Fid, "FID") }{ ", published" }</dt>
                            <dd data-testid="race-fid">
                                { fid_of(props.fids[index]) }
                            </dd>
                        </div>
                    }
                </dl>
            } else {
                <p
                    class={classes!("status-words", status.is_trouble.then_some("problem"))}
                    key={told}
                >{ told }</p>
            }
            if let Some(to) = against.filter(|_| with_picture) {
                if to == index {
                    <p class="hint" data-testid="race-reference">
                        { "the others are held against this" }
                    </p>
                } else {
                    { difference(all, index, to) }
                }
            }
        </section>
    }
}

/// How far a column is, in words.
fn steps(drawn: usize, tiles: usize, scale: Option<String>) -> String {
    match scale {
        Some(scale) => format!("frame {drawn} of {tiles} · {scale}"),
        // Before the server took it, nobody knows how many there will be.
        None if tiles == 0 => "not begun".into(),
        None => format!("frame {drawn} of {tiles}"),
    }
}

fn fid_of(published: Option<f64>) -> String {
    published.map_or_else(|| "none".to_owned(), |fid| fid.to_string())
}

/// What is said of a plan while it is drawn only to warm up, and until the run that counts begins.
const WARMING: &str = "Warming up, not counted";
const WARMED_UP: &str = "Warmed up; the run that counts comes next";

/// What is said of one that was stopped before it was counted.
const NOT_DRAWN: &str = "Stopped before it was drawn";

/// What a part of a drawing is called here.
fn name_of(part: TimePart) -> &'static str {
    match part {
        TimePart::Transformer => "network",
        TimePart::Decoder => "pictures",
        other => words::part_of_time(other),
    }
}

/// The time that plans are told apart by.
const IN_ALL: &str = "in all";

fn time(name: &'static str, spread: Option<Spread>, runs: usize) -> Html {
    let Some(Spread { median, least, most }) = spread else { return Html::default() };
    let words = words::duration(median);
    html! {
        <div class={classes!((name == IN_ALL).then_some("in-all"))}>
            <dt>{ name }</dt>
            <dd key={words.clone()}>
                { words }
                if runs > 1 {
                    <span class="hint">
                        { format!(" {}–{}", words::duration(least), words::duration(most)) }
                    </span>
                }
            </dd>
        </div>
    }
}
