//! `var-dd trace` and its kin: computations on given inputs, for comparing implementations.

use std::{ops::ControlFlow, path::PathBuf};

use anyhow::Context;
use clap::Args;
use tch::{Kind, Tensor};
use var_dd_engine::{
    bundle::Bundle,
    config::Config,
    device::DtypeChoice,
    evaluate::{features::read_state_dict, frechet::Statistics},
    net::inception::{Inception, is_unneeded},
    ops::Ops,
    sample::{
        Batch, Event, Frames, SampleError,
        explore::{Course, Encoded},
        filter::filtered_probs,
        noise::PictureSeed,
        plan::{Guidance, Plan},
    },
    tensor_file::{self, Expected, TensorFile},
    weights::Weights,
};

use super::model::{ModelArgs, PlanArgs, check_teacher, count, scale, seed};
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
With --reroll-from the input also holds `noise_2` f32 [B, N, Cv]; `sequence`, `fhat0`, … and \
`image0`, … are then of what the re-roll draws. Of a few-step plan that sequence is there as the \
next one after its passes too: `step2.sequence` of a plan of two.\n\n\
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
    /// Then every token becomes its nearest codeword, and one more student step keeps the scales
    /// before this one and draws the others from `noise_2`. Tokens of scales before --loss-split-t,
    /// or before this scale if it is greater, become codewords.
    #[arg(long, value_name = "SCALE", allow_negative_numbers = true, value_parser = scale)]
    reroll_from: Option<u32>,
    /// Seed of the teacher's draws; picture i of the batch draws as picture i of this seed.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = seed)]
    seed: u64,
}

/// Flags of `var-dd trace-encode`.
#[derive(Args, Clone, Debug)]
pub struct TraceEncodeArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    files: FileArgs,
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
    top_k: u32,
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
    let reroll = args.reroll_from.map(|from| check_reroll(from, config)).transpose()?;
    let inputs = Inputs::read(&args.files, config, &plan, reroll.is_some())?;
    let ops = args.model.network.open()?;
    // Compared with other implementations, which are exact unless told otherwise.
    let dtype = args.model.network.dtype.unwrap_or(DtypeChoice::F32);
    let sampler = bundle.sampler(&ops, dtype.kind_for(ops.device(), config))?;
    let mut outputs: Vec<(String, Tensor)> = Vec::new();
    let mut passes = 0;
    let mut after_teacher = None;
    let mut sequence = {
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
                        let end = config.tokens_before(b as usize);
                        if pass == 0 && drafts {
                            outputs.push(("draft".into(), keep(sequence)));
                            after_teacher = Some(keep(&sequence.narrow(1, 0, end)));
                        } else if pass < (b - teacher_start) as usize + usize::from(drafts) {
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
    if let Some(from_scale) = reroll {
        let loss_split_t = plan.loss_split_t();
        let course = Course::Reroll { parent: &sequence, from_scale, loss_split_t };
        let batch = Batch { labels: &inputs.labels, noise: inputs.noise_2.as_ref(), seeds: &[] };
        let rerolled = sampler
            .follow(&course, &batch, Frames::None, &mut |_| ControlFlow::Continue(()))?
            .context("the drawing was stopped")?;
        if matches!(plan, Plan::FewStep { .. }) {
            outputs.push((format!("step{passes}.sequence"), rerolled.to_device(tch::Device::Cpu)));
        }
        sequence = rerolled;
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

/// A scale that a re-roll can begin at.
fn check_reroll(from_scale: u32, config: &Config) -> Result<u32, UsageError> {
    let scales = config.scales();
    if (from_scale as usize) < scales {
        return Ok(from_scale);
    }
    Err(UsageError(format!(
        "--reroll-from is {from_scale}; the model has {scales} scales, so it goes from 0 to {}",
        scales - 1
    )))
}

/// Noise and labels, checked against the model before anything heavy is loaded.
struct Inputs {
    labels: Tensor,
    noise: Option<Tensor>,
    /// Noise of the re-roll.
    noise_2: Option<Tensor>,
}

impl Inputs {
    fn read(
        files: &FileArgs,
        config: &Config,
        plan: &Plan,
        with_reroll: bool,
    ) -> anyhow::Result<Self> {
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
        let sizes = [numbers.len(), config.tokens() as usize, config.latent_channels as usize];
        let expected = Expected {
            kinds: &[Kind::Float],
            shape: &format!("{sizes:?}: one row for each label, the model's tokens and channels"),
            sizes: Some(&sizes.map(Some)),
        };
        let noise = |name, needed: bool| needed.then(|| file.expect(name, expected)).transpose();
        Ok(Self {
            noise: noise("noise", plan.needs_noise())?,
            noise_2: noise("noise_2", with_reroll)?,
            labels,
        })
    }

    fn seeds(&self, seed: u64) -> Vec<PictureSeed> {
        (0..self.labels.size()[0] as u64).map(|index| PictureSeed { seed, index }).collect()
    }
}

/// Encodes `pictures` to tokens, and decodes those.
///
/// # Errors
/// When the model has no encoder, the input is not what it should be, or a file cannot be read or
/// written.
pub fn encode(args: &TraceEncodeArgs) -> anyhow::Result<()> {
    let bundle = Bundle::open(&args.model.directory())?;
    let config = &bundle.config;
    tensor_file::check_place(&args.files.output)?;
    let file = TensorFile::open(&args.files.input)?;
    let side = config.image_size();
    let sizes = [None, Some(3), Some(side as usize), Some(side as usize)];
    let expected = Expected {
        kinds: &[Kind::Float],
        shape: &format!("[B, 3, {side}, {side}] with B at least 1: pictures of the model's side"),
        sizes: Some(&sizes),
    };
    let pictures = file.expect("pictures", expected)?;
    let (least, greatest) = (pictures.min().double_value(&[]), pictures.max().double_value(&[]));
    if !(least >= -1.0 && greatest <= 1.0) {
        let reason =
            format!("tensor \"pictures\" goes from {least} to {greatest}; it must lie in -1 to 1");
        return Err(file.refuse(reason).into());
    }
    let ops = args.model.network.open()?;
    let dtype = args.model.network.dtype.unwrap_or(DtypeChoice::F32);
    let sampler = bundle.sampler(&ops, dtype.kind_for(ops.device(), config))?;
    let Encoded { f, codes, f_hat } = sampler.encode(&pictures)?;
    // As the network gives them: −1…1.
    let picture = sampler.pictures(&f_hat) * 2.0 - 1.0;
    let outputs = [("f", f), ("codes", codes), ("f_hat", f_hat), ("picture", picture)];
    let outputs: Vec<_> = outputs.map(|(name, tensor)| (name.to_owned(), tensor)).into();
    tensor_file::write(&args.files.output, &outputs)?;
    Ok(())
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
    let probs = filtered_probs(&logits, args.top_k as usize, args.top_p);
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
    tensor_file::write(&args.output, &[("distance".into(), Tensor::from_slice(&[distance]))])?;
    outln!("{distance}")?;
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
