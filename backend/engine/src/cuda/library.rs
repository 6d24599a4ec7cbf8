//! The engine's own CUDA code, in C++ (the `.cpp` files beside the Rust ones): a shared object that the program carries,
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

use super::{open, whole};
use crate::failure::panic_text;

/// The shared object as the build made it; empty if it could not.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cuda.so"));

/// Why it is empty.
const LACK: &str = env!("VAR_DD_CUDA_LACK");

/// Null, or why a function failed; the text lasts until the thread's next call.
pub(crate) type Reason = *const c_char;

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
}

impl Functions {
    /// The functions, or why there are none on this machine or in this build.
    fn get() -> Result<&'static Self, String> {
        static OUTCOME: OnceLock<Result<Functions, String>> = OnceLock::new();
        OUTCOME.get_or_init(Self::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, String> {
        let library = object()?;
        // SAFETY: the types are those of the definitions in the C++ files, and the library stays
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
            }
        };
        Ok(functions)
    }
}

/// A function of a library.
///
/// # Safety
/// `T` is the type of the function, which is not called after the library is closed.
pub(crate) unsafe fn function<T: Copy>(library: &Library, name: &CStr) -> Result<T, String> {
    // SAFETY: promised by the caller.
    unsafe { library.get::<T>(name) }.map(|symbol| *symbol).map_err(|error| whole(&error))
}

/// The shared object, which needs libtorch's CUDA half to be loaded when this is first called.
pub(crate) fn object() -> Result<&'static Library, String> {
    static OUTCOME: OnceLock<Result<&Library, String>> = OnceLock::new();
    OUTCOME.get_or_init(open_object).clone()
}

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

/// What a function gave, as a result.
pub(crate) fn outcome(reason: Reason) -> Result<(), String> {
    if reason.is_null() {
        return Ok(());
    }
    // SAFETY: a text that ends with a zero and lasts until this thread's next call.
    let text = unsafe { CStr::from_ptr(reason) }.to_string_lossy();
    Err(text.lines().next().unwrap_or_default().to_owned())
}

/// The stream on which this thread has libtorch work on the GPU of this number; the captured one
/// during a capture.
pub(crate) fn current_stream(device: usize) -> Result<*mut c_void, String> {
    let mut stream = ptr::null_mut();
    // SAFETY: the function notes the stream in its place.
    outcome(unsafe { (Functions::get()?.current_stream)(device as c_int, &mut stream) })?;
    Ok(stream)
}

/// The most bytes that tensors had on the GPU of this number since the last call.
pub(crate) fn peak_memory(device: usize) -> Option<i64> {
    let functions = Functions::get().ok()?;
    // SAFETY: takes a number, and refuses one that no GPU has.
    Some(unsafe { (functions.peak_memory)(device as c_int) }).filter(|&bytes| bytes > 0)
}

/// Memory that the graphs of one owner share, who runs them one after the other.
#[derive(Debug)]
pub(crate) struct GraphPool(NonNull<c_void>);

/// Work on the device that was captured, to be done again with one call.
#[derive(Debug)]
pub(crate) struct CapturedGraph(NonNull<c_void>);

// SAFETY: libtorch lets any thread have them, one at a time.
unsafe impl Send for GraphPool {}
// SAFETY: as above.
unsafe impl Send for CapturedGraph {}

impl GraphPool {
    /// A pool on the GPU of this number; says why there is none.
    pub(crate) fn new(device: usize) -> Result<Self, String> {
        let mut pool = ptr::null_mut();
        // SAFETY: the function notes what it made in `pool`.
        outcome(unsafe { (Functions::get()?.pool_new)(device as c_int, &mut pool) })?;
        NonNull::new(pool).map(Self).ok_or_else(|| "no pool".into())
    }

    /// Captures what `work` does on the device instead of doing it; says why not. What `work` makes
    /// is filled by each replay.
    pub(crate) fn capture<T>(
        &self,
        work: impl FnOnce() -> T,
    ) -> Result<(CapturedGraph, T), String> {
        // They happen on one stream.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let functions = Functions::get()?;
        let mut graph = ptr::null_mut();
        // SAFETY: the pool is whole, and the function notes what it made in `graph`.
        outcome(unsafe { (functions.graph_begin)(self.0.as_ptr(), &mut graph) })?;
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(made) => {
                // SAFETY: a capture that this thread began; if it fails the graph is gone and not
                // used again.
                outcome(unsafe { (functions.graph_end)(graph) })?;
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
    pub(crate) fn replay(&self) -> Result<(), String> {
        // SAFETY: a graph that was captured to its end.
        outcome(unsafe { (Functions::get()?.graph_replay)(self.0.as_ptr()) })
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
