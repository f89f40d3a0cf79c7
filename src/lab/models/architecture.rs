//! From a model's description to its layers, parameters and buffers.

use super::layer::Layer;
use super::{convolutional, plain, residual, transformer};
use crate::lab::LabError;
use epsweep::spec::Model;
use tch::Tensor;

/// A network without weights.
#[derive(Debug, Clone, Default)]
pub struct Architecture {
    pub layers: Vec<Layer>,
    pub parameters: Vec<ParameterSpec>,
    /// What is kept and saved beside the parameters but not trained: running means and variances.
    pub buffers: Vec<BufferSpec>,
}

/// A parameter, by PyTorch's naming and layout.
#[derive(Debug, Clone)]
pub struct ParameterSpec {
    pub name: String,
    /// `[out, in]` or `[out, in, height, width]` for weights, `[out]` for biases.
    pub shape: Vec<i64>,
    pub initial: Initial,
}

/// What a parameter is before training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// PyTorch's default for affine maps and convolutions: `kaiming_uniform_` with a = sqrt(5) is
    /// U(-b, b) with b = 1 / sqrt(fan_in), as is the bias's rule. `fan_in` is how many inputs one output sums over.
    Uniform {
        fan_in: i64,
    },
    Normal {
        deviation: f64,
    },
    Constant(f64),
}

/// A buffer, by PyTorch's naming: `[channels]`.
#[derive(Debug, Clone)]
pub struct BufferSpec {
    pub name: String,
    pub channels: i64,
    pub initial: f64,
}

impl Architecture {
    /// Parameters and buffers, out of both in this order.
    pub(super) fn split(&self, mut values: Vec<Tensor>) -> (Vec<Tensor>, Vec<Tensor>) {
        let buffers = values.split_off(self.parameters.len());
        (values, buffers)
    }
}

/// The architecture of `model` for images of `shape` (channels, height, width).
///
/// # Errors
/// [`LabError::BadInput`] when the images do not suit the model.
pub fn architecture(model: &Model, shape: [i64; 3], classes: i64) -> Result<Architecture, LabError> {
    let mut builder = Builder::default();
    match model {
        Model::Linear {} => plain::linear(&mut builder, shape, classes),
        Model::Mlp { hidden } => plain::mlp(&mut builder, shape, hidden, classes),
        Model::Smallcnn { channels, hidden } => {
            convolutional::smallcnn(&mut builder, shape, channels.map(i64::from), i64::from(*hidden), classes)?;
        }
        Model::Lenet5 {} => convolutional::lenet5(&mut builder, shape, classes)?,
        Model::Madry {} => convolutional::madry(&mut builder, shape, classes)?,
        Model::Preactresnet18 { width } => {
            residual::preactresnet18(&mut builder, shape, i64::from(*width), classes);
        }
        Model::Wrn { depth, width } => residual::wrn(&mut builder, shape, [*depth, *width].map(i64::from), classes),
        Model::Vit { patch, dim, depth, heads } => {
            let sizes = [*patch, *dim, *depth, *heads].map(i64::from);
            transformer::vit(&mut builder, shape, sizes, classes)?;
        }
        Model::Torchscript(_) => return Err(LabError::bad_input("a TorchScript module has no layers of ours")),
    }
    Ok(builder.architecture)
}

/// An architecture that grows layer by layer.
#[derive(Default)]
pub(super) struct Builder {
    architecture: Architecture,
}

impl Builder {
    pub fn push(&mut self, layers: impl IntoIterator<Item = Layer>) {
        self.architecture.layers.extend(layers);
    }

    /// Makes what `build` appends a list of its own.
    pub fn branch(&mut self, build: impl FnOnce(&mut Builder)) -> Vec<Layer> {
        let outer = std::mem::take(&mut self.architecture.layers);
        build(self);
        std::mem::replace(&mut self.architecture.layers, outer)
    }

    pub fn parameter(&mut self, name: String, shape: Vec<i64>, initial: Initial) -> usize {
        self.architecture.parameters.push(ParameterSpec { name, shape, initial });
        self.architecture.parameters.len() - 1
    }

    fn buffer(&mut self, name: String, channels: i64, initial: f64) -> usize {
        self.architecture.buffers.push(BufferSpec { name, channels, initial });
        self.architecture.buffers.len() - 1
    }

    pub fn affine(&mut self, name: &str, inputs: i64, outputs: i64) {
        let initial = Initial::Uniform { fan_in: inputs };
        self.affine_from(name, [inputs, outputs], initial, initial);
    }

    pub fn affine_from(&mut self, name: &str, [inputs, outputs]: [i64; 2], weight: Initial, bias: Initial) {
        let weight = self.parameter(format!("{name}.weight"), vec![outputs, inputs], weight);
        let bias = self.parameter(format!("{name}.bias"), vec![outputs], bias);
        self.push([Layer::Affine { weight, bias }]);
    }

    /// Stride 1, with a bias. Images keep their size when `padding` is half the kernel's.
    pub fn convolution(&mut self, name: &str, [inputs, outputs]: [i64; 2], kernel: i64, padding: i64) {
        let initial = Initial::Uniform { fan_in: inputs * kernel * kernel };
        let weight = self.parameter(format!("{name}.weight"), vec![outputs, inputs, kernel, kernel], initial);
        let bias = self.parameter(format!("{name}.bias"), vec![outputs], initial);
        self.push([Layer::Convolution { weight, bias: Some(bias), stride: 1, padding }]);
    }

    /// Without a bias, as before a batch normalisation.
    pub fn bare_convolution(
        &mut self,
        name: &str,
        [inputs, outputs]: [i64; 2],
        kernel: i64,
        stride: i64,
        initial: Initial,
    ) {
        let shape = vec![outputs, inputs, kernel, kernel];
        let weight = self.parameter(format!("{name}.weight"), shape, initial);
        self.push([Layer::Convolution { weight, bias: None, stride, padding: kernel / 2 }]);
    }

    pub fn batch_norm(&mut self, name: &str, channels: i64) {
        let weight = self.parameter(format!("{name}.weight"), vec![channels], Initial::Constant(1.0));
        let bias = self.parameter(format!("{name}.bias"), vec![channels], Initial::Constant(0.0));
        let mean = self.buffer(format!("{name}.running_mean"), channels, 0.0);
        let variance = self.buffer(format!("{name}.running_var"), channels, 1.0);
        self.push([Layer::BatchNorm { weight, bias, mean, variance }]);
    }

    pub fn layer_norm(&mut self, name: &str, width: i64) {
        let weight = self.parameter(format!("{name}.weight"), vec![width], Initial::Constant(1.0));
        let bias = self.parameter(format!("{name}.bias"), vec![width], Initial::Constant(0.0));
        self.push([Layer::LayerNorm { weight, bias }]);
    }
}
