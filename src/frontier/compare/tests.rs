//! Comparisons by hand, and against values that other programs give.

use super::*;
use crate::frontier::bootstrap::Settings;
use crate::frontier::synthetic::{Shape, one_trial, study, sweep};
use crate::outcome::Level;

fn compared(results: &Results) -> Comparisons {
    comparisons(&Bootstrap::new(results, Settings { draws: 1 }), results)
}

/// Two configurations of the given networks; one list of levels per seed, on the grid 0, 0.1.
fn two(a: &[&[u16]], b: &[&[u16]]) -> Results {
    let mut results = one_trial(&[0.0, 0.1], &[&vec![Level(0); a[0].len()]]);
    let model = results.trials[0].clone();
    let side = |config: &'static str, networks: &[&[u16]]| {
        let trial = |(seed, levels): (usize, &&[u16])| {
            let mut trial = model.clone();
            (trial.config, trial.seed, trial.trial) = (config.into(), seed as u64, format!("{config}{seed}"));
            trial.checkpoints[0].levels[0] = levels.iter().map(|&l| Level(l)).collect();
            trial
        };
        networks.iter().enumerate().map(trial).collect::<Vec<_>>()
    };
    results.trials = [side("a", a), side("b", b)].concat();
    results
}

#[test]
fn one_network_each_is_mcnemars_test() {
    // R: mcnemar.exact, 2 against 8: p = 0.109375.
    let a = [2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 2, 0, 2];
    let b = [1, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 2];
    let found = compared(&two(&[&a], &[&b])).at[1][0];
    assert_eq!((found.only_a, found.only_b), (2, 8));
    assert!((found.examples.p - 0.109375).abs() < 1e-12, "{found:?}");
    assert_eq!((found.seeds, found.interval), (None, IntervalKind::Examples), "one seed says nothing of others");
    assert!((found.difference.value + 6.0 / 13.0).abs() < 1e-12);
    // Bonett and Price by hand: (3 - 9) / 15 and its standard error.
    let (mean, discordant) = (-6.0f64 / 15.0, 12.0 / 15.0);
    let half = 1.959964 * ((discordant - mean * mean) / 15.0f64).sqrt();
    assert!((found.difference.low - (mean - half)).abs() < 1e-5, "{found:?}");
    assert!((found.difference.high - (mean + half)).abs() < 1e-5, "{found:?}");
}

#[test]
fn the_larger_share_of_networks_speaks() {
    // Shares of a: 1, 1/2, 1/2, 0; of b: 2/3, 2/3, 0, 0.
    let a: [&[u16]; 2] = [&[2, 2, 1, 0], &[2, 1, 2, 1]];
    let b: [&[u16]; 3] = [&[2, 2, 1, 0], &[2, 2, 1, 0], &[1, 1, 0, 0]];
    let found = compared(&two(&a, &b)).at[1][0];
    assert_eq!((found.only_a, found.only_b, found.interval), (2, 1, IntervalKind::SeedsAndExamples));
    assert!((found.difference.value - (0.5 - 4.0 / 12.0)).abs() < 1e-12);
    assert_eq!(found.examples.p, 1.0);
}

#[test]
fn the_variance_is_that_of_the_crossed_design() {
    // By hand, one position: shares of a 1, 1, 1/2, 1/2, 0, 0 over two seeds with accuracies 4/6 and 2/6.
    let a: [&[u16]; 2] = [&[2, 2, 2, 2, 0, 0], &[2, 2, 0, 0, 0, 0]];
    let group_of = |results: &Results| Bootstrap::new(results, Settings { draws: 1 });
    let bootstrap = group_of(&two(&a, &a));
    let side = bootstrap.groups[0].components(1);
    let spread = 2.0 * (1.0f64 / 6.0).powi(2);
    assert!((side.over_seeds - spread / 2.0).abs() < 1e-12);
    // Within examples: two examples with one of two standing, 1/2 each.
    let interaction = (1.0 - 6.0 * spread) / 5.0 / 12.0;
    assert!((side.interaction - interaction).abs() < 1e-12, "{}", side.interaction);
    assert!(compared(&two(&a, &a)).at[1][0].seeds.unwrap().p > 0.999);
}

#[test]
fn tails_are_those_of_the_tables() {
    assert!((student(2.0) - 4.302653).abs() < 1e-5 && (student(f64::INFINITY) - 1.959964).abs() < 1e-6);
    assert!((student(3.5) - 2.940089).abs() < 1e-5 && (student(9e4) - 1.959990).abs() < 1e-4);
    // By numerical integration of the density.
    assert!((tail(3.0, 4.0) - 0.039942).abs() < 1e-6 && (tail(40.0, 10.0) / 2.2809e-12 - 1.0).abs() < 0.01);
    assert!((sign_test(5, 15) - 0.041389).abs() < 1e-6 && sign_test(0, 0) == 1.0 && sign_test(4, 4) == 1.0);
}

#[test]
fn all_pairs_of_last_epochs_up_to_forty_configurations() {
    let results = sweep(&study(), &["model", "method"], &Shape { examples: 60, ..Shape::default() }, 5);
    let found = compared(&results);
    assert_eq!((found.configs, found.family, found.at.len(), found.at[3].len()), (8, 28, 11, 28));
    let all = found.at.iter().flatten();
    assert!(all.clone().all(|c| c.a < c.b && c.difference.low <= c.difference.value));
    assert!(all.clone().all(|c| c.examples.p <= c.examples.q && c.examples.q <= c.examples.holm));
    let many: Vec<_> = (0..60).map(|i| study()[i % 8].clone()).collect();
    let shape = Shape { examples: 20, seeds: 1, epochs: vec![1], ..Shape::default() };
    let mut results = sweep(&many, &["model", "method"], &shape, 5);
    results.trials.iter_mut().enumerate().for_each(|(i, trial)| trial.config = format!("{i}"));
    let found = compared(&results);
    assert_eq!((found.configs, found.compared.len(), found.family, found.at[0].len()), (60, 40, 1770, 780));
}
