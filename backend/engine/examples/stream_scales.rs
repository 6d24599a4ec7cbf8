//! Saves every scale of every pass as soon as it is decoded, and says when that was:
//!
//! ```text
//! cargo run --release -p var-dd-engine --example stream_scales -- static/demo-model 3 1 scales
//! ```

use std::{
    env,
    error::Error,
    fs::{self, File},
    ops::ControlFlow,
    path::Path,
    time::Instant,
};

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
        return Err("usage: stream_scales MODEL CLASS SEED DIRECTORY".into());
    };
    let bundle = Bundle::open(Path::new(model))?;
    let device = DeviceChoice::Auto.open()?;
    let ops = Ops::open(device, Settings::default());
    let sampler = bundle.sampler(&ops, DtypeChoice::Auto.kind_for(device, &bundle.config))?;
    let config = &sampler.config;
    let plan = &config.plans.last().ok_or("the model lists no plan")?.plan;
    fs::create_dir_all(output)?;

    let seeds = [PictureSeed { seed: seed.parse()?, index: 0 }];
    let noise = noise::noise(&seeds, config.tokens(), config.latent_channels);
    let labels = Tensor::from_slice(&[class.parse::<i64>()?]);
    let batch = Batch { labels: &labels, noise: Some(&noise), seeds: &seeds };
    let began = Instant::now();
    let mut failure = None;
    sampler.run(plan, &batch, Frames::InOrder, &mut |event| match event {
        Event::PassBegan { pass, passes, of } => {
            println!("pass {} of {passes}: {:?}", pass + 1, of.kind);
            ControlFlow::Continue(())
        }
        Event::PassEnded { .. } => ControlFlow::Continue(()),
        Event::Decoded { pass, scale, pictures, .. } => {
            let path = Path::new(output).join(format!("pass{pass}-scale{scale}.png"));
            let side = config.image_size() as u32;
            match save(&path, side, pictures) {
                Ok(()) => {
                    println!("{:6.1} ms  {}", began.elapsed().as_secs_f64() * 1e3, path.display());
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        }
    })?;
    failure.map_or(Ok(()), Err)
}

/// Writes the first picture of a batch, f32 `[B, 3, side, side]` in 0…1.
fn save(path: &Path, side: u32, pictures: &Tensor) -> Result<(), Box<dyn Error>> {
    let rgb = to_rgb8(pictures)?.remove(0);
    let mut encoder = png::Encoder::new(File::create(path)?, side, side);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&rgb)?;
    Ok(())
}
