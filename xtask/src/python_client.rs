//! Tests of the Python client, with pytest, against the real program.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{python, stage::stage, workspace};

/// What the client and its tests need.
const PACKAGES: [&str; 3] = ["httpx==0.28.1", "websockets==15.0.1", "pytest==8.4.2"];

/// Finds or fetches the packages; returns the directory that they lie in.
///
/// # Errors
/// When they cannot be fetched.
pub(crate) fn ensure() -> Result<PathBuf> {
    stage("python", "looking for what the Python client's tests need", || {
        let directory = python::packages("client-tests-1", &PACKAGES)?;
        let said = directory.display().to_string();
        Ok((directory, said))
    })
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
