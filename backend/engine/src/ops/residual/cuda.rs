//! The residual stream and its norm on a GPU: `residual.cu`, launched and held against libtorch.

#![expect(unsafe_code, reason = "kernels are launched with pointers to tensors")]

use std::{
    ffi::{c_int, c_longlong},
    ptr,
};

use tch::{Device, Kind, Tensor};

use super::{EPSILON, modulated_norm};
use crate::{
    cuda::driver::Size,
    ops::kernels::{
        Kernels, Refusal, Typed, address,
        compare::{Mismatch, close, numbers},
        int, made,
    },
};

/// Most threads of a block, as `residual.cu` has them.
const ROW_THREADS: i64 = 512;

/// Numbers that a thread has.
const EIGHT: i64 = 8;

/// Steps from one picture and from one position to the next, as `residual.cu` has it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Rows {
    picture: c_longlong,
    position: c_longlong,
}

/// What a branch of a transformer adds to the stream.
#[derive(Debug)]
pub(crate) struct Addition<'a> {
    /// `[B, L, C]`.
    pub(crate) branch: &'a Tensor,
    /// f32 `[B, 1, C]` or `[1, 1, C]`, its factor.
    pub(crate) gamma: &'a Tensor,
    /// f32 `[L, C]`, which is added too.
    pub(crate) between: Option<&'a Tensor>,
}

/// A layer norm that the class scales and shifts.
#[derive(Debug)]
pub(crate) struct Norm<'a> {
    /// f32 `[B, 1, C]` or `[1, 1, C]` each.
    pub(crate) scale: &'a Tensor,
    pub(crate) shift: &'a Tensor,
    pub(crate) epsilon: f32,
    /// Numbers of the outcome.
    pub(crate) kind: Kind,
}

/// The stream `x`, f32 `[B, L, C]`, with an addition, f32; and its norm in the number type asked
/// for. `None` where the kernel does not do it.
pub(super) fn residual_norm(
    kernels: &Kernels,
    x: &Tensor,
    addition: Option<Addition<'_>>,
    norm: Option<Norm<'_>>,
) -> Option<(Option<Tensor>, Option<Tensor>)> {
    // A part of another tensor may begin anywhere.
    let copy;
    let x = if x.data_ptr().addr().is_multiple_of(16) {
        x
    } else {
        copy = x.copy();
        &copy
    };
    made(kernels.residual_norm(x, addition, norm))
}

impl Kernels {
    /// The stream `x`, f32 `[B, L, C]`, with the addition, f32; and its norm. What is not asked for
    /// is not there.
    ///
    /// Refused are tensors of other shapes or on another device, and what the driver refuses.
    pub(super) fn residual_norm(
        &self,
        x: &Tensor,
        addition: Option<Addition<'_>>,
        norm: Option<Norm<'_>>,
    ) -> Result<(Option<Tensor>, Option<Tensor>), Refusal> {
        let unfit = || Refusal::unfit("a stream", x);
        let (batch, length, channels) = x.size3().map_err(|_| unfit())?;
        let threads = (channels / EIGHT + 31) / 32 * 32;
        let kind = match (&norm, &addition) {
            (Some(norm), _) => norm.kind,
            (None, Some(addition)) => addition.branch.kind(),
            (None, None) => return Ok((None, None)),
        };
        let kernel = self.typed(Typed::ResidualNorm, kind).ok_or_else(unfit)?;
        let grid = int(length)
            .zip(u16::try_from(batch).ok())
            .filter(|&(length, batch)| length > 0 && batch > 0);
        let (Some(_), true) =
            (grid, channels > 0 && channels % EIGHT == 0 && threads <= ROW_THREADS)
        else {
            return Err(unfit());
        };
        let x_rows = self.rows(x, [batch, length, channels]).ok_or_else(unfit)?;

        let none = Rows { picture: 0, position: 0 };
        let (mut branch_at, mut gamma_at, mut between_at) =
            (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        let (mut gamma_rows, mut between_rows) = (none, none);
        if let Some(Addition { branch, gamma, between }) = &addition {
            if !self.reaches(branch) || branch.kind() != kind || branch.size() != x.size() {
                return Err(unfit());
            }
            gamma_rows = self.rows(gamma, [batch, length, channels]).ok_or_else(unfit)?;
            (branch_at, gamma_at) = (branch.data_ptr(), gamma.data_ptr());
            if let Some(between) = between {
                if !self.reaches(between)
                    || between.kind() != Kind::Float
                    || between.size() != [length, channels]
                {
                    return Err(unfit());
                }
                between_rows = Rows { picture: 0, position: channels };
                between_at = between.data_ptr();
            }
        }
        let (mut scale_at, mut shift_at, mut norm_rows) = (ptr::null_mut(), ptr::null_mut(), none);
        let mut epsilon = 0.0;
        if let Some(norm) = &norm {
            norm_rows = self.rows(norm.scale, [batch, length, channels]).ok_or_else(unfit)?;
            let shift_rows = self.rows(norm.shift, [batch, length, channels]).ok_or_else(unfit)?;
            if norm_rows.picture != shift_rows.picture || norm_rows.position != shift_rows.position
            {
                return Err(unfit());
            }
            (scale_at, shift_at, epsilon) =
                (norm.scale.data_ptr(), norm.shift.data_ptr(), norm.epsilon);
        }

        let room = |kind| Tensor::empty([batch, length, channels], (kind, x.device()));
        let y = addition.is_some().then(|| room(Kind::Float));
        let normed = norm.is_some().then(|| room(kind));
        let at =
            |tensor: &Option<Tensor>| tensor.as_ref().map_or(ptr::null_mut(), Tensor::data_ptr);
        let (mut x_at, mut y_at, mut normed_at) = (x.data_ptr(), at(&y), at(&normed));
        let (mut x_rows, mut channels) = (x_rows, channels as c_int);
        let size = Size {
            grid: (length as u32, batch as u32),
            threads: threads as u32,
            shared_bytes: 2 * 32 * size_of::<f32>() as u32,
        };
        let arguments = [
            address(&mut x_at),
            address(&mut x_rows),
            address(&mut branch_at),
            address(&mut gamma_at),
            address(&mut gamma_rows),
            address(&mut between_at),
            address(&mut between_rows),
            address(&mut y_at),
            address(&mut normed_at),
            address(&mut scale_at),
            address(&mut shift_at),
            address(&mut norm_rows),
            address(&mut channels),
            address(&mut epsilon),
        ];
        // SAFETY: the arguments are those of the kernel's definition; every tensor has the rows and
        // channels that the kernel reads or writes, where the steps say, on its device. Memory that
        // is freed goes to work that is queued later on the same stream.
        unsafe { self.launch(kernel, size, self.stream()?, arguments) }?;
        Ok((y, normed))
    }

    /// Steps of a tensor f32 `[B, L, C]`, where 1 stands for as many as there are: `None` if it is
    /// none.
    fn rows(&self, tensor: &Tensor, [batch, length, channels]: [i64; 3]) -> Option<Rows> {
        let ([b, l, c], [picture, position, one]) = (
            <[i64; 3]>::try_from(tensor.size()).ok()?,
            <[i64; 3]>::try_from(tensor.stride()).ok()?,
        );
        let fits = tensor.kind() == Kind::Float
            && self.reaches_rows(tensor)
            && c == channels
            && one == 1
            && (b == 1 || b == batch)
            && (l == 1 || l == length)
            // A row begins where sixteen bytes can be read at once.
            && (b == 1 || picture % 4 == 0)
            && (l == 1 || position % 4 == 0);
        let step = |count: i64, step: i64| if count == 1 { 0 } else { step };
        fits.then(|| Rows { picture: step(b, picture), position: step(l, position) })
    }
}

/// Compares the kernel with the definition.
pub(in crate::ops) fn check(kernels: &Kernels, device: Device) -> Result<(), Mismatch> {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        for size in [[2, 5, 64], [3, 7, 1024], [1, 2, 1920]] {
            check_size(kernels, kind, size, device)?;
        }
    }
    Ok(())
}

fn check_size(
    kernels: &Kernels,
    kind: Kind,
    size: [i64; 3],
    device: Device,
) -> Result<(), Mismatch> {
    let [batch, length, channels] = size;
    let number = |size: &[i64], step: f64| numbers(size, step, device).to_kind(Kind::Float);
    // As they come: a stream that is part of a longer one, and rows of a table of what the class
    // determines.
    let whole = number(&[batch, length + 1, channels], 12.9898) * 2.0 + 0.5;
    let x = whole.narrow(1, 1, length);
    let branch = number(&size, 7.31).to_kind(kind);
    let between = number(&[length, channels], 3.7);
    for rows in [1, batch] {
        let table = number(&[rows, 6, 1, channels], 0.9);
        let of = |i| table.select(1, i);
        let (gamma, scale, shift) = (of(1), of(2), of(4));
        let normed = |x: &Tensor| modulated_norm(x, &scale, &shift);
        let run = |addition, asks: bool| {
            let norm = Norm { scale: &scale, shift: &shift, epsilon: EPSILON as f32, kind };
            kernels.residual_norm(&x, addition, asks.then_some(norm))
        };
        for between in [None, Some(&between)] {
            let mut sum = &x + &gamma * branch.to_kind(Kind::Float);
            if let Some(between) = between {
                sum += between;
            }
            let addition = || Some(Addition { branch: &branch, gamma: &gamma, between });
            let (y, h) = run(addition(), true)?;
            close("the stream's sum", y.as_ref(), &sum, Kind::Float, &size)?;
            close("the sum's norm", h.as_ref(), &normed(&sum), kind, &size)?;
            let (y, _) = run(addition(), false)?;
            close("the stream's sum alone", y.as_ref(), &sum, Kind::Float, &size)?;
        }
        let (_, h) = run(None, true)?;
        close("the stream's norm alone", h.as_ref(), &normed(&x), kind, &size)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernels::stand_in::{bits_are_equal, stand_in};

    #[test]
    fn threads_do_not_race() {
        let stand_in = stand_in();
        let number =
            |size: &[i64], step: f64| numbers(size, step, Device::Cpu).to_kind(Kind::Float);
        let (x, branch, table) =
            (number(&[2, 3, 520], 1.1), number(&[2, 3, 520], 2.3), number(&[1, 1, 520], 0.7));
        let [one, other] = stand_in.orders.map(|kernels| {
            let addition = Addition { branch: &branch, gamma: &table, between: None };
            let norm = Norm { scale: &table, shift: &table, epsilon: 1e-6, kind: Kind::Float };
            let (y, h) = kernels.residual_norm(&x, Some(addition), Some(norm)).unwrap();
            [y.unwrap(), h.unwrap()]
        });
        for (one, other) in one.iter().zip(&other) {
            assert!(bits_are_equal(one, other));
        }
    }

    #[test]
    fn what_the_kernel_is_not_made_for_is_refused() {
        let stand_in = stand_in();
        let kernels = &stand_in.orders[0];
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
        let normed = |x: &Tensor, table: &Tensor, kind| {
            let norm = Norm { scale: table, shift: table, epsilon: 1e-6, kind };
            kernels.residual_norm(x, None, Some(norm))
        };
        let (x, table) = (zeros(&[2, 3, 64]), zeros(&[1, 1, 64]));
        assert!(normed(&x, &table, Kind::Float).is_ok());
        for (x, table, kind) in [
            (zeros(&[2, 3, 60]), zeros(&[1, 1, 60]), Kind::Float),
            (zeros(&[2, 3, 64]), zeros(&[1, 1, 32]), Kind::Float),
            (zeros(&[2, 3, 64]), zeros(&[3, 1, 64]), Kind::Float),
            (zeros(&[2, 0, 64]), zeros(&[1, 1, 64]), Kind::Float),
            (zeros(&[2, 3, 8192]), zeros(&[1, 1, 8192]), Kind::Float),
            (zeros(&[2, 3, 64]), zeros(&[1, 1, 64]), Kind::Double),
            (zeros(&[2, 64, 3]).transpose(1, 2), zeros(&[1, 1, 64]), Kind::Float),
            (zeros(&[2, 3, 64]).to_kind(Kind::Half), zeros(&[1, 1, 64]), Kind::Float),
        ] {
            assert!(normed(&x, &table, kind).is_err(), "{x:?} {table:?} {kind:?}");
        }
    }
}
