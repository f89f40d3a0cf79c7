//! TorchScript modules as networks.
//!
//! A checkpoint of one is the module's own file with other numbers in it, as the single tensor of bytes
//! `torchscript` of a safetensors file; `torch.jit.load(io.BytesIO(...))` reads those bytes.

use super::layer::Mode;
use crate::lab::LabError;
use crate::lab::files::archive::Archive;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use tch::{CModule, Device, Kind, Tensor};

/// The tensor of a checkpoint that holds the file.
pub(super) const CONTENT: &str = "torchscript";

/// A loaded module, shared by the handles on a network. One thread at a time uses it.
#[derive(Debug)]
pub(super) struct Script {
    /// The file it was loaded from.
    file: Vec<u8>,
    module: RefCell<CModule>,
    mode: Cell<Option<Mode>>,
    /// Whether a pass may have moved running statistics.
    moved: Cell<bool>,
    pub device: Device,
    /// Those that the module says want gradients, by name.
    pub trainable: Vec<(String, Tensor)>,
    all: Vec<Tensor>,
}

impl Script {
    /// # Errors
    /// [`LabError::BadInput`] when the bytes are no TorchScript module.
    pub fn load(file: &[u8], device: Device) -> Result<Script, LabError> {
        // Otherwise the first passes run other kernels than later ones, and no result could be repeated.
        tch::jit::f_set_graph_executor_optimize(false)?;
        let invalid = |why: String| {
            let remedy = "write it with `torch.jit.script(model).save(\"model.pt\")` or with `torch.jit.trace`";
            LabError::bad_input(format!("not a TorchScript module: {why}; {remedy}"))
        };
        if !Archive::open(file).map_err(|error| invalid(error.detail()))?.is_module() {
            return Err(invalid("it holds tensors but no code (`weights` takes such a file)".to_string()));
        }
        let module = CModule::load_data_on_device(&mut &file[..], device);
        let module = module.map_err(|error| invalid(LabError::from(error).detail()))?;
        let named = module.named_parameters()?;
        let all = named.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        let mut trainable: Vec<_> = named.into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect();
        trainable.sort_by(|a, b| a.0.cmp(&b.0));
        let module = RefCell::new(module);
        Ok(Script {
            file: file.to_vec(),
            module,
            mode: Cell::new(None),
            moved: Cell::new(false),
            device,
            trainable,
            all,
        })
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`LabError::BadInput`] when it is something else.
    pub fn from_weights(stored: &mut HashMap<String, Tensor>, device: Device) -> Result<Script, LabError> {
        let content = stored.remove(CONTENT).filter(|content| content.kind() == Kind::Uint8);
        let content = content.ok_or_else(|| LabError::bad_input("the checkpoint holds no TorchScript module"))?;
        Script::load(&Vec::<u8>::try_from(&content.view([-1]))?, device)
    }

    /// The file with `values` in place of its own numbers.
    ///
    /// # Errors
    /// [`LabError::BadInput`] when names or shapes differ.
    pub fn with_values(file: &[u8], values: &HashMap<String, Tensor>) -> Result<Vec<u8>, LabError> {
        Archive::open(file)?.with_values(values)
    }

    /// Names and values of its parameters and buffers, as the file holds them.
    ///
    /// # Errors
    /// [`LabError::BadInput`] when the file holds tensors of unusual types.
    pub fn stored_values(file: &[u8]) -> Result<HashMap<String, Tensor>, LabError> {
        Archive::open(file)?.module_state()
    }

    /// Logits, in 32 bits; `gradients` says whether a graph to the parameters is wanted.
    ///
    /// # Errors
    /// What the module's code complains about.
    pub fn forward(&self, images: &Tensor, mode: Mode, gradients: bool) -> Result<Tensor, LabError> {
        if self.mode.replace(Some(mode)) != Some(mode) {
            let mut module = self.module.borrow_mut();
            // A frozen module has no modes: it stays as it is.
            let _ = if mode == Mode::Training { module.f_set_train() } else { module.f_set_eval() };
        }
        self.moved.set(self.moved.get() || mode == Mode::Training);
        self.want_gradients(gradients);
        self.pass(images)
    }

    /// Logits in the mode that the file was saved in.
    ///
    /// # Errors
    /// As [`Script::forward`].
    pub fn forward_as_saved(&self, images: &Tensor) -> Result<Tensor, LabError> {
        // A copy: in training mode a pass changes running statistics.
        Script::load(&self.file, self.device)?.pass(images)
    }

    fn pass(&self, images: &Tensor) -> Result<Tensor, LabError> {
        Ok(self.module.borrow().forward_ts(&[images])?.f_to_kind(Kind::Float)?)
    }

    /// Attacks want none, and save the time. Constants of the module stay constants in any case.
    fn want_gradients(&self, wanted: bool) {
        if self.all.iter().any(|parameter| parameter.requires_grad()) || wanted {
            let of_training =
                |tensor: &Tensor| self.trainable.iter().any(|(_, own)| own.data_ptr() == tensor.data_ptr());
            for parameter in &self.all {
                let _ = parameter.set_requires_grad(wanted && of_training(parameter));
            }
        }
    }

    /// Its file with the numbers that it holds now; the file itself, byte for byte, while nothing was trained.
    ///
    /// # Errors
    /// When the module cannot be written to a temporary file and read back.
    pub fn current(&self) -> Result<Vec<u8>, LabError> {
        if !self.moved.get() && !self.was_trained() {
            return Ok(self.file.clone());
        }
        self.want_gradients(true);
        // libtorch shows buffers to nobody but its own writer.
        let folder = tempfile::tempdir().map_err(|error| LabError::Torch(error.to_string()))?;
        let path = folder.path().join("module.pt");
        self.module.borrow().save(&path)?;
        let saved = std::fs::read(&path).map_err(|error| LabError::Torch(error.to_string()))?;
        Script::with_values(&self.file, &Script::stored_values(&saved)?)
    }

    fn was_trained(&self) -> bool {
        let stored = Script::stored_values(&self.file).unwrap_or_default();
        let same = |(name, now): &(String, Tensor)| {
            stored.get(name).is_some_and(|then| then.size() == now.size() && *then == now.to_device(Device::Cpu))
        };
        !self.trainable.iter().all(same)
    }
}
