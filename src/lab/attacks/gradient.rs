//! The gradient that attacks follow.

use crate::lab::models::Network;
use tch::{Kind, Tensor};

/// What one forward and backward pass tells about a batch.
pub struct Slope {
    /// `[n, classes]`, without a graph.
    pub logits: Tensor,
    /// Direction of steepest ascent of the cross-entropy at each image, up to a positive factor
    /// per example; the images' shape.
    pub gradient: Tensor,
}

/// Logits and the direction in which the cross-entropy of `labels` rises, at `images`.
///
/// `network` should be [`Network::frozen`]: then no gradient to the weights is computed.
pub fn slope(network: &Network, images: &Tensor, labels: &Tensor) -> Slope {
    ascend(network, images, |logits| margin(logits, labels))
}

/// Like [`slope`], for another objective of the logits; it is summed over the batch.
pub fn ascend(network: &Network, images: &Tensor, objective: impl FnOnce(&Tensor) -> Tensor) -> Slope {
    let leaf = images.detach().set_requires_grad(true);
    let (logits, total) = tch::with_grad(|| {
        let logits = network.forward(&leaf);
        let total = objective(&logits).sum(Kind::Float);
        (logits, total)
    });
    let gradient = Tensor::run_backward(&[total], &[&leaf], false, false).swap_remove(0);
    Slope { logits: logits.detach(), gradient }
}

/// `log sum_{i != y} exp z_i - z_y` per example: `[n]`.
///
/// The cross-entropy is softplus of it, so the two have the same direction of ascent. But where a
/// network is so sure that the cross-entropy rounds to zero in 32 bits, its gradient vanishes and
/// an attack stands still; this one's does not. Networks would look robust for being confident.
pub fn margin(logits: &Tensor, labels: &Tensor) -> Tensor {
    let column = labels.unsqueeze(1);
    let others = logits.scatter_value(1, &column, f64::NEG_INFINITY);
    others.logsumexp([1], false) - logits.gather(1, &column, false).squeeze_dim(1)
}

/// Which class the network names: `[n]`.
pub fn predictions(logits: &Tensor) -> Vec<i64> {
    Vec::<i64>::try_from(logits.argmax(1, false)).expect("argmax gives one integer per row")
}
