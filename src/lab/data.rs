//! Images and labels as tensors.

use super::LabError;
use tch::{Device, Kind, Tensor};

/// Examples as bytes, the way data sets come.
#[derive(Debug, Clone, Copy)]
pub struct RawImages<'a> {
    /// `count * channels * height * width` bytes, NCHW.
    pub pixels: &'a [u8],
    /// The byte that means 1.0: 255 for MNIST, 16 for the 8x8 digits.
    pub full: f32,
    /// One class per example.
    pub labels: &'a [u8],
    pub count: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

/// Labelled images.
#[derive(Debug)]
pub struct Images {
    /// `[n, channels, height, width]`, 32-bit floats in `[0,1]`.
    pub pixels: Tensor,
    /// `[n]`, 64-bit integers.
    pub labels: Tensor,
}

/// Both splits of a data set. `Send` but not `Sync`: threads get a [`LabData::share`] each.
#[derive(Debug)]
pub struct LabData {
    pub train: Images,
    pub test: Images,
    pub classes: i64,
}

/// A tensor on `device`, itself where it lies there already.
///
/// On its way to a GPU it is not waited for: what memory it came from is copied, or kept, until the GPU has it. Every wait
/// would keep the GPU without work for as long as it takes to tell it what comes next.
pub fn upload(tensor: &Tensor, device: Device) -> Tensor {
    let waits = !device.is_cuda(); // what comes back is read at once
    tensor.to_device_(device, tensor.kind(), !waits, false)
}

impl Images {
    /// Decodes bytes to floats: `byte / full`.
    ///
    /// # Errors
    /// [`LabError::BadInput`] when lengths disagree or a byte exceeds `full`.
    pub fn from_raw(raw: RawImages) -> Result<Images, LabError> {
        let RawImages { pixels, full, labels, count, channels, height, width } = raw;
        if pixels.len() != count * channels * height * width || labels.len() != count {
            return Err(LabError::bad_input(format!(
                "{count} images of {channels}x{height}x{width} cannot have {} bytes and {} labels",
                pixels.len(),
                labels.len()
            )));
        }
        if let Some(&largest) = pixels.iter().max().filter(|&&byte| f32::from(byte) > full) {
            return Err(LabError::bad_input(format!("a pixel of {largest} lies above full scale, {full}")));
        }
        let floats: Vec<f32> = pixels.iter().map(|&byte| f32::from(byte) / full).collect();
        let classes: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
        let shape = [count, channels, height, width].map(|n| n as i64);
        Ok(Images { pixels: Tensor::from_slice(&floats).view(shape), labels: Tensor::from_slice(&classes) })
    }

    /// Images of `shape` (channels, height, width) that come as numbers in `[0,1]`, NCHW.
    ///
    /// # Errors
    /// [`LabError::BadInput`] when lengths disagree or a number lies outside `[0,1]`.
    pub fn from_floats(pixels: &[f32], shape: [usize; 3], labels: &[u8]) -> Result<Images, LabError> {
        let [channels, height, width] = shape;
        if pixels.len() != labels.len() * channels * height * width {
            let (numbers, count) = (pixels.len(), labels.len());
            let what = format!("{count} images of {channels}x{height}x{width} cannot have {numbers} numbers");
            return Err(LabError::bad_input(what));
        }
        // Not a number is in no range.
        if let Some(value) = pixels.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            return Err(LabError::bad_input(format!("a pixel of {value} lies outside [0,1]")));
        }
        let classes: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
        let shape = [labels.len(), channels, height, width].map(|n| n as i64);
        Ok(Images { pixels: Tensor::from_slice(pixels).view(shape), labels: Tensor::from_slice(&classes) })
    }

    /// How many examples.
    pub fn count(&self) -> i64 {
        self.pixels.size()[0]
    }

    /// `[channels, height, width]`.
    pub fn shape(&self) -> [i64; 3] {
        let size = self.pixels.size();
        [size[1], size[2], size[3]]
    }

    /// The same examples, sharing memory.
    pub fn share(&self) -> Images {
        Images { pixels: self.pixels.shallow_clone(), labels: self.labels.shallow_clone() }
    }

    /// Examples `from..to`, on `device`; shares memory where it lies there already.
    pub fn slice(&self, from: i64, to: i64, device: Device) -> Images {
        Images {
            pixels: upload(&self.pixels.narrow(0, from, to - from), device),
            labels: upload(&self.labels.narrow(0, from, to - from), device),
        }
    }

    /// A copy in memory that the kernel does not move, from where GPUs copy by themselves.
    fn pinned(&self) -> Result<Images, LabError> {
        let pin = |tensor: &Tensor| tensor.f_pin_memory(Device::Cuda(0));
        Ok(Images { pixels: pin(&self.pixels)?, labels: pin(&self.labels)? })
    }

    /// What every computation relies on.
    pub(super) fn check(&self, split: &str, classes: i64) -> Result<(), LabError> {
        let bad = |what: String| Err(LabError::bad_input(format!("{split} set: {what}")));
        let (pixels, labels) = (self.pixels.size(), self.labels.size());
        if pixels.len() != 4 || labels.len() != 1 || pixels[0] != labels[0] || pixels[0] == 0 {
            return bad(format!("images {pixels:?} with labels {labels:?}"));
        }
        if self.pixels.kind() != Kind::Float || self.labels.kind() != Kind::Int64 {
            return bad("images must be 32-bit floats and labels 64-bit integers".to_string());
        }
        let (low, high) = (self.labels.min().int64_value(&[]), self.labels.max().int64_value(&[]));
        if low < 0 || high >= classes {
            return bad(format!("labels {low} to {high} with {classes} classes"));
        }
        Ok(())
    }
}

impl LabData {
    /// The same data, sharing memory: for another thread.
    pub fn share(&self) -> LabData {
        LabData { train: self.train.share(), test: self.test.share(), classes: self.classes }
    }

    /// A copy in pinned memory.
    ///
    /// # Errors
    /// When the system does not grant that much of it, or there is no GPU.
    pub fn pinned(&self) -> Result<LabData, LabError> {
        Ok(LabData { train: self.train.pinned()?, test: self.test.pinned()?, classes: self.classes })
    }
}
