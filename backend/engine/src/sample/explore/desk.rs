//! The scale desk: a gain for what each scale adds.

use std::{ops::Range, time::Duration};

use tch::Tensor;

use super::super::{
    frames::Show,
    sampler::{Sampler, rows_of},
};

/// Shows the scales of tokens f32 `[B, N, Cv]` as one pass: up to scale `k` the picture of
/// `Σ_{j≤k} g_j φ(h_j)`. Gains of one leave every bit as it is.
pub(in crate::sample) fn show(
    sampler: &Sampler,
    tokens: &Tensor,
    scales: Range<usize>,
    gains: Option<&[f64]>,
    show: &mut Show<'_, '_>,
) -> Option<()> {
    let (config, quantize) = (&sampler.config, &sampler.vae.quantize);
    show.begin_pass()?;
    show.network_ran(std::slice::from_ref(tokens), Duration::ZERO)?;
    let rows: Vec<_> =
        sampler.rows_together(tokens.size()[0]).map(|rows| rows_of(tokens, &rows)).collect();
    let mut f_hats: Vec<Tensor> =
        rows.iter().map(|tokens| quantize.empty(tokens.size()[0])).collect();
    let mut shown = Vec::new();
    for k in 0..scales.end {
        let (start, n) = (config.tokens_before(k), config.patch_nums[k].pow(2));
        for (f_hat, tokens) in f_hats.iter_mut().zip(&rows) {
            let added = quantize.contribution(k, &tokens.narrow(1, start, n));
            *f_hat = &*f_hat + added * gains.map_or(1.0, |gains| gains[k]);
        }
        if k >= scales.start {
            shown.push(f_hats.iter().map(Tensor::shallow_clone).collect());
        }
    }
    show.scales(scales.start, shown)?;
    show.end_pass();
    Some(())
}
