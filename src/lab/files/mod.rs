//! Files that others have made: weights in safetensors or PyTorch's own format, TorchScript modules.
//!
//! Read as data: no code of theirs runs here. (A TorchScript module's does, in [`super::models`].)

pub mod archive;
mod pickle;

use super::{LabError, weights};
use archive::Archive;
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// What a question's files hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'a> {
    /// A TorchScript module.
    pub module: Option<&'a [u8]>,
    /// Weights to begin with.
    pub weights: Option<&'a [u8]>,
}

const REMEDY: &str =
    "in Python, `safetensors.torch.save_file(model.state_dict(), \"weights.safetensors\")` writes a file that is";

/// The tensors of a weights file, in 32 bits, by name.
///
/// Accepted are safetensors and what `torch.save` writes of a state dict, or of a dictionary that holds one
/// (as `state_dict`, `model_state_dict`, `model`, `net`, `network` or `params`). Prefixes that wrappers
/// add (`module.`, `_orig_mod.`) are taken off where all names have them.
///
/// # Errors
/// [`LabError::BadInput`] when the file is neither, or damaged.
pub fn read_weights(bytes: &[u8]) -> Result<HashMap<String, Tensor>, LabError> {
    let stored = if bytes.starts_with(b"PK") {
        let archive = Archive::open(bytes)?;
        if archive.is_module() {
            let what = "the weights are a TorchScript module; write `model: {torchscript: FILE}` instead";
            return Err(LabError::bad_input(what));
        }
        archive.state_dict()?
    } else if bytes.starts_with(b"\x80\x02") {
        let what = "the weights are in the format of PyTorch before 1.6, which is not accepted";
        return Err(LabError::bad_input(format!("{what}; {REMEDY}")));
    } else {
        let read = weights::decode_any(bytes);
        read.map_err(|error| LabError::bad_input(format!("{}; {REMEDY}", error.detail())))?
    };
    if stored.is_empty() {
        return Err(LabError::bad_input(format!("the weights hold no tensors by name; {REMEDY}")));
    }
    let floats = stored.into_iter().map(|(name, tensor)| Ok((name, tensor.f_to_kind(Kind::Float)?)));
    Ok(without_wrappers(floats.collect::<Result<_, LabError>>()?))
}

fn without_wrappers(mut tensors: HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    while let Some(prefix) =
        ["module.", "_orig_mod."].into_iter().find(|prefix| tensors.keys().all(|name| name.starts_with(prefix)))
    {
        tensors = tensors.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_string(), tensor)).collect();
    }
    tensors
}
