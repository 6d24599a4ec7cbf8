//! The Fréchet distance between two normal distributions (Dowson and Landau 1982; as FID, Heusel et
//! al. 2017).
//!
//! `|μ_a − μ_b|² + tr(C_a) + tr(C_b) − 2·tr((C_a C_b)^½)`. With factors `C = FᵀF`, the last trace
//! is the sum of the singular values of `F_a F_bᵀ`: no square root of a product of covariances is
//! ever taken, so covariances of deficient rank (fewer pictures than features) are exact and never
//! turn complex.

use tch::{Kind, Tensor};

/// Mean and covariance of a set of feature vectors, in float64.
#[derive(Debug)]
pub struct Statistics {
    /// `[d]`
    mean: Tensor,
    /// `[r, d]`; its transpose times itself is the covariance.
    factor: Tensor,
}

/// Statistics that cannot be made or compared.
#[derive(Debug, thiserror::Error)]
pub enum FrechetError {
    /// Not a list of feature vectors, or too few of them.
    #[error("features are of shape {0:?}; they must be [n, d] with n at least 2 and d at least 1")]
    Features(Vec<i64>),
    /// Not a mean and its covariance.
    #[error(
        "mean is of shape {mean:?} and covariance of shape {covariance:?}; they must be [d] and \
         [d, d]"
    )]
    Moments {
        /// Shape of the mean.
        mean: Vec<i64>,
        /// Shape of the covariance.
        covariance: Vec<i64>,
    },
    /// A number that is none.
    #[error("{0} has infinite numbers or ones that are not a number")]
    NotFinite(&'static str),
    /// Numbers that no features are, whose squares soon have no place in an f64.
    #[error(
        "the distance is too large: features or statistics go beyond 1e50, as no picture's do; \
         weights or statistics are damaged"
    )]
    TooLarge,
    /// A covariance that differs from its transpose.
    #[error(
        "the covariance is not symmetric: it differs from its transpose by {difference:.3e}, and \
         its largest number is {largest:.3e}; it is damaged, or no covariance"
    )]
    NotSymmetric {
        /// The largest difference.
        difference: f64,
        /// The largest number of the matrix.
        largest: f64,
    },
    /// A covariance by which some direction would vary by less than nothing.
    #[error(
        "the covariance has negative eigenvalues, down to {least:.3e} beside {greatest:.3e}: it is \
         damaged, or no covariance"
    )]
    Negative {
        /// The least eigenvalue.
        least: f64,
        /// The greatest one.
        greatest: f64,
    },
    /// Two sets in different spaces.
    #[error("one set has {a} features and the other {b}; both must come from the same network")]
    Dimensions {
        /// Features of the one.
        a: i64,
        /// Features of the other.
        b: i64,
    },
    /// The numerics failed.
    #[error("the statistics cannot be computed: {0}")]
    Device(#[from] tch::TchError),
}

/// Distances from here on are none: features of pictures are nowhere near its root.
const TOO_LARGE: f64 = 1e100;

/// How far rounding takes a covariance of these numbers from what it should be, as a share of its
/// largest number. Statistics in f64 may have been computed in f32.
fn rounding(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 | Kind::Half => 2e-2,
        _ => 1e-4,
    }
}

fn finite(what: &'static str, tensor: &Tensor) -> Result<(), FrechetError> {
    let finite = i64::try_from(tensor.f_isfinite()?.f_all()?)? != 0;
    if finite { Ok(()) } else { Err(FrechetError::NotFinite(what)) }
}

impl Statistics {
    /// Statistics of features `[n, d]`, `n ≥ 2`; the covariance is divided by `n − 1`.
    ///
    /// # Errors
    /// When the shape is another one or a number is not finite.
    pub fn of_features(features: &Tensor) -> Result<Self, FrechetError> {
        let shape = features.size();
        let &[n, d] = shape.as_slice() else {
            return Err(FrechetError::Features(shape));
        };
        if n < 2 || d < 1 {
            return Err(FrechetError::Features(shape));
        }
        let features = features.f_to_kind(Kind::Double)?;
        finite("the list of features", &features)?;
        let mean = features.f_mean_dim([0].as_slice(), false, Kind::Double)?;
        let centred = (features - &mean) / ((n - 1) as f64).sqrt();
        // FᵀF does not change when F is replaced by the triangle of its QR decomposition, which is
        // small.
        let factor = if n > d { Tensor::f_linalg_qr(&centred, "r")?.1 } else { centred };
        Ok(Self { mean, factor })
    }

    /// Statistics given by mean `[d]` and covariance `[d, d]`.
    ///
    /// # Errors
    /// [`FrechetError::Moments`] when the shapes are others, [`FrechetError::NotFinite`] when a
    /// number is not finite, [`FrechetError::NotSymmetric`] and [`FrechetError::Negative`] when
    /// no vectors could have that covariance, whatever the rounding.
    pub fn of_moments(mean: &Tensor, covariance: &Tensor) -> Result<Self, FrechetError> {
        let d = mean.size().first().copied().unwrap_or(0);
        if d < 1 || mean.size() != [d] || covariance.size() != [d, d] {
            return Err(FrechetError::Moments { mean: mean.size(), covariance: covariance.size() });
        }
        let tolerance = rounding(covariance.kind());
        let mean = mean.f_to_kind(Kind::Double)?;
        let covariance = covariance.f_to_kind(Kind::Double)?;
        finite("the mean", &mean)?;
        finite("the covariance", &covariance)?;
        let largest_of = |tensor: &Tensor| tensor.f_abs()?.f_max()?.f_double_value(&[]);
        let difference = largest_of(&covariance.f_sub(&covariance.f_transpose(0, 1)?)?)?;
        let largest = largest_of(&covariance)?;
        if difference > tolerance * largest {
            return Err(FrechetError::NotSymmetric { difference, largest });
        }
        let (values, vectors) = covariance.f_linalg_eigh("L")?;
        // In ascending order. Rounding makes some zero eigenvalues negative.
        let (least, greatest) = (values.f_double_value(&[0])?, values.f_double_value(&[d - 1])?);
        if least < -tolerance * greatest.max(0.0) {
            return Err(FrechetError::Negative { least, greatest });
        }
        let factor =
            vectors.f_transpose(0, 1)? * values.f_clamp_min(0.0)?.f_sqrt()?.f_unsqueeze(1)?;
        Ok(Self { mean, factor })
    }

    /// The distance to another set.
    ///
    /// # Errors
    /// When the other one has another number of features, or numbers are too large.
    pub fn distance(&self, other: &Self) -> Result<f64, FrechetError> {
        let (a, b) = (self.mean.size()[0], other.mean.size()[0]);
        if a != b {
            return Err(FrechetError::Dimensions { a, b });
        }
        let squares = |tensor: &Tensor| tensor.f_square()?.f_sum(Kind::Double)?.f_double_value(&[]);
        let product = self.factor.f_matmul(&other.factor.f_transpose(0, 1)?)?;
        let common = product.f_svd(true, false)?.1.f_sum(Kind::Double)?.f_double_value(&[])?;
        let parts = squares(&self.mean.f_sub(&other.mean)?)?
            + squares(&self.factor)?
            + squares(&other.factor)?;
        // Also where large parts would cancel; what is no number is not below anything.
        let is_distance = parts < TOO_LARGE && common < TOO_LARGE;
        if !is_distance {
            return Err(FrechetError::TooLarge);
        }
        let distance = parts - 2.0 * common;
        // Rounding may take equal sets just below zero.
        Ok(distance.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;
    use tch::Device;

    use super::*;

    fn reference(name: &str) -> Tensor {
        let bytes = include_bytes!("../../tests/data/evaluation.safetensors");
        let file = SafeTensors::deserialize(bytes).unwrap();
        let view = file.tensor(name).unwrap();
        let kind = if view.dtype() == safetensors::Dtype::F64 { Kind::Double } else { Kind::Float };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        Tensor::from_data_size(view.data(), &shape, kind)
    }

    fn relative_error(found: f64, expected: f64) -> f64 {
        (found - expected).abs() / expected
    }

    #[test]
    fn the_distance_of_the_reference_activations_is_met() {
        let a = Statistics::of_features(&reference("frechet.act_a")).unwrap();
        let b = Statistics::of_features(&reference("frechet.act_b")).unwrap();
        let expected = reference("frechet.distance").double_value(&[0]);
        assert!(relative_error(a.distance(&b).unwrap(), expected) < 1e-6);
        assert!(relative_error(b.distance(&a).unwrap(), expected) < 1e-6);
        assert!(a.distance(&a).unwrap() < 1e-12);
    }

    #[test]
    fn what_is_too_large_for_a_number_is_no_distance() {
        let a = reference("frechet.act_a");
        let near = Statistics::of_features(&a).unwrap();
        for factor in [1e60, 1e154, 1e200] {
            let far = Statistics::of_features(&(a.to_kind(Kind::Double) * factor));
            assert!(far.and_then(|far| far.distance(&near)).is_err(), "{factor}");
        }
        // Also where the numbers are finite still.
        let diagonal = |value: f64| {
            Statistics::of_moments(
                &Tensor::zeros([2], (Kind::Double, Device::Cpu)),
                &(Tensor::eye(2, (Kind::Double, Device::Cpu)) * value),
            )
            .unwrap()
        };
        let error = diagonal(1e300).distance(&diagonal(1.0)).unwrap_err().to_string();
        assert!(error.contains("too large"), "{error}");
    }

    #[test]
    fn fewer_vectors_than_features_are_no_obstacle() {
        let few = reference("frechet.act_a").narrow(0, 0, 24);
        let few = Statistics::of_features(&few).unwrap();
        let b = Statistics::of_features(&reference("frechet.act_b")).unwrap();
        let expected = reference("frechet.distance_rank_deficient").double_value(&[0]);
        let found = few.distance(&b).unwrap();
        assert!(relative_error(found, expected) < 1e-6, "{found} {expected}");
    }

    #[test]
    fn features_and_their_moments_give_the_same_distance() {
        let (a, b) = (reference("frechet.act_a"), reference("frechet.act_b"));
        for rows in [400, 24, 2] {
            let features = a.narrow(0, 0, rows).to_kind(Kind::Double);
            let moments = Statistics::of_moments(
                &features.mean_dim([0].as_slice(), false, Kind::Double),
                &features.tr().cov(1, None::<&Tensor>, None::<&Tensor>),
            );
            let b = Statistics::of_features(&b).unwrap();
            let by_features = Statistics::of_features(&features).unwrap().distance(&b).unwrap();
            let by_moments = moments.unwrap().distance(&b).unwrap();
            assert!(relative_error(by_moments, by_features) < 1e-6, "{by_moments} {by_features}");
        }
    }

    #[test]
    fn diagonal_covariances_give_the_closed_form() {
        let vector = |values: &[f64]| Tensor::from_slice(values);
        let a = Statistics::of_moments(&vector(&[0., 1.]), &vector(&[4., 9.]).diag_embed(0, 0, 1))
            .unwrap();
        let b = Statistics::of_moments(&vector(&[3., 1.]), &vector(&[1., 0.]).diag_embed(0, 0, 1))
            .unwrap();
        // 3² + (2 − 1)² + (3 − 0)²
        assert!((a.distance(&b).unwrap() - 19.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_statistics_is_refused_with_its_shape() {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let error = Statistics::of_features(&zeros(&[1, 8])).unwrap_err().to_string();
        assert!(error.contains("[1, 8]"), "{error}");
        let error = Statistics::of_features(&zeros(&[8])).unwrap_err().to_string();
        assert!(error.contains("[8]"), "{error}");
        let error = Statistics::of_features(&(zeros(&[4, 2]) / 0.0)).unwrap_err().to_string();
        assert!(error.contains("not a number"), "{error}");
        let error = Statistics::of_moments(&zeros(&[3]), &zeros(&[3, 4])).unwrap_err().to_string();
        assert!(error.contains("[3, 4]"), "{error}");
        let matrix = |rows: &[[f64; 2]]| Tensor::from_slice2(rows);
        for (covariance, words) in [
            (matrix(&[[2., 1.], [0., 2.]]), "not symmetric"),
            (matrix(&[[1., 2.], [2., 1.]]), "negative eigenvalues, down to -1.000e0"),
            (matrix(&[[-1., 0.], [0., -2.]]), "negative eigenvalues"),
            (matrix(&[[1., 0.], [0., -1e-3]]), "negative eigenvalues"),
        ] {
            let error = Statistics::of_moments(&zeros(&[2]), &covariance).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        // What rounding does is let pass.
        for covariance in [[[1., 1e-6], [0., 1.]], [[1., 0.], [0., -1e-7]], [[0., 0.], [0., 0.]]] {
            Statistics::of_moments(&zeros(&[2]), &matrix(&covariance)).unwrap();
        }
        let two = Statistics::of_features(&zeros(&[4, 2])).unwrap();
        let three = Statistics::of_features(&zeros(&[4, 3])).unwrap();
        let error = two.distance(&three).unwrap_err().to_string();
        assert!(error.contains("2 features and the other 3"), "{error}");
    }
}
