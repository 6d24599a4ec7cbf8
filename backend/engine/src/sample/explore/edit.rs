//! Edit: tokens inside a mask are drawn anew, those outside stay (VAR, section 5.4: zero-shot
//! in-painting and class-conditional editing).

use tch::{Device, Kind, Tensor};

use super::super::{
    frames::{Show, timed},
    sampler::Sampler,
    start::Groups,
    student::{StudentStep, StudentSteps},
};
use crate::config::Config;

/// What stays of a parent while others are drawn: for every group its tokens, and which of them
/// give way.
pub(in crate::sample) struct Kept {
    /// f32 `[b, N, Cv]` of each group.
    tokens: Vec<Tensor>,
    /// Which tokens are drawn anew.
    drawn: Vec<bool>,
    /// The same, `[1, N, 1]`.
    mask: Tensor,
}

impl Kept {
    pub(in crate::sample) fn new(tokens: Vec<Tensor>, drawn: Vec<bool>, device: Device) -> Self {
        let marks: Vec<i64> = drawn.iter().map(|&mark| i64::from(mark)).collect();
        let mask =
            Tensor::from_slice(&marks).to_kind(Kind::Bool).view([1, -1, 1]).to_device(device);
        Self { tokens, drawn, mask }
    }

    /// The tokens of scale `k` of a group: `drawn` ones inside the mask, the parent's outside.
    pub(in crate::sample) fn composed(
        &self,
        group: usize,
        k: usize,
        drawn: &Tensor,
        config: &Config,
    ) -> Tensor {
        let (start, n) = (config.tokens_before(k), config.patch_nums[k].pow(2));
        drawn.where_self(&self.mask.narrow(1, start, n), &self.tokens[group].narrow(1, start, n))
    }

    fn draws(&self, k: usize, config: &Config) -> bool {
        let range = config.tokens_before(k) as usize..config.tokens_before(k + 1) as usize;
        self.drawn[range].contains(&true)
    }
}

/// The student draws inside the mask, one step a scale, each given the scales before it as they
/// then stand. It has never seen such a thing in training: an experiment.
pub(in crate::sample) fn by_student(
    sampler: &Sampler,
    groups: &Groups,
    kept: &Kept,
    loss_split_t: u32,
    show: &mut Show<'_, '_>,
) -> Option<Vec<Tensor>> {
    let (config, quantize) = (&sampler.config, &sampler.vae.quantize);
    let student = StudentSteps::of(sampler, groups, true);
    let mut tokens = groups.no_tokens(sampler);
    let mut f_hats: Vec<Tensor> =
        groups.iter().map(|group| quantize.empty(group.pictures() as i64)).collect();
    for k in 0..config.scales() {
        show.begin_pass()?;
        let step = StudentStep::new(k as u32, loss_split_t);
        let (drawn, time) = timed(sampler.device, || {
            let of_group = |index: usize| {
                if kept.draws(k, config) {
                    kept.composed(index, k, &student.scale(index, step, &tokens[index]), config)
                } else {
                    let n = config.patch_nums[k].pow(2);
                    kept.tokens[index].narrow(1, config.tokens_before(k), n)
                }
            };
            (0..tokens.len()).map(of_group).collect::<Vec<_>>()
        });
        for ((tokens, f_hat), drawn) in tokens.iter_mut().zip(&mut f_hats).zip(&drawn) {
            *f_hat = &*f_hat + quantize.contribution(k, drawn);
            *tokens = Tensor::cat(&[&*tokens, drawn], 1);
        }
        show.network_ran(&tokens, time)?;
        show.scales(k, vec![f_hats.iter().map(Tensor::shallow_clone).collect()])?;
        show.end_pass();
    }
    Some(tokens)
}
