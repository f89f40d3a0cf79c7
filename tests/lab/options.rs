//! What goes with any training method, and that every method does what it is for.

use crate::lab::LabError;
use crate::lab::streams::Key;
use crate::lab::training::augment::augmented;
use crate::setting::*;
use epsweep::outcome::Level;
use epsweep::plan::facts::has_collapsed;
use epsweep::plan::question::TrainQuestion;
use epsweep::spec::{Augment, Method, Norm, Options, Precision, Schedule, StopEarly};
use tch::Tensor;

/// `image` as it must look when moved by `(down, right)` pixels, and mirrored.
fn moved(image: &Tensor, [down, right]: [i64; 2], mirrored: bool) -> Tensor {
    let size = image.size();
    let result = Tensor::zeros_like(image);
    for row in 0..size[1] {
        for column in 0..size[2] {
            let (from_row, from_column) = (row - down, column - right);
            if (0..size[1]).contains(&from_row) && (0..size[2]).contains(&from_column) {
                let pixel = image.narrow(1, from_row, 1).narrow(2, from_column, 1);
                result.narrow(1, row, 1).narrow(2, column, 1).copy_(&pixel);
            }
        }
    }
    if mirrored { result.flip([2]) } else { result }
}

fn images(count: usize) -> Tensor {
    let pixels = Key::new("augmentation test", 1).stream().units(count * 2 * 5 * 7);
    Tensor::from_slice(&pixels).view([count as i64, 2, 5, 7])
}

#[test]
fn augmentation_is_a_shift_and_a_mirroring_exactly() {
    let images = images(60);
    let examples: Vec<i64> = (0..60).collect();
    let augment = Augment { crop: 2, flip: true };
    let changed = augmented(&augment, &images, &examples, &Key::new("augmentation", 1).number(3));
    let mut seen = std::collections::HashSet::new();
    for at in 0..60 {
        let mut found = Vec::new();
        for down in -2..=2 {
            for right in -2..=2 {
                for mirrored in [false, true] {
                    if changed.get(at).equal(&moved(&images.get(at), [down, right], mirrored)) {
                        found.push((down, right, mirrored));
                    }
                }
            }
        }
        assert_eq!(found.len(), 1, "example {at}: {found:?}");
        seen.extend(found);
    }
    assert!(seen.len() > 25, "60 draws of 50 changes gave only {}", seen.len());
    let none = Augment { crop: 0, flip: false };
    assert!(augmented(&none, &images, &examples, &Key::new("augmentation", 1)).equal(&images));
}

#[test]
fn augmentation_of_an_example_depends_on_neither_its_batch_nor_its_place() {
    let images = images(8);
    let augment = Augment { crop: 2, flip: true };
    let key = |epoch| Key::new("augmentation", 1).number(epoch);
    let whole = augmented(&augment, &images, &[0, 1, 2, 3, 4, 5, 6, 7], &key(0));
    let backwards = Tensor::from_slice(&[7i64, 3, 5]);
    let part = augmented(&augment, &images.index_select(0, &backwards), &[7, 3, 5], &key(0));
    assert!(part.equal(&whole.index_select(0, &backwards)));
    assert!(!augmented(&augment, &images, &[0, 1, 2, 3, 4, 5, 6, 7], &key(1)).equal(&whole), "another epoch");
}

/// Accuracy at each of `epsilons`, 0 first.
fn curve(method: Method, epsilons: &[f64]) -> Vec<f64> {
    let data = blocks(300, 120);
    let question = training(method, 12, 1);
    let weights = trained(&question, &data).weights;
    let question = evaluation(question.model, Norm::Linf, pgd(20, 1), epsilons, [0, 120]);
    let levels: Vec<Level> = run_evaluation(&question, &data, &weights, &[]).levels;
    (0..=epsilons.len()).map(|at| levels.iter().filter(|level| level.survives(at)).count() as f64 / 120.0).collect()
}

#[test]
fn every_robust_method_makes_a_model_more_robust() {
    let (epsilon, steps, step, norm) = (0.15, 4, None, Norm::Linf);
    let natural = curve(Method::Natural {}, &[epsilon]);
    for method in [
        Method::Pgd { epsilon, steps, step, norm },
        Method::Trades { epsilon, beta: 6.0, steps, step, norm },
        Method::Mart { epsilon, beta: 6.0, steps, step, norm },
        Method::FastAt { epsilon, step: None },
        Method::FreeAt { epsilon, replays: 4, step: None },
        Method::Ibp { epsilon, kappa: 0.5, warmup: 0.05, ramp: 0.5 },
    ] {
        let kind = method.kind();
        let robust = curve(method, &[epsilon]);
        println!("{kind}: {robust:.3?}, natural {natural:.3?}");
        assert!(robust[1] > natural[1] + 0.1, "{kind}: {robust:?}, natural {natural:?}");
    }
}

fn stop_early(every: u32, patience: u32) -> Options {
    let rule = StopEarly { fraction: 0.2, every, patience, epsilon: Some(0.1), norm: None, steps: 4 };
    Options { stop_early: Some(rule), ..Options::default() }
}

/// A run whose learning rate never falls.
fn restless(seed: u64, options: Options) -> TrainQuestion {
    let schedule = Schedule::Constant {};
    TrainQuestion { options, optimizer: sgd(0.1), schedule, ..training(Method::Natural {}, 8, seed) }
}

#[test]
fn early_stopping_hands_in_the_epoch_that_was_best() {
    let data = blocks(150, 10);
    let all: Vec<u32> = (1..=8).collect();
    // Some runs end with their best epoch; this test is about one that does not.
    let gets_worse = |&seed: &u64| {
        let chosen = trained(&restless(seed, stop_early(1, 8)), &data);
        chosen.facts.epoch.unwrap() < 8
    };
    let seed = (1..=12).find(gets_worse).expect("a run that gets worse in the end");
    let run = |options, keep: &[u32]| {
        let mut watch = Patience::default();
        let answer = run_training(&restless(seed, options), &data, keep, None, &mut watch).unwrap();
        (answer, watch.reports.len())
    };
    let (patient, epochs) = run(stop_early(1, 8), &all);
    assert_eq!(epochs, 8);
    let chosen = patient.checkpoints.last().unwrap();
    let scores: Vec<f64> = patient.checkpoints[..7].iter().map(|c| c.facts.validation_accuracy.unwrap()).collect();
    let best = chosen.facts.epoch.unwrap();
    println!("accuracies {scores:?}, best after epoch {best}");
    assert_eq!(chosen.epoch, 8, "it answers for the last epoch");
    let highest = chosen.facts.validation_accuracy.unwrap();
    assert!(scores.iter().all(|&score| score <= highest));
    assert!(best < 8);
    // Of equals the first.
    assert_eq!(scores.iter().position(|&score| score == highest), Some(best as usize - 1));
    let own = &patient.checkpoints[best as usize - 1];
    assert_eq!((&own.weights, own.train_loss), (&chosen.weights, chosen.train_loss));
    // With less patience it ends sooner, and what it did not reach is answered by the best.
    let (hasty, epochs) = run(stop_early(1, 1), &all);
    let first_drop = scores.windows(2).position(|pair| pair[1] <= pair[0]).unwrap() + 2;
    assert_eq!(epochs, first_drop);
    assert_eq!(hasty.checkpoints.iter().map(|c| c.epoch).collect::<Vec<_>>(), all);
    for late in &hasty.checkpoints[first_drop..] {
        assert_eq!(late.facts.epoch, Some(first_drop as u32 - 1));
        assert_eq!(late.weights, hasty.checkpoints[first_drop - 2].weights);
    }
    let without = run(Options::default(), &[8]).0;
    assert_ne!(without.checkpoints[0].weights, chosen.weights);
    assert!(without.checkpoints[0].facts.is_empty());
}

#[test]
fn early_stopping_and_the_watch_resume_to_the_same_bytes_and_cost_what_the_plan_says() {
    let data = blocks(150, 10);
    let fast =
        TrainQuestion { options: stop_early(2, 8), ..training(Method::FastAt { epsilon: 0.1, step: None }, 5, 3) };
    for question in [restless(2, stop_early(2, 8)), fast, restless(2, stop_early(1, 1))] {
        let keep = [2, question.epochs];
        let whole = run_training(&question, &data, &keep, None, &mut Patience::default()).unwrap();
        if question.options.stop_early.as_ref().is_some_and(|rule| rule.patience > 1) {
            let planned = crate::training::planned(&question, 150);
            assert_eq!((whole.passes.forwards, whole.passes.backwards), planned, "{question:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        for stop_at in [3, 9, 4] {
            let stopped = run_training(&question, &data, &keep, Some(folder.path()), &mut Patience::until(stop_at));
            assert!(matches!(stopped, Err(LabError::Stopped) | Ok(_)));
        }
        let resumed = run_training(&question, &data, &keep, Some(folder.path()), &mut Patience::default()).unwrap();
        for (resumed, whole) in resumed.checkpoints.iter().zip(&whole.checkpoints) {
            assert_eq!((resumed.epoch, &resumed.facts), (whole.epoch, &whole.facts), "{question:?}");
            assert_eq!(resumed.weights, whole.weights, "{question:?}");
        }
    }
}

#[test]
fn the_watch_tells_a_collapse_from_health() {
    let data = blocks(300, 10);
    // A step of many times the radius is what collapse is made of.
    let facts = |epsilon, step, epochs| {
        let question = training(Method::FastAt { epsilon, step }, epochs, 1);
        trained(&question, &data).facts
    };
    let healthy = facts(0.05, None, 6);
    println!("healthy {healthy:?}");
    assert_eq!(healthy.collapsed, None);
    assert!(!has_collapsed(healthy.fgsm_accuracy.unwrap(), healthy.pgd_accuracy.unwrap()));
    assert!(healthy.pgd_accuracy.unwrap() <= healthy.fgsm_accuracy.unwrap() + 0.05);
    assert!(trained(&training(Method::Natural {}, 1, 1), &data).facts.is_empty());
}

#[test]
fn bfloat16_trains_to_nearly_the_same_place_and_keeps_weights_in_32_bits() {
    let data = blocks(200, 100);
    let pgd_method = Method::Pgd { epsilon: 0.1, steps: 3, step: None, norm: Norm::Linf };
    let question = |precision| TrainQuestion {
        options: Options { precision, ..Options::default() },
        ..training(pgd_method.clone(), 8, 1)
    };
    let (full, half) = (trained(&question(Precision::Fp32), &data), trained(&question(Precision::Bf16), &data));
    assert_ne!(full.weights, half.weights);
    assert_eq!(half.weights, trained(&question(Precision::Bf16), &data).weights, "to the bit, again");
    assert_eq!(full.weights.len(), half.weights.len());
    let difference = (full.train_loss - half.train_loss).abs();
    println!("losses {} and {}", full.train_loss, half.train_loss);
    assert!(difference < 0.1, "{difference}");
}
