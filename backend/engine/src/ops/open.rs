//! The engine's own kernels on a GPU: made ready at the first call, and held against libtorch
//! before they count.

use std::{
    collections::BTreeMap,
    env, panic,
    path::Path,
    sync::{Mutex, PoisonError},
};

use tch::Device;

use super::{
    attention, conv, group_norm,
    kernels::{self, Kernels},
    linear, residual,
};
use crate::{device::device_name, failure::panic_text};

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
    conv::bias::check(kernels, device)?;
    residual::cuda::check(kernels, device)?;
    attention::cuda::check(kernels, device)?;
    if device.is_cuda() { linear::cuda::check(device) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernels::stand_in::stand_in;

    #[test]
    fn the_check_of_a_gpu_finds_the_stand_in_right() {
        assert_eq!(check(stand_in().orders[0], Device::Cpu), Ok(()));
    }

    #[test]
    fn the_cpu_has_no_use_for_the_kernels() {
        assert_eq!(ready(Device::Cpu), Err("cpu is no GPU".into()));
    }
}
