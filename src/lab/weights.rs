//! Checkpoints as safetensors bytes, in PyTorch's names and layouts.
//!
//! `safetensors.torch.load_file` reads them in Python. The bytes are a function of the values, so
//! a checkpoint can be named by their hash.

use super::LabError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// Writes tensors of 32-bit floats, or of bytes. Metadata keeps its order only with at most one entry.
pub fn encode(tensors: &[(String, Tensor)], metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let blocks: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let (dtype, data) = match tensor.kind() {
                Kind::Uint8 => (Dtype::U8, raw(tensor)),
                _ => (Dtype::F32, bytes(tensor)),
            };
            (name.as_str(), dtype, tensor.size().iter().map(|&n| n as usize).collect(), data)
        })
        .collect();
    let views = blocks.iter().map(|(name, dtype, shape, data)| {
        let view = TensorView::new(*dtype, shape.clone(), data).expect("as many bytes as the shape says");
        (*name, view)
    });
    serialize(views, metadata).expect("names and shapes of tensors make a valid header")
}

/// A safetensors file, read.
pub struct Stored {
    pub tensors: HashMap<String, Tensor>,
    pub metadata: HashMap<String, String>,
}

/// Reads what [`encode`] writes: tensors of 32-bit floats or bytes, and the metadata, by name.
///
/// # Errors
/// [`LabError::BadInput`] when the bytes are no safetensors file or hold another type.
pub fn decode(bytes: &[u8]) -> Result<Stored, LabError> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(invalid)?;
    let tensors = read(bytes, &[Dtype::F32, Dtype::U8])?;
    Ok(Stored { tensors, metadata: header.metadata().clone().unwrap_or_default() })
}

/// Reads tensors of every usual type, by name: a file that somebody else wrote.
///
/// # Errors
/// [`LabError::BadInput`] when the bytes are no safetensors file or hold an unusual type.
pub fn decode_any(bytes: &[u8]) -> Result<HashMap<String, Tensor>, LabError> {
    read(bytes, &KINDS.map(|(dtype, _)| dtype))
}

const KINDS: [(Dtype, Kind); 7] = [
    (Dtype::F32, Kind::Float),
    (Dtype::U8, Kind::Uint8),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::F64, Kind::Double),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
];

fn read(bytes: &[u8], allowed: &[Dtype]) -> Result<HashMap<String, Tensor>, LabError> {
    let mut tensors = HashMap::new();
    for (name, view) in SafeTensors::deserialize(bytes).map_err(invalid)?.iter() {
        let kind = KINDS.iter().find(|(dtype, _)| *dtype == view.dtype() && allowed.contains(dtype));
        let Some((_, kind)) = kind else {
            return Err(LabError::bad_input(format!("{name} holds {:?}, not F32", view.dtype())));
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        tensors.insert(name.to_string(), Tensor::f_from_data_size(view.data(), &shape, *kind)?);
    }
    Ok(tensors)
}

fn invalid(error: safetensors::SafeTensorError) -> LabError {
    LabError::bad_input(format!("not a safetensors file: {error}"))
}

/// A tensor of bytes.
fn raw(tensor: &Tensor) -> Vec<u8> {
    let flat = tensor.to_device(tch::Device::Cpu).contiguous();
    let mut values = vec![0u8; flat.numel()];
    flat.copy_data(&mut values, flat.numel());
    values
}

/// The values in row-major order, little-endian.
fn bytes(tensor: &Tensor) -> Vec<u8> {
    let flat = tensor.detach().to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous();
    let count = flat.numel();
    let mut values = vec![0f32; count];
    flat.copy_data(&mut values, count);
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
