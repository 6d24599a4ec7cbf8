//! Where things are, and how programs are called.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    // Cargo says where this package lies now. What was compiled in is where it lay when it was
    // built; a clone may have been moved or copied since, which cargo does not build anew.
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().expect("xtask lies in the workspace").to_owned()
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Where downloads of this project are kept for all its checkouts: `$XDG_CACHE_HOME/var-dd`.
///
/// # Errors
/// When there is neither `XDG_CACHE_HOME` nor `HOME`, or the directory cannot be made.
pub(crate) fn cache() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let directory = base
        .context("neither XDG_CACHE_HOME nor HOME is set; set one, it is where downloads are kept")?
        .join("var-dd");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// Waits until no other `cargo xtask` does the same in `directory`; released when dropped.
///
/// # Errors
/// When the lock cannot be made.
pub(crate) fn lock(directory: &Path, name: &str) -> Result<File> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let path = directory.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("{:>10}  another cargo xtask is at it; waiting for {}", "", path.display());
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Cargo, in the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    without_cargo_run(&mut command);
    command
}

/// Takes away what `cargo run`, which started this program, put into the environment for it.
pub(crate) fn without_cargo_run(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    if let Some(paths) = env::var_os("LD_LIBRARY_PATH") {
        let target = target();
        let of_cargo = |path: &PathBuf| path.starts_with(&target) || path.join("rustlib").is_dir();
        let kept: Vec<_> = env::split_paths(&paths).filter(|path| !of_cargo(path)).collect();
        match env::join_paths(kept) {
            Ok(kept) if !kept.is_empty() => command.env("LD_LIBRARY_PATH", kept),
            _ => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot start or ends with an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a program and returns the first line of what it prints; `None` if it cannot run or fails.
pub(crate) fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

/// The command as one could type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The first of these programs that the search path has.
pub(crate) fn program(names: &[&str]) -> Option<PathBuf> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let found = |name: &&str| {
        env::split_paths(&paths).map(|path| path.join(name)).find(|path| path.is_file())
    };
    names.iter().find_map(found)
}
