//! How kernels are held against libtorch: numbers to try them on, and how far off they may be.

use std::fmt::Debug;

use tch::{Device, Kind, Tensor};

use super::Refusal;

/// A kernel that does not give what libtorch gives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Other numbers.
    #[error("{what} is off by {off} for {case}")]
    Off {
        /// What the kernel made.
        what: &'static str,
        /// The largest difference.
        off: String,
        /// Shapes and number type.
        case: String,
    },
    /// It did not run on what it is made for.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It ran and gave nothing.
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// Numbers that look like any others, from −1 to 1; made without the random numbers of libtorch,
/// whose stream belongs to others.
pub(in crate::ops) fn numbers(size: &[i64], step: f64, device: Device) -> Tensor {
    (Tensor::arange(size.iter().product::<i64>(), (Kind::Double, device)) * step).sin().view(size)
}

/// The largest difference, beside the number where that is above one.
pub(in crate::ops) fn distance(ours: &Tensor, plain: &Tensor) -> f64 {
    let off = (ours.to_kind(Kind::Float) - plain).abs() / plain.abs().clamp_min(1.0);
    f64::try_from(off.max()).unwrap_or(f64::NAN)
}

/// How far an outcome may be off: its rounding, and for f32 that of the sums.
pub(in crate::ops) fn tolerance(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 => 1.0 / 256.0 + 1e-4,
        Kind::Half => 1.0 / 2048.0 + 1e-4,
        _ => 5e-5,
    }
}

/// Compares what a kernel gave, numbers of `kind`, with what libtorch gives in f32.
///
/// # Errors
/// When it gave nothing, or is off by more than rounding.
pub(in crate::ops) fn close(
    what: &'static str,
    ours: Option<&Tensor>,
    plain: &Tensor,
    kind: Kind,
    case: &dyn Debug,
) -> Result<(), Mismatch> {
    let ours = ours.ok_or(Mismatch::Missing(what))?;
    let off = distance(ours, plain);
    // A number that is none is not close.
    if ours.kind() == kind && off <= tolerance(kind) {
        Ok(())
    } else {
        Err(Mismatch::Off { what, off: format!("{off:.1e}"), case: format!("{case:?} {kind:?}") })
    }
}
