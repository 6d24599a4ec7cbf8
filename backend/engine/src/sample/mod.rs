//! Drawing pictures: plans, randomness, and the samplers that run the networks.
//!
//! ```no_run
//! # use std::{ops::ControlFlow, path::Path};
//! # use var_dd_engine::{bundle::Bundle, ops::{Ops, Settings}, sample::{Batch, Event, Frames, noise::{self, PictureSeed}, plan::Plan}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ops = Ops::open(tch::Device::Cpu, Settings::default());
//! let sampler = Bundle::open(Path::new("static/demo-model"))?.sampler(&ops, tch::Kind::Float)?;
//! let seeds = [PictureSeed { seed: 0, index: 0 }];
//! let noise = noise::noise(&seeds, sampler.config.tokens(), sampler.config.latent_channels);
//! let labels = tch::Tensor::from_slice(&[3i64]);
//! let plan = Plan::FewStep { t_list: vec![0], loss_split_t: 3 };
//! let batch = Batch { labels: &labels, noise: Some(&noise), seeds: &seeds };
//! let tokens = sampler.run(&plan, &batch, Frames::InOrder, &mut |event| {
//!     if let Event::Decoded { scale, pictures, .. } = event {
//!         println!("scale {scale}: {:?}", pictures.size());
//!     }
//!     ControlFlow::Continue(())
//! })?;
//! # Ok(()) }
//! ```

pub mod cost;
pub mod filter;
pub mod noise;
pub mod plan;
pub mod released_stream;
mod run;
mod sampler;
pub mod torch_rng;

pub use sampler::{Batch, Event, Frames, SampleError, Sampler, Sink, guided_probs, to_rgb8};
