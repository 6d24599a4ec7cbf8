//! The flags that say where networks run and in which numbers: the same ones for every command.

use std::{env, num::NonZeroUsize, sync::Once};

use clap::{ArgAction, Args, value_parser};
use tch::{Device, Kind};
use var_dd_engine::{
    config::Config,
    device::{DeviceChoice, DeviceError, DtypeChoice},
    ops::{Ops, Settings},
};

/// Where networks run.
#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// Where the networks run: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
    #[arg(long, value_name = "DEVICE", env = "VAR_DD_DEVICE", default_value_t)]
    pub device: DeviceChoice,
    /// Threads of the networks on a CPU [default: OMP_NUM_THREADS where it is set, else one a
    /// core]. Fewer are faster where others use the cores too. Pictures are the same whatever the
    /// number; training gives the same bits for the same number.
    #[arg(long, value_name = "COUNT", env = "VAR_DD_THREADS",
          value_parser = value_parser!(i32).range(1..=1024))]
    pub threads: Option<i32>,
    /// The faster ways that networks take.
    #[command(flatten)]
    pub faster: FasterArgs,
}

/// What stands above the flags that are not for every day; other flags stay where they are.
const FASTER: &str = "Faster ways, to be switched off for a comparison";

/// Which faster ways networks take: all that there are, unless someone compares.
#[derive(Args, Clone, Copy, Debug)]
pub struct FasterArgs {
    /// Capture student passes and decoding on a GPU once, and replay them.
    #[arg(long, value_name = "on|off", env = "VAR_DD_CUDA_GRAPHS", default_value = "on",
          help_heading = FASTER, action = ArgAction::Set, value_parser = is_on)]
    pub cuda_graphs: bool,
    /// Run the engine's own kernels on a GPU.
    #[arg(long, value_name = "on|off", env = "VAR_DD_CUDA_KERNELS", default_value = "on",
          help_heading = FASTER, action = ArgAction::Set, value_parser = is_on)]
    pub cuda_kernels: bool,
    /// Have cuDNN try its algorithms once for each convolution of a large batch.
    #[arg(long, value_name = "on|off", env = "VAR_DD_CUDNN_TRIALS", default_value = "on",
          help_heading = FASTER, action = ArgAction::Set, value_parser = is_on)]
    pub cudnn_trials: bool,
    /// Run the engine's own code on processors with AVX-512.
    #[arg(long, value_name = "on|off", env = "VAR_DD_AVX512", default_value = "on",
          help_heading = FASTER, action = ArgAction::Set, value_parser = is_on)]
    pub avx512: bool,
}

/// Reads a switch; what other programs call on and off is taken too.
fn is_on(text: &str) -> Result<bool, &'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err("it must be on or off"),
    }
}

/// Where networks run, and in which numbers.
#[derive(Args, Clone, Debug)]
pub struct NetworkArgs {
    /// Where the networks run.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Numbers of the networks: `f32`, `bf16`, `f16`, or `auto`: bf16 on a GPU and, for large
    /// models, on a CPU that multiplies it natively; else f32. Training and its scores take f32 on
    /// a CPU unless told otherwise; training refuses f16 [default: auto; f32 for `trace` and
    /// `trace-encode`].
    #[arg(long, value_name = "DTYPE", env = "VAR_DD_DTYPE")]
    pub dtype: Option<DtypeChoice>,
}

impl DeviceArgs {
    /// The operations on the device, ready to use.
    ///
    /// # Errors
    /// [`DeviceError::NoCuda`], [`DeviceError::NoGpu`] and [`DeviceError::OutOfRange`] when a GPU
    /// is asked for that cannot be used.
    pub fn open(&self) -> Result<Ops, DeviceError> {
        Ok(Ops::open(self.device.open()?, self.settings()))
    }

    /// What the flags and the environment ask of the engine.
    fn settings(&self) -> Settings {
        let FasterArgs { cuda_graphs, cuda_kernels, cudnn_trials, avx512 } = self.faster;
        let typed = self.threads.and_then(|threads| usize::try_from(threads).ok());
        let threads = typed.and_then(NonZeroUsize::new).or_else(threads_of_openmp);
        Settings { avx512, cuda_kernels, cuda_graphs, cudnn_trials, threads }
    }
}

/// The threads that OpenMP's variable asks for. One that cannot be read is told of, once.
fn threads_of_openmp() -> Option<NonZeroUsize> {
    static TOLD: Once = Once::new();
    let value = env::var_os("OMP_NUM_THREADS")?;
    let text = value.to_string_lossy();
    if text.trim().is_empty() {
        return None;
    }
    let threads = first_level(&text);
    if threads.is_none() {
        TOLD.call_once(|| {
            tracing::warn!(
                "the variable OMP_NUM_THREADS ({value:?}) counts for nothing: it must be a whole \
                 number from 1 on, or several with commas between; --threads says it too"
            );
        });
    }
    threads
}

/// Of a list, one number for each level of nested loops, the first counts.
fn first_level(list: &str) -> Option<NonZeroUsize> {
    list.split(',').next()?.trim().parse().ok()
}

impl NetworkArgs {
    /// The operations on the device, ready to use.
    ///
    /// # Errors
    /// As [`DeviceArgs::open`].
    pub fn open(&self) -> Result<Ops, DeviceError> {
        self.device.open()
    }

    /// The numbers as typed, or by default.
    pub fn dtype(&self) -> DtypeChoice {
        self.dtype.unwrap_or_default()
    }

    /// The numbers that a model of these sizes is drawn in on a device.
    pub fn kind_for(&self, device: Device, config: &Config) -> Kind {
        self.dtype().kind_for(device, config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_threads_for_nested_loops_the_first_number_counts() {
        for (list, threads) in [("4", 4), (" 4 ", 4), ("4,2", 4), ("3, 2,1", 3)] {
            assert_eq!(first_level(list).map(NonZeroUsize::get), Some(threads), "{list:?}");
        }
        for wrong in ["0", "-1", "four", ",2", "2x"] {
            assert_eq!(first_level(wrong), None, "{wrong:?}");
        }
    }
}
