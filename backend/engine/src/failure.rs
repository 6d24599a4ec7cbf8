//! How libtorch and CUDA fail, as a type: the one place that reads what they say.
//!
//! The bindings of libtorch tell a failure by a message alone, in an error or, from most methods of
//! a tensor, in a panic. Whoever decides by a failure (draws a smaller batch, gives memory back)
//! asks [`Failure`].

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tch::TchError;

/// A failure of libtorch or of CUDA.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The device, or the machine, has no memory left for what was asked; less may fit.
    #[error("{0}")]
    OutOfMemory(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What libtorch, its allocators and the libraries under it say, among other things, when memory
/// ends: on a GPU, on a CPU, and from cuBLAS and cuDNN.
const OUT_OF_MEMORY: [&str; 4] = [
    "out of memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
];

impl Failure {
    /// The failure that a message of libtorch's or CUDA's tells of. Its first line is kept; a stack
    /// of C++ follows.
    pub fn from_message(message: &str) -> Self {
        // A panic of the bindings shows their error as Rust writes it: line breaks are escaped.
        let text = message.split_once("Torch(\"").map_or(message, |(_, text)| text);
        let first = text.split("\\n").next().and_then(|text| text.lines().next()).unwrap_or(text);
        let first = first.trim_end_matches("\")").to_owned();
        if OUT_OF_MEMORY.iter().any(|words| message.contains(words)) {
            Self::OutOfMemory(first)
        } else {
            Self::Other(first)
        }
    }

    /// The failure that a caught panic tells of.
    pub fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Self::from_message(text.unwrap_or("no reason given"))
    }

    /// Whether memory ended.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::OutOfMemory(_))
    }
}

impl From<TchError> for Failure {
    fn from(error: TchError) -> Self {
        Self::from_message(&error.to_string())
    }
}

/// Does `work` on tensors and catches the panic by which they report what a device refuses.
/// Whatever `work` leaves half-done must not be used after a failure.
///
/// # Errors
/// What the device refused, or what else `work` panicked with.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Failure::from_panic(panic.as_ref()))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn memory_that_ends_is_told_from_other_failures() {
        let messages = [
            "CUDA out of memory. Tried to allocate 20.00 MiB.",
            "CUDA error: out of memory",
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate \
             memory: you tried to allocate 9 bytes.",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        ];
        for message in messages {
            assert_eq!(Failure::from_message(message), Failure::OutOfMemory(message.into()));
        }
        let other = "The size of tensor a (2) must match the size of tensor b (3)";
        assert_eq!(Failure::from_message(other), Failure::Other(other.into()));
    }

    #[test]
    fn a_tensor_that_memory_has_no_room_for_is_out_of_memory() {
        // More than any address space.
        let huge = || Tensor::zeros([1 << 30, 1 << 27], (Kind::Float, Device::Cpu));
        let failure = catch(huge).unwrap_err();
        assert!(failure.is_out_of_memory(), "{failure:?}");
        let error = Tensor::f_zeros([1 << 30, 1 << 27], (Kind::Float, Device::Cpu)).unwrap_err();
        assert!(Failure::from(error).is_out_of_memory());
    }

    #[test]
    fn a_panic_of_the_tensor_library_is_told_in_its_own_words_and_one_line() {
        let unfit = || Tensor::zeros([2], (Kind::Float, Device::Cpu)).view([3]);
        let failure = catch(unfit).unwrap_err();
        let text = failure.to_string();
        assert!(text.starts_with("shape '[3]' is invalid") && !text.contains('\n'), "{text}");
        assert!(!text.contains("\\n") && !text.contains("Result::unwrap"), "{text}");
        assert_eq!(catch::<()>(|| panic!("by hand")), Err(Failure::Other("by hand".into())));
    }
}
