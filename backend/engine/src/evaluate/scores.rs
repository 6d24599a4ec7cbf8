//! The Inception Score (Salimans et al. 2016), in constant memory.

use tch::{Device, Kind, TchError, Tensor};

/// Pictures of one split, as in the evaluator of ADM (Dhariwal and Nichol 2021): 50,000 pictures
/// have ten.
pub const SPLIT: u64 = 5_000;

/// Class probabilities that no score can be made of.
#[derive(Debug, thiserror::Error)]
pub enum InceptionScoreError {
    /// Some are no numbers.
    #[error(
        "the network's class probabilities are no numbers, so there is no Inception Score; its \
         weights overflow, or are damaged"
    )]
    NotFinite,
    /// The numerics failed.
    #[error("the Inception Score cannot be computed: {0}")]
    Device(#[from] TchError),
}

/// `exp` of the mean Kullback–Leibler divergence between a picture's class probabilities and those
/// of its split.
#[derive(Debug)]
pub struct InceptionScore {
    split: u64,
    /// Scores of full splits.
    finished: Vec<f64>,
    count: u64,
    /// f64 `[classes]`: sum of the probabilities in the open split.
    sum: Tensor,
    /// Sum of `p · ln p` in the open split.
    negative_entropy: f64,
}

/// The state of a score: what [`InceptionScore::from_parts`] goes on from.
#[derive(Debug)]
pub struct Parts {
    /// Scores of full splits.
    pub finished: Vec<f64>,
    /// Pictures in the open split.
    pub count: u64,
    /// f64 `[classes]`: sum of the probabilities in the open split.
    pub sum: Tensor,
    /// Sum of `p · ln p` in the open split.
    pub negative_entropy: f64,
}

impl InceptionScore {
    /// The score of no picture, in splits of `split` pictures (at least 1).
    pub fn new(classes: i64, split: u64) -> Self {
        let sum = Tensor::zeros([classes], (Kind::Double, Device::Cpu));
        Self { split: split.max(1), finished: Vec::new(), count: 0, sum, negative_entropy: 0.0 }
    }

    /// A score as it was kept.
    pub fn from_parts(parts: Parts, split: u64) -> Self {
        let Parts { finished, count, sum, negative_entropy } = parts;
        Self { split: split.max(1), finished, count, sum, negative_entropy }
    }

    /// The state.
    pub fn parts(&self) -> Parts {
        Parts {
            finished: self.finished.clone(),
            count: self.count,
            sum: self.sum.copy(),
            negative_entropy: self.negative_entropy,
        }
    }

    /// Adds class probabilities `[n, classes]`, each row with sum 1.
    ///
    /// # Errors
    /// When the shape is another one, or a probability is not finite.
    pub fn push(&mut self, probabilities: &Tensor) -> Result<(), InceptionScoreError> {
        let probabilities = probabilities.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let all = probabilities.size()[0];
        let mut start = 0;
        while start < all {
            let taken = (all - start).min((self.split - self.count) as i64);
            let part = probabilities.f_narrow(0, start, taken)?;
            self.sum =
                self.sum.f_add(&part.f_sum_dim_intlist([0].as_slice(), false, Kind::Double)?)?;
            let of_part = part.f_xlogy(&part)?.f_sum(Kind::Double)?.f_double_value(&[])?;
            if !of_part.is_finite() {
                return Err(InceptionScoreError::NotFinite);
            }
            self.negative_entropy += of_part;
            self.count += taken as u64;
            start += taken;
            if self.count == self.split {
                self.finished.push(self.of_open_split()?);
                self.sum = self.sum.f_zeros_like()?;
                (self.count, self.negative_entropy) = (0, 0.0);
            }
        }
        Ok(())
    }

    fn of_open_split(&self) -> Result<f64, InceptionScoreError> {
        let n = self.count as f64;
        let mean = self.sum.f_div_scalar(n)?;
        let of_mean = mean.f_xlogy(&mean)?.f_sum(Kind::Double)?.f_double_value(&[])?;
        let score = (self.negative_entropy / n - of_mean).exp();
        if score.is_finite() { Ok(score) } else { Err(InceptionScoreError::NotFinite) }
    }

    /// Mean and standard deviation over the splits, the last of which may be smaller; `None`
    /// without a picture.
    ///
    /// # Errors
    /// When the numerics fail.
    pub fn score(&self) -> Result<Option<(f64, f64)>, InceptionScoreError> {
        let mut scores = self.finished.clone();
        if self.count > 0 {
            scores.push(self.of_open_split()?);
        }
        if scores.is_empty() {
            return Ok(None);
        }
        let n = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / n;
        let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / n;
        Ok(Some((mean, variance.sqrt())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[[f64; 3]]) -> Tensor {
        Tensor::from_slice2(rows)
    }

    #[test]
    fn sure_and_varied_pictures_score_the_number_of_classes_and_equal_ones_one() {
        let sure = rows(&[[1., 0., 0.], [0., 1., 0.], [0., 0., 1.]]);
        let mut score = InceptionScore::new(3, SPLIT);
        score.push(&sure).unwrap();
        let (mean, deviation) = score.score().unwrap().unwrap();
        assert!((mean - 3.0).abs() < 1e-12 && deviation == 0.0, "{mean}");
        let mut score = InceptionScore::new(3, SPLIT);
        score.push(&rows(&[[0.2, 0.3, 0.5]; 4])).unwrap();
        assert!((score.score().unwrap().unwrap().0 - 1.0).abs() < 1e-12);
        assert_eq!(InceptionScore::new(3, SPLIT).score().unwrap(), None);
    }

    #[test]
    fn probabilities_that_are_no_numbers_are_no_score() {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut score = InceptionScore::new(3, SPLIT);
            score.push(&rows(&[[0.2, 0.3, 0.5]])).unwrap();
            let error = score.push(&rows(&[[0.2, 0.3, 0.5], [bad, 0.0, 0.0]])).unwrap_err();
            assert!(matches!(error, InceptionScoreError::NotFinite), "{error}");
        }
    }

    #[test]
    fn the_score_is_that_of_the_definition_however_the_pictures_come() {
        tch::manual_seed(2);
        let all = Tensor::randn([23, 3], (Kind::Double, Device::Cpu)).softmax(-1, Kind::Double);
        let of_split = |part: &Tensor| {
            let mean = part.mean_dim([0].as_slice(), true, Kind::Double);
            let divergence = (part * (part.log() - mean.log())).sum_dim_intlist(
                [1].as_slice(),
                false,
                Kind::Double,
            );
            divergence.mean(Kind::Double).exp().double_value(&[])
        };
        let splits: Vec<f64> = [(0, 10), (10, 10), (20, 3)]
            .map(|(start, n)| of_split(&all.narrow(0, start, n)))
            .into();
        let expected = splits.iter().sum::<f64>() / 3.0;
        for piece in [1, 4, 10, 23] {
            let mut score = InceptionScore::new(3, 10);
            for part in all.split(piece, 0) {
                score.push(&part).unwrap();
                score = InceptionScore::from_parts(score.parts(), 10);
            }
            let (mean, deviation) = score.score().unwrap().unwrap();
            assert!((mean - expected).abs() < 1e-12, "{mean} {expected}");
            assert!(deviation > 0.0);
        }
    }
}
