//! The engine's own C++ code (the `.cpp` files beside the Rust ones): a shared object that the
//! program carries, and opens from memory once libtorch's CUDA half is loaded.

#![expect(unsafe_code, reason = "its functions are foreign")]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    fs::File,
    io::Write,
    os::fd::{AsRawFd, FromRawFd},
    ptr,
    sync::OnceLock,
};

use libloading::os::unix::{Library, RTLD_LOCAL};

use super::{CudaError, function, open};
use crate::failure::Failure;

/// The shared object as the build made it; empty if it could not.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cuda.so"));

/// Why it is empty.
const LACK: &str = env!("VAR_DD_CUDA_LACK");

/// Null, or why a function failed; the text lasts until the thread's next call.
pub(crate) type Reason = *const c_char;

/// The functions of the shared object that belong to no operation, as its files define them.
pub(super) struct Functions {
    pub(super) pool_new: unsafe extern "C" fn(c_int, *mut *mut c_void) -> Reason,
    pub(super) pool_free: unsafe extern "C" fn(*mut c_void),
    pub(super) graph_begin: unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> Reason,
    pub(super) graph_end: unsafe extern "C" fn(*mut c_void) -> Reason,
    pub(super) graph_abandon: unsafe extern "C" fn(*mut c_void),
    pub(super) graph_replay: unsafe extern "C" fn(*mut c_void) -> Reason,
    pub(super) graph_free: unsafe extern "C" fn(*mut c_void),
    current_stream: unsafe extern "C" fn(c_int, *mut *mut c_void) -> Reason,
    peak_memory: unsafe extern "C" fn(c_int) -> i64,
}

impl Functions {
    /// The functions, or why there are none on this machine or in this build.
    pub(super) fn get() -> Result<&'static Self, CudaError> {
        static OUTCOME: OnceLock<Result<Functions, CudaError>> = OnceLock::new();
        OUTCOME.get_or_init(Self::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, CudaError> {
        let object = object()?;
        // SAFETY: the types are those of the definitions in the C++ files.
        let functions = unsafe {
            Self {
                pool_new: function(object, c"var_dd_pool_new")?,
                pool_free: function(object, c"var_dd_pool_free")?,
                graph_begin: function(object, c"var_dd_graph_begin")?,
                graph_end: function(object, c"var_dd_graph_end")?,
                graph_abandon: function(object, c"var_dd_graph_abandon")?,
                graph_replay: function(object, c"var_dd_graph_replay")?,
                graph_free: function(object, c"var_dd_graph_free")?,
                current_stream: function(object, c"var_dd_current_stream")?,
                peak_memory: function(object, c"var_dd_peak_memory")?,
            }
        };
        Ok(functions)
    }
}

/// The shared object. libtorch's CUDA half must be loaded when this is first called.
pub(crate) fn object() -> Result<&'static Library, CudaError> {
    static OUTCOME: OnceLock<Result<&Library, CudaError>> = OnceLock::new();
    OUTCOME.get_or_init(open_object).clone()
}

fn open_object() -> Result<&'static Library, CudaError> {
    if OBJECT.is_empty() {
        return Err(CudaError::NotBuilt(LACK));
    }
    let file = in_memory(OBJECT)
        .map_err(|error| CudaError::Open(format!("no file in memory: {error}")))?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // What it lacks of libtorch's CUDA half makes this fail at once.
    open(path, RTLD_LOCAL)
}

/// A file without a place in any directory.
#[cfg(target_os = "linux")]
fn in_memory(bytes: &[u8]) -> std::io::Result<File> {
    // SAFETY: takes a name and flags; a descriptor that it gives belongs to nobody else.
    let mut file = unsafe {
        let descriptor = libc::memfd_create(c"var-dd-cuda".as_ptr(), libc::MFD_CLOEXEC);
        if descriptor < 0 {
            return Err(std::io::Error::last_os_error());
        }
        File::from_raw_fd(descriptor)
    };
    file.write_all(bytes)?;
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn in_memory(_: &[u8]) -> std::io::Result<File> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// What a function of the object gave.
///
/// # Safety
/// `reason` is what it returned, and this thread has called none since.
///
/// # Errors
/// What libtorch refused.
pub(crate) unsafe fn outcome(reason: Reason) -> Result<(), Failure> {
    if reason.is_null() {
        return Ok(());
    }
    // SAFETY: a text that ends with a zero and lasts until this thread's next call.
    let text = unsafe { CStr::from_ptr(reason) }.to_string_lossy();
    Err(Failure::from_message(&text))
}

/// The stream on which this thread has libtorch work on the GPU of this number; the captured one
/// during a capture.
pub(crate) fn current_stream(device: usize) -> Result<*mut c_void, CudaError> {
    let mut stream = ptr::null_mut();
    // SAFETY: the function notes the stream in its place.
    unsafe { outcome((Functions::get()?.current_stream)(device as c_int, &mut stream)) }?;
    Ok(stream)
}

/// The most bytes that tensors had on the GPU of this number since the last call.
pub(crate) fn peak_memory(device: usize) -> Option<i64> {
    let functions = Functions::get().ok()?;
    // SAFETY: takes a number, and refuses one that no GPU has.
    Some(unsafe { (functions.peak_memory)(device as c_int) }).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_made_the_cuda_code_or_says_why_not() {
        assert_eq!(OBJECT.is_empty(), !LACK.is_empty(), "{} bytes, {LACK:?}", OBJECT.len());
    }

    #[test]
    fn without_libtorchs_cuda_half_there_are_no_graphs_and_a_reason() {
        // Also shows that the file in memory is opened: only then is a symbol missed.
        match Functions::load().map(|_| ()) {
            Ok(()) => {}
            Err(CudaError::NotBuilt(lack)) => assert!(OBJECT.is_empty() && !lack.is_empty()),
            Err(CudaError::Open(reason)) => {
                assert!(reason.contains("undefined symbol"), "{reason}");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}
