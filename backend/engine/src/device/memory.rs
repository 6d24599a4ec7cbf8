//! Memory of tensors on a CPU, which libtorch has from the C library's allocator.

#![expect(unsafe_code, reason = "the allocator is C's")]

/// Makes the allocator keep freed memory for the next tensor. Otherwise it gives every large tensor
/// back to the system, which hands out the next one page by page: a fifth of a decoder's time at
/// 256×256.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn keep_freed_memory() {
    /// So much more is taken than asked for when the heap grows.
    const STEP_BYTES: libc::c_int = 64 << 20;
    let settings = [
        (libc::M_MMAP_MAX, 0),
        (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
        (libc::M_TOP_PAD, STEP_BYTES),
    ];
    for (parameter, value) in settings {
        // SAFETY: takes two numbers and locks the allocator while it notes them. One that it
        // refuses changes nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Elsewhere the allocator is left as it is.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn keep_freed_memory() {}
