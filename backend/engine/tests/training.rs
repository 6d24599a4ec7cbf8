//! The whole chain on the smallest recipe: from nothing to scores, through interruptions, and what
//! it refuses.

#![allow(clippy::unwrap_used)]

use std::{fs, num::NonZeroUsize, ops::ControlFlow, path::Path};

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use var_dd_engine::{
    bundle::Bundle,
    device::use_threads,
    evaluate::features::FeatureNetwork,
    ops::{Ops, Settings},
    train::{
        Outcome, TrainError, Watch, Workplace, judge,
        judge_features::JudgeFeatures,
        product::model_directory,
        recipe::Recipe,
        score::{self, Score},
        student, teacher, trajectory, vae,
        verify::{LawCheck, Trial, verify_flow},
    },
};

/// Stops each stage once, as a kill would, when so many steps are done.
struct Interrupted {
    at: Option<u64>,
    stopped: Vec<String>,
    stage: String,
}

impl Interrupted {
    fn never() -> Self {
        Self { at: None, stopped: Vec::new(), stage: String::new() }
    }

    fn once_at(step: u64) -> Self {
        Self { at: Some(step), ..Self::never() }
    }
}

impl Watch for Interrupted {
    fn begin(&mut self, stage: &str, _: u64, _: u64, _: &'static str) {
        stage.clone_into(&mut self.stage);
    }
    fn advance(&mut self, done: u64, _: &[(&str, f64)]) -> ControlFlow<()> {
        if self.at.is_some_and(|at| done >= at) && !self.stopped.contains(&self.stage) {
            self.stopped.push(self.stage.clone());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
    fn tell(&mut self, _: &str) {}
    fn end(&mut self) {}
}

fn place(directory: &Path) -> Workplace {
    // Networks this small lose more to a second thread than they gain.
    let threads = NonZeroUsize::new(1);
    use_threads(threads);
    Workplace {
        directory: directory.to_owned(),
        device: Device::Cpu,
        kind: Kind::Float,
        start: None,
        settings: Settings { threads, ..Settings::default() },
    }
}

/// Runs a stage to its end, as often as it is stopped.
fn to_the_end(mut stage: impl FnMut() -> Result<Outcome, TrainError>) {
    while stage().unwrap() == Outcome::Stopped {}
}

fn chain(recipe: &Recipe, place: &Workplace, watch: &mut Interrupted) {
    to_the_end(|| vae::train(recipe, place, watch));
    to_the_end(|| teacher::train(recipe, place, watch));
    to_the_end(|| trajectory::make(recipe, place, watch));
    to_the_end(|| student::train(recipe, place, watch));
    to_the_end(|| judge::train(recipe, place, watch));
}

/// Every step and its loss.
fn losses(run: &Path, stage: &str) -> Vec<(u64, f64)> {
    let text = fs::read_to_string(run.join(stage).join("metrics.jsonl")).unwrap();
    let of = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["step"].as_u64().unwrap(), line["loss"].as_f64().unwrap())
    };
    text.lines().map(of).collect()
}

fn judge_describes_pictures_of_its_size_only(judge: &Path, side: i64) {
    let network = JudgeFeatures::open(&judge.join("judge.safetensors"), Device::Cpu).unwrap();
    let black = |height| Tensor::zeros([2, height, side, 3], (Kind::Uint8, Device::Cpu));
    let seen = network.describe(&black(side)).unwrap();
    assert_eq!(seen.pooled.size(), [2, network.features()]);
    let sums = Vec::<f32>::try_from(seen.probabilities.unwrap().sum_dim_intlist(
        [1i64].as_slice(),
        false,
        Kind::Float,
    ));
    assert!(sums.unwrap().iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    let error = network.describe(&black(side + 1)).unwrap_err().to_string();
    assert!(error.contains(&format!("{}", side + 1)), "{error}");
    assert_eq!(network.side(), Some(side));
}

fn a_judge_s_weights_are_those_of_the_file_that_is_named(judge: &Path) {
    let other = judge.join("other.safetensors");
    fs::write(&other, "<html>").unwrap();
    let error = JudgeFeatures::open(&other, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("other.safetensors"), "{error}");
    fs::copy(judge.join("judge.safetensors"), &other).unwrap();
    JudgeFeatures::open(&other, Device::Cpu).unwrap();
    fs::remove_file(&other).unwrap();
}

#[test]
fn the_chain_runs_from_nothing_and_interruptions_change_no_bit_of_it() {
    let recipe = Recipe::preset("smoke").unwrap();
    let (straight, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    chain(&recipe, &place(straight.path()), &mut Interrupted::never());
    // Between two checkpoints, so that some steps are done twice.
    let mut watch = Interrupted::once_at(10);
    chain(&recipe, &place(broken.path()), &mut watch);
    assert_eq!(
        watch.stopped,
        ["eye", "vae", "tokens", "teacher", "trajectories", "first scales", "student", "judge",]
    );
    for stage in ["eye", "vae", "teacher", "student", "judge"] {
        let (one, other) = (losses(straight.path(), stage), losses(broken.path(), stage));
        assert_eq!(one.len(), 24, "{stage}");
        assert_eq!(
            one, other,
            "{stage}: a resumed run has the losses of one that was never stopped"
        );
        let mean =
            |some: &[(u64, f64)]| some.iter().map(|line| line.1).sum::<f64>() / some.len() as f64;
        assert!(mean(&one[18..]) < 0.97 * mean(&one[..6]), "{stage} learns: {one:?}");
        for file in ["curve.png", "checkpoint.safetensors"] {
            assert!(straight.path().join(stage).join(file).is_file(), "{stage}/{file}");
        }
        if stage != "judge" && stage != "eye" {
            assert!(straight.path().join(stage).join("sheet-000024.png").is_file(), "{stage}");
        }
    }
    for file in [
        "model/config.json",
        "model/vae.safetensors",
        "model/teacher.safetensors",
        "model/student.safetensors",
        "judge/judge.safetensors",
    ] {
        let read = |run: &Path| fs::read(run.join(file)).unwrap();
        assert!(read(straight.path()) == read(broken.path()), "{file} differs");
    }

    let place = place(straight.path());
    let (model, judge) = (model_directory(straight.path()), straight.path().join("judge"));
    let sampler = Bundle::open(&model)
        .unwrap()
        .sampler(&Ops::open(Device::Cpu, Settings::default()), Kind::Float)
        .unwrap();
    assert!(sampler.teacher.is_some() && sampler.config.plans.len() == 4);

    judge_describes_pictures_of_its_size_only(&judge, sampler.config.image_size());
    a_judge_s_weights_are_those_of_the_file_that_is_named(&judge);

    let scores = score::score(&model, &judge, 32, 3, &place, &mut Interrupted::never()).unwrap();
    let ways: Vec<&str> = scores.iter().map(|score| score.way.as_str()).collect();
    assert_eq!(
        ways,
        [
            "drawn",
            "drawn, through the VAE",
            "1 step",
            "2 steps",
            "3 steps with teacher",
            "teacher, 3 steps",
            "naive 1 step"
        ]
    );
    let drawn = &scores[0];
    assert!(drawn.named_right > 0.25, "the judge names {} of what it learned", drawn.named_right);
    let nearest = |score: &Score| score.frechet > drawn.frechet;
    assert!(
        scores[1..].iter().all(nearest),
        "nothing is nearer to drawn pictures than drawn pictures: {scores:?}"
    );
    let again = score::score(&model, &judge, 32, 3, &place, &mut Interrupted::never()).unwrap();
    assert_eq!(scores, again);

    let mut checks = Vec::new();
    let mut found = |check: &LawCheck| checks.push(check.clone());
    let trial = Trial { class: 2, seed: 5, draws: 20_000, steps: vec![3, 40] };
    verify_flow(&model, &recipe.trajectories, &trial, &place, &mut found).unwrap();
    assert_eq!(checks.iter().map(|check| check.scale).collect::<Vec<_>>(), [1, 2]);
    for check in &checks {
        assert!(check.codes > 3, "{check:?}");
        assert!(check.outcomes[1].1.p > 0.01, "40 steps follow the law: {check:?}");
        assert!(check.outcomes[0].1.p < 1e-6, "3 steps cannot: {check:?}");
    }

    // Another run can begin where this one has ended.
    let on = tempfile::tempdir().unwrap();
    let mut further = recipe.clone();
    further.vae.run.steps = 4;
    let start = Workplace { directory: on.path().to_owned(), start: Some(model), ..place.clone() };
    vae::train(&further, &start, &mut Interrupted::never()).unwrap();
    let (first, anew) = (losses(on.path(), "vae")[0].1, losses(straight.path(), "vae")[0].1);
    assert!(first < 0.8 * anew, "{first} where a run from nothing begins at {anew}");
    further.sizes.latent_channels = 8;
    let error = vae::train(&further, &start, &mut Interrupted::never()).unwrap_err().to_string();
    assert!(
        error.contains("quant_conv.weight is [4, 4, 3, 3] and should be [8, 8, 3, 3]"),
        "{error}"
    );

    refusals(&recipe, &place);
}

/// What a finished run refuses, with nothing lost.
fn refusals(recipe: &Recipe, place: &Workplace) {
    let model = model_directory(&place.directory);
    let before = fs::read(model.join("student.safetensors")).unwrap();
    let mut watch = Interrupted::never();
    let mut fewer = recipe.clone();
    fewer.sizes.num_classes = 10;
    let error = vae::train(&fewer, place, &mut watch).unwrap_err().to_string();
    assert!(
        error.contains("num_classes was 16 and is 10") && error.contains("--output"),
        "{error}"
    );
    let error = student::train(&fewer, place, &mut watch).unwrap_err().to_string();
    assert!(error.contains("class_emb.weight") && error.contains("[17, 32]"), "{error}");
    let mut wider = recipe.clone();
    wider.sizes.transformer.width = 64;
    let error = student::train(&wider, place, &mut watch).unwrap_err().to_string();
    assert!(
        error.contains("teacher.safetensors") && error.contains("word_embed.weight"),
        "{error}"
    );
    let mut longer = recipe.clone();
    longer.student.run.steps = 30;
    let error = student::train(&longer, place, &mut watch).unwrap_err().to_string();
    assert!(error.contains("student.run.steps was 24 and is 30"), "{error}");
    let mut other_law = recipe.clone();
    other_law.trajectories.guidance.cfg = 3.0;
    let error = student::train(&other_law, place, &mut watch).unwrap_err().to_string();
    assert!(error.contains("guidance.cfg was 2.0 and is 3.0"), "{error}");

    // A judge of other classes.
    let judge = place.directory.join("judge");
    let text = fs::read_to_string(judge.join("judge.json")).unwrap();
    fs::write(judge.join("judge.json"), text.replace("\"fish\"", "\"bird\"")).unwrap();
    let error = score::score(&model, &judge, 32, 3, place, &mut watch).unwrap_err().to_string();
    assert!(error.contains("train a judge"), "{error}");

    // A shard that is lost names the command that makes it.
    fs::remove_file(place.directory.join("trajectories/00001.safetensors")).unwrap();
    let error = student::train(recipe, place, &mut watch).unwrap_err().to_string();
    assert!(
        error.contains("00001.safetensors") && error.contains("var-dd train trajectories"),
        "{error}"
    );
    fs::remove_file(model.join("teacher.safetensors")).unwrap();
    let error = student::train(recipe, place, &mut watch).unwrap_err().to_string();
    assert!(
        error.contains("teacher.safetensors is missing") && error.contains("var-dd train teacher"),
        "{error}"
    );
    assert!(fs::read(model.join("student.safetensors")).unwrap() == before);
}
