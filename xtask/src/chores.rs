//! The chores other than `test`.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{libtorch, page, python_client, s3, stage::stage, tool, workspace};

/// Builds what is missing and becomes the server.
pub(crate) fn serve(debug: bool, arguments: &[OsString]) -> Result<()> {
    let libtorch = libtorch::ensure()?;
    page::ensure()?;
    let program = program(&libtorch, !debug)?;
    let mut command = Command::new(&program);
    workspace::without_cargo_run(&mut command);
    command.arg("serve").args(arguments);
    eprintln!("{:>10}  {}", "server", workspace::shown(&command));
    // Replaces this process, so that Ctrl-C and signals reach the server itself.
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Builds the release program.
pub(crate) fn build() -> Result<()> {
    let libtorch = libtorch::ensure()?;
    page::ensure()?;
    program(&libtorch, true).map(drop)
}

/// Does all that needs a network.
pub(crate) fn setup() -> Result<()> {
    libtorch::ensure()?;
    tool::AXE.ensure()?;
    tool::CARGO_DENY.ensure()?;
    tool::NATS_SERVER.ensure()?;
    s3::ensure()?;
    python_client::ensure()?;
    stage("crates", "fetching", || {
        workspace::run(workspace::cargo().args(["fetch", "--locked"]))?;
        Ok(((), "all in Cargo's cache".to_owned()))
    })
}

/// Builds the program; returns its path.
pub(crate) fn program(libtorch: &Path, release: bool) -> Result<PathBuf> {
    let (name, flags): (_, &[_]) =
        if release { ("release", &["--release"]) } else { ("debug", &[]) };
    let path = workspace::target().join(name).join("var-dd");
    let doing = format!("building the {name} program (the first time takes minutes)");
    stage("program", &doing, || {
        let mut cargo = workspace::cargo();
        cargo.env("LIBTORCH", libtorch).args(["build", "--package", "var-dd"]).args(flags);
        workspace::run(&mut cargo)
            .context("the program does not build; once it does, run the same again")?;
        Ok(((), path.display().to_string()))
    })?;
    Ok(path)
}

pub(crate) fn format() -> Result<()> {
    require("rustfmt")?;
    workspace::run(workspace::cargo().args(["fmt", "--all"]))
}

pub(crate) fn lint() -> Result<()> {
    require("clippy")?;
    let libtorch = libtorch::ensure()?;
    stage("lint", "clippy on all crates", || {
        let mut cargo = workspace::cargo();
        cargo.env("LIBTORCH", &libtorch);
        cargo.args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--features",
            "xtask/page",
            "--",
            "--deny",
            "warnings",
        ]);
        workspace::run(&mut cargo)?;
        Ok(((), "no warning".to_owned()))
    })?;
    lint_for_other_processors(&libtorch)
}

/// A processor that the engine has no code of its own for.
const OTHER_PROCESSOR: &str = "aarch64-unknown-linux-gnu";

/// The C compiler of that processor, for libraries in C among the dependencies.
const OTHER_COMPILER: &str = "aarch64-linux-gnu-gcc";

/// Lints the engine as it is built for processors that it has no code of its own for. Where there
/// are the standard library and a C compiler of such a processor, checks the engine for it as well;
/// libtorch's bindings are then left without libtorch, as for documentation, since nothing is
/// linked.
fn lint_for_other_processors(libtorch: &Path) -> Result<()> {
    stage("lint", "the engine as other processors have it", || {
        let mut cargo = workspace::cargo();
        cargo.env("LIBTORCH", libtorch);
        cargo.args(["clippy", "--package", "var-dd-engine", "--all-targets"]);
        cargo.args(["--features", "var-dd-engine/portable", "--", "--deny", "warnings"]);
        workspace::run(&mut cargo)?;
        if !has_target(OTHER_PROCESSOR) || workspace::program(&[OTHER_COMPILER]).is_none() {
            let hint = format!(
                "no warning; `rustup target add {OTHER_PROCESSOR}` and {OTHER_COMPILER} check more"
            );
            return Ok(((), hint));
        }
        let mut cargo = workspace::cargo();
        cargo.env_remove("LIBTORCH").env("RUSTFLAGS", "--deny warnings");
        cargo.args(["check", "--package", "var-dd-engine", "--lib", "--target", OTHER_PROCESSOR]);
        cargo.args(["--features", "tch/doc-only"]);
        workspace::run(&mut cargo)?;
        Ok(((), format!("no warning, nor for {OTHER_PROCESSOR}")))
    })
}

/// Whether the toolchain can compile for a target.
fn has_target(target: &str) -> bool {
    let mut rustc = Command::new("rustc");
    let libraries =
        workspace::first_line(rustc.args(["--print", "target-libdir", "--target", target]));
    libraries.is_some_and(|directory| Path::new(&directory).is_dir())
}

pub(crate) fn check_format() -> Result<()> {
    require("rustfmt")?;
    stage("format", "rustfmt on all crates", || {
        workspace::run(workspace::cargo().args(["fmt", "--all", "--", "--check"]))
            .context("the sources are not formatted; run `cargo xtask fmt`")?;
        Ok(((), "as it should be".to_owned()))
    })
}

pub(crate) fn check() -> Result<()> {
    check_format()?;
    lint()?;
    deny(&[])
}

/// Checks the dependencies against `deny.toml`. Advisories change from day to day and need the
/// network: they are checked where `checks` names them, as in the workflow that runs every week.
pub(crate) fn deny(checks: &[String]) -> Result<()> {
    const OFFLINE: [&str; 3] = ["bans", "licenses", "sources"];
    let deny = tool::CARGO_DENY.ensure()?;
    stage("deny", "licences and sources of the dependencies", || {
        let mut command = Command::new(&deny);
        command.current_dir(workspace::root()).args(["--log-level", "error", "check"]);
        workspace::without_cargo_run(&mut command);
        if checks.is_empty() {
            command.args(OFFLINE);
        } else {
            command.args(checks);
        }
        workspace::run(&mut command).context("deny.toml says what is allowed, and why")?;
        Ok(((), "as deny.toml allows".to_owned()))
    })
}

pub(crate) fn document() -> Result<()> {
    // Private items are documented too, so links may lead to them.
    const FLAGS: &str = "--deny warnings --allow rustdoc::private-intra-doc-links";
    let libtorch = libtorch::ensure()?;
    let mut cargo = workspace::cargo();
    cargo.env("LIBTORCH", libtorch).env("RUSTDOCFLAGS", FLAGS);
    workspace::run(cargo.args(["doc", "--workspace", "--no-deps", "--document-private-items"]))?;
    println!("{}", workspace::target().join("doc/var_dd_engine/index.html").display());
    Ok(())
}

/// Builds the program and lets the end-to-end crate take the pictures with it.
pub(crate) fn screenshots() -> Result<()> {
    let libtorch = libtorch::ensure()?;
    page::ensure()?;
    let program = program(&libtorch, true)?;
    let mut cargo = workspace::cargo();
    cargo.env("LIBTORCH", libtorch).env("VAR_DD_PROGRAM", program);
    cargo.args(["run", "--package", "var-dd-tests", "--bin", "screenshots", "--"]);
    workspace::run(cargo.arg(workspace::root().join("docs")))
}

/// Builds the release program and lets the end-to-end crate wear it out.
pub(crate) fn soak(minutes: f64) -> Result<()> {
    let libtorch = libtorch::ensure()?;
    page::ensure()?;
    let program = program(&libtorch, true)?;
    let mut cargo = workspace::cargo();
    cargo.env("LIBTORCH", libtorch).env("VAR_DD_PROGRAM", program);
    cargo.args(["run", "--package", "var-dd-tests", "--bin", "soak", "--", "--minutes"]);
    workspace::run(cargo.arg(minutes.to_string()))
}

/// Builds the release program and lets the end-to-end crate measure its page in a browser.
pub(crate) fn page_speed(model: &Path, parts: &[String]) -> Result<()> {
    let libtorch = libtorch::ensure()?;
    page::ensure()?;
    let program = program(&libtorch, true)?;
    let mut cargo = workspace::cargo();
    cargo.env("LIBTORCH", libtorch).env("VAR_DD_PROGRAM", program);
    cargo.args(["run", "--package", "var-dd-tests", "--bin", "page_speed", "--"]);
    let model = std::path::absolute(model)?;
    workspace::run(cargo.arg(model).args(parts))
}

pub(crate) fn print_environment() -> Result<()> {
    let libtorch = libtorch::ensure()?;
    let libtorch = libtorch.display();
    println!("export LIBTORCH='{libtorch}'");
    // Documentation tests are linked without the run path that build scripts give.
    println!("export LD_LIBRARY_PATH='{libtorch}/lib'${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}");
    Ok(())
}

/// Whether a component of the toolchain is there.
pub(crate) fn has(component: &str) -> bool {
    let subcommand = if component == "rustfmt" { "fmt" } else { component };
    workspace::first_line(workspace::cargo().args([subcommand, "--version"])).is_some()
}

fn require(component: &str) -> Result<()> {
    if has(component) {
        return Ok(());
    }
    bail!("the toolchain lacks {component}; run `rustup component add {component}`");
}
