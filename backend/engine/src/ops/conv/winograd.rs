//! 3×3 convolutions by Winograd's minimal filtering, F(2×2, 3×3): four places at once by 16
//! multiplications a channel instead of 36 (Lavin and Gray, "Fast Algorithms for Convolutional
//! Neural Networks", 2015). Where the map is doubled first (each place repeated twice down and
//! across), 9 remain, since two of the four sums along either direction fall together or away.
//!
//! For a 4×4 patch `d` of the map and the kernel `g` of a pair of channels the 2×2 outcome is
//! `Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A`; the product `⊙` summed over channels is one product of matrices
//! for each of its 16 points, patches by channels. In f32 that rounds no worse than the sum as it
//! is written; in bf16, where patches and kernels are rounded once more after their transforms,
//! some three times as coarsely as one rounding of the outcome.

#![expect(unsafe_code, reason = "code for special processors must not run elsewhere")]

use std::arch::x86_64::*;

use bytemuck::Zeroable;
use half::bf16;
use tch::{Kind, Tensor};

use crate::{
    ops::avx512::{
        Avx512, LANES, Number, in_f32,
        matrix::{WIDE, load, multiply, pack, store},
        numbers::{filled, numbers},
    },
    ops::map_size,
    parallel::{in_turn, threads},
};

/// Points of a transformed 4×4 patch.
const POINTS: usize = 16;

/// A 3×3 convolution that keeps the side, or doubles it.
#[derive(Debug)]
pub(crate) struct Winograd {
    processor: Avx512,
    kind: Kind,
    from: usize,
    to: usize,
    /// The map is doubled before the convolution.
    doubles: bool,
    /// Transformed kernels by block of output channels, then by point.
    kernels: Vec<__m512i>,
    bias: Vec<f32>,
}

/// Some rows of tiles of a convolution's outcome, and what they are made from.
struct Band<'a, T> {
    of: &'a Winograd,
    /// `[height, width, from]`.
    map: &'a [T],
    height: usize,
    width: usize,
    /// Number of the first row of tiles.
    first: usize,
    /// What is added, if anything, and where the sum goes: whole rows of places,
    /// `[rows, width, to]`.
    plus: Option<&'a [T]>,
    out: &'a mut [T],
}

/// Memory to work in, for one thread.
struct Scratch {
    /// By point, then by tile: channels.
    patches: Vec<__m512i>,
    /// By tile, then by point: one block of output channels.
    sums: Vec<__m512>,
}

impl Winograd {
    /// Of a weight `[to, from, 3, 3]` and a bias `[to]`. `None` where it is not for this processor,
    /// these channels (both a multiple of 32) or this kind of number, or where the weight is
    /// learnt.
    pub(crate) fn of(weight: &Tensor, bias: &Tensor, doubles: bool) -> Option<Self> {
        let processor = Avx512::detect_for_weight(weight)?;
        let (to, from) = match weight.size()[..] {
            [to, from, 3, 3] if to % 32 == 0 && from % 32 == 0 => (to as usize, from as usize),
            _ => return None,
        };
        let (kind, weight, bias) = (weight.kind(), in_f32(weight)?, in_f32(bias)?);
        let mut kernels = Vec::new();
        for block in weight.chunks(WIDE * LANES * from * 9) {
            let columns = block.len() / from / 9;
            let points = transformed_kernels(block, from);
            let each = points.chunks_exact(from * columns).enumerate();
            for (_, kernel) in each.filter(|&(point, _)| used(point, doubles)) {
                kernels.extend(pack(kind, kernel, columns));
            }
        }
        Some(Self { processor, kind, from, to, doubles, kernels, bias })
    }

    /// Convolves maps `[B, from, H, W]`, and adds `plus` to the outcome: `[B, to, H, W]` or,
    /// doubled, `[B, to, 2H, 2W]`, with channels last.
    pub(crate) fn forward(&self, x: &Tensor, plus: Option<&Tensor>) -> Tensor {
        assert!(!x.requires_grad(), "no gradient passes a convolution that is not learnt");
        match self.kind {
            Kind::BFloat16 => self.convolve::<bf16>(x, plus),
            _ => self.convolve::<f32>(x, plus),
        }
    }

    fn convolve<T: Number>(&self, x: &Tensor, plus: Option<&Tensor>) -> Tensor {
        let places_first = |x: &Tensor| x.to_kind(T::KIND).permute([0, 2, 3, 1]).contiguous();
        let (x, plus) = (places_first(x), plus.map(places_first)); // [B, H, W, from], [B, H, W, to]
        let [pictures, height, width, _] = map_size(&x);
        let scale = if self.doubles { 2 } else { 1 };
        let shape = [pictures, scale * height, scale * width, self.to as i64];
        let size = |shape: &[i64]| shape.iter().product::<i64>() as usize;
        let (from_size, to_size) = (size(&x.size()[1..]), size(&shape[1..]));
        // SAFETY: nobody writes to the inputs of a convolution while it runs.
        let (x, plus) = unsafe { (numbers::<T>(&x), plus.as_ref().map(|plus| numbers::<T>(plus))) };
        let out = filled(&shape, |out| {
            let maps = x.chunks_exact(from_size).zip(out.chunks_exact_mut(to_size));
            for (i, (map, out)) in maps.enumerate() {
                let plus = plus.map(|plus| &plus[i * to_size..][..to_size]);
                self.convolve_one(map, height as usize, width as usize, plus, out);
            }
        });
        out.permute([0, 3, 1, 2])
    }

    fn convolve_one<T: Number>(
        &self,
        map: &[T],
        height: usize,
        width: usize,
        plus: Option<&[T]>,
        out: &mut [T],
    ) {
        let (tiles_down, tiles_across) = self.tiles(height, width);
        // Few tiles wait for the kernels to come from memory; all threads should have some.
        let rows = (self.tiles_at_once() / tiles_across).min(tiles_down.div_ceil(threads())).max(1);
        let row_length = 2 * self.width_of_outcome(width) * self.to;
        let scratch = || Scratch::new(self, (rows * tiles_across).min(self.tiles_at_once()));
        in_turn(out.chunks_mut(rows * row_length).enumerate(), scratch, |(i, out), scratch| {
            let plus = plus.map(|plus| &plus[i * rows * row_length..][..out.len()]);
            let band = Band { of: self, map, height, width, first: i * rows, plus, out };
            let Avx512 { .. } = self.processor;
            // SAFETY: the processor has what it is compiled for.
            unsafe { convolve_band(band, scratch) };
        });
    }

    /// Tiles of 2×2 places of the outcome, down and across.
    fn tiles(&self, height: usize, width: usize) -> (usize, usize) {
        if self.doubles { (height, width) } else { (height.div_ceil(2), width.div_ceil(2)) }
    }

    fn width_of_outcome(&self, width: usize) -> usize {
        if self.doubles { 2 * width } else { width }
    }

    /// Tiles whose patches and sums stay in a core's own cache.
    fn tiles_at_once(&self) -> usize {
        match self.from {
            ..=192 => 64,
            193..=384 => 48,
            _ => 32,
        }
    }

    fn points(&self) -> usize {
        (0..POINTS).filter(|&point| used(point, self.doubles)).count()
    }
}

/// On a doubled map the second and third place of a patch are one, and the point that is their
/// difference is 0.
const fn used(point: usize, doubled: bool) -> bool {
    !doubled || (point / 4 != 2 && point % 4 != 2)
}

/// `G g Gᵀ` of kernels `[to, from, 3, 3]`: `[16, from, to]`.
fn transformed_kernels(kernels: &[f32], from: usize) -> Vec<f32> {
    let ends = |[a, b, c]: [f32; 3]| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
    let to = kernels.len() / from / 9;
    let mut points = vec![0.0; POINTS * from * to];
    for (i, g) in kernels.as_chunks::<9>().0.iter().enumerate() {
        let (to_channel, from_channel) = (i / from, i % from);
        let columns: [[f32; 4]; 3] = std::array::from_fn(|j| ends([g[j], g[3 + j], g[6 + j]]));
        for row in 0..4 {
            for (column, value) in ends(columns.map(|column| column[row])).into_iter().enumerate() {
                points[((4 * row + column) * from + from_channel) * to + to_channel] = value;
            }
        }
    }
    points
}

impl Scratch {
    fn new(of: &Winograd, tiles: usize) -> Self {
        let bytes = of.points() * tiles * of.from * of.kind.elt_size_in_bytes();
        Self {
            patches: vec![Zeroable::zeroed(); bytes.div_ceil(size_of::<__m512i>())],
            sums: vec![Zeroable::zeroed(); tiles * POINTS * WIDE],
        }
    }
}

/// Makes a band of the outcome.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn convolve_band<T: Number>(band: Band<'_, T>, scratch: &mut Scratch) {
    if band.of.doubles { band.convolve::<true>(scratch) } else { band.convolve::<false>(scratch) }
}

impl<T: Number> Band<'_, T> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn convolve<const DOUBLED: bool>(mut self, scratch: &mut Scratch) {
        let of = self.of;
        let (_, across) = of.tiles(self.height, self.width);
        let rows = self.out.len() / (of.width_of_outcome(self.width) * of.to);
        let tiles = rows.div_ceil(2) * across;
        let (words, zeros) = (of.from / T::IN_WORD, vec![T::zeroed(); of.from]);
        for start in (0..tiles).step_by(of.tiles_at_once()) {
            let n = (tiles - start).min(of.tiles_at_once());
            let patches = &mut scratch.patches[..of.points() * n * words / LANES];
            for tile in 0..n {
                let (row, column) = ((start + tile) / across, (start + tile) % across);
                let patch = self.patch::<DOUBLED>(self.first + row, column, &zeros);
                transform_patch::<T, DOUBLED>(&patch, bytemuck::cast_slice_mut(patches), tile, n);
            }
            let patches: &[i32] = bytemuck::cast_slice(patches);
            let mut kernels = &of.kernels[..];
            for first in (0..of.to).step_by(WIDE * LANES) {
                let vectors = ((of.to - first) / LANES).min(WIDE);
                let (these, rest) = kernels.split_at(of.points() * words * vectors);
                kernels = rest;
                let each = these.chunks_exact(words * vectors).zip(patches.chunks_exact(n * words));
                for (point, (kernels, patches)) in
                    (0..POINTS).filter(|&p| used(p, DOUBLED)).zip(each)
                {
                    let sums = &mut scratch.sums[point * WIDE..];
                    match vectors {
                        WIDE => {
                            multiply::<T, WIDE>(patches, words, kernels, sums, POINTS * WIDE, false)
                        }
                        _ => multiply::<T, 2>(patches, words, kernels, sums, POINTS * WIDE, false),
                    }
                }
                for (tile, sums) in (start..start + n).zip(scratch.sums.chunks_exact(POINTS * WIDE))
                {
                    for vector in 0..vectors {
                        let places = transform_sums::<DOUBLED>(sums, vector);
                        self.write(&places, tile / across, tile % across, first + vector * LANES);
                    }
                }
            }
        }
    }

    /// What the tile at a row and column of tiles looks at: channels of 4×4 places, 0 outside.
    fn patch<'a, const DOUBLED: bool>(
        &'a self,
        row: usize,
        column: usize,
        zeros: &'a [T],
    ) -> [[&'a [T]; 4]; 4] {
        // Places are numbered from 1 here, so that the one before the first is 0.
        let place =
            |tile: usize, i: usize| if DOUBLED { tile + [0, 1, 1, 2][i] } else { 2 * tile + i };
        let channels = |y: usize, x: usize| {
            if (1..=self.height).contains(&y) && (1..=self.width).contains(&x) {
                &self.map[((y - 1) * self.width + x - 1) * self.of.from..][..self.of.from]
            } else {
                zeros
            }
        };
        std::array::from_fn(|i| std::array::from_fn(|j| channels(place(row, i), place(column, j))))
    }

    /// Writes the four places of a tile of the band, some channels of each, unless they lie
    /// outside.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn write(&mut self, places: &[__m512; 4], row: usize, column: usize, channel: usize) {
        let (of, width) = (self.of, self.of.width_of_outcome(self.width));
        let bias = load(&of.bias[channel..]);
        for (i, &sum) in places.iter().enumerate() {
            let (y, x) = (2 * row + i / 2, 2 * column + i % 2);
            let at = (y * width + x) * of.to + channel;
            if x < width && at < self.out.len() {
                let sum = _mm512_add_ps(sum, bias);
                let sum = self.plus.map_or(sum, |plus| _mm512_add_ps(sum, load(&plus[at..])));
                store(sum, &mut self.out[at..]);
            }
        }
    }
}

/// `Bᵀ` times a column.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn apart([a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
    [_mm512_sub_ps(a, c), _mm512_add_ps(b, c), _mm512_sub_ps(c, b), _mm512_sub_ps(b, d)]
}

/// `Aᵀ` times a column, whose third number is 0 on a doubled map.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn together<const DOUBLED: bool>([a, b, c, d]: [__m512; 4]) -> [__m512; 2] {
    let (first, second) = (_mm512_add_ps(a, b), _mm512_sub_ps(b, d));
    if DOUBLED { [first, second] } else { [_mm512_add_ps(first, c), _mm512_sub_ps(second, c)] }
}

/// `Bᵀ d B` of a patch, to each point's row `tile` of `tiles`.
//
// Loops rather than `array::from_fn` and `map`: closures for this processor do not inline into
// those.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn transform_patch<T: Number, const DOUBLED: bool>(
    patch: &[[&[T]; 4]; 4],
    points: &mut [T],
    tile: usize,
    tiles: usize,
) {
    let from = patch[0][0].len();
    for channel in (0..from).step_by(LANES) {
        let mut rows = [[_mm512_setzero_ps(); 4]; 4];
        for column in 0..4 {
            let mut d = [_mm512_setzero_ps(); 4];
            for row in 0..4 {
                d[row] = load(&patch[row][column][channel..]);
            }
            let d = apart(d);
            for row in 0..4 {
                rows[row][column] = d[row];
            }
        }
        let mut at = tile * from + channel;
        for (row, values) in rows.into_iter().enumerate() {
            for (column, value) in apart(values).into_iter().enumerate() {
                if used(4 * row + column, DOUBLED) {
                    store(value, &mut points[at..]);
                    at += tiles * from;
                }
            }
        }
    }
}

/// `Aᵀ m A` of the sums at all points, one vector of channels: four places.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn transform_sums<const DOUBLED: bool>(sums: &[__m512], vector: usize) -> [__m512; 4] {
    let mut rows = [[_mm512_setzero_ps(); 4]; 2];
    for column in 0..4 {
        let mut m = [_mm512_setzero_ps(); 4];
        for row in 0..4 {
            if used(4 * row + column, DOUBLED) {
                m[row] = sums[(4 * row + column) * WIDE + vector];
            }
        }
        [rows[0][column], rows[1][column]] = together::<DOUBLED>(m);
    }
    let ([a, b], [c, d]) = (together::<DOUBLED>(rows[0]), together::<DOUBLED>(rows[1]));
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn any(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    /// Largest difference to libtorch's convolution in f32, as a share of the outcome's own spread.
    fn off(kind: Kind, shape: [i64; 4], to: i64, doubles: bool) -> f64 {
        let from = shape[1];
        let (x, weight, bias) =
            (any(&shape).to_kind(kind), any(&[to, from, 3, 3]).to_kind(kind), any(&[to]));
        let kernel =
            Winograd::of(&weight, &bias, doubles).expect("a processor with AVX-512 and bf16");
        let seen = if doubles {
            x.to_kind(Kind::Float)
                .repeat_interleave_self_int(2, 2, None)
                .repeat_interleave_self_int(2, 3, None)
        } else {
            x.to_kind(Kind::Float)
        };
        let plain =
            seen.conv2d(&weight.to_kind(Kind::Float), Some(&bias), [1, 1], [1, 1], [1, 1], 1);
        let plus = any(&plain.size()).to_kind(kind);
        let (alone, both) = (kernel.forward(&x, None), kernel.forward(&x, Some(&plus)));
        assert_eq!((alone.size(), alone.kind()), (plain.size(), kind));
        let spread = plain.std(true);
        let off = |made: Tensor, wanted: &Tensor| {
            ((made.to_kind(Kind::Float) - wanted).abs().max() / &spread).double_value(&[])
        };
        off(alone, &plain).max(off(both, &(&plain + plus.to_kind(Kind::Float))))
    }

    #[test]
    fn it_is_libtorchs_convolution() {
        if Avx512::detect().is_none() {
            return;
        }
        let shapes = [
            ([1, 32, 1, 1], 32),
            ([2, 64, 2, 3], 96),
            ([1, 96, 7, 5], 64),
            ([3, 32, 16, 16], 160),
            ([1, 32, 5, 131], 32),
            ([1, 416, 9, 12], 64),
        ];
        for (shape, to) in shapes {
            for doubles in [false, true] {
                for (kind, bound) in [(Kind::Float, 1e-5), (Kind::BFloat16, 4e-2)] {
                    if Avx512::detect_for(kind).is_none() {
                        continue;
                    }
                    let off = off(kind, shape, to, doubles);
                    assert!(off < bound, "{shape:?} to {to}, {kind:?}, doubled {doubles}: {off}");
                }
            }
        }
    }

    #[test]
    fn other_sizes_numbers_and_learnt_weights_are_not_for_it() {
        let bias = any(&[32]);
        let made = |weight: &Tensor| Winograd::of(weight, &bias, false).is_some();
        assert!(!made(&any(&[32, 32, 1, 1])));
        assert!(!made(&any(&[32, 3, 3, 3])));
        assert!(!made(&any(&[32, 32, 3, 3]).to_kind(Kind::Half)));
        assert!(!made(&any(&[32, 32, 3, 3]).set_requires_grad(true)));
        assert_eq!(made(&any(&[32, 32, 3, 3])), Avx512::detect().is_some());
    }
}
