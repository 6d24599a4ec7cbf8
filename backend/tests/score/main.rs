//! Drawing and scoring large sets with the real program: interrupted, in parts, and on damaged inputs.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod drawing;
mod inputs;
mod program;
mod scoring;
