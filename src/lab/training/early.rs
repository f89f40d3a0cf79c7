//! Early stopping on robust accuracy: a part of the training set is held out and attacked now and
//! then, the best epoch's weights are kept, and the run ends when they stay the best for long
//! (robust overfitting, Rice et al., arXiv 2002.11569).

use super::inner::InnerAttack;
use crate::lab::models::Network;
use crate::lab::streams::Key;
use crate::lab::{Images, LabError, Passes, weights};
use epsweep::plan::facts::Facts;
use epsweep::plan::question::TrainQuestion;
use epsweep::spec::{Norm, StopEarly};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use tch::Tensor;

/// What the best weights are called in a saved state, before their own names.
const PREFIX: &str = "best ";

/// The best epoch so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub epoch: u32,
    pub train_loss: f64,
    pub seconds: f64,
    /// With the validation accuracy that made it the best.
    pub facts: Facts,
}

/// The held-out examples, and how they are attacked.
pub struct Judge {
    rule: StopEarly,
    epochs: u32,
    examples: Images,
    attack: InnerAttack,
    start: Key,
    rows: i64,
    pub best: Option<Best>,
    /// Checks since then.
    pub waited: u32,
    best_state: Vec<(String, Tensor)>,
}

/// `train` without the held-out part, and who judges by that; which examples those are depends on
/// the seed alone.
///
/// # Errors
/// [`LabError::BadInput`] where nothing says how large the validation attack is.
pub fn split(question: &TrainQuestion, train: Images) -> Result<(Images, Option<Judge>), LabError> {
    let Some(rule) = question.options.stop_early.clone() else { return Ok((train, None)) };
    let ball = question.method.ball();
    let Some(epsilon) = rule.epsilon.or(ball.map(|(epsilon, _)| epsilon)) else {
        return Err(LabError::bad_input("early stopping of natural training needs an epsilon"));
    };
    let norm = rule.norm.or(ball.map(|(_, norm)| norm)).unwrap_or(Norm::Linf);
    if train.count() < 2 || !epsilon.is_finite() || epsilon <= 0.0 || rule.steps == 0 || rule.every == 0 {
        return Err(LabError::bad_input("early stopping needs two examples, a positive epsilon and at least one step"));
    }
    let held = rule.held_out(train.count() as u32) as usize;
    let order = Key::new("held out", question.seed).stream().permutation(train.count());
    let part = |positions: &[i64]| {
        let mut positions = positions.to_vec();
        positions.sort_unstable();
        let index = Tensor::from_slice(&positions).to_device(train.pixels.device());
        Images { pixels: train.pixels.index_select(0, &index), labels: train.labels.index_select(0, &index) }
    };
    let judge = Judge {
        attack: InnerAttack { epsilon, steps: rule.steps, step: None, norm },
        rule,
        epochs: question.epochs,
        examples: part(&order[..held]),
        start: Key::new("validation attack", question.seed),
        rows: i64::from(question.batch_size),
        best: None,
        waited: 0,
        best_state: Vec::new(),
    };
    Ok((part(&order[held..]), Some(judge)))
}

impl Judge {
    /// Judges the weights after `now.epoch`, if that is due; returns their accuracy.
    pub fn look(&mut self, network: &Network, mut now: Best, passes: &mut Passes) -> Option<f64> {
        if !self.rule.is_due(now.epoch, self.epochs) {
            return None;
        }
        let accuracy = self.accuracy(network, passes);
        let best = self.best.as_ref().and_then(|best| best.facts.validation_accuracy);
        if best.is_none_or(|best| accuracy > best) {
            now.facts.validation_accuracy = Some(accuracy);
            tracing::debug!(epoch = now.epoch, accuracy, "best on the held-out examples so far");
            let state = network.state().expect("a network that was read can be written");
            self.best_state = state.into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
            (self.best, self.waited) = (Some(now), 0);
        } else {
            self.waited += 1;
        }
        Some(accuracy)
    }

    /// In batches, from the same starts every time.
    fn accuracy(&self, network: &Network, passes: &mut Passes) -> f64 {
        let count = self.examples.count();
        let mut right = 0.0;
        for first in (0..count).step_by(self.rows as usize) {
            let last = (first + self.rows).min(count);
            let part = self.examples.slice(first, last, self.examples.pixels.device());
            let start = self.attack.random_start(&part.pixels, &self.start.clone().number(first as u64));
            right += self.attack.accuracy(network, &part, start, passes) * (last - first) as f64;
        }
        (right / count as f64).clamp(0.0, 1.0)
    }

    /// Whether the best has stayed the best for long enough.
    pub fn is_finished(&self) -> bool {
        self.waited >= self.rule.patience
    }

    /// The best weights, as a checkpoint holds them.
    pub fn best_weights(&self) -> Vec<u8> {
        weights::encode(&self.best_state, None)
    }

    /// The best weights, for a saved state.
    pub fn state(&self) -> impl Iterator<Item = (String, Tensor)> {
        self.best_state.iter().map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor.shallow_clone()))
    }

    /// Takes over what [`Judge::state`] gave, and what went with it.
    ///
    /// # Errors
    /// [`LabError::BadInput`] when tensors of the network are missing.
    pub fn restore(
        &mut self,
        network: &Network,
        (best, waited): (Option<Best>, u32),
        stored: &mut HashMap<String, Tensor>,
    ) -> Result<(), LabError> {
        if best.is_some() {
            for (name, own) in network.state()? {
                let Some(tensor) = stored.remove(&format!("{PREFIX}{name}")) else {
                    return Err(LabError::bad_input(format!("the saved state lacks the best {name}")));
                };
                self.best_state.push((name, tensor.to_device(own.device())));
            }
        }
        (self.best, self.waited) = (best, waited);
        Ok(())
    }
}
