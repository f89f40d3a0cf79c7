//! Training: it learns, it is a function of its question, and a kill costs nothing but time.

use crate::lab::LabError;
use crate::setting::*;
use epsweep::plan::question::TrainQuestion;
use epsweep::spec::{Augment, Awp, Method, Model, Norm, Options, Recipe, Schedule};

fn methods() -> Vec<Method> {
    let (epsilon, steps, step) = (0.05, 3, None);
    vec![
        Method::Natural {},
        Method::Pgd { epsilon, steps, step, norm: Norm::Linf },
        Method::Pgd { epsilon: 0.3, steps, step, norm: Norm::L2 },
        Method::Trades { epsilon, beta: 6.0, steps, step, norm: Norm::Linf },
        Method::Trades { epsilon: 0.3, beta: 1.0, steps, step, norm: Norm::L2 },
        Method::Mart { epsilon, beta: 3.0, steps, step, norm: Norm::Linf },
        Method::FastAt { epsilon, step: None },
        Method::FreeAt { epsilon, replays: 3, step: None },
        Method::Ibp { epsilon, kappa: 0.5, warmup: 0.1, ramp: 0.3 },
    ]
}

/// What the plan says that a run costs.
pub fn planned(question: &TrainQuestion, examples: u32) -> (u64, u64) {
    let question = question.clone();
    let TrainQuestion { model, normalize, weights, method, optimizer, schedule, epochs, .. } = question;
    let TrainQuestion { batch_size, options, .. } = question;
    Recipe { model, normalize, weights, method, optimizer, schedule, epochs, batch_size, options }.passes(examples)
}

#[test]
fn weight_perturbation_costs_what_the_plan_says() {
    let data = blocks(50, 1);
    for method in methods().into_iter().filter(|method| method.awp_passes().is_some()) {
        let awp = Some(Awp { gamma: 0.01, warmup: 1 });
        let question = TrainQuestion { options: Options { awp, ..Options::default() }, ..training(method, 3, 1) };
        let passes = run_training(&question, &data, &[3], None, &mut Patience::default()).unwrap().passes;
        assert_eq!((passes.forwards, passes.backwards), planned(&question, 50), "{question:?}");
        let without = TrainQuestion { options: Options::default(), ..question.clone() };
        assert_ne!(trained(&question, &data).weights, trained(&without, &data).weights);
    }
}

#[test]
fn every_method_lowers_its_loss_and_counts_its_passes() {
    let data = blocks(120, 1);
    for method in methods() {
        let question = training(method.clone(), 15, 1);
        let mut watch = Patience::default();
        let answer = run_training(&question, &data, &[2, 15], None, &mut watch).unwrap();
        let losses: Vec<f64> = watch.reports.iter().map(|report| report.train_loss).collect();
        assert!(losses[14] < 0.7 * losses[0], "{method:?}: {losses:?}");
        assert_eq!(answer.checkpoints.iter().map(|c| c.epoch).collect::<Vec<_>>(), [2, 15]);
        assert_eq!(answer.checkpoints[1].train_loss, losses[14]);
        assert!(answer.checkpoints[0].train_seconds < answer.checkpoints[1].train_seconds);
        assert_eq!((answer.passes.forwards, answer.passes.backwards), planned(&question, 120), "{method:?}");
        assert_eq!(answer.passes.examples, 15 * 120);
    }
}

#[test]
fn weights_are_a_function_of_the_question() {
    let data = blocks(100, 1);
    for model in [Model::Linear {}, Model::Mlp { hidden: vec![12, 8] }, smallcnn()] {
        let question = |seed| TrainQuestion { model: model.clone(), ..training(Method::Natural {}, 2, seed) };
        let first = trained(&question(1), &data);
        assert_eq!(first.weights, trained(&question(1), &data).weights);
        assert_ne!(first.weights, trained(&question(2), &data).weights);
    }
}

#[test]
fn a_stopped_run_continues_to_the_same_bytes() {
    let data = blocks(100, 1);
    for (position, method) in methods().into_iter().enumerate() {
        let mut question = training(method, 3, 5);
        let optimizer = if position % 2 == 0 { sgd(0.05) } else { adamw() };
        question.options.augment = (position % 3 != 0).then_some(Augment { crop: 1, flip: true });
        question.options.awp =
            question.method.awp_passes().filter(|_| position > 4).map(|_| Awp { gamma: 0.01, warmup: 1 });
        (question.optimizer, question.schedule) = (optimizer, Schedule::OneCycle { warmup: 0.3 });
        let whole = run_training(&question, &data, &[1, 3], None, &mut Patience::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        // Five batches per epoch: stopped within the first, at the start of the second, within the third.
        for stop_at in [3, 4, 7] {
            let stopped = run_training(&question, &data, &[1, 3], Some(folder.path()), &mut Patience::until(stop_at));
            assert!(matches!(stopped, Err(LabError::Stopped)));
        }
        let resumed = run_training(&question, &data, &[1, 3], Some(folder.path()), &mut Patience::default()).unwrap();
        for (resumed, whole) in resumed.checkpoints.iter().zip(&whole.checkpoints) {
            assert_eq!((resumed.epoch, resumed.train_loss), (whole.epoch, whole.train_loss), "{question:?}");
            assert_eq!(resumed.weights, whole.weights, "{question:?}");
        }
        assert!(resumed.passes.examples < whole.passes.examples, "the resumed run did only the rest");
    }
}

#[test]
fn a_damaged_or_foreign_state_means_starting_over() {
    let data = blocks(60, 1);
    let question = training(Method::Natural {}, 2, 1);
    let whole = trained(&question, &data).weights;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let stop = |question, keep: &[u32]| {
        let _ = run_training(question, &data, keep, Some(folder.path()), &mut Patience::until(5));
        std::fs::read(&state).unwrap()
    };
    let finish = |keep: &[u32]| {
        let answer = run_training(&question, &data, keep, Some(folder.path()), &mut Patience::default()).unwrap();
        (answer.checkpoints.last().unwrap().weights == whole, answer.passes.examples)
    };
    let good = stop(&question, &[2]);
    assert_eq!(finish(&[2]), (true, 120 - 60 - 24), "an intact state is continued");
    for cut in [0, 10, good.len() / 2, good.len() - 1] {
        std::fs::write(&state, &good[..cut]).unwrap();
        assert_eq!(finish(&[2]), (true, 120), "cut to {cut} bytes");
    }
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&state, flipped).unwrap();
    assert_eq!(finish(&[2]), (true, 120), "one bit flipped");
    std::fs::write(&state, &good).unwrap();
    assert_eq!(finish(&[1, 2]), (true, 120), "it has passed an epoch that is wanted now");
    stop(&training(Method::Natural {}, 2, 9), &[2]);
    assert_eq!(finish(&[2]), (true, 120), "another seed's state");
}

#[test]
fn a_folder_that_cannot_be_used_does_not_stop_the_run() {
    let data = blocks(30, 1);
    let question = training(Method::Natural {}, 1, 1);
    let file = tempfile::NamedTempFile::new().unwrap();
    let result = run_training(&question, &data, &[1], Some(&file.path().join("inside")), &mut Patience::default());
    assert_eq!(result.unwrap().checkpoints[0].weights, trained(&question, &data).weights);
}

#[test]
fn divergence_is_told_from_success() {
    let data = blocks(60, 1);
    let mut question = training(Method::Natural {}, 50, 1);
    question.optimizer = sgd(1e6);
    let result = run_training(&question, &data, &[50], None, &mut Patience::default());
    assert!(matches!(result, Err(LabError::Diverged { .. })), "{result:?}");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let data = blocks(10, 1);
    let question = training(Method::Natural {}, 2, 1);
    let refused = |keep: &[u32], question| {
        let result = run_training(question, &data, keep, None, &mut Patience::default());
        assert!(matches!(result, Err(LabError::BadInput(_))), "{result:?}");
    };
    refused(&[3], &question);
    refused(&[0], &question);
    refused(&[], &TrainQuestion { batch_size: 0, ..question.clone() });
    let mut wrong = blocks(10, 1);
    wrong.classes = 2;
    let result = run_training(&question, &wrong, &[], None, &mut Patience::default());
    assert!(matches!(result, Err(LabError::BadInput(text)) if text.contains("labels")));
}
