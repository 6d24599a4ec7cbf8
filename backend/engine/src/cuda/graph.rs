//! CUDA's graphs: work on a GPU that is captured once and replayed with one call (`graph.cpp`).

#![expect(unsafe_code, reason = "the functions are foreign")]

use std::{
    ffi::{c_int, c_void},
    ptr::{self, NonNull},
    sync::{Mutex, PoisonError},
};

use super::{
    CudaError,
    library::{Functions, outcome},
};
use crate::failure;

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

/// What a function of the library noted in place of a pointer to something new.
fn made(pointer: *mut c_void) -> Result<NonNull<c_void>, CudaError> {
    NonNull::new(pointer).ok_or_else(|| CudaError::Open("a function made nothing".into()))
}

impl GraphPool {
    /// A pool on the GPU of this number.
    pub(crate) fn new(device: usize) -> Result<Self, CudaError> {
        let mut pool = ptr::null_mut();
        // SAFETY: the function notes what it made in `pool`.
        unsafe { outcome((Functions::get()?.pool_new)(device as c_int, &mut pool)) }?;
        made(pool).map(Self)
    }

    /// Captures what `work` does on the device instead of doing it. What `work` makes is filled by
    /// each replay.
    pub(crate) fn capture<T>(
        &self,
        work: impl FnOnce() -> T,
    ) -> Result<(CapturedGraph, T), CudaError> {
        // They happen on one stream.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let functions = Functions::get()?;
        let mut graph = ptr::null_mut();
        // SAFETY: the pool is whole, and the function notes what it made in `graph`.
        unsafe { outcome((functions.graph_begin)(self.0.as_ptr(), &mut graph)) }?;
        // What cannot be captured is refused by a panic.
        match failure::catch(work) {
            Ok(filled) => {
                // SAFETY: a capture that this thread began; if it fails the graph is gone and not
                // used again.
                unsafe { outcome((functions.graph_end)(graph)) }?;
                Ok((CapturedGraph(made(graph)?), filled))
            }
            Err(failure) => {
                // SAFETY: a capture that this thread began; the graph is not used again.
                unsafe { (functions.graph_abandon)(graph) };
                Err(failure.into())
            }
        }
    }
}

impl CapturedGraph {
    /// Queues the captured work on the device.
    pub(crate) fn replay(&self) -> Result<(), CudaError> {
        // SAFETY: a graph that was captured to its end.
        unsafe { outcome((Functions::get()?.graph_replay)(self.0.as_ptr())) }?;
        Ok(())
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
