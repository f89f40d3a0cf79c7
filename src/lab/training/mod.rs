//! Training: one question to its checkpoints.
//!
//! [`methods`] gives the gradient of a batch ([`inner`] attacks it, [`losses`] measure), [`optim`] the update, [`schedule`] the learning rate,
//! [`resume`] what survives a kill. The order of examples is drawn anew per epoch and all random
//! numbers are keyed by (seed, epoch, batch), so the state at any batch is a step number and the tensors.

pub mod augment;
pub mod awp;
pub mod early;
pub mod inner;
pub mod losses;
pub mod methods;
pub mod optim;
mod pretrained;
pub mod resume;
pub mod schedule;
pub mod watch;

use super::error::guarded;
use super::files::Given;
use super::models::{Blueprint, Network};
use super::streams::Key;
use super::{Images, LabData, LabError, Passes, Watch};
use crate::lab::data::upload;
use early::{Best, Judge};
use epsweep::plan::facts::Facts;
use epsweep::plan::question::{Question, TrainQuestion};
use epsweep::spec::{Method, Optimizer, Precision};
use methods::{Batch, Objective, Pair};
use optim::Updater;
use resume::{Folder, Memory, Place, Saved};
use std::time::Instant;
use tch::{Device, Tensor};
use watch::Sentinel;

/// A training run to do.
pub struct TrainRequest<'a> {
    pub question: &'a TrainQuestion,
    pub data: &'a LabData,
    /// What its files hold.
    pub given: Given<'a>,
    /// Epochs (from 1) whose weights are wanted, in any order; of a pretrained network 0.
    pub keep: &'a [u32],
    /// Where the run saves its state; without it, a run that is cut off starts over.
    pub resume: Option<Place<'a>>,
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
    /// The one that was asked for. Early stopping may have chosen another one's weights for it: see `facts`.
    pub epoch: u32,
    /// Of the epoch whose weights these are, as is the time.
    pub train_loss: f64,
    /// Training time from the start of the run to that epoch's end, over all attempts.
    pub train_seconds: f64,
    pub facts: Facts,
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
        if let Method::Pretrained {} = request.question.method {
            return pretrained::import(&request);
        }
        let mut run = Run::new(&request)?;
        run.finish(watch)?;
        Ok(TrainAnswer { checkpoints: run.checkpoints, passes: run.passes })
    })
}

/// What the carried perturbation is called in a saved state; no parameter has such a name.
const CARRIED: &str = "carried perturbation";

/// A training run under way.
struct Run<'a> {
    question: &'a TrainQuestion,
    keep: &'a [u32],
    train: Images,
    pair: Pair,
    /// The same weights in 32 bits, outside any graph: what is saved and judged.
    exact: Network,
    judge: Option<Judge>,
    sentinel: Option<Sentinel>,
    /// The first epoch after which the sentinel saw a collapse.
    collapsed: Option<u32>,
    updater: Updater,
    folder: Option<Folder>,
    checkpoints: Vec<Checkpoint>,
    passes: Passes,
    /// Free-AT's perturbation, on its way from one batch to the next.
    carried: Option<Tensor>,
    /// Sum over the current epoch's examples.
    loss_sum: f64,
    /// Time spent by earlier attempts.
    earlier_seconds: f64,
    started: Instant,
}

impl<'a> Run<'a> {
    fn new(request: &TrainRequest<'a>) -> Result<Run<'a>, LabError> {
        let TrainRequest { question, data, keep, given, resume, device } = *request;
        check(question, data, keep)?;
        let network = blueprint(question, data, device).initial(given, question.seed)?;
        if network.parameters().is_empty() {
            let what = "no parameter of the module wants gradients, so it cannot be trained";
            return Err(LabError::bad_input(format!("{what}; `method: pretrained` evaluates it")));
        }
        // Whatever does not fit is better known before hours of training than after.
        pretrained::check(&network, data, &data.train.slice(0, 2.min(data.train.count()), device))?;
        let trained = network.trainable();
        let (train, judge) = early::split(question, data.train.slice(0, data.train.count(), device))?;
        check_batches(question, train.count(), &trained)?;
        let exact = trained.frozen();
        let trained = trained.computing_in(question.options.precision);
        let mut run = Run {
            question,
            keep,
            sentinel: Sentinel::of(&question.method, question.seed, &train),
            train,
            pair: Pair { frozen: trained.frozen(), trained },
            exact,
            judge,
            collapsed: None,
            updater: Updater::new(&question.optimizer),
            folder: None,
            checkpoints: Vec::new(),
            passes: Passes::default(),
            carried: None,
            loss_sum: 0.0,
            earlier_seconds: 0.0,
            started: Instant::now(),
        };
        if let Some(place) = resume {
            let key = Question::Train(question.clone()).key().to_string();
            let (folder, saved) = Folder::open(place, &key, &run.own_epochs(), run.batches_per_epoch() * run.updates());
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
        self.pair.trained.restore(&mut tensors)?;
        self.pair.frozen = self.pair.trained.frozen();
        self.exact = self.pair.trained.frozen().computing_in(Precision::Fp32);
        let network = &self.exact;
        let Memory { collapsed, best, waited } = progress.memory;
        self.collapsed = collapsed;
        if let Some(judge) = &mut self.judge {
            judge.restore(network, (best, waited), &mut tensors)?;
        }
        self.carried = tensors.remove(CARRIED).map(|carried| carried.to_device(self.train.pixels.device()));
        self.updater.restore(progress.step, network.parameter_names(), network.parameters(), &mut tensors)?;
        (self.loss_sum, self.earlier_seconds, self.checkpoints) = (progress.loss_sum, progress.seconds, kept);
        Ok(())
    }

    fn finish(&mut self, watch: &mut dyn Watch) -> Result<(), LabError> {
        let (per_epoch, epochs) = (self.batches_per_epoch(), u64::from(self.question.epochs));
        let first = self.batches() / per_epoch;
        for epoch in first..epochs {
            if self.judge.as_ref().is_some_and(Judge::is_finished) {
                break;
            }
            let order = self.order(epoch);
            for batch in self.batches() % per_epoch..per_epoch {
                if watch.stop() {
                    self.save();
                    return Err(LabError::Stopped);
                }
                self.batch(epoch, batch, &order)?;
                // The end of an epoch is saved below, with its checkpoint.
                if batch + 1 < per_epoch && self.folder.as_ref().is_some_and(Folder::is_due) {
                    self.save();
                }
            }
            self.end_epoch(epoch as u32 + 1, watch)?;
        }
        self.checkpoints.retain(|checkpoint| self.keep.contains(&checkpoint.epoch));
        self.choose();
        Ok(())
    }

    /// One batch, with as many updates as the method makes of it.
    fn batch(&mut self, epoch: u64, batch: u64, order: &[i64]) -> Result<(), LabError> {
        let (size, question) = (self.question.batch_size as usize, self.question);
        let examples = order.chunks(size).nth(batch as usize).expect("as many batches as the order fills");
        let index = upload(&Tensor::from_slice(examples), self.train.pixels.device());
        let mut images = self.train.pixels.index_select(0, &index);
        let labels = self.train.labels.index_select(0, &index);
        if let Some(augment) = &question.options.augment {
            let key = Key::new("augmentation", question.seed).number(epoch);
            images = augment::augmented(augment, &images, examples, &key);
        }
        let count = examples.len() as u64;
        for _ in 0..self.updates() {
            let key = Key::new("training noise", question.seed).number(epoch).number(batch);
            let total = self.batches_per_epoch() * u64::from(question.epochs) * self.updates();
            let step = self.updater.steps();
            let progress = step as f64 / total as f64;
            let batch = Batch { images: &images, labels: &labels, key, epoch: epoch as u32, progress };
            let objective = Objective { method: &question.method, options: &question.options };
            let descent = objective.descend(&self.pair, &batch, &mut self.carried, &mut self.passes)?;
            if !descent.loss.is_finite() {
                return Err(LabError::Diverged { epoch: epoch as u32 + 1, step, loss: descent.loss });
            }
            self.loss_sum += descent.loss * count as f64 / self.updates() as f64;
            let factor = schedule::factor(&question.schedule, step, total);
            self.updater.step(self.pair.trained.parameters(), &descent.gradients, factor);
        }
        self.passes.examples += count;
        Ok(())
    }

    fn end_epoch(&mut self, epoch: u32, watch: &mut dyn Watch) -> Result<(), LabError> {
        let train_loss = self.loss_sum / self.train.count() as f64;
        // The last update can overflow without any loss having seen it.
        if !self.exact.is_finite() {
            return Err(LabError::Diverged { epoch, step: self.updater.steps(), loss: train_loss });
        }
        self.loss_sum = 0.0;
        let seconds = self.seconds();
        let facts = self.look(epoch, train_loss, seconds);
        if self.own_epochs().contains(&epoch) {
            let weights = self.exact.to_weights()?;
            let checkpoint = Checkpoint { epoch, train_loss, train_seconds: seconds, facts, weights };
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

    /// What sentinel and judge say of the weights after `epoch`.
    fn look(&mut self, epoch: u32, train_loss: f64, seconds: f64) -> Facts {
        let mut facts = Facts::default();
        if let Some(sentinel) = &self.sentinel {
            facts = sentinel.look(&self.exact, epoch, self.collapsed, &mut self.passes);
            self.collapsed = facts.collapsed;
        }
        if let Some(judge) = &mut self.judge {
            let now = Best { epoch, train_loss, seconds, facts: facts.clone() };
            facts.validation_accuracy = judge.look(&self.exact, now, &mut self.passes);
        }
        facts
    }

    /// The epochs to keep whose own weights are handed in. With early stopping the last one is answered
    /// by the best weights, and so are those that were never reached.
    fn own_epochs(&self) -> Vec<u32> {
        let last = self.question.epochs;
        self.keep.iter().copied().filter(|&epoch| self.judge.is_none() || epoch < last).collect()
    }

    fn choose(&mut self) {
        let Some((judge, best)) = self.judge.as_ref().and_then(|judge| Some((judge, judge.best.as_ref()?))) else {
            return;
        };
        let weights = judge.best_weights();
        let mut missing: Vec<u32> = self.keep.to_vec();
        missing.sort_unstable();
        missing.retain(|epoch| !self.checkpoints.iter().any(|checkpoint| checkpoint.epoch == *epoch));
        self.checkpoints.extend(missing.into_iter().map(|epoch| Checkpoint {
            epoch,
            train_loss: best.train_loss,
            train_seconds: best.seconds,
            facts: Facts { epoch: Some(best.epoch), ..best.facts.clone() },
            weights: weights.clone(),
        }));
    }

    fn save(&mut self) {
        let (step, seconds) = (self.updater.steps(), self.seconds());
        if let Some(folder) = &mut self.folder {
            let mut tensors = match self.exact.state() {
                Ok(tensors) => tensors,
                Err(error) => return tracing::warn!(%error, "cannot save the state of a training run"),
            };
            tensors.extend(self.updater.state(self.exact.parameter_names()));
            tensors.extend(self.judge.iter().flat_map(Judge::state));
            tensors.extend(self.carried.iter().map(|carried| (CARRIED.to_string(), carried.shallow_clone())));
            let (best, waited) = self.judge.as_ref().map_or((None, 0), |judge| (judge.best.clone(), judge.waited));
            let memory = Memory { collapsed: self.collapsed, best, waited };
            folder.save(step, self.loss_sum, seconds, memory, &tensors);
        }
    }

    /// The order in which `epoch` (from 0) sees the examples.
    fn order(&self, epoch: u64) -> Vec<i64> {
        let mut stream = Key::new("order of examples", self.question.seed).number(epoch).stream();
        stream.permutation(self.train.count())
    }

    fn seconds(&self) -> f64 {
        self.earlier_seconds + self.started.elapsed().as_secs_f64()
    }

    /// The last, smaller batch counts too.
    fn batches_per_epoch(&self) -> u64 {
        (self.train.count() as u64).div_ceil(u64::from(self.question.batch_size))
    }

    /// Updates of the weights per batch.
    fn updates(&self) -> u64 {
        u64::from(self.question.method.updates())
    }

    /// Batches that lie behind, over the whole run.
    fn batches(&self) -> u64 {
        self.updater.steps() / self.updates()
    }
}

/// The network that a question is about.
fn blueprint<'a>(question: &'a TrainQuestion, data: &LabData, device: Device) -> Blueprint<'a> {
    let TrainQuestion { model, normalize, .. } = question;
    Blueprint { model, normalize: normalize.as_ref(), shape: data.train.shape(), classes: data.classes, device }
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
    if question.epochs == 0 || question.batch_size == 0 || question.method.updates() == 0 {
        return Err(LabError::bad_input("training needs at least one epoch, one example per batch, one update"));
    }
    if let Some(epoch) = keep.iter().find(|&&epoch| epoch == 0 || epoch > question.epochs) {
        return Err(LabError::bad_input(format!("epoch {epoch} of a run of {} cannot be kept", question.epochs)));
    }
    let steps = match question.method {
        Method::Pgd { steps, .. } | Method::Trades { steps, .. } | Method::Mart { steps, .. } => steps,
        _ => 1,
    };
    if question.method.ball().is_some_and(|(epsilon, _)| !epsilon.is_finite() || epsilon <= 0.0) || steps == 0 {
        return Err(LabError::bad_input("a training attack needs a positive epsilon and at least one step"));
    }
    if question.options.awp.is_some() && question.method.awp_passes().is_none() {
        let kind = question.method.kind();
        return Err(LabError::bad_input(format!("adversarial weight perturbation does not go with {kind}")));
    }
    if let Optimizer::Sgd { nesterov: true, momentum: 0.0, .. } = question.optimizer {
        return Err(LabError::bad_input("Nesterov momentum needs a momentum"));
    }
    Ok(())
}
