//! The kernels on a GPU that is not there (`stand_in.cpp`), for tests.

use std::{
    ffi::CStr,
    path::PathBuf,
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
};

use tch::Tensor;

use super::Kernels;

/// The kernels on a GPU that is not there. Those who hold the lock run them.
pub(crate) struct StandIn {
    /// With the threads of a block in one order and in the other.
    pub(crate) orders: [Kernels; 2],
    _directory: tempfile::TempDir,
}

pub(crate) fn stand_in() -> std::sync::MutexGuard<'static, StandIn> {
    static STAND_IN: OnceLock<Mutex<StandIn>> = OnceLock::new();
    let made = STAND_IN.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("libstandin.so");
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/ops/kernels/stand_in.cpp");
        let outcome = Command::new(env!("VAR_DD_CXX"))
            .args([
                "-std=c++17",
                "-O1",
                "-shared",
                "-fPIC",
                "-Wall",
                "-Werror",
                "-Wno-unknown-pragmas",
            ])
            .arg(source)
            .arg("-o")
            .arg(&library)
            .output()
            .unwrap();
        assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
        let load = |order: &CStr| Kernels::stand_in(&library, order).unwrap();
        Mutex::new(StandIn { orders: [load(c"forward"), load(c"backward")], _directory: directory })
    });
    made.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn bits_are_equal(a: &Tensor, b: &Tensor) -> bool {
    a.kind() == b.kind() && a.equal(b)
}
