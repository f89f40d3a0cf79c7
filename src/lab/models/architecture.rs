//! From a model's description to its layers and parameters.

use crate::lab::LabError;
use epsweep::spec::Model;
use tch::Tensor;

/// A network without weights.
#[derive(Debug, Clone)]
pub struct Architecture {
    pub layers: Vec<Layer>,
    pub parameters: Vec<ParameterSpec>,
}

/// A parameter, by PyTorch's naming and layout.
#[derive(Debug, Clone)]
pub struct ParameterSpec {
    pub name: String,
    /// `[out, in]` or `[out, in, height, width]` for weights, `[out]` for biases.
    pub shape: Vec<i64>,
    /// Inputs that one output sums over; sets the scale of the initial values.
    pub fan_in: i64,
}

/// One step of a forward pass. `weight` and `bias` are positions in the parameter list.
#[derive(Debug, Clone)]
pub enum Layer {
    /// Relabels the memory of NCHW images as channels-last, which convolutions then keep.
    ///
    /// In PyTorch's default layout, pooling is scalar code on CPU and takes longer than convolving.
    ChannelsLast,
    Flatten,
    Affine {
        weight: usize,
        bias: usize,
    },
    Convolution {
        weight: usize,
        bias: usize,
        padding: i64,
    },
    /// Maximum over 2x2 windows, a last odd row or column dropped.
    MaxPool,
    Relu,
}

impl Layer {
    pub(super) fn forward(&self, parameters: &[Tensor], input: &Tensor) -> Tensor {
        match *self {
            // `contiguous` makes the strides explicit; with one channel it copies nothing.
            Layer::ChannelsLast => channels_last(input),
            // Reads channels-first whatever the memory layout, as PyTorch does.
            Layer::Flatten => input.flatten(1, -1),
            Layer::Affine { weight, bias } => input.linear(&parameters[weight], Some(&parameters[bias])),
            Layer::Convolution { weight, bias, padding } => {
                input.conv2d(&parameters[weight], Some(&parameters[bias]), [1, 1], [padding; 2], [1, 1], 1)
            }
            Layer::MaxPool => input.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false),
            Layer::Relu => input.relu(),
        }
    }
}

fn channels_last(images: &Tensor) -> Tensor {
    let size = images.size();
    if size[1] == 1 {
        // One channel: the same memory; only the strides must say it, or libtorch assumes NCHW.
        return images.contiguous().view([size[0], size[2], size[3], 1]).permute([0, 3, 1, 2]);
    }
    images.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

impl Architecture {
    pub(super) fn new(model: &Model, shape: [i64; 3], classes: i64) -> Result<Architecture, LabError> {
        let mut builder = Builder { layers: Vec::new(), parameters: Vec::new() };
        let pixels: i64 = shape.iter().product();
        match model {
            Model::Linear {} => {
                builder.layers.push(Layer::Flatten);
                builder.affine("fc", pixels, classes);
            }
            Model::Mlp { hidden } => {
                builder.layers.push(Layer::Flatten);
                let mut width = pixels;
                for (position, &next) in hidden.iter().enumerate() {
                    builder.affine(&format!("fc{}", position + 1), width, i64::from(next));
                    builder.layers.push(Layer::Relu);
                    width = i64::from(next);
                }
                builder.affine(&format!("fc{}", hidden.len() + 1), width, classes);
            }
            Model::Smallcnn { channels, hidden } => {
                builder.smallcnn(shape, channels.map(i64::from), i64::from(*hidden), classes)?;
            }
        }
        Ok(Architecture { layers: builder.layers, parameters: builder.parameters })
    }
}

struct Builder {
    layers: Vec<Layer>,
    parameters: Vec<ParameterSpec>,
}

impl Builder {
    /// Appends `name.weight` and `name.bias`, and returns their positions.
    fn parameters(&mut self, name: &str, shape: Vec<i64>) -> (usize, usize) {
        let (outputs, fan_in) = (shape[0], shape[1..].iter().product());
        let weight = self.parameters.len();
        self.parameters.push(ParameterSpec { name: format!("{name}.weight"), shape, fan_in });
        self.parameters.push(ParameterSpec { name: format!("{name}.bias"), shape: vec![outputs], fan_in });
        (weight, weight + 1)
    }

    fn affine(&mut self, name: &str, inputs: i64, outputs: i64) {
        let (weight, bias) = self.parameters(name, vec![outputs, inputs]);
        self.layers.push(Layer::Affine { weight, bias });
    }

    fn convolution(&mut self, name: &str, inputs: i64, outputs: i64, kernel: i64) {
        let (weight, bias) = self.parameters(name, vec![outputs, inputs, kernel, kernel]);
        self.layers.push(Layer::Convolution { weight, bias, padding: kernel / 2 });
    }

    fn smallcnn(&mut self, shape: [i64; 3], widths: [i64; 2], hidden: i64, classes: i64) -> Result<(), LabError> {
        let [channels, height, width] = shape;
        if height.min(width) < 4 {
            return Err(LabError::bad_input(format!("smallcnn pools twice; {height}x{width} pixels are too few")));
        }
        let kernel = if height.min(width) < 16 { 3 } else { 5 };
        self.layers.push(Layer::ChannelsLast);
        self.convolution("conv1", channels, widths[0], kernel);
        // Pooling before ReLU gives the same numbers as after it, on a quarter of the values.
        self.layers.extend([Layer::MaxPool, Layer::Relu]);
        self.convolution("conv2", widths[0], widths[1], kernel);
        self.layers.extend([Layer::MaxPool, Layer::Relu, Layer::Flatten]);
        self.affine("fc1", widths[1] * (height / 4) * (width / 4), hidden);
        self.layers.push(Layer::Relu);
        self.affine("fc2", hidden, classes);
        Ok(())
    }
}
