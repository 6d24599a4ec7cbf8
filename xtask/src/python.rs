//! Packages from the Python package index, unpacked into a directory of ours; nothing is installed
//! for the user.

use std::{
    fs,
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

/// Finds or fetches packages with all that they need; returns the directory in the cache, named
/// `name` and the version of Python, that they lie in.
///
/// # Errors
/// When they cannot be fetched.
pub(crate) fn packages(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let cache = workspace::cache()?;
    // Some packages have parts compiled for one version of Python.
    let directory = cache.join(format!("{name}-{}", version()?));
    if !directory.exists() {
        fetch(&cache, name, &directory, packages).context(
            "the packages could not be fetched; with the Python package index in reach run \
             `cargo xtask setup`",
        )?;
    }
    Ok(directory)
}

fn fetch(cache: &Path, name: &str, directory: &Path, packages: &[&str]) -> Result<()> {
    let _lock = workspace::lock(cache, name)?;
    if directory.exists() {
        return Ok(()); // Another process fetched them while this one waited.
    }
    let partial = cache.join(format!("{name}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let unpacked = partial.join("packages");
    fs::create_dir_all(&unpacked)?;
    let packages: Vec<_> = packages.iter().map(|&package| package.to_owned()).collect();
    Python::find(&partial)?.unpack(&unpacked, &packages, true)?;
    fs::rename(&unpacked, directory)?;
    fs::remove_dir_all(&partial)?;
    Ok(())
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
