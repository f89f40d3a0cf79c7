//! Is one configuration more robust than another? Pairs, compared on the same test examples.
//!
//! Two questions, and a p-value for each:
//!
//! - **These networks, other test examples**: an example speaks for the configuration of which the
//!   larger share of networks withstands. If neither were better, it would speak for either equally
//!   often: an exact sign test. With one network each this is McNemar's exact test (Psychometrika 12,
//!   1947); with several, counting every pair of seeds instead would count each example several times.
//! - **These configurations, other seeds and other examples**: the difference of the means over its
//!   standard error, Student's t with Satterthwaite's degrees of freedom. The variance is that of a
//!   crossed design, in which every network answers every example: of the means over seeds, plus of
//!   the means over examples, less what both hold of their interaction (Roe and Metz, Academic
//!   Radiology 4, 1997, for readers and cases). It needs two seeds of both; one seed says nothing of others.
//!
//! Many comparisons find differences by luck. All pairs of an epsilon are one family: Holm's
//! correction bounds the chance of a single false one, q after Benjamini and Hochberg their share.

use super::IntervalKind;
use super::adjust::{Adjusted, adjust};
use super::bootstrap::Bootstrap;
use super::curves::positions;
use super::groups::{Components, Group};
use super::intervals::{Estimate, NORMAL, student};
use super::results::Results;
use super::summary;
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Normal, StudentsT};

/// So many configurations are compared at most: those with the largest area.
pub const MOST: usize = 40;

/// Configuration `a` against `b`, each at its last epoch, at one epsilon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Positions in [`super::Frontier::candidates`], `a < b`.
    pub a: usize,
    pub b: usize,
    /// Examples that a larger share of a's networks withstands ...
    pub only_a: usize,
    /// ... and of b's.
    pub only_b: usize,
    /// Mean robust accuracy of a less that of b, from -1 to 1.
    pub difference: Estimate,
    /// What the interval of the difference accounts for: of seeds only where both have two.
    pub interval: IntervalKind,
    /// Of the sign test over examples.
    pub examples: Adjusted,
    /// Of the t-test over seeds and examples.
    pub seeds: Option<Adjusted>,
}

/// All pairs of configurations at every epsilon.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparisons {
    /// Configurations that could be compared; more than [`MOST`] are not all compared.
    pub configs: usize,
    /// Positions of those that were, in [`super::Frontier::candidates`].
    pub compared: Vec<usize>,
    /// Pairs that the corrections account for: those of all `configs`, compared or not.
    pub family: usize,
    /// One list per epsilon of [`Results::epsilons`], sorted by a, then b.
    pub at: Vec<Vec<Comparison>>,
}

/// Compares the last epochs of all configurations of the same `results`.
pub fn comparisons(bootstrap: &Bootstrap, results: &Results) -> Comparisons {
    let groups = &bootstrap.groups;
    let last = |c: &usize| groups.get(c + 1).is_none_or(|next| next.config != groups[*c].config);
    let mut compared: Vec<usize> = (0..groups.len()).filter(last).collect();
    let configs = compared.len();
    if configs > MOST {
        let area = |c: usize| {
            let accuracy: Vec<f64> = (0..bootstrap.draws.positions).map(|p| groups[c].mean(p)).collect();
            summary::area(&accuracy, results.positive_epsilons()).unwrap_or(accuracy[0])
        };
        let mut ranked: Vec<(f64, usize)> = compared.iter().map(|&c| (area(c), c)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        compared = ranked.into_iter().take(MOST).map(|(_, c)| c).collect();
        compared.sort_unstable();
    }
    let family = configs * configs.saturating_sub(1) / 2;
    let at = positions(&results.epsilons).map(|(position, _)| at(groups, &compared, position, family)).collect();
    Comparisons { configs, compared, family, at }
}

fn at(groups: &[Group], compared: &[usize], position: usize, family: usize) -> Vec<Comparison> {
    let side = |&c: &usize| Side { seeds: groups[c].members.len(), of: groups[c].components(position) };
    let sides: Vec<Side> = compared.iter().map(side).collect();
    let mut all = Vec::new();
    for (i, &a) in compared.iter().enumerate() {
        for (j, &b) in compared.iter().enumerate().skip(i + 1) {
            all.push((a, b, pair(&sides[i], &sides[j])));
        }
    }
    let examples = adjust(&all.iter().map(|(_, _, pair)| pair.p_examples).collect::<Vec<_>>(), family);
    let of_seeds: Vec<f64> = all.iter().filter_map(|(_, _, pair)| pair.p_seeds).collect();
    let mut seeds = adjust(&of_seeds, family).into_iter();
    let whole = |((a, b, pair), examples): ((usize, usize, Pair), Adjusted)| Comparison {
        a,
        b,
        only_a: pair.only[0],
        only_b: pair.only[1],
        difference: pair.difference,
        interval: if pair.p_seeds.is_some() { IntervalKind::SeedsAndExamples } else { IntervalKind::Examples },
        examples,
        seeds: pair.p_seeds.and_then(|_| seeds.next()),
    };
    all.into_iter().zip(examples).map(whole).collect()
}

/// One configuration at one epsilon.
struct Side {
    seeds: usize,
    of: Components,
}

struct Pair {
    only: [usize; 2],
    difference: Estimate,
    p_examples: f64,
    p_seeds: Option<f64>,
}

fn pair(a: &Side, b: &Side) -> Pair {
    let (sa, sb) = (a.seeds as f64, b.seeds as f64);
    let mut only = [0, 0];
    let mut squares = 0.0;
    for (&ka, &kb) in a.of.standing.iter().zip(&b.of.standing) {
        // Whole numbers, so that equal shares are equal.
        let (shares_a, shares_b) = (ka as usize * b.seeds, kb as usize * a.seeds);
        only[0] += usize::from(shares_a > shares_b);
        only[1] += usize::from(shares_b > shares_a);
        squares += (f64::from(ka) / sa - f64::from(kb) / sb).powi(2);
    }
    // One more example for either side (Bonett and Price 2012): without any difference seen, one may be left.
    let n = a.of.standing.len() as f64;
    let value = a.of.mean - b.of.mean;
    let shrunk = value * n / (n + 2.0);
    let over_examples = ((squares + 2.0) / (n + 2.0) - shrunk * shrunk) / (n + 2.0);
    let seeded = a.seeds > 1 && b.seeds > 1;
    let (half, p_seeds) = if seeded {
        let over_seeds = a.of.over_seeds + b.of.over_seeds;
        let variance = over_seeds + (over_examples - a.of.interaction - b.of.interaction).max(2.0 / (n + 2.0).powi(2));
        let freedom = |side: &Side| side.of.over_seeds.powi(2) / (side.seeds as f64 - 1.0);
        // Infinite where the seeds do not differ at all.
        let degrees = variance * variance / (freedom(a) + freedom(b));
        let error = variance.sqrt();
        (error * student(degrees), Some(tail(value.abs() / error, degrees)))
    } else {
        (over_examples.sqrt() * student(f64::INFINITY), None)
    };
    let centre = if seeded { value } else { shrunk };
    let low = (centre - half).max(-1.0).min(value);
    let high = (centre + half).min(1.0).max(value);
    Pair { only, difference: Estimate { value, low, high }, p_examples: sign_test(only[0], only[1]), p_seeds }
}

/// The exact two-sided p-value of `a` against `b` fair coins.
fn sign_test(a: usize, b: usize) -> f64 {
    // 1/2 is a probability, so there is such a distribution.
    Binomial::new(0.5, (a + b) as u64).map_or(1.0, |coins| (2.0 * coins.cdf(a.min(b) as u64)).min(1.0))
}

/// How often Student's t is at least `t` from zero.
fn tail(t: f64, degrees: f64) -> f64 {
    let below = match StudentsT::new(0.0, 1.0, degrees) {
        Ok(student) if degrees < NORMAL => student.cdf(-t),
        _ => Normal::standard().cdf(-t),
    };
    (2.0 * below).min(1.0)
}

#[cfg(test)]
mod tests;
