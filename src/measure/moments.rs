//! From samples of a loss to its uncertainties: moments weighted by the squared loss.
//!
//! With psi = L / sqrt(integral of L^2) on a domain that is sampled uniformly, psi^2 is a density, and
//! all figures of the uncertainty relation are moments under it. Write g_i = d_i log L, so that
//! d_i psi = psi g_i. Then
//!
//! ```text
//!   dx_i^2 = Var(x_i)      dp_i^2 = Var(g_i)      C_i = Cov(x_i, g_i)      weights L^2
//! ```
//!
//! and dx_i dp_i >= |C_i| says that a correlation is at most 1: it holds in every sample exactly,
//! not on average only. Weights are kept relative to the largest loss seen, so that losses of
//! 1e-300 count as well as others.
//!
//! Ratios of sums are biased by 1/n, and roots of squares of noise upwards. Both are met by the
//! jackknife over [`GROUPS`] groups of samples, which gives the standard errors too.

use serde::{Deserialize, Serialize};

/// Samples are dealt out to so many groups; standard errors come from leaving out one at a time.
pub const GROUPS: usize = 32;

/// Sums over weighted samples of a position x and a momentum g, feature by feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Logarithm of the loss whose square is weight 1; the largest seen.
    scale: f64,
    weight: f64,
    /// Sum of the squared weights.
    squares: f64,
    features: Vec<Feature>,
}

/// Means, and sums of weighted products of what is left of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Feature {
    x: f64,
    p: f64,
    xx: f64,
    pp: f64,
    xp: f64,
}

/// What the moments of one feature amount to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerFeature {
    pub dx: f64,
    pub dp: f64,
    /// Cov(x, g); the bound is its absolute value.
    pub c: f64,
}

impl Moments {
    pub fn new(features: usize) -> Moments {
        Moments { scale: f64::NEG_INFINITY, weight: 0.0, squares: 0.0, features: vec![Feature::default(); features] }
    }

    /// Adds one sample: the logarithm of its loss (minus infinity for a loss of 0, whose weight is
    /// 0), its position and its momentum, the gradient of that logarithm.
    pub fn add(&mut self, log_loss: f64, position: &[f64], momentum: &[f64]) {
        if log_loss == f64::NEG_INFINITY {
            return;
        }
        self.rescale(log_loss);
        let weight = (2.0 * (log_loss - self.scale)).exp();
        if weight == 0.0 {
            return;
        }
        self.weight += weight;
        self.squares += weight * weight;
        let share = weight / self.weight;
        for (feature, (&x, &p)) in self.features.iter_mut().zip(position.iter().zip(momentum)) {
            let (from_x, from_p) = (x - feature.x, p - feature.p);
            feature.x += share * from_x;
            feature.p += share * from_p;
            let rest = weight * (1.0 - share);
            feature.xx += rest * from_x * from_x;
            feature.pp += rest * from_p * from_p;
            feature.xp += rest * from_x * from_p;
        }
    }

    /// Makes weight 1 stand for at least this loss.
    fn rescale(&mut self, log_loss: f64) {
        if log_loss <= self.scale {
            return;
        }
        if self.weight > 0.0 {
            let factor = (2.0 * (self.scale - log_loss)).exp();
            self.weight *= factor;
            self.squares *= factor * factor;
            for feature in &mut self.features {
                feature.xx *= factor;
                feature.pp *= factor;
                feature.xp *= factor;
            }
        }
        self.scale = log_loss;
    }

    /// Adds all samples of another one.
    pub fn merge(&mut self, other: &Moments) {
        if other.weight == 0.0 {
            return;
        }
        self.rescale(other.scale);
        let factor = (2.0 * (other.scale - self.scale)).exp();
        let added = factor * other.weight;
        if added == 0.0 {
            return;
        }
        let share = added / (self.weight + added);
        for (feature, other) in self.features.iter_mut().zip(&other.features) {
            let (from_x, from_p) = (other.x - feature.x, other.p - feature.p);
            let between = self.weight * share;
            feature.x += share * from_x;
            feature.p += share * from_p;
            feature.xx += factor * other.xx + between * from_x * from_x;
            feature.pp += factor * other.pp + between * from_p * from_p;
            feature.xp += factor * other.xp + between * from_x * from_p;
        }
        self.weight += added;
        self.squares += factor * factor * other.squares;
    }

    /// Whether psi is defined on what was sampled.
    pub fn is_defined(&self) -> bool {
        let finite = |f: &Feature| f.xx.is_finite() && f.pp.is_finite() && f.xp.is_finite();
        !self.features.is_empty() && self.weight > 0.0 && self.weight.is_finite() && self.features.iter().all(finite)
    }

    /// How many equally weighted samples would be as good as these (Kish): (sum w)^2 / sum w^2.
    pub fn effective_samples(&self) -> f64 {
        if self.squares > 0.0 { self.weight * self.weight / self.squares } else { 0.0 }
    }

    pub fn features(&self) -> impl Iterator<Item = PerFeature> + '_ {
        let w = self.weight;
        self.features.iter().map(move |f| PerFeature { dx: (f.xx / w).sqrt(), dp: (f.pp / w).sqrt(), c: f.xp / w })
    }

    /// Means over the features of dx^2, dp^2, (dx dp)^2 and C^2.
    fn mean_squares(&self) -> [f64; 4] {
        let mut sums = [0.0; 4];
        for Feature { xx, pp, xp, .. } in &self.features {
            sums[0] += xx;
            sums[1] += pp;
            sums[2] += xx * pp;
            sums[3] += xp * xp;
        }
        let (w, count) = (self.weight, self.features.len() as f64);
        [sums[0] / w / count, sums[1] / w / count, sums[2] / w / w / count, sums[3] / w / w / count]
    }
}

/// A figure with its standard error, the sampling error of Monte Carlo. On the wire `[value, se]`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "[f64; 2]", into = "[f64; 2]")]
pub struct Figure {
    pub value: f64,
    pub se: f64,
}

impl From<[f64; 2]> for Figure {
    fn from([value, se]: [f64; 2]) -> Figure {
        Figure { value, se }
    }
}

impl From<Figure> for [f64; 2] {
    fn from(figure: Figure) -> [f64; 2] {
        [figure.value, figure.se]
    }
}

/// The uncertainties of one psi: root mean squares over its features.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Spread of the position, in units of the inputs.
    pub dx: Figure,
    /// Spread of the momentum, in inverse units of the inputs.
    pub dp: Figure,
    /// Root mean square of dx_i dp_i (not the product of the two above).
    pub product: Figure,
    /// Root mean square of C_i.
    pub bound: Figure,
    /// See [`Moments::effective_samples`].
    pub effective: f64,
}

/// Samples of one psi, in groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups(Vec<Moments>);

impl Groups {
    pub fn new(features: usize) -> Groups {
        Groups(vec![Moments::new(features); GROUPS])
    }

    /// Adds the sample with this number of so many in all; see [`Moments::add`].
    pub fn add(&mut self, number: u64, of: u64, log_loss: f64, position: &[f64], momentum: &[f64]) {
        let group = u128::from(number) * GROUPS as u128 / u128::from(of.max(1));
        self.0[(group as usize).min(GROUPS - 1)].add(log_loss, position, momentum);
    }

    /// All samples together.
    pub fn total(&self) -> Moments {
        let mut total = self.0[0].clone();
        self.0[1..].iter().for_each(|group| total.merge(group));
        total
    }

    /// The figures with their standard errors; `None` where psi is not defined: the loss is 0 (or not
    /// a number) at every sample, or at all but those of one group.
    pub fn figures(&self) -> Option<Figures> {
        let total = self.total();
        let left_out = self.left_out();
        if !total.is_defined() || !left_out.iter().all(Moments::is_defined) {
            return None;
        }
        let all = total.mean_squares();
        let replicates: Vec<[f64; 4]> = left_out.iter().map(Moments::mean_squares).collect();
        let figure = |which: usize| jackknife(all[which], replicates.iter().map(|squares| squares[which]));
        let [dx, dp, product, bound] = [0, 1, 2, 3].map(figure);
        Some(Figures { dx, dp, product, bound, effective: total.effective_samples() })
    }

    /// For each group, all the others together: from the groups before it and those behind it.
    fn left_out(&self) -> Vec<Moments> {
        let features = self.0[0].features.len();
        let mut behind = vec![Moments::new(features); GROUPS];
        for at in (1..GROUPS).rev() {
            let mut sum = self.0[at].clone();
            sum.merge(&behind[at]);
            behind[at - 1] = sum;
        }
        let mut before = Moments::new(features);
        for (at, rest) in behind.iter_mut().enumerate() {
            let mut sum = before.clone();
            sum.merge(rest);
            *rest = sum;
            before.merge(&self.0[at]);
        }
        behind
    }
}

/// The root of a mean square, from its estimate and the replicates that leave out one group each.
///
/// The bias of order 1/n is taken off the square, where it is exactly the variance of the noise in
/// C_i; so noise does not pass for a bound. What is then below 0 is 0. The standard error goes
/// through the root by the delta method, up to where the root is too steep for it.
fn jackknife(square: f64, replicates: impl Iterator<Item = f64> + Clone) -> Figure {
    let groups = GROUPS as f64;
    let mean = replicates.clone().sum::<f64>() / groups;
    let value = (groups * square - (groups - 1.0) * mean).max(0.0).sqrt();
    let spread = replicates.map(|replicate| (replicate - mean).powi(2)).sum::<f64>();
    let se = ((groups - 1.0) / groups * spread).sqrt();
    let through_root = if value > 0.0 { se / (2.0 * value) } else { f64::INFINITY };
    Figure { value, se: through_root.min(se.sqrt()) }
}

#[cfg(test)]
mod tests;
