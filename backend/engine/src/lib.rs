//! Few-step image generation as a library: VAR (<https://arxiv.org/abs/2404.02905>) draws a picture
//! as a pyramid of token maps, and Distilled Decoding (<https://arxiv.org/abs/2412.17153>) draws
//! the whole pyramid in one or two passes of a network.
//!
//! Open a model, draw one picture, save it:
//!
//! ```
//! use std::{ops::ControlFlow, path::Path};
//!
//! use tch::{Device, Kind, Tensor};
//! use var_dd_engine::{
//!     bundle::Bundle,
//!     ops::{Ops, Settings},
//!     sample::{Batch, Event, Frames, noise::{self, PictureSeed}, to_rgb8},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let output = directory.path().join("picture.png");
//! # let model = Path::new("../../static/demo-model");
//! // A model is a directory, as `var-dd convert` and `var-dd train` make it.
//! let ops = Ops::open(Device::Cpu, Settings::default());
//! let sampler = Bundle::open(model)?.sampler(&ops, Kind::Float)?;
//! let config = &sampler.config;
//!
//! // A picture is a function of its class, its plan and its noise.
//! let seeds = [PictureSeed { seed: 1, index: 0 }];
//! let noise = noise::noise(&seeds, config.tokens(), config.latent_channels);
//! let labels = Tensor::from_slice(&[3i64]);
//! let batch = Batch { labels: &labels, noise: Some(&noise), seeds: &seeds };
//! let plan = &config.plans[0].plan;
//!
//! let mut picture = None;
//! sampler.run(plan, &batch, Frames::Last, &mut |event| {
//!     if let Event::Decoded { pictures, .. } = event {
//!         picture = Some(to_rgb8(pictures));
//!     }
//!     ControlFlow::Continue(())
//! })?;
//! let rgb = picture.ok_or("no picture")??.remove(0);
//!
//! let side = config.image_size() as u32;
//! let mut encoder = png::Encoder::new(std::fs::File::create(&output)?, side, side);
//! encoder.set_color(png::ColorType::Rgb);
//! encoder.write_header()?.write_image_data(&rgb)?;
//! # assert!(std::fs::metadata(&output)?.len() > 1000);
//! # Ok(()) }
//! ```
//!
//! - [`bundle`]: what a model is on disk, and how released checkpoints become one;
//! - [`ops`]: the operations of the networks, each with its faster ways;
//! - [`net`]: the networks, one file each, with the names of the checkpoints;
//! - [`sample`]: plans, randomness, and the samplers that run the networks;
//! - [`evaluate`]: FID and its kin;
//! - [`train`]: a model from nothing;
//! - [`device`]: where all of it runs.
//!
//! `examples/` draws pictures, streams scales and scores a model in a few lines each.

pub mod atomic_file;
pub mod bundle;
pub mod config;
mod cuda;
pub mod device;
pub mod evaluate;
pub mod failure;
pub mod graphs;
pub mod input_file;

pub mod net;
pub mod ops;
mod parallel;
pub mod sample;
pub mod tensor_file;
pub mod train;
pub mod weights;
