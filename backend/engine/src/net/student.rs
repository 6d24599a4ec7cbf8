//! The Distilled Decoding student: all tokens of all scales in one pass (`dd.py` of the released
//! code).

use tch::{Device, Kind, Tensor};

use super::{
    blocks::{Block, LogitsHead, Modulation, for_heads},
    classes::class_embedding,
    load::linear,
};
use crate::{
    config::Config,
    ops::{
        Ops,
        attention::{Attended, KeyValueCache, additive_mask},
        is_fixed,
        linear::Linear,
        residual::{Stream, norm},
    },
    weights::Cursor,
};

/// Rows of `n_d_embed`.
const NOISE: i64 = 0;
const DATA: i64 = 1;

/// The student network.
#[derive(Debug)]
pub struct Student {
    word_embed: Linear,
    class_emb: Tensor,
    pos_start: Tensor,
    /// `lvl_embed[level] + pos_1LC`, `[1, L, C]`.
    lvl_pos: Tensor,
    n_d_embed: Tensor,
    layerwise_n_d_embed: Vec<Linear>,
    /// What those make of `n_d_embed`, where neither is learnt.
    noise_data: Option<Vec<Tensor>>,
    blocks: Vec<Block>,
    head: LogitsHead,
    final_layer_conti: FinalLayer,
    /// `[L, L]`.
    mask: Tensor,
    /// First position of each level, and `L`.
    bounds: Vec<i64>,
    ops: Ops,
}

/// `final_layer_conti`: vectors of the latent space.
#[derive(Debug)]
struct FinalLayer {
    scale_shift_table: Tensor,
    linear: Linear,
}

/// What the class determines; the same for every pass of a batch.
#[derive(Debug)]
pub struct Conditioning {
    /// `class_emb[y]`, f32 `[B, C]`.
    cond: Tensor,
    blocks: Vec<Modulation>,
    head: [Tensor; 2],
    /// `layerwise_n_d_embed[l]` of the two rows of `n_d_embed`, f32 `[2, C]` each; independent of
    /// the class.
    noise_data: Vec<Tensor>,
}

/// A pass on its way.
#[derive(Debug)]
pub struct StudentPass<'a> {
    student: &'a Student,
    conditioning: &'a Conditioning,
    given: i64,
    /// Keys and values of each block; none where a pass runs all scales at once.
    caches: Option<Vec<KeyValueCache>>,
}

/// Last hidden state of the tokens just run, before the heads; the class position is dropped.
#[derive(Debug)]
pub struct Hidden {
    /// f32 `[B, n, C]`.
    h: Tensor,
}

impl Student {
    /// Asks for the weights of a student of the sizes in `config`.
    pub fn load(root: &Cursor, config: &Config) -> Self {
        let (width, depth, latent) =
            (config.transformer.width, config.transformer.depth, config.latent_channels);
        let positions = config.tokens() + 1;
        let levels = levels(config);
        let level = Tensor::from_slice(&levels).to_device(root.device());
        let lvl_embed =
            root.enter("lvl_embed").tensor_f32("weight", &[config.scales() as i64 + 1, width]);
        let pos_1lc = root.tensor_f32("pos_1LC", &[1, positions, width]);
        let final_layer = root.enter("final_layer_conti");
        // A position sees every earlier level, and itself; not the rest of its own scale.
        let earlier = level.unsqueeze(0).lt_tensor(&level.unsqueeze(1));
        let itself = Tensor::eye(positions, (Kind::Bool, root.device()));
        let class_emb =
            root.enter("class_emb").tensor_f32("weight", &[config.num_classes + 1, width]);
        let n_d_embed = root.enter("n_d_embed").tensor_f32("weight", &[2, width]);
        let layerwise_n_d_embed: Vec<Linear> = (0..=depth)
            .map(|l| linear(&root.enter("layerwise_n_d_embed").enter(l), width, width))
            .collect();
        let bounds: Vec<i64> = std::iter::once(0)
            .chain((0..=config.scales()).map(|k| config.tokens_before(k) + 1))
            .collect();
        Self {
            ops: root.ops().clone(),
            word_embed: linear(&root.enter("word_embed"), latent, width),
            class_emb,
            pos_start: root.tensor_f32("pos_start", &[1, 1, width]),
            lvl_pos: lvl_embed.index_select(0, &level).unsqueeze(0) + pos_1lc,
            noise_data: is_fixed(&n_d_embed).then(|| noise_data(&layerwise_n_d_embed, &n_d_embed)),
            n_d_embed,
            layerwise_n_d_embed,
            blocks: (0..depth)
                .map(|l| Block::load(&root.enter("blocks").enter(l), config))
                .collect(),
            head: LogitsHead::load(root, config),
            final_layer_conti: FinalLayer {
                scale_shift_table: final_layer.tensor_f32("scale_shift_table", &[2, width]),
                linear: linear(&final_layer.enter("linear"), width, latent),
            },
            mask: additive_mask(&earlier.logical_or(&itself), root.kind()),
            bounds,
        }
    }

    /// Everything that depends on the labels alone: i64 `[B]`, or weights of classes, f32 `[B,
    /// classes]`.
    pub fn condition(&self, labels: &Tensor) -> Conditioning {
        let cond = class_embedding(&self.class_emb, labels); // [B, C]
        let active = cond.silu();
        let noise_data = match &self.noise_data {
            Some(known) => known.iter().map(Tensor::shallow_clone).collect(),
            None => noise_data(&self.layerwise_n_d_embed, &self.n_d_embed),
        };
        Conditioning {
            blocks: self.blocks.iter().map(|block| block.adapt(&active)).collect(),
            noise_data,
            head: self.head.adapt(&active),
            cond,
        }
    }

    /// Runs the network on a sequence, f32 `[B, N, Cv]`, whose first `given` tokens are data and
    /// the rest noise.
    pub fn forward(&self, sequence: &Tensor, given: i64, conditioning: &Conditioning) -> Hidden {
        StudentPass { student: self, conditioning, given, caches: None }.advance(sequence, 0)
    }

    /// Begins a pass that runs the scales one after another; the first `given` tokens are data and
    /// the rest noise.
    ///
    /// A scale depends on earlier scales alone, so the outcome is that of [`Student::forward`] up
    /// to rounding.
    pub fn begin<'a>(&'a self, conditioning: &'a Conditioning, given: i64) -> StudentPass<'a> {
        let capacity = self.lvl_pos.size()[1];
        let caches = self.blocks.iter().map(|_| KeyValueCache::new(capacity)).collect();
        StudentPass { student: self, conditioning, given, caches: Some(caches) }
    }

    /// Logits of tokens `from..to` of those just run, f32 `[B, to − from, V]`.
    pub fn logits(
        &self,
        hidden: &Hidden,
        from: i64,
        to: i64,
        conditioning: &Conditioning,
    ) -> Tensor {
        self.head.forward(&self.ops, &hidden.h.narrow(1, from, to - from), &conditioning.head)
    }

    /// Regressed vectors of tokens `from..to` of those just run, f32 `[B, to − from, Cv]`.
    pub fn vectors(
        &self,
        hidden: &Hidden,
        from: i64,
        to: i64,
        conditioning: &Conditioning,
    ) -> Tensor {
        let FinalLayer { scale_shift_table, linear } = &self.final_layer_conti;
        // [B, 2, C]
        let modulation = scale_shift_table.unsqueeze(0) + conditioning.cond.unsqueeze(1);
        let (shift, scale) = (modulation.narrow(1, 0, 1), modulation.narrow(1, 1, 1));
        let h = hidden.h.narrow(1, from, to - from);
        let normed = norm(&self.ops, &h, [&scale, &shift], linear.kind());
        linear.forward(&normed).to_kind(Kind::Float)
    }

    /// What positions `start..end`, which are whole levels, attend to.
    fn attended(&self, start: i64, end: i64, learns: bool) -> Attended<'_> {
        if self.mask.device() == Device::Cpu && !learns {
            let at = |bound| self.bounds.partition_point(|&position| position < bound);
            Attended::EarlierLevels(&self.bounds[at(start)..=at(end)])
        } else {
            Attended::Masked(self.mask.narrow(0, start, end - start).narrow(1, 0, end))
        }
    }

    /// 1 for the class position and the given tokens, 0 after: i64 `[L]`.
    fn flags(&self, given: i64) -> Tensor {
        let flags =
            Tensor::full([self.lvl_pos.size()[1]], NOISE, (Kind::Int64, self.lvl_pos.device()));
        let _ = flags.narrow(0, 0, given + 1).fill_(DATA);
        flags
    }
}

impl StudentPass<'_> {
    /// Runs the tokens of the next scales, f32 `[B, n, Cv]`; `from` tokens have been run before.
    /// The class position runs with the first ones.
    pub fn advance(&mut self, tokens: &Tensor, from: i64) -> Hidden {
        let Self { student, conditioning, given, .. } = *self;
        let n = tokens.size()[1];
        let embedded = student.word_embed.forward(tokens).to_kind(Kind::Float); // [B, n, C]
        let (embedded, start) = if from == 0 {
            let class = conditioning.cond.unsqueeze(1) + &student.pos_start; // [B, 1, C]
            (Tensor::cat(&[class, embedded], 1), 0)
        } else {
            (embedded, from + 1)
        };
        let (end, l) = (from + 1 + n, from + 1 + n - start);
        let flags = student.flags(given).narrow(0, start, l);
        let attended = student.attended(start, end, embedded.requires_grad());
        let x = embedded
            + student.lvl_pos.narrow(1, start, l)
            + student.n_d_embed.index_select(0, &flags);
        let mut stream = Stream::new(&student.ops, x);
        for (i, block) in student.blocks.iter().enumerate() {
            let noise_data = conditioning.noise_data[i].index_select(0, &flags); // [l, C]
            let cache = self.caches.as_mut().and_then(|caches| caches.get_mut(i));
            block.forward(
                &student.ops,
                &mut stream,
                &conditioning.blocks[i],
                Some(&noise_data),
                &attended,
                cache,
            );
        }
        let h =
            stream.end() + conditioning.noise_data[student.blocks.len()].index_select(0, &flags);
        Hidden { h: for_heads(h).narrow(1, l - n, n) }
    }
}

/// `layerwise_n_d_embed[l]` of the two rows of `n_d_embed`, f32 `[2, C]` each.
fn noise_data(layerwise_n_d_embed: &[Linear], n_d_embed: &Tensor) -> Vec<Tensor> {
    let each = |linear: &Linear| linear.forward(n_d_embed).to_kind(Kind::Float);
    layerwise_n_d_embed.iter().map(each).collect()
}

/// Level of each position: 0 for the class, `k + 1` for tokens of scale `k`.
fn levels(config: &Config) -> Vec<i64> {
    let scale =
        |(k, side): (usize, &i64)| std::iter::repeat_n(k as i64 + 1, (side * side) as usize);
    std::iter::once(0).chain(config.patch_nums.iter().enumerate().flat_map(scale)).collect()
}
