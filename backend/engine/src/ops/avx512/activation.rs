//! Functions of single numbers, a vector at a time.

use std::arch::x86_64::*;

/// `x / (1 + e^−x)`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(in crate::ops) fn silu(x: __m512) -> __m512 {
    times_sigmoid(x, x)
}

/// GELU as `½x(1 + tanh u)`, `u = √(2/π)(x + 0.044715x³)`, which is `x / (1 + e^−2u)`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(in crate::ops) fn gelu(x: __m512) -> __m512 {
    /// `2√(2/π)`.
    const SCALE: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
    let square = _mm512_mul_ps(x, x);
    let inner = _mm512_fmadd_ps(square, _mm512_set1_ps(0.044_715 * SCALE), _mm512_set1_ps(SCALE));
    times_sigmoid(x, _mm512_mul_ps(x, inner))
}

/// `x / (1 + e^−y)`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn times_sigmoid(x: __m512, y: __m512) -> __m512 {
    let exp = exp(_mm512_sub_ps(_mm512_setzero_ps(), y));
    _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0), exp))
}

/// `eˣ` to about the last bit of f32: 2ⁿ times the exponential of what is left, `|r| ≤ ln 2 / 2`,
/// whose series is cut after the seventh power.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn exp(x: __m512) -> __m512 {
    /// ln 2 in two parts, the first with so few digits that `n` times it is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    /// From the seventh power down.
    const SERIES: [f32; 8] =
        [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    // Beyond these e^x is 0 or infinite in f32. NaN stays: of two numbers the second counts if one
    // is NaN.
    let x = _mm512_min_ps(_mm512_set1_ps(104.0), _mm512_max_ps(_mm512_set1_ps(-104.0), x));
    let n = _mm512_roundscale_ps::<0>(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)));
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN_2[0]), x);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN_2[1]), r);
    let mut sum = _mm512_set1_ps(SERIES[0]);
    for next in &SERIES[1..] {
        sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(*next));
    }
    _mm512_scalef_ps(sum, n)
}
