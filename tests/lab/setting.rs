//! What the tests share: synthetic data, short questions, and watches.

use crate::lab::attacks::EvaluateAnswer;
use crate::lab::attacks::gradient::{Slope, ascend, margin};
use crate::lab::models::Network;
use crate::lab::training::TrainAnswer;
use crate::lab::{
    Checkpoint, Device, EpochReport, EvaluateRequest, Given, Images, LabData, LabError, TRAINING_INTERVAL,
    TrainRequest, TrainingPlace, Watch, evaluate, streams::Key, train,
};
use epsweep::outcome::Known;
use epsweep::plan::question::{ALGORITHM_VERSION, DataId, EvaluateQuestion, TaskKey, TrainQuestion};
use epsweep::spec::{Attack, Method, Model, Norm, Optimizer, Options, Precision, Schedule, Search, Witnesses};
use std::path::Path;
use tch::Tensor;

pub const CLASSES: i64 = 3;

/// Noisy 8x8 images of three classes, each with a bright block in another place.
pub fn blocks(train: usize, test: usize) -> LabData {
    let split = |purpose: &str, count: usize| {
        let mut stream = Key::new(purpose, 1).stream();
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let class = (stream.unit() * CLASSES as f64) as usize;
            let contrast = 0.2 + 0.5 * stream.unit() as f32;
            let mut image: Vec<f32> = stream.units(64).iter().map(|u| u * 0.5).collect();
            for row in 2..6 {
                for column in 0..2 {
                    image[row * 8 + 3 * class + column] += contrast;
                }
            }
            pixels.extend(image.iter().map(|p| p.min(1.0)));
            labels.push(class as i64);
        }
        Images { pixels: Tensor::from_slice(&pixels).view([-1, 1, 8, 8]), labels: Tensor::from_slice(&labels) }
    };
    LabData { train: split("train", train), test: split("test", test), classes: CLASSES }
}

pub fn data_id() -> DataId {
    DataId { name: "blocks".to_string(), digest: "none".to_string() }
}

pub fn smallcnn() -> Model {
    Model::Smallcnn { channels: [4, 8], hidden: 16 }
}

pub fn sgd(lr: f64) -> Optimizer {
    Optimizer::Sgd { lr, momentum: 0.9, weight_decay: 5e-4, nesterov: false }
}

pub fn adamw() -> Optimizer {
    Optimizer::Adamw { lr: 0.01, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 }
}

pub fn training(method: Method, epochs: u32, seed: u64) -> TrainQuestion {
    TrainQuestion {
        version: ALGORITHM_VERSION,
        data: data_id(),
        model: smallcnn(),
        normalize: None,
        weights: None,
        method,
        optimizer: adamw(),
        schedule: Schedule::Cosine {},
        epochs,
        batch_size: 24,
        options: Options::default(),
        seed,
    }
}

pub fn evaluation(model: Model, norm: Norm, attack: Attack, epsilons: &[f64], examples: [u32; 2]) -> EvaluateQuestion {
    EvaluateQuestion {
        version: ALGORITHM_VERSION,
        train: TaskKey([0; 32]),
        epoch: 1,
        data: data_id(),
        model,
        normalize: None,
        norm,
        attack,
        search: Search::Ascending,
        epsilons: epsilons.to_vec(),
        examples,
        batch_size: 16,
        seed: 7,
        witnesses: Witnesses::None,
        search_precision: Precision::Fp32,
        warm_starts: false,
    }
}

pub fn pgd(steps: u32, restarts: u32) -> Attack {
    Attack::Pgd { steps, step: None, restarts }
}

/// Logits, and the direction in which the cross-entropy of `labels` rises.
pub fn slope(network: &Network, images: &Tensor, labels: &Tensor) -> Slope {
    ascend(network, images, |logits| margin(logits, labels))
}

/// Never stops; or stops when asked for the `n`th time.
#[derive(Default)]
pub struct Patience {
    pub stop_at: Option<usize>,
    asked: std::cell::Cell<usize>,
    pub reports: Vec<EpochReport>,
}

impl Patience {
    pub fn until(stop_at: usize) -> Patience {
        Patience { stop_at: Some(stop_at), ..Patience::default() }
    }
}

impl Watch for Patience {
    fn epoch(&mut self, report: &EpochReport) {
        self.reports.push(*report);
    }

    fn stop(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.stop_at.is_some_and(|limit| self.asked.get() >= limit)
    }
}

pub fn run_training(
    question: &TrainQuestion,
    data: &LabData,
    keep: &[u32],
    resume_dir: Option<&Path>,
    watch: &mut Patience,
) -> Result<TrainAnswer, LabError> {
    let given = Given::default();
    let resume = resume_dir.map(|dir| TrainingPlace { dir, every: TRAINING_INTERVAL });
    train(TrainRequest { question, data, keep, given, resume, device: Device::Cpu }, watch)
}

/// The weights after the last epoch.
pub fn trained(question: &TrainQuestion, data: &LabData) -> Checkpoint {
    let answer = run_training(question, data, &[question.epochs], None, &mut Patience::default());
    answer.unwrap().checkpoints.remove(0)
}

pub fn run_evaluation(question: &EvaluateQuestion, data: &LabData, weights: &[u8], known: &[Known]) -> EvaluateAnswer {
    evaluate(EvaluateRequest { question, data, weights, known, device: Device::Cpu }, &mut Patience::default()).unwrap()
}
