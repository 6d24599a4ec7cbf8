//! The teacher: VAR learns the tokens of drawn pictures, scale by scale, with teacher forcing.

use serde_json::{Value, json};
use tch::{Device, Kind, Reduction, Tensor};

use super::{
    Outcome, TrainError, Watch, Workplace,
    deck::Deck,
    feed::Stream,
    initial,
    metrics::Figures,
    parameters::Layout,
    product::{self, Made, build, model_directory},
    recipe::Recipe,
    shards::{Pairs, Shards},
    sheet::to_network,
    stage::{Exam, Lesson, Stage, outcome},
};
use crate::{
    config::Config,
    graphs::Graphs,
    net::{student::Student, teacher::Teacher, vae::Vae},
    sample::{Batch, Frames, Sampler, noise::PictureSeed, plan::Plan, to_rgb8},
    weights::StateDict,
};

/// Number of this stage among those that draw chances.
const STAGE: u64 = 2;

/// Pictures tokenized together.
const TOGETHER: usize = 64;

/// Pictures of each class on the contact sheet.
const SHEET_COLUMNS: usize = 8;

/// Trains the teacher of a run and puts it in the run's bundle. The pictures that it learns are
/// tokenized first.
///
/// # Errors
/// When the VAE is missing or of other sizes, a checkpoint or shard is of another recipe, or a file
/// cannot be written.
pub fn train(
    recipe: &Recipe,
    place: &Workplace,
    watch: &mut dyn Watch,
) -> Result<Outcome, TrainError> {
    recipe.validate()?;
    let config = recipe.config();
    let model = model_directory(&place.directory);
    let vae = product::load_vae(&model, place, &config, place.kind)?;
    let stream = Stream {
        seed: recipe.seed,
        classes: recipe.sizes.num_classes as usize,
        side: config.image_size() as u32,
        variety: recipe.variety as f32,
    };
    let common = product::common_settings(recipe, place.kind);
    let shards = token_shards(recipe, place, &config, &common, vae.fingerprint);
    let numbers = |from, some: &[u64]| tokenize(&vae, &config, place, from, some);
    if shards.fill("tokens", TOGETHER, watch, |some| numbers(stream, some))? == Outcome::Stopped {
        return Ok(Outcome::Stopped);
    }
    let pairs = shards.read("teacher")?;
    let held_out =
        numbers(stream.held_out(), &(0..recipe.teacher.held_out as u64).collect::<Vec<_>>())?;
    let start = product::start("teacher", place, |at| {
        Teacher::load(at, &config);
    })?;
    let stage = Stage {
        name: "teacher",
        place,
        run: &recipe.teacher.run,
        settings: json!({
            "common": common,
            "teacher": recipe.teacher,
            "vae": vae.fingerprint,
            "start": start.as_ref().map(|start| start.1),
        }),
        initial: start.map(|start| start.0).unwrap_or_default(),
        layout: Layout::of(|at| {
            Teacher::load(at, &config);
        }),
        seed: recipe.seed,
        curves: &["loss", "held_out_loss"],
    };
    let weights = stage.run(watch, |_| {
        Ok(TeacherLesson {
            deck: Deck::new(recipe.seed, pairs.len()),
            recipe: recipe.clone(),
            config: config.clone(),
            place: place.clone(),
            vae,
            pairs,
            held_out,
        })
    })?;
    if let Some(weights) = &weights {
        product::write_half(&model.join("teacher.safetensors"), weights)?;
    }
    Ok(outcome(weights))
}

fn token_shards(
    recipe: &Recipe,
    place: &Workplace,
    config: &Config,
    common: &Value,
    vae: u32,
) -> Shards {
    Shards {
        directory: place.directory.join("tokens"),
        settings: json!({"common": common, "vae": vae}),
        total: recipe.teacher.pictures,
        per_file: recipe.trajectories.shard,
        tokens: config.tokens() as usize,
        vocabulary: config.vocabulary,
        num_classes: config.num_classes,
    }
}

/// Drawn pictures as tokens.
fn tokenize(
    vae: &Made<Vae>,
    config: &Config,
    place: &Workplace,
    stream: Stream,
    numbers: &[u64],
) -> Result<Pairs, TrainError> {
    let _no_grad = tch::no_grad_guard();
    let mut pairs = Pairs::default();
    for some in numbers.chunks(TOGETHER) {
        // Numbers of one shard follow each other.
        let drawn = stream.draw(some[0], some.len())?;
        let x = to_network(&drawn.pictures, config.image_size(), place.device);
        let codes = Tensor::cat(&vae.network.tokenize(&x), 1);
        pairs.extend(Pairs {
            labels: drawn.classes,
            seeds: some.iter().map(|&index| PictureSeed { seed: stream.seed, index }).collect(),
            codes: to_u16(&codes)?,
        });
    }
    Ok(pairs)
}

/// Codeword numbers for a shard; the vocabulary is at most 65,536.
pub(super) fn to_u16(codes: &Tensor) -> Result<Vec<u16>, TrainError> {
    let codes: Vec<i64> = codes.f_to_device(Device::Cpu)?.f_contiguous()?.view([-1]).try_into()?;
    Ok(codes.into_iter().map(|code| code as u16).collect())
}

/// Labels i64 `[B]` and codes i64 `[B, N]` of some pairs.
pub(super) fn batch_of(pairs: &Pairs, rows: &[usize], device: Device) -> (Tensor, Tensor) {
    let tokens = pairs.codes.len() / pairs.len().max(1);
    let labels: Vec<i64> = rows.iter().map(|&row| pairs.labels[row]).collect();
    let codes: Vec<i64> = rows
        .iter()
        .flat_map(|&row| &pairs.codes[row * tokens..(row + 1) * tokens])
        .map(|&code| i64::from(code))
        .collect();
    let codes = Tensor::from_slice(&codes).view([rows.len() as i64, tokens as i64]);
    (Tensor::from_slice(&labels).to_device(device), codes.to_device(device))
}

/// Codes of all scales, i64 `[B, N]`, as one tensor a scale.
fn by_scale(config: &Config, codes: &Tensor) -> Vec<Tensor> {
    (0..config.scales())
        .map(|k| codes.narrow(1, config.tokens_before(k), config.patch_nums[k].pow(2)))
        .collect()
}

/// Cross-entropy of every token, f32 `[B, n]`.
pub(super) fn cross_entropy(logits: &Tensor, codes: &Tensor) -> Tensor {
    let classes = logits.size()[2];
    logits
        .reshape([-1, classes])
        .cross_entropy_loss::<Tensor>(&codes.reshape([-1]), None, Reduction::None, -100, 0.0)
        .view(&codes.size()[..])
}

#[derive(Debug)]
struct TeacherLesson {
    recipe: Recipe,
    config: Config,
    place: Workplace,
    vae: Made<Vae>,
    pairs: Pairs,
    held_out: Pairs,
    deck: Deck,
}

impl Lesson for TeacherLesson {
    fn loss(&mut self, weights: StateDict, step: u64) -> Result<(Tensor, Figures), TrainError> {
        let recipe = &self.recipe.teacher;
        let rows = self.deck.batch(step, recipe.run.batch);
        let (labels, codes) = batch_of(&self.pairs, &rows, self.place.device);
        let teacher = build(weights, &self.place.ops(), self.place.kind, |at| {
            Teacher::load(at, &self.config)
        });
        let chances = product::chances(self.recipe.seed, STAGE, step, rows.len());
        let untold: Vec<bool> =
            chances.into_iter().map(|chance| chance < recipe.class_dropout).collect();
        let untold = Tensor::from_slice(&untold).to_device(self.place.device);
        let labels = labels.masked_fill(&untold, teacher.unconditional());
        let logits = teacher.teacher_forcing(
            &labels,
            &by_scale(&self.config, &codes),
            &self.vae.network.quantize,
        );
        let right =
            logits.argmax(-1, false).eq_tensor(&codes).to_kind(Kind::Float).mean(Kind::Float);
        let loss = cross_entropy(&logits, &codes).mean(Kind::Float);
        Ok((loss, vec![("codes_right", right.double_value(&[]))]))
    }

    fn examine(&mut self, weights: StateDict) -> Result<Exam, TrainError> {
        let (config, place) = (&self.config, &self.place);
        let teacher = build(
            weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect(),
            &place.ops(),
            Kind::Float,
            |at| Teacher::load(at, config),
        );
        let all: Vec<usize> = (0..self.held_out.len()).collect();
        let mut losses = Vec::new();
        for rows in all.chunks(TOGETHER) {
            let (labels, codes) = batch_of(&self.held_out, rows, place.device);
            let logits = teacher.teacher_forcing(
                &labels,
                &by_scale(config, &codes),
                &self.vae.network.quantize,
            );
            losses.push(cross_entropy(&logits, &codes));
        }
        let losses = Tensor::cat(&losses, 0);
        let mean = |losses: &Tensor| losses.mean(Kind::Float).double_value(&[]);
        let last = config.tokens_before(config.scales() - 1);
        let figures = vec![
            ("held_out_loss", mean(&losses)),
            ("held_out_loss_first_scale", mean(&losses.narrow(1, 0, 1))),
            ("held_out_loss_last_scale", mean(&losses.narrow(1, last, losses.size()[1] - last))),
        ];
        // The student has no say when the teacher draws alone.
        let untrained = initial::from_teacher(&weights, self.recipe.seed);
        let layout = Layout::of(|at| {
            Student::load(at, config);
        });
        let parameters =
            super::parameters::Parameters::new(layout, self.recipe.seed, &untrained, place.device);
        let sampler = Sampler {
            config: config.clone(),
            student: build(parameters.live(), &place.ops(), Kind::Float, |at| {
                Student::load(at, config)
            }),
            teacher: Some(teacher),
            vae: product::load_vae(&model_directory(&place.directory), place, config, Kind::Float)?
                .network,
            device: place.device,
            parameters: 0,
            graphs: Graphs::default(),
        };
        let plan = Plan::Teacher { guidance: self.recipe.trajectories.guidance };
        let classes = 0..config.num_classes;
        let labels: Vec<i64> =
            classes.flat_map(|class| std::iter::repeat_n(class, SHEET_COLUMNS)).collect();
        let pictures = draw(&sampler, &plan, &labels, self.recipe.seed)?;
        Ok(Exam { figures, sheet: Some((pictures, config.image_size() as usize, SHEET_COLUMNS)) })
    }
}

/// Pictures of a plan as bytes, one a label.
fn draw(
    sampler: &Sampler,
    plan: &Plan,
    labels: &[i64],
    seed: u64,
) -> Result<Vec<Vec<u8>>, TrainError> {
    let seeds: Vec<PictureSeed> =
        (0..labels.len() as u64).map(|index| PictureSeed { seed, index }).collect();
    let labels = Tensor::from_slice(labels);
    let batch = Batch { labels: &labels, noise: None, seeds: &seeds };
    let tokens =
        sampler.run(plan, &batch, Frames::None, &mut |_| std::ops::ControlFlow::Continue(()))?;
    let f_hat = tokens.and_then(|tokens| sampler.f_hats(&tokens).pop());
    Ok(f_hat.map(|f_hat| to_rgb8(&sampler.pictures(&f_hat))).transpose()?.unwrap_or_default())
}
