//! Packages from the Python package index, unpacked into a directory of ours; nothing is installed
//! for the user.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::workspace;

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
        let Some(interpreter) = workspace::program(&["python3", "python"]) else {
            bail!("Python 3 is missing; install it (Debian: apt-get install python3 python3-venv)");
        };
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
