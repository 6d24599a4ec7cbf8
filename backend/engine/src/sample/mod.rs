//! Drawing pictures: randomness, and the samplers that run the networks as a plan says.
//!
//! [`Sampler::run`] in `run` reads a plan; the steps that it is made of lie in `student` and
//! `teacher`, what they start from in `start`, and what they show on the way in `frames`. All rest
//! on `sampler`, which holds the networks. The plans themselves are [`plan`], a crate that page and
//! server share.

pub mod cost;
pub mod explore;
pub mod filter;
mod frames;
pub mod noise;
pub mod released_stream;
mod run;
mod sampler;
mod start;
mod student;
mod teacher;
pub mod torch_rng;

pub use var_dd_plan as plan;

pub use frames::{Event, Frames, Sink, to_rgb8};
pub use sampler::Sampler;
pub use start::{Batch, SampleError};
pub use teacher::guided_probs;
