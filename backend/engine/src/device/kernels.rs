//! The engine's own kernels on a GPU: made ready at the first call, and held against libtorch
//! before they count.

use std::{
    collections::BTreeMap,
    env, panic,
    path::Path,
    sync::{Mutex, PoisonError},
};

use tch::{Device, Kind, Tensor};

pub(crate) use super::native::kernels::Kernels;
use super::{bias, device_name, group_norm, native::kernels, panic_text, transformer};

/// Set to `off` it does without the kernels, to compare.
pub const SWITCH: &str = "VAR_DD_CUDA_KERNELS";

/// Makes the kernels ready on a device.
///
/// # Errors
/// Why there are none: on a CPU; without a compiler at run time; or because they gave other numbers
/// than libtorch.
pub fn ready(device: Device) -> Result<(), String> {
    on(device).map(drop)
}

/// The kernels as NVIDIA's run-time compiler at `compiler` (a `libnvrtc.so`) makes them for GPUs of
/// a compute capability, 90 for 9.0.
///
/// # Errors
/// What the compiler says.
pub fn compile(compiler: &Path, capability: i32) -> Result<Vec<u8>, String> {
    kernels::compile(compiler, capability)
}

/// The kernels on a device: compiled, loaded and checked at the first call.
pub(crate) fn on(device: Device) -> Result<Kernels, String> {
    static OUTCOMES: Mutex<BTreeMap<usize, Result<Kernels, String>>> = Mutex::new(BTreeMap::new());
    let Device::Cuda(number) = device else {
        return Err(format!("{} is no GPU", device_name(device)));
    };
    let mut outcomes = OUTCOMES.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = outcomes.entry(number).or_insert_with(|| {
        let checked = |kernels| panic::catch_unwind(|| check(kernels, device));
        let opened = match env::var(SWITCH).as_deref() {
            Ok("off") => Err(format!("{SWITCH} is off")),
            _ => Kernels::open(number),
        };
        let outcome = opened.and_then(|kernels| match checked(kernels) {
            Ok(outcome) => outcome.map(|()| kernels),
            Err(panic) => Err(panic_text(panic.as_ref()).to_owned()),
        });
        match &outcome {
            Ok(_) => {
                tracing::info!("the engine's own kernels are in use on {}", device_name(device))
            }
            Err(reason) => tracing::warn!(
                "{} runs without the engine's own kernels, which is slower: {reason}",
                device_name(device)
            ),
        }
        outcome
    });
    outcome.clone()
}

/// Compares the kernels with libtorch on small tensors: this is also how a GPU that nobody has
/// tried shows that they run on it at all, and loads every one before a graph is captured.
fn check(kernels: Kernels, device: Device) -> Result<(), String> {
    let _no_grad = tch::no_grad_guard();
    group_norm::check(kernels, device)?;
    bias::check(kernels, device)?;
    transformer::check(kernels, device)
}

/// Numbers that look like any others, from −1 to 1; made without the random numbers of libtorch,
/// whose stream belongs to others.
pub(super) fn numbers(size: &[i64], step: f64, device: Device) -> Tensor {
    (Tensor::arange(size.iter().product::<i64>(), (Kind::Double, device)) * step).sin().view(size)
}

/// The largest difference, beside the number where that is above one.
pub(super) fn distance(ours: &Tensor, plain: &Tensor) -> f64 {
    let off = (ours.to_kind(Kind::Float) - plain).abs() / plain.abs().clamp_min(1.0);
    f64::try_from(off.max()).unwrap_or(f64::NAN)
}

/// How far an outcome may be off: its rounding, and for f32 that of the sums.
pub(super) fn tolerance(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 => 1.0 / 256.0 + 1e-4,
        Kind::Half => 1.0 / 2048.0 + 1e-4,
        _ => 5e-5,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{ffi::CStr, path::PathBuf, process::Command, sync::OnceLock};

    use super::*;

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
            let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cuda/stand_in.cpp");
            let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
            let outcome = Command::new(compiler)
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
            Mutex::new(StandIn {
                orders: [load(c"forward"), load(c"backward")],
                _directory: directory,
            })
        });
        made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bits_are_equal(a: &Tensor, b: &Tensor) -> bool {
        a.kind() == b.kind() && a.equal(b)
    }

    #[test]
    fn the_check_of_a_gpu_finds_the_stand_in_right() {
        assert_eq!(check(stand_in().orders[0], Device::Cpu), Ok(()));
    }

    #[test]
    fn the_cpu_has_no_use_for_the_kernels() {
        assert_eq!(ready(Device::Cpu), Err("cpu is no GPU".into()));
    }
}
