//! Adversarial weight perturbation (Wu et al., arXiv 2004.05884): the loss is descended at weights
//! that have first been moved against it.
//!
//! Only weights of more than one dimension move, each by gamma times its own length along its own
//! gradient. Weights are put back from a copy: adding and subtracting would leave rounding behind.

use crate::lab::models::Network;
use tch::Tensor;

/// Keeps the division defined where a gradient is 0, as in the authors' code.
const TINY: f64 = 1e-20;

/// Moves the weights up `ascent` in place, and returns what they were; `None` for those that stay.
pub fn add(parameters: &[Tensor], ascent: &[Tensor], gamma: f64) -> Vec<Option<Tensor>> {
    let mut saved = Vec::with_capacity(parameters.len());
    for (parameter, gradient) in parameters.iter().zip(ascent) {
        if parameter.dim() <= 1 {
            saved.push(None);
            continue;
        }
        let mut weight = parameter.detach();
        saved.push(Some(weight.copy()));
        let scale = weight.norm() / (gradient.norm() + TINY) * gamma;
        weight += gradient * scale;
    }
    saved
}

/// Puts the weights back.
pub fn remove(parameters: &[Tensor], saved: &[Option<Tensor>]) {
    for (parameter, before) in parameters.iter().zip(saved) {
        if let Some(before) = before {
            parameter.detach().copy_(before);
        }
    }
}

/// The running statistics of batch normalisation, and what they were.
pub struct Statistics(Vec<[Tensor; 2]>);

impl Statistics {
    pub fn of(network: &Network) -> Statistics {
        Statistics(network.buffers().iter().map(|buffer| [buffer.shallow_clone(), buffer.copy()]).collect())
    }

    /// Puts them back.
    pub fn restore(&self) {
        for [buffer, before] in &self.0 {
            buffer.shallow_clone().copy_(before);
        }
    }
}
