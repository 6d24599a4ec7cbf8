//! Fetching, drawing and scoring at scale with the real program: interrupted, in parts, and on
//! damaged inputs.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod checkpoints;
mod downloading;
mod drawing;
mod inputs;
mod program;
mod reproducing;
mod scoring;
mod stand_in;
