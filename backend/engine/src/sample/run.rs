//! The three ways of drawing: few-step student, teacher-involved, and the teacher alone.

use std::{
    mem,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use tch::{Device, Tensor};

use super::{
    noise::{PictureSeed, draw},
    plan::{Guidance, Pass, Plan},
    sampler::{Batch, Event, Frames, Sampler, Sink, decoded, guided_probs, rows_of},
};
use crate::{
    net::{
        student::{Conditioning, Hidden},
        teacher::{Teacher, downsampled_inputs},
    },
    parallel,
};

/// Most pictures that a GPU decodes at once, several scales of a pass together.
const DECODED_AT_ONCE: usize = 16;

/// On a CPU the first part of a student pass is at least this fraction of all tokens: fewer would
/// wait for the weights nearly as long.
const EARLY_SHARE: i64 = 16;

/// One batch on its way. `None` as an answer means that the sink said stop.
pub(super) struct Run<'a, 'b> {
    sampler: &'a Sampler,
    groups: Vec<Group>,
    sink: &'a mut Sink<'b>,
    frames: Frames,
    /// What waits to be decoded after the last frame.
    later: Vec<Undecoded>,
    passes: Vec<Pass>,
    pass: usize,
    nothing_shown: bool,
}

/// Scales of a pass, from `first` on, that are drawn: the `f_hat`s by scale, then by group.
struct Undecoded {
    pass: usize,
    first: usize,
    f_hats: Vec<Vec<Tensor>>,
}

/// Pictures that run through the networks together.
struct Group {
    /// i64 `[b]`.
    labels: Tensor,
    classes: Vec<i64>,
    /// f32 `[b, N, Cv]`; empty where no student runs.
    noise: Tensor,
    seeds: Vec<PictureSeed>,
}

/// A student step.
#[derive(Clone, Copy)]
struct Step {
    /// Tokens of earlier scales are kept.
    t: usize,
    /// Tokens of earlier scales become codewords, the others vectors.
    loss_split_t: usize,
    /// Vectors give way to their nearest codewords, as the teacher wants them.
    quantized: bool,
}

impl<'a, 'b> Run<'a, 'b> {
    /// A run of `plan`; plan and batch fit the model.
    pub(super) fn new(
        sampler: &'a Sampler,
        plan: &Plan,
        batch: &Batch,
        frames: Frames,
        sink: &'a mut Sink<'b>,
    ) -> Self {
        let labels = batch.labels.to_device(Device::Cpu);
        let device = sampler.device;
        let group = |rows: Range<i64>| {
            let labels = rows_of(&labels, &rows);
            Group {
                classes: labels.iter::<i64>().map(Iterator::collect).unwrap_or_default(),
                labels: labels.to_device(device),
                noise: batch
                    .noise
                    .map_or_else(Tensor::new, |noise| rows_of(noise, &rows).to_device(device)),
                // A plan without teacher needs no seeds.
                seeds: batch
                    .seeds
                    .get(rows.start as usize..rows.end as usize)
                    .unwrap_or_default()
                    .to_vec(),
            }
        };
        let groups = sampler.rows_together(labels.size()[0]).map(group).collect();
        let passes = plan.passes(sampler.config.scales());
        Self {
            sampler,
            groups,
            sink,
            frames,
            later: Vec::new(),
            passes,
            pass: 0,
            nothing_shown: true,
        }
    }

    /// Runs the plan: the final tokens of each group, f32 `[b, N, Cv]`.
    pub(super) fn plan(&mut self, plan: &Plan) -> Option<Vec<Tensor>> {
        let tokens = self.passes(plan)?;
        let mut later = std::mem::take(&mut self.later);
        if let Some(Undecoded { pass, first, f_hats }) = later.last_mut()
            && let Some(last) = f_hats.pop()
        {
            let frame = Undecoded { pass: *pass, first: *first + f_hats.len(), f_hats: vec![last] };
            self.decode(&frame)?;
        }
        later.iter().try_for_each(|frames| self.decode(frames))?;
        Some(tokens)
    }

    fn passes(&mut self, plan: &Plan) -> Option<Vec<Tensor>> {
        let scales = self.sampler.config.scales();
        match *plan {
            Plan::FewStep { ref t_list, loss_split_t } => {
                let conditionings = self.condition();
                let mut tokens = self.noise();
                for &t in t_list {
                    let step = Step { t, loss_split_t, quantized: false };
                    tokens = self.student_pass(step, &tokens, &conditionings)?;
                }
                Some(tokens)
            }
            Plan::TeacherInvolved {
                t_list: [a, b],
                loss_split_t,
                teacher_start,
                guidance,
                causal_prefix,
            } => {
                let conditionings = self.condition();
                let mut tokens = self.noise();
                if teacher_start > 0 {
                    let step = Step { t: a, loss_split_t, quantized: true };
                    tokens = self.student_pass(step, &tokens, &conditionings)?;
                }
                tokens = self.teacher_passes(&tokens, teacher_start..b, guidance, causal_prefix)?;
                if b < scales {
                    let step = Step { t: b, loss_split_t, quantized: false };
                    tokens = self.student_pass(step, &tokens, &conditionings)?;
                }
                Some(tokens)
            }
            Plan::Teacher { guidance } => {
                let nothing: Vec<_> =
                    self.groups.iter().map(|group| self.no_tokens(group)).collect();
                self.teacher_passes(&nothing, 0..scales, guidance, false)
            }
        }
    }

    fn noise(&self) -> Vec<Tensor> {
        self.groups.iter().map(|group| group.noise.shallow_clone()).collect()
    }

    fn no_tokens(&self, group: &Group) -> Tensor {
        let shape = [group.classes.len() as i64, 0, self.sampler.config.latent_channels];
        Tensor::empty(shape, (tch::Kind::Float, self.sampler.device))
    }

    /// What the classes determine in the student, once for groups of the same classes; nothing
    /// where passes run whole.
    fn condition(&self) -> Vec<Arc<Conditioning>> {
        if self.sampler.runs_whole() {
            return Vec::new();
        }
        self.per_classes(|group| self.sampler.student.condition(&group.labels))
    }

    fn per_classes<T>(&self, make: impl Fn(&Group) -> T) -> Vec<Arc<T>> {
        let mut made: Vec<Arc<T>> = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let same =
                self.groups[..made.len()].iter().position(|other| other.classes == group.classes);
            made.push(same.map_or_else(|| Arc::new(make(group)), |index| made[index].clone()));
        }
        made
    }

    fn tell(&mut self, event: Event<'_>) -> Option<()> {
        (self.sink)(event).is_continue().then_some(())
    }

    fn begin_pass(&mut self) -> Option<()> {
        let of = self.passes[self.pass].clone();
        self.tell(Event::PassBegan { pass: self.pass, passes: self.passes.len(), of: &of })
    }

    fn end_pass(&mut self, tokens: &[Tensor], transformer: Duration) -> Option<()> {
        let sequence = Tensor::cat(tokens, 0);
        self.tell(Event::PassEnded { pass: self.pass, sequence: &sequence, transformer })
    }

    /// Time of some work on the device.
    fn timed<T>(&self, work: impl FnOnce() -> T) -> (T, Duration) {
        let began = Instant::now();
        let outcome = work();
        // A GPU answers before it has done what it was given.
        if let Device::Cuda(index) = self.sampler.device {
            tch::Cuda::synchronize(index as i64);
        }
        (outcome, began.elapsed())
    }

    /// Decodes and shows scales of this pass from `first` on, now or later; the `f_hat`s are by
    /// scale, then by group.
    fn show(&mut self, first: usize, f_hats: Vec<Vec<Tensor>>) -> Option<()> {
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

    fn decode(&mut self, frames: &Undecoded) -> Option<()> {
        if self.sampler.runs_whole() {
            return self.decode_together(frames);
        }
        // The first picture is waited for: all threads have their part of it.
        let begins = mem::take(&mut self.nothing_shown) && self.groups.len() == 1;
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
        let batch: usize = self.groups.iter().map(|group| group.classes.len()).sum();
        let mut scale = first;
        for some in f_hats.chunks((DECODED_AT_ONCE / batch).max(1)) {
            let sampler = self.sampler;
            let (pictures, mut decode) = self.timed(|| {
                let all: Vec<&Tensor> = some.iter().flatten().collect();
                sampler.pictures(&Tensor::cat(&all, 0)).chunk(some.len() as i64, 0)
            });
            for pictures in &pictures {
                self.tell(Event::Decoded { pass, scale, pictures, decode })?;
                decode = Duration::ZERO;
                scale += 1;
            }
        }
        Some(())
    }

    /// Each scale of each picture by itself, for a CPU: nothing is gained there by decoding them
    /// together, and threads with a picture each do not wait for one another.
    fn decode_apart(&mut self, pass: usize, first: usize, f_hats: &[Vec<Tensor>]) -> Option<()> {
        let (vae, groups) = (&self.sampler.vae, self.groups.len());
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
                    self.tell(Event::Decoded { pass, scale, pictures, decode })?;
                    scale += 1;
                    since = Instant::now();
                }
                Some(())
            },
        )
    }

    /// One student pass: keeps the first `K(t)` tokens of each group, draws the others from its
    /// noise.
    fn student_pass(
        &mut self,
        step: Step,
        before: &[Tensor],
        conditionings: &[Arc<Conditioning>],
    ) -> Option<Vec<Tensor>> {
        self.begin_pass()?;
        let sampler = self.sampler;
        let (config, quantize) = (&sampler.config, &sampler.vae.quantize);
        let given = config.tokens_before(step.t);
        let inputs: Vec<Tensor> = self
            .groups
            .iter()
            .zip(before)
            .map(|(Group { noise, .. }, before)| {
                let rest = noise.narrow(1, given, noise.size()[1] - given);
                Tensor::cat(&[before.narrow(1, 0, given), rest], 1)
            })
            .collect();
        if sampler.runs_whole() {
            return self.whole_student_pass(step, &inputs);
        }
        let mut passes: Vec<_> =
            conditionings.iter().map(|c| sampler.student.begin(c, given)).collect();
        let mut tokens: Vec<Tensor> =
            self.groups.iter().map(|group| self.no_tokens(group)).collect();
        let mut f_hats: Vec<Tensor> =
            self.groups.iter().map(|group| quantize.empty(group.classes.len() as i64)).collect();
        let mut transformer = Duration::ZERO;
        for part in self.parts(step.t) {
            let (from, to) = (config.tokens_before(part.start), config.tokens_before(part.end));
            let (drawn, time) = self.timed(|| {
                let each = passes.iter_mut().zip(&inputs).zip(conditionings).collect();
                parallel::each(each, |((pass, input), conditioning)| {
                    let input = input.narrow(1, from, to - from);
                    let hidden = pass.advance(&input, from);
                    sampler.tokens_after(step, &input, from, &hidden, conditioning)
                })
            });
            transformer += time;
            for (tokens, drawn) in tokens.iter_mut().zip(&drawn) {
                *tokens = Tensor::cat(&[&*tokens, drawn], 1);
            }
            if part.end == config.scales() {
                self.end_pass(&tokens, transformer)?;
            }
            let mut shown = Vec::with_capacity(part.len());
            for scale in part.clone() {
                let (start, n) =
                    (config.tokens_before(scale) - from, config.patch_nums[scale].pow(2));
                for (f_hat, drawn) in f_hats.iter_mut().zip(&drawn) {
                    *f_hat = &*f_hat + quantize.contribution(scale, &drawn.narrow(1, start, n));
                }
                if scale >= step.t {
                    shown.push(f_hats.iter().map(Tensor::shallow_clone).collect());
                }
            }
            self.show(part.start.max(step.t), shown)?;
        }
        self.pass += 1;
        Some(tokens)
    }

    /// A student pass that labels and `inputs` alone determine, all scales together.
    fn whole_student_pass(&mut self, step: Step, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let sampler = self.sampler;
        let (drawn, transformer) = self.timed(|| {
            let of_group =
                |(group, input): (&Group, &Tensor)| sampler.whole_step(step, &group.labels, input);
            self.groups.iter().zip(inputs).map(of_group).collect::<Vec<_>>()
        });
        let all = |which: usize| drawn.iter().map(|drawn| drawn[which].shallow_clone()).collect();
        let tokens: Vec<Tensor> = all(0);
        self.end_pass(&tokens, transformer)?;
        self.show(step.t, (step.t..sampler.config.scales()).map(|scale| all(1 + scale)).collect())?;
        self.pass += 1;
        Some(tokens)
    }

    /// The scales that a student pass runs together on a CPU. Where a pass takes long, the first
    /// few tokens run before the others, so that the first pictures come early: decoding those
    /// takes longer than all the other tokens, and more parts would fetch all weights more often.
    fn parts(&self, t: usize) -> Vec<Range<usize>> {
        let config = &self.sampler.config;
        let scales = config.scales();
        let first =
            (t + 1..scales).find(|&end| config.tokens_before(end) * EARLY_SHARE >= config.tokens());
        match first {
            Some(first) => vec![0..first, first..scales],
            None => std::iter::once(0..scales).collect(),
        }
    }

    /// The teacher over `scales`, given the earlier scales of each group: tokens up to the end of
    /// `scales`.
    fn teacher_passes(
        &mut self,
        before: &[Tensor],
        scales: Range<usize>,
        guidance: Guidance,
        causal_prefix: bool,
    ) -> Option<Vec<Tensor>> {
        let sampler = self.sampler;
        let (config, quantize) = (&sampler.config, &sampler.vae.quantize);
        let scale_of = |tokens: &Tensor, k| {
            tokens.narrow(1, config.tokens_before(k), config.patch_nums[k].pow(2))
        };
        let mut tokens: Vec<Tensor> = before
            .iter()
            .map(|tokens| tokens.narrow(1, 0, config.tokens_before(scales.start)))
            .collect();
        let (Some(teacher), false) = (&sampler.teacher, scales.is_empty()) else {
            return Some(tokens);
        };
        self.begin_pass()?;
        let (conditionings, mut transformer) =
            self.timed(|| self.per_classes(|group| guided_condition(teacher, &group.labels)));
        let mut progress: Vec<_> = conditionings.iter().map(|c| teacher.begin(c)).collect();
        let given: Vec<Vec<Tensor>> = tokens
            .iter()
            .map(|tokens| (0..scales.start).map(|k| scale_of(tokens, k)).collect())
            .collect();
        let mut f_hats: Vec<Tensor> = given
            .iter()
            .zip(&self.groups)
            .map(|(given, group)| {
                let empty = quantize.empty(group.classes.len() as i64);
                (0..)
                    .zip(given)
                    .fold(empty, |sum, (k, tokens)| sum + quantize.contribution(k, tokens))
            })
            .collect();
        for k in scales.clone() {
            let first = k == scales.start;
            if !first {
                self.begin_pass()?;
            }
            let (drawn, time) = self.timed(|| {
                let of_group = |(index, group): (usize, &Group)| {
                    let (from, inputs) = if first {
                        (0, downsampled_inputs(quantize, &given[index], group.classes.len() as i64))
                    } else {
                        (k, vec![quantize.downsample(&f_hats[index], k)])
                    };
                    let both: Vec<Tensor> =
                        inputs.iter().map(|input| Tensor::cat(&[input, input], 0)).collect();
                    let logits =
                        teacher.advance(&mut progress[index], from, &both, causal_prefix && first);
                    let probs = guided_probs(&logits, guidance, k, config.scales());
                    quantize.lookup(&draw(&probs, &group.seeds, k))
                };
                self.groups.iter().enumerate().map(of_group).collect::<Vec<_>>()
            });
            for ((tokens, f_hat), drawn) in tokens.iter_mut().zip(&mut f_hats).zip(&drawn) {
                *f_hat = &*f_hat + quantize.contribution(k, drawn);
                *tokens = Tensor::cat(&[&*tokens, drawn], 1);
            }
            self.end_pass(&tokens, transformer + time)?;
            transformer = Duration::ZERO;
            self.show(k, vec![f_hats.iter().map(Tensor::shallow_clone).collect()])?;
            self.pass += 1;
        }
        Some(tokens)
    }
}

impl Sampler {
    /// Whether all scales of a student pass run together: a GPU wants all its work at once, and as
    /// a graph where it can.
    fn runs_whole(&self) -> bool {
        self.device != Device::Cpu || self.graphs.wanted()
    }

    /// A student step on a sequence `[b, N, Cv]` for labels `[b]`: the new sequence, and the
    /// `f_hat` after each scale.
    fn whole_step(&self, step: Step, labels: &Tensor, sequence: &Tensor) -> Vec<Tensor> {
        let Step { t, loss_split_t, quantized } = step;
        let what =
            format!("the student from scale {t} on, split {loss_split_t}, quantized {quantized}");
        self.graphs.run(&what, &[labels, sequence], |inputs| {
            let conditioning = self.student.condition(&inputs[0]);
            let hidden =
                self.student.forward(&inputs[1], self.config.tokens_before(t), &conditioning);
            let tokens = self.tokens_after(step, &inputs[1], 0, &hidden, &conditioning);
            let f_hats = self.vae.quantize.partial_sums(&tokens);
            std::iter::once(tokens).chain(f_hats).collect()
        })
    }

    /// What a student step makes of tokens `[b, n, Cv]`, which are those from `from` on: before
    /// `K(loss_split_t)` codewords, from there on vectors. Kept tokens become their nearest
    /// codewords before the split and stay after it. Heads run only over tokens whose answer is
    /// used.
    fn tokens_after(
        &self,
        step: Step,
        input: &Tensor,
        from: i64,
        hidden: &Hidden,
        conditioning: &Conditioning,
    ) -> Tensor {
        let n = input.size()[1];
        let here = |scale| (self.config.tokens_before(scale) - from).clamp(0, n);
        let (given, split) = (here(step.t), here(step.loss_split_t));
        let mut parts = Vec::with_capacity(4);
        if given.min(split) > 0 {
            parts.push(self.quantized(&input.narrow(1, 0, given.min(split))));
        }
        if given > split {
            let kept = input.narrow(1, split, given - split);
            parts.push(if step.quantized { self.quantized(&kept) } else { kept });
        }
        if split > given {
            let logits = self.student.logits(hidden, given, split, conditioning);
            parts.push(self.vae.quantize.lookup(&logits.argmax(-1, false)));
        }
        if given.max(split) < n {
            let vectors = self.student.vectors(hidden, given.max(split), n, conditioning);
            parts.push(if step.quantized { self.quantized(&vectors) } else { vectors });
        }
        Tensor::cat(&parts, 1)
    }
}

/// What the teacher needs of some classes, and after them as often of none.
fn guided_condition(teacher: &Teacher, labels: &Tensor) -> crate::net::teacher::Conditioning {
    let without_class = labels.full_like(teacher.unconditional());
    teacher.condition(&Tensor::cat(&[labels, &without_class], 0))
}
