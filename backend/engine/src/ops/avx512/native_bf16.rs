//! The two instructions for bf16. They are written as such, so that all other code here needs no
//! more than AVX-512 itself, and serves f32 on processors that have these two not.

#![expect(unsafe_code, reason = "instructions that the compiler is not told the processor has")]

use std::arch::{asm, x86_64::*};

/// `sum` and the products of the pairs of bf16 in each 32 bits of `x` and `y`, in f32.
///
/// Only on processors that have it: whoever holds numbers of bf16 asked
/// [`super::Avx512::detect_for`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn add_products_of_pairs(mut sum: __m512, x: __m512i, y: __m512i) -> __m512 {
    // SAFETY: it reads and writes these registers and nothing else.
    unsafe {
        asm!(
            "vdpbf16ps {sum}, {x}, {y}",
            sum = inout(zmm_reg) sum,
            x = in(zmm_reg) x,
            y = in(zmm_reg) y,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// The nearest numbers of bf16; processors as above.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn round_to_bf16(x: __m512) -> __m256i {
    let rounded: __m256i;
    // SAFETY: as above.
    unsafe {
        asm!(
            "vcvtneps2bf16 {rounded}, {x}",
            rounded = lateout(ymm_reg) rounded,
            x = in(zmm_reg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    rounded
}
