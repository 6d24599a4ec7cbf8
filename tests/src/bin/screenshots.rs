//! Takes the pictures in `docs/` from the running program: `cargo xtask screenshots`.

use std::{env, fs, path::PathBuf, time::Duration};

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
    let directory = env::args_os().nth(1).map(PathBuf::from).context("usage: screenshots <directory>")?;
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
        Ok(())
    })
    .await
}

/// The playground after a job, and the page of its result.
async fn take(
    browsers: &Browsers,
    program: &Program,
    look: Look,
    path: &dyn Fn(&str) -> PathBuf,
) -> Result<()> {
    let playground = Playground::open(browsers, program, look, "/").await?;
    let job = playground.generate().await?;
    playground.wait_for_state(&job, "finished").await?;
    for page in ["playground", "result"] {
        if page == "result" {
            playground.goto(&format!("/r/{job}")).await?;
            playground.wait_for_state(&job, "finished").await?;
        }
        tokio::time::sleep(SETTLED).await;
        let path = path(page);
        fs::write(&path, playground.page.screenshot().await?)?;
        println!("{}", path.display());
    }
    Ok(())
}
