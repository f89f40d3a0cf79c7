//! One number for a whole frontier, how surely it is known, and what each further configuration added.
//!
//! The hypervolume at an epsilon is the area of the plane of clean and robust accuracy that the
//! frontier dominates, seen from (0, 0): between 0 and 1 (Zitzler and Thiele 1998).
//!
//! A frontier picks the luckiest of noisy means, so its hypervolume is larger than that of the true
//! means on average: *optimism*, the more so the more configurations are nearly as good. The draws
//! repeat the same picking around the estimate, so by how much they exceed it on average estimates
//! the optimism (Efron and Tibshirani 1993, chapter 10).
//!
//! The lower end of the interval is moved down by three times that: the draws are too large twice, as
//! the estimate is and once more around it, and where configurations are alike they see about half of
//! what there was, for the estimates lie apart. The upper end stays. Then both are widened for the few
//! seeds, by Student's t with the degrees of freedom of all configurations together. Of the ways that
//! were simulated, this is the narrowest that covers 91 to 98 % everywhere, six equals included
//! (`calibration/frontiers.rs`).

use super::bootstrap::Bootstrap;
use super::curves::positions;
use super::draws::percentiles;
use super::intervals::{Estimate, clopper_pearson, student};
use super::results::Results;
use std::collections::BTreeMap;

/// The most steps that [`growth`] reports.
const STEPS: usize = 100;

/// A hypervolume.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Volume {
    /// Of the estimated means, and a 95 % interval for that of the true ones.
    pub estimate: Estimate,
    /// By how much picking the best of noisy means flatters the value, on average; at least 0.
    pub optimism: f64,
}

/// The hypervolumes after the first trials of the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    /// Trials of the plan up to here; those that are not fully evaluated count, but add nothing.
    pub trials: usize,
    /// Configurations that have contributed.
    pub configs: usize,
    /// One per epsilon of [`Results::epsilons`].
    pub volumes: Vec<Volume>,
}

/// `value` with the interval that the draws around it give. `degrees` is the sum of seeds - 1 over
/// configurations; 0 where there is one seed each, and the interval speaks of examples only.
///
/// Where no draw can differ, since everything stands or nothing, the exact bound for so many `examples`
/// takes over.
pub(super) fn volume(value: f64, drawn: &[f32], examples: usize, degrees: usize) -> Volume {
    let mut drawn = drawn.to_vec();
    drawn.sort_unstable_by(f32::total_cmp);
    let mean = drawn.iter().map(|&v| f64::from(v)).sum::<f64>() / drawn.len() as f64;
    let optimism = (mean - value).max(0.0);
    let (low, high) = percentiles(&drawn);
    let normal = student(f64::INFINITY);
    let wider = if degrees == 0 { 1.0 } else { student(degrees as f64) / normal };
    let mut low = (value - wider * (value - low + 3.0 * optimism)).max(0.0);
    let mut high = (value + wider * (high - value)).min(1.0);
    if value == 0.0 {
        high = high.max(clopper_pearson(0, examples).high);
    } else if value == 1.0 {
        low = low.min(clopper_pearson(examples, examples).low.powi(2));
    }
    Volume { estimate: Estimate { value, low: low.min(value), high: high.max(value) }, optimism }
}

/// How the hypervolume grew, in the order of the plan: a configuration counts from the trial on that
/// is its last (its seeds follow each other), with all its epochs. So the value never falls, and does
/// not depend on which worker was fast. At most 100 steps, evenly spaced, the last among them.
pub fn growth(bootstrap: &Bootstrap, results: &Results) -> Vec<Growth> {
    let order = arrivals(bootstrap, results);
    let steps = order.len().min(STEPS);
    let shown: Vec<usize> = (1..=steps).map(|i| (i * order.len()).div_ceil(steps)).collect();
    let grid: Vec<usize> = positions(&results.epsilons).map(|(position, _)| position).collect();
    let degrees: Vec<usize> = shown.iter().map(|&done| order[..done].iter().map(|a| a.degrees).sum()).collect();
    let means = Source::Means(bootstrap);
    let mut volumes: Vec<Vec<Volume>> = vec![Vec::new(); steps];
    for &position in &grid {
        let values = means.after(&order, &shown, position);
        let mut drawn = vec![Vec::with_capacity(bootstrap.draws.count); steps];
        for b in 0..bootstrap.draws.count {
            let after = Source::Draw(bootstrap, b).after(&order, &shown, position);
            drawn.iter_mut().zip(after).for_each(|(drawn, volume)| drawn.push(volume as f32));
        }
        for (((into, value), drawn), &degrees) in volumes.iter_mut().zip(values).zip(&drawn).zip(&degrees) {
            into.push(volume(value, drawn, results.examples, degrees));
        }
    }
    let step =
        |(configs, volumes): (usize, Vec<Volume>)| Growth { trials: order[configs - 1].trials, configs, volumes };
    shown.iter().copied().zip(volumes).map(step).collect()
}

/// A configuration enters.
struct Arrival {
    /// Trials of the plan up to its last one.
    trials: usize,
    candidates: Vec<usize>,
    /// Seeds - 1.
    degrees: usize,
}

fn arrivals(bootstrap: &Bootstrap, results: &Results) -> Vec<Arrival> {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (position, trial) in results.trials.iter().enumerate() {
        last.insert(&trial.config, position + 1);
    }
    let mut arrivals: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (c, group) in bootstrap.groups.iter().enumerate() {
        arrivals.entry(last[group.config.as_str()]).or_default().push(c);
    }
    let arrival = |(trials, candidates): (usize, Vec<usize>)| {
        let seeds = candidates.iter().map(|&c| bootstrap.groups[c].members.len()).max().unwrap_or(1);
        Arrival { trials, candidates, degrees: seeds - 1 }
    };
    arrivals.into_iter().map(arrival).collect()
}

/// Where accuracies come from.
enum Source<'a> {
    Means(&'a Bootstrap),
    Draw(&'a Bootstrap, usize),
}

impl Source<'_> {
    fn accuracy(&self, c: usize, position: usize) -> f64 {
        match self {
            Source::Means(bootstrap) => bootstrap.groups[c].mean(position),
            Source::Draw(bootstrap, b) => f64::from(bootstrap.draws.plain(c, position)[*b]),
        }
    }

    /// The hypervolume after so many arrivals as `shown` says.
    fn after(&self, order: &[Arrival], shown: &[usize], position: usize) -> Vec<f64> {
        let mut stairs = Stairs::default();
        let mut volumes = Vec::with_capacity(shown.len());
        for (done, arrival) in order.iter().enumerate() {
            for &c in &arrival.candidates {
                stairs.add(self.accuracy(c, 0), self.accuracy(c, position));
            }
            if shown.get(volumes.len()) == Some(&(done + 1)) {
                volumes.push(stairs.area);
            }
        }
        volumes
    }
}

/// A frontier that grows point by point.
#[derive(Default)]
struct Stairs {
    /// By falling x and rising y: nobody is dominated.
    steps: Vec<(f64, f64)>,
    area: f64,
}

impl Stairs {
    fn add(&mut self, x: f64, y: f64) {
        // The first step that reaches less far than x.
        let start = self.steps.partition_point(|step| step.0 >= x);
        let below = start.checked_sub(1).map_or(0.0, |before| self.steps[before].1);
        if y <= below {
            return;
        }
        // What the new step buries, from its foot upwards; above the last of them, the next one stands.
        let mut end = start;
        let mut height = below;
        while end < self.steps.len() && self.steps[end].1 <= y {
            self.area += (x - self.steps[end].0) * (self.steps[end].1 - height);
            height = self.steps[end].1;
            end += 1;
        }
        let beyond = self.steps.get(end).map_or(0.0, |step| step.0);
        self.area += (x - beyond) * (y - height);
        // A step just as far and lower adds nothing to what is below, and need not go.
        self.steps.splice(start..end, [(x, y)]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::bootstrap::Settings;
    use super::super::pareto::hypervolume;
    use super::super::synthetic::{Shape, study, sweep};
    use super::*;
    use crate::outcome::Level;
    use proptest::prelude::*;

    const QUICK: Settings = Settings { draws: 60 };

    fn grown(results: &Results) -> (Bootstrap, Vec<Growth>) {
        let bootstrap = Bootstrap::new(results, QUICK);
        let growth = growth(&bootstrap, results);
        (bootstrap, growth)
    }

    #[test]
    fn it_ends_where_the_frontier_is_and_never_falls() {
        let results = sweep(&study(), &["model", "method"], &Shape { examples: 90, ..Shape::default() }, 5);
        let (bootstrap, growth) = grown(&results);
        let frontier = bootstrap.frontier(&results);
        assert_eq!(growth.iter().map(|g| (g.trials, g.configs)).collect::<Vec<_>>()[..2], [(3, 1), (6, 2)]);
        let last = growth.last().unwrap();
        assert_eq!((last.trials, last.configs), (24, 8));
        for (e, (end, whole)) in last.volumes.iter().zip(&frontier.volumes).enumerate() {
            assert!((end.estimate.value - whole.estimate.value).abs() < 1e-12);
            assert!((end.estimate.low - whole.estimate.low).abs() < 1e-6);
            assert!((end.optimism - whole.optimism).abs() < 1e-6);
            assert!(growth.windows(2).all(|w| w[0].volumes[e].estimate.value <= w[1].volumes[e].estimate.value));
        }
    }

    #[test]
    fn an_unfinished_configuration_adds_nothing_yet() {
        let mut results = sweep(&study()[..3], &["model", "method"], &Shape { examples: 30, ..Shape::default() }, 5);
        for trial in &mut results.trials[3..6] {
            trial.checkpoints.iter_mut().for_each(|checkpoint| checkpoint.levels[0][0] = Level::UNKNOWN);
        }
        assert_eq!(grown(&results).1.iter().map(|g| (g.trials, g.configs)).collect::<Vec<_>>(), [(3, 1), (9, 2)]);
        results.trials.clear();
        assert!(grown(&results).1.is_empty());
    }

    #[test]
    fn a_long_sweep_is_told_in_a_hundred_steps() {
        let many: Vec<_> = (0..230).map(|i| study()[i % 8].clone()).collect();
        let shape = Shape { examples: 12, seeds: 1, epochs: vec![1], ..Shape::default() };
        let mut results = sweep(&many, &["model", "method"], &shape, 5);
        results.trials.iter_mut().enumerate().for_each(|(i, trial)| trial.config = format!("{i}"));
        let growth = growth(&Bootstrap::new(&results, Settings { draws: 2 }), &results);
        assert_eq!((growth.len(), growth[99].configs, growth[99].trials), (100, 230, 230));
        assert!(growth.windows(2).all(|w| (2..=3).contains(&(w[1].configs - w[0].configs))));
    }

    proptest! {
        #[test]
        fn point_by_point_is_the_whole(raw in prop::collection::vec((0u8..9, 0u8..9), 0..25)) {
            let points: Vec<(f64, f64)> = raw.iter().map(|&(a, b)| (f64::from(a) / 9.0, f64::from(b) / 9.0)).collect();
            let mut stairs = Stairs::default();
            for (done, &(x, y)) in points.iter().enumerate() {
                stairs.add(x, y);
                prop_assert!((stairs.area - hypervolume(&points[..=done])).abs() < 1e-12);
            }
        }
    }
}
