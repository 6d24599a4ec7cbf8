//! Small networks and a way to run plans on them, for the tests of this crate.
//!
//! `VAR_DD_TEST_DEVICE=cuda` runs them on a GPU.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // Each test program uses its own part.

use std::{ops::ControlFlow, path::Path};

use tch::{Device, Kind, Tensor};
use var_dd_engine::{
    bundle::{Bundle, formula_sampler},
    config::{Config, TransformerConfig, VaeConfig},
    device::DeviceChoice,
    ops::{Ops, Settings},
    sample::{
        Batch, Event, Frames, Sampler,
        noise::{self, PictureSeed},
        plan::{Guidance, Pass, Plan},
    },
    weights::{StateDict, read_safetensors},
};

/// Where the tests run the networks.
pub fn device() -> Device {
    let choice = std::env::var("VAR_DD_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    choice.parse::<DeviceChoice>().unwrap().open().unwrap()
}

/// What the networks run by there.
pub fn ops() -> Ops {
    Ops::open(device(), Settings::default())
}

/// The configuration of a network with the published VAE, but for its channels.
pub fn config(patch_nums: &[i64], depth: i64, vocabulary: i64, latent_channels: i64) -> Config {
    Config {
        name: "formula".into(),
        patch_nums: patch_nums.to_vec(),
        vocabulary,
        latent_channels,
        vae: VaeConfig {
            channels: 32,
            channel_multipliers: vec![1, 1, 2, 2, 4],
            residual_blocks: 2,
            norm_groups: 32,
        },
        transformer: TransformerConfig { depth, width: 64 * depth, heads: depth },
        num_classes: 1000,
        classes: (0..1000).map(|class| format!("class {class}")).collect(),
        plans: Vec::new(),
    }
}

/// The networks of `config` with weights from names, in f32.
pub fn sampler(config: &Config) -> Sampler {
    formula_sampler(config, true, &ops(), Kind::Float).unwrap()
}

/// The four scales and sizes of `tiny-4scale.safetensors`.
pub fn tiny_4() -> Sampler {
    sampler(&config(&[1, 2, 3, 4], 2, 64, 8))
}

/// The demo model that the repository carries.
pub fn demo() -> Sampler {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../static/demo-model");
    Bundle::open(&directory).unwrap().sampler(&ops(), Kind::Float).unwrap()
}

/// A file of `tests/data`.
pub fn data(name: &str) -> StateDict {
    read_safetensors(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

/// What became of a run.
#[derive(Debug)]
pub struct Drawn {
    /// Final tokens, on the CPU.
    pub tokens: Tensor,
    /// Passes as they began.
    pub passes: Vec<Pass>,
    /// Tokens after each pass, on the CPU.
    pub sequences: Vec<Tensor>,
    /// Pass, scale and pictures (on the CPU) as they were decoded.
    pub frames: Vec<(usize, usize, Tensor)>,
    /// Every event in a word.
    pub log: Vec<String>,
}

/// Runs a plan to its end.
pub fn run(sampler: &Sampler, plan: &Plan, classes: &[i64], seeds: &[PictureSeed]) -> Drawn {
    let noise = noise::noise(seeds, sampler.config.tokens(), sampler.config.latent_channels);
    run_on(sampler, plan, &Tensor::from_slice(classes), &noise, seeds)
}

/// Runs a plan on noise at hand.
pub fn run_on(
    sampler: &Sampler,
    plan: &Plan,
    labels: &Tensor,
    noise: &Tensor,
    seeds: &[PictureSeed],
) -> Drawn {
    run_showing(sampler, plan, labels, noise, seeds, Frames::InOrder)
}

/// Runs a plan on noise at hand and shows its frames in an order.
pub fn run_showing(
    sampler: &Sampler,
    plan: &Plan,
    labels: &Tensor,
    noise: &Tensor,
    seeds: &[PictureSeed],
    shown: Frames,
) -> Drawn {
    let (mut passes, mut sequences, mut frames, mut log) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let tokens = sampler
        .run(plan, &Batch { labels, noise: Some(noise), seeds }, shown, &mut |event| {
            match event {
                Event::PassBegan { pass, of, .. } => {
                    passes.push(of);
                    log.push(format!("began {pass}"));
                }
                Event::PassEnded { pass, sequence, .. } => {
                    sequences.push(sequence.to_device(Device::Cpu).copy());
                    log.push(format!("ended {pass}"));
                }
                Event::Decoded { pass, scale, pictures, .. } => {
                    frames.push((pass, scale, pictures.to_device(Device::Cpu).copy()));
                    log.push(format!("decoded {pass}.{scale}"));
                }
            }
            ControlFlow::Continue(())
        })
        .unwrap()
        .unwrap();
    Drawn { tokens: tokens.to_device(Device::Cpu), passes, sequences, frames, log }
}

/// Seeds of the pictures 0, 1, … of a job.
pub fn seeds(seed: u64, count: u64) -> Vec<PictureSeed> {
    (0..count).map(|index| PictureSeed { seed, index }).collect()
}

/// Plans of every kind on a model with `scales` scales: one to three steps, teacher-involved with
/// every start and end of interest, and the teacher alone.
pub fn plans(scales: u32, top_k: u32) -> Vec<Plan> {
    let guidance = Guidance { cfg: 2.0, top_k, top_p: 0.95 };
    let middle = scales / 2;
    let few = Plan::few_step;
    let involved = |t_list, loss_split_t, teacher_start, causal_prefix| Plan::TeacherInvolved {
        t_list,
        loss_split_t,
        teacher_start,
        guidance,
        causal_prefix,
    };
    vec![
        few(&[0], middle),
        few(&[0], 0),
        few(&[0, middle], middle),
        few(&[0, 1, scales - 1], scales),
        involved([0, middle], middle, middle - 1, false),
        involved([0, middle], scales, 1, true),
        involved([0, scales], 1, middle, false),
        involved([0, middle], middle, middle, false),
        involved([0, middle], middle, 0, false),
        involved([0, 0], middle, 0, false),
        involved([1, middle], 0, 1, false),
        Plan::Teacher { guidance },
    ]
}

/// The largest difference of two tensors of one shape.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let (a, b) = (a.to_device(Device::Cpu), b.to_device(Device::Cpu));
    let largest = (a - b).abs().max();
    f64::try_from(largest).unwrap()
}

/// The same codes, whatever the device.
pub fn same_codes(a: &Tensor, b: &Tensor) -> bool {
    a.to_device(Device::Cpu).equal(&b.to_device(Device::Cpu))
}
