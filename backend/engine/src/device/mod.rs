//! Where the networks run, and in which numbers.

mod memory;
mod transfer;

use std::{
    fmt,
    num::NonZeroUsize,
    str::FromStr,
    sync::{Once, OnceLock},
    thread,
    time::{Duration, Instant},
};

use tch::{Cuda, Device, Kind, Tensor};

pub use self::transfer::download;
use crate::{
    config::Config,
    cuda::{self, CudaError},
};

/// A device as typed: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

/// A number type as typed: `auto`, `f32`, `bf16` or `f16`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DtypeChoice {
    /// bf16 on a GPU and, for large models, on a CPU that multiplies it natively; else f32.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// bfloat16 for the networks; norms, softmax and the sums that decide codes stay f32.
    Bf16,
    /// 16-bit floats for the networks; the rest as with bf16.
    F16,
}

/// A device that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A name that there is none of.
    #[error("device {0:?} is unknown; use auto, cpu, cuda, or cuda:N with the number of a GPU")]
    Unknown(String),
    /// A number type that there is none of.
    #[error("dtype {0:?} is unknown; use auto, f32, bf16 or f16")]
    UnknownDtype(String),
    /// A GPU was asked for, and libtorch's CUDA half cannot be used.
    #[error("there is no usable GPU ({0}); use --device cpu")]
    NoCuda(CudaError),
    /// A GPU was asked for, and the driver reports none.
    #[error("there is no usable GPU (the driver reports none); use --device cpu")]
    NoGpu,
    /// A GPU of this number was asked for.
    #[error("GPU {asked} was asked for; there are {found}, numbered from 0")]
    OutOfRange {
        /// The number.
        asked: usize,
        /// GPUs found.
        found: i64,
    },
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            other => {
                let number = other.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                number.map(Self::Cuda).ok_or_else(|| DeviceError::Unknown(text.to_owned()))
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for DtypeChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err(DeviceError::UnknownDtype(text.to_owned())),
        }
    }
}

impl fmt::Display for DtypeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl DeviceChoice {
    /// The device, ready to use. CUDA's part of libtorch is loaded first, where a driver is
    /// present.
    ///
    /// # Errors
    /// When a GPU is asked for that cannot be used.
    pub fn open(self) -> Result<Device, DeviceError> {
        let device = self.find()?;
        if device == Device::Cpu {
            memory::keep_freed_memory();
        }
        Ok(device)
    }

    fn find(self) -> Result<Device, DeviceError> {
        if self == Self::Cpu {
            return Ok(Device::Cpu);
        }
        let outcome = load_cuda();
        let found = if outcome.is_ok() && Cuda::is_available() { Cuda::device_count() } else { 0 };
        match self {
            Self::Cuda(_) if found == 0 => {
                Err(outcome.err().map_or(DeviceError::NoGpu, DeviceError::NoCuda))
            }
            Self::Cuda(asked) if asked as i64 >= found => {
                Err(DeviceError::OutOfRange { asked, found })
            }
            Self::Cuda(number) => Ok(Device::Cuda(number)),
            _ if found > 0 => Ok(Device::Cuda(0)),
            _ => Ok(Device::Cpu),
        }
    }
}

impl DtypeChoice {
    /// The number type on `device` for a model of these sizes: with [`DtypeChoice::Auto`] the
    /// fastest that is close enough.
    ///
    /// Small models are drawn in f32 on a CPU. Large ones are in bf16 where the processor
    /// multiplies it natively, which is measured once, in some milliseconds, since neither makers
    /// nor flags tell it reliably.
    pub fn kind_for(self, device: Device, config: &Config) -> Kind {
        match self {
            Self::Auto if device == Device::Cpu && is_large(config) && multiplies_bf16() => {
                Kind::BFloat16
            }
            _ => self.kind(device),
        }
    }

    /// The number type on `device` where results are compared or learnt from: f32 on a CPU unless
    /// asked otherwise.
    pub fn kind(self, device: Device) -> Kind {
        match self {
            Self::Auto if device.is_cuda() => Kind::BFloat16,
            Self::Auto | Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::F16 => Kind::Half,
        }
    }
}

/// Has libtorch compute with so many threads; by default, unless a number was chosen before, with
/// one for each core that this program may use. A core has one multiplier for all its threads, and
/// OpenMP would start as many as the machine has even where a container is given few.
pub fn use_threads(threads: Option<NonZeroUsize>) {
    static CHOSEN: Once = Once::new();
    let choose = |threads| tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    match threads {
        Some(threads) => {
            CHOSEN.call_once(|| {});
            choose(threads.get());
        }
        None => CHOSEN.call_once(|| {
            let allowed = thread::available_parallelism().map_or(1, usize::from);
            choose(allowed.min(num_cpus::get_physical()).max(1));
        }),
    }
}

/// Weights of a transformer from which on it counts as large.
const LARGE: i64 = 100_000_000;

/// Whether a model is so large that a single operation of it keeps several threads busy.
pub(crate) fn is_large(config: &Config) -> bool {
    config.transformer_parameters() >= LARGE
}

/// How much faster bf16 must be to be worth its rounding.
const WORTH_BF16: f64 = 1.5;

/// Whether the processor multiplies bf16 natively: far faster than f32.
fn multiplies_bf16() -> bool {
    static OUTCOME: OnceLock<bool> = OnceLock::new();
    *OUTCOME.get_or_init(|| {
        let rate = |kind| matrix_rate(Device::Cpu, kind, 512, Duration::from_millis(15));
        let ratio = rate(Kind::BFloat16) / rate(Kind::Float);
        tracing::info!("this processor multiplies bf16 {ratio:.1} times as fast as f32");
        ratio >= WORTH_BF16
    })
}

/// Operations per second (a multiplication with an addition is two) at which the device multiplies
/// square matrices: the best of as many as `time` has room for, so that others on the machine count
/// little.
pub fn matrix_rate(device: Device, kind: Kind, side: i64, time: Duration) -> f64 {
    let matrix = || Tensor::randn([side, side], (Kind::Float, device)).to_kind(kind);
    let (a, b) = (matrix(), matrix());
    let began = Instant::now();
    let mut best = Duration::MAX;
    while best == Duration::MAX || began.elapsed() < time {
        let start = Instant::now();
        let product = a.matmul(&b);
        // Waits for the device.
        let _ = product.get(0).get(0).to_kind(Kind::Float).double_value(&[]);
        best = best.min(start.elapsed());
    }
    2.0 * (side as f64).powi(3) / best.as_secs_f64()
}

/// The most bytes that tensors had on a GPU since this was asked last, or since the start; `None`
/// where nobody knows, as on a CPU.
pub fn peak_memory(device: Device) -> Option<i64> {
    match device {
        Device::Cuda(number) => cuda::library::peak_memory(number),
        _ => None,
    }
}

/// Name of a device, as `cpu` or `cuda:0`.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(number) => format!("cuda:{number}"),
        Device::Cpu => "cpu".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Name of a number type of networks, as `f32` or `bf16`.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bf16",
        Kind::Half => "f16",
        _ => "f32",
    }
}

/// Loads libtorch's CUDA half once per process.
fn load_cuda() -> Result<(), CudaError> {
    static OUTCOME: OnceLock<Result<(), CudaError>> = OnceLock::new();
    let load = || {
        let outcome = cuda::load();
        match &outcome {
            Ok(path) => tracing::info!(library = %path.display(), "loaded CUDA support"),
            Err(reason) => tracing::debug!(%reason, "no CUDA support"),
        }
        outcome.map(drop)
    };
    OUTCOME.get_or_init(load).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(3)] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!(" CUDA:1".parse(), Ok(DeviceChoice::Cuda(1)));
        assert_eq!("BF16 ".parse(), Ok(DtypeChoice::Bf16));
        for bad in ["gpu", "cuda:", "cuda:x", "cuda:-1", ""] {
            let error = bad.parse::<DeviceChoice>().unwrap_err();
            assert!(error.to_string().contains("cuda:N"), "{error}");
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_is_refused_with_the_way_out() {
        if DeviceChoice::Auto.open() == Ok(Device::Cpu) {
            let error = DeviceChoice::Cuda(0).open().unwrap_err();
            assert!(error.to_string().contains("--device cpu"), "{error}");
        } else {
            assert!(matches!(
                DeviceChoice::Cuda(999).open(),
                Err(DeviceError::OutOfRange { asked: 999, .. })
            ));
        }
    }

    #[test]
    fn numbers_are_f32_on_the_cpu_unless_asked_otherwise() {
        assert_eq!(DtypeChoice::Auto.kind(Device::Cpu), Kind::Float);
        assert_eq!(DtypeChoice::Auto.kind(Device::Cuda(0)), Kind::BFloat16);
        assert_eq!(
            "f16".parse::<DtypeChoice>().map(|choice| choice.kind(Device::Cpu)),
            Ok(Kind::Half)
        );
    }
}
