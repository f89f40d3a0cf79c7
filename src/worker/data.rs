//! Data sets as the lab wants them, loaded once.

use super::shell::chain;
use crate::lab::{Images, LabData, RawImages};
use epsweep::data::{self, DataSet, Examples, Pixels};
use epsweep::spec::Dataset;
use std::collections::HashMap;
use std::sync::Mutex;

/// Data sets that were loaded once; slots share their memory.
#[derive(Debug)]
pub struct DataCache {
    loaded: Mutex<HashMap<String, LabData>>,
    /// They are to lie in memory that GPUs copy from faster.
    pinned: bool,
}

impl DataCache {
    pub fn new(pinned: bool) -> DataCache {
        DataCache { loaded: Mutex::default(), pinned }
    }

    /// The data set with this digest, read from where the sweep says it lies.
    ///
    /// # Errors
    /// When it cannot be read here, or is not the one the question is about; the text is for people.
    pub fn get(&self, dataset: &[u8], digest: &str) -> Result<LabData, String> {
        // The lock is held while loading: the other slots want the same data.
        let mut loaded = self.loaded.lock().map_err(|_| "loading the data set failed in another slot".to_string())?;
        if let Some(data) = loaded.get(digest) {
            return Ok(data.share());
        }
        let place: Dataset = serde_json::from_slice(dataset).map_err(|error| error.to_string())?;
        let data = data::load(&place).map_err(|error| chain(&error))?;
        if data.digest != digest {
            return Err(format!(
                "the data set {} on this worker is not the sweep's: its digest is {}, expected {digest}",
                data.name, data.digest
            ));
        }
        let data = to_tensors(&data)?;
        let data = if self.pinned { data.pinned().map_err(|error| chain(&error))? } else { data };
        let shared = data.share();
        loaded.insert(digest.into(), data);
        Ok(shared)
    }
}

fn to_tensors(data: &DataSet) -> Result<LabData, String> {
    let images = |examples: &Examples| {
        let shape = [examples.channels, examples.height, examples.width].map(|side| side as usize);
        let images = match &examples.pixels {
            Pixels::Bytes { bytes, scale } => {
                let [channels, height, width] = shape;
                let (full, count) = (f32::from(*scale), examples.labels.len());
                let labels = &examples.labels;
                Images::from_raw(RawImages { pixels: bytes, full, labels, count, channels, height, width })
            }
            Pixels::Floats(floats) => Images::from_floats(floats, shape, &examples.labels),
        };
        images.map_err(|error| error.to_string())
    };
    Ok(LabData { train: images(&data.train)?, test: images(&data.test)?, classes: data.classes.into() })
}
