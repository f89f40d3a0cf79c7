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
//! With one seed, nothing can be said about other seeds, and the interval speaks of the examples
//! only: [`IntervalKind::Examples`].

use super::CONFIDENCE;
use super::curves::{positions, standing, worst_case};
use super::intervals::{Estimate, clopper_pearson};
use super::order::by_axes;
use super::pareto;
use super::results::Results;
use crate::outcome::Level;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;

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
    /// Fraction of the draws in which that holds.
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
}

/// The frontier of every epsilon.
///
/// Only checkpoints of which every example is known to every attack take part: candidates are
/// compared on the same examples or not at all. A seed whose checkpoint is not complete is
/// missing from `seeds`.
pub fn frontier(results: &Results, settings: Settings) -> Frontier {
    let groups = groups(results);
    let grid: Vec<usize> = positions(&results.epsilons).map(|(position, _)| position).collect();
    let draws = Draws::new(&groups, results, settings.draws.max(1));
    let candidates: Vec<Candidate> = groups.iter().enumerate().map(|(c, g)| g.candidate(&draws, c)).collect();
    let points = grid
        .iter()
        .map(|&position| {
            let plane: Vec<(f64, f64)> = candidates.iter().map(|c| (c.clean.value, c.accuracy[position])).collect();
            let on = pareto::non_dominated(&plane);
            (0..candidates.len())
                .map(|c| FrontierPoint {
                    robust: draws.estimate(c, position, candidates[c].accuracy[position]),
                    on_frontier: on[c],
                    p_on_frontier: f64::from(draws.on[c * draws.positions + position]) / draws.count as f64,
                })
                .collect()
        })
        .collect();
    Frontier { epsilons: results.epsilons.clone(), examples: results.examples, draws: draws.count, candidates, points }
}

/// The trained models behind one candidate.
struct Group {
    config: String,
    axes: Vec<String>,
    epoch: u32,
    members: Vec<Member>,
}

struct Member {
    /// Rank of the trial among its configuration's: the same seed moves all epochs together.
    rank: usize,
    levels: Vec<Level>,
    weights_epoch: u32,
}

impl Group {
    fn candidate(&self, draws: &Draws, index: usize) -> Candidate {
        let seeds = self.members.len();
        let positive = draws.positions - 1;
        let weights = self.members.iter().map(|member| member.weights_epoch);
        let weights = [weights.clone().min(), weights.max()].map(|epoch| epoch.unwrap_or(self.epoch));
        let mut total = vec![0usize; draws.positions];
        for member in &self.members {
            total.iter_mut().zip(standing(&member.levels, positive)).for_each(|(t, s)| *t += s);
        }
        let accuracy: Vec<f64> = total.iter().map(|&t| t as f64 / (seeds * draws.examples) as f64).collect();
        Candidate {
            config: self.config.clone(),
            axes: self.axes.clone(),
            epoch: self.epoch,
            weights,
            seeds,
            interval: if seeds == 1 { IntervalKind::Examples } else { IntervalKind::SeedsAndExamples },
            clean: draws.estimate(index, 0, accuracy[0]),
            accuracy,
        }
    }
}

fn groups(results: &Results) -> Vec<Group> {
    // Ranks follow the seed, not the order of trials, so that any order gives the same numbers.
    let mut trials: Vec<_> = results.trials.iter().collect();
    trials.sort_by(|a, b| (&a.config, a.seed, &a.trial).cmp(&(&b.config, b.seed, &b.trial)));
    let mut groups: BTreeMap<(&str, u32), Group> = BTreeMap::new();
    for same_config in trials.chunk_by(|a, b| a.config == b.config) {
        for (rank, trial) in same_config.iter().enumerate() {
            for checkpoint in &trial.checkpoints {
                let levels = worst_case(results, checkpoint);
                if levels.is_empty() || levels.len() != results.examples || levels.iter().any(|l| !l.is_known()) {
                    continue;
                }
                let group = groups.entry((&trial.config, checkpoint.epoch)).or_insert_with(|| Group {
                    config: trial.config.clone(),
                    axes: trial.axes.clone(),
                    epoch: checkpoint.epoch,
                    members: Vec::new(),
                });
                group.members.push(Member { rank, levels, weights_epoch: checkpoint.weights_epoch() });
            }
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by(|a, b| {
        by_axes(&a.axes, &b.axes).then_with(|| a.config.cmp(&b.config)).then_with(|| a.epoch.cmp(&b.epoch))
    });
    groups
}

/// Everything the draws produced.
struct Draws {
    count: usize,
    examples: usize,
    /// Clean and the positive epsilons.
    positions: usize,
    /// `values[(c * positions + p) * count + b]`: accuracy of candidate c at position p in draw b.
    /// Single precision: there are millions, and 24 bits outdo any test set.
    values: Vec<f32>,
    /// `on[c * positions + p]`: the number of draws in which candidate c is not dominated.
    on: Vec<u32>,
}

impl Draws {
    fn new(groups: &[Group], results: &Results, count: usize) -> Draws {
        let positions = results.positive_epsilons().len() + 1;
        let cells = groups.len() * positions;
        let mut draws = Draws {
            count,
            examples: results.examples,
            positions,
            values: vec![0.0; cells * count],
            on: vec![0; cells],
        };
        let mut plane = vec![vec![0.0; groups.len()]; positions];
        let mut flags = vec![false; groups.len()];
        let mut row = vec![0.0; positions];
        let configs = Stream::of_configs(groups);
        for b in 0..count {
            let weights = example_weights(results.examples, b);
            let mut shift = None;
            for (c, group) in groups.iter().enumerate() {
                let multipliers = match &shift {
                    Some((config, multipliers)) if *config == &group.config => multipliers,
                    _ => &shift.insert((&group.config, configs[&*group.config].multipliers(b))).1,
                };
                group.draw(&weights, multipliers, &mut row);
                for (p, &value) in row.iter().enumerate() {
                    plane[p][c] = value;
                    draws.values[(c * positions + p) * count + b] = value as f32;
                }
            }
            let order = pareto::descending(&plane[0]);
            for p in 0..positions {
                pareto::mark(&order, &plane[0], &plane[p], &mut flags);
                for (c, _) in flags.iter().enumerate().filter(|(_, on)| **on) {
                    draws.on[c * positions + p] += 1;
                }
            }
        }
        draws
    }

    /// The percentile interval around `value`, the estimate of candidate `c` at `position`.
    ///
    /// Where every model agrees on every example (accuracy 0 or 1) no draw can differ, yet another
    /// test set might: there, the exact bound for `examples` examples takes over.
    fn estimate(&self, c: usize, position: usize, value: f64) -> Estimate {
        let start = (c * self.positions + position) * self.count;
        let mut drawn = self.values[start..start + self.count].to_vec();
        drawn.sort_unstable_by(f32::total_cmp);
        let tail = (1.0 - CONFIDENCE) / 2.0;
        let (mut low, mut high) = (quantile(&drawn, tail), quantile(&drawn, 1.0 - tail));
        if value == 0.0 {
            high = clopper_pearson(0, self.examples).high;
        } else if value == 1.0 {
            low = clopper_pearson(self.examples, self.examples).low;
        }
        Estimate { value, low: low.min(value), high: high.max(value) }
    }
}

impl Group {
    /// Accuracy at every position in one draw.
    fn draw(&self, weights: &[u32], multipliers: &Multipliers, row: &mut [f64]) {
        let seeds = self.members.len();
        let examples = weights.len() as f64;
        let mut total = vec![0u32; row.len()];
        let mut moved = vec![0.0; row.len()];
        for member in &self.members {
            let z = multipliers.normal[member.rank];
            for (p, standing) in weighted_standing(&member.levels, weights, row.len()).into_iter().enumerate() {
                total[p] += standing;
                moved[p] += z * f64::from(standing) / examples;
            }
        }
        // sum_s z_s (x_s - mean) = sum_s z_s x_s - mean * sum_s z_s
        let all: f64 = self.members.iter().map(|m| multipliers.normal[m.rank]).sum();
        let scale = multipliers.scale(seeds);
        for (p, value) in row.iter_mut().enumerate() {
            let mean = f64::from(total[p]) / (seeds as f64 * examples);
            *value = if scale == 0.0 { mean } else { (mean + scale * (moved[p] - mean * all)).clamp(0.0, 1.0) };
        }
    }
}

/// How many drawn examples stand at each position: `[clean, e_1, ..., e_K]`.
fn weighted_standing(levels: &[Level], weights: &[u32], positions: usize) -> Vec<u32> {
    let mut standing = vec![0u32; positions + 1];
    for (level, weight) in levels.iter().zip(weights) {
        standing[usize::from(level.0).min(positions)] += weight;
    }
    for p in (0..positions).rev() {
        standing[p] += standing[p + 1];
    }
    standing.remove(0);
    standing
}

/// How often each of `n` examples occurs in draw `b`: multinomial, the same for every sweep.
fn example_weights(n: usize, b: usize) -> Vec<u32> {
    let mut rng = stream("examples", &n.to_string(), b);
    let mut weights = vec![0u32; n];
    for _ in 0..n {
        let place = (u128::from(rng.next_u64()) * n as u128) >> 64;
        weights[place as usize] += 1;
    }
    weights
}

/// One configuration's random stream. It is keyed by the configuration alone: adding others to a
/// sweep leaves its intervals as they were.
struct Stream<'a> {
    config: &'a str,
    ranks: usize,
}

impl<'a> Stream<'a> {
    fn of_configs(groups: &'a [Group]) -> BTreeMap<&'a str, Stream<'a>> {
        let mut streams: BTreeMap<&str, Stream> = BTreeMap::new();
        for group in groups {
            let ranks = group.members.iter().map(|m| m.rank + 1).max().unwrap_or(0);
            let stream = streams.entry(&group.config).or_insert(Stream { config: &group.config, ranks });
            stream.ranks = stream.ranks.max(ranks);
        }
        streams
    }

    fn multipliers(&self, b: usize) -> Multipliers {
        let mut rng = stream("seeds", self.config, b);
        let normal = (0..self.ranks).map(|_| normal(&mut rng)).collect();
        let mut sum = 0.0;
        let chi_squared = std::iter::repeat_with(|| normal_squared(&mut rng)).take(self.ranks);
        let chi_squared = chi_squared.map(|x| {
            sum += x;
            sum
        });
        let chi_squared = chi_squared.collect();
        Multipliers { normal, chi_squared }
    }
}

/// One configuration's random numbers in one draw.
struct Multipliers {
    /// One per seed.
    normal: Vec<f64>,
    /// `[d - 1]` has d degrees of freedom.
    chi_squared: Vec<f64>,
}

impl Multipliers {
    /// `t / sqrt(S (S - 1))`; 0 for one seed, which says nothing about other seeds.
    fn scale(&self, seeds: usize) -> f64 {
        if seeds < 2 {
            return 0.0;
        }
        let (s, d) = (seeds as f64, (seeds - 1) as f64);
        let t = (d / self.chi_squared[seeds - 2].max(1e-12)).sqrt();
        t / (s * d).sqrt()
    }
}

fn stream(purpose: &str, content: &str, b: usize) -> ChaCha8Rng {
    let key = blake3::hash(format!("epsweep frontier 1 {purpose} {content}").as_bytes());
    let mut rng = ChaCha8Rng::from_seed(*key.as_bytes());
    rng.set_stream(b as u64);
    rng
}

/// Nearly normal: the sum of 12 uniform numbers (variance 1, kurtosis 2.9). It takes additions
/// only, so that every platform draws the same bits; a logarithm would not promise that.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let unit = 1.0 / 4_294_967_296.0;
    (0..12).map(|_| (f64::from(rng.next_u32()) + 0.5) * unit).sum::<f64>() - 6.0
}

fn normal_squared(rng: &mut ChaCha8Rng) -> f64 {
    let z = normal(rng);
    z * z
}

/// The `q`-quantile of ascending numbers, linear between neighbours (R's type 7).
fn quantile(sorted: &[f32], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let (a, b) = (f64::from(sorted[below]), f64::from(sorted[above]));
    a + (b - a) * (place - below as f64)
}

#[cfg(test)]
mod tests;
