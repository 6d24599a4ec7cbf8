//! Measures the page in a real browser beside the server that it speaks to, on the same cores:
//! `cargo xtask page-speed`.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    thread::available_parallelism,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use var_dd_tests::{
    browser::{Browsers, Look, with_browsers},
    playground::Playground,
    program::{Program, demo_model, var_dd},
};

/// Clicks that are counted, of each plan, and those before them.
const CLICKS: usize = 10;
const WARM_UP: usize = 3;
/// Visits with an empty cache.
const VISITS: usize = 7;
/// For how long the pointer is dragged over the pad, and how often.
const DRAG: Duration = Duration::from_secs(10);
const DRAGS: usize = 3;
/// Single moves of the pointer.
const MOVES: usize = 20;

#[tokio::main]
async fn main() -> Result<()> {
    let model = env::args_os().nth(1).map_or_else(demo_model, PathBuf::from);
    let parts: Vec<String> = env::args().skip(2).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|name| name == part);
    let threads = format!("--threads={}", available_parallelism()?);
    let program = Program::start_with(&model, &[&threads, "--jobs-per-minute=0"])?;
    let plans: Vec<_> = program.info().await?.models.iter().flat_map(named_plans).collect();
    ensure!(!plans.is_empty(), "the model {} has no plan", model.display());
    println!("Milliseconds: median, smallest to largest.\n");
    with_browsers(async |browsers| {
        if wanted("visits") {
            visits(browsers, &program).await?;
        }
        if wanted("clicks") {
            clicks(browsers, &program, &model, &plans, &threads).await?;
        }
        if wanted("drags") {
            drags(browsers, &program).await?;
        }
        Ok(())
    })
    .await
}

fn named_plans(model: &var_dd_protocol::ModelInfo) -> Vec<String> {
    model.plans.iter().map(|preset| preset.name.clone()).collect()
}

/// What `stopwatch.js` wrote down.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Speed {
    clicked: Option<f64>,
    asked: Option<f64>,
    accepted: Option<f64>,
    frames: Vec<Arrival>,
    long: Vec<LongTask>,
    shifted: f64,
    first_picture: Option<f64>,
    ready: Option<f64>,
}

/// A frame, at a time of the page's clock, made at a time of its job's.
#[derive(Deserialize)]
struct Arrival {
    at: f64,
    job: String,
    made: f64,
}

/// Work of more than 50 ms during which the page answers nobody.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LongTask {
    start_time: f64,
    duration: f64,
}

async fn open(browsers: &Browsers, program: &Program, path: &str) -> Result<Playground> {
    let script = include_str!("../stopwatch.js");
    Playground::open_with_only(browsers, program, Look::DESKTOP, path, &[script]).await
}

async fn speed(playground: &Playground) -> Result<Speed> {
    Ok(serde_json::from_value(playground.page.value("return speed").await?)?)
}

/// Median, smallest and largest.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    match &values[..] {
        [] => "none".to_owned(),
        all => format!("{:.0}, {:.0}–{:.0}", all[all.len() / 2], all[0], all[all.len() - 1]),
    }
}

/// From an empty cache to the first picture (the example) and to a button that can be pressed.
async fn visits(browsers: &Browsers, program: &Program) -> Result<()> {
    let (mut first, mut ready, mut longest, mut shifted) = (vec![], vec![], vec![], 0_f64);
    for _ in 0..VISITS {
        let playground = open(browsers, program, "/").await?;
        let script = "return speed.firstPicture !== null && speed.ready !== null";
        playground.page.wait_for("the first picture", script).await?;
        playground.wait_for_attribute("job-state", "state", "finished").await?;
        let speed = speed(&playground).await?;
        first.extend(speed.first_picture);
        ready.extend(speed.ready);
        longest.push(speed.long.iter().map(|task| task.duration).fold(0.0, f64::max));
        shifted = shifted.max(speed.shifted);
        playground.page.goto("about:blank").await?;
    }
    println!("| first visit | |\n|---|---|");
    println!("| first picture | {} |", spread(first));
    println!("| Generate can be pressed | {} |", spread(ready));
    println!("| longest task | {} |", spread(longest));
    println!("| layout shift | {shifted:.3} |\n");
    Ok(())
}

/// Time of one picture with all of its frames by the engine alone, in ms.
fn offline(model: &Path, plan: &str, threads: &str) -> Result<f64> {
    let directory = TempDir::new()?;
    let file = directory.path().join("bench.json");
    let mut command = var_dd()?;
    command.args(["bench", threads, "--plan", plan, "--model"]).arg(model);
    let output = command.arg("--json").arg(&file).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let ms = figures.pointer("/rows/0/last_frame_ms").and_then(Value::as_f64);
    ms.with_context(|| format!("no time in {figures}"))
}

/// From the click to the frames, of each plan.
async fn clicks(
    browsers: &Browsers,
    program: &Program,
    model: &Path,
    plans: &[String],
    threads: &str,
) -> Result<()> {
    println!(
        "| plan | offline | asked | accepted | first frame | last frame | of offline | late, p50 and p99 | longest \
         task | tasks over 50 ms a click |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for (index, plan) in plans.iter().enumerate() {
        let alone = offline(model, plan, threads)?;
        let playground = open(browsers, program, "/").await?;
        playground.wait_until_ready().await?;
        playground.wait_for_attribute("job-state", "state", "finished").await?;
        playground.choose(&format!("plan-{index}")).await?;
        let (mut asked, mut accepted) = (vec![], vec![]);
        let (mut first, mut last, mut late) = (vec![], vec![], vec![]);
        let (mut longest, mut count) = (0_f64, 0);
        for click in 0..WARM_UP + CLICKS {
            playground.page.value("speed.frames = []; speed.long = []").await?;
            playground.click("generate").await?;
            playground
                .page
                .wait_for("a whole picture", "return speed.frames.some(frame => frame.last)")
                .await?;
            playground.wait_until_shown().await?;
            let speed = speed(&playground).await?;
            if click < WARM_UP {
                continue;
            }
            let clicked = speed.clicked.context("no click was seen")?;
            asked.extend(speed.asked.map(|at| at - clicked));
            accepted.extend(speed.accepted.map(|at| at - clicked));
            first.extend(speed.frames.first().map(|frame| frame.at - clicked));
            last.extend(speed.frames.last().map(|frame| frame.at - clicked));
            late.extend(lateness(&speed.frames));
            let tasks = speed.long.iter().filter(|task| task.start_time > clicked);
            longest = tasks.clone().map(|task| task.duration).fold(longest, f64::max);
            count += tasks.count();
        }
        late.sort_by(f64::total_cmp);
        let at = |share: usize| late.get(late.len().saturating_sub(1) * share / 100).copied();
        let mut sorted = last.clone();
        sorted.sort_by(f64::total_cmp);
        println!(
            "| {plan} | {alone:.0} | {} | {} | {} | {} | {:.2} | {:.1}, {:.1} | {longest:.0} | {:.1} |",
            spread(asked),
            spread(accepted),
            spread(first),
            spread(last),
            sorted[sorted.len() / 2] / alone,
            at(50).unwrap_or(0.0),
            at(99).unwrap_or(0.0),
            count as f64 / CLICKS as f64,
        );
        playground.page.goto("about:blank").await?;
    }
    println!();
    Ok(())
}

/// How much later than the quickest frame of its job each one came after it was made, in ms.
fn lateness(frames: &[Arrival]) -> Vec<f64> {
    let mut jobs: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for frame in frames {
        jobs.entry(&frame.job).or_default().push(frame.at - frame.made);
    }
    let late = |delays: Vec<f64>| {
        let quickest = delays.iter().copied().fold(f64::INFINITY, f64::min);
        delays.into_iter().map(move |delay| delay - quickest)
    };
    jobs.into_values().flat_map(late).collect()
}

/// How well a picture follows a pointer over the pad.
async fn drags(browsers: &Browsers, program: &Program) -> Result<()> {
    let playground = open(browsers, program, "/explore").await?;
    playground.wait_for_attribute("pad", "map", "49").await?;
    let prelude = "const pad = document.querySelector('[data-testid=pad]'); \
        const box = pad.getBoundingClientRect(); pad.setPointerCapture = () => {}; \
        const at = (kind, x, y) => pad.dispatchEvent(new PointerEvent(kind, { bubbles: true, \
            pointerId: 1, buttons: 1, pointerType: 'mouse', \
            clientX: box.left + x * box.width, clientY: box.top + y * box.height })); \
        const sleep = ms => new Promise(done => setTimeout(done, ms)); \
        const followed = () => pad.dataset.followed === 'true' && \
            document.querySelector('[data-testid=pad-picture]')?.complete; \
        const settled = async () => { while (!followed()) await sleep(2); };";
    let mut rates = Vec::new();
    for round in 0..DRAGS {
        let script = format!(
            "{prelude} await settled(); const before = Number(pad.dataset.count); \
             const start = performance.now(); let step = {round}; at('pointerdown', 0.5, 0.5); \
             while (performance.now() - start < {}) {{ \
                step += 0.02; at('pointermove', 0.5 + 0.4 * Math.sin(step * 1.3), \
                0.5 + 0.4 * Math.sin(step)); await sleep(16); }} \
             const count = Number(pad.dataset.count) - before; \
             const took = performance.now() - start; at('pointerup', 0.5, 0.5); \
             return count * 1000 / took",
            DRAG.as_millis()
        );
        rates.extend(playground.page.value(&script).await?.as_f64());
    }
    rates.sort_by(f64::total_cmp);
    let mut moves = Vec::new();
    for step in 0..MOVES {
        let place = 0.21 + 0.029 * step as f64;
        let script = format!(
            "{prelude} await settled(); await sleep(200); const start = performance.now(); \
             at('pointerdown', {place}, 0.33); at('pointermove', {place}, 0.37); \
             await sleep(1); await settled(); const took = performance.now() - start; \
             at('pointerup', {place}, 0.37); return took"
        );
        moves.extend(playground.page.value(&script).await?.as_f64());
    }
    println!("| the pad of Explore | |\n|---|---|");
    let all: Vec<_> = rates.iter().map(|rate| format!("{rate:.1}")).collect();
    println!(
        "| pictures a second while dragging, {} s each | {} |",
        DRAG.as_secs(),
        all.join(", ")
    );
    println!("| a single move, to its picture | {} |", spread(moves));
    Ok(())
}
