//! The operations that the networks are made of, one room each. The first page of a room is the
//! operation in libtorch's terms: its definition, and what runs where nothing faster is known.
//! Beside it lie its faster ways, on a GPU (`cuda.rs`, which launches the kernel of a `.cu` file)
//! and on processors with AVX-512 (`avx512.rs`; convolutions: `winograd.rs`), and the checks that
//! hold these against the definition.
//!
//! [`Ops`] says which of the faster ways there are on a device. It is opened once, travels with the
//! weights ([`crate::weights::Cursor::ops`]), and an operation that is made with it takes the
//! fastest way there is.

pub(crate) mod attention;
#[cfg(avx512)]
mod avx512;
pub(crate) mod conv;
#[cfg(not(avx512))]
mod elsewhere;
pub mod group_norm;
pub mod kernels;
pub(crate) mod linear;
mod open;
pub(crate) mod residual;

use std::{
    fmt::{self, Display},
    num::NonZeroUsize,
};

use tch::{Device, Tensor};

use self::kernels::Kernels;
pub use self::open::OpenError;
pub use crate::cuda::CudaError;
use crate::device::device_name;

/// Which of the faster ways a program wants. All of them, unless someone compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Code for processors with AVX-512, where the processor has it.
    pub avx512: bool,
    /// The engine's own kernels on a GPU.
    pub cuda_kernels: bool,
    /// Captured graphs on a GPU ([`crate::graphs`]).
    pub cuda_graphs: bool,
    /// Whether cuDNN tries its algorithms for each convolution of a large batch once and keeps the
    /// fastest. Which one wins may differ between two runs of the program, and with it the
    /// rounding.
    pub cudnn_trials: bool,
    /// Threads of a CPU; by default one for each core that the program may use.
    pub threads: Option<NonZeroUsize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            avx512: true,
            cuda_kernels: true,
            cuda_graphs: true,
            cudnn_trials: true,
            threads: None,
        }
    }
}

impl Settings {
    /// None of the faster ways: operations are what libtorch makes of their definitions.
    pub const PLAIN: Self = Self {
        avx512: false,
        cuda_kernels: false,
        cuda_graphs: false,
        cudnn_trials: false,
        threads: None,
    };
}

/// A device, and the faster ways of operations on it.
#[derive(Clone, Debug)]
pub struct Ops {
    device: Device,
    settings: Settings,
    kernels: Result<Kernels, NoKernels>,
}

/// Why a device runs without the engine's own kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoKernels {
    /// It is no GPU.
    NotAGpu(Device),
    /// [`Settings::cuda_kernels`] is off.
    SwitchedOff,
    /// They could not be made ready, or gave other numbers than libtorch.
    Failed(OpenError),
}

impl Display for NoKernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAGpu(device) => write!(f, "{} is no GPU", device_name(*device)),
            Self::SwitchedOff => f.write_str("they are switched off"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl Ops {
    /// Operations as libtorch has them, on `device`: for weights that are learnt, and where only
    /// names and shapes count.
    pub fn plain(device: Device) -> Self {
        Self { device, settings: Settings::PLAIN, kernels: Err(NoKernels::SwitchedOff) }
    }

    /// The device that tensors are on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What the program asked for.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The engine's own kernels for this GPU.
    ///
    /// # Errors
    /// Why there are none.
    pub fn kernels(&self) -> Result<&Kernels, &NoKernels> {
        self.kernels.as_ref()
    }
}

/// The four sizes of a batch of maps, in the order of its dimensions.
///
/// # Panics
/// If it has another number of dimensions: that is a fault of the program.
pub(crate) fn map_size(map: &Tensor) -> [i64; 4] {
    let size = map.size();
    size.try_into().unwrap_or_else(|size| panic!("{size:?} is no batch of maps"))
}

/// Whether a tensor only stands in for one: a single number in place of all, where a tensor is
/// missing or where nobody wants its numbers. Nothing may be made of it that takes room for all of
/// them.
fn is_stand_in(tensor: &Tensor) -> bool {
    tensor.numel() > 1 && tensor.stride().iter().all(|&stride| stride == 0)
}

/// Whether a weight is worth preparing: it is not learnt, and more than a stand-in.
pub(crate) fn is_fixed(weight: &Tensor) -> bool {
    !weight.requires_grad() && !is_stand_in(weight)
}

#[cfg(test)]
impl Ops {
    /// Operations on the CPU, run by `kernels` as they would be on a GPU.
    pub(crate) fn on_stand_in(kernels: Kernels) -> Self {
        Self { kernels: Ok(kernels), ..Self::plain(Device::Cpu) }
    }
}
