//! Intervals for a proportion of a finite test set.

use super::CONFIDENCE;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
use statrs::function::gamma::ln_gamma;
use std::collections::HashMap;

/// A range of probabilities, `0 <= low <= high <= 1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// Nothing is known.
    pub const ALL: Interval = Interval { low: 0.0, high: 1.0 };
}

/// A number and the interval around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// The exact ("Clopper-Pearson") 95 % interval for a proportion of which `successes` of `n` were seen.
///
/// `low` is the p at which `P(X >= successes) = 2.5 %` for a binomial X, `high` the p at which
/// `P(X <= successes) = 2.5 %` (Clopper and Pearson, Biometrika 26, 1934). It covers the truth at
/// least 95 % of the time, for every n and every p; that is why it was preferred to Wilson's,
/// which holds on average only and falls short near 0 and 1, where robust accuracies live.
///
/// With `n = 0` nothing is known: `[0,1]`.
///
/// # Panics
/// When `successes > n`.
pub fn clopper_pearson(successes: usize, n: usize) -> Interval {
    assert!(successes <= n, "{successes} successes of {n}");
    if n == 0 {
        return Interval::ALL;
    }
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Interval { low: lower_bound(successes, n, tail), high: 1.0 - lower_bound(n - successes, n, tail) }
}

/// [`clopper_pearson`], remembered: a curve asks the same few questions over and over.
#[derive(Default)]
pub struct ClopperPearson {
    known: HashMap<(usize, usize), Interval>,
}

impl ClopperPearson {
    pub fn of(&mut self, successes: usize, n: usize) -> Interval {
        *self.known.entry((successes, n)).or_insert_with(|| clopper_pearson(successes, n))
    }
}

/// The p at which seeing `k` or more of `n` has probability `tail` (below 1/2), by bisection: the
/// one-sided Clopper-Pearson lower bound. The truth lies below it with at most that probability.
///
/// # Panics
/// When `k > n`.
pub fn lower_bound(k: usize, n: usize, tail: f64) -> f64 {
    assert!(k <= n, "{k} successes of {n}");
    if k == 0 {
        return 0.0;
    }
    // The bound lies below k/n, where the terms of the upper tail only shrink.
    let (mut low, mut high) = (0.0, k as f64 / n as f64);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if upper_tail(k, n, middle) < tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// `P(X >= k)` for X binomial with `n` and `p`, where `0 < p <= k/n`: the first term from
/// logarithms of the gamma function, the others by their ratio, until they no longer matter.
fn upper_tail(k: usize, n: usize, p: f64) -> f64 {
    let (kf, nf) = (k as f64, n as f64);
    let choose = ln_gamma(nf + 1.0) - ln_gamma(kf + 1.0) - ln_gamma(nf - kf + 1.0);
    let rest = if k == n { 0.0 } else { (nf - kf) * (-p).ln_1p() };
    let mut term = (choose + kf * p.ln() + rest).exp();
    let mut sum = term;
    let odds = p / (1.0 - p);
    for j in k..n {
        term *= (n - j) as f64 / (j + 1) as f64 * odds;
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
    }
    sum
}

/// Beyond so many degrees of freedom, Student's t is taken to be normal.
pub(super) const NORMAL: f64 = 1e5;

/// The point that Student's t with so many degrees of freedom exceeds in absolute value in 5 % of cases.
pub(super) fn student(degrees: f64) -> f64 {
    let upper = 1.0 - (1.0 - CONFIDENCE) / 2.0;
    match StudentsT::new(0.0, 1.0, degrees) {
        Ok(t) if degrees < NORMAL => t.inverse_cdf(upper),
        _ => Normal::standard().inverse_cdf(upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(interval: Interval, low: f64, high: f64) {
        assert!((interval.low - low).abs() < 6e-5, "{interval:?} should start at {low}");
        assert!((interval.high - high).abs() < 6e-5, "{interval:?} should end at {high}");
    }

    #[test]
    fn published_values_come_out() {
        // R: binom.test(k, n)$conf.int
        close(clopper_pearson(0, 10), 0.0, 0.3085);
        close(clopper_pearson(10, 10), 0.6915, 1.0);
        close(clopper_pearson(8, 10), 0.4439, 0.9748);
        close(clopper_pearson(1, 10), 0.0025, 0.4450);
        close(clopper_pearson(50, 100), 0.3983, 0.6017);
        close(clopper_pearson(0, 0), 0.0, 1.0);
        // None of n: 1 - 0.025^(1/n) in closed form.
        let none = clopper_pearson(0, 2000);
        assert!((none.high - (1.0 - 0.025f64.powf(1.0 / 2000.0))).abs() < 1e-12);
    }

    #[test]
    fn a_large_test_set_meets_the_normal_approximation() {
        let interval = clopper_pearson(25_000, 50_000);
        let half = 1.959964 * (0.25f64 / 50_000.0).sqrt();
        close(interval, 0.5 - half - 1e-5, 0.5 + half + 1e-5);
    }

    #[test]
    fn it_covers_at_least_95_percent_for_every_truth() {
        let n = 60;
        let intervals: Vec<_> = (0..=n).map(|k| clopper_pearson(k, n)).collect();
        for step in 1..200 {
            let p = step as f64 / 200.0;
            let pmf = |k: usize| {
                let (k, n) = (k as f64, n as f64);
                (ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0) + k * p.ln() + (n - k) * (1.0 - p).ln())
                    .exp()
            };
            let covered: f64 = (0..=n).filter(|&k| intervals[k].low <= p && p <= intervals[k].high).map(pmf).sum();
            assert!(covered >= 0.95, "p = {p}: {covered}");
        }
    }

    proptest! {
        #[test]
        fn it_holds_the_estimate_and_rises_with_it(n in 1usize..400, k in 0usize..400) {
            let k = k.min(n);
            let here = clopper_pearson(k, n);
            let p = k as f64 / n as f64;
            prop_assert!(0.0 <= here.low && here.low <= p && p <= here.high && here.high <= 1.0);
            if k < n {
                let next = clopper_pearson(k + 1, n);
                prop_assert!(next.low > here.low && next.high >= here.high);
            }
        }
    }
}
