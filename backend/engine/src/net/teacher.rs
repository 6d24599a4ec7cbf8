//! The teacher: VAR, next-scale prediction with a key/value cache (`var.py`).

use tch::{Kind, Tensor};

use super::{
    blocks::{Block, LogitsHead, Modulation, for_heads},
    classes::class_embedding,
    load::linear,
    quantizer::Quantizer,
};
use crate::{
    config::Config,
    ops::{
        Ops,
        attention::{Attended, KeyValueCache, additive_mask},
        linear::Linear,
        residual::Stream,
    },
    weights::Cursor,
};

/// The teacher network.
#[derive(Debug)]
pub struct Teacher {
    word_embed: Linear,
    class_emb: Tensor,
    pos_start: Tensor,
    /// `lvl_embed[level] + pos_1LC`, `[1, N, C]`.
    lvl_pos: Tensor,
    blocks: Vec<Block>,
    head: LogitsHead,
    /// A position sees its own and every earlier scale, `[N, N]`.
    mask: Tensor,
    /// `K(k)` for every scale and the end.
    starts: Vec<i64>,
    ops: Ops,
}

/// Everything that depends on the classes alone.
#[derive(Debug)]
pub struct Conditioning {
    /// f32 `[R, C]`, a row a class number given.
    cond: Tensor,
    blocks: Vec<Modulation>,
    head: [Tensor; 2],
}

/// A picture in the making: the positions already run.
#[derive(Debug)]
pub struct Progress<'a> {
    conditioning: &'a Conditioning,
    caches: Vec<KeyValueCache>,
}

impl Teacher {
    /// Asks for the weights of a teacher of the sizes in `config`.
    pub fn load(root: &Cursor, config: &Config) -> Self {
        let (width, depth) = (config.transformer.width, config.transformer.depth);
        let levels: Vec<i64> = (0..)
            .zip(&config.patch_nums)
            .flat_map(|(k, side)| std::iter::repeat_n(k, (side * side) as usize))
            .collect();
        let level = Tensor::from_slice(&levels).to_device(root.device());
        let lvl_embed =
            root.enter("lvl_embed").tensor_f32("weight", &[config.scales() as i64, width]);
        let pos_1lc = root.tensor_f32("pos_1LC", &[1, config.tokens(), width]);
        let class_emb =
            root.enter("class_emb").tensor_f32("weight", &[config.num_classes + 1, width]);
        Self {
            ops: root.ops().clone(),
            word_embed: linear(&root.enter("word_embed"), config.latent_channels, width),
            class_emb,
            pos_start: root.tensor_f32("pos_start", &[1, 1, width]),
            lvl_pos: lvl_embed.index_select(0, &level).unsqueeze(0) + pos_1lc,
            blocks: (0..depth)
                .map(|l| Block::load(&root.enter("blocks").enter(l), config))
                .collect(),
            head: LogitsHead::load(root, config),
            mask: additive_mask(&level.unsqueeze(0).le_tensor(&level.unsqueeze(1)), root.kind()),
            starts: (0..=config.scales()).map(|k| config.tokens_before(k)).collect(),
        }
    }

    /// Number of the class that stands for none.
    pub fn unconditional(&self) -> i64 {
        self.class_emb.size()[0] - 1
    }

    /// Everything that depends on the labels alone: i64 `[R]`, or weights of classes, f32 `[R,
    /// classes]`, the one that stands for none included.
    pub fn condition(&self, labels: &Tensor) -> Conditioning {
        let cond = class_embedding(&self.class_emb, labels); // [R, C]
        let active = cond.silu();
        Conditioning {
            blocks: self.blocks.iter().map(|block| block.adapt(&active)).collect(),
            head: self.head.adapt(&active),
            cond,
        }
    }

    /// Begins pictures of the classes in `conditioning`.
    pub fn begin<'a>(&self, conditioning: &'a Conditioning) -> Progress<'a> {
        let capacity = self.starts[self.starts.len() - 1];
        Progress {
            conditioning,
            caches: self.blocks.iter().map(|_| KeyValueCache::new(capacity)).collect(),
        }
    }

    /// Input of scales `from..=to`: `downsampled[i]` is `f_hat` before scale `from + i` at that
    /// scale's side, f32 `[R, p², Cv]`; that of scale 0 is not looked at, since the class stands
    /// there.
    fn embed(&self, conditioning: &Conditioning, from: usize, downsampled: &[Tensor]) -> Tensor {
        let parts: Vec<Tensor> = (from..)
            .zip(downsampled)
            .map(|(k, tokens)| {
                let x = if k == 0 {
                    conditioning.cond.unsqueeze(1) + &self.pos_start
                } else {
                    self.word_embed.forward(tokens).to_kind(Kind::Float)
                };
                x + self.lvl_pos.narrow(1, self.starts[k], self.starts[k + 1] - self.starts[k])
            })
            .collect();
        Tensor::cat(&parts, 1)
    }

    /// Runs scales `from..` on their inputs (see [`downsampled_inputs`]) and gives the logits of
    /// the last of them, f32 `[R, p², V]`. Earlier scales must have been run. Without `causal`,
    /// positions of one call all see each other, as in the released teacher-involved sampler.
    pub fn advance(
        &self,
        progress: &mut Progress<'_>,
        from: usize,
        downsampled: &[Tensor],
        causal: bool,
    ) -> Tensor {
        let x = self.embed(progress.conditioning, from, downsampled);
        let mut stream = Stream::new(&self.ops, x);
        let (start, end) = (self.starts[from], self.starts[from + downsampled.len()]);
        let attended = if causal {
            Attended::Masked(self.mask.narrow(0, start, end - start).narrow(1, 0, end))
        } else {
            Attended::All
        };
        for ((block, modulation), cache) in
            self.blocks.iter().zip(&progress.conditioning.blocks).zip(&mut progress.caches)
        {
            block.forward(&self.ops, &mut stream, modulation, None, &attended, Some(cache));
        }
        let x = for_heads(stream.end());
        let last =
            self.starts[from + downsampled.len()] - self.starts[from + downsampled.len() - 1];
        let last = x.narrow(1, x.size()[1] - last, last);
        self.head.forward(&self.ops, &last, &progress.conditioning.head)
    }

    /// Logits of every token given the true codes of all scales before its own (teacher forcing):
    /// codes i64 `[B, p_k²]` a scale to f32 `[B, N, V]`. Gradients flow.
    pub fn teacher_forcing(
        &self,
        labels: &Tensor,
        codes: &[Tensor],
        quantize: &Quantizer,
    ) -> Tensor {
        let conditioning = self.condition(labels);
        let vectors: Vec<Tensor> = codes.iter().map(|codes| quantize.lookup(codes)).collect();
        let inputs = downsampled_inputs(quantize, &vectors[..vectors.len() - 1], labels.size()[0]);
        let mut stream = Stream::new(&self.ops, self.embed(&conditioning, 0, &inputs));
        let attended = Attended::Masked(self.mask.shallow_clone());
        for (block, modulation) in self.blocks.iter().zip(&conditioning.blocks) {
            block.forward(&self.ops, &mut stream, modulation, None, &attended, None);
        }
        self.head.forward(&self.ops, &stream.end(), &conditioning.head)
    }
}

/// Inputs of scales `0..=n` from the tokens of scales `0..n`, f32 `[B, p², Cv]` each: `f_hat`
/// before each scale at the scale's side.
pub fn downsampled_inputs(quantize: &Quantizer, tokens: &[Tensor], batch: i64) -> Vec<Tensor> {
    let mut f_hat = quantize.empty(batch);
    let mut inputs = vec![quantize.downsample(&f_hat, 0)];
    for (k, tokens) in tokens.iter().enumerate() {
        f_hat = &f_hat + quantize.contribution(k, tokens);
        inputs.push(quantize.downsample(&f_hat, k + 1));
    }
    inputs
}
