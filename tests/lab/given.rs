//! Networks and weights that others made: TorchScript modules, safetensors, state dicts; normalisation.
//! The files are written by scripts/make_test_models.py.

use crate::golden::largest_difference;
use crate::lab::files::read_weights;
use crate::lab::models::inspect::{Facts, inspect};
use crate::lab::models::{Blueprint, Mode, Network};
use crate::lab::training::TrainAnswer;
use crate::lab::{Device, EvaluateRequest, Given, Images, LabData, LabError, RawImages};
use crate::lab::{TRAINING_INTERVAL, TrainRequest, TrainingPlace};
use crate::lab::{evaluate, train, weights};
use crate::setting::*;
use epsweep::plan::question::{EvaluateQuestion, TrainQuestion};
use epsweep::spec::{Attack, Dataset, GivenFile, Method, Model, Norm, Normalization};
use std::path::Path;
use tch::{Kind, Tensor};

fn file(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

fn digits() -> LabData {
    crate::lab::use_one_thread();
    let data = epsweep::data::load(&Dataset::Digits {}).unwrap();
    let images = |examples: &epsweep::data::Examples| {
        let epsweep::data::Pixels::Bytes { bytes, scale } = &examples.pixels else { panic!("digits are bytes") };
        let (count, channels, height, width) = (examples.labels.len(), 1, 8, 8);
        let (full, labels) = (f32::from(*scale), &examples.labels[..]);
        Images::from_raw(RawImages { pixels: bytes, full, labels, count, channels, height, width }).unwrap()
    };
    LabData { train: images(&data.train), test: images(&data.test), classes: 10 }
}

fn scripted() -> Model {
    Model::Torchscript(GivenFile::of_content("0"))
}

fn blueprint(model: &Model) -> Blueprint<'_> {
    Blueprint { model, normalize: None, shape: [1, 8, 8], classes: 10, device: Device::Cpu }
}

fn module(name: &str) -> Result<Network, LabError> {
    let content = file(name);
    let given = Given { module: Some(&content), weights: None };
    blueprint(&scripted()).initial(given, 0).map(|network| network.frozen())
}

/// The answer to a question about files, on the digits.
fn answer(question: &TrainQuestion, given: Given, folder: Option<&Path>, stop: usize) -> Result<TrainAnswer, LabError> {
    let keep = [question.epochs];
    let data = digits();
    let resume = folder.map(|dir| TrainingPlace { dir, every: TRAINING_INTERVAL });
    let request = TrainRequest { question, data: &data, keep: &keep, given, resume, device: Device::Cpu };
    train(request, &mut Patience::until(stop))
}

fn pretrained(model: Model) -> TrainQuestion {
    TrainQuestion { model, epochs: 0, batch_size: 0, ..training(Method::Pretrained {}, 0, 0) }
}

fn import(module: &str) -> Result<TrainAnswer, LabError> {
    answer(&pretrained(scripted()), Given { module: Some(&file(module)), weights: None }, None, usize::MAX)
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, LabError>, wanted: &str) {
    assert!(matches!(&result, Err(LabError::BadInput(text)) if text.contains(wanted)), "{wanted}: {result:?}");
}

#[test]
fn a_module_is_imported_and_attacked_like_any_network() {
    let data = digits();
    let answer = import("cnn.pt").unwrap();
    let [checkpoint] = &answer.checkpoints[..] else { panic!("{answer:?}") };
    assert!(checkpoint.epoch == 0 && checkpoint.train_loss < 0.1, "{}", checkpoint.train_loss);
    let epsilons = [0.05, 0.1, 0.3];
    let accuracy = |attack: Attack| {
        let question = evaluation(scripted(), Norm::Linf, attack, &epsilons, [0, 64]);
        let levels = run_evaluation(&question, &data, &checkpoint.weights, &[]).levels;
        epsilons
            .iter()
            .enumerate()
            .map(|(i, _)| levels.iter().filter(|level| usize::from(level.0) > i + 1).count())
            .collect::<Vec<_>>()
    };
    let (fgsm, strong) = (accuracy(Attack::Fgsm {}), accuracy(pgd(20, 1)));
    assert!(fgsm.iter().zip(&strong).all(|(weak, strong)| weak >= strong), "{fgsm:?} {strong:?}");
    assert!(strong[0] > 20 && strong[2] < 20, "{strong:?}");
    // What was imported is the module: the same logits, whoever loads it.
    let network = blueprint(&scripted()).of_checkpoint(&checkpoint.weights).unwrap();
    let same = module("cnn.pt").unwrap();
    assert_eq!(network.forward(&data.test.pixels), same.forward(&data.test.pixels));
}

#[test]
fn a_module_that_wants_gradients_learns_and_resumes_to_the_same_bytes() {
    let content = file("train_mode.pt");
    let given = Given { module: Some(&content), weights: None };
    let (epsilon, steps, step, norm) = (0.1, 1, None, Norm::Linf);
    for method in [Method::Natural {}, Method::Trades { epsilon, beta: 1.0, steps, step, norm }] {
        let question = TrainQuestion { model: scripted(), batch_size: 512, ..training(method, 2, 3) };
        let whole = answer(&question, given, None, usize::MAX).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for stop in [2, 3] {
            assert!(matches!(answer(&question, given, Some(folder.path()), stop), Err(LabError::Stopped)));
        }
        let resumed = answer(&question, given, Some(folder.path()), usize::MAX).unwrap();
        assert_eq!(resumed.checkpoints[0].weights, whole.checkpoints[0].weights, "{question:?}");
        assert!(resumed.passes.examples < whole.passes.examples);
        // Parameters and running statistics have both moved, and a checkpoint holds both.
        let images = digits().test.pixels.narrow(0, 0, 64);
        let after = blueprint(&scripted()).of_checkpoint(&whole.checkpoints[0].weights).unwrap().forward(&images);
        assert!(largest_difference(&after, &module("train_mode.pt").unwrap().forward(&images)) > 1e-3);
    }
    let question = TrainQuestion { model: scripted(), ..training(Method::Natural {}, 1, 3) };
    let frozen = file("frozen.pt");
    let given = Given { module: Some(&frozen), weights: None };
    assert_refused(answer(&question, given, None, usize::MAX), "`method: pretrained` evaluates it");
}

#[test]
fn a_trained_module_keeps_its_running_statistics() {
    let images = digits().train.pixels.narrow(0, 0, 128);
    let content = file("cnn.pt");
    let model = scripted();
    let network = blueprint(&model).initial(Given { module: Some(&content), weights: None }, 0).unwrap().trainable();
    let before = network.forward(&images);
    assert_eq!(network.to_weights().unwrap(), module("cnn.pt").unwrap().to_weights().unwrap(), "nothing was trained");
    for _ in 0..5 {
        let _ = network.forward_in(Mode::Training, &(&images * 0.5));
    }
    let moved = network.forward(&images);
    assert!(largest_difference(&before, &moved) > 1e-3, "training mode moves the statistics");
    let reloaded = blueprint(&model).of_checkpoint(&network.to_weights().unwrap()).unwrap();
    assert_eq!(reloaded.forward(&images), moved, "and the checkpoint holds them");
}

#[test]
fn modules_that_do_not_fit_are_refused_with_the_reason() {
    assert_refused(import("three_channels.pt"), "does not take images [256, 1, 8, 8]");
    assert_refused(import("seven_classes.pt"), "makes [256, 7] of images [256, 1, 8, 8]; the data set has 10 classes");
    assert_refused(import("pair.pt"), "does not take images");
    assert_refused(import("state_dict.pt"), "it holds tensors but no code");
    let load =
        |bytes: &[u8]| blueprint(&scripted()).initial(Given { module: Some(bytes), weights: None }, 0).map(|_| ());
    assert_refused(load(b"hello"), "not a TorchScript module");
    let cut = file("cnn.pt");
    assert_refused(load(&cut[..cut.len() / 2]), "not a TorchScript module");
}

#[test]
fn what_is_odd_about_a_module_is_noticed() {
    let images = digits().train.pixels.narrow(0, 0, 64);
    let facts = |name: &str| inspect(&module(name).unwrap(), &images).unwrap();
    let none = Facts::default();
    assert_eq!(facts("cnn.pt"), none);
    assert_eq!(facts("frozen.pt"), none);
    assert_eq!(facts("softmax.pt"), Facts { softmax_outputs: true, ..none });
    assert_eq!(facts("random.pt"), Facts { random_outputs: true, ..none });
    assert_eq!(facts("train_mode.pt"), Facts { train_mode: true, ..none });
    assert_eq!(facts("softmax.pt").notes().len(), 1);
    // An evaluation notices too.
    let weights = import("train_mode.pt").unwrap().checkpoints[0].weights.clone();
    let question = evaluation(scripted(), Norm::Linf, Attack::Fgsm {}, &[0.1], [0, 16]);
    assert!(run_evaluation(&question, &digits(), &weights, &[]).trust.train_mode);
    // A network of our own can return no probabilities, but the facts do not ask whose it is.
    let own = Network::initialised(
        &crate::lab::models::architecture(&Model::Linear {}, [1, 8, 8], 10).unwrap(),
        1,
        Device::Cpu,
    );
    assert_eq!(inspect(&own, &images).unwrap(), none);
    assert_eq!(import("softmax.pt").unwrap().checkpoints.len(), 1, "noticed, not refused");
}

#[test]
fn weights_are_read_from_safetensors_and_from_state_dicts() {
    let plain = read_weights(&file("state_dict.pt")).unwrap();
    let wrapped = read_weights(&file("checkpoint.pt")).unwrap();
    let safe = read_weights(
        &std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/models/linear.safetensors")).unwrap(),
    )
    .unwrap();
    assert_eq!(plain.len(), 2);
    for (name, tensor) in &plain {
        assert_eq!(tensor, &wrapped[name], "module. is taken off, and the other entries are not in the way");
        assert_eq!(tensor, &safe[name]);
    }
    let content = file("checkpoint.pt");
    let given = Given { module: None, weights: Some(&content) };
    let imported = answer(&pretrained(Model::Linear {}), given, None, usize::MAX).unwrap();
    assert!(imported.checkpoints[0].train_loss < 0.3, "{}", imported.checkpoints[0].train_loss);
    // Fine-tuning goes on from them: one epoch at next to no learning rate stays where it was.
    let mut question = TrainQuestion { model: Model::Linear {}, batch_size: 64, ..training(Method::Natural {}, 1, 1) };
    question.optimizer = sgd(1e-9);
    let tuned = answer(&question, given, None, usize::MAX).unwrap();
    let fresh = answer(&question, Given::default(), None, usize::MAX).unwrap();
    assert!(tuned.checkpoints[0].train_loss < 0.3 && fresh.checkpoints[0].train_loss > 2.0);
    // Weights for a module go into its own parameters and buffers.
    let stored = weights::encode(&read_weights_of_module(2.0), None);
    let module_file = file("cnn.pt");
    let given = Given { module: Some(&module_file), weights: Some(&stored) };
    let changed = blueprint(&scripted()).initial(given, 0).unwrap();
    let images = digits().test.pixels.narrow(0, 0, 8);
    assert!(largest_difference(&changed.forward(&images), &module("cnn.pt").unwrap().forward(&images)) > 1e-2);
}

/// The state of cnn.pt with everything scaled.
fn read_weights_of_module(factor: f64) -> Vec<(String, Tensor)> {
    let archive = crate::lab::files::archive::Archive::open(&file("cnn.pt")).unwrap();
    let state = archive.module_state().unwrap().into_iter().filter(|(_, tensor)| tensor.kind() == Kind::Float);
    state.map(|(name, tensor)| (name, tensor * factor)).collect()
}

#[test]
fn weights_that_do_not_fit_are_refused_with_their_names() {
    let load = |name: &str, model: Model| {
        let content = file(name);
        blueprint(&model).initial(Given { module: None, weights: Some(&content) }, 0).map(|_| ())
    };
    assert_refused(load("missing_bias.pt", Model::Linear {}), "1 missing: fc.bias");
    let mlp = Model::Mlp { hidden: vec![8, 8, 8] };
    assert_refused(
        load("state_dict.pt", mlp),
        "8 missing: fc1.weight, fc1.bias, fc2.weight, ...; 2 not of this model: fc.bias, fc.weight",
    );
    assert_refused(load("cnn.pt", Model::Linear {}), "write `model: {torchscript: FILE}` instead");
    assert_refused(load("legacy.pt", Model::Linear {}), "the format of PyTorch before 1.6");
    let data = Blueprint { shape: [1, 9, 9], ..blueprint(&Model::Linear {}) };
    let content = file("state_dict.pt");
    let wrong = data.initial(Given { module: None, weights: Some(&content) }, 0).map(|_| ());
    assert_refused(wrong, "1 of another shape: fc.weight has shape [10, 64], not [10, 81]");
    for bytes in [&b"PK\x03\x04nonsense"[..], b"nonsense", b""] {
        assert!(matches!(read_weights(bytes), Err(LabError::BadInput(_))), "{bytes:?}");
    }
    let whole = file("state_dict.pt");
    for cut in (0..whole.len()).step_by(97) {
        assert!(matches!(read_weights(&whole[..cut]), Err(LabError::BadInput(_))), "cut to {cut} bytes");
    }
}

#[test]
fn normalisation_is_part_of_the_network_and_attacks_see_through_it() {
    let data = blocks(60, 40);
    let normalization = Normalization { mean: vec![0.4], std: vec![0.25] };
    let plain = training(Method::Natural {}, 3, 1);
    let question = TrainQuestion { normalize: Some(normalization.clone()), ..plain.clone() };
    let (with, without) = (trained(&question, &data), trained(&plain, &data));
    assert_ne!(with.weights, without.weights);
    let model = smallcnn();
    let of = |normalize, shape| Blueprint { model: &model, normalize, shape, classes: CLASSES, device: Device::Cpu };
    let seen = of(Some(&normalization), [1, 8, 8]).of_checkpoint(&with.weights).unwrap();
    let bare = of(None, [1, 8, 8]).of_checkpoint(&with.weights).unwrap();
    let images = &data.test.pixels;
    assert!(largest_difference(&seen.forward(images), &bare.forward(&((images - 0.4) / 0.25))) < 1e-5);
    // The ball is one of pixels: what breaks it stays inside [0,1] and epsilon, which confirmation checks.
    let mut question = evaluation(smallcnn(), Norm::Linf, pgd(10, 1), &[0.05, 0.2], [0, 40]);
    question.normalize = Some(normalization);
    let seen = run_evaluation(&question, &data, &with.weights, &[]);
    let EvaluateQuestion { model, .. } = &question;
    assert_eq!(*model, smallcnn());
    assert!(seen.refuted == 0 && seen.levels.iter().any(|level| level.0 > 1), "{seen:?}");
    let request = EvaluateRequest {
        question: &question,
        data: &data,
        weights: &without.weights,
        known: &[],
        device: Device::Cpu,
    };
    assert!(
        evaluate(request, &mut Patience::default()).is_ok(),
        "the numbers are not in the checkpoint but in the question"
    );
}
