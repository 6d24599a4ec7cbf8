//! Group norm over maps with channels last, and the SiLU that follows it.

#![expect(unsafe_code, reason = "code for special processors must not run elsewhere")]

use std::arch::x86_64::*;

use half::bf16;
use tch::{Kind, Tensor};

use super::EPSILON;
use crate::{
    ops::avx512::{
        Avx512, LANES, Number, activation, in_f32,
        matrix::{load, store},
        numbers::{filled, numbers},
    },
    ops::map_size,
    parallel::in_turn,
};

/// A group norm.
#[derive(Debug)]
pub(crate) struct GroupNorm {
    processor: Avx512,
    kind: Kind,
    groups: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Mean and sum of squared distances to it of each channel over one row of a map.
#[derive(Clone, Debug)]
struct Moments {
    means: Vec<f32>,
    squares: Vec<f32>,
}

/// `(x − centre)·factor + shift` by channel.
struct Scale<'a> {
    centre: Vec<f32>,
    factor: Vec<f32>,
    shift: &'a [f32],
}

impl GroupNorm {
    /// Of weight and bias, `[C]`, over so many groups. `None` where it is not for this processor,
    /// these channels or this kind of number, or where the weight is learnt.
    pub(crate) fn of(weight: &Tensor, bias: &Tensor, groups: i64) -> Option<Self> {
        let processor = Avx512::detect_for_weight(weight)?;
        let groups = usize::try_from(groups).ok().filter(|&groups| groups > 0)?;
        let (kind, weight, bias) = (weight.kind(), in_f32(weight)?, in_f32(bias)?);
        let fits = weight.len().is_multiple_of(groups) && weight.len().is_multiple_of(LANES);
        fits.then_some(Self { processor, kind, groups, weight, bias })
    }

    /// Norms maps `[B, C, H, W]`, with channels last, then runs SiLU over them if asked to. `None`
    /// where a gradient would be lost.
    pub(crate) fn forward(&self, x: &Tensor, silu: bool) -> Option<Tensor> {
        if x.requires_grad() {
            return None;
        }
        Some(match self.kind {
            Kind::BFloat16 => self.run::<bf16>(x, silu),
            _ => self.run::<f32>(x, silu),
        })
    }

    fn run<T: Number>(&self, x: &Tensor, silu: bool) -> Tensor {
        let x = x.to_kind(T::KIND).permute([0, 2, 3, 1]).contiguous(); // [B, H, W, C]
        let [_, height, width, _] = map_size(&x);
        let row_length = width as usize * self.weight.len();
        let size = height as usize * row_length;
        // SAFETY: nobody writes to the input of a norm while it runs.
        let maps = unsafe { numbers::<T>(&x) };
        let out = filled(&x.size(), |out| {
            for (map, out) in maps.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
                let scale = self.scale(&self.moments(map, row_length), width as usize);
                let rows = map.chunks_exact(row_length).zip(out.chunks_exact_mut(row_length));
                in_turn(
                    rows,
                    || (),
                    |(row, out), ()| {
                        let Avx512 { .. } = self.processor;
                        // SAFETY: the processor has what it is compiled for.
                        unsafe { scale_row(row, &scale, silu, out) }
                    },
                );
            }
        });
        out.permute([0, 3, 1, 2])
    }

    /// By row of the map.
    fn moments<T: Number>(&self, map: &[T], row_length: usize) -> Vec<Moments> {
        let channels = self.weight.len();
        let empty = Moments { means: vec![0.0; channels], squares: vec![0.0; channels] };
        let mut moments = vec![empty; map.len() / row_length];
        in_turn(
            map.chunks_exact(row_length).zip(&mut moments),
            || (),
            |(row, moments), ()| {
                let Avx512 { .. } = self.processor;
                // SAFETY: the processor has what it is compiled for.
                unsafe { row_moments(row, &mut moments.means, &mut moments.squares) };
            },
        );
        moments
    }

    /// What makes this norm of a map. The rows' moments are put together about the mean of all
    /// (Chan, Golub and LeVeque 1979), so that a large mean does not eat the variance.
    fn scale(&self, rows: &[Moments], width: usize) -> Scale<'_> {
        let channels = self.weight.len() / self.groups;
        let count = (rows.len() * channels) as f64;
        let (mut centre, mut factor) = (Vec::new(), Vec::new());
        for first in (0..self.weight.len()).step_by(channels) {
            let group = first..first + channels;
            let means = || {
                rows.iter().flat_map(|row| &row.means[group.clone()]).map(|&mean| f64::from(mean))
            };
            let squares = rows.iter().flat_map(|row| &row.squares[group.clone()]);
            let within: f64 = squares.map(|&square| f64::from(square)).sum();
            let mean = means().sum::<f64>() / count;
            let between: f64 = means().map(|row| (row - mean).powi(2)).sum();
            let variance = within / (count * width as f64) + between / count;
            let scale = 1.0 / (variance + EPSILON).sqrt();
            for channel in group {
                centre.push(mean as f32);
                factor.push((scale * f64::from(self.weight[channel])) as f32);
            }
        }
        Scale { centre, factor, shift: &self.bias }
    }
}

/// Mean and sum of squared distances to it of each channel of places with channels last.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn row_moments<T: Number>(row: &[T], means: &mut [f32], squares: &mut [f32]) {
    let channels = means.len();
    let places = (row.len() / channels) as f32;
    for channel in (0..channels).step_by(LANES) {
        let (mut sum, mut square) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for place in row.chunks_exact(channels) {
            sum = _mm512_add_ps(sum, load(&place[channel..]));
        }
        let mean = _mm512_div_ps(sum, _mm512_set1_ps(places));
        for place in row.chunks_exact(channels) {
            let off = _mm512_sub_ps(load(&place[channel..]), mean);
            square = _mm512_fmadd_ps(off, off, square);
        }
        store(mean, &mut means[channel..]);
        store(square, &mut squares[channel..]);
    }
}

/// The scale of each place, and SiLU of it if asked to.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn scale_row<T: Number>(row: &[T], scale: &Scale, silu: bool, out: &mut [T]) {
    let channels = scale.shift.len();
    for (place, out) in row.chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
        for channel in (0..channels).step_by(LANES) {
            let off = _mm512_sub_ps(load(&place[channel..]), load(&scale.centre[channel..]));
            let x =
                _mm512_fmadd_ps(off, load(&scale.factor[channel..]), load(&scale.shift[channel..]));
            store(if silu { activation::silu(x) } else { x }, &mut out[channel..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn it_is_libtorchs_group_norm_and_silu() {
        if Avx512::detect().is_none() {
            return;
        }
        let shapes = [
            ([1, 32, 1, 1], 32),
            ([2, 64, 3, 5], 32),
            ([1, 160, 16, 16], 32),
            ([1, 640, 9, 4], 32),
            ([2, 32, 12, 7], 8),
            ([1, 128, 3, 3], 8),
            ([1, 48, 5, 4], 3),
            ([1, 64, 6, 6], 1),
        ];
        for (shape, groups) in shapes {
            for (spread, mean) in [(1.0, 0.0), (30.0, 5.0), (0.1, 10.0)] {
                let any = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
                let (weight, bias) = (any(&shape[1..2]), any(&shape[1..2]));
                for (kind, bound) in [(Kind::Float, 3e-5), (Kind::BFloat16, 1e-2)] {
                    if Avx512::detect_for(kind).is_none() {
                        continue;
                    }
                    let x = (any(&shape) * spread + mean).to_kind(kind);
                    let (weight, bias) = (weight.to_kind(kind), bias.to_kind(kind));
                    let norm =
                        GroupNorm::of(&weight, &bias, groups).expect("a processor with AVX-512");
                    let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
                    let (w, b) = (double(&weight), double(&bias));
                    let plain = double(&x).group_norm(groups, Some(&w), Some(&b), 1e-6, false);
                    for (silu, wanted) in [(false, plain.shallow_clone()), (true, plain.silu())] {
                        let made = norm.forward(&x, silu).expect("no gradient");
                        assert_eq!((made.size(), made.kind()), (wanted.size(), kind));
                        let off = ((double(&made) - &wanted).abs() / (wanted.abs() + 1.0))
                            .max()
                            .double_value(&[]);
                        assert!(
                            off < bound,
                            "{shape:?} in {groups} groups {kind:?} about {mean}: {off}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn silu_of_the_largest_numbers_is_a_number() {
        if Avx512::detect().is_none() {
            return;
        }
        let ends = [-1e30f32, -104.0, -88.0, -1e-30, 0.0, 1e-30, 88.0, 1e30];
        let bias = Tensor::from_slice(&ends).repeat([4]);
        let norm = GroupNorm::of(&bias.ones_like(), &bias, 32).expect("a processor with AVX-512");
        // Each group is one number, which is its own mean: the bias alone is left.
        let made = norm
            .forward(&bias.zeros_like().view([1, 32, 1, 1]), true)
            .expect("no gradient")
            .view([-1]);
        let off = ((made - bias.silu()).abs() / (bias.abs() + 1.0)).max().double_value(&[]);
        assert!(off < 1e-6, "{off}");
    }
}
