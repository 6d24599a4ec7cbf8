//! Draws one picture and saves it:
//!
//! ```text
//! cargo run --release -p var-dd-engine --example draw -- static/demo-model 3 1 picture.png
//! ```

use std::{env, error::Error, fs::File, ops::ControlFlow, path::Path};

use tch::Tensor;
use var_dd_engine::{
    bundle::Bundle,
    device::{DeviceChoice, DtypeChoice},
    ops::{Ops, Settings},
    sample::{
        Batch, Event, Frames,
        noise::{self, PictureSeed},
        to_rgb8,
    },
};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [model, class, seed, output] = &args[..] else {
        return Err("usage: draw MODEL CLASS SEED OUTPUT.png".into());
    };
    let bundle = Bundle::open(Path::new(model))?;
    let device = DeviceChoice::Auto.open()?;
    let ops = Ops::open(device, Settings::default());
    let sampler = bundle.sampler(&ops, DtypeChoice::Auto.kind_for(device, &bundle.config))?;
    let config = &sampler.config;
    let plan = &config.plans.first().ok_or("the model lists no plan")?.plan;

    let seeds = [PictureSeed { seed: seed.parse()?, index: 0 }];
    let noise = noise::noise(&seeds, config.tokens(), config.latent_channels);
    let labels = Tensor::from_slice(&[class.parse::<i64>()?]);
    let batch = Batch { labels: &labels, noise: Some(&noise), seeds: &seeds };
    let mut picture = None;
    sampler.run(plan, &batch, Frames::Last, &mut |event| {
        if let Event::Decoded { pictures, .. } = event {
            picture = Some(to_rgb8(pictures));
        }
        ControlFlow::Continue(())
    })?;
    let rgb = picture.ok_or("the plan shows no picture")??.remove(0);

    let side = config.image_size() as u32;
    let mut encoder = png::Encoder::new(File::create(output)?, side, side);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&rgb)?;
    println!("{output}: {side} × {side}, {}", config.classes[class.parse::<usize>()?]);
    Ok(())
}
