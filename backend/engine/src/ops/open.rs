//! Opening a device: the kernels for a GPU are compiled, loaded, and held against the definitions
//! of their operations before they count.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tch::Device;

use super::{
    CudaError, NoKernels, Ops, Settings, attention, conv, group_norm,
    kernels::{Kernels, compare::Mismatch},
    linear, residual,
};
use crate::{
    device::{device_name, use_threads},
    failure::{self, Failure},
};

/// Kernels that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// They could not be compiled or loaded.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// They gave other numbers than libtorch, or refused what they are made for.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// libtorch failed while they were tried.
    #[error("libtorch failed beside them: {0}")]
    Libtorch(#[from] Failure),
}

impl Ops {
    /// The operations on `device` with what `settings` ask for. The first time in a process,
    /// kernels for a GPU are compiled and checked here, which takes about a second; without them
    /// (the log says why, and [`Ops::kernels`]) operations run as libtorch has them, which is
    /// slower.
    pub fn open(device: Device, settings: Settings) -> Self {
        if device == Device::Cpu {
            use_threads(settings.threads);
        }
        let kernels = match device {
            Device::Cuda(_) if !settings.cuda_kernels => Err(NoKernels::SwitchedOff),
            Device::Cuda(number) => ready(number).map_err(NoKernels::Failed),
            other => Err(NoKernels::NotAGpu(other)),
        };
        Self { device, settings, kernels }
    }
}

/// The kernels on the GPU of this number: compiled, loaded and checked at the first call.
fn ready(number: usize) -> Result<Kernels, OpenError> {
    static OUTCOMES: Mutex<BTreeMap<usize, Result<Kernels, OpenError>>> =
        Mutex::new(BTreeMap::new());
    let mut outcomes = OUTCOMES.lock().unwrap_or_else(PoisonError::into_inner);
    let open = || {
        let (outcome, name) = (checked(number), device_name(Device::Cuda(number)));
        match &outcome {
            Ok(_) => tracing::info!("the engine's own kernels are in use on {name}"),
            Err(reason) => tracing::warn!(
                "{name} runs without the engine's own kernels, which is slower: {reason}"
            ),
        }
        outcome
    };
    outcomes.entry(number).or_insert_with(open).clone()
}

fn checked(number: usize) -> Result<Kernels, OpenError> {
    let kernels = Kernels::open(number)?;
    failure::catch(|| check(&kernels, Device::Cuda(number)))??;
    Ok(kernels)
}

/// Compares the kernels with libtorch on small tensors: this is also how a GPU that nobody has
/// tried shows that they run on it at all, and loads every one before a graph is captured.
fn check(kernels: &Kernels, device: Device) -> Result<(), Mismatch> {
    let _no_grad = tch::no_grad_guard();
    group_norm::check(kernels, device)?;
    conv::check(kernels, device)?;
    residual::check(kernels, device)?;
    attention::check(kernels, device)?;
    if device.is_cuda() { linear::check(device) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernels::stand_in::stand_in;

    #[test]
    fn the_check_of_a_gpu_finds_the_stand_in_right() {
        assert_eq!(check(&stand_in().orders[0], Device::Cpu), Ok(()));
    }

    #[test]
    fn the_cpu_has_no_use_for_the_kernels() {
        let ops = Ops::open(Device::Cpu, Settings::default());
        assert_eq!(ops.kernels().unwrap_err(), &NoKernels::NotAGpu(Device::Cpu));
    }

    #[test]
    fn a_gpu_that_is_not_there_runs_plainly_and_says_why() {
        let settings = Settings { cuda_kernels: false, ..Settings::default() };
        let ops = Ops::open(Device::Cuda(0), settings);
        assert_eq!(ops.kernels().unwrap_err(), &NoKernels::SwitchedOff);
        if !tch::Cuda::is_available() {
            let ops = Ops::open(Device::Cuda(0), Settings::default());
            assert!(matches!(ops.kernels(), Err(NoKernels::Failed(_))), "{ops:?}");
        }
    }
}
