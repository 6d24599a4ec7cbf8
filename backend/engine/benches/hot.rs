//! The hot pieces by themselves: `cargo bench -p var-dd-engine`. Sizes are the demo model's and
//! those of the published d16, weights invented.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tch::{Device, Kind, Tensor};
use var_dd_engine::{
    bundle::formula_sampler,
    config::published,
    device::{DeviceChoice, kind_name},
    ops::{Ops, Settings},
    sample::{
        Sampler,
        filter::filtered_probs,
        noise::{self, PictureSeed},
    },
    train::recipe::Recipe,
};

/// Does something with networks of both sizes in both number types.
fn with_each(criterion: &mut Criterion, name: &str, work: impl Fn(&Sampler)) {
    let _no_grad = tch::no_grad_guard();
    let device = DeviceChoice::Auto.open().unwrap_or(Device::Cpu);
    let ops = Ops::open(device, Settings::default());
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10);
    let demo = Recipe::preset("demo").map(|recipe| recipe.config());
    for config in demo.into_iter().chain([published::config(16)]) {
        for kind in [Kind::Float, Kind::BFloat16] {
            let Ok(sampler) = formula_sampler(&config, false, &ops, kind) else { continue };
            let id = BenchmarkId::new(&config.name, kind_name(kind));
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    work(&sampler);
                    // Waits for a GPU.
                    if let Device::Cuda(index) = device {
                        tch::Cuda::synchronize(index as i64);
                    }
                });
            });
        }
    }
    group.finish();
}

fn start(sampler: &Sampler) -> (Tensor, Tensor) {
    let config = &sampler.config;
    let noise =
        noise::noise(&[PictureSeed { seed: 0, index: 0 }], config.tokens(), config.latent_channels);
    (noise.to_device(sampler.device), Tensor::from_slice(&[0i64]).to_device(sampler.device))
}

/// One student pass without heads: at once, in the two parts that a CPU runs, and scale by scale.
fn student(criterion: &mut Criterion) {
    with_each(criterion, "student pass at once", |sampler| {
        let (noise, label) = start(sampler);
        let conditioning = sampler.student.condition(&label);
        drop(sampler.student.forward(&noise, 0, &conditioning));
    });
    let in_parts = |sampler: &Sampler, ends: &dyn Fn(usize) -> bool| {
        let (noise, label) = start(sampler);
        let conditioning = sampler.student.condition(&label);
        let mut pass = sampler.student.begin(&conditioning, 0);
        let mut from = 0;
        for to in (1..=sampler.config.scales()).filter(|&scale| ends(scale)) {
            let to = sampler.config.tokens_before(to);
            drop(pass.advance(&noise.narrow(1, from, to - from), from));
            from = to;
        }
    };
    with_each(criterion, "student pass in two parts", |sampler| {
        let (half, all) = (sampler.config.scales() / 2, sampler.config.scales());
        in_parts(sampler, &|scale| scale == half || scale == all);
    });
    with_each(criterion, "student pass scale by scale", |sampler| in_parts(sampler, &|_| true));
}

/// One frame, and the sums of all scales that lead to it.
fn decoder(criterion: &mut Criterion) {
    with_each(criterion, "decode a frame", |sampler| {
        drop(sampler.vae.decode(&sampler.vae.quantize.empty(1)));
    });
    with_each(criterion, "partial sums of all scales", |sampler| {
        drop(sampler.vae.quantize.partial_sums(&start(sampler).0));
    });
}

/// Nearest codewords of all tokens, and the teacher's law at the last scale.
fn codes(criterion: &mut Criterion) {
    with_each(criterion, "nearest codewords", |sampler| {
        drop(sampler.vae.quantize.nearest(&start(sampler).0));
    });
    with_each(criterion, "filter logits", |sampler| {
        let config = &sampler.config;
        let n = config.latent_side().pow(2);
        let logits = Tensor::linspace(-4, 4, n * config.vocabulary, (Kind::Float, sampler.device));
        drop(filtered_probs(&logits.view([1, n, config.vocabulary]), 900, 0.95));
    });
}

criterion_group!(hot, student, decoder, codes);
criterion_main!(hot);
