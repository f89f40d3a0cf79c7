//! What is odd about a network, as far as its answers to real images show it: facts that decide how far
//! an evaluation of it can be trusted.

use super::Network;
use crate::lab::LabError;
use tch::{Kind, Tensor};

/// Sums of probabilities may be off by rounding.
const ROUNDING: f64 = 1e-3;

/// What was noticed; all false for a network as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// It returns probabilities instead of logits: gradients vanish where it is sure, and attacks that
    /// scale with logits mean something else.
    pub softmax_outputs: bool,
    /// The same images get other answers the second time: a lucky draw passes for an adversarial example,
    /// and a single gradient says little.
    pub random_outputs: bool,
    /// The file was saved in training mode. It is evaluated in evaluation mode, so its answers here differ
    /// from those in the program that saved it.
    pub train_mode: bool,
}

impl Facts {
    /// One sentence for each that is true.
    pub fn notes(&self) -> Vec<&'static str> {
        let all = [
            (self.softmax_outputs, "the network returns probabilities (softmax), not logits"),
            (self.random_outputs, "the network's answers to the same images differ from pass to pass"),
            (self.train_mode, "the module was saved in training mode; it is evaluated in evaluation mode"),
        ];
        all.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| note).collect()
    }
}

/// Looks at what `network` makes of `images`, `[n, channels, height, width]`. Two or three passes.
///
/// # Errors
/// What the network complains about.
pub fn inspect(network: &Network, images: &Tensor) -> Result<Facts, LabError> {
    let first = network.try_forward(images)?;
    let second = network.try_forward(images)?;
    let saved = network.forward_as_saved(images)?;
    let softmax_outputs = is_distribution(&first);
    let random_outputs = first != second;
    // A random network's answers would differ in any mode.
    let train_mode = !random_outputs && saved.is_some_and(|saved| saved != first);
    Ok(Facts { softmax_outputs, random_outputs, train_mode })
}

fn is_distribution(outputs: &Tensor) -> bool {
    let sums = outputs.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
    let off = (sums - 1.0).abs().max().double_value(&[]);
    outputs.min().double_value(&[]) >= 0.0 && off < ROUNDING
}
