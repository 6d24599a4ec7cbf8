//! The student: from noise to the end of the teacher's flow in one pass.
//!
//! It begins with the teacher's weights and learns pairs of noise and tokens, from full noise
//! (`t = 0`) and from where the first scales are given (`t₂`). Both heads learn every scale that is
//! not given: cross-entropy for codes, squared error for vectors, and the squared error of the
//! `f_hat` that the vectors of the late scales make.

use std::ops::Range;

use serde_json::json;
use tch::{Kind, Tensor};

use super::{
    Outcome, TrainError, Watch, Workplace,
    deck::Deck,
    initial,
    metrics::Figures,
    parameters::Layout,
    product::{self, build, model_directory},
    recipe::{PrefixRecipe, Recipe, StudentRecipe},
    shards::Pairs,
    stage::{Exam, Lesson, Stage, outcome},
    teacher::{batch_of, cross_entropy},
    trajectory::{TrajectorySource, prefix_directory},
};
use crate::{
    config::Config,
    graphs::Graphs,
    net::student::Student,
    sample::{Batch, Frames, Sampler, noise, plan::Plan, to_rgb8},
    weights::StateDict,
};

/// Pairs looked at together on held-out data.
const TOGETHER: usize = 64;

/// Pictures of each class on the contact sheet, three columns each.
const SHEET_EXAMPLES: usize = 2;

/// Trains the student of a run and completes the run's bundle.
///
/// # Errors
/// When teacher or trajectories are missing or of other sizes, a checkpoint is of another recipe,
/// or a file cannot be written.
pub fn train(
    recipe: &Recipe,
    place: &Workplace,
    watch: &mut dyn Watch,
) -> Result<Outcome, TrainError> {
    recipe.validate()?;
    let config = recipe.config();
    let model = model_directory(&place.directory);
    let source = TrajectorySource::open(&model, &recipe.trajectories, recipe.seed, place)?;
    let shards = source.shards(&place.directory.join("trajectories")).in_any_dtype();
    let early = match recipe.student.own_prefix() {
        Some(prefix) => {
            let shards = source.prefix_shards(&prefix_directory(&place.directory), prefix);
            let shards = shards.in_any_dtype();
            Some((shards.read("trajectories")?, shards.settings))
        }
        None => None,
    };
    drop(source);
    let teacher = product::load_teacher(&model, place, &config, place.kind)?;
    let mut pairs = shards.read("trajectories")?;
    let held_out = pairs.split_off(pairs.len() - recipe.student.held_out as usize);
    let vae = product::load_vae(&model, place, &config, Kind::Float)?;
    let quantize = vae.network.quantize;
    let spread = Spread::of(&quantize, &config, &held_out, place);
    let start = product::start("student", place, |at| {
        Student::load(at, &config);
    })?;
    let mut settings = json!({
        "common": product::common_settings(recipe, place.kind),
        "student": recipe.student,
        "trajectories": shards.settings,
        "pairs": shards.total,
        "start": start.as_ref().map(|start| start.1),
    });
    if let Some((_, made_with)) = &early {
        settings["first_scales"] = made_with.clone();
    }
    let early = early.map(|early| early.0);
    let stage = Stage {
        name: "student",
        place,
        run: &recipe.student.run,
        settings,
        initial: match start {
            Some((tensors, _)) => tensors,
            None => initial::from_teacher(&teacher.tensors, recipe.seed),
        },
        layout: Layout::of(|at| {
            Student::load(at, &config);
        }),
        seed: recipe.seed,
        curves: &["loss", "codes", "vectors", "sums", "held_out_codes", "held_out_vectors"],
    };
    let weights = stage.run(watch, |_| {
        Ok(StudentLesson {
            deck: Deck::new(recipe.seed, pairs.len()),
            prefix_deck: Deck::new(
                recipe.seed ^ PREFIXES,
                early.as_ref().map_or(pairs.len(), Pairs::len),
            ),
            early,
            weights: Weights::of(&config, &recipe.student, place),
            recipe: recipe.clone(),
            config: config.clone(),
            place: place.clone(),
            quantize,
            spread,
            pairs,
            held_out,
        })
    })?;
    if let Some(weights) = &weights {
        product::write_half(&model.join("student.safetensors"), weights)?;
        product::write_config(&place.directory, &config)?;
    }
    Ok(outcome(weights))
}

/// How much each token counts, f32 `[N]`: `n^-balance` in a scale of `n` tokens, and `other_head` of
/// that for the head that does not draw its scale in the model's plans.
#[derive(Debug)]
struct Weights {
    codes: Tensor,
    vectors: Tensor,
    /// Of a head that draws all scales.
    whole: Tensor,
}

impl Weights {
    fn of(config: &Config, recipe: &StudentRecipe, place: &Workplace) -> Self {
        let of_head = |draws: &dyn Fn(usize) -> bool| {
            let sizes = config.patch_nums.iter().map(|side| side * side).enumerate();
            let weights = sizes.flat_map(|(scale, n)| {
                let of_head = if draws(scale) { 1.0 } else { recipe.other_head };
                let weight = of_head * (n as f64).powf(-recipe.balance);
                std::iter::repeat_n(weight as f32, n as usize)
            });
            Tensor::from_slice(&weights.collect::<Vec<_>>()).to_device(place.device)
        };
        let split = recipe.split();
        Self {
            codes: of_head(&|scale| scale < split),
            vectors: of_head(&|scale| scale >= split),
            whole: of_head(&|_| true),
        }
    }

    /// Those of some tokens for the codes and for the vectors, mean 1 where a head draws all of
    /// them: what it does not draw counts less, also where it draws nothing of these.
    fn of_tokens(&self, from: i64, count: i64) -> [Tensor; 2] {
        let mean = self.whole.narrow(0, from, count).mean(Kind::Float);
        [&self.codes, &self.vectors].map(|weights| weights.narrow(0, from, count) / &mean)
    }
}

/// How far code vectors and their sums lie from their means: what squared errors are relative to.
#[derive(Clone, Copy, Debug)]
struct Spread {
    vectors: f64,
    sums: f64,
}

impl Spread {
    fn of(
        quantize: &crate::net::quantizer::Quantizer,
        config: &Config,
        pairs: &Pairs,
        place: &Workplace,
    ) -> Self {
        let _no_grad = tch::no_grad_guard();
        let rows: Vec<usize> = (0..pairs.len().min(256)).collect();
        let vectors = quantize.lookup(&batch_of(pairs, &rows, place.device).1);
        let variance = |x: &Tensor, dims: &[i64]| {
            let mean = x.mean_dim(dims, true, Kind::Float);
            (x - mean).square().mean(Kind::Float).double_value(&[]).max(1e-9)
        };
        let sums = quantize.partial_sums(&vectors);
        Self {
            vectors: variance(&vectors, &[0, 1]),
            sums: variance(&sums[config.scales() - 1], &[0, 2, 3]),
        }
    }
}

#[derive(Debug)]
struct StudentLesson {
    recipe: Recipe,
    config: Config,
    place: Workplace,
    quantize: crate::net::quantizer::Quantizer,
    spread: Spread,
    weights: Weights,
    pairs: Pairs,
    held_out: Pairs,
    /// Pairs of the first scales alone, where there are some.
    early: Option<Pairs>,
    deck: Deck,
    /// Of steps that show the first scales alone.
    prefix_deck: Deck,
}

/// Tells the order of pairs in steps that show the first scales alone from that in others.
const PREFIXES: u64 = 1 << 40;

/// The stage's number, for chances.
const STAGE: u64 = 6;

/// Losses of one pass, f32 `[]`, and which codes are right.
struct Losses {
    codes: Tensor,
    vectors: Tensor,
    sums: Tensor,
    /// 1 where a code is right and 0 elsewhere, f32 `[B, n]`.
    right: Tensor,
}

/// The shares of codes that are right in each of the first scales, as figures.
const RIGHT: [&str; 6] = ["right_1", "right_2", "right_3", "right_4", "right_5", "right_6"];

impl StudentLesson {
    /// Labels, codes i64 `[B, N]` and noise f32 `[B, N, Cv]` of some pairs.
    fn batch(&self, pairs: &Pairs, rows: &[usize]) -> (Tensor, Tensor, Tensor) {
        let (labels, codes) = batch_of(pairs, rows, self.place.device);
        let seeds: Vec<_> = rows.iter().map(|&row| pairs.seeds[row]).collect();
        let noise = noise::noise(&seeds, codes.size()[1], self.config.latent_channels);
        (labels, codes, noise.to_device(self.place.device))
    }

    /// One pass over some scales; those before them are given.
    fn pass(
        &self,
        student: &Student,
        (labels, codes, noise): (&Tensor, &Tensor, &Tensor),
        scales: Range<usize>,
    ) -> Losses {
        let given = self.config.tokens_before(scales.start);
        let n = self.config.tokens_before(scales.end);
        let codes = codes.narrow(1, 0, n);
        let target = self.quantize.lookup(&codes);
        let input =
            Tensor::cat(&[target.narrow(1, 0, given), noise.narrow(1, given, n - given)], 1);
        let conditioning = student.condition(labels);
        let hidden = student.forward(&input, given, &conditioning);
        let logits = student.logits(&hidden, given, n, &conditioning);
        let vectors = student.vectors(&hidden, given, n, &conditioning);
        let wanted = codes.narrow(1, given, n - given);
        let [of_codes, of_vectors] = self.weights.of_tokens(given, n - given);
        let codes_loss = (cross_entropy(&logits, &wanted) * of_codes).mean(Kind::Float);
        let square = (&vectors - target.narrow(1, given, n - given)).square().mean_dim(
            [-1i64].as_slice(),
            false,
            Kind::Float,
        );
        let vectors_loss = (square * of_vectors).mean(Kind::Float) / self.spread.vectors;
        let right = logits.argmax(-1, false).eq_tensor(&wanted).to_kind(Kind::Float);
        if scales.end < self.config.scales() {
            // There is no picture to be like.
            let sums = Tensor::zeros([], (Kind::Float, self.place.device));
            return Losses { codes: codes_loss, vectors: vectors_loss, sums, right };
        }
        // As a step makes it: codes before the split, vectors from there on.
        let split = self.config.tokens_before(self.recipe.student.split());
        let from = given.max(split);
        let made =
            Tensor::cat(&[target.narrow(1, 0, from), vectors.narrow(1, from - given, n - from)], 1);
        let last = |tokens: &Tensor| self.quantize.partial_sums(tokens).pop().unwrap_or_default();
        let sums = (last(&made) - last(&target)).square().mean(Kind::Float) / self.spread.sums;
        Losses { codes: codes_loss, vectors: vectors_loss, sums, right }
    }
}

impl Lesson for StudentLesson {
    fn loss(&mut self, weights: StateDict, step: u64) -> Result<(Tensor, Figures), TrainError> {
        let recipe = &self.recipe.student;
        let scales = self.config.scales();
        let is_due = |prefix: &&PrefixRecipe| {
            product::chances(self.recipe.seed, STAGE, step, 1)[0] < prefix.share
        };
        let prefix = recipe.prefix.as_ref().filter(is_due);
        let rows = match prefix {
            Some(prefix) => {
                let more = prefix.for_one(&self.config) as usize;
                self.prefix_deck.batch(step, recipe.run.batch * more)
            }
            None => self.deck.batch(step, recipe.run.batch),
        };
        let pairs = self.early.as_ref().filter(|_| prefix.is_some()).unwrap_or(&self.pairs);
        let (labels, codes, noise) = self.batch(pairs, &rows);
        let student = build(weights, &self.place.ops(), self.place.kind, |at| {
            Student::load(at, &self.config)
        });
        let all = rows.len() as i64;
        let second = match prefix {
            Some(_) => 0,
            None => ((all as f64 * recipe.second_share).round() as i64).clamp(0, all - 1),
        };
        let parts = [
            (0, all - second, 0..prefix.map_or(scales, |prefix| prefix.scales)),
            (all - second, second, recipe.second_step..scales),
        ];
        let mut total = Tensor::zeros([], (Kind::Float, self.place.device));
        let mut figures = [0.0; 4];
        for (from, count, scales) in parts.into_iter().filter(|part| part.1 > 0) {
            let part = |tensor: &Tensor| tensor.narrow(0, from, count);
            let losses =
                self.pass(&student, (&part(&labels), &part(&codes), &part(&noise)), scales);
            let share = count as f64 / all as f64;
            let loss = &losses.codes * recipe.code_loss
                + &losses.vectors * recipe.vector_loss
                + &losses.sums * recipe.sum_loss;
            total += loss * share;
            let value = |tensor: &Tensor| tensor.double_value(&[]);
            let right = losses.right.mean(Kind::Float);
            let some =
                [value(&losses.codes), value(&losses.vectors), value(&losses.sums), value(&right)];
            figures.iter_mut().zip(some).for_each(|(sum, value)| *sum += share * value);
        }
        let [codes, vectors, sums, right] = figures;
        Ok((
            total,
            vec![("codes", codes), ("vectors", vectors), ("sums", sums), ("codes_right", right)],
        ))
    }

    fn examine(&mut self, weights: StateDict) -> Result<Exam, TrainError> {
        let (config, place) = (&self.config, &self.place);
        let student = build(weights, &place.ops(), Kind::Float, |at| Student::load(at, config));
        let all: Vec<usize> = (0..self.held_out.len()).collect();
        let mut sums = [0.0; 6 + RIGHT.len()];
        let first_scales = config.scales().min(RIGHT.len());
        for rows in all.chunks(TOGETHER) {
            let (labels, codes, noise) = self.batch(&self.held_out, rows);
            let losses = self.pass(&student, (&labels, &codes, &noise), 0..self.config.scales());
            let half = 0..self.config.scales() / 2;
            let early = self.pass(&student, (&labels, &codes, &noise), half);
            let share = rows.len() as f64 / all.len() as f64;
            let value = |tensor: &Tensor| tensor.double_value(&[]);
            let mean = |right: &Tensor| value(&right.mean(Kind::Float));
            let of_scale = |scale: usize| {
                let (from, to) = (config.tokens_before(scale), config.tokens_before(scale + 1));
                mean(&losses.right.narrow(1, from, to - from))
            };
            let some = [
                value(&losses.codes),
                value(&losses.vectors),
                value(&losses.sums),
                mean(&losses.right),
                value(&early.codes),
                mean(&early.right),
            ];
            let some = some.into_iter().chain((0..first_scales).map(of_scale));
            sums.iter_mut().zip(some).for_each(|(sum, value)| *sum += share * value);
        }
        let model = model_directory(&place.directory);
        let sampler = Sampler {
            config: config.clone(),
            student,
            teacher: None,
            vae: product::load_vae(&model, place, config, Kind::Float)?.network,
            device: place.device,
            parameters: 0,
            graphs: Graphs::default(),
        };
        let (psnr, sheet) = self.compare(&sampler)?;
        let mut figures = vec![
            ("held_out_codes", sums[0]),
            ("held_out_vectors", sums[1]),
            ("held_out_sums", sums[2]),
            ("held_out_codes_right", sums[3]),
            ("held_out_early_codes", sums[4]),
            ("held_out_early_codes_right", sums[5]),
        ];
        figures.extend(RIGHT.into_iter().zip(sums[6..].iter().copied()).take(first_scales));
        figures.extend(psnr);
        Ok(Exam { figures, sheet: Some((sheet, config.image_size() as usize, 3 * SHEET_EXAMPLES)) })
    }
}

impl StudentLesson {
    /// Teacher, one step and two steps from the same noise, side by side; and how near the steps'
    /// pictures are to the teacher's, in dB.
    fn compare(&self, sampler: &Sampler) -> Result<(Figures, Vec<Vec<u8>>), TrainError> {
        let classes = self.config.num_classes as usize;
        let mut rows: Vec<usize> =
            (0..(classes * SHEET_EXAMPLES).min(self.held_out.len())).collect();
        rows.sort_by_key(|&row| self.held_out.labels[row]);
        let (labels, codes, noise) = self.batch(&self.held_out, &rows);
        let split = self.recipe.student.split() as u32;
        let second = self.recipe.student.second_step as u32;
        let picture = |tokens: &Tensor| {
            let f_hat = sampler.f_hats(tokens).pop().unwrap_or_default();
            sampler.pictures(&f_hat)
        };
        let drawn = |t_list: Vec<u32>| {
            let plan = Plan::FewStep { t_list, loss_split_t: split };
            let batch = Batch { labels: &labels, noise: Some(&noise), seeds: &[] };
            let tokens = sampler
                .run(&plan, &batch, Frames::None, &mut |_| std::ops::ControlFlow::Continue(()))?;
            Ok::<_, TrainError>(picture(&tokens.unwrap_or_default()))
        };
        let teacher = picture(&self.quantize.lookup(&codes));
        let (one, two) = (drawn(vec![0])?, drawn(vec![0, second])?);
        let nearness = |pictures: &Tensor| {
            let square = (pictures - &teacher).square().mean_dim(
                [1i64, 2, 3].as_slice(),
                false,
                Kind::Float,
            );
            (square.clamp_min(1e-9).log10() * -10.0).mean(Kind::Double).double_value(&[])
        };
        let figures =
            vec![("one_step_psnr_db", nearness(&one)), ("two_steps_psnr_db", nearness(&two))];
        let columns = [to_rgb8(&teacher)?, to_rgb8(&one)?, to_rgb8(&two)?];
        let sheet = (0..rows.len())
            .flat_map(|row| columns.iter().map(move |column| column[row].clone()))
            .collect();
        Ok((figures, sheet))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{net::teacher::Teacher, ops::Settings};

    fn place() -> Workplace {
        Workplace {
            directory: ".".into(),
            device: Device::Cpu,
            kind: Kind::Float,
            start: None,
            settings: Settings::default(),
        }
    }

    #[test]
    fn a_student_begins_with_the_teachers_rows_around_a_new_one() {
        let config = Recipe::preset("smoke").unwrap().config();
        let layout = Layout::of(|at| {
            Teacher::load(at, &config);
        });
        let teacher =
            super::super::parameters::Parameters::new(layout, 3, &StateDict::new(), Device::Cpu)
                .live();
        let student = initial::from_teacher(&teacher, 4);
        let (t, s) = (&teacher["lvl_embed.weight"], &student["lvl_embed.weight"]);
        assert_eq!(s.size()[0], t.size()[0] + 1);
        assert_eq!(s.get(0), t.get(0));
        for k in 1..t.size()[0] {
            assert_eq!(s.get(k + 1), t.get(k));
        }
        assert!((0..t.size()[0]).all(|k| s.get(1) != t.get(k)));
        let (t, s) = (teacher["pos_1LC"].squeeze(), student["pos_1LC"].squeeze());
        assert_eq!(s.size()[0], t.size()[0] + 1);
        assert_eq!(s.get(0), t.get(0));
        assert_eq!(s.narrow(0, 2, t.size()[0] - 1), t.narrow(0, 1, t.size()[0] - 1));
        // Every class keeps its embedding.
        assert_eq!(student["class_emb.weight"], teacher["class_emb.weight"]);
        // What the teacher has, the student takes over in name and shape.
        let wanted = Layout::of(|at| {
            Student::load(at, &config);
        });
        let shapes: std::collections::BTreeMap<_, _> = wanted.entries().iter().cloned().collect();
        assert!(student.iter().all(|(name, tensor)| shapes[name] == tensor.size()));
    }

    #[test]
    fn the_first_scales_alone_are_as_in_a_whole_pass() {
        let config = Recipe::preset("smoke").unwrap().config();
        let layout = Layout::of(|at| {
            Student::load(at, &config);
        });
        let weights =
            super::super::parameters::Parameters::new(layout, 3, &StateDict::new(), Device::Cpu)
                .live();
        let student = build(weights, &place().ops(), Kind::Float, |at| Student::load(at, &config));
        let (tokens, first) = (config.tokens(), config.tokens_before(2));
        let sequence =
            Tensor::randn([2, tokens, config.latent_channels], (Kind::Float, Device::Cpu));
        let conditioning = student.condition(&Tensor::from_slice(&[0i64, 1]));
        let logits = |n: i64| {
            let hidden = student.forward(&sequence.narrow(1, 0, n), 0, &conditioning);
            student.logits(&hidden, 0, first, &conditioning)
        };
        let (alone, whole) = (logits(first), logits(tokens));
        assert!(alone.allclose(&whole, 1e-4, 1e-4, false));
    }

    #[test]
    fn tokens_of_small_scales_weigh_more_and_one_in_the_mean() {
        let recipe = Recipe::preset("smoke").unwrap();
        let config = recipe.config();
        let some = |balance: f64, other_head: f64, from: i64, count: i64| {
            let recipe = StudentRecipe { balance, other_head, ..recipe.student.clone() };
            let weights = Weights::of(&config, &recipe, &place()).of_tokens(from, count);
            weights.map(|weights| Vec::<f32>::try_from(weights).unwrap())
        };
        let weights = |balance: f64, other_head: f64| some(balance, other_head, 0, 14);
        let near = |a: f32, b: f32| (a - b).abs() < 1e-5;
        let [codes, vectors] = weights(0.5, 1.0);
        assert!(near(codes.iter().sum::<f32>() / 14.0, 1.0));
        assert!(near(codes[0] / codes[1], 2.0) && near(codes[0] / codes[13], 3.0));
        assert_eq!(codes, vectors);
        assert_eq!(weights(0.0, 1.0), [vec![1.0; 14], vec![1.0; 14]]);
        // Split behind the second scale: codes of five tokens and vectors of nine are drawn.
        let [codes, vectors] = weights(0.0, 0.25);
        assert!(near(codes[4] / codes[5], 4.0) && near(vectors[5] / vectors[4], 4.0));
        assert!(near(codes[0], codes[4]) && near(vectors[5], vectors[13]));
        // Also where all tokens of a pass are the other head's.
        let [codes, vectors] = some(0.5, 0.25, 5, 9);
        assert!(codes.iter().all(|&weight| near(weight, 0.25)));
        assert!(vectors.iter().all(|&weight| near(weight, 1.0)));
    }
}
