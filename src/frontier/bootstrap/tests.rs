//! What must hold of the frontier, whatever the results.

use super::*;
use crate::frontier::intervals::{Interval, clopper_pearson};
use crate::frontier::synthetic::{Shape, one_trial, study, sweep};
use crate::outcome::Level;
use proptest::prelude::*;

const QUICK: Settings = Settings { draws: 100 };

fn small() -> Results {
    let shape = Shape { examples: 80, ..Shape::default() };
    sweep(&study(), &["model", "method"], &shape, 5)
}

#[test]
fn the_order_of_trials_changes_nothing() {
    let results = small();
    let mut turned = results.clone();
    turned.trials.reverse();
    turned.trials.swap(1, 7);
    assert_eq!(frontier(&results, QUICK), frontier(&turned, QUICK));
}

#[test]
fn another_configuration_leaves_the_intervals_of_the_rest() {
    let results = small();
    let mut fewer = results.clone();
    fewer.trials.retain(|t| t.axes[0] == "mlp");
    let (all, few) = (frontier(&results, QUICK), frontier(&fewer, QUICK));
    for (c, candidate) in few.candidates.iter().enumerate() {
        let same = all.candidates.iter().position(|o| (&o.config, o.epoch) == (&candidate.config, candidate.epoch));
        let same = same.unwrap();
        assert_eq!(&all.candidates[same], candidate);
        (0..few.epsilons.len()).for_each(|e| assert_eq!(all.points[e][same].robust, few.points[e][c].robust));
    }
}

#[test]
fn only_complete_checkpoints_take_part() {
    let mut results = small();
    let config = results.trials[0].config.clone();
    results.trials[0].checkpoints[2].levels[1][3] = Level::UNKNOWN;
    let frontier = frontier(&results, QUICK);
    let seeds = |epoch| frontier.candidates.iter().find(|c| c.config == config && c.epoch == epoch).unwrap().seeds;
    assert_eq!((seeds(5), seeds(20)), (3, 2));
}

#[test]
fn one_seed_is_said_to_speak_of_examples_only_and_meets_the_binomial() {
    let levels: Vec<Level> = (0..400).map(|i| Level(if i < 100 { 0 } else { 2 })).collect();
    let results = one_trial(&[0.0, 0.1], &[&levels]);
    let frontier = frontier(&results, Settings::default());
    let candidate = &frontier.candidates[0];
    assert_eq!((candidate.interval, candidate.clean.value), (IntervalKind::Examples, 0.75));
    let half = 1.96 * (0.75f64 * 0.25 / 400.0).sqrt();
    assert!((candidate.clean.low - (0.75 - half)).abs() < 0.006, "{:?}", candidate.clean);
    assert!((candidate.clean.high - (0.75 + half)).abs() < 0.006, "{:?}", candidate.clean);
    assert_eq!((frontier.points[1][0].on_frontier, frontier.points[1][0].p_on_frontier), (true, 1.0));
}

#[test]
fn full_agreement_does_not_pass_for_certainty() {
    let results = one_trial(&[0.0, 0.1], &[&[Level(1); 50]]);
    let frontier = frontier(&results, QUICK);
    let Interval { high, .. } = clopper_pearson(0, 50);
    assert_eq!(frontier.points[1][0].robust, Estimate { value: 0.0, low: 0.0, high });
    assert_eq!(frontier.points[0][0].robust.low, 1.0 - high);
}

#[test]
fn nothing_in_nothing_out() {
    let mut results = small();
    results.trials.clear();
    let frontier = frontier(&results, QUICK);
    assert!(frontier.candidates.is_empty() && frontier.points.iter().all(Vec::is_empty));
}

/// Prints how long a large sweep takes: `cargo test --release large_sweep -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn a_large_sweep() {
    let shape =
        Shape { examples: 2000, epsilons: (0..=16).map(f64::from).map(|i| i * 0.02).collect(), ..Shape::default() };
    let behaviours: Vec<_> = (0..20).map(|i| study()[i % 8].clone()).collect();
    let results = sweep(&behaviours, &["model", "method"], &shape, 5);
    assert_eq!(results.trials.len(), 60);
    let frontier = frontier(&results, Settings::default());
    assert_eq!(frontier.candidates.len(), 60);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn estimates_lie_in_their_intervals_and_the_frontier_is_not_dominated(seed in 0u64..1000, seeds in 1u64..4) {
        let shape = Shape { examples: 25, seeds, epochs: vec![1, 3], ..Shape::default() };
        let results = sweep(&study()[..5], &["model", "method"], &shape, seed);
        let frontier = frontier(&results, QUICK);
        for points in &frontier.points {
            for (c, point) in points.iter().enumerate() {
                let Estimate { value, low, high } = point.robust;
                prop_assert!(0.0 <= low && low <= value && value <= high && high <= 1.0);
                prop_assert!((0.0..=1.0).contains(&point.p_on_frontier));
                let clean = frontier.candidates[c].clean.value;
                let beaten = points.iter().zip(&frontier.candidates).any(|(p, o)| {
                    p.robust.value >= value && o.clean.value >= clean
                        && (p.robust.value > value || o.clean.value > clean)
                });
                prop_assert_eq!(point.on_frontier, !beaten);
            }
        }
    }
}
