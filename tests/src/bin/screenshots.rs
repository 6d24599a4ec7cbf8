//! Takes the pictures in `docs/` from the running program: `cargo xtask screenshots`.

use std::{
    env, fs,
    io::BufWriter,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use var_dd_tests::{
    browser::{Browsers, Look, with_browsers},
    playground::Playground,
    program::Program,
};

/// Longer than any cross-fade of the page.
const SETTLED: Duration = Duration::from_millis(700);

#[tokio::main]
async fn main() -> Result<()> {
    let directory =
        env::args_os().nth(1).map(PathBuf::from).context("usage: screenshots <directory>")?;
    fs::create_dir_all(&directory)?;
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for (name, look) in [("desktop", Look::DESKTOP), ("phone", Look::PHONE)] {
            for (colours, look) in [("light", look), ("dark", look.dark())] {
                take(browsers, &program, look, &|page| {
                    directory.join(format!("{page}-{name}-{colours}.png"))
                })
                .await?;
            }
        }
        let playground = Playground::open(browsers, &program, Look::DESKTOP, EXPLORED).await?;
        playground.wait_for_attribute("pad", "map", "49").await?;
        save(&playground, &directory.join("explore.png")).await?;
        come_into_focus(browsers, &program, &directory.join("focus.gif")).await
    })
    .await
}

/// A picture that comes into focus, scale by scale, as an animation of its stage and strip.
async fn come_into_focus(browsers: &Browsers, program: &Program, path: &Path) -> Result<()> {
    let playground = Playground::open(browsers, program, Look::DESKTOP, "/").await?;
    playground.wait_until_ready().await?;
    let class = playground.choose_class(CLASS).await;
    class.with_context(|| format!("choosing the class {CLASS}"))?;
    playground.fill("seed", SEED).await?;
    playground.choose("plan-1").await?;
    let job = playground.generate().await?;
    playground.wait_for_state(&job, "finished").await?;
    playground.wait_until_shown().await?;
    // Stage, state, buttons and strip: what stands beside the controls.
    let place = "const box = (of) => document.querySelector(of).getBoundingClientRect(); \
        const [table, stage, strip] = ['.table', '.stage', '.strip'].map(box); \
        return [table.left, stage.top, table.width, strip.bottom - stage.top].map(Math.round)";
    let [left, top, width, height] = serde_json::from_value(playground.page.value(place).await?)?;
    let mut frames = Vec::new();
    for tile in 0..playground.drawn_tiles().await?.len() {
        playground.choose_tile(tile).await?;
        tokio::time::sleep(SETTLED).await;
        let picture = image::load_from_memory(&playground.page.screenshot().await?)?;
        frames.push(picture.crop_imm(left, top, width, height).into_rgb8());
    }
    let file = BufWriter::new(fs::File::create(path)?);
    let mut encoder = gif::Encoder::new(file, width as u16, height as u16, &[])?;
    encoder.set_repeat(gif::Repeat::Infinite)?;
    let last = frames.len() - 1;
    for (at, picture) in frames.iter().enumerate() {
        let mut frame = gif::Frame::from_rgb(width as u16, height as u16, picture);
        // In hundredths of a second.
        frame.delay = if at == last { 250 } else { 45 };
        encoder.write_frame(&frame)?;
    }
    println!("{}", path.display());
    Ok(())
}

/// A seed whose picture shows well what happens.
const SEED: &str = "3";

/// A place between four classes, and a walk through pins.
const EXPLORED: &str = "/explore?corners=9-5_13-7_1-21_5-4&at=68-72&pins=20-25_70-20_68-72_25-75";

/// The playground after a job, the page of its result, a grid of several pictures, a comparison,
/// and a lesson.
async fn take(
    browsers: &Browsers,
    program: &Program,
    look: Look,
    path: &dyn Fn(&str) -> PathBuf,
) -> Result<()> {
    let playground = Playground::open(browsers, program, look, "/").await?;
    playground.wait_until_ready().await?;
    let class = playground.choose_class(CLASS).await;
    class.with_context(|| format!("choosing the class {CLASS}"))?;
    playground.choose("plan-2").await?;
    let job = playground.generate().await?;
    playground.wait_for_state(&job, "finished").await?;
    playground.wait_until_shown().await?;
    save(&playground, &path("playground")).await?;

    playground.choose("count-8").await?;
    let several = playground.generate().await?;
    playground.wait_for_state(&several, "finished").await?;
    playground.wait_until_shown().await?;
    save(&playground, &path("several")).await?;

    playground.goto(&format!("/r/{job}")).await?;
    playground.wait_for_state(&job, "finished").await?;
    playground.choose_tile(playground.drawn_tiles().await?.len() - 1).await?;
    save(&playground, &path("result")).await?;

    playground.goto("/compare").await?;
    playground.wait_for_attribute("connection", "connection", "open").await?;
    for plan in 0..4 {
        playground.tick(&format!("compare-plan-{plan}")).await?;
    }
    playground.choose("compare-start").await?;
    let done = "const columns = [...document.querySelectorAll('[data-testid=compare-column]')]; \
        return columns.length === 4 && columns.every(column => column.dataset.state === \
        'finished') && \
            (columns[0].scrollIntoView({ block: 'center' }), true)";
    playground.page.wait_for("finished columns", done).await?;
    save(&playground, &path("compare")).await?;

    playground.goto("/learn").await?;
    for lesson in ["1", "2"] {
        playground.wait_for_attribute("lesson", "lesson", lesson).await?;
        playground.wait_for_attribute("lesson-figure", "followed", "true").await?;
        if lesson == "1" {
            playground.choose("lesson-on").await?;
        }
    }
    save(&playground, &path("learn")).await
}

/// A class whose pictures show well what happens.
const CLASS: usize = 12;

async fn save(playground: &Playground, path: &Path) -> Result<()> {
    tokio::time::sleep(SETTLED).await;
    fs::write(path, playground.page.screenshot().await?)?;
    println!("{}", path.display());
    Ok(())
}
