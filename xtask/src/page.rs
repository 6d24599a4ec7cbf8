//! The page: compiled, bound, named by content, compressed, and put in place as a whole.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{stage::stage, wasm, workspace};

/// Everything that the page is made of, relative to the root of the repository.
const SOURCES: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "docs/method.md",
    "frontend/Cargo.toml",
    "frontend/build.rs",
    "frontend/src",
    "shared",
    "static",
    "xtask/src/bin/build-page",
];

/// Directories of those that are not part of the page.
const NOT_SOURCES: [&str; 1] = ["static/demo-model"];

/// Builds the page into `frontend/dist`, unless it is there and nothing changed.
///
/// # Errors
/// When there is no compiler for wasm or the build fails; the page before stays.
pub(crate) fn ensure() -> Result<()> {
    stage("page", "checking what changed", || {
        let root = workspace::root();
        let target = workspace::target().join("page");
        let _lock = workspace::lock(&target, "page")?;
        let output = root.join("frontend/dist");
        // Beside the page and not in it: release builds embed the whole directory.
        let record = root.join("frontend/dist.fingerprint");
        let fingerprint = fingerprint(&root)?;
        let unchanged = fs::read_to_string(&record).is_ok_and(|text| text == fingerprint);
        if unchanged && output.join("index.html").exists() {
            return Ok(((), format!("unchanged in {}", output.display())));
        }
        let wasm = compile(&target)?;
        let size = bind(&wasm, &root, &output)?;
        write(&record, &fingerprint)?;
        Ok((
            (),
            format!("{} ({} KB of wasm to start with, compressed)", output.display(), size / 1000),
        ))
    })
}

/// Compiles the page; returns the path of the wasm.
fn compile(target: &Path) -> Result<PathBuf> {
    let compiler = wasm::Compiler::find()?;
    eprintln!("{:>10}  compiling with {} (the first time takes minutes)", "", compiler.name());
    let mut cargo = compiler.build();
    cargo.args(["--package", "var-dd-frontend", "--profile", "page", "--target-dir"]).arg(target);
    cargo.arg("--config").arg(wasm::without_paths());
    workspace::run(&mut cargo)
        .context("the page does not compile; once it does, run `cargo xtask page`")?;
    Ok(target.join(wasm::TARGET).join("page/var_dd_frontend.wasm"))
}

/// Binds and packs the page beside its place, then swaps it in. Returns the size of the compressed
/// wasm in bytes.
fn bind(wasm: &Path, root: &Path, output: &Path) -> Result<u64> {
    eprintln!("{:>10}  binding and compressing", "");
    let new = root.join("frontend/dist.new.tmp");
    let old = root.join("frontend/dist.old.tmp");
    remove(&new)?;
    remove(&old)?;
    fs::create_dir(&new).with_context(|| format!("cannot create {}", new.display()))?;
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--package", "xtask", "--features", "page", "--bin", "build-page", "--"]);
    cargo.arg(wasm).arg(root.join("static")).arg(root.join("docs/method.md")).arg(&new);
    workspace::run(&mut cargo).context("the page cannot be bound")?;
    if output.exists() {
        fs::rename(output, &old)
            .with_context(|| format!("cannot move {} away", output.display()))?;
    }
    fs::rename(&new, output).with_context(|| format!("cannot create {}", output.display()))?;
    remove(&old)?;
    compressed_wasm_size(&output.join("assets"))
}

/// What the browser fetches before it draws the page; the parts come later.
fn compressed_wasm_size(assets: &Path) -> Result<u64> {
    for entry in fs::read_dir(assets)? {
        let wasm = entry?.path().join("app_bg.wasm.br");
        if wasm.exists() {
            return Ok(fs::metadata(wasm)?.len());
        }
    }
    Ok(0)
}

/// A number of all sources' paths and contents.
fn fingerprint(root: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for source in SOURCES {
        hash(root, Path::new(source), &mut hasher)?;
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn hash(root: &Path, path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    if NOT_SOURCES.iter().any(|excluded| path == Path::new(excluded)) {
        return Ok(());
    }
    let full = root.join(path);
    if full.is_dir() {
        let entries =
            fs::read_dir(&full).with_context(|| format!("cannot list {}", full.display()))?;
        let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            hash(root, &path.join(name), hasher)?;
        }
    } else {
        let content = fs::read(&full).with_context(|| format!("cannot read {}", full.display()))?;
        (path, content).hash(hasher);
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_follows_the_page_and_not_the_demo_model() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for file in [
            "frontend/src/lib.rs",
            "shared/src/lib.rs",
            "static/style.css",
            "static/demo-model/config.json",
            "docs/method.md",
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "one").unwrap();
        }
        fs::create_dir_all(root.join("xtask/src/bin/build-page")).unwrap();
        for file in ["Cargo.toml", "Cargo.lock", "frontend/Cargo.toml", "frontend/build.rs"] {
            fs::write(root.join(file), "").unwrap();
        }
        let first = fingerprint(root).unwrap();
        fs::write(root.join("static/demo-model/config.json"), "two").unwrap();
        assert_eq!(fingerprint(root).unwrap(), first);
        fs::write(root.join("static/style.css"), "two").unwrap();
        assert_ne!(fingerprint(root).unwrap(), first);
    }
}
