//! Measures how far the pictures of a model's first plan are from those of its last one: the
//! Fréchet distance in Inception features. (FID proper is `var-dd evaluate`, with 50,000 pictures.)
//!
//! ```text
//! cargo run --release -p var-dd-engine --example score -- static/demo-model inception.pth 64
//! ```

use std::{env, error::Error, ops::ControlFlow, path::Path};

use tch::{Kind, Tensor};
use var_dd_engine::{
    bundle::Bundle,
    device::{DeviceChoice, DtypeChoice},
    evaluate::{
        features::{FeatureNetwork, InceptionFeatures},
        frechet::Statistics,
    },
    ops::{Ops, Settings},
    sample::{
        Batch, Event, Frames, Sampler,
        noise::{self, PictureSeed},
        plan::Plan,
    },
};

/// Pictures drawn together.
const BATCH: u64 = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [model, weights, count] = &args[..] else {
        return Err("usage: score MODEL INCEPTION_WEIGHTS COUNT".into());
    };
    let count: u64 = count.parse()?;
    let bundle = Bundle::open(Path::new(model))?;
    let device = DeviceChoice::Auto.open()?;
    let inception = InceptionFeatures::open(Path::new(weights), device)?;
    let ops = Ops::open(device, Settings::default());
    let sampler = bundle.sampler(&ops, DtypeChoice::Auto.kind_for(device, &bundle.config))?;
    let plans = &sampler.config.plans;
    let (Some(first), Some(last)) = (plans.first(), plans.last()) else {
        return Err("the model lists no plan".into());
    };
    let few = Statistics::of_features(&features(&sampler, &inception, &first.plan, count)?)?;
    let many = Statistics::of_features(&features(&sampler, &inception, &last.plan, count)?)?;
    println!("{:?} to {:?}: {:.3}", first.name, last.name, few.distance(&many)?);
    Ok(())
}

/// Features f32 `[count, 2048]` of pictures of all classes in turn.
fn features(
    sampler: &Sampler,
    inception: &InceptionFeatures,
    plan: &Plan,
    count: u64,
) -> Result<Tensor, Box<dyn Error>> {
    let config = &sampler.config;
    let mut all = Vec::new();
    for from in (0..count).step_by(BATCH as usize) {
        let seeds: Vec<PictureSeed> =
            (from..count.min(from + BATCH)).map(|index| PictureSeed { seed: 0, index }).collect();
        let labels: Vec<i64> =
            seeds.iter().map(|picture| picture.index as i64 % config.num_classes).collect();
        let labels = Tensor::from_slice(&labels);
        let noise = noise::noise(&seeds, config.tokens(), config.latent_channels);
        let batch = Batch { labels: &labels, noise: Some(&noise), seeds: &seeds };
        let mut described = None;
        sampler.run(plan, &batch, Frames::Last, &mut |event| {
            if let Event::Decoded { pictures, .. } = event {
                // 8 bits, `[B, H, W, 3]`, as files hold them.
                let bytes = (pictures * 255.0 + 0.5).floor().clamp(0.0, 255.0);
                let bytes = bytes.to_kind(Kind::Uint8).permute([0, 2, 3, 1]);
                described = Some(inception.describe(&bytes));
            }
            ControlFlow::Continue(())
        })?;
        all.push(described.ok_or("the plan shows no picture")??.pooled);
    }
    Ok(Tensor::cat(&all, 0))
}
