//! The draws: random streams, weights of examples, multipliers of seeds, and what came out in each.
//!
//! Why this way is said in [`super::bootstrap`].

use super::CONFIDENCE;
use super::groups::Group;
use super::intervals::{Estimate, clopper_pearson};
use super::pareto;
use super::posterior::Posterior;
use super::results::Results;
use crate::outcome::Level;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;

/// Everything the draws produced.
pub(super) struct Draws {
    pub count: usize,
    pub examples: usize,
    /// Clean and the positive epsilons.
    pub positions: usize,
    /// `values[(c * positions + p) * count + b]`: accuracy of candidate c at position p in draw b.
    /// Single precision: there are millions, and 24 bits outdo any test set.
    values: Vec<f32>,
    /// The same without the widening for few seeds.
    plain: Vec<f32>,
    /// `on[c * positions + p]`: the number of draws in which candidate c is not dominated.
    on: Vec<u32>,
    /// `volumes[p * count + b]`: the hypervolume at position p in draw b.
    volumes: Vec<f32>,
}

impl Draws {
    pub fn new(groups: &[Group], results: &Results, count: usize) -> Draws {
        let positions = results.positive_epsilons().len() + 1;
        let cells = groups.len() * positions;
        let mut draws = Draws {
            count,
            examples: results.examples,
            positions,
            values: vec![0.0; cells * count],
            plain: vec![0.0; cells * count],
            on: vec![0; cells],
            volumes: vec![0.0; positions * count],
        };
        let mut plane = vec![vec![0.0; groups.len()]; positions];
        let mut row = vec![(0.0, 0.0); positions];
        let shares: Vec<Vec<f64>> = groups.iter().map(|group| group.shares(positions)).collect();
        let configs = Stream::of_configs(groups);
        for b in 0..count {
            let weights = example_weights(results.examples, b);
            let mut shift = None;
            for (c, group) in groups.iter().enumerate() {
                let multipliers = match &shift {
                    Some((config, multipliers)) if *config == &group.config => multipliers,
                    _ => &shift.insert((&group.config, configs[&*group.config].multipliers(b))).1,
                };
                group.draw(&weights, multipliers, &shares[c], &mut row);
                for (p, &(wide, plain)) in row.iter().enumerate() {
                    plane[p][c] = plain;
                    draws.values[(c * positions + p) * count + b] = wide as f32;
                    draws.plain[(c * positions + p) * count + b] = plain as f32;
                }
            }
            let order = pareto::descending(&plane[0]);
            for p in 0..positions {
                draws.volumes[p * count + b] = pareto::dominated_area(&order, &plane[0], &plane[p]) as f32;
            }
        }
        draws.count_frontiers(groups);
        draws
    }

    /// In how many draws each candidate is not dominated: of what the means may truly be, see [`super::posterior`].
    fn count_frontiers(&mut self, groups: &[Group]) {
        let means: Vec<Vec<f64>> =
            groups.iter().map(|group| (0..self.positions).map(|p| group.mean(p)).collect()).collect();
        let mut flags = vec![false; groups.len()];
        let (mut clean, mut robust) = (vec![0.0; groups.len()], vec![0.0; groups.len()]);
        let (mut drawn, mut truths) = (vec![[0.0; 2]; groups.len()], vec![[0.0; 2]; groups.len()]);
        for p in 0..self.positions {
            let estimates: Vec<[f64; 2]> = means.iter().map(|means| [means[0], means[p]]).collect();
            let noise =
                |b: usize, c: usize| [0, p].map(|position| f64::from(self.plain(c, position)[b]) - means[c][position]);
            let posterior = Posterior::new(p.to_string(), &estimates, self.count, noise);
            let mut on = vec![0; groups.len()];
            for b in 0..self.count {
                drawn.iter_mut().enumerate().for_each(|(c, drawn)| *drawn = noise(b, c));
                posterior.draw(b, &drawn, &mut truths);
                for (c, truth) in truths.iter().enumerate() {
                    // At epsilon 0 both are the same to the last bit: equals must stay equal.
                    [clean[c], robust[c]] = [truth[0], truth[usize::from(p > 0)]];
                }
                pareto::mark(&pareto::descending(&clean), &clean, &robust, &mut flags);
                flags.iter().enumerate().filter(|(_, on)| **on).for_each(|(c, _)| on[c] += 1);
            }
            on.into_iter().enumerate().for_each(|(c, on)| self.on[c * self.positions + p] = on);
        }
    }

    /// Accuracy of candidate `c` at `position` in every draw.
    pub fn of(&self, c: usize, position: usize) -> &[f32] {
        let start = (c * self.positions + position) * self.count;
        &self.values[start..start + self.count]
    }

    /// The same as [`Draws::of`] without the widening for few seeds: what varies over candidates together.
    pub fn plain(&self, c: usize, position: usize) -> &[f32] {
        let start = (c * self.positions + position) * self.count;
        &self.plain[start..start + self.count]
    }

    /// Accuracy of candidate `c` at every position in draw `b`.
    pub fn curve(&self, c: usize, b: usize) -> Vec<f64> {
        (0..self.positions).map(|p| f64::from(self.of(c, p)[b])).collect()
    }

    /// Hypervolume at `position` in every draw.
    pub fn volumes(&self, position: usize) -> &[f32] {
        &self.volumes[position * self.count..(position + 1) * self.count]
    }

    /// The share of draws in which candidate `c` is not dominated at `position`.
    pub fn p_on_frontier(&self, c: usize, position: usize) -> f64 {
        f64::from(self.on[c * self.positions + position]) / self.count as f64
    }

    /// The percentile interval around `value`, the estimate of candidate `c` at `position`.
    pub fn estimate(&self, c: usize, position: usize, value: f64) -> Estimate {
        let mut drawn = self.of(c, position).to_vec();
        drawn.sort_unstable_by(f32::total_cmp);
        let (low, high) = percentiles(&drawn);
        exact_ends(Estimate { value, low, high }, self.examples)
    }
}

/// Where every model agrees on every example (accuracy 0 or 1) no draw can differ, yet another test
/// set might: there, the exact bound for so many `examples` takes over.
pub(super) fn exact_ends(Estimate { value, mut low, mut high }: Estimate, examples: usize) -> Estimate {
    if value == 0.0 {
        high = clopper_pearson(0, examples).high;
    } else if value == 1.0 {
        low = clopper_pearson(examples, examples).low;
    }
    Estimate { value, low: low.min(value), high: high.max(value) }
}

impl Group {
    /// Standard deviation over seeds that is not due to examples, as a share of all of it, per position.
    fn shares(&self, positions: usize) -> Vec<f64> {
        let share = |position| {
            let found = self.components(position);
            if found.over_seeds > 0.0 { (1.0 - found.interaction / found.over_seeds).max(0.0).sqrt() } else { 0.0 }
        };
        (0..positions).map(share).collect()
    }

    /// Accuracy at every position in one draw: studentised, and plain.
    fn draw(&self, weights: &[u32], multipliers: &Multipliers, shares: &[f64], row: &mut [(f64, f64)]) {
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
        let plain = if seeds > 1 { 1.0 / ((seeds * (seeds - 1)) as f64).sqrt() } else { 0.0 };
        let wide = plain * multipliers.student(seeds);
        for (p, value) in row.iter_mut().enumerate() {
            let mean = f64::from(total[p]) / (seeds as f64 * examples);
            let move_by = |scale: f64| (mean + scale * (moved[p] - mean * all)).clamp(0.0, 1.0);
            *value = (move_by(wide * shares[p]), move_by(plain * shares[p]));
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
    /// What makes a normal variable one of Student's t with S - 1 degrees of freedom.
    fn student(&self, seeds: usize) -> f64 {
        if seeds < 2 {
            return 0.0;
        }
        ((seeds - 1) as f64 / self.chi_squared[seeds - 2].max(1e-12)).sqrt()
    }
}

pub(super) fn stream(purpose: &str, content: &str, b: usize) -> ChaCha8Rng {
    let key = blake3::hash(format!("epsweep frontier 1 {purpose} {content}").as_bytes());
    let mut rng = ChaCha8Rng::from_seed(*key.as_bytes());
    rng.set_stream(b as u64);
    rng
}

/// Nearly normal: the sum of 12 uniform numbers (variance 1, kurtosis 2.9). It takes additions
/// only, so that every platform draws the same bits; a logarithm would not promise that.
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let unit = 1.0 / 4_294_967_296.0;
    (0..12).map(|_| (f64::from(rng.next_u32()) + 0.5) * unit).sum::<f64>() - 6.0
}

fn normal_squared(rng: &mut ChaCha8Rng) -> f64 {
    let z = normal(rng);
    z * z
}

/// The ends of the percentile interval of ascending draws.
pub(super) fn percentiles(sorted: &[f32]) -> (f64, f64) {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    (quantile(sorted, tail), quantile(sorted, 1.0 - tail))
}

/// The `q`-quantile of ascending numbers, linear between neighbours (R's type 7).
fn quantile(sorted: &[f32], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let (a, b) = (f64::from(sorted[below]), f64::from(sorted[above]));
    a + (b - a) * (place - below as f64)
}
