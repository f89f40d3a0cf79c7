//! From what a question says of its network to the network: initialised, given, or of a checkpoint.

use super::script::Script;
use super::{Architecture, Layer, Network, architecture};
use crate::lab::files::{self, Given};
use crate::lab::{LabError, weights};
use epsweep::spec::{Model, Normalization};
use std::collections::HashMap;
use tch::{Device, Tensor};

/// A network as a question describes it.
#[derive(Debug, Clone, Copy)]
pub struct Blueprint<'a> {
    pub model: &'a Model,
    pub normalize: Option<&'a Normalization>,
    /// Channels, height, width.
    pub shape: [i64; 3],
    pub classes: i64,
    pub device: Device,
}

impl Blueprint<'_> {
    /// The network before training: its weights are given, or drawn with `seed`.
    ///
    /// # Errors
    /// [`LabError::BadInput`] when the images do not suit the model, or the given files do not.
    pub fn initial(&self, given: Given, seed: u64) -> Result<Network, LabError> {
        let loaded = given.weights.map(files::read_weights).transpose()?;
        if let Model::Torchscript(_) = self.model {
            let file = given.module.ok_or_else(|| LabError::bad_input("the module's file was not sent along"))?;
            return self.script(file, loaded);
        }
        let architecture = self.architecture()?;
        match loaded {
            None => Ok(Network::initialised(&architecture, seed, self.device)),
            Some(stored) => {
                let values = fit(&expected(&architecture), stored)?;
                let (parameters, buffers) = architecture.split(values);
                Ok(Network::assemble(&architecture, parameters, buffers, self.device))
            }
        }
    }

    /// The network of a checkpoint.
    ///
    /// # Errors
    /// [`LabError::BadInput`] when it is another network's.
    pub fn of_checkpoint(&self, bytes: &[u8]) -> Result<Network, LabError> {
        match self.model {
            Model::Torchscript(_) => {
                let script = Script::from_weights(&mut weights::decode(bytes)?.tensors, self.device)?;
                Ok(Network::of_script(script, self.first_layers()))
            }
            _ => Network::from_weights(&self.architecture()?, bytes, self.device),
        }
    }

    fn script(&self, file: &[u8], loaded: Option<HashMap<String, Tensor>>) -> Result<Network, LabError> {
        let script = Script::load(file, self.device)?;
        let Some(stored) = loaded else { return Ok(Network::of_script(script, self.first_layers())) };
        let mut own = Script::stored_values(file)?;
        let floats = own.iter().filter(|(_, tensor)| tensor.is_floating_point());
        let mut wanted: Vec<_> = floats.map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        wanted.sort();
        own.extend(wanted.iter().map(|(name, _)| name.clone()).zip(fit(&wanted, stored)?));
        let script = Script::load(&Script::with_values(file, &own)?, self.device)?;
        Ok(Network::of_script(script, self.first_layers()))
    }

    fn architecture(&self) -> Result<Architecture, LabError> {
        let mut architecture = architecture(self.model, self.shape, self.classes)?;
        architecture.layers.splice(0..0, self.first_layers());
        Ok(architecture)
    }

    fn first_layers(&self) -> Vec<Layer> {
        let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        let layer = |n: &Normalization| Layer::Normalize { mean: narrow(&n.mean), std: narrow(&n.std) };
        self.normalize.map(layer).into_iter().collect()
    }
}

/// Names and shapes of all that a checkpoint of `architecture` holds.
fn expected(architecture: &Architecture) -> Vec<(String, Vec<i64>)> {
    let parameters = architecture.parameters.iter().map(|spec| (spec.name.clone(), spec.shape.clone()));
    parameters.chain(architecture.buffers.iter().map(|spec| (spec.name.clone(), vec![spec.channels]))).collect()
}

/// The tensors that `wanted` names, in its order, out of `stored`.
///
/// Left over may be what PyTorch counts batches with, and the block of TRADES's WideResNet that its
/// forward pass never uses.
fn fit(wanted: &[(String, Vec<i64>)], mut stored: HashMap<String, Tensor>) -> Result<Vec<Tensor>, LabError> {
    let (mut values, mut missing, mut shaped) = (Vec::new(), Vec::new(), Vec::new());
    for (name, shape) in wanted {
        match stored.remove(name) {
            Some(tensor) if tensor.size() == *shape => values.push(tensor),
            Some(tensor) => shaped.push(format!("{name} has shape {:?}, not {shape:?}", tensor.size())),
            None => missing.push(name.clone()),
        }
    }
    let mut left: Vec<String> = stored.into_keys().collect();
    left.retain(|name| !name.ends_with("num_batches_tracked") && !name.starts_with("sub_block1."));
    left.sort();
    let complaints: Vec<String> = [("missing", missing), ("not of this model", left), ("of another shape", shaped)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{} {what}: {}", names.len(), listed(&names)))
        .collect();
    if !complaints.is_empty() {
        return Err(LabError::bad_input(format!("the weights do not fit the model: {}", complaints.join("; "))));
    }
    Ok(values)
}

/// The first few.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let rest = if names.len() > SHOWN { ", ..." } else { "" };
    format!("{}{rest}", names[..names.len().min(SHOWN)].join(", "))
}
