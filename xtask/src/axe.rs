//! axe-core, the accessibility checker that the browser tests run in the page. Its licence (MPL) is
//! not ours, so it is fetched and not kept here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{python::Python, stage::stage, workspace};

/// A package that carries `axe.min.js`.
const PACKAGE: &str = "axe-playwright-python==0.1.8";
const SCRIPT: &str = "axe_playwright_python/axe.min.js";
const NAME: &str = "axe-core-4.12.1";

/// Finds or fetches the script; returns its path.
///
/// # Errors
/// When it cannot be fetched.
pub(crate) fn ensure() -> Result<PathBuf> {
    stage("axe", "looking for the accessibility checker", || {
        let cache = workspace::cache()?;
        let path = cache.join(NAME).join("axe.min.js");
        if !path.exists() {
            fetch(&cache, &path).context(
                "axe-core could not be fetched; with the Python package index in reach run `cargo \
                 xtask setup`",
            )?;
        }
        let said = path.display().to_string();
        Ok((path, said))
    })
}

fn fetch(cache: &Path, path: &Path) -> Result<()> {
    let _lock = workspace::lock(cache, "axe")?;
    if path.exists() {
        return Ok(()); // Another process fetched it while this one waited.
    }
    let partial = cache.join(format!("{NAME}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let unpacked = partial.join("package");
    fs::create_dir_all(&unpacked)?;
    Python::find(&partial)?.unpack(&unpacked, &[PACKAGE.to_owned()], false)?;
    let directory = cache.join(NAME);
    fs::create_dir_all(&directory)?;
    fs::rename(unpacked.join(SCRIPT), path).context("the package does not hold axe.min.js")?;
    fs::remove_dir_all(&partial)?;
    Ok(())
}
