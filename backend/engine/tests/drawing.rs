//! What a run promises whatever the weights: the same picture alone and in a batch, its frames in
//! order, a stop when asked for one, and an answer in words to what cannot be drawn.

#![allow(clippy::unwrap_used)]

mod networks;

use std::ops::ControlFlow;

use networks::{config, demo, distance, ops, plans, run, run_showing, sampler, seeds, tiny_4};
use proptest::prelude::*;
use tch::{Kind, Tensor};
use var_dd_engine::{
    bundle::load,
    config::Config,
    net::{student::Student, teacher::Teacher, vae::Vae},
    sample::{
        Batch, Event, Frames, SampleError, Sampler,
        noise::{self, PictureSeed},
        plan::{Guidance, PassKind, Plan},
        to_rgb8,
    },
    weights::{Weights, formula},
};

/// Eight pictures of several jobs, and what must be the same when each is drawn alone.
fn check_alone_and_in_a_batch(sampler: &Sampler, top_k: u32) {
    let classes: Vec<i64> = (0..8).map(|i| i * 7 % sampler.config.num_classes).collect();
    let seeds: Vec<_> = (0..8).map(|i| PictureSeed { seed: 40 + i / 3, index: i % 3 }).collect();
    for plan in plans(sampler.config.scales() as u32, top_k) {
        let together = run(sampler, &plan, &classes, &seeds);
        for i in [0, 3, 7] {
            let (class, seed) = (classes[i], seeds[i]);
            let alone = run(sampler, &plan, &[class], &[seed]);
            let row = |tensor: &Tensor| tensor.narrow(0, i as i64, 1);
            let codes =
                |tokens: &Tensor| sampler.vae.quantize.nearest(&tokens.to_device(sampler.device));
            assert!(
                codes(&alone.tokens).equal(&codes(&row(&together.tokens))),
                "picture {i} of {plan:?} has other codes in a batch"
            );
            assert_eq!(alone.frames.len(), together.frames.len());
            for ((_, scale, ours), (_, _, theirs)) in alone.frames.iter().zip(&together.frames) {
                let off = distance(ours, &row(theirs));
                assert!(
                    off <= 1e-3,
                    "picture {i}, scale {scale} of {plan:?} is off by {off:.1e} in a batch"
                );
            }
        }
    }
}

#[test]
fn a_picture_is_the_same_alone_and_in_a_batch_of_eight() {
    check_alone_and_in_a_batch(&tiny_4(), 20);
}

#[test]
fn a_picture_of_the_demo_model_is_the_same_alone_and_in_a_batch_of_eight() {
    check_alone_and_in_a_batch(&demo(), 200);
}

#[test]
fn a_run_tells_its_passes_and_each_of_their_scales_once_and_in_order() {
    let sampler = tiny_4();
    let scales = sampler.config.scales() as u32;
    for plan in plans(scales, 5) {
        let drawn = run(&sampler, &plan, &[3, 4], &seeds(1, 2));
        assert_eq!(drawn.passes, plan.passes(scales));
        let places: Vec<_> = drawn.frames.iter().map(|(pass, scale, _)| (*pass, *scale)).collect();
        let expected: Vec<_> = (0..)
            .zip(plan.passes(scales))
            .flat_map(|(pass, of)| of.scales().map(move |scale| (pass, scale)))
            .collect();
        assert_eq!(places, expected, "{plan:?}");
        let word = |word: &str| drawn.log.iter().filter(|line| line.starts_with(word)).count();
        assert_eq!(
            (word("began"), word("ended")),
            (expected_passes(&plan, scales), expected_passes(&plan, scales))
        );
        for pass in 0..drawn.passes.len() {
            let at = |line: String| drawn.log.iter().position(|logged| *logged == line).unwrap();
            let last = drawn.passes[pass].scales().end - 1;
            assert!(at(format!("began {pass}")) < at(format!("ended {pass}")), "{:?}", drawn.log);
            assert!(
                at(format!("ended {pass}")) < at(format!("decoded {pass}.{last}")),
                "{:?}",
                drawn.log
            );
        }
    }
}

#[test]
fn with_the_last_frame_first_the_same_frames_come_after_all_passes() {
    let sampler = tiny_4();
    for plan in plans(4, 5) {
        let (labels, seeds) = (Tensor::from_slice(&[3i64, 4]), seeds(1, 2));
        let noise = noise::noise(&seeds, sampler.config.tokens(), sampler.config.latent_channels);
        let shown = |frames| run_showing(&sampler, &plan, &labels, &noise, &seeds, frames);
        let (in_order, hurried) = (shown(Frames::InOrder), shown(Frames::LastFirst));
        assert!(in_order.tokens.equal(&hurried.tokens));
        let mut expected: Vec<_> = in_order.frames.iter().collect();
        expected.rotate_right(1);
        assert_eq!(hurried.frames.len(), expected.len());
        for ((pass, scale, ours), (other_pass, other_scale, theirs)) in
            hurried.frames.iter().zip(expected)
        {
            assert_eq!((pass, scale), (other_pass, other_scale), "{plan:?}");
            assert!(ours.equal(theirs), "frame {pass}.{scale} of {plan:?}");
        }
        let first = hurried.log.iter().position(|line| line.starts_with("decoded")).unwrap();
        assert!(
            hurried.log[first..].iter().all(|line| line.starts_with("decoded")),
            "{:?}",
            hurried.log
        );
    }
}

fn expected_passes(plan: &Plan, scales: u32) -> usize {
    plan.passes(scales).len()
}

#[test]
fn every_frame_is_the_picture_of_the_sequence_as_it_then_stands() {
    let sampler = tiny_4();
    for plan in plans(4, 5) {
        let drawn = run(&sampler, &plan, &[3, 4], &seeds(2, 2));
        let last = drawn.passes.len().saturating_sub(1);
        for (pass, scale, pictures) in &drawn.frames {
            let student = drawn.passes[*pass].kind != PassKind::Teacher;
            if student || *pass == last {
                let tokens = if *pass == last { &drawn.tokens } else { &drawn.sequences[*pass] };
                let f_hats = sampler.vae.quantize.partial_sums(&tokens.to_device(sampler.device));
                assert!(
                    distance(pictures, &sampler.pictures(&f_hats[*scale])) < 1e-5,
                    "{plan:?} {pass}.{scale}"
                );
            }
        }
    }
}

#[test]
fn a_stop_takes_effect_within_one_pass() {
    let sampler = tiny_4();
    for plan in plans(4, 5) {
        let all = run(&sampler, &plan, &[3], &seeds(3, 1)).log.len();
        for stop_after in 1..=all {
            let mut events = 0;
            let noise = noise::noise(&seeds(3, 1), 30, 8);
            let labels = Tensor::from_slice(&[3i64]);
            let batch = Batch { labels: &labels, noise: Some(&noise), seeds: &seeds(3, 1) };
            let outcome = sampler.run(&plan, &batch, Frames::InOrder, &mut |_: Event<'_>| {
                events += 1;
                if events == stop_after {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            assert!(outcome.unwrap().is_none(), "a stopped run has no result");
            assert_eq!(events, stop_after, "nothing is told after the stop");
        }
    }
}

#[test]
fn what_the_model_does_not_have_is_refused_with_bound_and_value() {
    let sampler = tiny_4();
    let plan = Plan::FewStep { t_list: vec![0], loss_split_t: 2 };
    let refusal = |plan: &Plan, labels: &[i64], noise: &Tensor, seeds: &[PictureSeed]| {
        let batch = Batch { labels: &Tensor::from_slice(labels), noise: Some(noise), seeds };
        let mut told = false;
        let outcome = sampler.run(plan, &batch, Frames::InOrder, &mut |_: Event<'_>| {
            told = true;
            ControlFlow::Continue(())
        });
        assert!(!told, "nothing is drawn of a request that is refused");
        outcome.unwrap_err().to_string()
    };
    let noise = |size: &[i64]| Tensor::zeros(size, (Kind::Float, tch::Device::Cpu));
    let right = noise(&[1, 30, 8]);
    for (class, text) in [(1000, "class 1000"), (-1, "class -1")] {
        let error = refusal(&plan, &[class], &right, &seeds(0, 1));
        assert!(error.contains(text) && error.contains("999"), "{error}");
    }
    assert!(refusal(&plan, &[1], &noise(&[1, 29, 8]), &seeds(0, 1)).contains("[1, 29, 8]"));
    assert!(refusal(&plan, &[], &right, &[]).contains("labels"));
    let teacher = Plan::Teacher { guidance: Guidance::default() };
    assert!(refusal(&teacher, &[1], &right, &seeds(0, 3)).contains("seeds"));
    let beyond = Plan::FewStep { t_list: vec![0, 4], loss_split_t: 2 };
    assert!(refusal(&beyond, &[1], &right, &seeds(0, 1)).contains("step 4"));
}

#[test]
fn without_a_given_scale_there_is_no_prefix_to_mask() {
    let sampler = tiny_4();
    let plan = |causal_prefix| Plan::TeacherInvolved {
        t_list: [0, 4],
        loss_split_t: 2,
        teacher_start: 0,
        guidance: Guidance { cfg: 2.0, top_k: 0, top_p: 0.0 },
        causal_prefix,
    };
    let tokens = |causal| run(&sampler, &plan(causal), &[3], &seeds(9, 1)).tokens;
    assert!(tokens(false).equal(&tokens(true)));
}

#[test]
fn a_causal_prefix_gives_what_running_scale_by_scale_gives() {
    let sampler = tiny_4();
    let teacher = sampler.teacher.as_ref().unwrap();
    let codes: Vec<_> = [1i64, 4, 9, 16]
        .iter()
        .map(|&n| Tensor::arange(n, (Kind::Int64, sampler.device)).view([1, n]))
        .collect();
    let labels = Tensor::from_slice(&[5i64]).to_device(sampler.device);
    let forced = teacher.teacher_forcing(&labels, &codes, &sampler.vae.quantize);
    let tokens: Vec<_> =
        codes[..3].iter().map(|codes| sampler.vae.quantize.lookup(codes)).collect();
    let inputs = var_dd_engine::net::teacher::downsampled_inputs(&sampler.vae.quantize, &tokens, 1);
    let conditioning = teacher.condition(&labels);
    let mut progress = teacher.begin(&conditioning);
    let by_scale: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(k, input)| teacher.advance(&mut progress, k, std::slice::from_ref(input), false))
        .collect();
    assert!(distance(&forced, &Tensor::cat(&by_scale, 1)) < 1e-4);
    let mut progress = teacher.begin(&conditioning);
    let last = teacher.advance(&mut progress, 0, &inputs, true);
    assert!(distance(&by_scale[3], &last) < 1e-4);
    let mut progress = teacher.begin(&conditioning);
    let unmasked = teacher.advance(&mut progress, 0, &inputs, false);
    assert!(
        distance(&by_scale[3], &unmasked) > 1e-2,
        "without a mask the prefix sees what follows it"
    );
}

#[test]
fn later_scales_never_change_earlier_tokens_of_a_student() {
    let sampler = tiny_4();
    let plan = Plan::FewStep { t_list: vec![0], loss_split_t: 2 };
    let first = noise::noise(&seeds(1, 1), 30, 8);
    let other = noise::noise(&seeds(2, 1), 30, 8);
    for scale in 1..4 {
        let shared = sampler.config.tokens_before(scale);
        let mixed =
            Tensor::cat(&[first.narrow(1, 0, shared), other.narrow(1, shared, 30 - shared)], 1);
        let draw = |noise: &Tensor| {
            networks::run_on(&sampler, &plan, &Tensor::from_slice(&[3i64]), noise, &seeds(0, 1))
                .tokens
        };
        let (a, b) = (draw(&first), draw(&mixed));
        assert!(distance(&a.narrow(1, 0, shared), &b.narrow(1, 0, shared)) < 1e-5);
        assert!(distance(&a, &b) > 1e-2);
    }
}

#[test]
fn half_precision_stays_near_the_picture_in_full_precision() {
    let config = config(&[1, 2, 3, 4], 2, 64, 8);
    let full = tiny_4();
    let plan = Plan::FewStep { t_list: vec![0], loss_split_t: 0 };
    let exact = run(&full, &plan, &[3], &seeds(4, 1));
    for kind in [Kind::BFloat16, Kind::Half] {
        let half =
            var_dd_engine::bundle::formula_sampler(&config, true, &networks::ops(), kind).unwrap();
        let drawn = run(&half, &plan, &[3], &seeds(4, 1));
        let off = (&drawn.tokens - &exact.tokens).square().mean(Kind::Double).sqrt();
        let spread = exact.tokens.square().mean(Kind::Double).sqrt();
        let relative = f64::try_from(off / spread).unwrap();
        assert!(relative < 0.05, "{kind:?} is off by {relative}");
        assert_eq!(drawn.tokens.kind(), Kind::Float);
    }
}

#[test]
fn bytes_are_rounded_half_up_and_clamped() {
    let values = [
        -0.1f32,
        0.0,
        0.5 / 255.0,
        0.49 / 255.0,
        0.5,
        1.0,
        1.1,
        254.5 / 255.0,
        1.0,
        0.25,
        0.75,
        0.1,
    ];
    // One picture of 2 × 2 pixels: planes of red, green and blue in, pixels out.
    let bytes = to_rgb8(&Tensor::from_slice(&values).view([1, 3, 2, 2])).unwrap();
    assert_eq!(bytes, [[0, 128, 255, 0, 255, 64, 1, 255, 191, 0, 255, 26]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn networks_of_other_sizes_draw_every_plan_and_agree_with_themselves(
        sides in prop::collection::btree_set(2i64..6, 1..4),
        depth in 1i64..3,
        heads in prop::sample::select(vec![1i64, 2, 4]),
        head_width in prop::sample::select(vec![8i64, 24]),
        vocabulary in 3i64..40,
        latent in 1i64..6,
        levels in prop::sample::select(vec![vec![1i64], vec![1, 2], vec![2, 1, 1]]),
        residual_blocks in 1i64..3,
        norm_groups in prop::sample::select(vec![1i64, 8, 32]),
        seed: u64,
    ) {
        let sides: Vec<i64> = std::iter::once(1).chain(sides).collect();
        let mut config = config(&sides, depth, vocabulary, latent);
        config.transformer.heads = heads;
        config.transformer.width = heads * head_width;
        config.vae.channel_multipliers = levels;
        config.vae.residual_blocks = residual_blocks;
        config.vae.norm_groups = norm_groups;
        config.validate().unwrap();
        let sampler = sampler(&config);
        let side = config.image_size();
        for plan in plans(config.scales() as u32, 0).into_iter().filter(|plan| config.check_plan(plan).is_ok()) {
            let drawn = run(&sampler, &plan, &[1, 2], &seeds(seed, 2));
            prop_assert_eq!(drawn.tokens.size(), [2, config.tokens(), latent]);
            prop_assert_eq!(drawn.frames.last().unwrap().2.size(), [2, 3, side, side]);
            let alone = run(&sampler, &plan, &[2], &seeds(seed, 2)[1..]);
            prop_assert!(distance(&alone.tokens, &drawn.tokens.narrow(0, 1, 1)) < 1e-3, "{:?}", plan);
        }
    }
}

#[test]
fn a_picture_with_numbers_that_are_none_is_an_error_and_no_black_square() {
    let picture = Tensor::rand([2, 3, 4, 4], (Kind::Float, tch::Device::Cpu));
    assert_eq!(to_rgb8(&picture).unwrap().len(), 2);
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let broken = picture.copy();
        let _ = broken.get(1).get(2).get(3).get(0).fill_(value);
        let error = to_rgb8(&broken).unwrap_err().to_string();
        assert!(error.contains("infinite or no numbers"), "{error}");
    }
}

/// Small networks, of which one has 3·10³⁸ all over one tensor: a finite number, and too large.
fn damaged(network: &str, name: &str) -> Sampler {
    let config = config(&[1, 2, 3], 1, 16, 4);
    let ops = ops();
    let weights = |of: &str, ask: fn(&Weights, &Config)| {
        let all = Weights::from_formula(&ops, Kind::Float);
        ask(&all, &config);
        let asked = all.finish().unwrap().into_iter();
        let tensors = asked.map(|(asked, shape)| {
            let sound = formula::tensor(&asked, &shape);
            let huge = (of, asked.as_str()) == (network, name);
            (asked, if huge { sound.full_like(3e38) } else { sound })
        });
        Weights::from_tensors(of.into(), tensors.collect(), &ops, Kind::Float)
    };
    let student = weights("student", |all, config| drop(Student::load(&all.root(), config)));
    let vae = weights("vae", |all, config| drop(Vae::load(&all.root(), config)));
    let teacher = weights("teacher", |all, config| drop(Teacher::load(&all.root(), config)));
    load(&config, student, vae, Some(teacher), &ops).unwrap()
}

#[test]
fn what_is_chosen_by_numbers_that_are_none_is_an_error_and_no_codeword() {
    let guidance = Guidance { cfg: 2.0, top_k: 5, top_p: 0.95 };
    let teacher = Plan::Teacher { guidance };
    // The student's vectors give way to their nearest codewords before the teacher sees them.
    let draft = Plan::TeacherInvolved {
        t_list: [0, 3],
        loss_split_t: 0,
        teacher_start: 1,
        guidance,
        causal_prefix: false,
    };
    for (network, name, plan) in [
        ("teacher", "head.weight", &teacher),
        ("teacher", "blocks.0.ffn.fc2.weight", &teacher),
        ("student", "head.weight", &Plan::few_step(&[0], 3)),
        ("student", "blocks.0.ffn.fc2.weight", &Plan::few_step(&[0], 0)),
        ("student", "final_layer_conti.linear.weight", &draft),
    ] {
        let (sampler, numbers) = (damaged(network, name), seeds(3, 2));
        let noise = noise::noise(&numbers, sampler.config.tokens(), sampler.config.latent_channels);
        let labels = Tensor::from_slice(&[1i64, 2]);
        let batch = Batch { labels: &labels, noise: Some(&noise), seeds: &numbers };
        let mut go_on = |_: Event<'_>| ControlFlow::<()>::Continue(());
        let drawn = sampler.run(plan, &batch, Frames::None, &mut go_on);
        assert!(matches!(drawn, Err(SampleError::NotFinite)), "{network}, {name}: {drawn:?}");
    }
}

#[test]
fn a_picture_beyond_all_bounds_is_an_error_and_not_black_and_white() {
    let sampler = damaged("vae", "decoder.conv_out.weight");
    let drawn = run(&sampler, &Plan::few_step(&[0], 3), &[1], &seeds(3, 1));
    for (_, scale, pictures) in &drawn.frames {
        assert!(matches!(to_rgb8(pictures), Err(SampleError::NotFinite)), "scale {scale}");
    }
}
