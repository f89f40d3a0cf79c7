//! What goes with any training method, and that every method does what it is for.

use crate::lab::streams::Key;
use crate::lab::training::augment::augmented;
use crate::setting::*;
use epsweep::outcome::Level;
use epsweep::spec::{Augment, Method, Norm};
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
