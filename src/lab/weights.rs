//! Checkpoints as safetensors bytes, in PyTorch's names and layouts.
//!
//! `safetensors.torch.load_file` reads them in Python. The bytes are a function of the values, so
//! a checkpoint can be named by their hash.

use super::LabError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// Writes 32-bit float tensors. Metadata keeps its order only with at most one entry.
pub fn encode(tensors: &[(String, Tensor)], metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let blocks: Vec<(&str, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor.size().iter().map(|&n| n as usize).collect(), bytes(tensor)))
        .collect();
    let views = blocks.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), data).expect("as many bytes as the shape says");
        (*name, view)
    });
    serialize(views, metadata).expect("names and shapes of tensors make a valid header")
}

/// A safetensors file, read.
pub struct Stored {
    pub tensors: HashMap<String, Tensor>,
    pub metadata: HashMap<String, String>,
}

/// Reads 32-bit float tensors and the metadata, by name.
///
/// # Errors
/// [`LabError::BadInput`] when the bytes are no safetensors file or hold another type.
pub fn decode(bytes: &[u8]) -> Result<Stored, LabError> {
    let invalid = |error: safetensors::SafeTensorError| LabError::bad_input(format!("not a safetensors file: {error}"));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(invalid)?;
    let file = SafeTensors::deserialize(bytes).map_err(invalid)?;
    let mut tensors = HashMap::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(LabError::bad_input(format!("{name} holds {:?}, not F32", view.dtype())));
        }
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        tensors.insert(name.to_string(), Tensor::f_from_data_size(view.data(), &shape, Kind::Float)?);
    }
    Ok(Stored { tensors, metadata: header.metadata().clone().unwrap_or_default() })
}

/// The values in row-major order, little-endian.
fn bytes(tensor: &Tensor) -> Vec<u8> {
    let flat = tensor.detach().to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous();
    let count = flat.numel();
    let mut values = vec![0f32; count];
    flat.copy_data(&mut values, count);
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
