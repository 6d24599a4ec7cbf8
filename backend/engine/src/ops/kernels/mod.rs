//! The operations' CUDA kernels (the `.cu` files beside them): compiled for the GPU at hand as one
//! text, loaded and launched.

#![expect(unsafe_code, reason = "kernels are launched with pointers to tensors")]

pub(in crate::ops) mod compare;
#[cfg(test)]
pub(crate) mod stand_in;

use std::{
    ffi::{CStr, c_int, c_void},
    path::Path,
    sync::Once,
};

use tch::{Device, Kind, Tensor};

pub use self::compare::Mismatch;
use crate::{
    cuda::{
        CudaError,
        driver::{Gpu, Kernel, Size, Stream},
        library::current_stream,
        nvrtc,
    },
    device::device_name,
};

/// The kernels' sources, as one text.
const SOURCE: &str = concat!(
    include_str!("numbers.cuh"),
    include_str!("../group_norm/group_norm.cu"),
    include_str!("../conv/maps.cu"),
    include_str!("../residual/residual.cu"),
    include_str!("../attention/attention.cu"),
    "\0"
);

/// A kernel that is there for each number type.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) enum Typed {
    Partial,
    Apply,
    Add,
    Interleave,
    ResidualNorm,
    UnitHeads,
}

/// Number types, and the bytes of a number.
const KINDS: [(Kind, i64); 3] = [(Kind::Float, 4), (Kind::Half, 2), (Kind::BFloat16, 2)];

/// The kernels in the order of [`Typed`], each in the order of [`KINDS`]; then the one that knows
/// f32 alone.
const NAMES: [&CStr; 19] = [
    c"partial_f32",
    c"partial_f16",
    c"partial_bf16",
    c"apply_f32",
    c"apply_f16",
    c"apply_bf16",
    c"add_f32",
    c"add_f16",
    c"add_bf16",
    c"interleave_f32",
    c"interleave_f16",
    c"interleave_bf16",
    c"residual_norm_f32",
    c"residual_norm_f16",
    c"residual_norm_bf16",
    c"unit_heads_f32",
    c"unit_heads_f16",
    c"unit_heads_bf16",
    c"unite_chunks",
];

/// The kernels on one GPU.
#[derive(Clone, Copy, Debug)]
pub struct Kernels(&'static Loaded);

/// Why a kernel did not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A tensor of a shape, number type or place that it is not made for; libtorch takes it.
    #[error("a kernel is not made for {what} {size:?} of {kind} on {}", device_name(*device))]
    Unfit {
        /// What the tensor holds.
        what: &'static str,
        /// Its shape.
        size: Vec<i64>,
        /// Its number type.
        kind: String,
        /// Where it is.
        device: Device,
    },
    /// The driver or libtorch failed.
    #[error(transparent)]
    Cuda(#[from] CudaError),
}

impl Refusal {
    /// A tensor that a kernel is not made for.
    pub(in crate::ops) fn unfit(what: &'static str, tensor: &Tensor) -> Self {
        let kind = format!("{:?}", tensor.kind());
        Self::Unfit { what, size: tensor.size(), kind, device: tensor.device() }
    }
}

#[derive(Debug)]
struct Loaded {
    gpu: Gpu,
    /// The stream on which libtorch works at the moment on the GPU of this number.
    stream: fn(usize) -> Result<Stream, CudaError>,
    kernels: [Kernel; NAMES.len()],
}

/// The kernels as NVIDIA's run-time compiler at `compiler` (a `libnvrtc.so`) makes them for GPUs of
/// a compute capability, 90 for 9.0: code, or text that a driver compiles.
///
/// # Errors
/// When the library is no such compiler, and what the compiler refuses.
pub fn compile(compiler: &Path, capability: i32) -> Result<Vec<u8>, CudaError> {
    let source = CStr::from_bytes_with_nul(SOURCE.as_bytes())
        .map_err(|error| CudaError::Compile(error.to_string()))?;
    nvrtc::compile(compiler, source, capability)
}

impl Kernels {
    /// Compiles and loads them for the GPU of this number, on which libtorch works already.
    pub(in crate::ops) fn open(number: usize) -> Result<Self, CudaError> {
        let gpu = Gpu::open(number)?;
        let mut errors = Vec::new();
        for compiler in nvrtc::places() {
            match compile(&compiler, gpu.capability) {
                Ok(image) => {
                    let stream = |number| current_stream(number).map(Stream);
                    // SAFETY: just compiled for this GPU.
                    return unsafe { Self::load(gpu, &image, stream) };
                }
                Err(error) => errors.push(error),
            }
        }
        Err(CudaError::NoCompiler(errors))
    }

    /// Loads them.
    ///
    /// # Safety
    /// `image` is [`SOURCE`], compiled for this GPU.
    unsafe fn load(
        gpu: Gpu,
        image: &[u8],
        stream: fn(usize) -> Result<Stream, CudaError>,
    ) -> Result<Self, CudaError> {
        // SAFETY: promised by the caller.
        let kernels = unsafe { gpu.load(image, NAMES) }?;
        // They are never unloaded.
        Ok(Self(Box::leak(Box::new(Loaded { gpu, stream, kernels }))))
    }

    /// The kernel for numbers of `kind`; `None` where there is none.
    pub(in crate::ops) fn typed(&self, which: Typed, kind: Kind) -> Option<Kernel> {
        let place = KINDS.iter().position(|(known, _)| *known == kind)?;
        Some(self.0.kernels[which as usize * KINDS.len() + place])
    }

    pub(in crate::ops) fn unite_chunks(&self) -> Kernel {
        self.0.kernels[NAMES.len() - 1]
    }

    /// Whether a kernel may read the tensor's numbers sixteen bytes at a time, all of them one
    /// after the other.
    pub(in crate::ops) fn reaches(&self, tensor: &Tensor) -> bool {
        self.reaches_rows(tensor) && tensor.is_contiguous()
    }

    /// The same for rows that lie apart.
    pub(in crate::ops) fn reaches_rows(&self, tensor: &Tensor) -> bool {
        tensor.device() == self.0.gpu.device && tensor.data_ptr().addr().is_multiple_of(16)
    }

    /// Whether it is f32 `[channels]`, where a kernel reaches it.
    pub(in crate::ops) fn is_per_channel(&self, tensor: &Tensor, channels: i64) -> bool {
        self.reaches(tensor) && tensor.kind() == Kind::Float && tensor.size() == [channels]
    }

    /// The stream that libtorch's next work goes to.
    pub(in crate::ops) fn stream(&self) -> Result<Stream, CudaError> {
        (self.0.stream)(match self.0.gpu.device {
            Device::Cuda(number) => number,
            _ => 0,
        })
    }

    /// Queues a kernel on a stream.
    ///
    /// # Safety
    /// As [`Gpu::launch`] says.
    pub(in crate::ops) unsafe fn launch<const N: usize>(
        &self,
        kernel: Kernel,
        size: Size,
        stream: Stream,
        arguments: [*mut c_void; N],
    ) -> Result<(), CudaError> {
        // SAFETY: promised by the caller.
        unsafe { self.0.gpu.launch(kernel, size, stream, arguments) }
    }
}

/// Bytes of a number that the kernels know.
pub(in crate::ops) fn number_bytes(kind: Kind) -> Option<i64> {
    KINDS.iter().find(|(known, _)| *known == kind).map(|&(_, bytes)| bytes)
}

/// Parts of so many that make up a whole; the last one may be smaller.
pub(in crate::ops) fn parts(whole: i64, part: i64) -> i64 {
    (whole + part - 1) / part
}

/// What a kernel made; `None` where libtorch has to, and people are told once if that is a fault.
pub(in crate::ops) fn made<T>(outcome: Result<T, Refusal>) -> Option<T> {
    outcome
        .inspect_err(|refusal| match refusal {
            Refusal::Unfit { .. } => tracing::trace!("{refusal}; libtorch takes it"),
            Refusal::Cuda(error) => {
                static ONCE: Once = Once::new();
                ONCE.call_once(|| {
                    tracing::warn!(
                        "an operation runs without its kernel, which is slower: {error}"
                    );
                });
            }
        })
        .ok()
}

/// Where a launch finds an argument.
pub(in crate::ops) fn address<T>(argument: &mut T) -> *mut c_void {
    std::ptr::from_mut(argument).cast()
}

/// A number as kernels take it.
pub(in crate::ops) fn int(number: i64) -> Option<c_int> {
    c_int::try_from(number).ok()
}

#[cfg(test)]
impl Kernels {
    /// The kernels of `stand_in.cpp`, which run on the CPU; a block's threads take turns in an
    /// `order`.
    pub(in crate::ops) fn stand_in(library: &Path, order: &CStr) -> Result<Self, CudaError> {
        let gpu = Gpu::of_driver(library.as_os_str(), 0, Device::Cpu)?;
        // SAFETY: what this driver takes as an image; its kernels are compiled from the same
        // source.
        unsafe { Self::load(gpu, order.to_bytes_with_nul(), |_| Ok(Stream(std::ptr::null_mut()))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_stands_where_it_is_looked_for() {
        let named = [
            (Typed::Partial, "partial"),
            (Typed::Apply, "apply"),
            (Typed::Add, "add"),
            (Typed::Interleave, "interleave"),
            (Typed::ResidualNorm, "residual_norm"),
            (Typed::UnitHeads, "unit_heads"),
        ];
        assert_eq!(NAMES.len(), named.len() * KINDS.len() + 1);
        for (which, name) in named {
            for (place, kind) in ["f32", "f16", "bf16"].iter().enumerate() {
                let found = NAMES[which as usize * KINDS.len() + place];
                assert_eq!(found.to_str(), Ok(format!("{name}_{kind}").as_str()));
            }
        }
    }
}
