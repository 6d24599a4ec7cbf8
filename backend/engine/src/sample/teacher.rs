//! Steps of the teacher: VAR's `autoregressive_infer_cfg`, and the same after a given prefix as in
//! the released `combine_sample.py`.

use std::{ops::Range, sync::Arc, time::Duration};

use tch::{Kind, Tensor};

use super::{
    explore::{Kept, Law},
    filter::filtered_probs,
    frames::{Show, timed},
    noise::draw,
    plan::Guidance,
    sampler::{Sampler, lost_with},
    start::{Group, Groups},
};
use crate::net::teacher::{Conditioning, Teacher, downsampled_inputs};

/// The teacher on the groups of a batch, with what their classes determine.
pub(super) struct TeacherSteps<'a> {
    sampler: &'a Sampler,
    teacher: &'a Teacher,
    groups: &'a Groups,
    guidance: Guidance,
    conditionings: Vec<Arc<Conditioning>>,
    /// Time that conditioning took; counted with the first step.
    conditioning: Duration,
}

impl<'a> TeacherSteps<'a> {
    /// `None` on a model without a teacher, which no valid batch asks for.
    pub(super) fn of(sampler: &'a Sampler, groups: &'a Groups, guidance: Guidance) -> Option<Self> {
        let teacher = sampler.teacher.as_ref()?;
        let (conditionings, conditioning) = timed(sampler.device, || {
            groups.once_per_classes(|group| guided_condition(teacher, &group.labels))
        });
        Some(Self { sampler, teacher, groups, guidance, conditionings, conditioning })
    }

    /// Draws `scales`, which are not empty, one pass each, given the earlier scales of each group
    /// (codewords, f32 `[b, ≥ K(start), Cv]`): tokens up to the end of `scales`. Of what is `kept`
    /// only the tokens inside its mask give way.
    pub(super) fn run(
        &self,
        before: &[Tensor],
        scales: Range<usize>,
        causal_prefix: bool,
        kept: Option<&Kept>,
        show: &mut Show<'_, '_>,
    ) -> Option<Vec<Tensor>> {
        let Self { sampler, teacher, groups, guidance, .. } = *self;
        let (config, quantize) = (&sampler.config, &sampler.vae.quantize);
        let scale_of = |tokens: &Tensor, k| {
            tokens.narrow(1, config.tokens_before(k), config.patch_nums[k].pow(2))
        };
        let mut tokens: Vec<Tensor> = before
            .iter()
            .map(|tokens| tokens.narrow(1, 0, config.tokens_before(scales.start)))
            .collect();
        let wants_laws = show.wants_laws();
        let mut transformer = self.conditioning;
        let mut progress: Vec<_> = self.conditionings.iter().map(|c| teacher.begin(c)).collect();
        let given: Vec<Vec<Tensor>> = tokens
            .iter()
            .map(|tokens| (0..scales.start).map(|k| scale_of(tokens, k)).collect())
            .collect();
        let mut f_hats: Vec<Tensor> = given
            .iter()
            .zip(groups.iter())
            .map(|(given, group)| {
                let empty = quantize.empty(group.pictures() as i64);
                (0..)
                    .zip(given)
                    .fold(empty, |sum, (k, tokens)| sum + quantize.contribution(k, tokens))
            })
            .collect();
        for k in scales.clone() {
            show.begin_pass()?;
            let first = k == scales.start;
            let mut laws = Vec::new();
            let (drawn, time) = timed(sampler.device, || {
                let of_group = |(index, group): (usize, &Group)| {
                    let (from, inputs) = if first {
                        (0, downsampled_inputs(quantize, &given[index], group.pictures() as i64))
                    } else {
                        (k, vec![quantize.downsample(&f_hats[index], k)])
                    };
                    let both: Vec<Tensor> =
                        inputs.iter().map(|input| Tensor::cat(&[input, input], 0)).collect();
                    let logits =
                        teacher.advance(&mut progress[index], from, &both, causal_prefix && first);
                    let guided = guided_logits(&logits, guidance, k, config.scales());
                    let probs = filtered(&guided, guidance);
                    laws.extend(wants_laws.then(|| Law::of(&probs)));
                    let codewords = quantize.lookup(&draw(&probs, &group.seeds_at(k), k));
                    let drawn = lost_with(&codewords, &guided);
                    match kept {
                        Some(kept) => kept.composed(index, k, &drawn, config),
                        None => drawn,
                    }
                };
                groups.iter().enumerate().map(of_group).collect::<Vec<_>>()
            });
            for ((tokens, f_hat), drawn) in tokens.iter_mut().zip(&mut f_hats).zip(&drawn) {
                *f_hat = &*f_hat + quantize.contribution(k, drawn);
                *tokens = Tensor::cat(&[&*tokens, drawn], 1);
            }
            if wants_laws {
                show.law(k, &laws);
            }
            show.network_ran(&tokens, transformer + time)?;
            transformer = Duration::ZERO;
            show.scales(k, vec![f_hats.iter().map(Tensor::shallow_clone).collect()])?;
            show.end_pass();
        }
        Some(tokens)
    }
}

/// What the teacher needs of some classes, and after them as often of none.
fn guided_condition(teacher: &Teacher, labels: &Tensor) -> Conditioning {
    let none = teacher.unconditional();
    let both = if labels.kind() == Kind::Int64 {
        Tensor::cat(&[labels, &labels.full_like(none)], 0)
    } else {
        // One column more, for the class that stands for none.
        let with = labels.constant_pad_nd([0, 1]);
        let without = with.zeros_like();
        let _ = without.narrow(1, none, 1).fill_(1.0);
        Tensor::cat(&[with, without], 0)
    };
    teacher.condition(&both)
}

/// The teacher's law at scale `k`: logits of the pictures and, after them, of the same without
/// class, `[2B, n, V]`, to probabilities `[B, n, V]` after guidance, top-k and top-p.
pub fn guided_probs(logits: &Tensor, guidance: Guidance, k: usize, scales: usize) -> Tensor {
    filtered(&guided_logits(logits, guidance, k, scales), guidance)
}

/// The logits after guidance, `[B, n, V]`; not finite where one of either half is not.
fn guided_logits(logits: &Tensor, guidance: Guidance, k: usize, scales: usize) -> Tensor {
    let strength = guidance.cfg * k as f64 / (scales - 1) as f64;
    let halves = logits.chunk(2, 0);
    &halves[0] * (1.0 + strength) - &halves[1] * strength
}

fn filtered(guided: &Tensor, guidance: Guidance) -> Tensor {
    filtered_probs(guided, guidance.top_k as usize, guidance.top_p)
}
