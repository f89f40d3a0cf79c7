//! Networks: an architecture is a list of layers over named parameters.

mod architecture;

pub use architecture::{Architecture, Layer, ParameterSpec};

use super::{LabError, weights};
use crate::lab::streams::Key;
use epsweep::spec::Model;
use tch::{Device, Kind, Tensor};

/// A network with weights: NCHW images in `[0,1]` to logits.
#[derive(Debug)]
pub struct Network {
    layers: Vec<Layer>,
    names: Vec<String>,
    parameters: Vec<Tensor>,
}

impl Network {
    /// PyTorch's default initialisation, drawn from streams keyed by `seed` and parameter name.
    ///
    /// `kaiming_uniform_` with a = sqrt(5) is U(-b, b) with b = 1 / sqrt(fan_in), as is the bias's rule.
    pub fn initialised(architecture: &Architecture, seed: u64, device: Device) -> Network {
        let draw = |spec: &ParameterSpec| {
            let count = spec.shape.iter().product::<i64>() as usize;
            let bound = (spec.fan_in as f32).sqrt().recip();
            let mut values = Key::new("initial weights", seed).text(&spec.name).stream().symmetric(count);
            values.iter_mut().for_each(|value| *value *= bound);
            Tensor::from_slice(&values).view(spec.shape.as_slice())
        };
        let drawn = architecture.parameters.iter().map(draw).collect();
        Network::assemble(architecture, drawn, device)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`LabError::BadInput`] when a tensor is missing, superfluous, of another shape or not finite.
    pub fn from_weights(architecture: &Architecture, bytes: &[u8], device: Device) -> Result<Network, LabError> {
        let mut stored = weights::decode(bytes)?.tensors;
        let mut values = Vec::new();
        for spec in &architecture.parameters {
            let Some(tensor) = stored.remove(&spec.name) else {
                return Err(LabError::bad_input(format!("the weights have no tensor {}", spec.name)));
            };
            if tensor.size() != spec.shape {
                let (found, wanted) = (tensor.size(), &spec.shape);
                return Err(LabError::bad_input(format!("{} has shape {found:?}, not {wanted:?}", spec.name)));
            }
            if !all_finite(&tensor) {
                return Err(LabError::bad_input(format!("{} holds values that are not finite", spec.name)));
            }
            values.push(tensor);
        }
        match stored.keys().next() {
            Some(name) => Err(LabError::bad_input(format!("the weights hold {name}, which the model lacks"))),
            None => Ok(Network::assemble(architecture, values, device)),
        }
    }

    fn assemble(architecture: &Architecture, values: Vec<Tensor>, device: Device) -> Network {
        let place =
            |value: &Tensor| if value.dim() == 4 { channels_last(value, device) } else { value.to_device(device) };
        Network {
            layers: architecture.layers.clone(),
            names: architecture.parameters.iter().map(|spec| spec.name.clone()).collect(),
            parameters: values.iter().map(place).collect(),
        }
    }

    /// Logits `[n, classes]` of images `[n, channels, height, width]`.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        self.layers.iter().fold(images.shallow_clone(), |value, layer| layer.forward(&self.parameters, &value))
    }

    /// In the architecture's order.
    pub fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    /// The same weights in the same memory, outside any graph: a gradient to the input then costs
    /// no gradient to the weights.
    pub fn frozen(&self) -> Network {
        Network {
            layers: self.layers.clone(),
            names: self.names.clone(),
            parameters: self.parameters.iter().map(|parameter| parameter.detach()).collect(),
        }
    }

    /// Makes the parameters leaves of a graph, for training.
    pub fn trainable(self) -> Network {
        let parameters = self.parameters.iter().map(|parameter| parameter.set_requires_grad(true)).collect();
        Network { parameters, ..self }
    }

    /// A checkpoint: equal weights are equal bytes.
    pub fn to_weights(&self) -> Vec<u8> {
        weights::encode(&self.named_parameters(), None)
    }

    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        let named = self.names.iter().zip(&self.parameters);
        named.map(|(name, parameter)| (name.clone(), parameter.shallow_clone())).collect()
    }

    pub fn is_finite(&self) -> bool {
        self.parameters.iter().all(all_finite)
    }
}

/// The architecture of `model` for images of `shape` (channels, height, width).
///
/// # Errors
/// [`LabError::BadInput`] when the images are too small for the model's pooling.
pub fn architecture(model: &Model, shape: [i64; 3], classes: i64) -> Result<Architecture, LabError> {
    Architecture::new(model, shape, classes)
}

fn all_finite(tensor: &Tensor) -> bool {
    tensor.isfinite().all().int64_value(&[]) != 0
}

/// A copy that lies channels-last in memory, with the strides to say so even for one channel.
///
/// Convolution and pooling on CPU run up to twice as fast on it (see [`Layer::ChannelsLast`]).
fn channels_last(tensor: &Tensor, device: Device) -> Tensor {
    let size = tensor.size();
    let mut copy = Tensor::empty([size[0], size[2], size[3], size[1]], (Kind::Float, device)).permute([0, 3, 1, 2]);
    copy.copy_(tensor);
    copy
}
