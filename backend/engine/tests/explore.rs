//! Pictures handled by their tokens: against outputs of the released method, and against the
//! definitions in `docs/method.md`.

#![allow(clippy::unwrap_used)]

mod networks;

use std::ops::ControlFlow;

use networks::{config, data, demo, device, distance, same_codes, sampler, seeds, tiny_4};
use tch::{Device, Kind, Tensor};
use var_dd_engine::{
    config::{Config, VaeConfig},
    sample::{
        Batch, Event, Frames, SampleError, Sampler,
        explore::{Course, Editor, Mask},
        noise::{self, PictureSeed},
        plan::{Guidance, Pass, Plan},
    },
    weights::formula,
};

/// How far a number may lie from the reference.
const TOLERANCE: f64 = 2e-3;

/// Frames as (pass, scale, pictures), and the final tokens.
struct Followed {
    tokens: Tensor,
    frames: Vec<(usize, usize, Tensor)>,
}

fn follow(
    sampler: &Sampler,
    course: &Course,
    labels: &Tensor,
    noise: Option<&Tensor>,
    seeds: &[PictureSeed],
) -> Result<Followed, SampleError> {
    let mut frames = Vec::new();
    let batch = Batch { labels, noise, seeds };
    let tokens = sampler.follow(course, &batch, Frames::InOrder, &mut |event| {
        if let Event::Decoded { pass, scale, pictures, .. } = event {
            frames.push((pass, scale, pictures.to_device(Device::Cpu).copy()));
        }
        ControlFlow::Continue(())
    })?;
    let passes = course.passes(sampler.config.scales() as u32);
    let places: Vec<_> =
        Pass::frames(&passes).iter().map(|at| (at.pass as usize, at.scale as usize)).collect();
    let seen: Vec<_> = frames.iter().map(|(pass, scale, _)| (*pass, *scale)).collect();
    assert_eq!(seen, places, "the frames are those of the passes");
    Ok(Followed { tokens: tokens.unwrap().to_device(Device::Cpu), frames })
}

fn noise_of(sampler: &Sampler, seed: u64) -> Tensor {
    noise::noise(&seeds(seed, 1), sampler.config.tokens(), sampler.config.latent_channels)
}

fn drawn(sampler: &Sampler, plan: &Plan, class: i64, seed: u64) -> Followed {
    let labels = Tensor::from_slice(&[class]);
    let noise = noise_of(sampler, seed);
    follow(sampler, &Course::Plan(plan), &labels, Some(&noise), &seeds(seed, 1)).unwrap()
}

fn small_5() -> Sampler {
    let config = Config {
        vae: VaeConfig {
            channels: 32,
            channel_multipliers: vec![1, 2],
            residual_blocks: 1,
            norm_groups: 32,
        },
        num_classes: 10,
        classes: (0..10).map(|class| format!("class {class}")).collect(),
        ..config(&[1, 2, 3, 5, 7], 3, 50, 6)
    };
    sampler(&config)
}

fn check_released(sampler: &Sampler, inputs: &str, outputs: &str) {
    let (inputs, expected) = (data(inputs), data(outputs));
    let near = |name: &str, ours: &Tensor| {
        let off = distance(ours, &expected[name]);
        assert!(off <= TOLERANCE, "{name} is off by {off:.1e}");
    };
    let thinned = |x: &Tensor| x.slice(2, None, None, 4).slice(3, None, None, 4);
    let encoded = sampler.encode(&inputs["encode.picture"]).unwrap();
    assert!(same_codes(&encoded.codes, &expected["encode.codes"]), "encode.codes");
    near("encode.f", &encoded.f);
    near("encode.f_hat", &encoded.f_hat);
    near("encode.image", &thinned(&(sampler.pictures(&encoded.f_hat) * 2.0 - 1.0)));

    let labels = &inputs["labels"];
    let size = [labels.size()[0], sampler.config.tokens(), sampler.config.latent_channels];
    let (first, second) = (formula::noise("noise", &size), formula::noise("noise_2", &size));
    let mut compared = 0;
    for name in expected.keys() {
        let Some((plan, from_scale)) = name
            .strip_suffix(".sequence")
            .and_then(|name| name.strip_prefix("few.t"))
            .and_then(|name| name.split_once(".reroll"))
        else {
            continue;
        };
        let (t_list, split) = plan.split_once(".split").unwrap();
        let t_list: Vec<u32> = t_list.split('_').map(|t| t.parse().unwrap()).collect();
        let plan = Plan::few_step(&t_list, split.parse().unwrap());
        let parent =
            follow(sampler, &Course::Plan(&plan), labels, Some(&first), &[]).unwrap().tokens;
        let course = Course::Reroll {
            parent: &parent,
            from_scale: from_scale.parse().unwrap(),
            loss_split_t: plan.loss_split_t(),
        };
        let rerolled = follow(sampler, &course, labels, Some(&second), &[]).unwrap();
        near(name, &rerolled.tokens);
        let image = name.replace(".sequence", ".image.every4");
        near(&image, &thinned(&rerolled.frames.last().unwrap().2));
        compared += 1;
    }
    assert!(compared >= 8, "{compared} re-rolls in {outputs}");
}

#[test]
fn encoding_and_re_rolls_on_four_scales_are_in_parity_with_the_released_method() {
    check_released(&tiny_4(), "tiny-4scale.safetensors", "explore-4scale.safetensors");
}

#[test]
fn encoding_and_re_rolls_on_other_sizes_are_in_parity_with_the_released_method() {
    check_released(&small_5(), "small-5scale.safetensors", "explore-5scale.safetensors");
}

#[test]
fn a_re_roll_leaves_the_frames_before_it_as_they_were_to_the_bit() {
    let sampler = demo();
    let plan = Plan::few_step(&[0], 3);
    let parent = drawn(&sampler, &plan, 4, 11);
    let other = noise_of(&sampler, 12);
    let labels = Tensor::from_slice(&[4i64]);
    for from_scale in 0..=3 {
        let course = Course::Reroll { parent: &parent.tokens, from_scale, loss_split_t: 3 };
        let child = follow(&sampler, &course, &labels, Some(&other), &[]).unwrap();
        for ((_, scale, before), (_, child_scale, after)) in
            parent.frames.iter().zip(&child.frames).take(from_scale as usize)
        {
            assert_eq!(scale, child_scale);
            assert!(before.equal(after), "frame {scale} of a re-roll at {from_scale} changed");
        }
        let (last, redrawn) = (&parent.frames.last().unwrap().2, &child.frames.last().unwrap().2);
        assert!(distance(last, redrawn) > 1e-2, "a re-roll at {from_scale} changed nothing");
    }
}

#[test]
fn a_re_roll_from_scale_0_is_a_new_picture_by_one_step() {
    let sampler = tiny_4();
    let plan = Plan::few_step(&[0], 2);
    let parent = drawn(&sampler, &plan, 4, 11).tokens;
    let labels = Tensor::from_slice(&[4i64]);
    let course = Course::Reroll { parent: &parent, from_scale: 0, loss_split_t: 2 };
    let child = follow(&sampler, &course, &labels, Some(&noise_of(&sampler, 12)), &[]).unwrap();
    assert!(distance(&child.tokens, &drawn(&sampler, &plan, 4, 12).tokens) < 1e-5);
}

#[test]
fn gains_of_one_are_the_picture_to_the_bit_and_mute_takes_a_scale_away() {
    let sampler = demo();
    let scales = sampler.config.scales();
    let whole = drawn(&sampler, &Plan::few_step(&[0], 3), 4, 11);
    let labels = Tensor::from_slice(&[4i64]);
    let shown = |gains: Option<&[f64]>| {
        let course = Course::Shown { tokens: &whole.tokens, gains };
        follow(&sampler, &course, &labels, None, &[]).unwrap().frames
    };
    for gains in [None, Some(vec![1.0; scales])] {
        for ((_, scale, ours), (_, _, drawn)) in shown(gains.as_deref()).iter().zip(&whole.frames) {
            assert!(ours.equal(drawn), "scale {scale}");
        }
    }
    let mut gains = vec![1.0; scales];
    gains[scales - 1] = 0.0;
    let muted = shown(Some(&gains));
    let before_last = &whole.frames[scales - 2].2;
    assert!(muted[scales - 1].2.equal(before_last), "without the last scale");
    // By the definition: each scale's own addition by its gain.
    let quantize = &sampler.vae.quantize;
    let gains: Vec<f64> = (0..scales).map(|k| 2.0 * k as f64 / scales as f64).collect();
    let mut f_hat = quantize.empty(1);
    for (k, gain) in gains.iter().enumerate() {
        let (start, n) = (sampler.config.tokens_before(k), sampler.config.patch_nums[k].pow(2));
        let tokens = whole.tokens.to_device(device()).narrow(1, start, n);
        f_hat += quantize.contribution(k, &tokens) * *gain;
    }
    let ours = shown(Some(&gains));
    assert!(distance(&ours[scales - 1].2, &sampler.pictures(&f_hat)) < 1e-5);
}

#[test]
fn an_edit_leaves_the_tokens_outside_its_mask() {
    let sampler = tiny_4();
    let config = &sampler.config;
    let parent = drawn(&sampler, &Plan::few_step(&[0], 2), 4, 11).tokens;
    let codes = sampler.quantized(&parent.to_device(device())).to_device(Device::Cpu);
    // The left half.
    let mask = Mask::new((0..64).map(|mark| mark % 8 < 4).collect()).unwrap();
    let inside = mask.tokens(&config.patch_nums).unwrap();
    let labels = Tensor::from_slice(&[7i64]);
    let guidance = Guidance { cfg: 2.0, top_k: 0, top_p: 0.0 };
    for by in [Editor::Teacher(guidance), Editor::Student { loss_split_t: 4 }] {
        let course = Course::Edit { parent: &parent, mask: &mask, by };
        let noise = noise_of(&sampler, 12);
        let edited = follow(&sampler, &course, &labels, Some(&noise), &seeds(12, 1)).unwrap();
        let changed: Vec<bool> = (0..config.tokens())
            .map(|at| !edited.tokens.narrow(1, at, 1).equal(&codes.narrow(1, at, 1)))
            .collect();
        for (at, (changed, inside)) in changed.iter().zip(&inside).enumerate() {
            assert!(*inside || !changed, "token {at} outside the mask changed by {by:?}");
        }
        assert!(changed.contains(&true), "nothing was drawn by {by:?}");
    }
}

#[test]
fn an_edit_of_everything_is_a_picture_by_the_teacher() {
    let sampler = tiny_4();
    let guidance = Guidance { cfg: 2.0, top_k: 20, top_p: 0.95 };
    let parent = drawn(&sampler, &Plan::few_step(&[0], 2), 4, 11).tokens;
    let mask = Mask::new(vec![true]).unwrap();
    let labels = Tensor::from_slice(&[7i64]);
    let by = Editor::Teacher(guidance);
    let course = Course::Edit { parent: &parent, mask: &mask, by };
    let edited = follow(&sampler, &course, &labels, None, &seeds(12, 1)).unwrap();
    let drawn = drawn(&sampler, &Plan::Teacher { guidance }, 7, 12);
    assert!(edited.tokens.equal(&drawn.tokens));
}

#[test]
fn a_corner_of_a_blend_of_classes_is_that_class() {
    let sampler = demo();
    let classes = sampler.config.num_classes;
    let noise = noise_of(&sampler, 3);
    let guidance = Guidance { cfg: 1.5, top_k: 50, top_p: 0.9 };
    for plan in [Plan::few_step(&[0], 3), Plan::Teacher { guidance }] {
        let draw = |labels: &Tensor| {
            follow(&sampler, &Course::Plan(&plan), labels, Some(&noise), &seeds(3, 1))
                .unwrap()
                .tokens
        };
        let alone = draw(&Tensor::from_slice(&[5i64]));
        let corner = Tensor::from_slice(&[5i64]).one_hot(classes).to_kind(Kind::Float);
        assert!(draw(&corner).equal(&alone), "{plan:?}");
        let other = Tensor::from_slice(&[8i64]).one_hot(classes).to_kind(Kind::Float);
        let between = draw(&(&corner * 0.5 + &other * 0.5));
        assert!(!between.equal(&alone) && !between.equal(&draw(&other)), "{plan:?}");
    }
}

#[test]
fn laws_are_those_that_tokens_were_drawn_by() {
    let sampler = tiny_4();
    let labels = Tensor::from_slice(&[4i64]);
    let noise = noise_of(&sampler, 11);
    let batch = Batch { labels: &labels, noise: Some(&noise), seeds: &seeds(11, 1) };
    let plan = Plan::few_step(&[0], 2);
    let seen = sampler.inspect(&Course::Plan(&plan), &batch).unwrap();
    assert!(distance(&seen.tokens, &drawn(&sampler, &plan, 4, 11).tokens) < 1e-5);
    let student = &sampler.student;
    let conditioning = student.condition(&labels.to_device(device()));
    let hidden = student.forward(&noise.to_device(device()), 0, &conditioning);
    let probs = student.logits(&hidden, 0, 30, &conditioning).softmax(-1, Kind::Float);
    let entropy = -(&probs * probs.log2()).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
    for (k, (start, n)) in [(0, 1), (1, 4), (5, 9), (14, 16)].into_iter().enumerate() {
        let law = seen.laws[k].as_ref().unwrap();
        assert!(distance(&law.entropy, &entropy.narrow(1, start, n)) < 1e-3, "scale {k}");
        assert_eq!(law.top.size(), [1, n, 5]);
        if k < 2 {
            // Codewords before the split are the best of the law, and lie on themselves.
            assert!(law.top.select(2, 0).equal(&seen.codes.narrow(1, start, n)));
            assert!(seen.distances.narrow(1, start, n).max().double_value(&[]) < 1e-5);
        }
    }
    assert!(seen.distances.narrow(1, 5, 25).min().double_value(&[]) > 0.0, "vectors lie apart");
    let guidance = Guidance { cfg: 2.0, top_k: 1, top_p: 0.0 };
    let sure = sampler.inspect(&Course::Plan(&Plan::Teacher { guidance }), &batch).unwrap();
    for law in sure.laws.iter().map(|law| law.as_ref().unwrap()) {
        assert!(law.entropy.abs().max().double_value(&[]) < 1e-6, "one codeword is sure");
    }
}

#[test]
fn what_does_not_fit_the_model_is_refused_before_anything_is_drawn() {
    let sampler = tiny_4();
    let tokens = Tensor::zeros([1, 30, 8], (Kind::Float, Device::Cpu));
    let noise = noise_of(&sampler, 0);
    let labels = Tensor::from_slice(&[1i64]);
    let refusal = |course: Course, labels: &Tensor| {
        let outcome = follow(&sampler, &course, labels, Some(&noise), &seeds(0, 1));
        outcome.map(|_| ()).unwrap_err().to_string()
    };
    let shown =
        |gains: &[f64]| refusal(Course::Shown { tokens: &tokens, gains: Some(gains) }, &labels);
    assert!(shown(&[1.0; 3]).contains("3 gains"), "{}", shown(&[1.0; 3]));
    assert!(shown(&[1.0, f64::NAN, 1.0, 1.0]).contains("scale 1 is NaN"));
    assert!(shown(&[1.0, 1.0, 1.0, 2.5]).contains("scale 3 is 2.5"));
    let reroll =
        |parent, from_scale, loss_split_t| Course::Reroll { parent, from_scale, loss_split_t };
    assert!(refusal(reroll(&tokens, 4, 2), &labels).contains("step 4"));
    assert!(refusal(reroll(&tokens, 2, 5), &labels).contains("loss_split_t is 5"));
    let short = tokens.narrow(1, 0, 29);
    assert!(refusal(reroll(&short, 2, 2), &labels).contains("the parent is [1, 29, 8]"));
    let nothing = Mask::new(vec![false; 16]).unwrap();
    let by = Editor::Student { loss_split_t: 2 };
    let edit = Course::Edit { parent: &tokens, mask: &nothing, by };
    assert!(refusal(edit, &labels).contains("covers no token"));
    let weights = Tensor::zeros([1, 1000], (Kind::Float, Device::Cpu));
    let plan = Plan::few_step(&[0], 2);
    assert!(refusal(Course::Plan(&plan), &weights).contains("sum to 0"));
    let wrong = Tensor::zeros([1, 3, 32, 64], (Kind::Float, Device::Cpu));
    let error = sampler.encode(&wrong).unwrap_err().to_string();
    assert!(error.contains("[1, 3, 32, 64]") && error.contains("[B, 3, 64, 64]"), "{error}");
    let codes = Tensor::full([1, 30], 64, (Kind::Int64, Device::Cpu));
    let error = sampler.tokens_of(&codes).unwrap_err().to_string();
    assert!(error.contains("code 64") && error.contains("0 to 63"), "{error}");
}
