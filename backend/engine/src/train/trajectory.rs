//! Pairs of noise and tokens: the teacher's flow followed from noise to a whole picture.
//!
//! Position by position, scale by scale: the teacher's guided, filtered law at a position and the
//! noise there determine its codeword (see [`super::flow`]); `f_hat` grows by the codewords, and
//! the next scale's laws follow.

use std::path::{Path, PathBuf};

use serde_json::json;
use tch::{Kind, Tensor};

use super::{
    Outcome, TrainError, Watch, Workplace,
    flow::Flow,
    product::{self, Made},
    recipe::{PrefixRecipe, Recipe, TrajectoryRecipe},
    shards::{Pairs, Shards},
    teacher::to_u16,
};
use crate::{
    bundle::Bundle,
    config::Config,
    net::{quantizer::Quantizer, teacher::Teacher, vae::Vae},
    sample::{
        guided_probs,
        noise::{self, PictureSeed},
        plan::Guidance,
    },
};

/// Added to the seed, so that no picture drawn for people or scores starts from noise that the
/// student has seen.
const APART: u64 = 0x7261_6a65_0000;

/// Tells the noise of pairs of the first scales alone from that of whole ones.
const PREFIXES: u64 = 1 << 40;

/// Rows solved together; bounds the memory of a step to a few hundred megabytes for the published
/// vocabulary.
const ROWS: i64 = 8192;

/// A teacher and how its pictures are made.
#[derive(Debug)]
pub struct TrajectorySource {
    config: Config,
    teacher: Made<Teacher>,
    vae: Made<Vae>,
    flow: Flow,
    recipe: TrajectoryRecipe,
    seed: u64,
    place: Workplace,
}

/// Where a run keeps pairs of the first scales alone.
pub(super) fn prefix_directory(run: &Path) -> PathBuf {
    run.join("first-scales")
}

/// Makes what the student of a run learns: whole pairs, and those of the first scales alone that its
/// recipe asks for.
///
/// # Errors
/// When the run has no teacher, shards of another one are there, or a file cannot be written.
pub fn make(
    recipe: &Recipe,
    place: &Workplace,
    watch: &mut dyn Watch,
) -> Result<Outcome, TrainError> {
    let model = product::model_directory(&place.directory);
    let source = TrajectorySource::open(&model, &recipe.trajectories, recipe.seed, place)?;
    let whole = source.fill(&place.directory.join("trajectories"), watch)?;
    match recipe.student.own_prefix() {
        Some(prefix) if whole == Outcome::Done => {
            source.fill_prefixes(&prefix_directory(&place.directory), prefix, watch)
        }
        _ => Ok(whole),
    }
}

impl TrajectorySource {
    /// The teacher of the bundle in `model`, be it of this project's making or a released one.
    ///
    /// # Errors
    /// When the bundle has no teacher, or its tensors do not fit its configuration.
    pub fn open(
        model: &Path,
        recipe: &TrajectoryRecipe,
        seed: u64,
        place: &Workplace,
    ) -> Result<Self, TrainError> {
        let config = Bundle::open(model)?.config;
        if config.vocabulary > 1 << 16 {
            return Err(TrainError::Mismatch(format!(
                "the model has {} codewords; shards hold codes below {}",
                config.vocabulary,
                1 << 16
            )));
        }
        let teacher = product::load_teacher(model, place, &config, place.kind)?;
        let vae = product::load_vae(model, place, &config, Kind::Float)?;
        let flow = Flow::new(&vae.network.quantize.embedding, recipe.flow_steps);
        Ok(Self {
            config,
            teacher,
            vae,
            flow,
            recipe: recipe.clone(),
            seed: seed.wrapping_add(APART),
            place: place.clone(),
        })
    }

    /// Configuration of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Codewords, f32 `[V, Cv]`.
    pub fn codebook(&self) -> &Tensor {
        &self.vae.network.quantize.embedding
    }

    /// The shards that this teacher fills in `directory`.
    pub(super) fn shards(&self, directory: &Path) -> Shards {
        let TrajectoryRecipe { pairs, shard, flow_steps, ref guidance, .. } = self.recipe;
        Shards {
            directory: directory.to_owned(),
            settings: json!({
                "seed": self.seed,
                "patch_nums": self.config.patch_nums,
                "vocabulary": self.config.vocabulary,
                "num_classes": self.config.num_classes,
                "dtype": crate::device::kind_name(self.place.kind),
                "teacher": self.teacher.fingerprint,
                "vae": self.vae.fingerprint,
                "flow_steps": flow_steps,
                "guidance": guidance,
            }),
            total: pairs,
            per_file: shard,
            tokens: self.config.tokens() as usize,
            vocabulary: self.config.vocabulary,
            num_classes: self.config.num_classes,
        }
    }

    /// Makes every shard in `directory` that is not there or not whole.
    ///
    /// # Errors
    /// When shards of another teacher are there, or a file cannot be written.
    pub fn fill(&self, directory: &Path, watch: &mut dyn Watch) -> Result<Outcome, TrainError> {
        let scales = self.config.scales();
        self.shards(directory)
            .fill("trajectories", self.recipe.batch, watch, |numbers| self.pairs(numbers, scales))
    }

    /// The shards of pairs of the first scales alone, in `directory`.
    pub(super) fn prefix_shards(&self, directory: &Path, prefix: &PrefixRecipe) -> Shards {
        let mut shards = self.shards(directory);
        shards.settings["scales"] = json!(prefix.scales);
        let tokens = self.config.tokens_before(prefix.scales);
        let per_file = shards.per_file * prefix.for_one(&self.config);
        Shards { total: prefix.pairs, tokens: tokens as usize, per_file, ..shards }
    }

    /// Makes every shard of pairs of the first scales alone in `directory` that is not there or not
    /// whole.
    ///
    /// # Errors
    /// As [`TrajectorySource::fill`].
    fn fill_prefixes(
        &self,
        directory: &Path,
        prefix: &PrefixRecipe,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, TrainError> {
        let batch = self.recipe.batch * prefix.for_one(&self.config) as usize;
        self.prefix_shards(directory, prefix).fill("first scales", batch, watch, |numbers| {
            let numbers: Vec<u64> = numbers.iter().map(|number| number + PREFIXES).collect();
            self.pairs(&numbers, prefix.scales)
        })
    }

    /// Pairs of the first scales by their numbers; classes take turns.
    fn pairs(&self, numbers: &[u64], scales: usize) -> Result<Pairs, TrainError> {
        let seeds: Vec<PictureSeed> =
            numbers.iter().map(|&index| PictureSeed { seed: self.seed, index }).collect();
        let labels: Vec<i64> =
            numbers.iter().map(|number| (number % self.config.num_classes as u64) as i64).collect();
        let tokens = self.config.tokens_before(scales);
        let noise = noise::noise(&seeds, tokens, self.config.latent_channels);
        let codes = self.follow_to(scales, &labels, &noise, &mut |_, _| ());
        Ok(Pairs { labels, seeds, codes: to_u16(&codes)? })
    }

    /// Follows the flow from noise f32 `[B, N, Cv]` to codes i64 `[B, N]`. `see` is shown the
    /// teacher's law at every scale, f32 `[B, p², V]`.
    pub fn follow(
        &self,
        labels: &[i64],
        noise: &Tensor,
        see: &mut dyn FnMut(usize, &Tensor),
    ) -> Tensor {
        self.follow_to(self.config.scales(), labels, noise, see)
    }

    /// The same through the first `scales` alone.
    fn follow_to(
        &self,
        scales: usize,
        labels: &[i64],
        noise: &Tensor,
        see: &mut dyn FnMut(usize, &Tensor),
    ) -> Tensor {
        let labels = Tensor::from_slice(labels).to_device(self.place.device);
        let noise = noise.to_device(self.place.device);
        let (teacher, quantize) = (&self.teacher.network, &self.vae.network.quantize);
        let law = Law { teacher, quantize, guidance: self.recipe.guidance, config: &self.config };
        law.walk(&labels, scales, &mut |k, probs| {
            see(k, probs);
            let size = probs.size();
            let (b, n, vocabulary) = (size[0], size[1], size[2]);
            let noise = noise.narrow(1, self.config.tokens_before(k), n).reshape([b * n, -1]);
            let log_probs = probs.log().view([b * n, vocabulary]);
            let parts: Vec<Tensor> = noise
                .split(ROWS, 0)
                .iter()
                .zip(log_probs.split(ROWS, 0))
                .map(|(noise, log_probs)| self.flow.solve(noise, &log_probs))
                .collect();
            Tensor::cat(&parts, 0).view([b, n])
        })
    }
}

/// The teacher's law, scale by scale.
struct Law<'a> {
    teacher: &'a Teacher,
    quantize: &'a Quantizer,
    guidance: Guidance,
    config: &'a Config,
}

impl Law<'_> {
    /// Goes through the first `scales`; `choose` gives the codes of a scale, i64 `[B, p²]`, for its law,
    /// f32 `[B, p², V]`.
    fn walk(
        &self,
        labels: &Tensor,
        scales: usize,
        choose: &mut dyn FnMut(usize, &Tensor) -> Tensor,
    ) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let without_class = labels.full_like(self.teacher.unconditional());
        let conditioning = self.teacher.condition(&Tensor::cat(&[labels, &without_class], 0));
        let mut progress = self.teacher.begin(&conditioning);
        let mut f_hat = self.quantize.empty(labels.size()[0]);
        let codes: Vec<Tensor> = (0..scales)
            .map(|k| {
                let input = self.quantize.downsample(&f_hat, k);
                let logits = self.teacher.advance(
                    &mut progress,
                    k,
                    &[Tensor::cat(&[&input, &input], 0)],
                    false,
                );
                let codes =
                    choose(k, &guided_probs(&logits, self.guidance, k, self.config.scales()));
                f_hat = &f_hat + self.quantize.contribution(k, &self.quantize.lookup(&codes));
                codes
            })
            .collect();
        Tensor::cat(&codes, 1)
    }
}
