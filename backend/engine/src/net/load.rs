//! Operations with the weights of a place in the tree of names.

use crate::{
    ops::{
        conv::{Conv2d, Downsample, Upsample},
        group_norm::GroupNorm,
        linear::Linear,
    },
    weights::Cursor,
};

pub(super) fn linear(at: &Cursor, from: i64, to: i64) -> Linear {
    Linear::new(at.ops(), at.tensor("weight", &[to, from]), at.tensor("bias", &[to]))
}

/// A convolution that keeps the side; `size` is odd.
pub(super) fn conv(at: &Cursor, from: i64, to: i64, size: i64) -> Conv2d {
    Conv2d::new(at.ops(), at.tensor("weight", &[to, from, size, size]), at.tensor("bias", &[to]))
}

/// `conv` below this place, after the side is doubled.
pub(super) fn upsample(at: &Cursor, channels: i64) -> Upsample {
    let at = at.enter("conv");
    let weight = at.tensor("weight", &[channels, channels, 3, 3]);
    Upsample::new(at.ops(), weight, at.tensor("bias", &[channels]))
}

/// `conv` below this place, which halves the side.
pub(super) fn downsample(at: &Cursor, channels: i64) -> Downsample {
    let at = at.enter("conv");
    let weight = at.tensor("weight", &[channels, channels, 3, 3]);
    Downsample::new(at.ops(), weight, at.tensor("bias", &[channels]))
}

pub(super) fn group_norm(at: &Cursor, channels: i64, groups: i64) -> GroupNorm {
    let (weight, bias) = (at.tensor("weight", &[channels]), at.tensor("bias", &[channels]));
    GroupNorm::new(at.ops(), weight, bias, groups)
}
