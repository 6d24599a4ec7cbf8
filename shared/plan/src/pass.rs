//! The network passes of a plan, and the frames that they show.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Which network a pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PassKind {
    /// One pass of the distilled student over all tokens.
    Student,
    /// A student pass whose picture the teacher then partly redraws.
    Draft,
    /// One scale by the autoregressive teacher.
    Teacher,
    /// No network: scales are shown of tokens at hand, as of a parent picture.
    Kept,
}

/// One pass of a plan, or of what is done to a picture at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pass {
    /// Which network.
    pub kind: PassKind,
    /// First scale whose picture the pass shows.
    pub first_scale: u32,
    /// One past the last scale whose picture the pass shows.
    pub end_scale: u32,
}

impl Pass {
    /// The passes that show tokens at hand, without any network.
    pub fn shown(scales: u32) -> Vec<Self> {
        vec![Self { kind: PassKind::Kept, first_scale: 0, end_scale: scales }]
    }

    /// The passes of a re-roll: scales before `from_scale` as they are, a student pass over the
    /// others.
    pub fn rerolled(from_scale: u32, scales: u32) -> Vec<Self> {
        let kept = Self { kind: PassKind::Kept, first_scale: 0, end_scale: from_scale };
        let drawn = Self { kind: PassKind::Student, first_scale: from_scale, end_scale: scales };
        (from_scale > 0).then_some(kept).into_iter().chain([drawn]).collect()
    }

    /// The passes of an edit: one a scale, by the network named.
    pub fn edited(kind: PassKind, scales: u32) -> Vec<Self> {
        (0..scales).map(|scale| Self { kind, first_scale: scale, end_scale: scale + 1 }).collect()
    }

    /// Every frame of one picture of these passes, in the order in which it is streamed unless the
    /// last one is wanted first.
    pub fn frames(passes: &[Self]) -> Vec<FramePosition> {
        (0..)
            .zip(passes)
            .flat_map(|(pass, of)| {
                (of.first_scale..of.end_scale).map(move |scale| FramePosition { pass, scale })
            })
            .collect()
    }

    /// The scales whose pictures the pass shows, as indices.
    pub fn scales(&self) -> Range<usize> {
        self.first_scale as usize..self.end_scale as usize
    }
}

/// Place of a frame in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FramePosition {
    /// Pass, from 0.
    pub pass: u32,
    /// Scale, from 0.
    pub scale: u32,
}
