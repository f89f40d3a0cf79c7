//! Architectures: PyTorch's numbers under PyTorch's names, in both modes; training and resuming with
//! batch normalisation.

use crate::golden::{Golden, largest_difference};
use crate::lab::attacks::CPU_ROWS;
use crate::lab::models::{Architecture, Mode, Network, architecture};
use crate::lab::{Device, LabError, weights};
use crate::setting::*;
use epsweep::plan::question::TrainQuestion;
use epsweep::spec::{Method, Model, Norm};
use tch::{Kind, Tensor};

fn wrn(depth: u32, width: u32) -> Model {
    Model::Wrn { depth, width }
}

fn vit() -> Model {
    Model::Vit { patch: 4, dim: 16, depth: 2, heads: 4 }
}

/// The models of scripts/golden_models.py, by the names they have there.
fn golden_models() -> Vec<(&'static str, Model, [i64; 3], i64)> {
    vec![
        ("lenet5", Model::Lenet5 {}, [1, 28, 28], 10),
        ("lenet5.rgb", Model::Lenet5 {}, [3, 32, 32], 10),
        ("madry", Model::Madry {}, [1, 28, 28], 10),
        ("preactresnet18", Model::Preactresnet18 { width: 4 }, [3, 16, 16], 10),
        ("wrn", wrn(10, 1), [3, 16, 16], 10),
        ("wrn.wide", wrn(16, 2), [1, 8, 8], 4),
        ("vit", Model::Vit { patch: 4, dim: 16, depth: 2, heads: 4 }, [1, 8, 8], 10),
    ]
}

/// The weights that the script makes by formula where it does not write them down.
fn formula(architecture: &Architecture) -> Vec<(String, Tensor)> {
    let make = |name: &str, shape: &[i64]| {
        let count = shape.iter().product::<i64>();
        let fan_in = shape[1..].iter().product::<i64>() as f64;
        let size = if shape.len() > 1 { (12.0 / fan_in).sqrt() } else { 0.1 };
        let one = name.ends_with("running_var") || (name.contains("bn") && name.ends_with("weight"));
        let value = |i: i64| if one { 1.0 } else { (((i * 7919) % 1009) as f64 / 1009.0 - 0.5) * size };
        let values: Vec<f32> = (0..count).map(|i| value(i) as f32).collect();
        (name.to_string(), Tensor::from_slice(&values).view(shape))
    };
    let parameters = architecture.parameters.iter().map(|spec| make(&spec.name, &spec.shape));
    parameters.chain(architecture.buffers.iter().map(|spec| make(&spec.name, &[spec.channels]))).collect()
}

#[test]
fn logits_and_running_statistics_are_pytorchs() {
    let golden = Golden::read("models");
    for (name, model, shape, classes) in golden_models() {
        let architecture = architecture(&model, shape, classes).unwrap();
        let written = golden.below(&format!("{name}/weights/"));
        let kept = !written.is_empty();
        let values = if kept { written } else { formula(&architecture) };
        let network = Network::from_weights(&architecture, &weights::encode(&values, None), Device::Cpu).unwrap();
        let x = golden.get(&format!("{name}/x"));
        let close = |ours: &Tensor, theirs: &str| {
            let theirs = golden.get(&format!("{name}/{theirs}"));
            let difference = largest_difference(ours, theirs) / theirs.abs().max().double_value(&[]).max(1.0);
            assert!(difference < 1e-4, "{name}: the logits differ by {difference}");
        };
        close(&network.forward(x), "logits");
        close(&network.forward_in(Mode::Training, x), "training/logits");
        let statistics = golden.below(&format!("{name}/training/"));
        assert_eq!(kept && network.depends_on_mode(), statistics.len() > 1, "{name}");
        for (buffer, theirs) in statistics.iter().filter(|(buffer, _)| buffer != "logits") {
            let (_, ours) = network.state().unwrap().into_iter().find(|(own, _)| own == buffer).unwrap();
            let difference = largest_difference(&ours, theirs);
            assert!(difference < 1e-4, "{name}: {buffer} differs by {difference}");
        }
    }
}

#[test]
fn in_evaluation_an_image_is_judged_by_itself() {
    let data = blocks(1, 64);
    for model in [wrn(10, 1), Model::Preactresnet18 { width: 4 }, vit()] {
        let network = Network::initialised(&architecture(&model, [1, 8, 8], CLASSES).unwrap(), 3, Device::Cpu);
        let before =
            network.state().unwrap().iter().map(|(_, t)| t.sum(Kind::Double).double_value(&[])).collect::<Vec<_>>();
        // As evaluations do: other numbers of rows may sum in an order that depends on where in the batch an image is.
        let rows = i64::from(CPU_ROWS);
        let logits = |from: i64| network.forward(&data.test.pixels.narrow(0, from, rows));
        assert_eq!(logits(0).narrow(0, 16, rows - 16), logits(16).narrow(0, 0, rows - 16), "{model:?}");
        let after =
            network.state().unwrap().iter().map(|(_, t)| t.sum(Kind::Double).double_value(&[])).collect::<Vec<_>>();
        assert_eq!(before, after, "looking changes nothing");
    }
}

#[test]
fn residual_networks_and_transformers_learn_and_resume_to_the_same_bytes() {
    let data = blocks(96, 1);
    let (epsilon, steps, step, norm) = (0.05, 2, None, Norm::Linf);
    let methods = [
        Method::Natural {},
        Method::Pgd { epsilon, steps, step, norm },
        Method::Trades { epsilon, beta: 2.0, steps, step, norm },
    ];
    for method in methods {
        for model in [wrn(10, 1), vit()] {
            let question = TrainQuestion { model: model.clone(), ..training(method.clone(), 4, 5) };
            let mut watch = Patience::default();
            let whole = run_training(&question, &data, &[2, 4], None, &mut watch).unwrap();
            let losses: Vec<f64> = watch.reports.iter().map(|report| report.train_loss).collect();
            assert!(losses[3] < losses[0], "{model:?} {method:?}: {losses:?}");
            let folder = tempfile::tempdir().unwrap();
            for stop_at in [3, 4, 7] {
                let mut patience = Patience::until(stop_at);
                let stopped = run_training(&question, &data, &[2, 4], Some(folder.path()), &mut patience);
                assert!(matches!(stopped, Err(LabError::Stopped)));
            }
            let resumed =
                run_training(&question, &data, &[2, 4], Some(folder.path()), &mut Patience::default()).unwrap();
            for (resumed, whole) in resumed.checkpoints.iter().zip(&whole.checkpoints) {
                assert_eq!(resumed.weights, whole.weights, "{model:?} {method:?} epoch {}", whole.epoch);
            }
            let stored = weights::decode(&whole.checkpoints[1].weights).unwrap().tensors;
            let moved = stored.iter().filter(|(name, _)| name.ends_with("running_mean"));
            assert!(moved.clone().all(|(_, mean)| mean.abs().max().double_value(&[]) > 0.0));
            assert_eq!(moved.count() > 0, matches!(model, Model::Wrn { .. }));
        }
    }
}

#[test]
fn images_that_do_not_suit_a_model_are_refused() {
    let refused = |model: Model, shape: [i64; 3], wanted: &str| {
        let result = architecture(&model, shape, 10).map(|_| ());
        assert!(matches!(&result, Err(LabError::BadInput(text)) if text.contains(wanted)), "{result:?}");
    };
    refused(Model::Lenet5 {}, [1, 8, 8], "lenet5 needs 12x12");
    refused(Model::Madry {}, [1, 3, 9], "3x9 pixels are too few");
    refused(vit(), [1, 10, 8], "cannot be cut into patches of 4x4");
    let data = blocks(25, 1);
    let question = TrainQuestion { model: wrn(10, 1), ..training(Method::Natural {}, 1, 1) };
    let result = run_training(&question, &data, &[1], None, &mut Patience::default());
    assert!(matches!(&result, Err(LabError::BadInput(text)) if text.contains("use another batch_size")), "{result:?}");
}
