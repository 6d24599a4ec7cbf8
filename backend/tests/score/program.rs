//! The program, and what it leaves behind.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

/// The demo model.
pub(crate) fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../static/demo-model")
}

/// `var-dd` with the given arguments and no variable that could change what it does.
pub(crate) fn var_dd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_var-dd"));
    command.args(arguments).stdin(Stdio::null());
    // Tests run side by side; threads that wait for each other across programs would take most of
    // the time.
    command.env("OMP_NUM_THREADS", "1");
    for name in [
        "VAR_DD_MODEL",
        "VAR_DD_INCEPTION",
        "HF_HOME",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "HF_HUB_CACHE",
        "HF_TOKEN",
        "HUGGINGFACE_HUB_CACHE",
        "TRANSFORMERS_OFFLINE",
        "VAR_DD_DEVICE",
        "VAR_DD_DTYPE",
        "VAR_DD_THREADS",
    ] {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end; it must succeed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Runs it to its end; it must fail. Its code and what it said.
pub(crate) fn fail(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(!status.success(), "{command:?} should fail; it said {said}");
    assert!(!said.contains("panicked"), "{said}");
    (status.code().unwrap(), said)
}

/// Starts it and kills it with signal 9 as soon as `due` says so, or waits for its end if that
/// comes first. Whether it was killed.
pub(crate) fn kill_when(command: &mut Command, due: impl Fn() -> bool) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{command:?}");
            return false;
        }
        if due() {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Every file of a directory by name, hidden ones too.
pub(crate) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

/// Number of files in a directory, which need not be there.
pub(crate) fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}
