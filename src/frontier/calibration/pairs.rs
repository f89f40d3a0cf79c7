//! Comparisons and correlations on simulated data: how often they find what is not there, and what is.

use super::frontiers::{Lift, Spread, normal};
use crate::frontier::bootstrap::{Bootstrap, Settings};
use crate::frontier::compare::{Comparison, comparisons};
use crate::frontier::correlation::correlation;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn simulate(spread: Spread, lifts: &[Lift], seeds: usize, sweeps: usize, mut see: impl FnMut(&[Comparison])) {
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    for _ in 0..sweeps {
        let results = spread.sweep(lifts, seeds, 300, &mut rng);
        let bootstrap = Bootstrap::new(&results, Settings { draws: 1 });
        see(&comparisons(&bootstrap, &results).at[1]);
    }
}

const ALIKE: Lift = [1.5, 0.6, -0.4];

/// The share of 2,000 pairs of equals that are called different at 5 %: by the sign test over examples,
/// by the t-test over seeds. The standard error of 0.05 is 0.005.
fn size(spread: Spread, seeds: usize) -> (f64, f64) {
    let (mut examples, mut of_seeds) = (0.0, 0.0);
    let sweeps = 2000;
    simulate(spread, &[ALIKE; 2], seeds, sweeps, |pairs| {
        examples += f64::from(u8::from(pairs[0].examples.p <= 0.05));
        of_seeds += f64::from(u8::from(pairs[0].seeds.is_some_and(|seeds| seeds.p <= 0.05)));
    });
    (examples / sweeps as f64, of_seeds / sweeps as f64)
}

#[test]
fn mcnemar_finds_a_difference_between_equals_in_at_most_one_of_twenty() {
    // Exact tests of counts err on the safe side.
    for (noise, seeds) in [(0.5, 1), (0.2, 1), (0.5, 3)] {
        let (found, _) = size(Spread { example: 0.8, seed: 0.0, noise }, seeds);
        println!("sign test, noise {noise}, {seeds} seeds: {found}");
        assert!((0.01..=0.06).contains(&found), "{found}");
    }
}

#[test]
fn where_seeds_differ_only_the_test_over_seeds_keeps_its_promise() {
    for (seed, seeds) in [(0.15, 3), (0.15, 5), (0.05, 3), (0.0, 3), (0.15, 2)] {
        let (examples, of_seeds) = size(Spread { example: 0.8, seed, noise: 0.5 }, seeds);
        println!("seed {seed}, {seeds} seeds: examples {examples}, seeds {of_seeds}");
        assert!(of_seeds <= 0.09, "{of_seeds}");
        assert!(seed < 0.1 || examples > 0.1, "the sign test speaks of these very networks: {examples}");
    }
}

#[test]
fn intervals_of_differences_cover() {
    let lifts = [[1.7, 0.9, -0.6], [1.6, 0.55, -0.4]];
    for (seed, seeds) in [(0.0, 1), (0.15, 3), (0.1, 5)] {
        let spread = Spread { example: 0.8, seed, noise: 0.5 };
        let [a, b] = lifts.map(|lift| spread.truth(&lift)[1]);
        let (mut held, mut powerful) = (0.0, 0.0);
        let sweeps = 1000;
        simulate(spread, &lifts, seeds, sweeps, |pairs| {
            let (low, high) = (pairs[0].difference.low, pairs[0].difference.high);
            held += f64::from(u8::from(low <= a - b && a - b <= high));
            powerful += f64::from(u8::from(pairs[0].examples.p <= 0.05));
        });
        println!("difference, seed {seed}, {seeds} seeds: {held}, power {powerful}");
        assert!((910.0..=980.0).contains(&held), "{held} of {sweeps}");
        assert!(powerful > 900.0, "a difference of ten points is found: {powerful}");
    }
}

/// Six equals have fifteen pairs: without correction, luck calls some pair different most of the time.
#[test]
fn holm_bounds_the_chance_of_a_single_false_difference() {
    let (mut raw, mut holm, mut share) = (0.0, 0.0, 0.0);
    let sweeps = 600;
    simulate(Spread { example: 0.8, seed: 0.0, noise: 0.5 }, &[ALIKE; 6], 1, sweeps, |pairs| {
        let any = |of: &dyn Fn(&Comparison) -> f64| f64::from(u8::from(pairs.iter().any(|pair| of(pair) <= 0.05)));
        raw += any(&|pair| pair.examples.p);
        holm += any(&|pair| pair.examples.holm);
        share += any(&|pair| pair.examples.q);
    });
    let of = sweeps as f64;
    println!("six alike: raw {}, holm {}, q {}", raw / of, holm / of, share / of);
    assert!(raw / of > 0.2 && holm / of <= 0.06 && share / of <= 0.06, "{raw} {holm} {share} of {of}");
}

/// How often the intervals of Spearman's and Pearson's coefficients hold the truth, of normal pairs.
#[test]
fn intervals_of_correlations_cover() {
    let mut rng = ChaCha8Rng::seed_from_u64(19);
    for (rho, n) in [(0.0, 8), (0.6, 12), (0.6, 40), (-0.85, 24)] {
        let rho: f64 = rho;
        // Of normal pairs: 6 / pi asin(r / 2).
        let spearman = 6.0 / std::f64::consts::PI * (rho / 2.0).asin();
        let (mut pearson_held, mut spearman_held) = (0.0, 0.0);
        let times = 2000;
        for _ in 0..times {
            let pair = |_| {
                let (x, z) = (normal(&mut rng), normal(&mut rng));
                (x, rho * x + (1.0 - rho * rho).sqrt() * z)
            };
            let found = correlation(&(0..n).map(pair).collect::<Vec<_>>()).unwrap();
            let holds = |interval: Option<(f64, f64)>, truth: f64| {
                interval.is_some_and(|(low, high)| low <= truth && truth <= high)
            };
            pearson_held += f64::from(u8::from(holds(found.pearson.interval, rho)));
            spearman_held += f64::from(u8::from(holds(found.spearman.interval, spearman)));
        }
        let held = [pearson_held, spearman_held].map(|held| held / f64::from(times));
        println!("correlation {rho}, n = {n}: Pearson {}, Spearman {}", held[0], held[1]);
        assert!(held.iter().all(|held| (0.91..=0.98).contains(held)), "{rho}, {n}: {held:?}");
    }
}
