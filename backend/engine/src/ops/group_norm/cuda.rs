//! Group norm on a GPU: `group_norm.cu`, launched.

#![expect(unsafe_code, reason = "kernels are launched with pointers to tensors")]

use std::{ffi::c_int, ptr};

use tch::{Kind, Tensor};

use crate::{
    cuda::driver::Size,
    ops::kernels::{Kernels, Refusal, Typed, address, number_bytes, parts},
};

/// Most threads of a block, as `group_norm.cu` has them.
const THREADS: i64 = 256;
const UNITE_THREADS: i64 = MOST_GROUPS;

/// The most groups, which the threads of one block hold.
const MOST_GROUPS: i64 = 1024;

/// The most chunks of a picture, enough to fill a large GPU with one.
const MOST_CHUNKS: i64 = 128;

/// Steps of a thread through its chunk from which on a picture is cut into more chunks.
const FEWEST_STEPS: i64 = 4;

/// How the places of a picture are cut into chunks, by the picture's size alone: sums are the same
/// in any batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    /// Threads side by side at one place, each with 16 bytes.
    vectors: i64,
    /// Places side by side.
    lanes: i64,
    chunk_places: i64,
    chunks: i64,
}

impl Cut {
    /// `None` for sizes that the kernels are not made for.
    fn of(number_bytes: i64, places: i64, channels: i64) -> Option<Self> {
        let bytes = channels * number_bytes;
        let vectors = bytes / 16;
        let fits = channels > 0 && bytes % 16 == 0 && vectors <= THREADS && places > 0;
        // Numbers of places and chunks are 32-bit ones there.
        if !fits || places > i64::from(i32::MAX / 2) {
            return None;
        }
        let lanes = THREADS / vectors;
        let steps = parts(places, lanes);
        let chunks = (steps / FEWEST_STEPS).clamp(1, MOST_CHUNKS);
        let chunk_places = parts(steps, chunks) * lanes;
        Some(Self { vectors, lanes, chunk_places, chunks: parts(places, chunk_places) })
    }
}

/// What is done to a map beside weight and bias.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Groups of channels, a divisor of them.
    pub(super) groups: i64,
    /// What is added to a variance.
    pub(super) epsilon: f32,
    /// Whether SiLU follows.
    pub(super) silu: bool,
}

impl Kernels {
    /// Group norm of `x`, contiguous `[B, H, W, C]`, with weight and bias f32 `[C]`; then SiLU if
    /// asked for. `before`, f32 `[C]`, is added to `x` first.
    ///
    /// Refused are tensors of other shapes or on another device, and what the driver refuses.
    pub(super) fn group_norm(
        &self,
        x: &Tensor,
        before: Option<&Tensor>,
        [weight, bias]: [&Tensor; 2],
        Shape { groups, epsilon, silu }: Shape,
    ) -> Result<Tensor, Refusal> {
        let unfit = || Refusal::unfit("a map", x);
        let (batch, height, width, channels) = x.size4().map_err(|_| unfit())?;
        let places = height * width;
        let cut = number_bytes(x.kind())
            .and_then(|bytes| Cut::of(bytes, places, channels))
            .ok_or_else(unfit)?;
        let kernel = |which| self.typed(which, x.kind()).ok_or_else(unfit);
        let (partial, apply, unite) =
            (kernel(Typed::Partial)?, kernel(Typed::Apply)?, self.unite_chunks());
        let per_channel = |tensor: &Tensor| self.is_per_channel(tensor, channels);
        if !(1..=MOST_GROUPS).contains(&groups)
            || channels % groups != 0
            || !(1..=65_535).contains(&batch)
            || !self.reaches(x)
            || !per_channel(weight)
            || !per_channel(bias)
            || !before.is_none_or(per_channel)
        {
            return Err(unfit());
        }
        let stream = self.stream()?;

        let y = x.empty_like();
        // Mean and spread of each group: of each chunk, then of each picture.
        let numbers = |of: i64| Tensor::empty([batch, of, groups, 2], (Kind::Float, x.device()));
        let (partials, moments) = (numbers(cut.chunks), numbers(1));

        let mut pointers = [x, &y, &partials, &moments, weight, bias].map(Tensor::data_ptr);
        let [x_at, y_at, partials_at, moments_at, weight_at, bias_at] =
            pointers.each_mut().map(address);
        let mut before = before.map_or(ptr::null_mut(), Tensor::data_ptr);
        let before_at = address(&mut before);
        let mut whole =
            [places, channels, groups, cut.chunk_places, cut.chunks].map(|number| number as c_int);
        let [places_at, channels_at, groups_at, chunk_places_at, chunks_at] =
            whole.each_mut().map(address);
        let (mut epsilon, mut silu) = (epsilon, c_int::from(silu));

        let float_bytes = size_of::<f32>() as i64;
        let size = |x: i64, y: i64, threads: i64, shared_floats: i64| Size {
            grid: (x as u32, y as u32),
            threads: threads as u32,
            shared_bytes: (shared_floats * float_bytes) as u32,
        };
        let threads = cut.vectors * cut.lanes;
        // As each says in `group_norm.cu`.
        let partial_floats = 2 * channels * (cut.lanes / 2).max(1);
        let unite_threads = UNITE_THREADS / groups * groups;
        let unite_floats = 3 * unite_threads / 2;
        // SAFETY: the arguments are those of the three kernels' definitions. `x` and `y` have all
        // places and channels, weight, bias and what comes before every channel, the other two what
        // the grids write; all are contiguous, on the kernels' device. Memory that is freed goes to
        // work that is queued later on the same stream.
        unsafe {
            self.launch(
                partial,
                size(cut.chunks, batch, threads, partial_floats),
                stream,
                [x_at, before_at, partials_at, places_at, channels_at, groups_at, chunk_places_at],
            )?;
            self.launch(
                unite,
                size(batch, 1, unite_threads, unite_floats),
                stream,
                [
                    partials_at,
                    moments_at,
                    places_at,
                    channels_at,
                    groups_at,
                    chunk_places_at,
                    chunks_at,
                    address(&mut epsilon),
                ],
            )?;
            self.launch(
                apply,
                size(cut.chunks, batch, threads, 0),
                stream,
                [
                    x_at,
                    before_at,
                    y_at,
                    moments_at,
                    weight_at,
                    bias_at,
                    places_at,
                    channels_at,
                    groups_at,
                    chunk_places_at,
                    address(&mut silu),
                ],
            )?;
        }
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_in_a_chunk_and_every_lane_at_work() {
        for (number_bytes, channels) in
            [(4, 32), (2, 32), (4, 160), (2, 160), (2, 320), (4, 640), (2, 640), (4, 1024)]
        {
            for places in [1, 2, 15, 256, 1023, 64 * 64, 255 * 257, 256 * 256, 1024 * 1024] {
                let cut = Cut::of(number_bytes, places, channels).unwrap();
                let Cut { vectors, lanes, chunk_places, chunks } = cut;
                assert!(vectors * lanes <= THREADS && vectors * lanes > THREADS / 2, "{cut:?}");
                assert_eq!(vectors * 16, channels * number_bytes);
                assert!((1..=MOST_CHUNKS).contains(&chunks), "{cut:?}");
                assert!(
                    chunks * chunk_places >= places && (chunks - 1) * chunk_places < places,
                    "{cut:?}"
                );
                assert_eq!(chunk_places % lanes, 0);
            }
        }
    }

    #[test]
    fn sizes_that_the_kernels_are_not_made_for_are_refused() {
        for (number_bytes, places, channels) in
            [(2, 64, 36), (4, 64, 0), (4, 0, 32), (4, 64, 2048), (2, 1 << 31, 32)]
        {
            assert_eq!(
                Cut::of(number_bytes, places, channels),
                None,
                "{places} places, {channels} channels"
            );
        }
    }
}
