//! A feed-forward network as a list of steps in 64 bits: what bounds are computed on.

use crate::lab::LabError;
use crate::lab::models::{Layer, Network};
use tch::{Device, Kind, Tensor};

/// A network's steps, from image to logits.
#[derive(Debug)]
pub struct Program {
    pub steps: Vec<Step>,
}

/// One step. Tensors are 64-bit copies of the weights; absolute values stand beside them because
/// every interval needs both.
#[derive(Debug)]
pub enum Step {
    Flatten,
    /// `[out, in]` and `[out]`.
    Affine {
        weight: Tensor,
        absolute: Tensor,
        bias: Tensor,
    },
    /// `[out, in, k, k]` and `[out]`, stride 1.
    Convolution {
        weight: Tensor,
        absolute: Tensor,
        bias: Tensor,
        padding: i64,
    },
    /// Maximum over 2x2 windows, a last odd row or column dropped.
    MaxPool,
    Relu,
}

impl Program {
    /// # Errors
    /// [`LabError::BadInput`] when the network has a layer for which no bounds are known.
    pub fn new(network: &Network) -> Result<Program, LabError> {
        let parameters = network.parameters();
        let double = |position: usize| parameters[position].detach().to_kind(Kind::Double);
        let mut steps = Vec::new();
        for layer in network.layers() {
            steps.push(match layer {
                Layer::Normalize { mean, std } => normalization(mean, std, parameters[0].device()),
                // A memory layout, not a computation.
                Layer::ChannelsLast => continue,
                Layer::Flatten => Step::Flatten,
                Layer::Affine { weight, bias } => {
                    let weight = double(*weight);
                    Step::Affine { absolute: weight.abs(), weight, bias: double(*bias) }
                }
                Layer::Convolution { weight, bias, stride: 1, padding } => {
                    let weight = double(*weight).contiguous();
                    let none = || Tensor::zeros([weight.size()[0]], (Kind::Double, weight.device()));
                    let bias = bias.map_or_else(none, double);
                    Step::Convolution { absolute: weight.abs(), weight, bias, padding: *padding }
                }
                Layer::MaxPool => Step::MaxPool,
                Layer::Relu => Step::Relu,
                other => return Err(LabError::bad_input(format!("there are no bounds for the layer {other:?}"))),
            });
        }
        Ok(Program { steps })
    }
}

/// `(x - mean) / std` as a convolution of one pixel: a diagonal of `1 / std`. In 32 bits the two
/// operations round twice; a sum of one product or more is given room for three.
fn normalization(mean: &[f32], std: &[f32], device: Device) -> Step {
    let double = |values: &[f32]| Tensor::from_slice(values).to_kind(Kind::Double).to_device(device);
    let scale = double(std).reciprocal();
    let bias = (double(mean) * &scale).neg();
    let weight = scale.diag(0).unsqueeze(-1).unsqueeze(-1);
    Step::Convolution { absolute: weight.abs(), weight, bias, padding: 0 }
}

impl Step {
    /// Whether the step is a linear map with an offset, so that nothing is lost by going back through it.
    pub fn is_linear(&self) -> bool {
        !matches!(self, Step::MaxPool | Step::Relu)
    }

    /// The step's values; for steps without weights.
    fn plain(&self, values: &Tensor) -> Tensor {
        match self {
            Step::Flatten => values.flatten(1, -1),
            Step::MaxPool => values.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false),
            Step::Relu => values.relu(),
            Step::Affine { .. } | Step::Convolution { .. } => values.shallow_clone(),
        }
    }

    /// The linear part, with the weights or with their absolute values.
    fn linear(&self, values: &Tensor, absolute: bool) -> Tensor {
        let none = || None::<&Tensor>;
        match self {
            Step::Affine { weight, absolute: positive, .. } => {
                values.linear(if absolute { positive } else { weight }, none())
            }
            Step::Convolution { weight, absolute: positive, padding, .. } => {
                let weight = if absolute { positive } else { weight };
                values.conv2d(weight, none(), [1, 1], [*padding; 2], [1, 1], 1)
            }
            _ => self.plain(values),
        }
    }

    /// Terms that one output sums.
    fn fan_in(&self) -> i64 {
        match self {
            Step::Affine { weight, .. } | Step::Convolution { weight, .. } => weight.size()[1..].iter().product(),
            _ => 0,
        }
    }
}

/// What is known about a batch of values, each `[n, ...]` in 64 bits.
#[derive(Debug)]
pub struct Bounds {
    pub lower: Tensor,
    pub upper: Tensor,
    /// How far a computation in 32 bits can be from exact arithmetic.
    pub error: Tensor,
}

/// Half the distance between 1 and the next 32-bit number.
const UNIT: f64 = 5.960_464_477_539_063e-8;

impl Bounds {
    /// Through one step, by interval arithmetic (arXiv 1810.12715); the error by the standard
    /// analysis of sums, which holds for every order of summation: a sum of n products in 32 bits is
    /// off by at most `g (|w| |x| + |b|)`, `g = (n + 2) u / (1 - (n + 2) u)`.
    pub fn through(&self, step: &Step) -> Bounds {
        let offset = match step {
            Step::Affine { bias, .. } => bias.shallow_clone(),
            Step::Convolution { bias, .. } => bias.view([1, -1, 1, 1]),
            _ => {
                let [lower, upper, error] = [&self.lower, &self.upper, &self.error].map(|values| step.plain(values));
                // A rectifier moves no error up.
                let error = if matches!(step, Step::Relu) { self.error.shallow_clone() } else { error };
                return Bounds { lower, upper, error };
            }
        };
        let centre = step.linear(&((&self.upper + &self.lower) * 0.5), false) + &offset;
        let radius = step.linear(&((&self.upper - &self.lower) * 0.5), true);
        let carried = step.linear(&self.error, true);
        let largest = self.lower.abs().maximum(&self.upper.abs());
        let size = step.linear(&largest, true) + offset.abs();
        let terms = (step.fan_in() + 2) as f64 * UNIT;
        let error = &carried + (size + &carried) * (terms / (1.0 - terms));
        Bounds { lower: &centre - &radius, upper: centre + radius, error }
    }

    /// The tighter of two bounds on the same values, side by side.
    pub fn tighten(&mut self, lower: &Tensor, upper: &Tensor) {
        self.lower = self.lower.maximum(&lower.view_as(&self.lower));
        self.upper = self.upper.minimum(&upper.view_as(&self.upper));
    }
}
