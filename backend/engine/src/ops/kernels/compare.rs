//! How kernels are held against libtorch: numbers to try them on, and how far off they may be.

use tch::{Device, Kind, Tensor};

/// Numbers that look like any others, from −1 to 1; made without the random numbers of libtorch,
/// whose stream belongs to others.
pub(crate) fn numbers(size: &[i64], step: f64, device: Device) -> Tensor {
    (Tensor::arange(size.iter().product::<i64>(), (Kind::Double, device)) * step).sin().view(size)
}

/// The largest difference, beside the number where that is above one.
pub(crate) fn distance(ours: &Tensor, plain: &Tensor) -> f64 {
    let off = (ours.to_kind(Kind::Float) - plain).abs() / plain.abs().clamp_min(1.0);
    f64::try_from(off.max()).unwrap_or(f64::NAN)
}

/// How far an outcome may be off: its rounding, and for f32 that of the sums.
pub(crate) fn tolerance(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 => 1.0 / 256.0 + 1e-4,
        Kind::Half => 1.0 / 2048.0 + 1e-4,
        _ => 5e-5,
    }
}

/// Whether an outcome of `kind` is the plain one up to rounding; says how far off if not.
pub(crate) fn close(what: &str, ours: &Tensor, plain: &Tensor, kind: Kind) -> Result<(), String> {
    let off = distance(ours, plain);
    let fits = ours.kind() == kind && off <= tolerance(kind);
    if fits { Ok(()) } else { Err(format!("{what} is off by {off:.1e}")) }
}
