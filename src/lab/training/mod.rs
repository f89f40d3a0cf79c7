//! Training: one question to its checkpoints.
//!
//! [`methods`] gives the loss of a batch, [`optim`] the update, [`schedule`] the learning rate,
//! [`resume`] what survives a kill. The order of examples is drawn anew per epoch and all random
//! numbers are keyed by (seed, epoch, batch), so the state at any batch is a step number and the tensors.

pub mod methods;
pub mod optim;
pub mod resume;
pub mod schedule;

use super::error::guarded;
use super::models::{Network, architecture};
use super::streams::Key;
use super::{Images, LabData, LabError, Passes, Watch};
use epsweep::plan::question::{Question, TrainQuestion};
use epsweep::spec::{Method, Optimizer};
use methods::{Batch, Pair};
use optim::Updater;
use resume::{Folder, Saved};
use std::path::Path;
use std::time::Instant;
use tch::{Device, Tensor};

/// A training run to do.
pub struct TrainRequest<'a> {
    pub question: &'a TrainQuestion,
    pub data: &'a LabData,
    /// Epochs (from 1) whose weights are wanted, in any order.
    pub keep: &'a [u32],
    /// Folder for this question's partial state: created, continued from when valid, and left for
    /// the caller to remove once the answer is safe.
    pub resume_dir: Option<&'a Path>,
    pub device: Device,
}

/// What a finished epoch looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochReport {
    /// From 1.
    pub epoch: u32,
    pub epochs: u32,
    /// Mean over the epoch's examples, each at the weights it was trained with.
    pub train_loss: f64,
    /// Training time since the start of the run, over all attempts.
    pub seconds: f64,
}

/// The weights after one epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    pub epoch: u32,
    pub train_loss: f64,
    /// Training time from the start of the run to this epoch's end, over all attempts.
    pub train_seconds: f64,
    /// A safetensors file; equal weights are equal bytes.
    pub weights: Vec<u8>,
}

/// What a training run gives.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainAnswer {
    /// The epochs asked for, ascending.
    pub checkpoints: Vec<Checkpoint>,
    pub passes: Passes,
}

/// Trains one model. On one kind of CPU the weights are a function of the question alone, bit for
/// bit, however often the run was stopped and resumed.
///
/// # Errors
/// Every [`LabError`]; before [`LabError::Stopped`] the state has been saved.
pub fn train(request: TrainRequest, watch: &mut dyn Watch) -> Result<TrainAnswer, LabError> {
    guarded(|| {
        let mut run = Run::new(&request)?;
        run.finish(watch)?;
        Ok(TrainAnswer { checkpoints: run.checkpoints, passes: run.passes })
    })
}

/// A training run under way.
struct Run<'a> {
    question: &'a TrainQuestion,
    keep: &'a [u32],
    train: Images,
    pair: Pair,
    updater: Updater,
    folder: Option<Folder>,
    checkpoints: Vec<Checkpoint>,
    passes: Passes,
    /// Sum over the current epoch's examples.
    loss_sum: f64,
    /// Time spent by earlier attempts.
    earlier_seconds: f64,
    started: Instant,
}

impl<'a> Run<'a> {
    fn new(request: &TrainRequest<'a>) -> Result<Run<'a>, LabError> {
        let TrainRequest { question, data, keep, resume_dir, device } = *request;
        check(question, data, keep)?;
        let shape = data.train.shape();
        let network = Network::initialised(&architecture(&question.model, shape, data.classes)?, question.seed, device);
        let trained = network.trainable();
        check_batches(question, data.train.count(), &trained)?;
        let mut run = Run {
            question,
            keep,
            train: data.train.slice(0, data.train.count(), device),
            pair: Pair { frozen: trained.frozen(), trained },
            updater: Updater::new(&question.optimizer),
            folder: None,
            checkpoints: Vec::new(),
            passes: Passes::default(),
            loss_sum: 0.0,
            earlier_seconds: 0.0,
            started: Instant::now(),
        };
        if let Some(path) = resume_dir {
            let key = Question::Train(question.clone()).key().to_string();
            let (folder, saved) = Folder::open(path, &key, keep, run.steps_per_epoch());
            if let Some(saved) = saved
                && let Err(error) = run.restore(saved)
            {
                // Only another build's state can come this far; some of it may be in the run already.
                tracing::warn!(%error, "partial training state does not fit, starting over");
                folder.forget();
                return Run::new(request);
            }
            run.folder = Some(folder);
        }
        Ok(run)
    }

    fn restore(&mut self, saved: Saved) -> Result<(), LabError> {
        let Saved { progress, mut tensors, kept } = saved;
        let network = &self.pair.frozen;
        network.restore(&mut tensors)?;
        self.updater.restore(progress.step, network.parameter_names(), network.parameters(), &mut tensors)?;
        (self.loss_sum, self.earlier_seconds, self.checkpoints) = (progress.loss_sum, progress.seconds, kept);
        Ok(())
    }

    fn finish(&mut self, watch: &mut dyn Watch) -> Result<(), LabError> {
        let (per_epoch, epochs) = (self.steps_per_epoch(), u64::from(self.question.epochs));
        let first = self.updater.steps() / per_epoch;
        for epoch in first..epochs {
            let order = self.order(epoch);
            for batch in self.updater.steps() % per_epoch..per_epoch {
                if watch.stop() {
                    self.save();
                    return Err(LabError::Stopped);
                }
                self.step(epoch, batch, &order)?;
                // The end of an epoch is saved below, with its checkpoint.
                if batch + 1 < per_epoch && self.folder.as_ref().is_some_and(Folder::is_due) {
                    self.save();
                }
            }
            self.end_epoch(epoch as u32 + 1, watch)?;
        }
        self.checkpoints.retain(|checkpoint| self.keep.contains(&checkpoint.epoch));
        Ok(())
    }

    /// One batch: loss, gradient, update.
    fn step(&mut self, epoch: u64, batch: u64, order: &Tensor) -> Result<(), LabError> {
        let size = i64::from(self.question.batch_size);
        let start = batch as i64 * size;
        let index = order.narrow(0, start, size.min(self.train.count() - start));
        let (images, labels) = (self.train.pixels.index_select(0, &index), self.train.labels.index_select(0, &index));
        let key = Key::new("training noise", self.question.seed).number(epoch).number(batch);
        let batch = Batch { images: &images, labels: &labels, key };
        let loss = methods::loss(&self.question.method, &self.pair, &batch, &mut self.passes);
        let value = loss.double_value(&[]);
        let step = self.updater.steps();
        if !value.is_finite() {
            return Err(LabError::Diverged { epoch: epoch as u32 + 1, step, loss: value });
        }
        let count = index.size()[0];
        self.loss_sum += value * count as f64;
        self.passes.examples += count as u64;
        let parameters = self.pair.trained.parameters();
        let gradients = Tensor::run_backward(&[&loss], parameters, false, false);
        let total = self.steps_per_epoch() * u64::from(self.question.epochs);
        let factor = schedule::factor(&self.question.schedule, step, total);
        self.updater.step(parameters, &gradients, factor);
        Ok(())
    }

    fn end_epoch(&mut self, epoch: u32, watch: &mut dyn Watch) -> Result<(), LabError> {
        let train_loss = self.loss_sum / self.train.count() as f64;
        // The last update can overflow without any loss having seen it.
        if !self.pair.frozen.is_finite() {
            return Err(LabError::Diverged { epoch, step: self.updater.steps(), loss: train_loss });
        }
        self.loss_sum = 0.0;
        let seconds = self.seconds();
        if self.keep.contains(&epoch) {
            let weights = self.pair.frozen.to_weights();
            let checkpoint = Checkpoint { epoch, train_loss, train_seconds: seconds, weights };
            if let Some(folder) = &mut self.folder {
                folder.keep(&checkpoint);
            }
            self.checkpoints.push(checkpoint);
        }
        if self.folder.as_ref().is_some_and(Folder::is_due) {
            self.save();
        }
        watch.epoch(&EpochReport { epoch, epochs: self.question.epochs, train_loss, seconds });
        Ok(())
    }

    fn save(&mut self) {
        let (step, seconds) = (self.updater.steps(), self.seconds());
        if let Some(folder) = &mut self.folder {
            let mut tensors = self.pair.frozen.state();
            tensors.extend(self.updater.state(self.pair.frozen.parameter_names()));
            folder.save(step, self.loss_sum, seconds, &tensors);
        }
    }

    /// The order in which `epoch` (from 0) sees the examples.
    fn order(&self, epoch: u64) -> Tensor {
        let mut stream = Key::new("order of examples", self.question.seed).number(epoch).stream();
        Tensor::from_slice(&stream.permutation(self.train.count())).to_device(self.train.pixels.device())
    }

    fn seconds(&self) -> f64 {
        self.earlier_seconds + self.started.elapsed().as_secs_f64()
    }

    /// The last, smaller batch counts too.
    fn steps_per_epoch(&self) -> u64 {
        (self.train.count() as u64).div_ceil(u64::from(self.question.batch_size))
    }
}

/// The statistics of one example say nothing, and may have a variance of 0 / 0.
fn check_batches(question: &TrainQuestion, count: i64, network: &Network) -> Result<(), LabError> {
    let size = i64::from(question.batch_size);
    if network.depends_on_mode() && (size == 1 || count % size == 1) {
        let what = "the last batch of an epoch would be a single example, which batch normalisation cannot learn from";
        return Err(LabError::bad_input(format!(
            "{count} examples in batches of {size}: {what}; use another batch_size"
        )));
    }
    Ok(())
}

fn check(question: &TrainQuestion, data: &LabData, keep: &[u32]) -> Result<(), LabError> {
    data.train.check("training", data.classes)?;
    if question.epochs == 0 || question.batch_size == 0 {
        return Err(LabError::bad_input("training needs at least one epoch and one example per batch"));
    }
    if let Some(epoch) = keep.iter().find(|&&epoch| epoch == 0 || epoch > question.epochs) {
        return Err(LabError::bad_input(format!("epoch {epoch} of a run of {} cannot be kept", question.epochs)));
    }
    if let Method::Pgd { epsilon, steps, .. } | Method::Trades { epsilon, steps, .. } = question.method
        && (!epsilon.is_finite() || epsilon <= 0.0 || steps == 0)
    {
        return Err(LabError::bad_input("a training attack needs a positive epsilon and at least one step"));
    }
    if let Optimizer::Sgd { nesterov: true, momentum: 0.0, .. } = question.optimizer {
        return Err(LabError::bad_input("Nesterov momentum needs a momentum"));
    }
    Ok(())
}
