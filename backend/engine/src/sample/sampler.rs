//! The three ways of drawing: few-step student, teacher-involved, and the teacher alone.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use tch::{Device, Kind, Tensor};

use super::{
    filter::filtered_probs,
    noise::{PictureSeed, draw},
    plan::{Guidance, Pass, Plan, PlanError},
};
use crate::{
    bundle::config::Config,
    net::{
        student::{self, Student},
        teacher::{Progress, Teacher, downsampled_inputs},
        vae::Vae,
    },
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

/// What happens while a batch is drawn, in order.
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
    /// The network ran; its pictures follow.
    PassEnded {
        /// Pass, from 0.
        pass: usize,
        /// Tokens as they now stand, f32 `[B, n, Cv]`: all after a student pass, those drawn so far after a teacher's.
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
        "this plan needs the teacher, and model {0:?} has none; convert it with --teacher, or choose a few-step plan"
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

/// Stops a run: the sink said so.
struct Stopped;

impl Sampler {
    /// Draws a batch and gives its final tokens, f32 `[B, N, Cv]`; `None` if the sink said stop.
    ///
    /// # Errors
    /// When plan, labels or noise do not fit the model. Failures of the device surface as panics of the tensor library.
    pub fn run(
        &self,
        plan: &Plan,
        batch: &Batch,
        sink: &mut Sink<'_>,
    ) -> Result<Option<Tensor>, SampleError> {
        self.check(plan, batch)?;
        let _no_grad = tch::no_grad_guard();
        let labels = batch.labels.to_device(self.device);
        let noise = batch.noise.map(|noise| noise.to_device(self.device));
        let mut run = Run {
            sampler: self,
            batch,
            labels: &labels,
            noise: noise.as_ref(),
            sink,
            passes: plan.passes(self.config.scales()),
            pass: 0,
        };
        Ok(run.plan(plan).ok())
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
                return Err(SampleError::Shape { what: "noise", found, expected: format!("{expected:?}") });
            }
        }
        if plan.needs_teacher() && batch.seeds.len() as i64 != pictures {
            let found = vec![batch.seeds.len() as i64];
            return Err(SampleError::Shape { what: "seeds", found, expected: format!("[{pictures}]") });
        }
        Ok(())
    }

    /// Pictures of an `f_hat`, f32 `[B, Cv, p, p]`: f32 `[B, 3, side, side]` in 0…1.
    pub fn pictures(&self, f_hat: &Tensor) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        (self.vae.decode(f_hat) + 1.0) * 0.5
    }
}

/// One batch on its way.
struct Run<'a, 'b> {
    sampler: &'a Sampler,
    batch: &'a Batch<'a>,
    labels: &'a Tensor,
    noise: Option<&'a Tensor>,
    sink: &'a mut Sink<'b>,
    passes: Vec<Pass>,
    pass: usize,
}

impl Run<'_, '_> {
    fn plan(&mut self, plan: &Plan) -> Result<Tensor, Stopped> {
        match *plan {
            Plan::FewStep { ref t_list, loss_split_t } => {
                let conditioning = self.sampler.student.condition(self.labels);
                let mut sequence = self.noise().shallow_clone();
                for &t in t_list {
                    sequence = self.student_pass(t, loss_split_t, &sequence, &conditioning, false)?;
                }
                Ok(sequence)
            }
            Plan::TeacherInvolved {
                t_list: [a, b],
                loss_split_t,
                teacher_start,
                guidance,
                causal_prefix,
            } => {
                let conditioning = self.sampler.student.condition(self.labels);
                let draft = if teacher_start > 0 {
                    let noise = self.noise().shallow_clone();
                    Some(self.student_pass(a, loss_split_t, &noise, &conditioning, true)?)
                } else {
                    None
                };
                let sequence =
                    self.teacher_passes(draft.as_ref(), teacher_start..b, guidance, causal_prefix)?;
                if b == self.sampler.config.scales() {
                    return Ok(sequence);
                }
                self.student_pass(b, loss_split_t, &sequence, &conditioning, false)
            }
            Plan::Teacher { guidance } => {
                self.teacher_passes(None, 0..self.sampler.config.scales(), guidance, false)
            }
        }
    }

    /// The batch's noise; `check` made sure that there is one wherever the student runs.
    fn noise(&self) -> &Tensor {
        self.noise.unwrap_or(self.labels)
    }

    fn tell(&mut self, event: Event<'_>) -> Result<(), Stopped> {
        if (self.sink)(event).is_break() { Err(Stopped) } else { Ok(()) }
    }

    fn begin_pass(&mut self) -> Result<Instant, Stopped> {
        let of = self.passes[self.pass].clone();
        self.tell(Event::PassBegan { pass: self.pass, passes: self.passes.len(), of: &of })?;
        Ok(Instant::now())
    }

    fn end_pass(&mut self, began: Instant, sequence: &Tensor) -> Result<(), Stopped> {
        finish_work(self.sampler.device);
        self.tell(Event::PassEnded { pass: self.pass, sequence, transformer: began.elapsed() })
    }

    fn decoded(&mut self, scale: usize, f_hat: &Tensor) -> Result<(), Stopped> {
        let began = Instant::now();
        let pictures = self.sampler.pictures(f_hat);
        finish_work(self.sampler.device);
        self.tell(Event::Decoded { pass: self.pass, scale, pictures: &pictures, decode: began.elapsed() })
    }

    /// One student step at scale `t`: keeps the first `K(t)` tokens of `sequence`, draws the others from noise.
    fn student_pass(
        &mut self,
        t: usize,
        loss_split_t: usize,
        sequence: &Tensor,
        conditioning: &student::Conditioning,
        quantized: bool,
    ) -> Result<Tensor, Stopped> {
        let began = self.begin_pass()?;
        let next = self.sampler.student_step(t, loss_split_t, sequence, self.noise(), conditioning);
        // A draft's vectors give way to their nearest codewords; its codewords stay as they are.
        let next = if quantized { self.sampler.quantized(&next) } else { next };
        self.end_pass(began, &next)?;
        let f_hats = self.sampler.vae.quantize.partial_sums(&next);
        for (scale, f_hat) in f_hats.iter().enumerate().skip(t) {
            self.decoded(scale, f_hat)?;
        }
        self.pass += 1;
        Ok(next)
    }

    /// The teacher over `scales`, given the earlier scales of `draft`: tokens up to the end of `scales`.
    fn teacher_passes(
        &mut self,
        draft: Option<&Tensor>,
        scales: std::ops::Range<usize>,
        guidance: Guidance,
        causal_prefix: bool,
    ) -> Result<Tensor, Stopped> {
        let sampler = self.sampler;
        let (config, quantize) = (&sampler.config, &sampler.vae.quantize);
        let batch = self.labels.size()[0];
        let scale_of =
            |draft: &Tensor, k| draft.narrow(1, config.tokens_before(k), config.patch_nums[k].pow(2));
        let mut tokens: Vec<Tensor> =
            draft.map(|draft| (0..scales.start).map(|k| scale_of(draft, k)).collect()).unwrap_or_default();
        if let (Some(teacher), false) = (&sampler.teacher, scales.is_empty()) {
            let mut began = self.begin_pass()?;
            let without_class = self.labels.full_like(teacher.unconditional());
            let mut progress: Progress =
                teacher.begin(teacher.condition(&Tensor::cat(&[self.labels, &without_class], 0)));
            let mut f_hat = tokens
                .iter()
                .enumerate()
                .fold(quantize.empty(batch), |sum, (k, tokens)| sum + quantize.contribution(k, tokens));
            for k in scales.clone() {
                if k > scales.start {
                    began = self.begin_pass()?;
                }
                let (from, inputs) = if k == scales.start {
                    (0, downsampled_inputs(quantize, &tokens, batch))
                } else {
                    (k, vec![quantize.downsample(&f_hat, k)])
                };
                let both: Vec<Tensor> = inputs.iter().map(|input| Tensor::cat(&[input, input], 0)).collect();
                let logits = teacher.advance(&mut progress, from, &both, causal_prefix && k == scales.start);
                let probs = guided_probs(&logits, guidance, k, config.scales());
                let codes = draw(&probs, self.batch.seeds, k);
                let drawn = quantize.lookup(&codes);
                f_hat += quantize.contribution(k, &drawn);
                tokens.push(drawn);
                self.end_pass(began, &Tensor::cat(&tokens, 1))?;
                self.decoded(k, &f_hat)?;
                self.pass += 1;
            }
        }
        Ok(Tensor::cat(&tokens, 1))
    }
}

impl Sampler {
    /// One student step at scale `t` without its pictures: tokens f32 `[B, n ≥ K(t), Cv]` and the noise `[B, N, Cv]` to
    /// tokens `[B, N, Cv]`. Scales before `loss_split_t` become codewords, the others regressed vectors; heads run
    /// only over tokens whose answer is used.
    pub fn student_step(
        &self,
        t: usize,
        loss_split_t: usize,
        sequence: &Tensor,
        noise: &Tensor,
        conditioning: &student::Conditioning,
    ) -> Tensor {
        let (given, split, n) =
            (self.config.tokens_before(t), self.config.tokens_before(loss_split_t), self.config.tokens());
        let quantize = &self.vae.quantize;
        let kept = sequence.narrow(1, 0, given);
        let hidden = self.student.forward(
            &Tensor::cat(&[&kept, &noise.narrow(1, given, n - given)], 1),
            given,
            conditioning,
        );
        let mut parts = Vec::with_capacity(4);
        let kept_codes = given.min(split);
        if kept_codes > 0 {
            parts.push(self.quantized(&kept.narrow(1, 0, kept_codes)));
        }
        if given > split {
            parts.push(kept.narrow(1, split, given - split));
        }
        if split > given {
            let logits = self.student.logits(&hidden, given, split, conditioning);
            parts.push(quantize.lookup(&logits.argmax(-1, false)));
        }
        let regressed_from = given.max(split);
        if regressed_from < n {
            parts.push(self.student.vectors(&hidden, regressed_from, n, conditioning));
        }
        Tensor::cat(&parts, 1)
    }

    /// Every token replaced by its nearest codeword.
    pub fn quantized(&self, tokens: &Tensor) -> Tensor {
        let quantize = &self.vae.quantize;
        quantize.lookup(&quantize.nearest(tokens))
    }
}

/// The teacher's law at scale `k`: logits of the pictures and, after them, of the same without class, `[2B, n, V]`, to
/// probabilities `[B, n, V]` after guidance, top-k and top-p.
pub fn guided_probs(logits: &Tensor, guidance: Guidance, k: usize, scales: usize) -> Tensor {
    let strength = guidance.cfg * k as f64 / (scales - 1) as f64;
    let halves = logits.chunk(2, 0);
    let guided = &halves[0] * (1.0 + strength) - &halves[1] * strength;
    filtered_probs(&guided, guidance.top_k, guidance.top_p)
}

/// Pictures f32 `[B, 3, side, side]` in 0…1 as bytes: red, green and blue of each pixel, row by row, by
/// `floor(255·x + 0.5)`.
///
/// # Errors
/// When the device fails.
pub fn to_rgb8(pictures: &Tensor) -> Result<Vec<Vec<u8>>, SampleError> {
    let bytes = (pictures * 255.0 + 0.5).floor().clamp(0.0, 255.0).to_kind(Kind::Uint8);
    let bytes = bytes.permute([0, 2, 3, 1]).contiguous().to_device(Device::Cpu);
    (0..bytes.size()[0]).map(|i| Ok(Vec::try_from(bytes.get(i).view([-1]))?)).collect()
}

/// Waits for a GPU, so that times are those of the work and not of its queueing.
fn finish_work(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}
