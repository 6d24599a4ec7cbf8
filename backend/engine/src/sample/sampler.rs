//! The networks of a model, ready to draw.

use std::{
    ops::{ControlFlow, Range},
    time::Duration,
};

use tch::{Device, Kind, Tensor};

use super::{
    filter::filtered_probs,
    noise::PictureSeed,
    plan::{Guidance, Pass, Plan, PlanError},
    run::Run,
};
use crate::{
    bundle::config::Config,
    device::{self, download},
    graphs::Graphs,
    net::{student::Student, teacher::Teacher, vae::Vae},
    parallel::Alone,
};

/// The networks of a model on one device, ready to draw.
#[derive(Debug)]
pub struct Sampler {
    /// Sizes and names.
    pub config: Config,
    /// The student.
    pub student: Student,
    /// The teacher, if the model carries one.
    pub teacher: Option<Teacher>,
    /// Tokens to pictures and back.
    pub vae: Vae,
    /// Where the weights are.
    pub device: Device,
    /// Weights of the student.
    pub parameters: u64,
    /// Student passes and decoding as graphs, on a GPU.
    pub graphs: Graphs,
}

/// What to draw.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Class numbers, i64 `[B]`.
    pub labels: &'a Tensor,
    /// Starting noise, f32 `[B, N, Cv]`; not looked at by [`Plan::Teacher`].
    pub noise: Option<&'a Tensor>,
    /// Seeds of the teacher's draws, one a picture.
    pub seeds: &'a [PictureSeed],
}

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
        of: &'a Pass,
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

/// A batch that cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The plan does not fit the model.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan needs a teacher.
    #[error(
        "this plan needs the teacher, and model {0:?} has none; convert it with --teacher, or \
         choose a few-step plan"
    )]
    NoTeacher(String),
    /// Inputs of the wrong shape.
    #[error("{what} is {found:?}; it must be {expected}")]
    Shape {
        /// Which input.
        what: &'static str,
        /// Its shape.
        found: Vec<i64>,
        /// What it should be.
        expected: String,
    },
    /// Pictures with numbers that are none.
    #[error(
        "the drawn picture holds numbers that are infinite or no numbers; the model's weights are \
         damaged, or --dtype f16 is too narrow for them (bf16 and f32 are not)"
    )]
    NotFinite,
    /// A class number that there is none of.
    #[error("class {class} is out of range; the model has {classes} classes, 0 to {}", classes - 1)]
    Class {
        /// The number.
        class: i64,
        /// Classes of the model.
        classes: i64,
    },
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(#[from] tch::TchError),
}

impl Sampler {
    /// Draws a batch and gives its final tokens, f32 `[B, N, Cv]`; `None` if the sink said stop.
    ///
    /// On a CPU each picture runs for itself, which costs next to nothing there: a picture is then
    /// the same to the last bit whatever shares its batch. On a GPU the batch runs as one.
    ///
    /// # Errors
    /// When plan, labels or noise do not fit the model. Failures of the device surface as panics of
    /// the tensor library.
    pub fn run(
        &self,
        plan: &Plan,
        batch: &Batch,
        frames: Frames,
        sink: &mut Sink<'_>,
    ) -> Result<Option<Tensor>, SampleError> {
        self.check(plan, batch)?;
        let _no_grad = tch::no_grad_guard();
        let _alone = self.alone();
        let tokens = Run::new(self, plan, batch, frames, sink).plan(plan);
        Ok(tokens.map(|tokens| Tensor::cat(&tokens, 0)))
    }

    fn check(&self, plan: &Plan, batch: &Batch) -> Result<(), SampleError> {
        plan.validate(self.config.scales())?;
        if plan.needs_teacher() && self.teacher.is_none() {
            return Err(SampleError::NoTeacher(self.config.name.clone()));
        }
        let labels = batch.labels.size();
        let pictures = match labels[..] {
            [n] if n > 0 => n,
            _ => {
                return Err(SampleError::Shape {
                    what: "labels",
                    found: labels,
                    expected: "[B] with B at least 1".into(),
                });
            }
        };
        let classes = self.config.num_classes;
        let outside = |class: &&i64| !(0..classes).contains(*class);
        if let Some(&class) = Vec::<i64>::try_from(batch.labels)?.iter().find(outside) {
            return Err(SampleError::Class { class, classes });
        }
        if !matches!(plan, Plan::Teacher { .. }) {
            let expected = [pictures, self.config.tokens(), self.config.latent_channels];
            let found = batch.noise.map(Tensor::size).unwrap_or_default();
            if found != expected {
                return Err(SampleError::Shape {
                    what: "noise",
                    found,
                    expected: format!("{expected:?}"),
                });
            }
        }
        if plan.needs_teacher() && batch.seeds.len() as i64 != pictures {
            let found = vec![batch.seeds.len() as i64];
            return Err(SampleError::Shape {
                what: "seeds",
                found,
                expected: format!("[{pictures}]"),
            });
        }
        Ok(())
    }

    /// `f_hat` after every scale of a sequence, f32 `[B, N, Cv]`: one `[B, Cv, p, p]` a scale.
    pub fn f_hats(&self, sequence: &Tensor) -> Vec<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let _alone = self.alone();
        let sequence = sequence.to_device(self.device);
        let each: Vec<Vec<Tensor>> = self
            .rows_together(sequence.size()[0])
            .map(|rows| self.vae.quantize.partial_sums(&rows_of(&sequence, &rows)))
            .collect();
        (0..self.config.scales())
            .map(|scale| {
                Tensor::cat(&each.iter().map(|f_hats| &f_hats[scale]).collect::<Vec<_>>(), 0)
            })
            .collect()
    }

    /// Pictures of an `f_hat`, f32 `[B, Cv, p, p]`: f32 `[B, 3, side, side]` in 0…1.
    pub fn pictures(&self, f_hat: &Tensor) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let _alone = self.alone();
        let each: Vec<Tensor> = self
            .rows_together(f_hat.size()[0])
            .flat_map(|rows| {
                let decode = |inputs: &[Tensor]| vec![decoded(&self.vae, &inputs[0])];
                self.graphs.run("the decoder", &[&rows_of(f_hat, &rows)], decode)
            })
            .collect();
        if let [all] = &each[..] { all.shallow_clone() } else { Tensor::cat(&each, 0) }
    }

    /// Every token replaced by its nearest codeword.
    pub fn quantized(&self, tokens: &Tensor) -> Tensor {
        let quantize = &self.vae.quantize;
        quantize.lookup(&quantize.nearest(tokens))
    }

    /// While what this gives lives, libtorch runs on one thread here and the engine's own threads
    /// share out the work; not for large models, whose single operations want all threads.
    pub(super) fn alone(&self) -> Option<Alone> {
        let small = self.device == Device::Cpu && !device::is_large(&self.config);
        small.then(Alone::here)
    }

    /// The rows of a batch that run together.
    pub(super) fn rows_together(&self, batch: i64) -> impl Iterator<Item = Range<i64>> + use<> {
        let step = if self.device == Device::Cpu { 1 } else { batch.max(1) };
        (0..batch).step_by(step as usize).map(move |start| start..(start + step).min(batch))
    }
}

/// Pictures in 0…1 of an `f_hat`.
pub(super) fn decoded(vae: &Vae, f_hat: &Tensor) -> Tensor {
    (vae.decode(f_hat) + 1.0) * 0.5
}

/// Some rows of a tensor, as a tensor of their own: rounding may depend on where in memory numbers
/// lie.
pub(super) fn rows_of(tensor: &Tensor, rows: &Range<i64>) -> Tensor {
    if *rows == (0..tensor.size()[0]) {
        return tensor.contiguous();
    }
    tensor.narrow(0, rows.start, rows.end - rows.start).copy()
}

/// The teacher's law at scale `k`: logits of the pictures and, after them, of the same without
/// class, `[2B, n, V]`, to probabilities `[B, n, V]` after guidance, top-k and top-p.
pub fn guided_probs(logits: &Tensor, guidance: Guidance, k: usize, scales: usize) -> Tensor {
    let strength = guidance.cfg * k as f64 / (scales - 1) as f64;
    let halves = logits.chunk(2, 0);
    let guided = &halves[0] * (1.0 + strength) - &halves[1] * strength;
    filtered_probs(&guided, guidance.top_k, guidance.top_p)
}

/// Pictures f32 `[B, 3, side, side]` in 0…1 as bytes: red, green and blue of each pixel, row by
/// row, by `floor(255·x + 0.5)`.
///
/// # Errors
/// When the device fails.
pub fn to_rgb8(pictures: &Tensor) -> Result<Vec<Vec<u8>>, SampleError> {
    // One number that is none makes the sum none; infinities end at the decoder's bounds.
    if !pictures.f_sum(Kind::Float)?.f_double_value(&[])?.is_finite() {
        return Err(SampleError::NotFinite);
    }
    let bytes = (pictures * 255.0 + 0.5).floor().clamp(0.0, 255.0).to_kind(Kind::Uint8);
    let bytes = bytes.permute([0, 2, 3, 1]).contiguous();
    let bytes = download(&bytes);
    (0..bytes.size()[0]).map(|i| Ok(Vec::try_from(bytes.get(i).view([-1]))?)).collect()
}
