//! A compiler for the page: the toolchain's wasm target, else the distribution's compiler.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The target triple of the page.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// What a distribution's compiler is called by.
const DISTRIBUTION: (&str, &str) = ("/usr/bin/rustc", "/usr/bin/cargo");

/// A compiler that can make wasm.
pub(crate) enum Compiler {
    /// The cargo that runs this program: its toolchain has the target.
    Toolchain,
    /// The distribution's; `build_std` if it comes with the standard library as source only.
    Distribution { build_std: bool, linker: PathBuf },
}

impl Compiler {
    /// Finds one; asks rustup for the target before falling back to the distribution.
    ///
    /// # Errors
    /// When there is none; names the commands that install one.
    pub(crate) fn find() -> Result<Self> {
        let sysroot = sysroot("rustc").context("rustc does not run; install Rust with rustup")?;
        if has_target(&sysroot) || add_target(&sysroot) {
            return Ok(Self::Toolchain);
        }
        let (rustc, cargo) = DISTRIBUTION;
        let found = sysroot_of_distribution(rustc).filter(|_| Path::new(cargo).exists());
        if let Some(own) = found {
            let build_std = !has_target(&own);
            let has_source = own.join("lib/rustlib/src/rust/library").is_dir();
            if let Some(linker) = linker(&[&sysroot, &own]).filter(|_| !build_std || has_source) {
                return Ok(Self::Distribution { build_std, linker });
            }
        }
        bail!(
            "no compiler for the page: the toolchain lacks {TARGET}. Run `rustup target add \
             {TARGET}`, or where that cannot download, on Debian `apt-get install rustc-web \
             cargo-web rust-web-src`; then the same again"
        );
    }

    /// What it is, for people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Toolchain => "the toolchain's wasm target".to_owned(),
            Self::Distribution { .. } => format!("the distribution's compiler {}", DISTRIBUTION.0),
        }
    }

    /// `cargo build` for wasm; package, profile and target directory are the caller's.
    pub(crate) fn build(&self) -> Command {
        match self {
            Self::Toolchain => {
                let mut cargo = workspace::cargo();
                cargo.args(["build", "--target", TARGET]);
                cargo
            }
            Self::Distribution { build_std, linker } => {
                let mut cargo = Command::new(DISTRIBUTION.1);
                workspace::without_cargo_run(&mut cargo);
                cargo.current_dir(workspace::root());
                // The other toolchain's variables would lead it astray.
                for name in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "LD_LIBRARY_PATH"] {
                    cargo.env_remove(name);
                }
                cargo.env("RUSTC", DISTRIBUTION.0);
                cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                cargo.args(["build", "--target", TARGET]);
                if *build_std {
                    // Building the standard library is an unstable option of a stable compiler.
                    cargo.env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=std,panic_abort");
                }
                cargo
            }
        }
    }
}

/// A setting of Cargo by which no wasm names the directories of the machine that made it: panics
/// tell places relative to the repository and to Cargo's sources.
pub(crate) fn without_paths() -> String {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let sources = home.map(|home| home.join("registry/src"));
    let sources = sources.and_then(|sources| sources.read_dir().ok()).into_iter().flatten();
    let sources = sources.flatten().map(|source| source.path());
    let flags = sources
        .chain([workspace::root()])
        .map(|path| format!("{:?}", format!("--remap-path-prefix={}/=", path.display())));
    format!("target.{TARGET}.rustflags=[{}]", flags.collect::<Vec<_>>().join(","))
}

fn sysroot(rustc: &str) -> Option<PathBuf> {
    let line = workspace::first_line(
        Command::new(rustc).current_dir(workspace::root()).args(["--print", "sysroot"]),
    );
    line.map(PathBuf::from)
}

fn sysroot_of_distribution(rustc: &str) -> Option<PathBuf> {
    let mut command = Command::new(rustc);
    // The run path of the first toolchain would hand it foreign libraries.
    command.env_remove("LD_LIBRARY_PATH").args(["--print", "sysroot"]);
    workspace::first_line(&mut command).map(PathBuf::from)
}

fn has_target(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir()
}

/// Asks rustup for the target. It may be out of reach, which is no error yet.
fn add_target(sysroot: &Path) -> bool {
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]).current_dir(workspace::root());
    rustup.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    rustup.status().is_ok_and(|status| status.success()) && has_target(sysroot)
}

/// A linker for wasm: one of a toolchain, else one on the search path.
fn linker(sysroots: &[&Path]) -> Option<PathBuf> {
    let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let own = |sysroot: &&Path| sysroot.join("lib/rustlib").join(&host).join("bin/rust-lld");
    let found = sysroots.iter().map(own).find(|path| path.exists());
    found.or_else(|| workspace::program(&["rust-lld", "wasm-ld"]))
}
