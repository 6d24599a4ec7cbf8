//! Model bundles: what a model is on disk, and how released checkpoints become one.

pub mod checkpoint;
