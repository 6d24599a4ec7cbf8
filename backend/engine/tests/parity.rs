//! The engine against outputs of the released method (`tests/data/README.md`): every tensor of
//! every file.

#![allow(clippy::unwrap_used)]

mod networks;

use std::collections::BTreeSet;

use networks::{
    config, data, demo, device, distance, plans, run, run_on, same_codes, sampler, seeds, tiny_4,
};
use tch::{Device, Kind, Tensor};
use var_dd_engine::{
    bundle::formula_sampler,
    config::{Config, VaeConfig},
    graphs::Graphs,
    net::quantizer::Quantizer,
    ops::{
        NoKernels, Ops, Settings,
        group_norm::{self, KernelNorm},
    },
    sample::{
        Sampler, filter,
        plan::{Guidance, PassKind, Plan},
        to_rgb8,
    },
    weights::StateDict,
    weights::formula,
};

/// How far a number may lie from the reference.
const TOLERANCE: f64 = 2e-3;

/// A reference file, with a record of what has been compared.
struct Reference {
    tensors: StateDict,
    compared: BTreeSet<String>,
}

impl Reference {
    fn open(name: &str) -> Self {
        Self { tensors: data(name), compared: BTreeSet::new() }
    }

    /// A tensor that is an input.
    fn input(&mut self, name: &str) -> Tensor {
        self.compared.insert(name.to_owned());
        self.tensors[name].shallow_clone()
    }

    /// Compares a tensor if the file has it.
    fn compare(&mut self, name: &str, ours: &Tensor) {
        let Some(expected) = self.tensors.get(name) else { return };
        let off = distance(ours, expected);
        assert!(off <= TOLERANCE, "{name} is off by {off:.1e}");
        self.compared.insert(name.to_owned());
    }

    /// Compares codes if the file has them.
    fn compare_codes(&mut self, name: &str, ours: &Tensor) {
        let Some(expected) = self.tensors.get(name) else { return };
        assert!(same_codes(ours, expected), "{name} has other codes");
        self.compared.insert(name.to_owned());
    }

    /// Compares pictures, whole or every fourth pixel.
    fn compare_picture(&mut self, name: &str, ours: &Tensor) {
        self.compare(name, ours);
        let thinned = ours.slice(2, None, None, 4).slice(3, None, None, 4);
        self.compare(&format!("{name}.every4"), &thinned);
    }

    /// The beginnings of names that stand for plans.
    fn plans(&self) -> BTreeSet<String> {
        let plan = |name: &String| {
            let part = name.split('.').next_back()?;
            let known =
                ["sequence", "draft", "after_teacher"].contains(&part) && !name.contains(".step");
            let key = if known { name.strip_suffix(part)?.strip_suffix('.') } else { None };
            key.or_else(|| name.split_once(".step").map(|(key, _)| key)).map(str::to_owned)
        };
        self.tensors.keys().filter_map(plan).collect()
    }

    fn assert_complete(&self) {
        let names: BTreeSet<String> = self.tensors.keys().cloned().collect();
        let left: Vec<_> = names.difference(&self.compared).collect();
        assert!(left.is_empty(), "never compared: {left:?}");
    }
}

/// The plan that a name like `teacher.t0_2.split2.start1.cfg1.5` stands for.
fn plan_of(key: &str) -> Plan {
    let field = |name: &str| key.split_once(&format!(".{name}")).map(|(_, rest)| rest);
    let number = |text: &str| text.split('.').next().unwrap().parse::<u32>().unwrap();
    let t_list: Vec<u32> = field("t")
        .unwrap()
        .split('.')
        .next()
        .unwrap()
        .split('_')
        .map(|t| t.parse().unwrap())
        .collect();
    let cfg = field("cfg").map_or(0.0, |cfg| cfg.parse().unwrap());
    let guidance = Guidance { cfg, top_k: 1, top_p: 0.0 };
    let start = field("start").map(number);
    let causal_prefix = key.starts_with("causal.");
    let loss_split_t = number(field("split").unwrap());
    let Some(teacher_start) = start else { return Plan::FewStep { t_list, loss_split_t } };
    let t_list = t_list.try_into().unwrap();
    Plan::TeacherInvolved { t_list, loss_split_t, teacher_start, guidance, causal_prefix }
}

fn check_model(sampler: &Sampler, mut reference: Reference) {
    let labels = reference.input("labels");
    let batch = labels.size()[0];
    let noise =
        formula::noise("noise", &[batch, sampler.config.tokens(), sampler.config.latent_channels]);
    let seeds = seeds(0, batch as u64);
    let keys = reference.plans();
    assert!(keys.len() >= 5, "{keys:?}");
    for key in keys {
        let plan = plan_of(&key);
        let drawn = run_on(sampler, &plan, &labels, &noise, &seeds);
        check_sequences(&key, &mut reference, &drawn);
        if let Plan::FewStep { ref t_list, .. } = plan {
            check_heads(&key, sampler, &mut reference, (&labels, &noise), t_list, &drawn.sequences);
            // Each pass shows the sequence as it stands; the last one's scales are those of the
            // file.
            for (pass, scale, pictures) in &drawn.frames {
                let settled = t_list.get(pass + 1).is_none_or(|&next| *scale < next as usize);
                if settled {
                    reference.compare_picture(&format!("{key}.image{scale}"), pictures);
                }
            }
        }
        let f_hats = sampler.vae.quantize.partial_sums(&drawn.tokens.to_device(device()));
        for (scale, f_hat) in f_hats.iter().enumerate() {
            reference.compare(&format!("{key}.fhat{scale}"), f_hat);
            reference.compare_picture(&format!("{key}.image{scale}"), &sampler.pictures(f_hat));
        }
    }
    let alone = Plan::Teacher { guidance: Guidance { cfg: 1.5, top_k: 1, top_p: 0.0 } };
    let drawn = run_on(sampler, &alone, &labels, &noise, &seeds);
    let (_, _, pictures) = drawn.frames.last().unwrap();
    reference.compare_picture("var.cfg1.5.top_k1.image", pictures);
    check_encoder(sampler, &mut reference, &labels);
    reference.assert_complete();
}

fn check_sequences(key: &str, reference: &mut Reference, drawn: &networks::Drawn) {
    reference.compare(&format!("{key}.sequence"), &drawn.tokens);
    for (pass, sequence) in drawn.passes.iter().zip(&drawn.sequences) {
        match pass.kind {
            PassKind::Draft => reference.compare(&format!("{key}.draft"), sequence),
            PassKind::Teacher => {
                let name = format!("{key}.after_teacher");
                if reference
                    .tensors
                    .get(&name)
                    .is_some_and(|expected| expected.size() == sequence.size())
                {
                    reference.compare(&name, sequence);
                }
            }
            PassKind::Student | PassKind::Kept => {}
        }
    }
    for (step, sequence) in drawn.sequences.iter().enumerate() {
        reference.compare(&format!("{key}.step{step}.sequence"), sequence);
    }
}

/// Both heads on every token, of which a plan needs only a part.
fn check_heads(
    key: &str,
    sampler: &Sampler,
    reference: &mut Reference,
    (labels, noise): (&Tensor, &Tensor),
    t_list: &[u32],
    sequences: &[Tensor],
) {
    let (student, config) = (&sampler.student, &sampler.config);
    let noise = noise.to_device(device());
    let conditioning = student.condition(&labels.to_device(device()));
    let n = config.tokens();
    let mut before = noise.shallow_clone();
    for (step, (&t, after)) in t_list.iter().zip(sequences).enumerate() {
        let given = config.tokens_before(t as usize);
        let kept = before.narrow(1, 0, given);
        let input = Tensor::cat(&[&kept, &noise.narrow(1, given, n - given)], 1);
        let hidden = student.forward(&input, given, &conditioning);
        let vectors = student.vectors(&hidden, given, n, &conditioning);
        reference.compare(&format!("{key}.step{step}.conti"), &Tensor::cat(&[&kept, &vectors], 1));
        let codes = student.logits(&hidden, given, n, &conditioning).argmax(-1, false);
        let codes = Tensor::cat(&[sampler.vae.quantize.nearest(&kept), codes], 1);
        reference.compare_codes(&format!("{key}.step{step}.argmax"), &codes);
        before = after.to_device(device());
    }
}

fn check_encoder(sampler: &Sampler, reference: &mut Reference, labels: &Tensor) {
    let picture = reference.input("encode.picture").to_device(device());
    let codes = sampler.vae.tokenize(&picture);
    for (scale, codes) in codes.iter().enumerate() {
        reference.compare_codes(&format!("encode.idx{scale}"), codes);
    }
    let teacher = sampler.teacher.as_ref().unwrap();
    let logits =
        teacher.teacher_forcing(&labels.to_device(device()), &codes, &sampler.vae.quantize);
    reference.compare("var.teacher_forcing.logits", &logits);
}

#[test]
fn a_model_of_four_scales_is_in_parity_with_the_released_method() {
    check_model(&tiny_4(), Reference::open("tiny-4scale.safetensors"));
}

#[test]
fn a_model_of_other_sizes_in_every_part_is_in_parity_with_the_released_method() {
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
    check_model(&sampler(&config), Reference::open("small-5scale.safetensors"));
}

#[test]
fn a_model_of_the_ten_published_scales_is_in_parity_with_the_released_method() {
    let config = config(&[1, 2, 3, 4, 5, 6, 8, 10, 13, 16], 2, 128, 16);
    check_model(&sampler(&config), Reference::open("tiny-10scale.safetensors"));
}

#[test]
fn top_k_and_top_p_are_in_parity_with_the_released_method() {
    let mut reference = Reference::open("filter.safetensors");
    let logits = reference.input("filter.logits").to_device(device());
    for name in reference.tensors.keys().cloned().collect::<Vec<_>>() {
        let Some(flags) =
            name.strip_prefix("filter.k").and_then(|flags| flags.strip_suffix(".probs"))
        else {
            continue;
        };
        let (top_k, top_p) = flags.split_once(".p").unwrap();
        let probs = filter::filtered_probs(&logits, top_k.parse().unwrap(), top_p.parse().unwrap());
        reference.compare(&name, &probs);
        // The same codewords survive, however small their probability.
        let kept = |probs: &Tensor| probs.to_device(Device::Cpu).gt(0.0);
        assert!(
            kept(&probs).equal(&kept(&reference.tensors[&name])),
            "{name} keeps other codewords"
        );
    }
    reference.assert_complete();
}

/// Four batches, one after the other, of other classes and other noise: what graphs give, and what
/// plain work gives.
fn check_graphs(captured: Sampler, plain: Sampler, plans: &[Plan]) {
    // On a GPU a sampler has graphs of its own, unless they were switched off.
    let rehearsed = captured.device == Device::Cpu;
    let captured = Sampler {
        graphs: if rehearsed { Graphs::rehearsal() } else { captured.graphs },
        ..captured
    };
    let plain = Sampler { graphs: Graphs::default(), ..plain };
    assert!(captured.graphs.wanted(), "no graphs here; run with RUST_LOG=info");
    let codes = |tokens: &Tensor| plain.vae.quantize.nearest(&tokens.to_device(plain.device));
    for plan in plans {
        for batch in 0..4 {
            let classes = [batch, 3 * batch + 1].map(|class| class % plain.config.num_classes);
            let seeds = seeds(20 + batch as u64, 2);
            let (graphs, alone) =
                (run(&captured, plan, &classes, &seeds), run(&plain, plan, &classes, &seeds));
            assert!(
                same_codes(&codes(&graphs.tokens), &codes(&alone.tokens)),
                "batch {batch} of {plan:?}"
            );
            for (ours, theirs) in graphs.sequences.iter().zip(&alone.sequences) {
                let off = distance(ours, theirs);
                assert!(
                    off <= TOLERANCE,
                    "batch {batch} of {plan:?}: a sequence is off by {off:.1e}"
                );
            }
            assert_eq!(graphs.frames.len(), alone.frames.len());
            for ((pass, scale, ours), (.., theirs)) in graphs.frames.iter().zip(&alone.frames) {
                let off = distance(ours, theirs);
                assert!(
                    off <= 1e-3,
                    "batch {batch} of {plan:?}, {pass}.{scale} is off by {off:.1e}"
                );
            }
        }
    }
    // Of each plan at least the decoder and a student pass.
    assert!(captured.graphs.in_use() >= 2, "{} graphs", captured.graphs.in_use());
}

#[test]
fn captured_graphs_are_in_parity_with_plain_work() {
    check_graphs(tiny_4(), tiny_4(), &plans(4, 20));
}

#[test]
fn captured_graphs_of_the_demo_model_are_in_parity_with_plain_work() {
    let few = |t_list: &[u32]| Plan::few_step(t_list, 3);
    check_graphs(demo(), demo(), &[few(&[0]), few(&[0, 3])]);
}

#[test]
fn bytes_that_leave_the_device_are_in_parity_with_arithmetic_here() {
    // More than one picture, and more rows than columns.
    let pictures = formula::noise("bytes", &[3, 3, 7, 5]) * 0.3 + 0.5;
    let values =
        |i: i64| Vec::<f32>::try_from(pictures.get(i).permute([1, 2, 0]).reshape([-1])).unwrap();
    let byte = |x: f32| (255.0 * x + 0.5).floor().clamp(0.0, 255.0) as u8;
    let expected: Vec<Vec<u8>> =
        (0..3).map(|i| values(i).into_iter().map(byte).collect()).collect();
    // Twice, since a device keeps the memory that they pass through.
    for _ in 0..2 {
        assert_eq!(to_rgb8(&pictures.to_device(device())).unwrap(), expected);
    }
}

#[test]
fn the_codeword_nearest_to_a_vector_is_in_parity_with_the_smallest_distance() {
    let sampler = tiny_4();
    let quantize: &Quantizer = &sampler.vae.quantize;
    let vectors = formula::noise("vectors", &[3, 50, 8]).to_device(device());
    let differences = vectors.unsqueeze(2) - quantize.embedding.view([1, 1, 64, 8]);
    let slow =
        differences.square().sum_dim_intlist([-1i64].as_slice(), false, None).argmin(-1, false);
    assert!(same_codes(&quantize.nearest(&vectors), &slow));
}

/// Maps of the published decoder and of a small one: pictures, channels, side; and groups.
const MAPS: [([i64; 3], i64); 7] = [
    ([2, 640, 16], 32),
    ([1, 320, 32], 32),
    ([3, 320, 64], 32),
    ([2, 160, 128], 32),
    ([1, 160, 256], 32),
    ([8, 32, 64], 32),
    ([8, 32, 128], 8),
];

#[test]
fn the_norm_of_maps_with_channels_last_is_in_parity_with_libtorchs() {
    let device = device();
    if !device.is_cuda() {
        // The kernels' numbers are compared in `ops/` then.
        assert_eq!(networks::ops().kernels().unwrap_err(), &NoKernels::NotAGpu(device));
        return;
    }
    let _no_grad = tch::no_grad_guard();
    let ops = networks::ops();
    ops.kernels().unwrap();
    for ([batch, channels, side], groups) in MAPS {
        let random = |size: &[i64]| Tensor::randn(size, (Kind::Float, device));
        let (weight, bias) = (random(&[channels]), random(&[channels]));
        let x = random(&[batch, channels, side, side]) * 2.0 + random(&[1, channels, 1, 1]);
        for (kind, bound) in [(Kind::Float, 1e-4), (Kind::BFloat16, 0.005), (Kind::Half, 1e-3)] {
            let x = x.to_kind(kind);
            let norm = KernelNorm::new(&ops, &weight, &bias, groups).unwrap();
            for silu in [false, true] {
                let ours = norm.forward(&x, None, silu).unwrap();
                let epsilon = group_norm::EPSILON;
                let x = x.to_kind(Kind::Float);
                let normed = x.group_norm(groups, Some(&weight), Some(&bias), epsilon, true);
                let theirs = if silu { normed.silu() } else { normed };
                let off = (ours.to_kind(Kind::Float) - &theirs).abs() / theirs.abs().clamp_min(1.0);
                let off = f64::try_from(off.max()).unwrap();
                assert!(
                    off <= bound,
                    "{kind:?} [{batch}, {channels}, {side}, {side}]: off by {off:.1e}"
                );
                let alone = norm.forward(&x.to_kind(kind).narrow(0, 0, 1), None, silu).unwrap();
                assert!(
                    alone.equal(&ours.narrow(0, 0, 1)),
                    "a picture alone is not that of a batch of {batch}"
                );
            }
        }
    }
}

/// What the networks ask of the tensor library, and the student's outcome: here and on the device
/// that is tested.
#[test]
fn numbers_of_the_device_are_in_parity_with_those_of_this_processor() {
    let _no_grad = tch::no_grad_guard();
    let config = config(&[1, 2, 3, 4, 6], 2, 64, 8);
    let tokens = config.tokens();
    let here =
        formula_sampler(&config, false, &Ops::open(Device::Cpu, Settings::default()), Kind::Float)
            .unwrap();
    let there = formula_sampler(&config, false, &networks::ops(), Kind::Float).unwrap();
    let number = |name: &str, size: &[i64]| formula::noise(name, size);
    let (x, weight, bias) =
        (number("x", &[3 * tokens, 128]), number("w", &[512, 128]), number("b", &[512]));
    let (q, k, v) =
        (number("q", &[3, 2, 67, 64]), number("k", &[3, 2, 67, 64]), number("v", &[3, 2, 67, 64]));
    let mask = Tensor::full([67, 72], f64::NEG_INFINITY, (Kind::Float, Device::Cpu))
        .triu(1)
        .narrow(1, 0, 67);
    let labels = Tensor::from_slice(&[5i64, 900, 3]);
    let noise = number("noise", &[3, tokens, config.latent_channels]);
    let outcomes = |sampler: &Sampler| {
        let on = |tensor: &Tensor| tensor.to_device(sampler.device);
        let (x, weight, bias, labels, noise) =
            (on(&x), on(&weight), on(&bias), on(&labels), on(&noise));
        let (q, k, v, mask) = (on(&q), on(&k), on(&v), on(&mask));
        let seen = Tensor::scaled_dot_product_attention(
            &q,
            &k,
            &v,
            Some(&mask),
            0.0,
            false,
            Some(1.0),
            false,
        );
        let student = &sampler.student;
        let conditioning = student.condition(&labels);
        let hidden = student.forward(&noise, 0, &conditioning);
        vec![
            ("a linear layer", x.linear(&weight, Some(&bias))),
            ("attention", seen),
            ("logits", student.logits(&hidden, 0, tokens, &conditioning)),
            ("vectors", student.vectors(&hidden, 0, tokens, &conditioning)),
            ("steps to f_hat", sampler.f_hats(&noise).pop().unwrap()),
        ]
    };
    let off: Vec<(&str, f64)> = outcomes(&here)
        .iter()
        .zip(outcomes(&there))
        .map(|((name, here), (_, there))| {
            let off = (there.to_device(Device::Cpu) - here).abs() / here.abs().clamp_min(1.0);
            (*name, f64::try_from(off.max()).unwrap())
        })
        .collect();
    assert!(off.iter().all(|&(_, off)| off < 1e-3), "{off:?}");
}
