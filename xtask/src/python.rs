//! Packages from the Python package index, unpacked into a directory of ours; nothing is installed
//! for the user.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The interpreter of this machine.
///
/// # Errors
/// When there is none.
pub(crate) fn interpreter() -> Result<PathBuf> {
    workspace::program(&["python3", "python"])
        .context("Python 3 is missing; install it (Debian: apt-get install python3 python3-venv)")
}

/// Its version, as `python-3.11.2`.
///
/// # Errors
/// When there is none, or it does not tell.
pub(crate) fn version() -> Result<String> {
    let version = workspace::first_line(Command::new(interpreter()?).arg("--version"));
    let version = version.context("python3 does not tell its version")?;
    Ok(version.replace(' ', "-").to_lowercase())
}

/// A Python interpreter with pip.
pub(crate) struct Python {
    interpreter: PathBuf,
}

impl Python {
    /// Finds one: a virtual environment made in `scratch`, else the interpreter with its own pip.
    ///
    /// # Errors
    /// When there is no Python 3, or one with neither venv nor pip.
    pub(crate) fn find(scratch: &Path) -> Result<Self> {
        let interpreter = interpreter()?;
        let directory = scratch.join("python");
        let made = Command::new(&interpreter).args(["-m", "venv"]).arg(&directory).output();
        if made.is_ok_and(|made| made.status.success()) {
            return Ok(Self { interpreter: directory.join("bin/python") });
        }
        let own = Command::new(&interpreter).args(["-m", "pip", "--version"]).output();
        if own.is_ok_and(|own| own.status.success()) {
            return Ok(Self { interpreter });
        }
        bail!(
            "{} has neither venv nor pip; install them (Debian: apt-get install python3-venv)",
            interpreter.display()
        );
    }

    /// Unpacks packages into `target`; with what they need if `dependencies` says so.
    ///
    /// # Errors
    /// When pip fails; it has said why.
    pub(crate) fn unpack(
        &self,
        target: &Path,
        packages: &[String],
        dependencies: bool,
    ) -> Result<()> {
        let mut pip = Command::new(&self.interpreter);
        pip.args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
            "--only-binary=:all:",
        ]);
        if !dependencies {
            pip.arg("--no-deps");
        }
        pip.arg("--target").arg(target).args(packages);
        // Standard output belongs to the chore (`cargo xtask env` is read by a shell).
        pip.stdout(std::io::stderr());
        workspace::run(&mut pip)
    }
}
