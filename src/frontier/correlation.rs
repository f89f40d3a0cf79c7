//! How two measurements of the same things go together, and how surely.

use super::CONFIDENCE;
use statrs::distribution::{ContinuousCDF, Normal};

/// A coefficient between -1 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficient {
    pub value: f64,
    /// 95 %; `None` of fewer than four pairs, where every interval is the whole range.
    pub interval: Option<(f64, f64)>,
}

/// Both coefficients of the same pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correlation {
    /// Pairs.
    pub n: usize,
    /// Of the ranks: whether one rises with the other, in whatever shape (Spearman).
    pub spearman: Coefficient,
    /// How close the pairs are to a straight line.
    pub pearson: Coefficient,
}

/// The correlation of the pairs `(x, y)`, which must be independent of each other for the intervals to
/// hold. `None` of fewer than three pairs, where either does not vary, and where a number is not finite.
///
/// Intervals are Fisher's: `atanh r` is nearly normal, with variance `1 / (n - 3)` for Pearson's, which
/// supposes a normal x and y, and `(1 + r^2 / 2) / (n - 3)` for Spearman's, which supposes less (Bonett
/// and Wright, Psychometrika 65, 2000).
pub fn correlation(pairs: &[(f64, f64)]) -> Option<Correlation> {
    let n = pairs.len();
    let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    if n < 3 || x.iter().chain(&y).any(|v| !v.is_finite()) {
        return None;
    }
    let rho = product_moment(&ranks(&x), &ranks(&y))?;
    let r = product_moment(&x, &y)?;
    let spearman = Coefficient { value: rho, interval: fisher(rho, n, 1.0 + rho * rho / 2.0) };
    Some(Correlation { n, spearman, pearson: Coefficient { value: r, interval: fisher(r, n, 1.0) } })
}

fn fisher(r: f64, n: usize, factor: f64) -> Option<(f64, f64)> {
    let degrees = n.checked_sub(3).filter(|degrees| *degrees > 0)?;
    let half = Normal::standard().inverse_cdf(1.0 - (1.0 - CONFIDENCE) / 2.0) * (factor / degrees as f64).sqrt();
    // A perfect correlation has an infinite z, and no width; of finitely many pairs, that is too sure.
    let limit = 1.0 - 1.0 / (n * n) as f64;
    let z = r.clamp(-limit, limit).atanh();
    Some(((z - half).tanh().min(r), (z + half).tanh().max(r)))
}

/// `None` where either does not vary.
fn product_moment(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sum = |of: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(a, b)| of(a - mx, b - my)).sum::<f64>();
    let (xx, yy, xy) = (sum(&|a, _| a * a), sum(&|_, b| b * b), sum(&|a, b| a * b));
    // Rounding of equal numbers is no variation.
    let varies = |squares: f64, mean: f64| squares > n * (1e-12 * mean).powi(2);
    (varies(xx, mx) && varies(yy, my)).then(|| (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0))
}

/// From 1; equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for same in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (same.len() + 1) as f64 / 2.0;
        same.iter().for_each(|&i| ranks[i] = rank);
        before += same.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_values_come_out() {
        // NumPy's corrcoef of the values, and of their ranks.
        let pairs = [(1.0, 2.0), (2.0, 1.0), (3.0, 4.0), (4.0, 3.0), (5.0, 7.0), (6.0, 5.0), (7.0, 20.0)];
        let found = correlation(&pairs).unwrap();
        assert!((found.spearman.value - 0.892857142857).abs() < 1e-9, "{found:?}");
        assert!((found.pearson.value - 0.773810).abs() < 1e-5, "{found:?}");
        let (low, high) = found.pearson.interval.unwrap();
        let z = 0.773810f64.atanh();
        assert!((low - (z - 1.959964 / 2.0).tanh()).abs() < 1e-5 && (high - (z + 1.959964 / 2.0).tanh()).abs() < 1e-5);
    }

    #[test]
    fn ties_share_their_rank_and_order_does_not_matter() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [4.0, 1.0, 4.0, 2.0, 4.0]);
        let pairs = [(0.1, 0.5), (0.2, 0.5), (0.3, 0.1), (0.3, 0.2)];
        let mut turned = pairs;
        turned.reverse();
        assert_eq!(correlation(&pairs).unwrap().spearman, correlation(&turned).unwrap().spearman);
    }

    #[test]
    fn what_cannot_be_said_is_not_said() {
        assert_eq!(correlation(&[(1.0, 2.0), (2.0, 3.0)]), None);
        assert_eq!(correlation(&[(0.1, 2.0), (0.1, 3.0), (0.1, 5.0)]), None, "x does not vary");
        assert_eq!(correlation(&[(f64::INFINITY, 2.0), (1.0, 3.0), (0.1, 5.0)]), None);
        assert_eq!(correlation(&[(1.0, 2.0), (2.0, 3.0), (3.0, 5.0)]).unwrap().pearson.interval, None);
        let perfect = correlation(&[(1.0, 2.0), (2.0, 4.0), (3.0, 6.0), (4.0, 8.0), (5.0, 10.0)]).unwrap();
        let (low, high) = perfect.pearson.interval.unwrap();
        assert!(low < 0.99 && high >= perfect.pearson.value, "{perfect:?}");
    }
}
