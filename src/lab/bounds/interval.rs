//! Interval bound propagation (Gowal et al., arXiv 1810.12715): from bounds on the pixels to bounds
//! on every value of a feed-forward network.
//!
//! Bounds hold in exact arithmetic. In 32 bits they are off by rounding, about 1e-6 of the values'
//! size: who claims a certificate has to leave room for it. All functions keep the graph that they
//! are called in, so bounds can be trained on.

use crate::lab::LabError;
use crate::lab::models::{Layer, Network};
use tch::Tensor;

/// Bounds on each of a batch of values: `lower <= value <= upper`.
#[derive(Debug)]
pub struct Interval {
    pub lower: Tensor,
    pub upper: Tensor,
}

impl Interval {
    /// All images of `[0,1]` within `epsilon` (Linf, pixel units) of `images`.
    pub fn ball(images: &Tensor, epsilon: f64) -> Interval {
        Interval { lower: (images - epsilon).clamp(0.0, 1.0), upper: (images + epsilon).clamp(0.0, 1.0) }
    }

    fn map(&self, monotone: impl Fn(&Tensor) -> Tensor) -> Interval {
        Interval { lower: monotone(&self.lower), upper: monotone(&self.upper) }
    }

    /// Through an affine map: `affine` with its bias for the centre, `absolute` with the absolute
    /// weights and no bias for the radius.
    fn affine(&self, affine: impl Fn(&Tensor) -> Tensor, absolute: impl Fn(&Tensor) -> Tensor) -> Interval {
        let centre = affine(&((&self.upper + &self.lower) * 0.5));
        let radius = absolute(&((&self.upper - &self.lower) * 0.5));
        Interval { lower: &centre - &radius, upper: centre + radius }
    }
}

/// Bounds on the values after `layer` of `network`, in evaluation mode.
///
/// # Errors
/// [`LabError::BadInput`] for a layer without bounds.
pub fn through(network: &Network, layer: &Layer, input: &Interval) -> Result<Interval, LabError> {
    let none = || None::<&Tensor>;
    let parameters = network.parameters();
    Ok(match layer {
        // Standard deviations are positive, so normalisation keeps the order too.
        Layer::Normalize { .. }
        | Layer::ChannelsLast
        | Layer::Flatten
        | Layer::MaxPool
        | Layer::Relu
        | Layer::GlobalAverage => input.map(|values| network.apply(layer, values)),
        Layer::Affine { weight, .. } => {
            let weight = parameters[*weight].abs();
            input.affine(|centre| network.apply(layer, centre), |radius| radius.linear(&weight, none()))
        }
        Layer::Convolution { weight, stride, padding, .. } => {
            let weight = parameters[*weight].abs();
            input.affine(
                |centre| network.apply(layer, centre),
                |radius| radius.conv2d(&weight, none(), [*stride; 2], [*padding; 2], [1, 1], 1),
            )
        }
        // Each channel is scaled by a number of its own: the two ends, whichever is the larger then.
        Layer::BatchNorm { .. } => {
            let ends = input.map(|values| network.apply(layer, values));
            Interval { lower: ends.lower.minimum(&ends.upper), upper: ends.lower.maximum(&ends.upper) }
        }
        Layer::Sum(branches) => {
            let mut sum: Option<Interval> = None;
            for branch in branches {
                let part = propagate(network, branch, input)?;
                sum = Some(match sum {
                    None => part,
                    Some(sum) => Interval { lower: sum.lower + part.lower, upper: sum.upper + part.upper },
                });
            }
            sum.ok_or_else(|| LabError::bad_input("a sum without branches has no bounds"))?
        }
        other => return Err(LabError::bad_input(format!("interval bounds do not know the layer {other:?}"))),
    })
}

/// Bounds on the values after `layers` of `network`, one after the other; on the logits `[n, classes]`
/// after all of them.
///
/// # Errors
/// [`LabError::BadInput`] where a layer has no bounds.
pub fn propagate(network: &Network, layers: &[Layer], input: &Interval) -> Result<Interval, LabError> {
    let start = Interval { lower: input.lower.shallow_clone(), upper: input.upper.shallow_clone() };
    layers.iter().try_fold(start, |values, layer| through(network, layer, &values))
}

/// Upper bounds on how far each logit can rise above that of its label, `[n, classes]`; 0 at the
/// label itself. An example is certified where all others are negative.
///
/// The last layer is not bounded but composed with the difference of two logits (the elision of
/// section 3): bounding each logit by itself would count the same uncertainty twice.
///
/// # Errors
/// [`LabError::BadInput`] where a layer has no bounds, or the last one is not affine.
pub fn worst_logits(network: &Network, input: &Interval, labels: &Tensor) -> Result<Tensor, LabError> {
    let Some((&Layer::Affine { weight, bias }, before)) = network.layers().split_last() else {
        return Err(LabError::bad_input("interval bounds need a network that ends in an affine layer"));
    };
    let hidden = propagate(network, before, input)?;
    let (weight, bias) = (&network.parameters()[weight], &network.parameters()[bias]);
    // [n, classes, features]: the row of each class minus that of the label.
    let rows = weight.unsqueeze(0) - weight.index_select(0, labels).unsqueeze(1);
    let offsets = bias.unsqueeze(0) - bias.index_select(0, labels).unsqueeze(1);
    let centre = ((&hidden.upper + &hidden.lower) * 0.5).unsqueeze(-1);
    let radius = ((&hidden.upper - &hidden.lower) * 0.5).unsqueeze(-1);
    Ok((rows.matmul(&centre) + rows.abs().matmul(&radius)).squeeze_dim(-1) + offsets)
}
