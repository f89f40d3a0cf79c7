//! Configurations over seeds and test examples: estimates, intervals, and how surely each one
//! belongs to the frontier.
//!
//! A *candidate* is a configuration at one epoch; its accuracy is the mean over its seeds, for the
//! worst case over attacks. Two things make that number uncertain, and each draw varies both:
//!
//! - **the finite test set**: examples are drawn with replacement, the same ones for every
//!   candidate (paired), so that a hard test set cannot pass for a worse configuration;
//! - **the few seeds**: the mean moves by `t * sum_s z_s (x_s - mean) / sqrt(S (S - 1))`, with `x_s`
//!   the accuracy of seed s on the drawn examples, z normal and t such that the whole is Student's
//!   t with S - 1 degrees of freedom (a multiplier bootstrap, Wu 1986, studentised).
//!
//! Why not draw seeds with replacement as well? Means of 3 redrawn seeds never leave the range of
//! the 3, and a 95 % interval made of them holds the truth about 75 % of the time. The multipliers
//! move all epsilons and epochs of a configuration together, as redrawing would, and cover 95 %
//! (`calibration.rs` measures both). Two seeds give wide intervals; they do know little.
//!
//! How single examples vary from seed to seed shows in the spread over seeds, and again when examples are
//! drawn. So the multipliers carry only the part of the spread that is not theirs (the components of `groups`);
//! otherwise intervals cover 98.4 % where six configurations are alike.
//!
//! What looks at all candidates at once uses the same draws without the widening of Student's t: with three
//! seeds, t throws somebody far out in every draw. For `p_on_frontier` they become draws of what the truths may be
//! (`posterior`); without that it would say 29 % where 41 % is right.
//!
//! With one seed, nothing can be said about other seeds, and the interval speaks of the examples
//! only: [`IntervalKind::Examples`].

use super::CONFIDENCE;
use super::curves::{positions, standing};
use super::draws::{Draws, exact_ends, percentiles};
use super::groups::{Group, groups};
use super::hypervolume::{Volume, volume};
use super::intervals::Estimate;
use super::pareto;
use super::results::Results;
use super::summary::{area, median_break};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bootstrap draws, at least 1.
    pub draws: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { draws: 1000 }
    }
}

/// What an interval accounts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntervalKind {
    /// One seed: the finite test set only.
    Examples,
    /// The finite test set and the spread over seeds.
    SeedsAndExamples,
}

impl IntervalKind {
    pub fn name(self) -> &'static str {
        match self {
            IntervalKind::Examples => "examples",
            IntervalKind::SeedsAndExamples => "seeds+examples",
        }
    }
}

/// A configuration at one epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub config: String,
    pub axes: Vec<String>,
    /// The one that was asked for.
    pub epoch: u32,
    /// The first and the last epoch, over seeds, whose weights these are: early stopping may choose others.
    pub weights: [u32; 2],
    /// How many trained models the estimates are means of.
    pub seeds: usize,
    pub interval: IntervalKind,
    pub clean: Estimate,
    /// Mean robust accuracy, `[clean, at e_1, ..., at e_K]`, whatever epsilons the user listed.
    pub accuracy: Vec<f64>,
    /// Mean accuracy over [0, largest epsilon]; `None` without a positive epsilon.
    pub area: Option<Estimate>,
    /// The smallest epsilon of the grid at which the mean accuracy is at most one half; may be infinite.
    pub median_break: Estimate,
    /// Standard deviation over seeds of the area (of clean accuracy without a positive epsilon): how
    /// far one training run is from another. `None` with one seed, which cannot know.
    pub between_seeds: Option<f64>,
}

impl Candidate {
    /// The epoch whose weights these are; `None` where it is not the same for all seeds.
    pub fn weights_epoch(&self) -> Option<u32> {
        let [first, last] = self.weights;
        (first == last).then_some(first)
    }

    /// The same for people: `20`, or `12 to 17`.
    pub fn when(&self) -> String {
        let [first, last] = self.weights;
        if first == last { first.to_string() } else { format!("{first} to {last}") }
    }
}

/// A candidate at one epsilon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrontierPoint {
    pub robust: Estimate,
    /// No other candidate is at least as good in clean and robust accuracy and better in one.
    pub on_frontier: bool,
    /// The probability of that, over all draws of what the means may truly be.
    pub p_on_frontier: f64,
}

/// All candidates at all epsilons.
#[derive(Debug, Clone, PartialEq)]
pub struct Frontier {
    /// As in [`Results::epsilons`].
    pub epsilons: Vec<f64>,
    /// Test examples behind every estimate.
    pub examples: usize,
    pub draws: usize,
    /// Sorted by axes, then `config`, then epoch.
    pub candidates: Vec<Candidate>,
    /// `points[e][c]`: candidate `c` at `epsilons[e]`.
    pub points: Vec<Vec<FrontierPoint>>,
    /// One per epsilon: the area of the plane that the frontier dominates. Empty without candidates.
    pub volumes: Vec<Volume>,
}

/// The frontier of every epsilon: [`Bootstrap`], when nothing else is wanted of the draws.
pub fn frontier(results: &Results, settings: Settings) -> Frontier {
    Bootstrap::new(results, settings).frontier(results)
}

/// The draws, which are costly, and what they were made from.
pub struct Bootstrap {
    pub(super) groups: Vec<Group>,
    pub(super) draws: Draws,
}

impl Bootstrap {
    /// Only checkpoints of which every example is known to every attack take part: candidates are
    /// compared on the same examples or not at all. A seed whose checkpoint is not complete is
    /// missing from `seeds`.
    pub fn new(results: &Results, settings: Settings) -> Bootstrap {
        let groups = groups(results);
        let draws = Draws::new(&groups, results, settings.draws.max(1));
        Bootstrap { groups, draws }
    }

    /// The frontier of every epsilon of the same `results`.
    pub fn frontier(&self, results: &Results) -> Frontier {
        let draws = &self.draws;
        let epsilons = results.positive_epsilons();
        let candidates: Vec<Candidate> =
            self.groups.iter().enumerate().map(|(c, group)| group.candidate(draws, c, epsilons)).collect();
        let same_config = self.groups.chunk_by(|a, b| a.config == b.config);
        let degrees: usize = same_config.map(|of| of.iter().map(|g| g.members.len()).max().unwrap_or(1) - 1).sum();
        let mut points = Vec::new();
        let mut volumes = Vec::new();
        for (position, _) in positions(&results.epsilons) {
            let plane: Vec<(f64, f64)> = candidates.iter().map(|c| (c.clean.value, c.accuracy[position])).collect();
            let on = pareto::non_dominated(&plane);
            let point = |c: usize| FrontierPoint {
                robust: draws.estimate(c, position, candidates[c].accuracy[position]),
                on_frontier: on[c],
                p_on_frontier: draws.p_on_frontier(c, position),
            };
            points.push((0..candidates.len()).map(point).collect());
            if !candidates.is_empty() {
                volumes.push(volume(pareto::hypervolume(&plane), draws.volumes(position), results.examples, degrees));
            }
        }
        let (epsilons, examples) = (results.epsilons.clone(), results.examples);
        Frontier { epsilons, examples, draws: draws.count, candidates, points, volumes }
    }
}

impl Group {
    fn candidate(&self, draws: &Draws, index: usize, epsilons: &[f64]) -> Candidate {
        let seeds = self.members.len();
        let weights = self.members.iter().map(|member| member.weights_epoch);
        let weights = [weights.clone().min(), weights.max()].map(|epoch| epoch.unwrap_or(self.epoch));
        let share = |standing: usize, of: usize| standing as f64 / (of * draws.examples) as f64;
        let each: Vec<Vec<usize>> =
            self.members.iter().map(|member| standing(&member.levels, draws.positions - 1)).collect();
        let total = |p: usize| each.iter().map(|standing| standing[p]).sum();
        let accuracy: Vec<f64> = (0..draws.positions).map(|p| share(total(p), seeds)).collect();
        let single = |counts: &Vec<usize>| {
            let accuracy: Vec<f64> = counts.iter().map(|&standing| share(standing, 1)).collect();
            area(&accuracy, epsilons).unwrap_or(accuracy[0])
        };
        let singles: Vec<f64> = each.iter().map(single).collect();
        Candidate {
            config: self.config.clone(),
            axes: self.axes.clone(),
            epoch: self.epoch,
            weights,
            seeds,
            interval: if seeds == 1 { IntervalKind::Examples } else { IntervalKind::SeedsAndExamples },
            clean: draws.estimate(index, 0, accuracy[0]),
            area: area(&accuracy, epsilons).map(|value| area_interval(draws, index, epsilons, value)),
            median_break: median_interval(draws, index, epsilons, median_break(&accuracy, epsilons)),
            between_seeds: deviation(&singles),
            accuracy,
        }
    }
}

fn area_interval(draws: &Draws, c: usize, epsilons: &[f64], value: f64) -> Estimate {
    let drawn = (0..draws.count).map(|b| area(&draws.curve(c, b), epsilons).unwrap_or(value) as f32);
    let mut drawn: Vec<f32> = drawn.collect();
    drawn.sort_unstable_by(f32::total_cmp);
    let (low, high) = percentiles(&drawn);
    exact_ends(Estimate { value, low, high }, draws.examples)
}

/// Values of the grid, so its ends are values of the grid too: nothing is interpolated.
fn median_interval(draws: &Draws, c: usize, epsilons: &[f64], value: f64) -> Estimate {
    let mut drawn: Vec<f64> = (0..draws.count).map(|b| median_break(&draws.curve(c, b), epsilons)).collect();
    drawn.sort_unstable_by(f64::total_cmp);
    let tail = (draws.count as f64 * (1.0 - CONFIDENCE) / 2.0) as usize;
    let (low, high) = (drawn[tail], drawn[draws.count - 1 - tail]);
    Estimate { value, low: low.min(value), high: high.max(value) }
}

/// Standard deviation of a sample; `None` of fewer than two.
fn deviation(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt())
}

#[cfg(test)]
mod tests;
