//! What a judge says of a model's pictures.

use std::{ops::ControlFlow, path::Path};

use tch::{Device, Tensor};

use super::{
    TrainError, Watch, Workplace,
    deck::Deck,
    feed::Stream,
    judge::{Judge, share_right},
    pictures,
    sheet::to_network,
};
use crate::{
    bundle::Bundle,
    evaluate::frechet::{FrechetError, Statistics},
    sample::{Batch, Frames, Sampler, noise, noise::PictureSeed, plan::Plan},
};

/// Pictures drawn together.
const TOGETHER: usize = 64;

/// Seed of the drawn pictures that distances are measured to; no network learns from it.
const REFERENCE: u64 = 0x7265_6665_0000;

/// The score of one way of making pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The way, as `1 step`.
    pub way: String,
    /// Share of pictures whose class the judge names.
    pub named_right: f64,
    /// Fréchet distance to drawn pictures in the judge's features.
    pub frechet: f64,
}

/// Judged pictures.
#[derive(Debug, Default)]
struct Judged {
    features: Vec<Tensor>,
    logits: Vec<Tensor>,
}

impl Judged {
    fn add(&mut self, judge: &Judge, pictures: &Tensor) {
        let verdict = judge.judge(pictures);
        self.features.push(verdict.features.to_device(Device::Cpu));
        self.logits.push(verdict.logits.to_device(Device::Cpu));
    }

    fn statistics(&self) -> Result<Statistics, TrainError> {
        Statistics::of_features(&Tensor::cat(&self.features, 0)).map_err(failed)
    }

    fn score(
        &self,
        way: &str,
        labels: &[i64],
        reference: &Statistics,
    ) -> Result<Score, TrainError> {
        Ok(Score {
            way: way.into(),
            named_right: share_right(&Tensor::cat(&self.logits, 0), &Tensor::from_slice(labels)),
            frechet: self.statistics()?.distance(reference).map_err(failed)?,
        })
    }
}

fn failed(error: FrechetError) -> TrainError {
    TrainError::Mismatch(error.to_string())
}

/// Scores the bundle in `model`: drawn pictures and their reconstructions for comparison, every
/// plan of the bundle, and, where it has a teacher, the naive step that draws every token from the
/// teacher without seeing the others.
///
/// `count` pictures of each way, classes in turn.
///
/// # Errors
/// When bundle or judge cannot be used or are of other pictures than each other.
pub fn score(
    model: &Path,
    judge: &Path,
    count: usize,
    seed: u64,
    place: &Workplace,
    watch: &mut dyn Watch,
) -> Result<Vec<Score>, TrainError> {
    let _no_grad = tch::no_grad_guard();
    let bundle = Bundle::open(model)?;
    let (judge, knows) = Judge::open(judge, place)?;
    let config = &bundle.config;
    if knows.side != config.image_size() || knows.classes != config.classes {
        return Err(TrainError::Mismatch(format!(
            "the judge knows {} classes of {}×{1} pictures, and the model makes {} classes of \
             {}×{3}; train a judge for it",
            knows.classes.len(),
            knows.side,
            config.num_classes,
            config.image_size()
        )));
    }
    if config.num_classes as usize > pictures::CLASSES.len() || count < 2 {
        return Err(TrainError::Mismatch(format!(
            "{count} pictures of {} classes cannot be drawn to compare with; at least 2 of at most \
             {} classes can",
            config.num_classes,
            pictures::CLASSES.len()
        )));
    }
    let sampler = bundle.sampler(&place.ops(), place.kind)?;
    let scoring = Scoring {
        judge,
        labels: (0..count as i64).map(|index| index % config.num_classes).collect(),
        stream: Stream {
            seed: seed.wrapping_add(REFERENCE),
            classes: config.num_classes as usize,
            side: knows.side as u32,
            variety: knows.variety as f32,
        },
        sampler,
        seed,
        place: place.clone(),
    };
    let mut reference = Judged::default();
    let mut ways: Vec<(String, Option<Plan>)> = vec![("drawn".into(), None)];
    for preset in &config.plans {
        if scoring.sampler.teacher.is_some() || !preset.plan.needs_teacher() {
            ways.push((preset.name.clone(), Some(preset.plan.clone())));
        }
    }
    watch.begin("score", 0, ((ways.len() + 1) * count) as u64, "pictures");
    let mut done = 0u64;
    let mut step = |pictures: usize| {
        done += pictures as u64;
        watch.advance(done, &[])
    };
    for from in (0..count).step_by(TOGETHER) {
        let drawn = scoring.drawn(from as u64, TOGETHER.min(count - from))?;
        reference.add(&scoring.judge, &drawn);
        let _ = step(drawn.size()[0] as usize);
    }
    let reference = reference.statistics()?;
    let mut scores = Vec::new();
    for (way, plan) in ways {
        match plan {
            None => scores.extend(scoring.of_drawn(count, &reference, &mut step)?),
            Some(plan) => scores.extend(scoring.of_plan(&way, &plan, &reference, &mut step)?),
        }
    }
    watch.end();
    Ok(scores)
}

struct Scoring {
    sampler: Sampler,
    judge: Judge,
    labels: Vec<i64>,
    stream: Stream,
    seed: u64,
    place: Workplace,
}

impl Scoring {
    /// Drawn pictures for the networks.
    fn drawn(&self, from: u64, count: usize) -> Result<Tensor, TrainError> {
        let drawn = self.stream.draw(from, count)?;
        Ok(to_network(&drawn.pictures, i64::from(self.stream.side), self.place.device))
    }

    /// Other drawn pictures, and what the VAE makes of them: the best that a score can be, and the
    /// best with this VAE.
    fn of_drawn(
        &self,
        count: usize,
        reference: &Statistics,
        step: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Score>, TrainError> {
        let (mut drawn, mut again) = (Judged::default(), Judged::default());
        let vae = &self.sampler.vae;
        for from in (0..count).step_by(TOGETHER) {
            // Behind the reference's; the first index of a class in turn.
            let start = count.next_multiple_of(self.stream.classes) + from;
            let pictures = self.drawn(start as u64, TOGETHER.min(count - from))?;
            drawn.add(&self.judge, &pictures);
            let codes = Tensor::cat(&vae.tokenize(&pictures), 1);
            let f_hat =
                vae.quantize.partial_sums(&vae.quantize.lookup(&codes)).pop().unwrap_or_default();
            again.add(&self.judge, &vae.decode(&f_hat));
            let _ = step(pictures.size()[0] as usize);
        }
        Ok(vec![
            drawn.score("drawn", &self.labels, reference)?,
            again.score("drawn, through the VAE", &self.labels, reference)?,
        ])
    }

    fn of_plan(
        &self,
        way: &str,
        plan: &Plan,
        reference: &Statistics,
        step: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Score>, TrainError> {
        let config = &self.sampler.config;
        let is_teacher = matches!(plan, Plan::Teacher { .. });
        let (mut judged, mut all_tokens) = (Judged::default(), Vec::new());
        for (from, labels) in (0u64..).step_by(TOGETHER).zip(self.labels.chunks(TOGETHER)) {
            let seeds: Vec<PictureSeed> = (from..from + labels.len() as u64)
                .map(|index| PictureSeed { seed: self.seed, index })
                .collect();
            let noise = (!is_teacher)
                .then(|| noise::noise(&seeds, config.tokens(), config.latent_channels));
            let labels = Tensor::from_slice(labels);
            let batch = Batch { labels: &labels, noise: noise.as_ref(), seeds: &seeds };
            let tokens =
                self.sampler.run(plan, &batch, Frames::None, &mut |_| ControlFlow::Continue(()))?;
            let tokens = tokens.unwrap_or_default();
            judged.add(&self.judge, &self.decoded(&tokens));
            let _ = step(tokens.size()[0] as usize);
            if is_teacher {
                all_tokens.push(tokens);
            }
        }
        let mut scores = vec![judged.score(way, &self.labels, reference)?];
        if is_teacher {
            let mut naive = Judged::default();
            let tokens = self.apart(&Tensor::cat(&all_tokens, 0));
            for some in tokens.split(TOGETHER as i64, 0) {
                naive.add(&self.judge, &self.decoded(&some));
            }
            scores.push(naive.score("naive 1 step", &self.labels, reference)?);
        }
        Ok(scores)
    }

    /// Pictures of tokens, −1…1.
    fn decoded(&self, tokens: &Tensor) -> Tensor {
        let f_hat = self.sampler.f_hats(tokens).pop().unwrap_or_default();
        self.sampler.pictures(&f_hat) * 2.0 - 1.0
    }

    /// Every token drawn from the teacher without seeing the others: the teacher's law at a
    /// position, given the class alone, is that of its pictures' tokens there, so each position
    /// takes its token from another picture of the class.
    fn apart(&self, tokens: &Tensor) -> Tensor {
        let size = tokens.size();
        let (count, n) = (size[0], size[1]);
        let classes = self.stream.classes;
        let rounds = (count as usize / classes).max(1);
        let columns: Vec<Tensor> = (0..n)
            .map(|position| {
                let order =
                    Deck::new(self.seed.wrapping_add(position as u64), rounds).batch(0, rounds);
                let of =
                    |row: usize| (row % classes + classes * order[row / classes % rounds]) as i64;
                let rows: Vec<i64> =
                    (0..count as usize).map(of).map(|row| row.min(count - 1)).collect();
                tokens
                    .narrow(1, position, 1)
                    .index_select(0, &Tensor::from_slice(&rows).to_device(tokens.device()))
            })
            .collect();
        Tensor::cat(&columns, 1)
    }
}
