//! Work that is shared out among threads.

#![expect(unsafe_code, reason = "libtorch's threads are those of a foreign library")]

use std::{
    ffi::{c_uint, c_void},
    sync::{Mutex, OnceLock, PoisonError},
    thread,
};

use libloading::os::unix::Library;

/// Threads that libtorch runs on.
pub(crate) fn threads() -> usize {
    tch::get_num_threads().max(1) as usize
}

/// Does `work` with each item, on all threads, each of which takes the next one when it is done
/// with its last. What `scratch` makes is each thread's own.
pub(crate) fn in_turn<I: Send, S>(
    items: impl Iterator<Item = I> + Send,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(I, &mut S) + Sync,
) {
    let items = Mutex::new(items);
    in_parallel(threads(), &|| {
        let mut scratch = scratch();
        loop {
            let next = items.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(item) = next else { break };
            work(item, &mut scratch);
        }
    });
}

/// Runs `work` on `threads` threads at once, this one among them; back when all are done.
///
/// They are OpenMP's, as libtorch's own: those look out for work for some milliseconds after they
/// had some, and other threads would have to share the cores with them.
fn in_parallel(threads: usize, work: &(dyn Fn() + Sync)) {
    /// `GOMP_parallel` of GCC's OpenMP: a function, its argument, how many threads, flags.
    type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);
    static FOUND: OnceLock<Option<Parallel>> = OnceLock::new();

    extern "C" fn run(work: *mut c_void) {
        // SAFETY: it is the reference that is handed over below, and that call returns after all
        // threads are done.
        let work = unsafe { &**work.cast::<&(dyn Fn() + Sync)>() };
        work();
    }

    let find = || {
        // SAFETY: the symbol, where there is one, is this function: its name belongs to GCC's
        // OpenMP.
        unsafe { Library::this().get::<Parallel>(b"GOMP_parallel\0").ok().map(|symbol| *symbol) }
    };
    match FOUND.get_or_init(find) {
        _ if threads == 1 => work(),
        Some(parallel) => {
            let mut work = work;
            // SAFETY: `run` reads the reference that it is given and may run on any thread, as
            // `work` is `Sync`.
            unsafe { parallel(run, (&raw mut work).cast(), threads as c_uint, 0) };
        }
        None => thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        }),
    }
}
