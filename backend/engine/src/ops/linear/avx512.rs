//! Linear layers whose weights are laid out once for the products in registers.

#![expect(unsafe_code, reason = "code for special processors must not run elsewhere")]

use std::arch::x86_64::*;

use bytemuck::Zeroable;
use half::bf16;
use tch::{Kind, Tensor};

use crate::{
    ops::avx512::{
        Avx512, LANES, Number,
        activation::gelu,
        in_f32,
        matrix::{WIDE, load, multiply, pack, store},
        numbers::{filled, numbers},
    },
    parallel::{in_turn, threads},
};

/// 32-bit words of rows that run at once: those of one block of columns stay in a core's own cache.
const WORDS_AT_ONCE: usize = 512;

/// Rows that stay there too, with their sums; few, so that a thread that is held up leaves the rest
/// to others.
const ROWS_AT_ONCE: usize = 96;

/// `x·Wᵀ + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    processor: Avx512,
    kind: Kind,
    from: usize,
    to: usize,
    /// By block of outputs: what each 32 bits of a row are multiplied with.
    matrix: Vec<__m512i>,
    bias: Vec<f32>,
}

/// Some outputs of some rows.
struct Piece<'a, T> {
    of: &'a Linear,
    /// `[rows, from]`.
    rows: &'a [T],
    /// Number of the first output, a multiple of a block's.
    first: usize,
    /// By row.
    out: Vec<&'a mut [T]>,
    gelu: bool,
}

impl Linear {
    /// Of a weight `[to, from]` and a bias `[to]`. `None` where it is not for this processor, these
    /// sizes (`to` a multiple of 32, `from` even) or this kind of number, or where the weight is
    /// learnt.
    pub(crate) fn of(weight: &Tensor, bias: &Tensor) -> Option<Self> {
        let processor = Avx512::detect_for_weight(weight)?;
        let (to, from) = match weight.size()[..] {
            [to, from] if to % 32 == 0 && from % 2 == 0 => (to as usize, from as usize),
            _ => return None,
        };
        let kind = weight.kind();
        let bias = in_f32(bias)?;
        let mut matrix =
            Vec::with_capacity(to * from * kind.elt_size_in_bytes() / size_of::<__m512i>());
        for first in (0..to).step_by(WIDE * LANES) {
            let columns = (to - first).min(WIDE * LANES);
            let block = in_f32(&weight.narrow(0, first as i64, columns as i64).tr())?;
            matrix.extend(pack(kind, &block, columns));
        }
        Some(Self { processor, kind, from, to, matrix, bias })
    }

    /// `[…, from]` to `[…, to]`, then GELU if asked to.
    pub(crate) fn forward(&self, x: &Tensor, gelu: bool) -> Tensor {
        assert!(!x.requires_grad(), "no gradient passes a layer that is not learnt");
        match self.kind {
            Kind::BFloat16 => self.run::<bf16>(x, gelu),
            _ => self.run::<f32>(x, gelu),
        }
    }

    fn run<T: Number>(&self, x: &Tensor, gelu: bool) -> Tensor {
        let x = x.to_kind(T::KIND).contiguous();
        let mut shape = x.size();
        let Some(last) = shape.last_mut() else { return x };
        *last = self.to as i64;
        // SAFETY: nobody writes to the input of a layer while the layer runs.
        let inputs = unsafe { numbers::<T>(&x) };
        filled(&shape, |out| self.multiply(inputs, out, gelu))
    }

    /// Outputs `[n, to]` of inputs `[n, from]`.
    fn multiply<T: Number>(&self, x: &[T], out: &mut [T], gelu: bool) {
        let threads = threads();
        let n = x.len() / self.from;
        let blocks = self.to.div_ceil(WIDE * LANES);
        // Few rows wait for the weights to come from memory: each thread then has some of the
        // outputs, else some of the rows.
        let (rows, outputs) = if n < 16 * threads {
            (n, blocks.div_ceil(threads) * WIDE * LANES)
        } else {
            (n.div_ceil(threads * n.div_ceil(threads * ROWS_AT_ONCE)), self.to)
        };
        let inputs = x.chunks(rows * self.from);
        let outs = out.chunks_mut(rows * self.to);
        let pieces = inputs.zip(outs).flat_map(|(rows, out)| {
            let mut by_row: Vec<_> =
                out.chunks_exact_mut(self.to).map(|row| row.chunks_mut(outputs)).collect();
            (0..self.to).step_by(outputs).map(move |first| {
                let out = by_row.iter_mut().filter_map(Iterator::next).collect();
                Piece { of: self, rows, first, out, gelu }
            })
        });
        let Avx512 { .. } = self.processor;
        // SAFETY: the processor has what it is compiled for.
        in_turn(pieces, || (), |piece, ()| unsafe { multiply_piece(piece) });
    }
}

/// Makes some outputs of some rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn multiply_piece<T: Number>(piece: Piece<'_, T>) {
    let Piece { of, rows, first, mut out, gelu: activates } = piece;
    let words = of.from / T::IN_WORD;
    let rows: &[i32] = bytemuck::cast_slice(rows);
    let mut sums: Vec<__m512> = vec![Zeroable::zeroed(); out.len() * WIDE];
    let outputs = out.first().map_or(0, |row| row.len());
    for block in (0..outputs).step_by(WIDE * LANES) {
        let vectors = ((outputs - block) / LANES).min(WIDE);
        let matrix = &of.matrix[(first + block) / LANES * words..][..words * vectors];
        for start in (0..words).step_by(WORDS_AT_ONCE) {
            let n = (words - start).min(WORDS_AT_ONCE);
            let (rows, matrix) = (&rows[start..], &matrix[start * vectors..][..n * vectors]);
            match vectors {
                WIDE => multiply::<T, WIDE>(rows, words, matrix, &mut sums, WIDE, start > 0),
                _ => multiply::<T, 2>(rows, words, matrix, &mut sums, WIDE, start > 0),
            }
        }
        for (row, sums) in out.iter_mut().zip(sums.chunks_exact(WIDE)) {
            for (vector, &sum) in sums[..vectors].iter().enumerate() {
                let at = block + vector * LANES;
                let sum = _mm512_add_ps(sum, load(&of.bias[first + at..]));
                store(if activates { gelu(sum) } else { sum }, &mut row[at..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn it_is_libtorchs_linear_layer_and_gelu() {
        if Avx512::detect().is_none() {
            return;
        }
        for (rows, from, to) in
            [(1, 32, 32), (3, 64, 96), (5, 2050, 160), (40, 30, 64), (131, 1200, 352)]
        {
            for (kind, bound) in [(Kind::Float, 1e-5), (Kind::BFloat16, 1e-2)] {
                if Avx512::detect_for(kind).is_none() {
                    continue;
                }
                let any =
                    |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind);
                let (x, weight, bias) = (any(&[2, rows, from]), any(&[to, from]), any(&[to]));
                let linear = Linear::of(&weight, &bias).expect("a processor for it");
                let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
                let plain = double(&x).linear(&double(&weight), Some(&double(&bias)));
                for (gelu, wanted) in [(false, plain.shallow_clone()), (true, plain.gelu("tanh"))] {
                    let made = linear.forward(&x, gelu);
                    assert_eq!((made.size(), made.kind()), (wanted.size(), kind));
                    let off = ((double(&made) - &wanted).abs()
                        / (wanted.abs() + (from as f64).sqrt()))
                    .max();
                    let off = off.double_value(&[]);
                    assert!(
                        off < bound,
                        "{rows} rows, {from} to {to}, {kind:?}, GELU {gelu}: {off}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_only_stands_in_for_a_weight_is_left_as_it_is() {
        let one = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        // Laid out it would take 4 TB.
        let weight = one.expand([1 << 20, 1 << 20], false);
        assert!(Linear::of(&weight, &one.expand([1 << 20], false)).is_none());
    }

    #[test]
    fn a_row_is_the_same_whatever_runs_beside_it() {
        if Avx512::detect().is_none() {
            return;
        }
        let any = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let linear = Linear::of(&any(&[64, 96]), &any(&[64])).expect("a processor for it");
        let x = any(&[77, 96]);
        let all = linear.forward(&x, false);
        for (from, n) in [(0, 1), (3, 2), (10, 41), (76, 1)] {
            assert_eq!(linear.forward(&x.narrow(0, from, n), false), all.narrow(0, from, n));
        }
    }
}
