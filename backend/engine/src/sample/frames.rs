//! What a run shows on the way: events of its passes, and pictures of its scales.

use std::{
    mem,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use tch::{Device, Kind, Tensor};

use super::{
    explore::Law,
    plan::Pass,
    sampler::{Sampler, decoded},
    start::SampleError,
};
use crate::{device::download, parallel};

/// Most pictures that a GPU decodes at once, several scales of a pass together.
const DECODED_AT_ONCE: usize = 16;

/// Which scales are decoded into pictures, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Frames {
    /// None: for whoever wants the final tokens alone.
    None,
    /// The last scale of the last pass: for whoever wants the final pictures alone, and spares the
    /// decoder the rest.
    Last,
    /// Every scale of every pass as soon as it is drawn.
    #[default]
    InOrder,
    /// After all passes the last scale of the last one, then the others in order.
    LastFirst,
}

/// What happens while a batch is drawn: for each pass that it began, its scales in order, and that
/// the network ran. A pass that runs scale by scale shows its first pictures before its network has
/// run to the end; the last one always follows that. With [`Frames::LastFirst`] and
/// [`Frames::Last`] the scales come after all passes.
#[derive(Debug)]
pub enum Event<'a> {
    /// A network pass begins.
    PassBegan {
        /// Pass, from 0.
        pass: usize,
        /// Passes in all.
        passes: usize,
        /// What it draws.
        of: Pass,
    },
    /// The network of a pass ran.
    PassEnded {
        /// Pass, from 0.
        pass: usize,
        /// Tokens as they now stand, f32 `[B, n, Cv]`: all after a student pass, those drawn so far
        /// after a teacher's.
        sequence: &'a Tensor,
        /// Time in the transformer.
        transformer: Duration,
    },
    /// A scale is decoded.
    Decoded {
        /// Pass, from 0.
        pass: usize,
        /// Scale, from 0: the last one that the picture holds.
        scale: usize,
        /// f32 `[B, 3, side, side]` in 0…1.
        pictures: &'a Tensor,
        /// Time in the decoder.
        decode: Duration,
    },
}

/// Receives events; `Break` stops the drawing within one pass.
pub type Sink<'a> = dyn FnMut(Event<'_>) -> ControlFlow<()> + 'a;

/// Shows the passes of one run to its sink, one after another, and decodes their scales when they
/// are wanted. `None` as an answer means that the sink said stop.
pub(super) struct Show<'a, 'b> {
    sampler: &'a Sampler,
    sink: &'a mut Sink<'b>,
    frames: Frames,
    /// Pictures of the batch.
    pictures: usize,
    passes: Vec<Pass>,
    /// The pass that runs, or comes next.
    pass: usize,
    /// What waits to be decoded after the last pass.
    later: Vec<Undecoded>,
    nothing_shown: bool,
    /// Groups that the batch runs in.
    groups: usize,
    /// The law of each scale by the last pass that drew it, if anybody wants to know.
    laws: Option<Vec<Option<Law>>>,
}

/// Scales of a pass, from `first` on, that are drawn: the `f_hat`s by scale, then by group.
struct Undecoded {
    pass: usize,
    first: usize,
    f_hats: Vec<Vec<Tensor>>,
}

impl<'a, 'b> Show<'a, 'b> {
    pub(super) fn new(
        sampler: &'a Sampler,
        passes: Vec<Pass>,
        pictures: usize,
        frames: Frames,
        sink: &'a mut Sink<'b>,
    ) -> Self {
        Self {
            sampler,
            sink,
            frames,
            pictures,
            passes,
            pass: 0,
            later: Vec::new(),
            nothing_shown: true,
            groups: sampler.rows_together(pictures as i64).count(),
            laws: None,
        }
    }

    /// The same, with a record of the laws that tokens are drawn by.
    pub(super) fn with_laws(self) -> Self {
        let laws = (0..self.sampler.config.scales()).map(|_| None).collect();
        Self { laws: Some(laws), ..self }
    }

    /// Whether laws are wanted.
    pub(super) fn wants_laws(&self) -> bool {
        self.laws.is_some()
    }

    /// The law of a scale, of each group.
    pub(super) fn law(&mut self, scale: usize, of_groups: &[Law]) {
        if let Some(laws) = &mut self.laws {
            laws[scale] = Some(Law::together(of_groups));
        }
    }

    fn emit(&mut self, event: Event<'_>) -> Option<()> {
        (self.sink)(event).is_continue().then_some(())
    }

    /// The next pass begins.
    pub(super) fn begin_pass(&mut self) -> Option<()> {
        let (pass, passes) = (self.pass, self.passes.len());
        self.emit(Event::PassBegan { pass, passes, of: self.passes[pass] })
    }

    /// The network of the pass ran: `tokens` of each group as they now stand.
    pub(super) fn network_ran(&mut self, tokens: &[Tensor], transformer: Duration) -> Option<()> {
        let sequence = Tensor::cat(tokens, 0);
        self.emit(Event::PassEnded { pass: self.pass, sequence: &sequence, transformer })
    }

    /// The pass is over; what comes belongs to the next one.
    pub(super) fn end_pass(&mut self) {
        self.pass += 1;
    }

    /// Decodes and shows scales of this pass from `first` on, now or later; the `f_hat`s are by
    /// scale, then by group.
    pub(super) fn scales(&mut self, first: usize, f_hats: Vec<Vec<Tensor>>) -> Option<()> {
        let pass = self.pass;
        let pass_is_last = pass + 1 == self.passes.len();
        let mut frames = Undecoded { pass, first, f_hats };
        match self.frames {
            Frames::None => Some(()),
            Frames::Last => {
                if pass_is_last && let Some(last) = frames.f_hats.pop() {
                    let first = first + frames.f_hats.len();
                    self.later = vec![Undecoded { pass, first, f_hats: vec![last] }];
                }
                Some(())
            }
            Frames::InOrder => self.decode(&frames),
            Frames::LastFirst => {
                self.later.push(frames);
                Some(())
            }
        }
    }

    /// Decodes and shows what waits, the finished picture before the others. The laws, if they were
    /// wanted.
    pub(super) fn finish(mut self) -> Option<Vec<Option<Law>>> {
        let mut later = mem::take(&mut self.later);
        if let Some(Undecoded { pass, first, f_hats }) = later.last_mut()
            && let Some(last) = f_hats.pop()
        {
            let frame = Undecoded { pass: *pass, first: *first + f_hats.len(), f_hats: vec![last] };
            self.decode(&frame)?;
        }
        later.iter().try_for_each(|frames| self.decode(frames))?;
        Some(self.laws.unwrap_or_default())
    }

    fn decode(&mut self, frames: &Undecoded) -> Option<()> {
        if self.sampler.runs_whole() {
            return self.decode_together(frames);
        }
        // The first picture is waited for: all threads have their part of it.
        let begins = mem::take(&mut self.nothing_shown) && self.groups == 1;
        let &Undecoded { pass, first, ref f_hats } = frames;
        let (now, then) = f_hats.split_at(usize::from(begins).min(f_hats.len()));
        self.decode_apart(pass, first, now)?;
        self.decode_apart(pass, first + now.len(), then)
    }

    /// Several scales as one batch, for a GPU.
    fn decode_together(
        &mut self,
        &Undecoded { pass, first, ref f_hats }: &Undecoded,
    ) -> Option<()> {
        let sampler = self.sampler;
        let mut scale = first;
        for some in f_hats.chunks((DECODED_AT_ONCE / self.pictures).max(1)) {
            let (pictures, mut decode) = timed(sampler.device, || {
                let all: Vec<&Tensor> = some.iter().flatten().collect();
                sampler.pictures(&Tensor::cat(&all, 0)).chunk(some.len() as i64, 0)
            });
            for pictures in &pictures {
                self.emit(Event::Decoded { pass, scale, pictures, decode })?;
                decode = Duration::ZERO;
                scale += 1;
            }
        }
        Some(())
    }

    /// Each scale of each picture by itself, for a CPU: nothing is gained there by decoding them
    /// together, and threads with a picture each do not wait for one another.
    fn decode_apart(&mut self, pass: usize, first: usize, f_hats: &[Vec<Tensor>]) -> Option<()> {
        let (vae, groups) = (&self.sampler.vae, self.groups);
        let all = f_hats.iter().flatten().collect();
        let (mut scale, mut together) = (first, Vec::with_capacity(groups));
        let mut since = Instant::now();
        parallel::in_order(
            all,
            |f_hat: &Tensor| decoded(vae, f_hat),
            |picture| {
                together.push(picture);
                if together.len() == groups {
                    let pictures = Tensor::cat(&together, 0);
                    together.clear();
                    let (decode, pictures) = (since.elapsed(), &pictures);
                    self.emit(Event::Decoded { pass, scale, pictures, decode })?;
                    scale += 1;
                    since = Instant::now();
                }
                Some(())
            },
        )
    }
}

/// Does work on a device, and says how long it took.
pub(super) fn timed<T>(device: Device, work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let outcome = work();
    // A GPU answers before it has done what it was given.
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
    (outcome, began.elapsed())
}

/// Refuses tokens or pictures with numbers that are infinite or none.
///
/// # Errors
/// [`SampleError::NotFinite`] then, and when the device fails.
pub(super) fn check_finite(numbers: &Tensor) -> Result<(), SampleError> {
    // One such number makes the sum one.
    let sum = numbers.f_sum(Kind::Float)?.f_double_value(&[])?;
    if sum.is_finite() { Ok(()) } else { Err(SampleError::NotFinite) }
}

/// Pictures f32 `[B, 3, side, side]` in 0…1 as bytes: red, green and blue of each pixel, row by
/// row, by `floor(255·x + 0.5)`.
///
/// # Errors
/// [`SampleError::NotFinite`] when one holds numbers that are infinite or none, and when the device
/// fails.
pub fn to_rgb8(pictures: &Tensor) -> Result<Vec<Vec<u8>>, SampleError> {
    check_finite(pictures)?;
    let bytes = (pictures * 255.0 + 0.5).floor().clamp(0.0, 255.0).to_kind(Kind::Uint8);
    let bytes = bytes.permute([0, 2, 3, 1]).contiguous();
    let bytes = download(&bytes);
    (0..bytes.size()[0]).map(|i| Ok(Vec::try_from(bytes.get(i).view([-1]))?)).collect()
}
