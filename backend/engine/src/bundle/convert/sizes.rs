//! The sizes of a model from the shapes of its tensors.
//!
//! A size shows in several tensors, and the one that most of them agree on counts: so one misshaped
//! tensor is refused by its own name, not by those of all the others.

use std::collections::BTreeMap;

use super::ConvertError;
use crate::{
    config::{MAX_TOKENS, RELEASED_NORM_GROUPS, TransformerConfig, VaeConfig},
    input_file::listed,
};

/// Names and shapes of one state dict.
pub(super) type Shapes = BTreeMap<String, Vec<i64>>;

/// Largest width of a transformer and of a VAE level, and most tokens: far beyond any model, and
/// small enough that what a network prepares while it is built fits in memory.
const MAX_CHANNELS: i64 = 16_384;
const MAX_CODEBOOK: i64 = 1 << 28;

/// A state dict and where it is from.
#[derive(Clone, Copy)]
pub(super) struct Dictionary<'a> {
    pub(super) origin: &'a str,
    pub(super) shapes: &'a Shapes,
}

impl Dictionary<'_> {
    /// The refusal of a file in which no tensor shows a size.
    pub(super) fn unknown(self, what: &'static str, looked_at: &str) -> ConvertError {
        ConvertError::Unknown {
            what,
            looked_at: looked_at.to_owned(),
            path: self.origin.to_owned(),
            names: listed(self.shapes.keys().map(String::as_str)),
        }
    }
}

/// The state dicts of a model.
#[derive(Clone, Copy)]
pub(super) struct Model<'a> {
    pub(super) student: Dictionary<'a>,
    pub(super) vae: Dictionary<'a>,
    pub(super) teacher: Option<Dictionary<'a>>,
}

/// Sizes that are read off the tensors.
#[derive(Debug, PartialEq)]
pub(super) struct Sizes {
    pub(super) vocabulary: i64,
    pub(super) latent_channels: i64,
    pub(super) vae: VaeConfig,
    pub(super) transformer: TransformerConfig,
    pub(super) num_classes: i64,
}

/// The most frequent value; of equally frequent ones the first.
fn vote(values: impl IntoIterator<Item = i64>) -> Option<i64> {
    let mut counts: Vec<(i64, usize)> = Vec::new();
    for value in values {
        match counts.iter_mut().find(|(counted, _)| *counted == value) {
            Some((_, count)) => *count += 1,
            None => counts.push((value, 1)),
        }
    }
    let most = counts.iter().map(|&(_, count)| count).max()?;
    counts.iter().find(|&&(_, count)| count == most).map(|&(value, _)| value)
}

/// Sizes of the named axes, where the tensors are there.
fn axes(shapes: &Shapes, places: &[(&str, usize)]) -> Vec<i64> {
    let size = |&(name, axis): &(&str, usize)| shapes.get(name)?.get(axis).copied();
    places.iter().filter_map(size).collect()
}

/// One more than the largest number between `prefix` and `suffix` in a name.
fn count(shapes: &Shapes, prefix: &str, suffix: &str) -> Option<i64> {
    let number =
        |name: &String| name.strip_prefix(prefix)?.strip_suffix(suffix)?.parse::<u16>().ok();
    shapes.keys().filter_map(number).max().map(|largest| i64::from(largest) + 1)
}

impl Model<'_> {
    /// Every size but the scales.
    ///
    /// # Errors
    /// When no tensor shows a size, or one is absurd.
    pub(super) fn sizes(&self) -> Result<Sizes, ConvertError> {
        let transformers = || std::iter::once(self.student).chain(self.teacher);
        let both = |places: &[(&str, usize)]| -> Vec<i64> {
            transformers().flat_map(|network| axes(network.shapes, places)).collect()
        };
        let width = vote(both(&[
            ("pos_start", 2),
            ("pos_1LC", 2),
            ("word_embed.weight", 0),
            ("class_emb.weight", 1),
            ("lvl_embed.weight", 1),
            ("blocks.0.attn.proj.weight", 0),
            ("head.weight", 1),
        ]));
        let vocabulary = both(&[("head.weight", 0), ("head.bias", 0)]);
        let vocabulary = vote(
            vocabulary
                .into_iter()
                .chain(axes(self.vae.shapes, &[("quantize.embedding.weight", 0)])),
        );
        let latent = both(&[
            ("word_embed.weight", 1),
            ("final_layer_conti.linear.weight", 0),
            ("final_layer_conti.linear.bias", 0),
        ]);
        let latent = vote(latent.into_iter().chain(axes(
            self.vae.shapes,
            &[
                ("quantize.embedding.weight", 1),
                ("quant_conv.weight", 0),
                ("post_quant_conv.weight", 0),
                ("decoder.conv_in.weight", 1),
            ],
        )));
        const PARTS: [&str; 5] = [
            ".attn.mat_qkv.weight",
            ".attn.proj.weight",
            ".ffn.fc1.weight",
            ".ffn.fc2.weight",
            ".ada_lin.1.weight",
        ];
        let depth = PARTS.iter().filter_map(|part| count(self.student.shapes, "blocks.", part));
        let known = |what, looked_at, value: Option<i64>| {
            value.ok_or_else(|| self.student.unknown(what, looked_at))
        };
        let depth = known("depth", "blocks.*", vote(depth))?;
        let heads = (0..depth).flat_map(|block| {
            let name = format!("blocks.{block}.attn.scale_mul_1H11");
            both(&[(name.as_str(), 1)])
        });
        let sizes = Sizes {
            vocabulary: known("vocabulary", "head.weight", vocabulary)?,
            latent_channels: known("number of channels", "word_embed.weight", latent)?,
            transformer: TransformerConfig {
                depth,
                width: known("width", "pos_start", width)?,
                heads: known("number of heads", "blocks.*.attn.scale_mul_1H11", vote(heads))?,
            },
            num_classes: known(
                "number of classes",
                "class_emb.weight",
                vote(both(&[("class_emb.weight", 0)])),
            )? - 1,
            vae: self.vae_sizes()?,
        };
        let widest = sizes.vae.channel_multipliers.iter().max().copied().unwrap_or(1);
        for (what, value, limit) in [
            ("width", sizes.transformer.width, MAX_CHANNELS),
            ("number of VAE channels", sizes.vae.channels.saturating_mul(widest), MAX_CHANNELS),
            ("codebook", sizes.vocabulary.saturating_mul(sizes.latent_channels), MAX_CODEBOOK),
        ] {
            if value > limit {
                return Err(ConvertError::Absurd { what, value, limit });
            }
        }
        Ok(sizes)
    }

    fn vae_sizes(&self) -> Result<VaeConfig, ConvertError> {
        let vae = self.vae.shapes;
        let known = |what, looked_at, value: Option<i64>| {
            value.ok_or_else(|| self.vae.unknown(what, looked_at))
        };
        let channels = vote(axes(
            vae,
            &[
                ("encoder.conv_in.weight", 0),
                ("encoder.conv_in.bias", 0),
                ("decoder.conv_out.weight", 1),
                ("decoder.norm_out.weight", 0),
                ("encoder.down.0.block.0.conv1.weight", 1),
            ],
        ));
        let channels = known("number of VAE channels", "encoder.conv_in.weight", channels)?.max(1);
        const PARTS: [&str; 3] =
            [".block.0.conv1.weight", ".block.0.conv2.weight", ".block.0.norm2.weight"];
        let levels = ["encoder.down.", "decoder.up."]
            .iter()
            .flat_map(|prefix| PARTS.map(|part| count(vae, prefix, part)))
            .flatten();
        let levels = known("number of VAE levels", "encoder.down.*", vote(levels))?;
        let mut channel_multipliers = Vec::new();
        let mut blocks = Vec::new();
        for level in 0..levels {
            let mut sizes = Vec::new();
            for prefix in
                [format!("encoder.down.{level}.block."), format!("decoder.up.{level}.block.")]
            {
                for part in ["0.conv1.weight", "0.conv2.weight", "0.norm2.weight", "0.conv2.bias"] {
                    sizes.extend(axes(vae, &[(&format!("{prefix}{part}"), 0)]));
                }
                // A decoder level has one block more than an encoder level.
                let extra = i64::from(prefix.starts_with("decoder"));
                for part in [".conv1.weight", ".conv2.weight"] {
                    blocks.extend(count(vae, &prefix, part).map(|blocks| blocks - extra));
                }
            }
            let size = known(
                "number of channels of a VAE level",
                "encoder.down.*.block.0.conv1.weight",
                vote(sizes),
            )?;
            channel_multipliers.push(size / channels);
        }
        let residual_blocks =
            known("number of VAE blocks", "encoder.down.*.block.*", vote(blocks))?;
        // No tensor shows it; those of the released code all have it.
        let norm_groups = RELEASED_NORM_GROUPS;
        Ok(VaeConfig { channels, channel_multipliers, residual_blocks, norm_groups })
    }

    /// Checks the scales against the positions of student and teacher.
    ///
    /// # Errors
    /// When they have another number of tokens.
    pub(super) fn check_tokens(&self, sides: &[i64]) -> Result<(), ConvertError> {
        let tokens =
            sides.iter().try_fold(0_i64, |sum, side| side.checked_mul(*side)?.checked_add(sum));
        let tokens = tokens.filter(|&tokens| tokens <= MAX_TOKENS).ok_or_else(|| {
            ConvertError::Scales(format!(
                "the scales {sides:?} have more than {MAX_TOKENS} tokens, which is absurd"
            ))
        })?;
        for (network, shapes, extra) in
            [("student", Some(self.student), 1), ("teacher", self.teacher, 0)]
        {
            let positions =
                shapes.and_then(|network| axes(network.shapes, &[("pos_1LC", 1)]).first().copied());
            if let Some(positions) = positions.filter(|&positions| positions != tokens + extra) {
                return Err(ConvertError::Scales(format!(
                    "the scales {sides:?} have {tokens} tokens, so the {network}'s pos_1LC should \
                     have {} positions; it has {positions}",
                    tokens + extra
                )));
            }
        }
        Ok(())
    }
}

/// The sides of the scales from the levels of the positions (`lvl_1L`): level `k` is as long as its
/// side squared. `None` for what is no such list.
pub(super) fn sides_of_levels(levels: &[i64]) -> Option<Vec<i64>> {
    let mut sides = Vec::new();
    for (expected, run) in (0..).zip(levels.chunk_by(|a, b| a == b)) {
        let side = run.len().isqrt();
        if run[0] != expected || side * side != run.len() {
            return None;
        }
        sides.push(side as i64);
    }
    (!sides.is_empty()).then_some(sides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scales_are_read_off_the_levels() {
        assert_eq!(sides_of_levels(&[0, 1, 1, 1, 1]), Some(vec![1, 2]));
        for none in [&[][..], &[1], &[0, 1, 1], &[0, 2], &[0, 0]] {
            assert_eq!(sides_of_levels(none), None, "{none:?}");
        }
    }

    #[test]
    fn the_majority_tells_a_size() {
        assert_eq!(vote([3, 5, 5]), Some(5));
        assert_eq!(vote([3, 5]), Some(3));
        assert_eq!(vote([]), None);
    }
}
