//! Tensors in main memory as slices, libtorch's own threads, and the doors to code compiled for
//! processors with AVX-512 ([`crate::cpu`]).

use std::{
    ffi::{c_uint, c_void},
    slice,
    sync::OnceLock,
    thread,
};

use libloading::os::unix::Library;
use tch::{Device, Tensor};

use crate::cpu::{self, Avx512, Number};

/// The numbers of a tensor that lies in main memory without gaps.
///
/// # Panics
/// If the tensor is elsewhere, has gaps or holds other numbers.
pub(crate) fn numbers<T: Number>(tensor: &Tensor) -> &[T] {
    check::<T>(tensor);
    // SAFETY: so many numbers of this type lie there without gaps, and stay while the tensor is
    // borrowed. Nothing in this crate writes to a tensor while its numbers are lent.
    unsafe { slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) }
}

/// The same to write to. The caller made the tensor, and no other tensor shares its memory.
///
/// # Panics
/// If the tensor is elsewhere, has gaps or holds other numbers.
pub(crate) fn numbers_mut<T: Number>(tensor: &mut Tensor) -> &mut [T] {
    check::<T>(tensor);
    // SAFETY: as above; and the tensor is borrowed alone.
    unsafe { slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}

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
/// They are OpenMP's, as libtorch's own: those look out for work for some milliseconds after they
/// had some, and other threads would have to share the cores with them.
pub(crate) fn in_parallel(threads: usize, work: &(dyn Fn() + Sync)) {
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

/// [`cpu::convolve_band`].
pub(crate) fn convolve_band<T: Number>(
    _: Avx512,
    band: cpu::Band<'_, T>,
    scratch: &mut cpu::Scratch,
) {
    // SAFETY: the processor has what it is compiled for.
    unsafe { cpu::convolve_band(band, scratch) }
}

/// [`cpu::row_moments`].
pub(crate) fn row_moments<T: Number>(_: Avx512, row: &[T], means: &mut [f32], squares: &mut [f32]) {
    // SAFETY: the processor has what it is compiled for.
    unsafe { cpu::row_moments(row, means, squares) }
}

/// [`cpu::scale_row`].
pub(crate) fn scale_row<T: Number>(
    _: Avx512,
    row: &[T],
    scale: &cpu::Scale,
    silu: bool,
    out: &mut [T],
) {
    // SAFETY: the processor has what it is compiled for.
    unsafe { cpu::scale_row(row, scale, silu, out) }
}

/// [`cpu::multiply_piece`].
pub(crate) fn multiply_piece<T: Number>(_: Avx512, piece: cpu::Piece<'_, T>) {
    // SAFETY: the processor has what it is compiled for.
    unsafe { cpu::multiply_piece(piece) }
}
