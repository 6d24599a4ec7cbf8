//! Improved precision and recall (Kynkäänniemi et al. 2019).
//!
//! A set of features stands for the union of balls around each of its vectors that reach to its
//! k-th nearest neighbour. Precision is the share of drawn pictures inside the reference's balls,
//! recall that of reference pictures inside the drawn ones'.

use tch::{Kind, TchError, Tensor};

/// The neighbour that a ball reaches to, in paper and in the evaluator of ADM.
pub const NEIGHBOUR: i64 = 3;

/// Vectors whose distances are computed at a time: bounds the memory.
const ROWS: i64 = 1024;

/// Balls around feature vectors.
#[derive(Debug)]
pub struct Manifold {
    /// f32 `[n, d]`
    features: Tensor,
    /// f32 `[n]`: squared radii.
    radii: Tensor,
}

/// Squared distances `[a, b]` between the rows of `a` and `b`.
fn squared_distances(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    let squares = |x: &Tensor| x.f_square()?.f_sum_dim_intlist([1].as_slice(), true, Kind::Float);
    let products = a.f_matmul(&b.f_transpose(0, 1)?)?;
    squares(a)?.f_add(&squares(b)?.f_transpose(0, 1)?)?.f_sub(&products.f_mul_scalar(2.0)?)
}

impl Manifold {
    /// Balls around `features`, `[n, d]` with n above `neighbour`, each as far as its nearest
    /// neighbour of that number.
    ///
    /// # Errors
    /// When there are too few vectors, or the device cannot.
    pub fn new(features: &Tensor, neighbour: i64) -> Result<Self, TchError> {
        let features = features.f_to_kind(Kind::Float)?;
        let n = features.size()[0];
        if n <= neighbour {
            let reason = format!("{n} feature vectors have no neighbour number {neighbour}");
            return Err(TchError::Shape(reason));
        }
        let mut radii = Vec::new();
        for start in (0..n).step_by(ROWS as usize) {
            let rows = features.f_narrow(0, start, ROWS.min(n - start))?;
            let distances = squared_distances(&rows, &features)?;
            // A vector is no neighbour of itself.
            let _ = distances.f_diagonal(start, 0, 1)?.f_fill_(f64::INFINITY)?;
            radii.push(distances.f_kthvalue(neighbour, 1, false)?.0);
        }
        Ok(Self { radii: Tensor::f_cat(&radii, 0)?, features })
    }

    /// The share of `others`, `[m, d]`, inside any of the balls.
    ///
    /// # Errors
    /// When they have another number of features, or the device cannot.
    pub fn share_inside(&self, others: &Tensor) -> Result<f64, TchError> {
        let others = others.f_to_kind(Kind::Float)?;
        let m = others.size()[0];
        let mut inside = 0;
        for start in (0..m).step_by(ROWS as usize) {
            let rows = others.f_narrow(0, start, ROWS.min(m - start))?;
            let within = squared_distances(&rows, &self.features)?.f_le_tensor(&self.radii)?;
            inside += within.f_any_dim(1, false)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        }
        Ok(inside as f64 / m as f64)
    }
}

/// Precision and recall of drawn features against those of a reference, both `[·, d]` with more
/// rows than [`NEIGHBOUR`].
///
/// # Errors
/// When there are too few vectors, or the device cannot.
pub fn precision_and_recall(drawn: &Tensor, reference: &Tensor) -> Result<(f64, f64), TchError> {
    // About the origin, where single precision is finest.
    let centre = reference.f_mean_dim([0].as_slice(), false, Kind::Float)?;
    let (drawn, reference) = (drawn.f_sub(&centre)?, reference.f_sub(&centre)?);
    let precision = Manifold::new(&reference, NEIGHBOUR)?.share_inside(&drawn)?;
    let recall = Manifold::new(&drawn, NEIGHBOUR)?.share_inside(&reference)?;
    Ok((precision, recall))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// The same by its definition, one pair after the other, in double precision.
    fn by_definition(drawn: &[Vec<f64>], reference: &[Vec<f64>]) -> (f64, f64) {
        let distance =
            |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let radii = |set: &[Vec<f64>]| -> Vec<f64> {
            let of = |i: usize| {
                let mut all: Vec<f64> = (0..set.len())
                    .filter(|&j| j != i)
                    .map(|j| distance(&set[i], &set[j]))
                    .collect();
                all.sort_by(f64::total_cmp);
                all[NEIGHBOUR as usize - 1]
            };
            (0..set.len()).map(of).collect()
        };
        let share = |balls: &[Vec<f64>], others: &[Vec<f64>]| {
            let radii = radii(balls);
            let inside =
                |x: &&Vec<f64>| balls.iter().zip(&radii).any(|(ball, r)| distance(ball, x) <= *r);
            others.iter().filter(inside).count() as f64 / others.len() as f64
        };
        (share(reference, drawn), share(drawn, reference))
    }

    fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
        (0..tensor.size()[0])
            .map(|i| Vec::try_from(tensor.get(i).to_kind(Kind::Double)).unwrap())
            .collect()
    }

    #[test]
    fn shares_are_those_of_the_definition_also_beyond_one_block() {
        tch::manual_seed(3);
        let options = (Kind::Float, Device::Cpu);
        for (n, m) in [(40, 30), (ROWS + 70, 50)] {
            let reference = Tensor::randn([n, 3], options) + 20.0;
            let drawn = Tensor::randn([m, 3], options) * 1.4 + 20.5;
            let found = precision_and_recall(&drawn, &reference).unwrap();
            let expected = by_definition(&rows(&drawn), &rows(&reference));
            assert_eq!(found, expected);
            assert!(found.0 > 0.1 && found.0 < 1.0, "a case without either extreme: {found:?}");
        }
    }

    #[test]
    fn equal_sets_cover_each_other_and_distant_ones_do_not() {
        tch::manual_seed(4);
        let set = Tensor::randn([50, 4], (Kind::Float, Device::Cpu));
        assert_eq!(precision_and_recall(&set, &set).unwrap(), (1.0, 1.0));
        assert_eq!(precision_and_recall(&(&set + 100.0), &set).unwrap(), (0.0, 0.0));
        assert!(
            precision_and_recall(&set.narrow(0, 0, 3), &set).is_err(),
            "three vectors have no third neighbour"
        );
    }
}
