//! What a run is made of: sizes of the model and the settings of every stage.

use serde::{Deserialize, Serialize};

use super::{OptimizerRecipe, TrainError, discriminator::DiscriminatorRecipe, pictures};
use crate::{
    config::published,
    config::{Config, TransformerConfig, VaeConfig},
    sample::plan::{Guidance, Plan, PlanPreset},
};

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the model.
    pub name: String,
    /// Seed of all randomness.
    pub seed: u64,
    /// Sizes of the model.
    pub sizes: Sizes,
    /// How much of their range sizes, places and poses in the drawn pictures take, 0 to 1; see
    /// [`pictures::draw`].
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub variety: f64,
    /// The VAE's training.
    pub vae: VaeRecipe,
    /// The teacher's training.
    pub teacher: TeacherRecipe,
    /// The pairs of noise and tokens.
    pub trajectories: TrajectoryRecipe,
    /// The student's training.
    pub student: StudentRecipe,
    /// How the decoder learns on at the end, by the VAE's losses; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<DecoderRecipe>,
    /// The judge's training.
    pub judge: JudgeRecipe,
}

/// Sizes of the model, as in a bundle's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Side of each scale's token map.
    pub patch_nums: Vec<i64>,
    /// Codewords.
    pub vocabulary: i64,
    /// Channels of a codeword.
    pub latent_channels: i64,
    /// The VAE.
    pub vae: VaeConfig,
    /// Teacher and student.
    pub transformer: TransformerConfig,
    /// Kinds of scenes, the first so many of [`pictures::CLASSES`].
    pub num_classes: i64,
}

/// Steps of a stage and what happens between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// Steps in all.
    pub steps: u64,
    /// Examples in a step.
    pub batch: usize,
    /// How weights follow gradients.
    pub optimizer: OptimizerRecipe,
    /// Steps from one look at held-out data (figures and a contact sheet) to the next.
    pub examine_every: u64,
    /// Steps from one checkpoint to the next.
    pub checkpoint_every: u64,
}

/// The VAE's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeRecipe {
    /// Steps.
    pub run: Steps,
    /// Weight of the distance of codewords and latents that moves the encoder; that which moves the
    /// codewords has 1.
    pub commitment: f64,
    /// Weight of the difference of neighbouring pixels' differences.
    pub gradient_loss: f64,
    /// Weight of how different pictures look to a classifier of drawn pictures, which is trained
    /// first; 0 is without.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub look_loss: f64,
    /// How much of each codeword's mean of the latents nearest to it a step keeps (van den Oord et
    /// al. 2017, appendix A.1). At 0 codewords follow gradients instead.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub codebook_averaging: f64,
    /// A discriminator of the decoder's pictures; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discriminator: Option<DiscriminatorRecipe>,
    /// Share of pictures that the decoder sees from a prefix of the scales, so that frames on the
    /// way are pictures too.
    pub prefix_share: f64,
    /// Steps from one revival of dead codewords to the next.
    pub revive_every: u64,
    /// Steps after which no codeword is revived.
    pub revive_until: u64,
    /// Held-out pictures that figures are of.
    pub held_out: usize,
}

/// How the decoder learns on, by the VAE's losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderRecipe {
    /// Steps.
    pub run: Steps,
    /// A discriminator of its pictures, another one than the VAE's; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discriminator: Option<DiscriminatorRecipe>,
    /// Share of pictures that it sees from a prefix of the scales.
    pub prefix_share: f64,
}

/// The teacher's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherRecipe {
    /// Steps.
    pub run: Steps,
    /// Drawn pictures that it learns.
    pub pictures: u64,
    /// Share of examples whose class it is not told, for guidance.
    pub class_dropout: f64,
    /// Held-out pictures that figures are of.
    pub held_out: usize,
}

/// The pairs of noise and tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrajectoryRecipe {
    /// Pairs in all.
    pub pairs: u64,
    /// Pairs in a file.
    pub shard: u64,
    /// Pairs made together.
    pub batch: usize,
    /// Solver steps.
    pub flow_steps: usize,
    /// The teacher's law.
    pub guidance: Guidance,
}

/// The student's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudentRecipe {
    /// Steps.
    pub run: Steps,
    /// Second entry of `t_list`; scales before it are given in part of the examples.
    pub second_step: usize,
    /// Share of examples in which they are.
    pub second_share: f64,
    /// `loss_split_t` of the model's plans, which draw codes before this scale and vectors from it
    /// on; `second_step` where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<usize>,
    /// Weight of the cross-entropy.
    pub code_loss: f64,
    /// Weight of the squared error of vectors, relative to the codewords' variance.
    pub vector_loss: f64,
    /// Weight of the squared error of the last `f_hat`, relative to its variance.
    pub sum_loss: f64,
    /// How much more a token of a small scale counts: `n^-balance` where a scale has `n` tokens.
    pub balance: f64,
    /// How much a token counts for the head that does not draw its scale in the model's plans: for
    /// vectors before the split, for codes from there on. A plan with another split shows them,
    /// so it is above 0; with 1 both heads learn all scales the same.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub other_head: f64,
    /// Steps that show the first scales alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<PrefixRecipe>,
    /// Pairs that are held out for figures.
    pub held_out: u64,
}

/// Steps of the student that show the first scales alone, of as many more pairs as cost the same. A
/// scale sees no later one, so what is learnt of these is the same; and all that a picture shows
/// depends on them, though they are few of its tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixRecipe {
    /// Scales that they show.
    pub scales: usize,
    /// Share of the steps.
    pub share: f64,
    /// Pairs of their own, whose trajectories are followed through these scales alone; with 0 they
    /// show the others' first scales.
    #[serde(default, skip_serializing_if = "is_none_at_all")]
    pub pairs: u64,
}

impl PrefixRecipe {
    /// How many examples of the first scales alone have as many tokens as a whole one.
    pub(super) fn for_one(&self, config: &Config) -> u64 {
        (config.tokens() / config.tokens_before(self.scales)) as u64
    }
}

pub(super) fn one() -> f64 {
    1.0
}

pub(super) fn is_one(value: &f64) -> bool {
    *value == 1.0
}

impl StudentRecipe {
    /// The first scale that the model's plans draw as vectors.
    pub(super) fn split(&self) -> usize {
        self.split.unwrap_or(self.second_step)
    }

    /// The first scales that have pairs of their own.
    pub(super) fn own_prefix(&self) -> Option<&PrefixRecipe> {
        self.prefix.as_ref().filter(|prefix| prefix.pairs > 0)
    }
}

fn is_none_at_all(count: &u64) -> bool {
    *count == 0
}

/// The judge's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeRecipe {
    /// Steps.
    pub run: Steps,
    /// Channels of each level, which halves the side; the last are the features.
    pub channels: Vec<i64>,
    /// Held-out pictures that figures are of.
    pub held_out: usize,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

/// Names of the built-in recipes.
pub const PRESETS: [&str; 2] = ["demo", "smoke"];

fn optimizer(learning_rate: f64, warmup: u64, averaging: f64) -> OptimizerRecipe {
    OptimizerRecipe {
        learning_rate,
        warmup,
        weight_decay: 0.05,
        betas: [0.9, 0.95],
        clip: 2.0,
        averaging,
    }
}

impl Recipe {
    /// A built-in recipe.
    ///
    /// `demo` is the model that the repository is to carry: 128×128 pictures in the ten published
    /// scales; half a day on two CPU cores, or minutes on a GPU. `smoke` runs the whole chain in a
    /// minute or two and learns next to nothing.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn preset(name: &str) -> Result<Self, TrainError> {
        match name {
            "demo" => Ok(Self::demo()),
            "smoke" => Ok(Self::smoke()),
            _ => Err(TrainError::Recipe(format!(
                "there is no preset {name:?}; there are: {}",
                PRESETS.join(", ")
            ))),
        }
    }

    fn demo() -> Self {
        let discriminator = |start, rise, weight| DiscriminatorRecipe {
            start,
            rise,
            weight,
            channels: vec![32, 64, 64],
            optimizer: OptimizerRecipe {
                weight_decay: 0.0,
                betas: [0.5, 0.9],
                ..optimizer(4e-4, 100, 0.0)
            },
        };
        Self {
            name: "demo-128".into(),
            seed: 1,
            variety: 0.25,
            sizes: Sizes {
                patch_nums: published::SCALES.to_vec(),
                vocabulary: 2048,
                latent_channels: 16,
                vae: VaeConfig {
                    channels: 16,
                    channel_multipliers: vec![1, 2, 4, 8],
                    residual_blocks: 1,
                    norm_groups: 4,
                },
                transformer: TransformerConfig { depth: 5, width: 256, heads: 4 },
                num_classes: 20,
            },
            vae: VaeRecipe {
                run: Steps {
                    steps: 6000,
                    batch: 16,
                    optimizer: optimizer(8e-4, 100, 0.998),
                    examine_every: 250,
                    checkpoint_every: 50,
                },
                commitment: 0.25,
                gradient_loss: 0.5,
                look_loss: 0.2,
                codebook_averaging: 0.99,
                discriminator: Some(discriminator(3000, 500, 0.4)),
                prefix_share: 0.1,
                revive_every: 50,
                revive_until: 4500,
                held_out: 128,
            },
            teacher: TeacherRecipe {
                run: Steps {
                    steps: 2000,
                    batch: 32,
                    optimizer: optimizer(1.2e-3, 100, 0.998),
                    examine_every: 400,
                    checkpoint_every: 50,
                },
                pictures: 32_000,
                class_dropout: 0.1,
                held_out: 256,
            },
            trajectories: TrajectoryRecipe {
                pairs: 24_000,
                shard: 1_600,
                batch: 32,
                flow_steps: super::flow::DEFAULT_STEPS,
                guidance: Guidance { cfg: 1.5, top_k: 200, top_p: 0.2 },
            },
            student: StudentRecipe {
                run: Steps {
                    steps: 2000,
                    batch: 32,
                    optimizer: optimizer(8e-4, 100, 0.998),
                    examine_every: 500,
                    checkpoint_every: 50,
                },
                second_step: 5,
                split: Some(10),
                second_share: 0.35,
                code_loss: 1.0,
                vector_loss: 1.0,
                sum_loss: 0.5,
                balance: 0.5,
                other_head: 0.2,
                prefix: Some(PrefixRecipe { scales: 6, share: 0.6, pairs: 48_000 }),
                held_out: 256,
            },
            decoder: Some(DecoderRecipe {
                run: Steps {
                    steps: 1000,
                    batch: 16,
                    optimizer: optimizer(4e-4, 100, 0.998),
                    examine_every: 500,
                    checkpoint_every: 50,
                },
                discriminator: Some(discriminator(0, 200, 0.25)),
                prefix_share: 0.3,
            }),
            judge: JudgeRecipe {
                run: Steps {
                    steps: 800,
                    batch: 32,
                    optimizer: optimizer(2e-3, 50, 0.99),
                    examine_every: 200,
                    checkpoint_every: 50,
                },
                channels: vec![24, 48, 96, 96],
                held_out: 1600,
            },
        }
    }

    fn smoke() -> Self {
        let run = |steps, batch, rate| Steps {
            steps,
            batch,
            optimizer: optimizer(rate, 4, 0.9),
            examine_every: steps,
            checkpoint_every: 4,
        };
        let discriminator = |start, rise| DiscriminatorRecipe {
            start,
            rise,
            weight: 0.3,
            channels: vec![8, 8],
            optimizer: OptimizerRecipe { betas: [0.5, 0.9], ..optimizer(1e-3, 2, 0.0) },
        };
        Self {
            name: "smoke".into(),
            seed: 1,
            variety: 1.0,
            sizes: Sizes {
                patch_nums: vec![1, 2, 3],
                vocabulary: 32,
                latent_channels: 4,
                vae: VaeConfig {
                    channels: 32,
                    channel_multipliers: vec![1, 1, 1],
                    residual_blocks: 1,
                    norm_groups: 32,
                },
                transformer: TransformerConfig { depth: 2, width: 32, heads: 2 },
                num_classes: 16,
            },
            vae: VaeRecipe {
                run: run(24, 16, 2e-3),
                commitment: 0.25,
                gradient_loss: 0.5,
                look_loss: 0.1,
                codebook_averaging: 0.9,
                discriminator: Some(discriminator(5, 8)),
                prefix_share: 0.1,
                revive_every: 4,
                revive_until: 20,
                held_out: 32,
            },
            teacher: TeacherRecipe {
                run: run(24, 32, 3e-3),
                pictures: 128,
                class_dropout: 0.1,
                held_out: 32,
            },
            trajectories: TrajectoryRecipe {
                pairs: 128,
                shard: 64,
                batch: 32,
                flow_steps: 20,
                guidance: Guidance { cfg: 2.0, top_k: 16, top_p: 0.95 },
            },
            student: StudentRecipe {
                run: run(24, 32, 3e-3),
                second_step: 1,
                split: Some(2),
                second_share: 0.35,
                code_loss: 1.0,
                vector_loss: 1.0,
                sum_loss: 0.5,
                balance: 0.5,
                other_head: 0.5,
                prefix: Some(PrefixRecipe { scales: 2, share: 0.5, pairs: 64 }),
                held_out: 32,
            },
            decoder: Some(DecoderRecipe {
                run: run(8, 16, 1e-3),
                discriminator: Some(discriminator(2, 3)),
                prefix_share: 0.3,
            }),
            judge: JudgeRecipe { run: run(24, 32, 5e-3), channels: vec![16, 32], held_out: 64 },
        }
    }

    /// The same run cut down to two steps of each stage, of four examples, with just the data for
    /// them: it shows on any machine that a recipe runs from end to end at full size.
    #[must_use]
    pub fn rehearsal(self) -> Self {
        const STEPS: u64 = 2;
        const EXAMPLES: usize = 4;
        let cut = |run: Steps| Steps {
            steps: STEPS,
            batch: EXAMPLES,
            examine_every: STEPS,
            checkpoint_every: 1,
            ..run
        };
        let few = EXAMPLES as u64;
        let early = |discriminator| DiscriminatorRecipe { start: 1, ..discriminator };
        Self {
            vae: VaeRecipe {
                run: cut(self.vae.run),
                discriminator: self.vae.discriminator.map(early),
                revive_every: 1,
                held_out: EXAMPLES,
                ..self.vae
            },
            teacher: TeacherRecipe {
                run: cut(self.teacher.run),
                pictures: 2 * few,
                held_out: EXAMPLES,
                ..self.teacher
            },
            trajectories: TrajectoryRecipe {
                pairs: 3 * few,
                shard: 2 * few,
                batch: EXAMPLES,
                ..self.trajectories
            },
            student: StudentRecipe {
                run: cut(self.student.run),
                prefix: self
                    .student
                    .prefix
                    .map(|prefix| PrefixRecipe { pairs: prefix.pairs.min(few), ..prefix }),
                held_out: few,
                ..self.student
            },
            decoder: self.decoder.map(|decoder| DecoderRecipe {
                run: cut(decoder.run),
                discriminator: decoder.discriminator.map(early),
                ..decoder
            }),
            judge: JudgeRecipe { run: cut(self.judge.run), held_out: 2 * EXAMPLES, ..self.judge },
            ..self
        }
    }

    /// The configuration of the bundle that the run makes.
    pub fn config(&self) -> Config {
        let Sizes { patch_nums, vocabulary, latent_channels, vae, transformer, num_classes } =
            self.sizes.clone();
        let names =
            pictures::CLASSES.iter().take(num_classes.max(0) as usize).map(ToString::to_string);
        Config {
            name: self.name.clone(),
            vocabulary,
            latent_channels,
            vae,
            transformer,
            num_classes,
            classes: names.collect(),
            plans: self.plans(patch_nums.len()),
            patch_nums,
        }
    }

    /// The plans shown to people: those of the paper, as far as there are scales for them.
    fn plans(&self, scales: usize) -> Vec<PlanPreset> {
        let split = self.student.split() as u32;
        let second = self.student.second_step as u32;
        let guidance = self.trajectories.guidance;
        // Two steps of the student, and one of the teacher for every scale between.
        let with_teacher = [3, 4, 6].into_iter().filter_map(|steps: u32| {
            let start = second.checked_sub(steps - 2)?;
            let plan = Plan::teacher_involved([0, second], split, start, guidance);
            Some(PlanPreset::new(format!("{steps} steps with teacher"), plan))
        });
        let alone = Plan::Teacher { guidance };
        [
            PlanPreset::new("1 step", Plan::few_step(&[0], split)),
            PlanPreset::new("2 steps", Plan::few_step(&[0, second], split)),
        ]
        .into_iter()
        .chain(with_teacher)
        .chain([PlanPreset::new(format!("teacher, {scales} steps"), alone)])
        .collect()
    }

    /// Checks everything that can be checked before a stage begins.
    ///
    /// # Errors
    /// The first value out of bounds, with the bound.
    pub fn validate(&self) -> Result<(), TrainError> {
        let refuse = |text: String| Err(TrainError::Recipe(text));
        let classes = self.sizes.num_classes;
        if !(2..=pictures::CLASSES.len() as i64).contains(&classes) {
            return refuse(format!(
                "sizes.num_classes is {classes}; there are {} kinds of scenes, so it must be from \
                 2 to {0}",
                pictures::CLASSES.len()
            ));
        }
        if !(0.0..=1.0).contains(&self.variety) {
            return refuse(format!("variety is {}; it must be from 0 to 1", self.variety));
        }
        let config = self.config();
        let scales = config.scales();
        let second = self.student.second_step;
        if !(1..scales.max(2)).contains(&second) {
            return refuse(format!(
                "student.second_step is {second}; it must be from 1 to {}",
                scales.max(2) - 1
            ));
        }
        let split = self.student.split();
        if split > scales {
            return refuse(format!(
                "student.split is {split}; it must be from 0 to {scales}, the number of scales"
            ));
        }
        config.validate()?;
        let side = config.image_size();
        if !pictures::SIDES.contains(&(side as u32)) {
            return refuse(format!(
                "pictures would be {side}×{side}; the side goes from {} to {}",
                pictures::SIDES.start(),
                pictures::SIDES.end()
            ));
        }
        if config.vocabulary > 1 << 16 {
            return refuse(format!(
                "sizes.vocabulary is {}; shards hold codes up to {}",
                config.vocabulary,
                1 << 16
            ));
        }
        let levels = self.judge.channels.len();
        if levels == 0
            || side >> levels == 0
            || self.judge.channels.iter().any(|&n| n < 8 || n % 8 != 0)
        {
            return refuse(format!(
                "judge.channels is {:?}; it must be one or more multiples of 8, and each halves \
                 the side of {side}",
                self.judge.channels
            ));
        }
        for (stage, run) in [
            ("vae", &self.vae.run),
            ("teacher", &self.teacher.run),
            ("student", &self.student.run),
            ("judge", &self.judge.run),
        ]
        .into_iter()
        .chain(self.decoder.iter().map(|decoder| ("decoder", &decoder.run)))
        {
            if run.steps == 0
                || run.batch < 2
                || run.examine_every == 0
                || run.checkpoint_every == 0
            {
                return refuse(format!(
                    "{stage}.run: steps and intervals must be at least 1, and batch at least 2"
                ));
            }
            let rate = run.optimizer.learning_rate;
            if !(rate > 0.0 && rate.is_finite()) {
                return refuse(format!(
                    "{stage}.run.optimizer.learning_rate is {rate}; it must be above 0"
                ));
            }
        }
        for (name, share) in [
            ("vae.prefix_share", self.vae.prefix_share),
            ("vae.codebook_averaging", self.vae.codebook_averaging),
            ("teacher.class_dropout", self.teacher.class_dropout),
            ("student.second_share", self.student.second_share),
            (
                "decoder.prefix_share",
                self.decoder.as_ref().map_or(0.0, |decoder| decoder.prefix_share),
            ),
        ] {
            if !(0.0..1.0).contains(&share) {
                return refuse(format!("{name} is {share}; it must be at least 0 and below 1"));
            }
        }
        if self.vae.held_out < 2
            || self.teacher.held_out < 1
            || self.student.held_out < 1
            || self.judge.held_out < 2
            || self.vae.revive_every == 0
        {
            return refuse(
                "vae.held_out and judge.held_out must be at least 2, teacher.held_out, \
                 student.held_out and vae.revive_every at least 1"
                    .into(),
            );
        }
        if let Err(error) = self.trajectories.guidance.validate() {
            return refuse(format!("trajectories.guidance: {error}"));
        }
        let TrajectoryRecipe { pairs, shard, batch, flow_steps, .. } = self.trajectories;
        if pairs <= self.student.held_out || shard == 0 || batch == 0 || flow_steps < 2 {
            return refuse(format!(
                "trajectories.pairs is {pairs}; it must be above student.held_out = {}, with shard \
                 and batch at least 1 and flow_steps at least 2",
                self.student.held_out
            ));
        }
        let other_head = self.student.other_head;
        if !(other_head > 0.0 && other_head <= 1.0) {
            return refuse(format!(
                "student.other_head is {other_head}; it must be above 0 and at most 1"
            ));
        }
        if let Some(prefix) = &self.student.prefix {
            let scales = self.sizes.patch_nums.len();
            if !(1..scales).contains(&prefix.scales) || !(0.0..1.0).contains(&prefix.share) {
                return refuse(format!(
                    "student.prefix has {} scales and a share of {}; it must have from 1 to {} and \
                     at least 0 and below 1",
                    prefix.scales,
                    prefix.share,
                    scales - 1
                ));
            }
        }
        if !(self.vae.look_loss >= 0.0 && self.vae.look_loss.is_finite()) {
            return refuse(format!(
                "vae.look_loss is {}; it must be 0 or more",
                self.vae.look_loss
            ));
        }
        let of_decoder = self.decoder.as_ref().and_then(|decoder| decoder.discriminator.as_ref());
        for (stage, discriminator) in
            [("vae", self.vae.discriminator.as_ref()), ("decoder", of_decoder)]
        {
            let Some(discriminator) = discriminator else { continue };
            let levels = discriminator.channels.len();
            if levels == 0
                || side >> levels < 2
                || discriminator.channels.iter().any(|&n| n < 8 || n % 8 != 0)
            {
                return refuse(format!(
                    "{stage}.discriminator.channels is {:?}; it must be one or more multiples of \
                     8, and each halves the side of {side}, down to at least 2",
                    discriminator.channels
                ));
            }
            let rate = discriminator.optimizer.learning_rate;
            let weight = discriminator.weight;
            if !(rate > 0.0 && rate.is_finite() && weight >= 0.0 && weight.is_finite()) {
                return refuse(format!(
                    "{stage}.discriminator: the learning rate is {rate} and the weight {weight}; \
                     they must be above 0, and 0 or more"
                ));
            }
        }
        if self.teacher.pictures == 0 {
            return refuse("teacher.pictures must be at least 1".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_sound_and_survive_being_written() {
        for name in PRESETS {
            let recipe = Recipe::preset(name).unwrap();
            recipe.validate().unwrap();
            let rehearsal = recipe.clone().rehearsal();
            rehearsal.validate().unwrap();
            assert_eq!((rehearsal.sizes, rehearsal.vae.run.steps), (recipe.sizes.clone(), 2));
            let text = serde_json::to_string(&recipe).unwrap();
            assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), recipe);
        }
        let demo = Recipe::preset("demo").unwrap().config();
        assert_eq!((demo.image_size(), demo.tokens(), demo.num_classes), (128, 680, 20));
        let names = |preset| -> Vec<String> {
            let plans = Recipe::preset(preset).unwrap().config().plans;
            plans.into_iter().map(|plan| plan.name).collect()
        };
        assert_eq!(
            names("demo"),
            [
                "1 step",
                "2 steps",
                "3 steps with teacher",
                "4 steps with teacher",
                "6 steps with teacher",
                "teacher, 10 steps"
            ]
        );
        assert_eq!(names("smoke").len(), 4);
        assert!(Recipe::preset("demi").unwrap_err().to_string().contains("demo, smoke"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_bound() {
        let change = |change: fn(&mut Recipe)| {
            let mut recipe = Recipe::preset("smoke").unwrap();
            change(&mut recipe);
            recipe.validate().unwrap_err().to_string()
        };
        assert!(change(|recipe| recipe.sizes.num_classes = 21).contains("from 2 to 20"));
        assert!(change(|recipe| recipe.student.second_step = 3).contains("from 1 to 2"));
        assert!(change(|recipe| recipe.student.split = Some(4)).contains("from 0 to 3"));
        assert!(change(|recipe| recipe.student.other_head = 0.0).contains("above 0"));
        assert!(change(|recipe| recipe.sizes.transformer.heads = 5).contains("divisor"));
        assert!(change(|recipe| recipe.vae.prefix_share = 1.5).contains("below 1"));
        assert!(change(|recipe| recipe.trajectories.pairs = 3).contains("above student.held_out"));
        assert!(change(|recipe| recipe.judge.channels = vec![12]).contains("multiples of 8"));
    }
}
