//! The command line draws what the server draws.

use std::{collections::HashMap, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use var_dd_protocol::ModelInfo;
use var_dd_tests::{
    client::{Client, finished_picture, request},
    program::{Program, demo_model, var_dd},
};

use crate::plans;

const SEED: u64 = 31;
const CLASS: u32 = 2;

/// The flags of a kind of plan as the released scripts spell them.
fn flags(kind: &str, scales: u32) -> Vec<String> {
    let split = scales / 2;
    let text = match kind {
        "1 step" => format!("--t-list 0 --loss-split-t {split}"),
        "2 steps" => format!("--t-list 0,{split} --loss-split-t {split}"),
        "teacher-involved" => format!(
            "--t-list 0,{split} --loss-split-t {split} --t-teacher-start {} --cfg 2.0 --top-k 200 \
             --top-p 0.95",
            split - 1
        ),
        _ => "--autoregressive --cfg 2.0 --top-k 200 --top-p 0.95".to_owned(),
    };
    text.split(' ').map(str::to_owned).collect()
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What the server draws for each kind of plan.
async fn served() -> Result<(ModelInfo, Vec<(&'static str, RgbImage)>)> {
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    let mut client = Client::connect(&program).await?;
    let mut pictures = Vec::new();
    for (kind, plan, _) in plans(model.scales()) {
        let accepted = client.generate(request(plan, SEED)).await?;
        let events = client.events(&accepted.job).await?;
        pictures.push((kind, image::load_from_memory(finished_picture(&events, 0)?)?.to_rgb8()));
    }
    Ok((model, pictures))
}

#[tokio::test]
async fn sample_draws_the_pictures_of_the_server() -> Result<()> {
    let (model, pictures) = served().await?;
    for (kind, expected) in pictures {
        let directory = tempfile::tempdir()?;
        let mut sample = var_dd()?;
        sample.args([
            "sample",
            "--sample-num",
            "1",
            "--class",
            &CLASS.to_string(),
            "--seed",
            &SEED.to_string(),
        ]);
        sample.arg("--model").arg(demo_model()).arg("--sample-dir").arg(directory.path());
        run(sample.args(flags(kind, model.scales()))).with_context(|| kind.to_owned())?;
        let drawn = image::open(directory.path().join("images/0.png"))?.to_rgb8();
        ensure!(drawn == expected, "{kind}: sample draws another picture");
    }
    Ok(())
}

#[tokio::test]
async fn trace_on_the_noise_of_a_seed_gives_the_pictures_of_the_server() -> Result<()> {
    let (model, pictures) = served().await?;
    let directory = tempfile::tempdir()?;
    let (input, output) =
        (directory.path().join("in.safetensors"), directory.path().join("out.safetensors"));
    write_input(&input, &model)?;
    for (kind, expected) in pictures {
        let mut trace = var_dd()?;
        trace.args(["trace", "--seed", &SEED.to_string(), "--model"]).arg(demo_model());
        trace.arg("--input").arg(&input).arg("--output").arg(&output);
        run(trace.args(flags(kind, model.scales()))).with_context(|| kind.to_owned())?;
        let traced = last_picture(&output, model.scales())?;
        ensure!(traced == expected.as_raw().as_slice(), "{kind}: trace gives another picture");
    }
    Ok(())
}

/// Noise of picture 0 of the seed, and its class.
fn write_input(path: &Path, model: &ModelInfo) -> Result<()> {
    let config: Value = serde_json::from_slice(&fs::read(demo_model().join("config.json"))?)?;
    let channels = config["latent_channels"].as_u64().context("latent_channels")? as usize;
    let tokens = model.patch_nums.iter().map(|side| (side * side) as usize).sum();
    let noise: Vec<u8> =
        gaussian(SEED, 0, tokens * channels).into_iter().flat_map(f32::to_le_bytes).collect();
    let labels = i64::from(CLASS).to_le_bytes();
    let tensors = HashMap::from([
        ("noise", TensorView::new(Dtype::F32, vec![1, tokens, channels], &noise)?),
        ("labels", TensorView::new(Dtype::I64, vec![1], &labels)?),
    ]);
    Ok(safetensors::serialize_to_file(tensors, None, path)?)
}

/// The starting noise of a picture, made here a second time from its definition: ChaCha8 keyed by
/// seed, index and purpose 0, and Box–Muller on 53-bit fractions.
fn gaussian(seed: u64, index: u64, count: usize) -> Vec<f32> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&index.to_le_bytes());
    key[24..].copy_from_slice(b"var-dd-1");
    let mut generator = ChaCha8Rng::from_seed(key);
    let mut fraction = || (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - fraction()));
        let angle = std::f64::consts::TAU * fraction();
        numbers.extend([(radius * libm::cos(angle)) as f32, (radius * libm::sin(angle)) as f32]);
    }
    numbers.truncate(count);
    numbers
}

/// The picture of the last scale in 8 bits, RGB interleaved.
fn last_picture(path: &Path, scales: u32) -> Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let picture = tensors.tensor(&format!("image{}", scales - 1))?;
    let values: Vec<f32> = picture
        .data()
        .chunks_exact(4)
        .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect();
    let pixels = values.len() / 3;
    let eight_bits = |value: f32| (255.0 * value + 0.5).floor().clamp(0.0, 255.0) as u8;
    Ok((0..pixels)
        .flat_map(|at| [0, 1, 2].map(|colour| eight_bits(values[colour * pixels + at])))
        .collect())
}
