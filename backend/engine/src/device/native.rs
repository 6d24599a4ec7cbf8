//! What only foreign functions and special processors do; the only module with `unsafe` code.
//!
//! - It loads libtorch's CUDA part at start-up, so that one program serves machines with and without a GPU: it links
//!   `libtorch_cpu` alone, and `libtorch_cuda` registers its kernels when it is loaded.
//! - It tells the C library's allocator, from which libtorch has its tensors on a CPU, to keep what is freed.
//! - It lends the numbers of tensors on the CPU as slices, and runs work on the threads that libtorch itself uses.
//! - It is where ordinary code calls code compiled for processors with AVX-512 ([`crate::cpu`]).

#![expect(
    unsafe_code,
    reason = "loading a library runs its initialisers, the allocator and the threads are C's, tensors are pointers to Rust, \
              and code for a special processor must not run elsewhere"
)]

use std::{
    ffi::{c_uint, c_void},
    fs,
    path::{Path, PathBuf},
    slice,
    sync::OnceLock,
    thread,
};

use libloading::{
    AsFilename,
    os::unix::{Library, RTLD_GLOBAL, RTLD_NOW},
};
use tch::{Device, Tensor};

#[cfg(target_arch = "x86_64")]
use crate::cpu::{self, Avx512, Number};

/// Makes the allocator keep freed memory for the next tensor. Otherwise it gives every large tensor back to the system,
/// which hands out the next one page by page: a fifth of a decoder's time at 256×256.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn keep_freed_memory() {
    /// So much more is taken than asked for when the heap grows.
    const STEP_BYTES: libc::c_int = 64 << 20;
    let settings =
        [(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, libc::c_int::MAX), (libc::M_TOP_PAD, STEP_BYTES)];
    for (parameter, value) in settings {
        // SAFETY: takes two numbers and locks the allocator while it notes them. One that it refuses changes nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Elsewhere the allocator is left as it is.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn keep_freed_memory() {}

/// Loads `libtorch_cuda.so` if an NVIDIA driver is present. Gives its path, or why it was not loaded.
pub(super) fn load() -> Result<PathBuf, String> {
    open("libcuda.so.1").map_err(|reason| format!("no NVIDIA driver: {reason}"))?;
    let path = loaded_libtorch()?.with_file_name("libtorch_cuda.so");
    if !path.exists() {
        return Err(format!("{} is missing; run `cargo xtask setup` again on this machine", path.display()));
    }
    open(path.as_os_str())?;
    Ok(path)
}

/// Opens a library for the rest of the process.
fn open(library: impl AsFilename) -> Result<(), String> {
    // SAFETY: the libraries are NVIDIA's driver and the CUDA half of the libtorch that this program already runs; their
    // initialisers only register. Symbols must be global, as libtorch looks its CUDA half up by name.
    let library =
        unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL) }.map_err(|error| error.to_string())?;
    // Never unloaded: its kernels stay registered.
    std::mem::forget(library);
    Ok(())
}

/// Where the `libtorch_cpu.so` of this process lies, links resolved.
fn loaded_libtorch() -> Result<PathBuf, String> {
    let maps = fs::read_to_string("/proc/self/maps").map_err(|error| format!("/proc/self/maps: {error}"))?;
    let path = maps.lines().filter_map(|line| line.split_once('/')).map(|(_, path)| format!("/{path}"));
    path.map(PathBuf::from)
        .find(|path| path.file_name().is_some_and(|name| name == "libtorch_cpu.so"))
        .map(|path| fs::canonicalize(Path::new(&path)).unwrap_or(path))
        .ok_or_else(|| "libtorch_cpu.so is not loaded".into())
}

/// The numbers of a tensor that lies in main memory without gaps.
///
/// # Panics
/// If the tensor is elsewhere, has gaps or holds other numbers.
#[cfg(target_arch = "x86_64")]
pub(crate) fn numbers<T: Number>(tensor: &Tensor) -> &[T] {
    check::<T>(tensor);
    // SAFETY: so many numbers of this type lie there without gaps, and stay while the tensor is borrowed. Nothing in this
    // crate writes to a tensor while its numbers are lent.
    unsafe { slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) }
}

/// The same to write to. The caller made the tensor, and no other tensor shares its memory.
///
/// # Panics
/// If the tensor is elsewhere, has gaps or holds other numbers.
#[cfg(target_arch = "x86_64")]
pub(crate) fn numbers_mut<T: Number>(tensor: &mut Tensor) -> &mut [T] {
    check::<T>(tensor);
    // SAFETY: as above; and the tensor is borrowed alone.
    unsafe { slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}

#[cfg(target_arch = "x86_64")]
fn check<T: Number>(tensor: &Tensor) {
    assert!(
        tensor.device() == Device::Cpu
            && tensor.is_contiguous()
            && tensor.kind() == T::KIND
            && tensor.numel() > 0
    );
}

/// Runs `work` on `threads` threads at once, this one among them; back when all are done.
///
/// They are OpenMP's, as libtorch's own: those look out for work for some milliseconds after they had some, and other
/// threads would have to share the cores with them.
pub(crate) fn in_parallel(threads: usize, work: &(dyn Fn() + Sync)) {
    /// `GOMP_parallel` of GCC's OpenMP: a function, its argument, how many threads, flags.
    type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);
    static FOUND: OnceLock<Option<Parallel>> = OnceLock::new();

    extern "C" fn run(work: *mut c_void) {
        // SAFETY: it is the reference that is handed over below, and that call returns after all threads are done.
        let work = unsafe { &**work.cast::<&(dyn Fn() + Sync)>() };
        work();
    }

    let find = || {
        // SAFETY: the symbol, where there is one, is this function: its name belongs to GCC's OpenMP.
        unsafe { Library::this().get::<Parallel>(b"GOMP_parallel\0").ok().map(|symbol| *symbol) }
    };
    match FOUND.get_or_init(find) {
        _ if threads == 1 => work(),
        Some(parallel) => {
            let mut work = work;
            // SAFETY: `run` reads the reference that it is given and may run on any thread, as `work` is `Sync`.
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

/// [`cpu::convolve_band`].
#[cfg(target_arch = "x86_64")]
pub(crate) fn convolve_band<T: Number>(_: Avx512, band: cpu::Band<'_, T>, scratch: &mut cpu::Scratch) {
    // SAFETY: the processor has what it is compiled for.
    unsafe { cpu::convolve_band(band, scratch) }
}

/// [`cpu::row_moments`].
#[cfg(target_arch = "x86_64")]
pub(crate) fn row_moments<T: Number>(_: Avx512, row: &[T], means: &mut [f32], squares: &mut [f32]) {
    // SAFETY: the processor has what it is compiled for.
    unsafe { cpu::row_moments(row, means, squares) }
}

/// [`cpu::scale_row`].
#[cfg(target_arch = "x86_64")]
pub(crate) fn scale_row<T: Number>(_: Avx512, row: &[T], scale: &cpu::Scale, silu: bool, out: &mut [T]) {
    // SAFETY: the processor has what it is compiled for.
    unsafe { cpu::scale_row(row, scale, silu, out) }
}

/// [`cpu::multiply_piece`].
#[cfg(target_arch = "x86_64")]
pub(crate) fn multiply_piece<T: Number>(_: Avx512, piece: cpu::Piece<'_, T>) {
    // SAFETY: the processor has what it is compiled for.
    unsafe { cpu::multiply_piece(piece) }
}
