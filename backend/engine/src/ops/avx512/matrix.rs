//! Products of matrices in registers.

use std::arch::x86_64::*;

use half::bf16;
use tch::Kind;

use super::{
    LANES, Number,
    native_bf16::{add_products_of_pairs, round_to_bf16},
};

/// Vectors of columns that run together.
pub(in crate::ops) const WIDE: usize = 4;

/// Rows that run together; with [`WIDE`] vectors of columns their sums fill 24 of the 32 registers.
const TALL: usize = 6;

/// `LANES` numbers from the first of `x` on, in f32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(in crate::ops) fn load<T: Number>(x: &[T]) -> __m512 {
    let bytes: &[u8] = bytemuck::cast_slice(&x[..LANES]);
    if T::IN_WORD == 2 {
        let halves: __m256i = bytemuck::pod_read_unaligned(bytes);
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    } else {
        bytemuck::pod_read_unaligned(bytes)
    }
}

/// Writes `LANES` numbers to the first of `out`, rounded to the nearest.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(in crate::ops) fn store<T: Number>(x: __m512, out: &mut [T]) {
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut out[..LANES]);
    if T::IN_WORD == 2 {
        bytes.copy_from_slice(bytemuck::bytes_of(&round_to_bf16(x)));
    } else {
        bytes.copy_from_slice(bytemuck::bytes_of(&x));
    }
}

/// A matrix `[rows, columns]` as [`multiply`] reads it in numbers of `kind`: for every 32 bits of
/// rows (two rows of bf16, one of f32), those of each column side by side. `columns` is that of one
/// block, a multiple of [`LANES`].
pub(in crate::ops) fn pack(kind: Kind, matrix: &[f32], columns: usize) -> Vec<__m512i> {
    match kind {
        Kind::BFloat16 => pack_as::<bf16>(matrix, columns),
        _ => pack_as::<f32>(matrix, columns),
    }
}

fn pack_as<T: Number>(matrix: &[f32], columns: usize) -> Vec<__m512i> {
    let mut words =
        vec![<__m512i as bytemuck::Zeroable>::zeroed(); matrix.len() / T::IN_WORD / LANES];
    let numbers: &mut [T] = bytemuck::cast_slice_mut(&mut words);
    for (row, values) in matrix.chunks_exact(columns).enumerate() {
        let (word, half) = (row / T::IN_WORD, row % T::IN_WORD);
        for (column, &value) in values.iter().enumerate() {
            numbers[(word * columns + column) * T::IN_WORD + half] = T::of(value);
        }
    }
    words
}

/// `rows · matrix`: rows of 32-bit words lie `row_stride` apart, and so many words of each are
/// multiplied as the matrix, which is [`pack`]ed and of `N` vectors of columns, has. The sums of
/// row `i` go to `sums[i·stride..][..N]`, or with `more` are added to what is there. A row's sums
/// are the same whichever rows run beside it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(in crate::ops) fn multiply<T: Number, const N: usize>(
    rows: &[i32],
    row_stride: usize,
    matrix: &[__m512i],
    sums: &mut [__m512],
    stride: usize,
    more: bool,
) {
    let (n, matrix) = (rows.len().div_ceil(row_stride), matrix.as_chunks::<N>().0);
    let mut row = 0;
    while row < n {
        let (rows, sums) = (&rows[row * row_stride..], &mut sums[row * stride..]);
        row += match n - row {
            TALL.. => tile::<T, TALL, N>(rows, row_stride, matrix, sums, stride, more),
            4.. => tile::<T, 4, N>(rows, row_stride, matrix, sums, stride, more),
            2.. => tile::<T, 2, N>(rows, row_stride, matrix, sums, stride, more),
            _ => tile::<T, 1, N>(rows, row_stride, matrix, sums, stride, more),
        };
    }
}

/// `M` rows; gives `M`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn tile<T: Number, const M: usize, const N: usize>(
    rows: &[i32],
    row_stride: usize,
    matrix: &[[__m512i; N]],
    sums: &mut [__m512],
    stride: usize,
    more: bool,
) -> usize {
    let rows: [&[i32]; M] = std::array::from_fn(|i| &rows[i * row_stride..][..matrix.len()]);
    let mut sum = [[_mm512_setzero_ps(); N]; M];
    if more {
        for i in 0..M {
            sum[i].copy_from_slice(&sums[i * stride..][..N]);
        }
    }
    for (k, columns) in matrix.iter().enumerate() {
        for i in 0..M {
            let x = _mm512_set1_epi32(rows[i][k]);
            for j in 0..N {
                sum[i][j] = if T::IN_WORD == 2 {
                    add_products_of_pairs(sum[i][j], x, columns[j])
                } else {
                    _mm512_fmadd_ps(
                        _mm512_castsi512_ps(x),
                        _mm512_castsi512_ps(columns[j]),
                        sum[i][j],
                    )
                };
            }
        }
    }
    for i in 0..M {
        sums[i * stride..][..N].copy_from_slice(&sum[i]);
    }
    M
}
