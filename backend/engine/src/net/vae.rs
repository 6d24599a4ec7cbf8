//! The multi-scale VQ-VAE (`vqvae.py`): picture ⇄ tokens.

use tch::{Kind, Tensor};

use super::{
    conv::{AttnBlock, Middle, Output, ResnetBlock},
    load::{conv, downsample, upsample},
    quantizer::Quantizer,
};
use crate::{
    config::Config,
    ops::{
        Ops,
        conv::{Conv2d, Downsample, Upsample, prepare},
    },
    weights::Cursor,
};

/// Encoder, quantizer and decoder.
#[derive(Debug)]
pub struct Vae {
    ops: Ops,
    encoder: Encoder,
    quant_conv: Conv2d,
    /// The multi-scale quantizer.
    pub quantize: Quantizer,
    post_quant_conv: Conv2d,
    decoder: Decoder,
}

impl Vae {
    /// Asks for the weights of a VAE of the sizes in `config`.
    pub fn load(root: &Cursor, config: &Config) -> Self {
        let latent = config.latent_channels;
        Self {
            ops: root.ops().clone(),
            encoder: Encoder::load(&root.enter("encoder"), config),
            quant_conv: conv(&root.enter("quant_conv"), latent, latent, 3),
            quantize: Quantizer::load(&root.enter("quantize"), config),
            post_quant_conv: conv(&root.enter("post_quant_conv"), latent, latent, 3),
            decoder: Decoder::load(&root.enter("decoder"), config),
        }
    }

    /// Pictures of `f_hat`, f32 `[B, Cv, p, p]`: f32 `[B, 3, side, side]` in −1…1. What comes out
    /// infinite is no number there: at a bound it would be black or white, and look sound.
    pub fn decode(&self, f_hat: &Tensor) -> Tensor {
        prepare(&self.ops, f_hat.size()[0]);
        let unclamped = self.decode_unclamped(f_hat);
        // 0 for what is finite, else no number: nothing waits for the device.
        let sound = &unclamped * 0.0;
        unclamped.clamp(-1.0, 1.0) + sound
    }

    /// As [`Vae::decode`] without the bounds, beyond which no gradient flows.
    pub fn decode_unclamped(&self, f_hat: &Tensor) -> Tensor {
        self.decoder.forward(&self.post_quant_conv.forward(f_hat))
    }

    /// Latent map of pictures before quantization: `[B, 3, side, side]` in −1…1 to f32
    /// `[B, Cv, p, p]`.
    pub fn encode(&self, pictures: &Tensor) -> Tensor {
        self.quant_conv.forward(&self.encoder.forward(pictures)).to_kind(Kind::Float)
    }

    /// Codeword numbers of pictures, i64 `[B, p_k²]` for every scale `k`.
    pub fn tokenize(&self, pictures: &Tensor) -> Vec<Tensor> {
        self.quantize.encode(&self.encode(pictures))
    }
}

/// Channels of level `level`.
fn channels(config: &Config, level: usize) -> i64 {
    config.vae.channels * config.vae.channel_multipliers[level]
}

/// Res-blocks of one level, each followed by attention at the lowest resolution.
#[derive(Debug)]
struct Level {
    block: Vec<ResnetBlock>,
    attn: Vec<AttnBlock>,
}

impl Level {
    /// Level `level` of `config`, which `from` channels come into.
    fn load(at: &Cursor, config: &Config, level: usize, from: i64, blocks: i64) -> Self {
        let (to, groups) = (channels(config, level), config.vae.norm_groups);
        let attends = level + 1 == config.vae.channel_multipliers.len();
        let block = |i| {
            let from = if i == 0 { from } else { to };
            ResnetBlock::load(&at.enter("block").enter(i), from, to, groups)
        };
        let attn = |i| AttnBlock::load(&at.enter("attn").enter(i), to, groups);
        Self {
            block: (0..blocks).map(block).collect(),
            attn: if attends { (0..blocks).map(attn).collect() } else { Vec::new() },
        }
    }

    fn forward(&self, x: Tensor) -> Tensor {
        self.block.iter().enumerate().fold(x, |x, (i, block)| {
            let x = block.forward(&x);
            self.attn.get(i).map_or(x.shallow_clone(), |attn| attn.forward(&x))
        })
    }
}

#[derive(Debug)]
struct Encoder {
    conv_in: Conv2d,
    down: Vec<(Level, Option<Downsample>)>,
    mid: Middle,
    output: Output,
}

impl Encoder {
    fn load(at: &Cursor, config: &Config) -> Self {
        let last = config.vae.channel_multipliers.len() - 1;
        let down = |level: usize| {
            let at = at.enter("down").enter(level);
            let from = channels(config, level.saturating_sub(1));
            // The multiplier before the first level is 1, whatever the first level's own.
            let from = if level == 0 { config.vae.channels } else { from };
            let blocks = Level::load(&at, config, level, from, config.vae.residual_blocks);
            let halved = || downsample(&at.enter("downsample"), channels(config, level));
            (blocks, (level < last).then(halved))
        };
        Self {
            conv_in: conv(&at.enter("conv_in"), 3, config.vae.channels, 3),
            down: (0..=last).map(down).collect(),
            mid: Middle::load(&at.enter("mid"), channels(config, last), config.vae.norm_groups),
            output: Output::load(
                at,
                channels(config, last),
                config.latent_channels,
                config.vae.norm_groups,
            ),
        }
    }

    fn forward(&self, pictures: &Tensor) -> Tensor {
        let x = self.down.iter().fold(self.conv_in.forward(pictures), |x, (level, downsample)| {
            let x = level.forward(x);
            downsample.as_ref().map_or(x.shallow_clone(), |downsample| downsample.forward(&x))
        });
        self.output.forward(&self.mid.forward(&x))
    }
}

#[derive(Debug)]
struct Decoder {
    conv_in: Conv2d,
    mid: Middle,
    /// By level; run from the last to the first.
    up: Vec<(Level, Option<Upsample>)>,
    output: Output,
}

impl Decoder {
    fn load(at: &Cursor, config: &Config) -> Self {
        let last = config.vae.channel_multipliers.len() - 1;
        let up = |level: usize| {
            let at = at.enter("up").enter(level);
            let from = channels(config, (level + 1).min(last));
            let blocks = Level::load(&at, config, level, from, config.vae.residual_blocks + 1);
            let doubled = || upsample(&at.enter("upsample"), channels(config, level));
            (blocks, (level > 0).then(doubled))
        };
        Self {
            conv_in: conv(&at.enter("conv_in"), config.latent_channels, channels(config, last), 3),
            mid: Middle::load(&at.enter("mid"), channels(config, last), config.vae.norm_groups),
            up: (0..=last).map(up).collect(),
            output: Output::load(at, channels(config, 0), 3, config.vae.norm_groups),
        }
    }

    fn forward(&self, latent: &Tensor) -> Tensor {
        let x = self.mid.forward(&self.conv_in.forward(latent));
        let x = self.up.iter().rev().fold(x, |x, (level, upsample)| {
            let x = level.forward(x);
            upsample.as_ref().map_or(x.shallow_clone(), |upsample| upsample.forward(&x))
        });
        self.output.forward(&x)
    }
}
