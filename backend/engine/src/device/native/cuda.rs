//! The engine's own CUDA code, in C++ (`engine/cuda`): a shared object that the program carries,
//! and opens from memory once libtorch's CUDA half is loaded.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    fs::File,
    io::Write,
    os::fd::{AsRawFd, FromRawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::{self, NonNull},
    sync::{Mutex, OnceLock, PoisonError},
};

use libloading::os::unix::{Library, RTLD_LOCAL};
use tch::Tensor;

use super::{super::panic_text, open, whole};

/// The shared object as the build made it; empty if it could not.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cuda.so"));

/// Why it is empty.
const LACK: &str = env!("VAR_DD_CUDA_LACK");

/// Null, or why a function failed; the text lasts until the thread's next call.
type Reason = *const c_char;

/// The functions of the shared object, as its files define them.
struct Functions {
    pool_new: unsafe extern "C" fn(c_int, *mut *mut c_void) -> Reason,
    pool_free: unsafe extern "C" fn(*mut c_void),
    graph_begin: unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> Reason,
    graph_end: unsafe extern "C" fn(*mut c_void) -> Reason,
    graph_abandon: unsafe extern "C" fn(*mut c_void),
    graph_replay: unsafe extern "C" fn(*mut c_void) -> Reason,
    graph_free: unsafe extern "C" fn(*mut c_void),
    current_stream: unsafe extern "C" fn(c_int, *mut *mut c_void) -> Reason,
    peak_memory: unsafe extern "C" fn(c_int) -> i64,
    linear_gelu: unsafe extern "C" fn(
        *const c_void,
        *const c_void,
        *const c_void,
        *mut *mut c_void,
    ) -> Reason,
}

impl Functions {
    /// The functions, or why there are none on this machine or in this build.
    fn get() -> Result<&'static Self, String> {
        static OUTCOME: OnceLock<Result<Functions, String>> = OnceLock::new();
        OUTCOME.get_or_init(Self::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, String> {
        let library = open_object()?;
        // SAFETY: the types are those of the definitions in `engine/cuda`, and the library stays
        // open.
        let functions = unsafe {
            Self {
                pool_new: function(library, c"var_dd_pool_new")?,
                pool_free: function(library, c"var_dd_pool_free")?,
                graph_begin: function(library, c"var_dd_graph_begin")?,
                graph_end: function(library, c"var_dd_graph_end")?,
                graph_abandon: function(library, c"var_dd_graph_abandon")?,
                graph_replay: function(library, c"var_dd_graph_replay")?,
                graph_free: function(library, c"var_dd_graph_free")?,
                current_stream: function(library, c"var_dd_current_stream")?,
                peak_memory: function(library, c"var_dd_peak_memory")?,
                linear_gelu: function(library, c"var_dd_linear_gelu")?,
            }
        };
        Ok(functions)
    }
}

/// A function of a library.
///
/// # Safety
/// `T` is the type of the function, which is not called after the library is closed.
pub(super) unsafe fn function<T: Copy>(library: &Library, name: &CStr) -> Result<T, String> {
    // SAFETY: promised by the caller.
    unsafe { library.get::<T>(name) }.map(|symbol| *symbol).map_err(|error| whole(&error))
}

/// Opens the shared object, which needs libtorch's CUDA half to be loaded.
fn open_object() -> Result<&'static Library, String> {
    if OBJECT.is_empty() {
        return Err(LACK.into());
    }
    let file = in_memory(OBJECT)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // What it lacks of libtorch's CUDA half makes this fail at once.
    open(path, RTLD_LOCAL)
}

/// A file without a place in any directory.
#[cfg(target_os = "linux")]
fn in_memory(bytes: &[u8]) -> Result<File, String> {
    let why = |error: std::io::Error| format!("no file in memory: {error}");
    // SAFETY: takes a name and flags; a descriptor that it gives belongs to nobody else.
    let mut file = unsafe {
        let descriptor = libc::memfd_create(c"var-dd-cuda".as_ptr(), libc::MFD_CLOEXEC);
        if descriptor < 0 {
            return Err(why(std::io::Error::last_os_error()));
        }
        File::from_raw_fd(descriptor)
    };
    file.write_all(bytes).map_err(why)?;
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn in_memory(_: &[u8]) -> Result<File, String> {
    Err("it is for Linux alone".into())
}

fn told(reason: Reason) -> Result<(), String> {
    if reason.is_null() {
        return Ok(());
    }
    // SAFETY: a text that ends with a zero and lasts until this thread's next call.
    let text = unsafe { CStr::from_ptr(reason) }.to_string_lossy();
    Err(text.lines().next().unwrap_or_default().to_owned())
}

/// The stream on which this thread has libtorch work on the GPU of this number; the captured one
/// during a capture.
pub(super) fn current_stream(device: usize) -> Result<*mut c_void, String> {
    let mut stream = ptr::null_mut();
    // SAFETY: the function notes the stream in its place.
    told(unsafe { (Functions::get()?.current_stream)(device as c_int, &mut stream) })?;
    Ok(stream)
}

/// The most bytes that tensors had on the GPU of this number since the last call.
pub(in crate::device) fn peak_memory(device: usize) -> Option<i64> {
    let functions = Functions::get().ok()?;
    // SAFETY: takes a number, and refuses one that no GPU has.
    Some(unsafe { (functions.peak_memory)(device as c_int) }).filter(|&bytes| bytes > 0)
}

/// GELU by its tanh formula of a linear layer, whose weight `[to, from]` and bias `[to]` are on the
/// GPU that `x` `[n, from]` is on, all of one number type; as one matrix product. Says why not.
pub(in crate::device) fn linear_gelu(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor, String> {
    let functions = Functions::get()?;
    let mut out = ptr::null_mut();
    // SAFETY: the pointers are to tensors, which libtorch checks and refuses what does not fit; the
    // function notes the tensor that it made, which belongs to nobody else.
    unsafe {
        told((functions.linear_gelu)(
            x.as_ptr().cast(),
            weight.as_ptr().cast(),
            bias.as_ptr().cast(),
            &mut out,
        ))?;
        Ok(Tensor::from_ptr(out.cast()))
    }
}

/// Memory that the graphs of one owner share, who runs them one after the other.
#[derive(Debug)]
pub(in crate::device) struct GraphPool(NonNull<c_void>);

/// Work on the device that was captured, to be done again with one call.
#[derive(Debug)]
pub(in crate::device) struct CapturedGraph(NonNull<c_void>);

// SAFETY: libtorch lets any thread have them, one at a time.
unsafe impl Send for GraphPool {}
// SAFETY: as above.
unsafe impl Send for CapturedGraph {}

impl GraphPool {
    /// A pool on the GPU of this number; says why there is none.
    pub(in crate::device) fn new(device: usize) -> Result<Self, String> {
        let mut pool = ptr::null_mut();
        // SAFETY: the function notes what it made in `pool`.
        told(unsafe { (Functions::get()?.pool_new)(device as c_int, &mut pool) })?;
        NonNull::new(pool).map(Self).ok_or_else(|| "no pool".into())
    }

    /// Captures what `work` does on the device instead of doing it; says why not. What `work` makes
    /// is filled by each replay.
    pub(in crate::device) fn capture<T>(
        &self,
        work: impl FnOnce() -> T,
    ) -> Result<(CapturedGraph, T), String> {
        // They happen on one stream.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let functions = Functions::get()?;
        let mut graph = ptr::null_mut();
        // SAFETY: the pool is whole, and the function notes what it made in `graph`.
        told(unsafe { (functions.graph_begin)(self.0.as_ptr(), &mut graph) })?;
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(made) => {
                // SAFETY: a capture that this thread began; if it fails the graph is gone and not
                // used again.
                told(unsafe { (functions.graph_end)(graph) })?;
                let graph = NonNull::new(graph).ok_or("no graph")?;
                Ok((CapturedGraph(graph), made))
            }
            // The tensor library reports by a panic what a device refuses, here what cannot be
            // captured.
            Err(panic) => {
                // SAFETY: a capture that this thread began; the graph is not used again.
                unsafe { (functions.graph_abandon)(graph) };
                let text = panic_text(panic.as_ref());
                Err(text.split("\\n").next().unwrap_or_default().to_owned())
            }
        }
    }
}

impl CapturedGraph {
    /// Queues the captured work on the device.
    pub(in crate::device) fn replay(&self) -> Result<(), String> {
        // SAFETY: a graph that was captured to its end.
        told(unsafe { (Functions::get()?.graph_replay)(self.0.as_ptr()) })
    }
}

impl Drop for GraphPool {
    fn drop(&mut self) {
        if let Ok(functions) = Functions::get() {
            // SAFETY: made by `pool_new` and not used again; its graphs hold on to what they need
            // of it.
            unsafe { (functions.pool_free)(self.0.as_ptr()) };
        }
    }
}

impl Drop for CapturedGraph {
    fn drop(&mut self) {
        if let Ok(functions) = Functions::get() {
            // SAFETY: a graph that was captured to its end, and is not used again.
            unsafe { (functions.graph_free)(self.0.as_ptr()) };
        }
    }
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
        let Err(reason) = Functions::load() else { return };
        let expected = if OBJECT.is_empty() { LACK } else { "undefined symbol" };
        assert!(reason.contains(expected), "{reason}");
    }
}
