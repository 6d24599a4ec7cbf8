//! What drawing costs in floating-point operations: the floor that measured times are held against.
//!
//! A multiplication with an addition counts as two. Matrix products, attention and convolutions are
//! counted; norms, activations and look-ups, which are bound by memory, are not.

use std::ops::Range;

use super::plan::{PassKind, Plan};
use crate::config::Config;

/// Operations of the transformer for one picture of `plan`, heads included.
pub fn transformer_flops(plan: &Plan, config: &Config) -> f64 {
    let split = plan.loss_split_t();
    let mut given_to_teacher = match *plan {
        Plan::TeacherInvolved { teacher_start, .. } => Some(teacher_start),
        _ => None,
    };
    let passes = config.passes(plan);
    let cost = |pass: &super::plan::Pass| match pass.kind {
        PassKind::Student | PassKind::Draft => {
            student_pass(config, pass.first_scale as usize, split as usize)
        }
        // The first pass of the teacher runs the scales that it was given, too.
        PassKind::Teacher => teacher_pass(config, given_to_teacher.take().is_some(), pass.scales()),
        PassKind::Kept => 0.0,
    };
    passes.iter().map(cost).sum()
}

/// Linear layers and attention of all blocks for `tokens` tokens, of which each sees `seen` on
/// average.
fn blocks(config: &Config, tokens: f64, seen: f64) -> f64 {
    let (depth, width) = (config.transformer.depth as f64, config.transformer.width as f64);
    // q, k, v: 3 C²; projection: C²; feed-forward: 8 C².
    let linear = 24.0 * width * width * tokens;
    let attention = 4.0 * width * tokens * seen;
    depth * (linear + attention)
}

/// A student pass at `t`: class token and all tokens; a token sees all earlier scales and itself.
fn student_pass(config: &Config, t: usize, split: usize) -> f64 {
    let width = config.transformer.width as f64;
    let tokens = config.tokens() as f64;
    let seen: f64 = (0..config.scales())
        .map(|scale| (config.patch_nums[scale].pow(2) * (config.tokens_before(scale) + 2)) as f64)
        .sum();
    let (given, split) = (config.tokens_before(t), config.tokens_before(split));
    let codes = (split - given).max(0) as f64;
    let vectors = (config.tokens() - given.max(split)) as f64;
    let heads =
        2.0 * width * (codes * config.vocabulary as f64 + vectors * config.latent_channels as f64);
    let embedding = 2.0 * width * tokens * config.latent_channels as f64;
    blocks(config, tokens + 1.0, (seen + 1.0) / (tokens + 1.0)) + heads + embedding
}

/// A teacher pass over one scale, with and without class; the first one after a draft has all that
/// was given in it.
fn teacher_pass(config: &Config, with_given: bool, scales: Range<usize>) -> f64 {
    let seen = config.tokens_before(scales.end) as f64;
    let from = if with_given { 0 } else { config.tokens_before(scales.start) };
    let tokens = (config.tokens_before(scales.end) - from) as f64;
    let drawn = (config.tokens_before(scales.end) - config.tokens_before(scales.start)) as f64;
    let head = 2.0 * config.transformer.width as f64 * drawn * config.vocabulary as f64;
    2.0 * (blocks(config, tokens, seen) + head)
}

/// Operations of the VAE's decoder for one frame.
pub fn decoder_flops(config: &Config) -> f64 {
    let latent = config.latent_channels as f64;
    let channels =
        |level: usize| (config.vae.channels * config.vae.channel_multipliers[level]) as f64;
    let levels = config.vae.channel_multipliers.len();
    let mut side = config.patch_nums.last().copied().unwrap_or(0) as f64;
    let conv =
        |side: f64, size: f64, from: f64, to: f64| 2.0 * side * side * size * size * from * to;
    let block = |side: f64, from: f64, to: f64| {
        let shortcut = if from == to { 0.0 } else { conv(side, 1.0, from, to) };
        conv(side, 3.0, from, to) + conv(side, 3.0, to, to) + shortcut
    };
    let attention = |side: f64, width: f64| {
        conv(side, 1.0, width, 3.0 * width)
            + conv(side, 1.0, width, width)
            + 4.0 * side.powi(4) * width
    };
    let mut width = channels(levels - 1);
    let mut flops = conv(side, 3.0, latent, latent) + conv(side, 3.0, latent, width);
    flops += 2.0 * block(side, width, width) + attention(side, width);
    for level in (0..levels).rev() {
        let to = channels(level);
        for _ in 0..=config.vae.residual_blocks {
            flops += block(side, width, to);
            width = to;
            if level == levels - 1 {
                flops += attention(side, width);
            }
        }
        if level > 0 {
            side *= 2.0;
            flops += conv(side, 3.0, width, width);
        }
    }
    flops + conv(side, 3.0, width, 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::published, sample::plan::Guidance};

    #[test]
    fn the_published_decoder_takes_394_gflop() {
        let gflop = decoder_flops(&published::config(16)) / 1e9;
        assert!((gflop - 394.0).abs() < 4.0, "{gflop}");
    }

    #[test]
    fn a_student_pass_of_d16_takes_274_gflop_of_linear_layers_and_some_attention() {
        let plan = Plan::FewStep { t_list: vec![0], loss_split_t: 0 };
        let gflop = transformer_flops(&plan, &published::config(16)) / 1e9;
        assert!((274.0..274.0 + 31.0).contains(&gflop), "{gflop}");
    }

    #[test]
    fn the_teacher_runs_every_token_twice_and_what_it_was_given_once_more() {
        let guidance = Guidance::default();
        let alone = transformer_flops(&Plan::Teacher { guidance }, &published::config(16));
        let student = transformer_flops(
            &Plan::FewStep { t_list: vec![0], loss_split_t: 0 },
            &published::config(16),
        );
        assert!(alone > 1.9 * student && alone < 2.3 * student, "{alone} and {student}");
        let involved = |teacher_start| {
            let plan = Plan::TeacherInvolved {
                t_list: [0, 5],
                loss_split_t: 5,
                teacher_start,
                guidance,
                causal_prefix: false,
            };
            transformer_flops(&plan, &published::config(16))
        };
        assert!(involved(4) > involved(0), "a draft costs a pass");
    }
}
