//! A gain for what each scale adds.

/// Gains that cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum GainsError {
    /// Not one for each scale.
    #[error("there are {found} gains; the model has {scales} scales, so it must be as many")]
    Count {
        /// Gains given.
        found: usize,
        /// Scales of the model.
        scales: usize,
    },
    /// A gain that is none.
    #[error("the gain of scale {scale} is {gain}; it must be a number from 0 (mute) to 2")]
    Gain {
        /// The scale, from 0.
        scale: usize,
        /// The number.
        gain: f64,
    },
}

/// Checks gains for a model with `scales` scales.
///
/// # Errors
/// See [`GainsError`].
pub fn check_gains(gains: &[f64], scales: usize) -> Result<(), GainsError> {
    if gains.len() != scales {
        return Err(GainsError::Count { found: gains.len(), scales });
    }
    match gains.iter().enumerate().find(|(_, gain)| !(0.0..=2.0).contains(*gain)) {
        Some((scale, &gain)) => Err(GainsError::Gain { scale, gain }),
        None => Ok(()),
    }
}
