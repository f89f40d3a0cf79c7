//! Update rules, by PyTorch's definitions, with a state of our own that can be saved.
//!
//! libtorch's C++ optimisers keep their state where `tch` cannot reach it, so they cannot resume.

use crate::lab::LabError;
use epsweep::spec::Optimizer;
use std::collections::HashMap;
use tch::Tensor;

/// An optimizer and what it remembers between steps.
#[derive(Debug)]
pub struct Updater {
    rule: Optimizer,
    /// Steps taken so far.
    steps: u64,
    /// Momentum (SGD), or first moments (AdamW); one per parameter, empty before the first step.
    first: Vec<Tensor>,
    /// Second moments (AdamW).
    second: Vec<Tensor>,
}

impl Updater {
    pub fn new(rule: &Optimizer) -> Updater {
        Updater { rule: rule.clone(), steps: 0, first: Vec::new(), second: Vec::new() }
    }

    /// One step on `parameters`, in place; `factor` scales the learning rate.
    pub fn step(&mut self, parameters: &[Tensor], gradients: &[Tensor], factor: f64) {
        self.steps += 1;
        match self.rule {
            Optimizer::Sgd { lr, momentum, weight_decay, nesterov } => {
                self.sgd(parameters, gradients, lr * factor, momentum, weight_decay, nesterov);
            }
            Optimizer::Adamw { lr, betas, eps, weight_decay } => {
                self.adamw(parameters, gradients, lr * factor, betas, eps, weight_decay);
            }
        }
    }

    fn sgd(
        &mut self,
        parameters: &[Tensor],
        gradients: &[Tensor],
        lr: f64,
        momentum: f64,
        weight_decay: f64,
        nesterov: bool,
    ) {
        let starting = self.first.is_empty();
        for (position, (parameter, gradient)) in parameters.iter().zip(gradients).enumerate() {
            // Another handle on the same weights: updates happen in place.
            let mut weight = parameter.detach();
            let mut update =
                if weight_decay == 0.0 { gradient.shallow_clone() } else { gradient + &weight * weight_decay };
            if momentum != 0.0 {
                if starting {
                    self.first.push(update.copy());
                } else {
                    let buffer = &mut self.first[position];
                    *buffer *= momentum;
                    *buffer += &update;
                }
                let buffer = &self.first[position];
                update = if nesterov { update + buffer * momentum } else { buffer.shallow_clone() };
            }
            weight -= update * lr;
        }
    }

    fn adamw(
        &mut self,
        parameters: &[Tensor],
        gradients: &[Tensor],
        lr: f64,
        [beta1, beta2]: [f64; 2],
        eps: f64,
        weight_decay: f64,
    ) {
        if self.first.is_empty() {
            self.first = parameters.iter().map(|parameter| parameter.detach().zeros_like()).collect();
            self.second = parameters.iter().map(|parameter| parameter.detach().zeros_like()).collect();
        }
        // Both moments start at zero; these undo the bias that this leaves.
        let steps = self.steps as f64;
        let (correction1, correction2) = (1.0 - beta1.powf(steps), (1.0 - beta2.powf(steps)).sqrt());
        for (position, (parameter, gradient)) in parameters.iter().zip(gradients).enumerate() {
            let mut weight = parameter.detach();
            let (mean, square) = (&mut self.first[position], &mut self.second[position]);
            weight *= 1.0 - lr * weight_decay;
            let _ = mean.lerp_(gradient, 1.0 - beta1);
            *square *= beta2;
            *square += gradient * gradient * (1.0 - beta2);
            let scale = square.sqrt() / correction2 + eps;
            weight -= &*mean / scale * (lr / correction1);
        }
    }

    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The state as named tensors, for [`Updater::restore`].
    pub fn state(&self, names: &[String]) -> Vec<(String, Tensor)> {
        let mut named = Vec::new();
        for (prefix, tensors) in [("first", &self.first), ("second", &self.second)] {
            named.extend(names.iter().zip(tensors).map(|(name, t)| (format!("{prefix}.{name}"), t.shallow_clone())));
        }
        named
    }

    /// Takes over a state that [`Updater::state`] gave; tensors are copied into the parameters' layout.
    ///
    /// # Errors
    /// [`LabError::BadInput`] when only some of the tensors are there, or of another shape.
    pub fn restore(
        &mut self,
        steps: u64,
        names: &[String],
        like: &[Tensor],
        stored: &mut HashMap<String, Tensor>,
    ) -> Result<(), LabError> {
        let mut take = |prefix: &str| -> Result<Vec<Tensor>, LabError> {
            let mut found = Vec::new();
            for (name, parameter) in names.iter().zip(like) {
                let Some(tensor) = stored.remove(&format!("{prefix}.{name}")) else { break };
                let mut slot = parameter.detach().zeros_like();
                slot.f_copy_(&tensor)?;
                found.push(slot);
            }
            match found.len() {
                0 => Ok(found),
                n if n == names.len() => Ok(found),
                n => Err(LabError::bad_input(format!("{n} of {} {prefix} moments", names.len()))),
            }
        };
        (self.first, self.second, self.steps) = (take("first")?, take("second")?, steps);
        Ok(())
    }
}
