//! The kernels of `engine/cuda/transformer.cu`, launched.

use std::{
    ffi::{c_int, c_longlong},
    ptr,
};

use tch::{Kind, Tensor};

use super::{
    driver::Size,
    kernels::{Kernels, Typed, address, int},
};

/// Most threads of a block, as `transformer.cu` has them.
const ROW_THREADS: i64 = 512;
const HEAD_THREADS: i64 = 256;

/// Numbers that a thread has.
const EIGHT: i64 = 8;

/// Steps from one picture and from one position to the next, as `transformer.cu` has it.
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

impl Kernels {
    /// The stream `x`, f32 `[B, L, C]`, with the addition, f32; and its norm. What is not asked for
    /// is not there.
    ///
    /// Says why not: for tensors of other shapes or on another device, and for what the driver
    /// refuses.
    pub(in crate::device) fn residual_norm(
        &self,
        x: &Tensor,
        addition: Option<Addition<'_>>,
        norm: Option<Norm<'_>>,
    ) -> Result<(Option<Tensor>, Option<Tensor>), String> {
        let unfit =
            || format!("a stream {:?} {:?} on {:?} is none for it", x.size(), x.kind(), x.device());
        let (batch, length, channels) = x.size3().map_err(|_| unfit())?;
        let threads = (channels / EIGHT + 31) / 32 * 32;
        let kind = match (&norm, &addition) {
            (Some(norm), _) => norm.kind,
            (None, Some(addition)) => addition.branch.kind(),
            (None, None) => return Err("nothing to do".into()),
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

    /// Gives queries and keys of `qkv`, contiguous `[B, L, 3C]`, the length 1 in every head, and
    /// queries the head's sharpness, `exp` of f32 `[heads]` and at most `exp(most)`. It writes to
    /// `qkv`, which nobody else has.
    ///
    /// Says why not, as [`Kernels::residual_norm`] does.
    pub(in crate::device) fn unit_heads(
        &self,
        qkv: &mut Tensor,
        log_sharpness: &Tensor,
        most: f32,
    ) -> Result<(), String> {
        let unfit = || {
            format!(
                "queries and keys {:?} {:?} on {:?} are none for it",
                qkv.size(),
                qkv.kind(),
                qkv.device()
            )
        };
        let (batch, length, all) = qkv.size3().map_err(|_| unfit())?;
        let heads = log_sharpness.numel() as i64;
        let width = all / 3 / heads.max(1);
        let head_parts = width / EIGHT;
        let kernel = self.typed(Typed::UnitHeads, qkv.kind()).ok_or_else(unfit)?;
        let in_all = batch * length * 2 * heads * head_parts;
        let blocks = (in_all + HEAD_THREADS - 1) / HEAD_THREADS;
        let fits = heads * width * 3 == all
            && head_parts * EIGHT == width
            && (1..=32).contains(&head_parts)
            && (head_parts as u64).is_power_of_two()
            && in_all > 0
            && int(blocks).is_some()
            && self.reaches(qkv)
            && self.reaches(log_sharpness)
            && log_sharpness.kind() == Kind::Float;
        if !fits {
            return Err(unfit());
        }
        let (mut qkv_at, mut sharpness_at) = (qkv.data_ptr(), log_sharpness.data_ptr());
        let (mut heads, mut head_parts, mut in_all, mut most) =
            (heads as c_int, head_parts as c_int, in_all as u64, most);
        let size = Size { grid: (blocks as u32, 1), threads: HEAD_THREADS as u32, shared_bytes: 0 };
        let arguments = [
            address(&mut qkv_at),
            address(&mut sharpness_at),
            address(&mut heads),
            address(&mut head_parts),
            address(&mut in_all),
            address(&mut most),
        ];
        // SAFETY: the arguments are those of the kernel's definition; `qkv` has so many parts, of
        // which the kernel reads and writes those of queries and keys, and nobody else has it.
        // Sharpness has every head.
        unsafe { self.launch(kernel, size, self.stream()?, arguments) }
    }
}
