//! Two to four plans on one class and seed, side by side, in step by time.

use std::rc::Rc;

use var_dd_protocol::ModelInfo;
use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    api::now_ms,
    components::{Layers, Pickers, Status, StatusLine},
    hooks::{Controls, Key, use_backend, use_clock, use_controls, use_keys, use_title},
    route::Route,
    state::{
        comparison,
        job::Job,
        settings::{PlanChoice, Settings},
        store::{Answer, Connection},
        timeline::Timeline,
        words,
    },
};

/// Fewest and most plans side by side.
const PLANS: std::ops::RangeInclusive<usize> = 2..=4;

/// Times slower than real when slowed.
const SLOWER: f64 = 5.0;

/// Milliseconds that the end stays before the clock stops.
const REST_MS: f64 = 300.0;

/// One plan being drawn.
#[derive(Clone, Debug, PartialEq)]
struct Column {
    name: String,
    tag: u32,
}

/// The clock of all columns.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Clock {
    /// Everything shows its newest.
    Free,
    /// Runs since a time of this document, real time divided by `slower`.
    Runs { since_ms: f64, slower: f64 },
}

/// Compare plans.
#[component]
pub(crate) fn Compare() -> Html {
    use_title("Compare".into());
    let backend = use_backend();
    let store = &backend.store;
    let navigator = use_navigator();
    let controls = use_controls();
    let Controls { settings, model, .. } = &controls;
    let ticked = use_state_eq(|| vec![0_usize, 1]);
    let columns = use_state_eq(Vec::<Column>::new);
    let clock = use_state_eq(|| Clock::Free);

    let jobs: Vec<Option<Rc<Job>>> = columns
        .iter()
        .map(|column| match store.answer(column.tag) {
            Some(Answer::Accepted(job)) => store.job(job).cloned(),
            _ => None,
        })
        .collect();
    let all_finished = !jobs.is_empty()
        && jobs.iter().all(|job| job.as_ref().is_some_and(|job| job.is_finished()));
    {
        let clock = clock.clone();
        // When the last one is done, they are played in step.
        use_effect_with(all_finished, move |&finished| {
            clock.set(if finished {
                Clock::Runs { since_ms: now_ms(), slower: SLOWER }
            } else {
                Clock::Free
            });
        });
    }
    let length_ms = jobs.iter().flatten().map(|job| comparison::length_ms(job)).fold(0.0, f64::max);
    let now = use_clock(*clock != Clock::Free);
    let elapsed_ms = match *clock {
        Clock::Free => None,
        Clock::Runs { since_ms, slower } => Some(((now - since_ms) / slower).max(0.0)),
    };
    {
        let clock = clock.clone();
        use_effect_with(elapsed_ms.is_some_and(|ms| ms > length_ms + REST_MS), move |&over| {
            if over {
                clock.set(Clock::Free);
            }
        });
    }

    let usable = model.as_ref().map_or(0, |model| model.plans.len());
    let chosen: Vec<usize> = ticked.iter().copied().filter(|&plan| plan < usable).collect();
    let seed_problem = settings.seed().err();
    let running = jobs.iter().flatten().any(|job| !job.state.is_final());
    let can_start = store.connection == Connection::Open
        && PLANS.contains(&chosen.len())
        && seed_problem.is_none()
        && !running;
    let start = {
        let (backend, settings, columns, model) =
            (backend.clone(), settings.clone(), columns.clone(), model.clone());
        let chosen = chosen.clone();
        Callback::from(move |()| {
            let Some(model) = model.as_ref().filter(|_| can_start) else { return };
            let ask = |&plan: &usize| {
                let settings = Settings {
                    plan: PlanChoice::Preset(plan),
                    count: 1,
                    // The steps are what is compared here, each at its own time.
                    last_frame_first: false,
                    ..(*settings).clone()
                };
                let request = settings.request(model).ok()?;
                Some(Column {
                    name: model.plans[plan].name.clone(),
                    tag: backend.generate(request),
                })
            };
            columns.set(chosen.iter().filter_map(ask).collect());
        })
    };
    {
        let (backend, jobs, start) = (backend.clone(), jobs.clone(), start.clone());
        use_keys(Callback::from(move |key| {
            match key {
                Key::Generate => start.emit(()),
                Key::Cancel if running => {
                    let jobs = jobs.iter().flatten().filter(|job| !job.state.is_final());
                    jobs.for_each(|job| backend.cancel(job.id()));
                }
                _ => return false,
            }
            true
        }));
    }
    let play = |slower: f64| {
        let clock = clock.clone();
        Callback::from(move |_: MouseEvent| clock.set(Clock::Runs { since_ms: now_ms(), slower }))
    };
    html! {
        <main class="compare">
            <h1>{ "Compare plans" }</h1>
            if let Some(model) = model {
                <section class="choices" aria-label="What to compare">
                    <Pickers controls={controls.clone()} problem={seed_problem} />
                    { plans(model, &ticked, &chosen) }
                    <button
                        type="button"
                        class="generate"
                        data-testid="compare-start"
                        disabled={!can_start}
                        onclick={start.reform(|_: MouseEvent| ())}
                    >{ "Draw side by side" }</button>
                </section>
            } else {
                <p class="hint">{ "Waiting for the server" }</p>
            }
            if !columns.is_empty() {
                <div class="clock">
                    <button type="button" class="quiet" disabled={!all_finished} onclick={play(1.0)}>{ "Play at true speed" }</button>
                    <button type="button" class="quiet" disabled={!all_finished} onclick={play(SLOWER)}>
                        { format!("Play {SLOWER} times slower") }
                    </button>
                    <p class="time">{ match elapsed_ms {
                        Some(ms) => format!("{:.0} ms since each began", ms.min(length_ms)),
                        None if all_finished => format!("all of {}", words::duration(length_ms)),
                        None => "drawing, one after the other".to_owned(),
                    } }</p>
                </div>
            }
            <div class={classes!("columns", format!("of-{}", columns.len()))}>
                { for columns.iter().zip(&jobs).map(|(column, job)| {
                    draw_column(column, job.as_ref(), store.answer(column.tag), elapsed_ms, navigator.as_ref())
                }) }
            </div>
        </main>
    }
}

/// Boxes to tick, two to four of them.
fn plans(model: &ModelInfo, ticked: &UseStateHandle<Vec<usize>>, chosen: &[usize]) -> Html {
    let full = chosen.len() >= *PLANS.end();
    html! {
        <fieldset class="field plans">
            <legend>{ format!("Plans, {} to {}", PLANS.start(), PLANS.end()) }</legend>
            { for model.plans.iter().enumerate().map(|(index, preset)| {
                let checked = chosen.contains(&index);
                let onchange = {
                    let ticked = ticked.clone();
                    Callback::from(move |_: Event| {
                        let mut plans: Vec<usize> = ticked.iter().copied().filter(|&plan| plan != index).collect();
                        if !checked {
                            plans.push(index);
                            plans.sort_unstable();
                        }
                        ticked.set(plans);
                    })
                };
                html! {
                    <label key={index} class="plan">
                        <input
                            type="checkbox"
                            data-testid={format!("compare-plan-{index}")}
                            {checked}
                            disabled={full && !checked}
                            {onchange}
                        />
                        <span class="plan-name">{ &preset.name }</span>
                        <span class="plan-detail">
                            <span>{ words::cost(&preset.plan, model.scales()) }</span>
                            if let Some(fid) = preset.fid {
                                <span>{ format!("FID {fid}") }</span>
                            }
                        </span>
                    </label>
                }
            }) }
        </fieldset>
    }
}

fn draw_column(
    column: &Column,
    job: Option<&Rc<Job>>,
    answer: Option<&Answer>,
    elapsed_ms: Option<f64>,
    navigator: Option<&Navigator>,
) -> Html {
    let status = job.map_or_else(|| Status::of_answer(answer), |job| Status::of_job(job));
    let picture = job.map(|job| {
        let timeline = Timeline::of(job, None);
        let newest = timeline.tiles.iter().rposition(|tile| tile.frame.is_some());
        let tile = match elapsed_ms {
            Some(ms) => comparison::tile_at(job, &timeline, ms),
            None => newest,
        };
        let shown = tile.and_then(|tile| timeline.frame_at(job, 0, tile));
        let sides = &job.about.patch_nums;
        let side = shown.and_then(|((_, scale), _)| sides.get(scale as usize)).copied();
        let drawn = tile.map_or(0, |tile| tile + 1);
        html! {
            <>
                <div class="square">
                    <Layers
                        picture=0
                        shown={shown.map(|(place, frame)| (place, frame.clone()))}
                        last={tile.is_some() && tile == timeline.tiles.len().checked_sub(1)}
                        side={sides.last().copied().unwrap_or(1)}
                        alternative={words::alternative(&job.about, 0, side)}
                    />
                </div>
                <progress max={timeline.tiles.len().to_string()} value={drawn.to_string()} aria-label="Frames shown" />
                <p class="hint">{ format!(
                    "{drawn} of {}{}",
                    words::counted(timeline.tiles.len(), "frame", "frames"),
                    side.map(|side| format!(" · {side}×{side}")).unwrap_or_default()
                ) }</p>
            </>
        }
    });
    let took =
        job.filter(|job| job.is_finished()).map(|job| words::duration(comparison::length_ms(job)));
    let link = job.zip(navigator).map(|(job, _)| Route::Result { id: job.id().to_string() });
    html! {
        <section
            key={column.tag}
            class="column"
            data-testid="compare-column"
            data-job={job.map(|job| job.id().to_string())}
            data-state={status.state}
            aria-label={column.name.clone()}
        >
            <h2>{ &column.name }{ " " }<span class="took">{ took.unwrap_or_default() }</span></h2>
            { picture.unwrap_or_else(|| html! { <div class="square" /> }) }
            if job.is_none_or(|job| !job.is_finished()) {
                <StatusLine {status} />
            }
            if let Some(to) = link {
                <Link<Route> {to}>{ "Open the result" }</Link<Route>>
            }
        </section>
    }
}
