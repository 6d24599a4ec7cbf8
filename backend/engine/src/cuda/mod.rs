//! NVIDIA's libraries, opened at run time, and the engine's own C++ code that calls libtorch's CUDA
//! half. One program serves machines with and without a GPU: it links `libtorch_cpu` alone, and
//! `libtorch_cuda` registers its kernels when it is loaded.

#![expect(
    unsafe_code,
    reason = "loading a library runs its initialisers, and its functions are foreign"
)]

pub(crate) mod driver;
mod error;
pub(crate) mod graph;
pub(crate) mod library;
pub(crate) mod nvrtc;

use std::{
    ffi::{CStr, c_int},
    fs,
    path::{Path, PathBuf},
};

pub use self::error::CudaError;

use libloading::{
    AsFilename,
    os::unix::{Library, RTLD_GLOBAL, RTLD_NOW},
};

/// Loads `libtorch_cuda.so` if an NVIDIA driver is present; gives its path.
pub(crate) fn load() -> Result<PathBuf, CudaError> {
    open("libcuda.so.1", RTLD_GLOBAL).map_err(|error| CudaError::NoDriver(error.to_string()))?;
    let path = loaded_libtorch()?.with_file_name("libtorch_cuda.so");
    if !path.exists() {
        return Err(CudaError::NoLibtorchCuda(path));
    }
    // Its symbols must be global, as libtorch looks its CUDA half up by name.
    open(path.as_os_str(), RTLD_GLOBAL)?;
    Ok(path)
}

/// Opens a library for the rest of the process, its symbols global or local as `visibility`
/// (`RTLD_…`) says.
fn open(library: impl AsFilename, visibility: c_int) -> Result<&'static Library, CudaError> {
    // SAFETY: the libraries are NVIDIA's driver and compiler, the CUDA half of the libtorch that
    // this program already runs, and the engine's own; their initialisers only register and
    // prepare.
    let library = unsafe { Library::open(Some(library), RTLD_NOW | visibility) }
        .map_err(|error| CudaError::Open(whole(&error)))?;
    // Never unloaded: what it registered stays.
    Ok(Box::leak(Box::new(library)))
}

/// A function of a library that is open for the rest of the process.
///
/// # Safety
/// `T` is the type of the function.
pub(crate) unsafe fn function<T: Copy>(
    library: &'static Library,
    name: &CStr,
) -> Result<T, CudaError> {
    // SAFETY: promised by the caller.
    let symbol = unsafe { library.get::<T>(name) };
    symbol.map(|symbol| *symbol).map_err(|error| CudaError::Open(whole(&error)))
}

/// An error of the loader with its cause, which tells the library and what it lacks.
fn whole(error: &libloading::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Where the `libtorch_cpu.so` of this process lies, links resolved.
fn loaded_libtorch() -> Result<PathBuf, CudaError> {
    let maps = fs::read_to_string("/proc/self/maps")
        .map_err(|error| CudaError::NoLibtorch(format!("/proc/self/maps: {error}")))?;
    let path =
        maps.lines().filter_map(|line| line.split_once('/')).map(|(_, path)| format!("/{path}"));
    path.map(PathBuf::from)
        .find(|path| path.file_name().is_some_and(|name| name == "libtorch_cpu.so"))
        .map(|path| fs::canonicalize(Path::new(&path)).unwrap_or(path))
        .ok_or_else(|| CudaError::NoLibtorch("no such file among those of the process".into()))
}
