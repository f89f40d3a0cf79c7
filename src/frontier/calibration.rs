//! Does a 95 % interval hold the truth 95 % of the time? A simulated sweep whose truth is known.

use super::bootstrap::{Settings, frontier};
use super::results::{CheckpointResults, Results, TrialResults, TrialStatus};
use super::synthetic::{self, Shape, logistic, uniform};
use crate::outcome::Level;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

mod frontiers;
mod pairs;

const EPSILONS: [f64; 2] = [0.3, 0.6];

/// The margin of an example is `1 + difficulty + seed + noise`, each logistic with its own scale.
struct World {
    difficulty: f64,
    seed: f64,
    noise: f64,
}

impl World {
    fn level(&self, difficulty: f64, seed: f64, rng: &mut ChaCha8Rng) -> Level {
        let margin = 1.0 + difficulty + seed + self.noise * logistic(rng);
        if margin <= 0.0 { Level::CLEAN } else { Level(EPSILONS.partition_point(|&e| e < margin) as u16 + 1) }
    }

    /// `[clean, at 0.3, at 0.6]`, over all seeds and all examples there could ever be.
    fn truth(&self, rng: &mut ChaCha8Rng) -> [f64; 3] {
        let n = 400_000;
        let mut standing = [0.0; 3];
        for _ in 0..n {
            let (difficulty, seed) = (self.difficulty * logistic(rng), self.seed * logistic(rng));
            let level = self.level(difficulty, seed, rng);
            standing.iter_mut().enumerate().for_each(|(p, s)| *s += f64::from(u8::from(level.survives(p))));
        }
        standing.map(|s| s / f64::from(n))
    }

    fn results(&self, seeds: u64, examples: usize, rng: &mut ChaCha8Rng) -> Results {
        let difficulty: Vec<f64> = (0..examples).map(|_| self.difficulty * logistic(rng)).collect();
        let mut results = synthetic::one_trial(&[0.0, EPSILONS[0], EPSILONS[1]], &[&[]]);
        results.examples = examples;
        results.trials = (0..seeds)
            .map(|seed| {
                let shift = self.seed * logistic(rng);
                let levels = vec![difficulty.iter().map(|&d| self.level(d, shift, rng)).collect()];
                TrialResults {
                    trial: format!("t{seed}"),
                    config: format!("c{}", uniform(rng)),
                    axes: vec!["a".into()],
                    seed,
                    status: TrialStatus::Done,
                    checkpoints: vec![CheckpointResults {
                        epoch: 1,
                        train_loss: 0.0,
                        train_seconds: 0.0,
                        facts: Default::default(),
                        levels,
                        trust: Vec::new(),
                        certified: Vec::new(),
                        measured: Vec::new(),
                    }],
                }
            })
            .collect();
        let config = results.trials[0].config.clone();
        results.trials.iter_mut().for_each(|t| t.config = config.clone());
        results
    }
}

/// The fraction of simulated sweeps whose interval holds the truth, at each position.
fn coverage(world: &World, seeds: u64, examples: usize) -> [f64; 3] {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let truth = world.truth(&mut rng);
    let sweeps = 400;
    let mut held = [0.0; 3];
    for _ in 0..sweeps {
        let results = world.results(seeds, examples, &mut rng);
        let frontier = frontier(&results, Settings { draws: 300 });
        for (p, truth) in truth.iter().enumerate() {
            let estimate = frontier.points[p][0].robust;
            held[p] += f64::from(u8::from(estimate.low <= *truth && *truth <= estimate.high));
        }
    }
    held.map(|h| h / f64::from(sweeps))
}

fn check(name: &str, world: World, seeds: u64) {
    let coverage = coverage(&world, seeds, 200);
    println!("{name}: {coverage:?}");
    // 400 sweeps: the standard error of a coverage of 0.95 is 0.011.
    assert!(coverage.iter().all(|&c| (0.91..=0.98).contains(&c)), "{name}: {coverage:?}");
}

#[test]
fn one_model_covers_its_own_truth_on_other_examples() {
    // Without spread over seeds, one seed is as good as all.
    check("one seed", World { difficulty: 0.5, seed: 0.0, noise: 0.2 }, 1);
}

#[test]
fn intervals_cover_when_examples_dominate() {
    check("examples, 5 seeds", World { difficulty: 0.5, seed: 0.03, noise: 0.1 }, 5);
}

#[test]
fn intervals_cover_when_three_seeds_dominate() {
    // Accuracy differs by about 5 points between seeds, by 2 between test sets.
    check("3 seeds", World { difficulty: 0.5, seed: 0.15, noise: 0.1 }, 3);
}

#[test]
fn intervals_cover_with_two_seeds() {
    check("2 seeds", World { difficulty: 0.5, seed: 0.15, noise: 0.1 }, 2);
}

/// The reason for multipliers: what redrawing three seeds with replacement would have covered.
#[test]
fn redrawing_three_seeds_covers_too_little() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let sweeps = 4000;
    let outside = (0..sweeps)
        .filter(|_| {
            let seeds: [f64; 3] = std::array::from_fn(|_| logistic(&mut rng));
            // The 2.5 % quantile of the means of 27 redraws lies at the smallest seed (1/27 > 2.5 %).
            seeds.iter().all(|&x| x > 0.0) || seeds.iter().all(|&x| x < 0.0)
        })
        .count();
    let coverage = 1.0 - outside as f64 / f64::from(sweeps);
    assert!((0.72..0.78).contains(&coverage), "{coverage}");
}

#[test]
fn a_clear_winner_is_on_the_frontier_in_every_draw_and_a_clear_loser_in_none() {
    let mut behaviours = synthetic::study();
    behaviours.truncate(2);
    behaviours[0].clean = 0.7;
    behaviours[1].clean = 0.97;
    let results = synthetic::sweep(&behaviours, &["model", "method"], &Shape::default(), 1);
    let frontier = frontier(&results, Settings { draws: 200 });
    let winner = frontier.candidates.iter().position(|c| c.axes == behaviours[1].axes && c.epoch == 20).unwrap();
    let loser = frontier.candidates.iter().position(|c| c.axes == behaviours[0].axes && c.epoch == 20).unwrap();
    assert!(frontier.points[4][winner].p_on_frontier > 0.95, "{:?}", frontier.points[4][winner]);
    assert!(frontier.points[4][loser].p_on_frontier < 0.05, "{:?}", frontier.points[4][loser]);
}
