//! Pearson's χ² test: do counts follow a law?

/// Expected counts below this are pooled into one cell.
const SMALLEST: f64 = 5.0;

/// Outcome of a test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChiSquare {
    /// `Σ (seen − expected)² / expected`.
    pub statistic: f64,
    /// Cells after pooling.
    pub cells: usize,
    /// Chance of a statistic at least so large if the counts follow the law.
    pub p: f64,
}

/// Tests `counts` against probabilities `law` of the same length; cells under 5 expected are
/// pooled.
pub fn chi_square(counts: &[u64], law: &[f64]) -> ChiSquare {
    let n = counts.iter().sum::<u64>() as f64;
    let (mut cells, mut pooled) = (Vec::new(), (0.0, 0.0));
    for (&count, &p) in counts.iter().zip(law) {
        if p * n < SMALLEST {
            pooled = (pooled.0 + count as f64, pooled.1 + p * n);
        } else {
            cells.push((count as f64, p * n));
        }
    }
    if pooled.0 > 0.0 || pooled.1 >= SMALLEST {
        // Counts where the law has nothing make the statistic as large as they should.
        cells.push((pooled.0, pooled.1.max(1e-9)));
    }
    let statistic = cells.iter().map(|(seen, expected)| (seen - expected).powi(2) / expected).sum();
    let freedom = cells.len().saturating_sub(1) as f64;
    ChiSquare { statistic, cells: cells.len(), p: upper_gamma(freedom / 2.0, statistic / 2.0) }
}

/// The regularised upper incomplete gamma function `Q(a, x)`: a series below `a + 1`, a continued
/// fraction above (Abramowitz and Stegun 6.5.29 and 6.5.31, the latter by Lentz's method).
fn upper_gamma(a: f64, x: f64) -> f64 {
    if a <= 0.0 || x <= 0.0 {
        return 1.0;
    }
    let scale = libm::exp(a * libm::log(x) - x - libm::lgamma(a));
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        let mut n = a;
        while term > sum * 1e-15 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return (1.0 - scale * sum).clamp(0.0, 1.0);
    }
    let tiny = 1e-300;
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / tiny, 1.0 / b);
    let mut fraction = d;
    for i in 1..10_000 {
        let numerator = -f64::from(i) * (f64::from(i) - a);
        b += 2.0;
        d = 1.0 / (numerator * d + b).abs().max(tiny).copysign(numerator * d + b);
        c = b + numerator / c;
        let change = d * c;
        fraction *= change;
        if (change - 1.0).abs() < 1e-14 {
            break;
        }
    }
    (scale * fraction).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_the_tables() {
        // Critical values of χ² at 1 % and 5 % for 1, 10 and 100 degrees of freedom.
        for (freedom, at, p) in [
            (1.0, 6.6349, 0.01),
            (1.0, 3.8415, 0.05),
            (10.0, 23.2093, 0.01),
            (10.0, 18.3070, 0.05),
            (100.0, 135.8067, 0.01),
            (100.0, 124.3421, 0.05),
        ] {
            let found = upper_gamma(freedom / 2.0, at / 2.0);
            assert!((found - p).abs() < 1e-5, "{freedom} degrees, χ² {at}: {found}, not {p}");
        }
        assert!(
            (upper_gamma(1.0, 0.5) - (-0.5f64).exp()).abs() < 1e-14,
            "two degrees are exponential"
        );
    }

    #[test]
    fn rare_cells_are_pooled_and_impossible_counts_fail() {
        let fair = chi_square(&[48, 52, 0, 1], &[0.48, 0.5, 0.01, 0.01]);
        assert_eq!(fair.cells, 3);
        assert!(fair.p > 0.3, "{fair:?}");
        let impossible = chi_square(&[50, 49, 2], &[0.5, 0.5, 0.0]);
        assert!(impossible.p < 1e-9, "{impossible:?}");
        let skewed = chi_square(&[600, 400], &[0.5, 0.5]);
        assert!((skewed.statistic - 40.0).abs() < 1e-9 && skewed.p < 1e-9);
    }
}
