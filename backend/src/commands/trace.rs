//! `var-dd trace` and its kin: computations on given inputs, for comparing implementations.

use std::{ops::ControlFlow, path::PathBuf};

use anyhow::Context;
use clap::Args;
use tch::{Kind, Tensor};
use var_dd_engine::{
    bundle::{Bundle, config::Config, weights::Weights},
    device::DtypeChoice,
    evaluate::{features::read_state_dict, frechet::Statistics},
    net::inception::{Inception, is_unneeded},
    ops::Ops,
    sample::{
        Batch, Event, Frames, SampleError,
        filter::filtered_probs,
        noise::PictureSeed,
        plan::{Guidance, Plan},
    },
    tensor_file::{self, Expected, TensorFile},
};

use super::model::{ModelArgs, PlanArgs, check_teacher, count, seed};
use crate::outln;
use crate::{device_args::DeviceArgs, usage_error::UsageError};

/// Flags of `var-dd trace`.
#[derive(Args, Clone, Debug)]
#[command(
    // A line feed stands for `{n}` in clap's templates, so the names are spelled with their
    // numbers.
    after_long_help = "\
Input: `noise` f32 [B, N, Cv] and `labels` i64 [B] (no noise with --autoregressive).\n\n\
Output, all f32: `step0.sequence`, `step1.sequence`, … [B, N, Cv] of the few-step passes; \
`draft` [B, N, Cv] and `after_teacher` [B, K(b), Cv] of a teacher-involved plan; always \
`sequence` [B, N, Cv] and, of the final sequence, `fhat0`, `fhat1`, … [B, Cv, p, p] and \
`image0`, `image1`, … [B, 3, H, W] in 0…1 for every scale.\n\n\
Example: var-dd trace --model model --input in.safetensors --output out.safetensors --t-list \
0,5 --loss-split-t 5"
)]
pub struct TraceArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    plan: PlanArgs,
    /// Seed of the teacher's draws; picture i of the batch draws as picture i of this seed.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = seed)]
    seed: u64,
}

/// Input and output.
#[derive(Args, Clone, Debug)]
pub struct FileArgs {
    /// Safetensors file to read.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Safetensors file to write; it appears whole or not at all.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Flags of `var-dd trace-filter`.
#[derive(Args, Clone, Debug)]
pub struct TraceFilterArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Logits kept, ties at the threshold included; 0 keeps all.
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true, value_parser = count)]
    top_k: usize,
    /// Probability mass kept; 0 keeps all.
    #[arg(long, value_name = "MASS", allow_negative_numbers = true)]
    top_p: f64,
}

/// Flags of `var-dd trace-inception`.
#[derive(Args, Clone, Debug)]
pub struct TraceInceptionArgs {
    #[command(flatten)]
    files: FileArgs,
    /// The network's weights: `.pth` or `.safetensors`, with the names of pytorch-fid's network.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs one sampling on given noise and writes every tensor on the way.
///
/// # Errors
/// When the plan does not fit the model, the input is not what it should be, or a file cannot be
/// read or written.
pub fn run(args: &TraceArgs) -> anyhow::Result<()> {
    if !args.plan.is_given() {
        return Err(UsageError(
            "no plan; give --t-list with --loss-split-t, or --autoregressive".into(),
        )
        .into());
    }
    let bundle = Bundle::open(&args.model.directory())?;
    let config = &bundle.config;
    let plan = args.plan.resolve(config)?;
    tensor_file::check_place(&args.files.output)?;
    check_teacher(&plan, &bundle)?;
    let inputs = Inputs::read(&args.files, config, &plan)?;
    let ops = args.model.network.open()?;
    // Compared with other implementations, which are exact unless told otherwise.
    let dtype = args.model.network.dtype.unwrap_or(DtypeChoice::F32);
    let sampler = bundle.sampler(&ops, dtype.kind_for(ops.device(), config))?;
    let mut outputs: Vec<(String, Tensor)> = Vec::new();
    let mut passes = 0;
    let mut after_teacher = None;
    let sequence = {
        let keep = |tensor: &Tensor| tensor.to_device(tch::Device::Cpu);
        let batch = Batch {
            labels: &inputs.labels,
            noise: inputs.noise.as_ref(),
            seeds: &inputs.seeds(args.seed),
        };
        let drafts = matches!(plan, Plan::TeacherInvolved { teacher_start: 1.., .. });
        let sequence = sampler.run(&plan, &batch, Frames::None, &mut |event| {
            if let Event::PassEnded { pass, sequence, .. } = event {
                passes = pass + 1;
                match plan {
                    Plan::FewStep { .. } => {
                        outputs.push((format!("step{pass}.sequence"), keep(sequence)))
                    }
                    Plan::TeacherInvolved { t_list: [_, b], teacher_start, .. } => {
                        let end = config.tokens_before(b);
                        if pass == 0 && drafts {
                            outputs.push(("draft".into(), keep(sequence)));
                            after_teacher = Some(keep(&sequence.narrow(1, 0, end)));
                        } else if pass < b - teacher_start + usize::from(drafts) {
                            after_teacher = Some(keep(sequence));
                        }
                    }
                    Plan::Teacher { .. } => {}
                }
            }
            ControlFlow::Continue(())
        })?;
        sequence.context("the drawing was stopped")?
    };
    if matches!(plan, Plan::TeacherInvolved { .. }) {
        // Without a draft and without a scale for the teacher there is nothing before the last
        // student pass.
        let nothing = || sequence.narrow(1, 0, 0);
        outputs.push(("after_teacher".into(), after_teacher.unwrap_or_else(nothing)));
    }
    for (k, f_hat) in sampler.f_hats(&sequence).iter().enumerate() {
        outputs.push((format!("image{k}"), sampler.pictures(f_hat)));
        outputs.push((format!("fhat{k}"), f_hat.shallow_clone()));
    }
    outputs.push(("sequence".into(), sequence));
    tracing::info!(passes, tensors = outputs.len(), "traced");
    tensor_file::write(&args.files.output, &outputs)?;
    Ok(())
}

/// Noise and labels, checked against the model before anything heavy is loaded.
struct Inputs {
    labels: Tensor,
    noise: Option<Tensor>,
}

impl Inputs {
    fn read(files: &FileArgs, config: &Config, plan: &Plan) -> anyhow::Result<Self> {
        let file = TensorFile::open(&files.input)?;
        let expected = Expected {
            kinds: &[Kind::Int64],
            shape: "[B] with B at least 1",
            sizes: Some(&[None]),
        };
        let labels = file.expect("labels", expected)?;
        let classes = config.num_classes;
        let numbers = Vec::<i64>::try_from(&labels)?;
        if let Some(&class) = numbers.iter().find(|class| !(0..classes).contains(*class)) {
            return Err(file.refuse(SampleError::Class { class, classes }.to_string()).into());
        }
        if matches!(plan, Plan::Teacher { .. }) {
            return Ok(Self { labels, noise: None });
        }
        let sizes = [numbers.len(), config.tokens() as usize, config.latent_channels as usize];
        let expected = Expected {
            kinds: &[Kind::Float],
            shape: &format!("{sizes:?}: one row for each label, the model's tokens and channels"),
            sizes: Some(&sizes.map(Some)),
        };
        Ok(Self { noise: Some(file.expect("noise", expected)?), labels })
    }

    fn seeds(&self, seed: u64) -> Vec<PictureSeed> {
        (0..self.labels.size()[0] as u64).map(|index| PictureSeed { seed, index }).collect()
    }
}

/// Applies top-k and top-p to `logits`.
///
/// # Errors
/// When a number is out of bounds, the input is not what it should be, or a file cannot be read or
/// written.
pub fn filter(args: &TraceFilterArgs) -> anyhow::Result<()> {
    let guidance = Guidance { top_k: args.top_k, top_p: args.top_p, ..Guidance::default() };
    guidance.validate().map_err(|error| UsageError(error.to_string()))?;
    tensor_file::check_place(&args.files.output)?;
    let file = TensorFile::open(&args.files.input)?;
    let logits = file.expect_logits("logits")?;
    let probs = filtered_probs(&logits, args.top_k, args.top_p);
    tensor_file::write(&args.files.output, &[("probs".into(), probs)])?;
    Ok(())
}

/// Measures the Fréchet distance between `act_a` and `act_b`.
///
/// # Errors
/// When the input is not what it should be, or a file cannot be read or written.
pub fn frechet(args: &FileArgs) -> anyhow::Result<()> {
    tensor_file::check_place(&args.output)?;
    let file = TensorFile::open(&args.input)?;
    let statistics = |name| {
        let kinds = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16];
        let shape = "[n, d] with n at least 2";
        let features =
            file.expect(name, Expected { kinds: &kinds, shape, sizes: Some(&[None, None]) })?;
        Statistics::of_features(&features)
            .map_err(|error| file.refuse(format!("tensor {name:?}: {error}")))
    };
    let (a, b) = (statistics("act_a")?, statistics("act_b")?);
    let distance = a.distance(&b).map_err(|error| file.refuse(error.to_string()))?;
    outln!("{distance}")?;
    tensor_file::write(&args.output, &[("distance".into(), Tensor::from_slice(&[distance]))])?;
    Ok(())
}

/// Computes the Inception features of `images`.
///
/// # Errors
/// When the weights are not the network's, the input is not what it should be, or a file cannot be
/// read or written.
pub fn inception(args: &TraceInceptionArgs) -> anyhow::Result<()> {
    /// Pictures computed at a time: bounds the memory whatever the input's size.
    const BATCH: i64 = 16;
    tensor_file::check_place(&args.files.output)?;
    let file = TensorFile::open(&args.files.input)?;
    let expected = Expected {
        kinds: &[Kind::Float, Kind::Half, Kind::BFloat16, Kind::Double],
        shape: "[B, 3, H, W]",
        sizes: Some(&[None, Some(3), None, None]),
    };
    let images = file.expect("images", expected)?;
    let (least, greatest) = (images.min().double_value(&[]), images.max().double_value(&[]));
    if least < 0.0 || greatest > 1.0 {
        let reason =
            format!("tensor \"images\" goes from {least} to {greatest}; it must lie in 0 to 1");
        return Err(file.refuse(reason).into());
    }
    let device = args.device.open()?.device();
    let origin = args.weights.display().to_string();
    let mut tensors = read_state_dict(&args.weights)?;
    tensors.retain(|name, _| !is_unneeded(name));
    let weights = Weights::from_tensors(origin, tensors, &Ops::plain(device), Kind::Float);
    let network = Inception::load(weights)?;
    let batches = images.f_split(BATCH, 0)?;
    let features = batches.iter().map(|batch| network.features(&batch.to_device(device)));
    let features = Tensor::f_cat(&features.collect::<Result<Vec<_>, _>>()?, 0)?;
    tensor_file::write(&args.files.output, &[("features".into(), features)])?;
    Ok(())
}
