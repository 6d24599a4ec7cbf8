//! What follows a convolution on a GPU: `maps.cu`, launched.

#![expect(unsafe_code, reason = "kernels are launched with pointers to tensors")]

use std::{ffi::c_int, ptr};

use tch::Tensor;

use crate::{
    cuda::driver::Size,
    ops::kernels::{Kernels, Refusal, Typed, address, int, number_bytes, parts},
};

/// Threads of a block, as `maps.cu` has them.
const THREADS: i64 = 256;

impl Kernels {
    /// Adds the bias of each channel, f32 `[C]`, and `plus`, a map like `x`, to `x`, contiguous
    /// `[B, H, W, C]` and shared with nobody.
    ///
    /// Refused are tensors of other shapes or on another device, and what the driver refuses.
    pub(super) fn add(
        &self,
        x: &mut Tensor,
        plus: Option<&Tensor>,
        bias: &Tensor,
    ) -> Result<(), Refusal> {
        let unfit = || Refusal::unfit("a map", x);
        let channels = x.size().last().copied().unwrap_or_default();
        let vector = number_bytes(x.kind()).map_or(1, |bytes| 16 / bytes);
        let kernel = self.typed(Typed::Add, x.kind()).ok_or_else(unfit)?;
        let is_like = |plus: &Tensor| {
            self.reaches(plus) && plus.kind() == x.kind() && plus.size() == x.size()
        };
        let vectors = x.numel() as i64 / vector;
        let blocks = parts(vectors, THREADS);
        if channels % vector != 0
            || !self.reaches(x)
            || !self.is_per_channel(bias, channels)
            || !plus.is_none_or(is_like)
            || int(blocks).is_none()
            || blocks == 0
        {
            return Err(unfit());
        }
        let stream = self.stream()?;
        let mut pointers =
            [x.data_ptr(), plus.map_or(ptr::null_mut(), Tensor::data_ptr), bias.data_ptr()];
        let [x_at, plus_at, bias_at] = pointers.each_mut().map(address);
        let (mut channels, mut vectors) = (channels as c_int, vectors as u64);
        let size = Size { grid: (blocks as u32, 1), threads: THREADS as u32, shared_bytes: 0 };
        let arguments = [x_at, plus_at, bias_at, address(&mut channels), address(&mut vectors)];
        // SAFETY: the arguments are those of the kernel's definition, and `x` and `plus` have all
        // vectors, `bias` all channels; nobody else has `x`.
        unsafe { self.launch(kernel, size, stream, arguments) }?;
        Ok(())
    }

    /// Puts the four phases of a doubled map together, contiguous `[B, H + 1, W + 1, 4C]` to
    /// `[B, 2H, 2W, C]` as `maps.cu` says, and adds the bias, f32 `[C]`.
    ///
    /// Refused are tensors of other shapes or on another device, and what the driver refuses.
    pub(super) fn interleave(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor, Refusal> {
        let unfit = || Refusal::unfit("phases of a map", x);
        let (batch, height, width, channels) = x.size4().map_err(|_| unfit())?;
        let (height, width, channels) = (height - 1, width - 1, channels / 4);
        let vector = number_bytes(x.kind()).map_or(1, |bytes| 16 / bytes);
        let kernel = self.typed(Typed::Interleave, x.kind()).ok_or_else(unfit)?;
        let (columns, rows) = (parts(2 * width * channels / vector, THREADS), batch * 2 * height);
        if channels % vector != 0
            || columns == 0
            || int(2 * width * channels).is_none()
            || !(1..=65_535).contains(&rows)
            || !self.reaches(x)
            || !self.is_per_channel(bias, channels)
        {
            return Err(unfit());
        }
        let y = Tensor::empty([batch, 2 * height, 2 * width, channels], (x.kind(), x.device()));
        let mut pointers = [x, bias, &y].map(Tensor::data_ptr);
        let [x_at, bias_at, y_at] = pointers.each_mut().map(address);
        let mut whole = [height, width, channels].map(|number| number as c_int);
        let [height_at, width_at, channels_at] = whole.each_mut().map(address);
        let size =
            Size { grid: (columns as u32, rows as u32), threads: THREADS as u32, shared_bytes: 0 };
        let arguments = [x_at, bias_at, y_at, height_at, width_at, channels_at];
        // SAFETY: the arguments are those of the kernel's definition, and `x`, `y` and `bias` have
        // the sizes that it takes them to have. Memory that is freed goes to work that is queued
        // later on the same stream.
        unsafe { self.launch(kernel, size, self.stream()?, arguments) }?;
        Ok(y)
    }
}
