//! Networks: an architecture is a list of layers over named parameters and buffers.
//!
//! | module | holds |
//! |---|---|
//! | [`layer`] | the steps of a forward pass |
//! | [`mod@architecture`] | from a model's description to layers; what parameters are called and begin as |
//! | [`blueprint`] | from a question to a network, its files included |
//! | [`inspect`] | what is odd about a network's answers |
//! | `script` | TorchScript modules |
//! | `plain`, `convolutional`, `residual`, `transformer` | one file per family of models |

pub mod architecture;
pub mod blueprint;
mod convolutional;
pub mod inspect;
pub mod layer;
mod plain;
mod residual;
mod script;
mod transformer;

pub use architecture::{Architecture, Initial, ParameterSpec, architecture};
pub use blueprint::Blueprint;
pub use layer::{Layer, Mode};

use super::{LabError, weights};
use crate::lab::streams::Key;
use epsweep::spec::Precision;
use layer::State;
use script::Script;
use std::collections::HashMap;
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

/// A network with weights: NCHW images in `[0,1]` to logits.
#[derive(Debug)]
pub struct Network {
    layers: Vec<Layer>,
    /// A module of somebody else's, after the layers; its parameters are among those below, its buffers not.
    script: Option<Rc<Script>>,
    /// Whether a pass may build a graph to the parameters.
    trains: bool,
    parameter_names: Vec<String>,
    parameters: Vec<Tensor>,
    buffer_names: Vec<String>,
    buffers: Vec<Tensor>,
    /// What its convolutions and affine maps compute with.
    kind: Kind,
}

impl Network {
    /// Initial weights, drawn from streams keyed by `seed` and parameter name.
    pub fn initialised(architecture: &Architecture, seed: u64, device: Device) -> Network {
        let parameters = architecture.parameters.iter().map(|spec| draw(spec, seed)).collect();
        let options = (Kind::Float, Device::Cpu);
        let buffers = architecture.buffers.iter().map(|spec| Tensor::full([spec.channels], spec.initial, options));
        Network::assemble(architecture, parameters, buffers.collect(), device)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`LabError::BadInput`] when a tensor is missing, superfluous, of another shape or not finite.
    pub fn from_weights(architecture: &Architecture, bytes: &[u8], device: Device) -> Result<Network, LabError> {
        let mut stored = weights::decode(bytes)?.tensors;
        let mut parameters = Vec::new();
        for spec in &architecture.parameters {
            parameters.push(take(&mut stored, &spec.name, &spec.shape)?);
        }
        let mut buffers = Vec::new();
        for spec in &architecture.buffers {
            buffers.push(take(&mut stored, &spec.name, &[spec.channels])?);
        }
        match stored.keys().next() {
            Some(name) => Err(LabError::bad_input(format!("the weights hold {name}, which the model lacks"))),
            None => Ok(Network::assemble(architecture, parameters, buffers, device)),
        }
    }

    fn assemble(architecture: &Architecture, parameters: Vec<Tensor>, buffers: Vec<Tensor>, device: Device) -> Network {
        let place =
            |value: &Tensor| if value.dim() == 4 { channels_last(value, device) } else { value.to_device(device) };
        Network {
            layers: architecture.layers.clone(),
            script: None,
            trains: false,
            parameter_names: architecture.parameters.iter().map(|spec| spec.name.clone()).collect(),
            parameters: parameters.iter().map(place).collect(),
            buffer_names: architecture.buffers.iter().map(|spec| spec.name.clone()).collect(),
            buffers: buffers.iter().map(|buffer| buffer.to_device(device)).collect(),
            kind: Kind::Float,
        }
    }

    fn of_script(script: Script, layers: Vec<Layer>) -> Network {
        let (parameter_names, parameters) =
            script.trainable.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).unzip();
        let (buffer_names, buffers) = (Vec::new(), Vec::new());
        Network {
            layers,
            script: Some(Rc::new(script)),
            trains: false,
            parameter_names,
            parameters,
            buffer_names,
            buffers,
            kind: Kind::Float,
        }
    }

    /// Logits `[n, classes]` of images `[n, channels, height, width]`, each by itself: what is evaluated.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        self.forward_in(Mode::Evaluation, images)
    }

    /// The same network, whose convolutions and affine maps compute in `precision`; the weights, and
    /// gradients to them, stay in 32 bits.
    pub fn computing_in(self, precision: Precision) -> Network {
        let kind = match precision {
            Precision::Fp32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        };
        Network { kind, ..self }
    }

    /// As [`Network::forward`], for images that the network has not shown to accept.
    ///
    /// # Errors
    /// What the network complains about.
    pub fn try_forward(&self, images: &Tensor) -> Result<Tensor, LabError> {
        let value = self.through_layers(images, Mode::Evaluation);
        match &self.script {
            None => Ok(value),
            Some(script) => script.forward(&value, Mode::Evaluation, self.trains),
        }
    }

    /// What a module answers in the mode that it was saved in; `None` for networks of our own.
    ///
    /// # Errors
    /// As [`Network::try_forward`].
    pub fn forward_as_saved(&self, images: &Tensor) -> Result<Option<Tensor>, LabError> {
        let Some(script) = &self.script else { return Ok(None) };
        script.forward_as_saved(&self.through_layers(images, Mode::Evaluation)).map(Some)
    }

    fn through_layers(&self, images: &Tensor, mode: Mode) -> Tensor {
        let state = State { parameters: &self.parameters, buffers: &self.buffers, kind: self.kind };
        layer::run(&self.layers, state, images, mode).to_kind(Kind::Float)
    }

    /// As [`Network::forward`], or as training sees the batch: normalised by its own statistics, which
    /// then enter the running ones. Without batch normalisation the two are the same.
    pub fn forward_in(&self, mode: Mode, images: &Tensor) -> Tensor {
        let value = self.through_layers(images, mode);
        match &self.script {
            None => value,
            // A panic, as any other operation of `tch` that fails: the lab turns both into errors.
            Some(script) => {
                script.forward(&value, mode, self.trains).unwrap_or_else(|error| panic!("{}", error.detail()))
            }
        }
    }

    /// Whether [`Mode::Training`] may compute anything else than [`Mode::Evaluation`].
    pub fn depends_on_mode(&self) -> bool {
        !self.buffers.is_empty() || self.script.is_some()
    }

    /// Whether most of it is code of somebody else's, which nothing but running it tells about.
    pub fn is_module(&self) -> bool {
        self.script.is_some()
    }

    /// In the order of the forward pass.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// One of [`Network::layers`] alone, in evaluation mode and 32 bits.
    pub fn apply(&self, layer: &Layer, input: &Tensor) -> Tensor {
        let state = State { parameters: &self.parameters, buffers: &self.buffers, kind: Kind::Float };
        layer::run(std::slice::from_ref(layer), state, input, Mode::Evaluation)
    }

    /// What batch normalisation remembers.
    pub fn buffers(&self) -> &[Tensor] {
        &self.buffers
    }

    /// In the architecture's order.
    pub fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    /// In the order of [`Network::parameters`].
    pub fn parameter_names(&self) -> &[String] {
        &self.parameter_names
    }

    /// The same weights in the same memory, outside any graph: a gradient to the input then costs
    /// no gradient to the weights.
    pub fn frozen(&self) -> Network {
        Network {
            layers: self.layers.clone(),
            script: self.script.clone(),
            trains: false,
            parameter_names: self.parameter_names.clone(),
            parameters: self.parameters.iter().map(|parameter| parameter.detach()).collect(),
            buffer_names: self.buffer_names.clone(),
            buffers: self.buffers.iter().map(|buffer| buffer.shallow_clone()).collect(),
            kind: self.kind,
        }
    }

    /// Makes the parameters leaves of a graph, for training.
    pub fn trainable(self) -> Network {
        let parameters = self.parameters.iter().map(|parameter| parameter.set_requires_grad(true)).collect();
        Network { parameters, trains: true, ..self }
    }

    /// A checkpoint: equal weights are equal bytes.
    ///
    /// # Errors
    /// When a module cannot be written down.
    pub fn to_weights(&self) -> Result<Vec<u8>, LabError> {
        Ok(weights::encode(&self.state()?, None))
    }

    /// Parameters and buffers, sharing memory; a module's as one tensor of bytes: all that a checkpoint holds.
    ///
    /// # Errors
    /// When a module cannot be written down.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>, LabError> {
        match &self.script {
            Some(script) => Ok(vec![(script::CONTENT.to_string(), Tensor::from_slice(&script.current()?))]),
            None => Ok(self.named_tensors()),
        }
    }

    fn named_tensors(&self) -> Vec<(String, Tensor)> {
        let buffers = self.buffer_names.iter().zip(&self.buffers);
        let named = self.parameter_names.iter().zip(&self.parameters).chain(buffers);
        named.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// Copies what [`Network::state`] gave earlier out of `stored` into the network's own memory.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape; some may have been copied then.
    pub fn restore(&mut self, stored: &mut HashMap<String, Tensor>) -> Result<(), LabError> {
        if let Some(script) = &self.script {
            let script = Script::from_weights(stored, script.device)?;
            let (layers, trains, kind) = (std::mem::take(&mut self.layers), self.trains, self.kind);
            *self = Network { trains, kind, ..Network::of_script(script, layers) };
            return Ok(());
        }
        for (name, own) in self.named_tensors() {
            let tensor = take(stored, &name, &own.size())?;
            own.detach().f_copy_(&tensor)?;
        }
        Ok(())
    }

    pub fn is_finite(&self) -> bool {
        self.parameters.iter().chain(&self.buffers).all(all_finite)
    }
}

fn draw(spec: &ParameterSpec, seed: u64) -> Tensor {
    let count = spec.shape.iter().product::<i64>() as usize;
    let mut stream = Key::new("initial weights", seed).text(&spec.name).stream();
    let values = match spec.initial {
        Initial::Uniform { fan_in } => {
            let bound = (fan_in as f32).sqrt().recip();
            let mut values = stream.symmetric(count);
            values.iter_mut().for_each(|value| *value *= bound);
            values
        }
        Initial::Normal { deviation } => {
            let mut values = stream.normals(count);
            values.iter_mut().for_each(|value| *value *= deviation as f32);
            values
        }
        Initial::Constant(value) => vec![value as f32; count],
    };
    Tensor::from_slice(&values).view(spec.shape.as_slice())
}

fn take(stored: &mut HashMap<String, Tensor>, name: &str, wanted: &[i64]) -> Result<Tensor, LabError> {
    let bad = |what: String| Err(LabError::bad_input(what));
    let Some(tensor) = stored.remove(name) else { return bad(format!("the weights have no tensor {name}")) };
    if tensor.size() != wanted {
        return bad(format!("{name} has shape {:?}, not {wanted:?}", tensor.size()));
    }
    if !all_finite(&tensor) {
        return bad(format!("{name} holds values that are not finite"));
    }
    Ok(tensor)
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
