//! Where the networks run, and in which numbers.

mod memory;
mod transfer;

use std::{
    env, fmt,
    str::FromStr,
    sync::{Once, OnceLock},
    thread,
    time::{Duration, Instant},
};

use tch::{Cuda, Device, Kind, Tensor};

pub use self::transfer::download;
use crate::{config::Config, cuda};

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
    /// A GPU was asked for and none can be used.
    #[error("there is no usable GPU ({0}); use --device cpu")]
    NoCuda(String),
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
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
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
        match text {
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
            set_threads();
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
            Self::Cuda(asked) if found == 0 => {
                let reason = outcome.err().unwrap_or_else(|| "the driver reports none".into());
                tracing::debug!(asked, reason, "no GPU");
                Err(DeviceError::NoCuda(reason))
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

/// One thread for each core that this program may use. A core has one multiplier for all its
/// threads, and OpenMP would start as many as the machine has even where a container is given few.
/// `OMP_NUM_THREADS` counts where it is set.
fn set_threads() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if env::var_os("OMP_NUM_THREADS").is_none() {
            let allowed = thread::available_parallelism().map_or(1, usize::from);
            tch::set_num_threads(allowed.min(num_cpus::get_physical()).max(1) as i32);
        }
    });
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

/// Set to `off` it keeps cuDNN from trying its ways of convolutions.
pub const CONVOLUTION_TRIALS: &str = "VAR_DD_CUDNN_TRIALS";

/// Maps of a batch from which on trials are worth their time: some milliseconds for each
/// convolution and size.
const WORTH_TRIALS: i64 = 8;

/// Before convolutions of so many maps: whether cuDNN shall try its ways of each once, and keep the
/// fastest, in place of what it takes to be the best. With many maps that saves a seventh of the
/// decoder's time; with few those who wait for a first picture would wait longer. Which way wins
/// may differ between two runs of the program, and with it the rounding.
pub(crate) fn prepare_convolutions(device: Device, maps: i64) {
    if device.is_cuda() {
        let wanted = maps >= WORTH_TRIALS && env::var(CONVOLUTION_TRIALS).as_deref() != Ok("off");
        Cuda::cudnn_set_benchmark(wanted);
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

/// Loads libtorch's CUDA part once per process; says why not, if not.
fn load_cuda() -> Result<(), String> {
    static OUTCOME: OnceLock<Result<(), String>> = OnceLock::new();
    OUTCOME
        .get_or_init(|| {
            let outcome = cuda::load();
            match &outcome {
                Ok(path) => tracing::info!(library = %path.display(), "loaded CUDA support"),
                Err(reason) => tracing::debug!(reason, "no CUDA support"),
            }
            outcome.map(drop)
        })
        .clone()
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
