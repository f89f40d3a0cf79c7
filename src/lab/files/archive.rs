//! PyTorch's zip files: state dicts and TorchScript modules, as named tensors.

use super::pickle::{Pickle, View};
use crate::lab::LabError;
use std::collections::HashMap;
use std::io::{Cursor, Read, Write};
use tch::{Kind, Tensor};
use zip::write::FileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// A file of `torch.save` or `torch.jit.save`.
pub struct Archive {
    /// In the file's order, with the folder that all lie in.
    records: Vec<(String, Vec<u8>)>,
    folder: String,
    pickle: Pickle,
}

impl Archive {
    /// # Errors
    /// [`LabError::BadInput`] when the bytes are no such file.
    pub fn open(bytes: &[u8]) -> Result<Archive, LabError> {
        let invalid = |what: String| LabError::bad_input(format!("not a file of PyTorch's: {what}"));
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| invalid(error.to_string()))?;
        let mut records = Vec::with_capacity(zip.len());
        for position in 0..zip.len() {
            let mut record = zip.by_index(position).map_err(|error| invalid(error.to_string()))?;
            let mut content = Vec::new();
            record.read_to_end(&mut content).map_err(|error| invalid(error.to_string()))?;
            records.push((record.name().to_string(), content));
        }
        let described = records.iter().find_map(|(name, content)| Some((name.strip_suffix("data.pkl")?, content)));
        let (folder, content) = described.ok_or_else(|| invalid("it has no record data.pkl".to_string()))?;
        let pickle = Pickle::read(content).map_err(|why| invalid(format!("data.pkl cannot be read: {why}")))?;
        let (folder, big) = (folder.to_string(), Some(&b"big"[..]));
        let archive = Archive { records, folder, pickle };
        match archive.record("byteorder") == big {
            true => Err(invalid("its numbers are big-endian".to_string())),
            false => Ok(archive),
        }
    }

    /// Whether it holds code beside tensors.
    pub fn is_module(&self) -> bool {
        self.record("constants.pkl").is_some()
    }

    /// The tensors of a state dict, or of a checkpoint that holds one.
    ///
    /// # Errors
    /// [`LabError::BadInput`] when a tensor is damaged or of a type that networks do not have.
    pub fn state_dict(&self) -> Result<HashMap<String, Tensor>, LabError> {
        self.tensors(self.pickle.state_dict())
    }

    /// Parameters and buffers of a TorchScript module.
    ///
    /// # Errors
    /// As [`Archive::state_dict`].
    pub fn module_state(&self) -> Result<HashMap<String, Tensor>, LabError> {
        self.tensors(self.pickle.attributes())
    }

    fn tensors(&self, views: Vec<(String, View)>) -> Result<HashMap<String, Tensor>, LabError> {
        views.into_iter().map(|(name, view)| Ok((name.clone(), self.tensor(&name, &view)?))).collect()
    }

    fn tensor(&self, name: &str, view: &View) -> Result<Tensor, LabError> {
        let bad = |what: &str| LabError::bad_input(format!("the tensor {name} {what}"));
        let kind = kind(&view.kind).ok_or_else(|| bad(&format!("is a {}, which is not supported", view.kind)))?;
        let content = self.record(&format!("data/{}", view.key)).ok_or_else(|| bad("has no data"))?;
        let count = content.len() / kind.elt_size_in_bytes();
        if !fits(view, count as i64) {
            return Err(bad("reaches beyond its data"));
        }
        let flat = Tensor::f_from_data_size(content, &[count as i64], kind)?;
        Ok(flat.f_as_strided(&view.size[..], &view.stride[..], view.offset)?.f_contiguous()?)
    }

    /// The same module with other values: a function of this file and the values alone.
    ///
    /// (Saving with libtorch is not: it gives classes new names.)
    ///
    /// # Errors
    /// [`LabError::BadInput`] when a tensor of the module is missing in `values` or of another shape.
    pub fn with_values(&self, values: &HashMap<String, Tensor>) -> Result<Vec<u8>, LabError> {
        let mut changed: HashMap<String, Vec<u8>> = HashMap::new();
        for (name, view) in self.pickle.attributes() {
            let bad = |what: &str| LabError::bad_input(format!("the module's tensor {name} {what}"));
            let value = values.get(&name).ok_or_else(|| bad("has no new value"))?;
            let kind = kind(&view.kind).ok_or_else(|| bad("is of a type that is not supported"))?;
            if value.size() != view.size {
                return Err(bad(&format!("has shape {:?}, its new value {:?}", view.size, value.size())));
            }
            let record = format!("{}data/{}", self.folder, view.key);
            let old = self.record(&format!("data/{}", view.key)).ok_or_else(|| bad("has no data"))?;
            let size = kind.elt_size_in_bytes();
            if !fits(&view, (old.len() / size) as i64) {
                return Err(bad("reaches beyond its data"));
            }
            let storage = changed.entry(record).or_insert_with(|| old.to_vec());
            let flat = Tensor::f_from_data_size(storage, &[(storage.len() / size) as i64], kind)?;
            let mut window = flat.f_as_strided(&view.size[..], &view.stride[..], view.offset)?;
            window.f_copy_(&value.detach())?;
            let bytes = storage.len() / size;
            flat.f_copy_data_u8(storage, bytes)?;
        }
        self.written(&changed).map_err(|error| LabError::bad_input(format!("cannot write the module: {error}")))
    }

    fn written(&self, changed: &HashMap<String, Vec<u8>>) -> Result<Vec<u8>, zip::result::ZipError> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let plain = FileOptions::default().compression_method(CompressionMethod::Stored);
        for (name, content) in &self.records {
            zip.start_file(name, plain.last_modified_time(DateTime::default()))?;
            zip.write_all(changed.get(name).unwrap_or(content))?;
        }
        Ok(zip.finish()?.into_inner())
    }

    fn record(&self, name: &str) -> Option<&[u8]> {
        let own = self.records.iter().find(|(own, _)| own.strip_prefix(&self.folder) == Some(name));
        own.map(|(_, content)| &content[..])
    }
}

/// Whether a window stays inside `count` elements.
fn fits(view: &View, count: i64) -> bool {
    let plausible = view.size.len() == view.stride.len() && view.offset >= 0;
    if !plausible || view.size.iter().chain(&view.stride).any(|&n| n < 0) {
        return false;
    }
    if view.size.contains(&0) {
        return true;
    }
    let mut steps = view.size.iter().zip(&view.stride).map(|(&size, &stride)| (size - 1).checked_mul(stride));
    let last = steps.try_fold(view.offset, |sum, step| sum.checked_add(step?));
    last.is_some_and(|last| last < count)
}

fn kind(storage: &str) -> Option<Kind> {
    Some(match storage {
        "FloatStorage" => Kind::Float,
        "DoubleStorage" => Kind::Double,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        _ => return None,
    })
}
