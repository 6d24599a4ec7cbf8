//! Steps of the student (Distilled Decoding, section 3.3; the released `sample.py`).

use std::{ops::Range, sync::Arc, time::Duration};

use tch::{Kind, Tensor};

use super::{
    explore::Law,
    frames::{Show, timed},
    sampler::{Sampler, lost_with},
    start::{Group, Groups},
};
use crate::{
    net::student::{Conditioning, Hidden},
    parallel,
};

/// On a CPU the first part of a student pass is at least this fraction of all tokens: fewer would
/// wait for the weights nearly as long.
const EARLY_SHARE: i64 = 16;

/// What a student step keeps, and what it makes of the rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct StudentStep {
    /// Tokens of earlier scales are kept.
    pub(super) t: usize,
    /// Tokens of earlier scales become codewords, the others vectors.
    loss_split_t: usize,
    /// Vectors give way to their nearest codewords, as the teacher wants them.
    quantized: bool,
}

impl StudentStep {
    pub(super) fn new(t: u32, loss_split_t: u32) -> Self {
        Self { t: t as usize, loss_split_t: loss_split_t as usize, quantized: false }
    }

    /// The same step with a codeword for every token.
    pub(super) fn quantized(self) -> Self {
        Self { quantized: true, ..self }
    }
}

/// The student on the groups of a batch, with what their classes determine.
pub(super) struct StudentSteps<'a> {
    sampler: &'a Sampler,
    groups: &'a Groups,
    /// Of each group; none where passes run whole, as a function of labels and tokens.
    conditionings: Vec<Arc<Conditioning>>,
}

impl<'a> StudentSteps<'a> {
    /// With `in_parts` passes never run whole, which hides their inner state.
    pub(super) fn of(sampler: &'a Sampler, groups: &'a Groups, in_parts: bool) -> Self {
        let conditionings = if sampler.runs_whole() && !in_parts {
            Vec::new()
        } else {
            groups.once_per_classes(|group| sampler.student.condition(&group.labels))
        };
        Self { sampler, groups, conditionings }
    }

    /// What a step at its scale `t` makes of that scale in one group, given the tokens of the
    /// scales before, f32 `[b, K(t), Cv]`: f32 `[b, p², Cv]`. Nothing is shown.
    pub(super) fn scale(&self, index: usize, step: StudentStep, before: &Tensor) -> Tensor {
        let Self { sampler, groups, ref conditionings } = *self;
        let config = &sampler.config;
        let (given, n) = (config.tokens_before(step.t), config.patch_nums[step.t].pow(2));
        let noise = groups.noise()[index].narrow(1, given, n);
        let input = Tensor::cat(&[before, &noise], 1);
        let conditioning = &conditionings[index];
        // Later scales have no part in this one.
        let hidden = sampler.student.begin(conditioning, given).advance(&input, 0);
        tokens_after(sampler, step, &input, 0, &hidden, conditioning).narrow(1, given, n)
    }

    /// One pass: keeps the first `K(t)` tokens of each group (f32 `[b, ≥ K(t), Cv]`), draws the
    /// others from its noise, and shows the scales from `t` on. The new tokens, f32 `[b, N, Cv]`.
    pub(super) fn run(
        &self,
        step: StudentStep,
        before: &[Tensor],
        show: &mut Show<'_, '_>,
    ) -> Option<Vec<Tensor>> {
        show.begin_pass()?;
        let given = self.sampler.config.tokens_before(step.t);
        let inputs: Vec<Tensor> = self
            .groups
            .iter()
            .zip(before)
            .map(|(Group { noise, .. }, before)| {
                let rest = noise.narrow(1, given, noise.size()[1] - given);
                Tensor::cat(&[before.narrow(1, 0, given), rest], 1)
            })
            .collect();
        let tokens = if self.conditionings.is_empty() {
            self.run_whole(step, &inputs, show)?
        } else {
            self.run_in_parts(step, &inputs, show)?
        };
        show.end_pass();
        Some(tokens)
    }

    /// A few scales first, then the others, with keys and values kept in between.
    fn run_in_parts(
        &self,
        step: StudentStep,
        inputs: &[Tensor],
        show: &mut Show<'_, '_>,
    ) -> Option<Vec<Tensor>> {
        let Self { sampler, groups, ref conditionings } = *self;
        let (config, quantize) = (&sampler.config, &sampler.vae.quantize);
        let given = config.tokens_before(step.t);
        let mut passes: Vec<_> =
            conditionings.iter().map(|c| sampler.student.begin(c, given)).collect();
        let mut tokens = groups.no_tokens(sampler);
        let mut f_hats: Vec<Tensor> =
            groups.iter().map(|group| quantize.empty(group.pictures() as i64)).collect();
        let wants_laws = show.wants_laws();
        let mut transformer = Duration::ZERO;
        for part in self.parts(step.t) {
            let (from, to) = (config.tokens_before(part.start), config.tokens_before(part.end));
            let (outcomes, time) = timed(sampler.device, || {
                let each = passes.iter_mut().zip(inputs).zip(conditionings).collect();
                parallel::each(each, |((pass, input), conditioning)| {
                    let input = input.narrow(1, from, to - from);
                    let hidden = pass.advance(&input, from);
                    let law = wants_laws.then(|| {
                        let logits = sampler.student.logits(&hidden, 0, to - from, conditioning);
                        logits.to_kind(Kind::Float).softmax(-1, Kind::Float)
                    });
                    let drawn = tokens_after(sampler, step, &input, from, &hidden, conditioning);
                    (drawn, law)
                })
            });
            let (drawn, laws): (Vec<Tensor>, Vec<Option<Tensor>>) = outcomes.into_iter().unzip();
            transformer += time;
            for (tokens, drawn) in tokens.iter_mut().zip(&drawn) {
                *tokens = Tensor::cat(&[&*tokens, drawn], 1);
            }
            if part.end == config.scales() {
                show.network_ran(&tokens, transformer)?;
            }
            let mut shown = Vec::with_capacity(part.len());
            for scale in part.clone() {
                let (start, n) =
                    (config.tokens_before(scale) - from, config.patch_nums[scale].pow(2));
                for (f_hat, drawn) in f_hats.iter_mut().zip(&drawn) {
                    *f_hat = &*f_hat + quantize.contribution(scale, &drawn.narrow(1, start, n));
                }
                if wants_laws && scale >= step.t {
                    let of = |probs: &Tensor| Law::of(&probs.narrow(1, start, n));
                    show.law(scale, &laws.iter().flatten().map(of).collect::<Vec<_>>());
                }
                if scale >= step.t {
                    shown.push(f_hats.iter().map(Tensor::shallow_clone).collect());
                }
            }
            show.scales(part.start.max(step.t), shown)?;
        }
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

    /// All scales together, as a function of labels and `inputs` alone.
    fn run_whole(
        &self,
        step: StudentStep,
        inputs: &[Tensor],
        show: &mut Show<'_, '_>,
    ) -> Option<Vec<Tensor>> {
        let sampler = self.sampler;
        let (drawn, transformer) = timed(sampler.device, || {
            let of_group =
                |(group, input): (&Group, &Tensor)| whole_step(sampler, step, &group.labels, input);
            self.groups.iter().zip(inputs).map(of_group).collect::<Vec<_>>()
        });
        let all = |which: usize| drawn.iter().map(|drawn| drawn[which].shallow_clone()).collect();
        let tokens: Vec<Tensor> = all(0);
        show.network_ran(&tokens, transformer)?;
        let scales = step.t..sampler.config.scales();
        show.scales(step.t, scales.map(|scale| all(1 + scale)).collect())?;
        Some(tokens)
    }
}

/// A student step on a sequence `[b, N, Cv]` for labels `[b]`: the new sequence, and the `f_hat`
/// after each scale.
fn whole_step(
    sampler: &Sampler,
    step: StudentStep,
    labels: &Tensor,
    sequence: &Tensor,
) -> Vec<Tensor> {
    let StudentStep { t, loss_split_t, quantized } = step;
    let what =
        format!("the student from scale {t} on, split {loss_split_t}, quantized {quantized}");
    sampler.graphs.run(&what, &[labels, sequence], |inputs| {
        let conditioning = sampler.student.condition(&inputs[0]);
        let given = sampler.config.tokens_before(t);
        let hidden = sampler.student.forward(&inputs[1], given, &conditioning);
        let tokens = tokens_after(sampler, step, &inputs[1], 0, &hidden, &conditioning);
        let f_hats = sampler.vae.quantize.partial_sums(&tokens);
        std::iter::once(tokens).chain(f_hats).collect()
    })
}

/// What a student step makes of tokens `[b, n, Cv]`, which are those from `from` on: before
/// `K(loss_split_t)` codewords, from there on vectors. Kept tokens become their nearest codewords
/// before the split and stay after it. Heads run only over tokens whose answer is used.
fn tokens_after(
    sampler: &Sampler,
    step: StudentStep,
    input: &Tensor,
    from: i64,
    hidden: &Hidden,
    conditioning: &Conditioning,
) -> Tensor {
    let n = input.size()[1];
    let here = |scale| (sampler.config.tokens_before(scale) - from).clamp(0, n);
    let (given, split) = (here(step.t), here(step.loss_split_t));
    let mut parts = Vec::with_capacity(4);
    if given.min(split) > 0 {
        parts.push(sampler.quantized(&input.narrow(1, 0, given.min(split))));
    }
    if given > split {
        let kept = input.narrow(1, split, given - split);
        parts.push(if step.quantized { sampler.quantized(&kept) } else { kept });
    }
    if split > given {
        let logits = sampler.student.logits(hidden, given, split, conditioning);
        let codewords = sampler.vae.quantize.lookup(&logits.argmax(-1, false));
        parts.push(lost_with(&codewords, &logits));
    }
    if given.max(split) < n {
        let vectors = sampler.student.vectors(hidden, given.max(split), n, conditioning);
        parts.push(if step.quantized { sampler.quantized(&vectors) } else { vectors });
    }
    Tensor::cat(&parts, 1)
}
