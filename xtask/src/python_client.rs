//! Tests of the Python client, with pytest, against the real program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    python::{self, Python},
    stage::stage,
    workspace,
};

/// What the client and its tests need.
const PACKAGES: [&str; 3] = ["httpx==0.28.1", "websockets==15.0.1", "pytest==8.4.2"];

/// Finds or fetches the packages; returns the directory that they lie in.
///
/// # Errors
/// When they cannot be fetched.
pub(crate) fn ensure() -> Result<PathBuf> {
    stage("python", "looking for what the Python client's tests need", || {
        let version = python::version()?;
        let cache = workspace::cache()?;
        // Some packages have parts compiled for one version of Python.
        let directory = cache.join(format!("client-tests-1-{version}"));
        if !directory.exists() {
            fetch(&cache, &directory).context(
                "the packages could not be fetched; with the Python package index in reach run \
                 `cargo xtask setup`",
            )?;
        }
        let said = directory.display().to_string();
        Ok((directory, said))
    })
}

fn fetch(cache: &Path, directory: &Path) -> Result<()> {
    let _lock = workspace::lock(cache, "client-tests")?;
    if directory.exists() {
        return Ok(()); // Another process fetched them while this one waited.
    }
    let partial = cache.join("client-tests.partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let unpacked = partial.join("packages");
    fs::create_dir_all(&unpacked)?;
    Python::find(&partial)?.unpack(&unpacked, &PACKAGES.map(str::to_owned), true)?;
    fs::rename(&unpacked, directory)?;
    fs::remove_dir_all(&partial)?;
    Ok(())
}

/// The command that runs the tests with `program`.
///
/// # Errors
/// When what they need cannot be fetched.
pub(crate) fn tests(program: &Path, name: Option<&str>) -> Result<Command> {
    let packages = ensure()?;
    let mut command = Command::new(python::interpreter()?);
    command.current_dir(workspace::root().join("clients/python"));
    command.args(["-B", "-m", "pytest", "--quiet"]);
    if let Some(name) = name {
        command.args(["-k", name]);
    }
    workspace::without_cargo_run(&mut command);
    command.env("PYTHONPATH", packages).env("VAR_DD_PROGRAM", program);
    Ok(command)
}
