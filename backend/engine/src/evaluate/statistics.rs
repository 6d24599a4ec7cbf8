//! Mean and covariance of features as they come, in constant memory.

use tch::{Device, Kind, TchError, Tensor};

use super::frechet::{FrechetError, Statistics};

/// Count, mean and scatter of feature vectors in float64, on the CPU.
///
/// Up to as many vectors as they have numbers are kept as they are: their covariance is of
/// deficient rank, and a distance from the vectors themselves is both quicker and more exact. That
/// takes no more room than the covariance.
///
/// Batches are merged by the method of Chan, Golub and LeVeque (1983): means and centred products
/// only, so nothing cancels however far from zero the features lie.
#[derive(Debug)]
pub struct RunningStatistics {
    count: u64,
    /// `[d]`
    mean: Tensor,
    /// `[d, d]`: sum of the products of what differs from the mean.
    scatter: Tensor,
    /// All vectors, while there are no more than numbers in one.
    rows: Option<Vec<Tensor>>,
}

impl RunningStatistics {
    /// Statistics of no vector of `features` numbers.
    pub fn new(features: i64) -> Self {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Double, Device::Cpu));
        Self {
            count: 0,
            mean: zeros(&[features]),
            scatter: zeros(&[features, features]),
            rows: Some(Vec::new()),
        }
    }

    /// Statistics as they were kept: `count` vectors, mean `[d]`, scatter `[d, d]`, and the vectors
    /// if all were kept.
    ///
    /// # Errors
    /// When the shapes do not belong together.
    pub fn from_parts(
        count: u64,
        mean: Tensor,
        scatter: Tensor,
        rows: Option<Tensor>,
    ) -> Result<Self, FrechetError> {
        let d = mean.size().first().copied().unwrap_or(0);
        if d < 1 || mean.size() != [d] || scatter.size() != [d, d] {
            return Err(FrechetError::Moments { mean: mean.size(), covariance: scatter.size() });
        }
        if let Some(rows) =
            rows.as_ref().map(Tensor::size).filter(|size| *size != [count as i64, d])
        {
            return Err(FrechetError::Features(rows));
        }
        let double = |tensor: Tensor| tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double);
        let rows = rows.map(|rows| Ok::<_, TchError>(vec![double(rows)?])).transpose()?;
        Ok(Self { count, mean: double(mean)?, scatter: double(scatter)?, rows })
    }

    /// Vectors seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Numbers in a vector.
    pub fn features(&self) -> i64 {
        self.mean.size()[0]
    }

    /// Mean, f64 `[d]`.
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// Sum of the products of what differs from the mean, f64 `[d, d]`; divided by `count − 1` it
    /// is the covariance.
    pub fn scatter(&self) -> &Tensor {
        &self.scatter
    }

    /// The vectors, f64 `[n, d]`, while there are no more than numbers in one.
    pub fn rows(&self) -> Option<Tensor> {
        let rows = self.rows.as_ref()?;
        Some(if rows.is_empty() { self.scatter.narrow(0, 0, 0) } else { Tensor::cat(rows, 0) })
    }

    /// Adds feature vectors `[n, d]`.
    ///
    /// # Errors
    /// When they are of another shape or not finite.
    pub fn push(&mut self, features: &Tensor) -> Result<(), FrechetError> {
        let shape = features.size();
        if shape.len() != 2 {
            return Err(FrechetError::Features(shape));
        }
        if shape[1] != self.features() {
            return Err(FrechetError::Dimensions { a: self.features(), b: shape[1] });
        }
        if shape[0] == 0 {
            return Ok(());
        }
        let features = features.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        if i64::try_from(features.f_isfinite()?.f_all()?)? == 0 {
            return Err(FrechetError::NotFinite("the list of features"));
        }
        let mean = features.f_mean_dim([0].as_slice(), false, Kind::Double)?;
        let centred = features.f_sub(&mean)?;
        let scatter = centred.f_transpose(0, 1)?.f_matmul(&centred)?;
        self.merge_parts(shape[0] as u64, &mean, &scatter)?;
        self.keep(Some(features));
        Ok(())
    }

    /// Adds what another one has seen.
    ///
    /// # Errors
    /// When it has seen vectors of another length.
    pub fn merge(&mut self, other: &Self) -> Result<(), FrechetError> {
        if self.features() != other.features() {
            return Err(FrechetError::Dimensions { a: self.features(), b: other.features() });
        }
        self.merge_parts(other.count, &other.mean, &other.scatter)?;
        self.keep(other.rows());
        Ok(())
    }

    /// Keeps further vectors while there are few.
    fn keep(&mut self, further: Option<Tensor>) {
        let few = self.count <= self.features() as u64;
        self.rows = self.rows.take().zip(further).filter(|_| few).map(|(mut rows, further)| {
            rows.push(further);
            rows
        });
    }

    fn merge_parts(&mut self, count: u64, mean: &Tensor, scatter: &Tensor) -> Result<(), TchError> {
        if count == 0 {
            return Ok(());
        }
        let total = (self.count + count) as f64;
        let step = mean.f_sub(&self.mean)?;
        let weight = self.count as f64 * (count as f64 / total);
        let between = step.f_outer(&step)?.f_mul_scalar(weight)?;
        self.scatter = self.scatter.f_add(scatter)?.f_add(&between)?;
        self.mean = self.mean.f_add(&step.f_mul_scalar(count as f64 / total)?)?;
        self.count += count;
        Ok(())
    }

    /// The covariance, f64 `[d, d]`, divided by `count − 1`.
    ///
    /// # Errors
    /// When fewer than two vectors have been seen.
    pub fn covariance(&self) -> Result<Tensor, FrechetError> {
        if self.count < 2 {
            return Err(FrechetError::Features(vec![self.count as i64, self.features()]));
        }
        Ok(self.scatter.f_div_scalar((self.count - 1) as f64)?)
    }

    /// What distances are measured between.
    ///
    /// # Errors
    /// When fewer than two vectors have been seen.
    pub fn statistics(&self) -> Result<Statistics, FrechetError> {
        match self.rows() {
            Some(rows) => Statistics::of_features(&rows),
            None => Statistics::of_moments(&self.mean, &self.covariance()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(n: i64, d: i64) -> Tensor {
        tch::manual_seed(1);
        // Far from zero, where sums of squares would cancel.
        Tensor::randn([n, d], (Kind::Double, Device::Cpu)) + 1e6
    }

    fn off(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[])
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let all = features(200, 7);
        let expected = all.tr().cov(1, None::<&Tensor>, None::<&Tensor>);
        for sizes in [vec![200], vec![1, 199], vec![64, 64, 64, 8], vec![100, 0, 100]] {
            let mut running = RunningStatistics::new(7);
            let mut merged = RunningStatistics::new(7);
            let mut start = 0;
            for size in sizes {
                let piece = all.narrow(0, start, size);
                running.push(&piece).unwrap();
                let mut other = RunningStatistics::new(7);
                other.push(&piece).unwrap();
                merged.merge(&other).unwrap();
                start += size;
            }
            for statistics in [running, merged] {
                assert_eq!(statistics.count(), 200);
                let mean = all.mean_dim([0].as_slice(), false, Kind::Double);
                assert!(off(statistics.mean(), &mean) < 1e-14);
                let covariance = statistics.covariance().unwrap();
                assert!(off(&covariance, &expected) < 1e-9, "{}", off(&covariance, &expected));
            }
        }
    }

    #[test]
    fn the_distance_is_that_of_the_features() {
        // Fewer vectors than numbers in one, as many, and more.
        for n in [4, 5, 6, 150] {
            let a = features(n, 5);
            let b = Statistics::of_features(&(&a * 1.5 - 5e5)).unwrap();
            let mut running = RunningStatistics::new(5);
            a.split(4, 0).iter().for_each(|piece| running.push(piece).unwrap());
            assert_eq!(running.rows().is_some(), n <= 5);
            let exact = Statistics::of_features(&a).unwrap().distance(&b).unwrap();
            let found = running.statistics().unwrap().distance(&b).unwrap();
            assert!((found - exact).abs() < 1e-9 * exact, "{n}: {found} {exact}");
        }
    }

    #[test]
    fn a_kept_state_goes_on_as_if_never_stopped() {
        let all = features(60, 4);
        for first in [2, 30] {
            let mut whole = RunningStatistics::new(4);
            whole.push(&all.narrow(0, 0, first)).unwrap();
            let kept = (whole.mean().copy(), whole.scatter().copy(), whole.rows());
            let mut resumed =
                RunningStatistics::from_parts(whole.count(), kept.0, kept.1, kept.2).unwrap();
            for statistics in [&mut whole, &mut resumed] {
                statistics.push(&all.narrow(0, first, 1)).unwrap();
            }
            assert_eq!(whole.mean(), resumed.mean());
            assert_eq!(whole.scatter(), resumed.scatter());
            assert_eq!(whole.rows(), resumed.rows());
        }
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        let mut running = RunningStatistics::new(3);
        let error = running.push(&features(5, 4)).unwrap_err().to_string();
        assert!(error.contains("3 features and the other 4"), "{error}");
        let error = running.push(&(features(5, 3) / 0.0)).unwrap_err().to_string();
        assert!(error.contains("not a number"), "{error}");
        running.push(&features(1, 3)).unwrap();
        assert!(running.statistics().unwrap_err().to_string().contains("[1, 3]"));
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Double, Device::Cpu));
        assert!(RunningStatistics::from_parts(4, zeros(&[3]), zeros(&[3, 2]), None).is_err());
        assert!(
            RunningStatistics::from_parts(4, zeros(&[3]), zeros(&[3, 3]), Some(zeros(&[2, 3])))
                .is_err()
        );
    }
}
