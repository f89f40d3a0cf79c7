//! The gradient that attacks follow.

use crate::lab::models::Network;
use tch::{Kind, Tensor};

/// What one forward and backward pass tells about a batch.
pub struct Slope {
    /// `[n, classes]`, without a graph.
    pub logits: Tensor,
    /// The objective, `[n]`; empty after a forward pass alone.
    pub values: Tensor,
    /// Its gradient at each image, the images' shape; empty after a forward pass alone.
    pub gradient: Tensor,
}

/// Logits, and an objective of them with its gradient at `images`; it is summed over the batch.
///
/// `network` should be [`Network::frozen`]: then no gradient to the weights is computed.
pub fn ascend(network: &Network, images: &Tensor, objective: impl FnOnce(&Tensor) -> Tensor) -> Slope {
    let leaf = images.detach().set_requires_grad(true);
    let (logits, values, total) = tch::with_grad(|| {
        let logits = network.forward(&leaf);
        let values = objective(&logits);
        let total = values.sum(Kind::Float);
        (logits, values, total)
    });
    let gradient = Tensor::run_backward(&[total], &[&leaf], false, false).swap_remove(0);
    Slope { logits: logits.detach(), values: values.detach(), gradient }
}

/// The mean of several looks at the same batch; the logits are the last one's.
pub fn average(samples: u32, once: impl Fn() -> Slope) -> Slope {
    let mut mean = once();
    for sample in 1..samples {
        let next = once();
        let share = 1.0 / f64::from(sample + 1);
        let (values, gradient) = (next.values - &mean.values, next.gradient - &mean.gradient);
        mean = Slope {
            logits: next.logits,
            values: &mean.values + values * share,
            gradient: &mean.gradient + gradient * share,
        };
    }
    mean
}

/// A forward pass alone.
pub fn look(network: &Network, images: &Tensor) -> Slope {
    Slope { logits: network.forward(images), values: Tensor::new(), gradient: Tensor::new() }
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

/// The difference of logits ratio (arXiv 2003.01690, eq. 6): `[n]`, positive where misclassified.
///
/// `-(z_y - max_{i != y} z_i) / (z_(1) - z_(3) + 1e-12)` with `z_(k)` the k-th largest logit: it does
/// not change when the logits are scaled or shifted. Needs three classes.
pub fn difference_ratio(logits: &Tensor, labels: &Tensor) -> Tensor {
    let column = labels.unsqueeze(1);
    let others = logits.scatter_value(1, &column, f64::NEG_INFINITY).amax([1], false);
    let sorted = logits.sort(1, true).0;
    (others - logits.gather(1, &column, false).squeeze_dim(1)) / (rank(&sorted, 1) - rank(&sorted, 3) + RATIO_ROOM)
}

/// The same towards one class (eq. 7): `-(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12)`; `targets`
/// is `[n]`. Needs four classes.
pub fn targeted_difference_ratio(logits: &Tensor, labels: &Tensor, targets: &Tensor) -> Tensor {
    let sorted = logits.sort(1, true).0;
    let width = rank(&sorted, 1) - (rank(&sorted, 3) + rank(&sorted, 4)) * 0.5 + RATIO_ROOM;
    towards(logits, labels, targets) / width
}

/// `z_t - z_y`: `[n]`.
pub fn towards(logits: &Tensor, labels: &Tensor, targets: &Tensor) -> Tensor {
    let of = |classes: &Tensor| logits.gather(1, &classes.unsqueeze(1), false).squeeze_dim(1);
    of(targets) - of(labels)
}

/// Keeps the ratios defined where all logits are equal.
const RATIO_ROOM: f64 = 1e-12;

/// The `k`-th largest logit, from 1, of sorted ones.
fn rank(sorted: &Tensor, k: i64) -> Tensor {
    sorted.select(1, k - 1)
}

/// `max_{i != y} z_i - z_y` per example: `[n]`, positive where misclassified.
pub fn best_other(logits: &Tensor, labels: &Tensor) -> Tensor {
    let column = labels.unsqueeze(1);
    let others = logits.scatter_value(1, &column, f64::NEG_INFINITY).amax([1], false);
    others - logits.gather(1, &column, false).squeeze_dim(1)
}

/// `z_y - max_{i != y} z_i` per example: not positive where misclassified.
pub fn margins(logits: &Tensor, labels: &Tensor) -> Vec<f32> {
    let margins = -best_other(logits, labels);
    Vec::<f32>::try_from(margins.to_kind(Kind::Float)).expect("one margin per row")
}

/// Which class the network names: `[n]`.
pub fn predictions(logits: &Tensor) -> Vec<i64> {
    Vec::<i64>::try_from(logits.argmax(1, false)).expect("argmax gives one integer per row")
}
