//! Why something of NVIDIA's, or the engine's own code for it, cannot be used.

use std::{ffi::c_int, path::PathBuf};

use crate::failure::Failure;

/// A failure between the engine and CUDA.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// There is no driver to load.
    #[error("no NVIDIA driver: {0}")]
    NoDriver(String),
    /// libtorch was installed without its CUDA half.
    #[error("{} is missing; run `cargo xtask setup` again on this machine", .0.display())]
    NoLibtorchCuda(PathBuf),
    /// libtorch itself was not found in this process.
    #[error("libtorch_cpu.so is not loaded: {0}")]
    NoLibtorch(String),
    /// The program was built without the engine's C++ code for CUDA; says why.
    #[error("{0}")]
    NotBuilt(&'static str),
    /// A library, or a function of one, cannot be opened.
    #[error("{0}")]
    Open(String),
    /// A function of the driver or of the run-time compiler gave the number of an error.
    #[error("{function} gave error {code}")]
    Call {
        /// The function.
        function: &'static str,
        /// The number.
        code: c_int,
    },
    /// The run-time compiler refused the kernels.
    #[error("the kernels do not compile: {0}")]
    Compile(String),
    /// The run-time compiler makes no code for GPUs of this compute capability, 90 for 9.0.
    #[error("no code for compute capability {0}")]
    Capability(i32),
    /// No compiler could be used; the reason of each place where one was looked for.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoCompiler(Vec<CudaError>),
    /// libtorch refused.
    #[error(transparent)]
    Libtorch(#[from] Failure),
}

impl CudaError {
    /// The driver's number for memory that has ended (`CUDA_ERROR_OUT_OF_MEMORY`).
    const OUT_OF_MEMORY: c_int = 2;

    /// What a function's number means: 0 that all is well.
    ///
    /// # Errors
    /// For any other number.
    pub(crate) fn check(code: c_int, function: &'static str) -> Result<(), Self> {
        match code {
            0 => Ok(()),
            Self::OUT_OF_MEMORY if function.starts_with("cu") => {
                Err(Failure::OutOfMemory(format!("{function}: the GPU is out of memory")).into())
            }
            code => Err(Self::Call { function, code }),
        }
    }
}
