//! Data sets: decoded images with labels, in memory, without libtorch.
//!
//! A data set is identified by a digest over its decoded content, never by where it lies: the same
//! images in another folder, or gzipped, answer the same questions. Pixels stay bytes, 4 times
//! smaller than floats, and become numbers in `[0,1]` when they are asked for.

mod digits;
mod error;
mod idx;
mod mnist;

use crate::plan::question::DataId;
use crate::spec::Dataset;
pub use error::DataError;
use serde::{Deserialize, Serialize};

/// A training set and a test set of labelled images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSet {
    /// `digits`, `mnist`: the kind of reader.
    pub name: String,
    /// Labels are `0..classes`.
    pub classes: u32,
    pub train: Examples,
    pub test: Examples,
    /// BLAKE3 over shapes, pixels and labels of both splits, hexadecimal.
    pub digest: String,
}

/// Images of one size with their labels, in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examples {
    pub channels: u32,
    pub height: u32,
    pub width: u32,
    /// NCHW, without padding; 0 is black and `scale` is white.
    pub pixels: Vec<u8>,
    /// One per example.
    pub labels: Vec<u8>,
    /// The byte that stands for 1.0: 255 for MNIST, 16 for digits.
    pub scale: u8,
}

/// What a plan must know about a data set, without its pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataInfo {
    pub id: DataId,
    pub classes: u32,
    pub channels: u32,
    pub height: u32,
    pub width: u32,
    pub train_count: u32,
    pub test_count: u32,
}

/// Reads a data set. `dataset` comes out of a validated sweep, so its paths are absolute.
///
/// # Errors
/// When a file is missing, damaged or does not fit the others; the message names it.
pub fn load(dataset: &Dataset) -> Result<DataSet, DataError> {
    match dataset {
        Dataset::Digits {} => digits::load(),
        Dataset::Mnist { dir } => mnist::load(dir),
    }
}

/// Identity and shape of a data set. The identity is its content, so this reads everything once.
///
/// # Errors
/// As [`load`].
pub fn identify(dataset: &Dataset) -> Result<DataInfo, DataError> {
    load(dataset).map(|set| set.info())
}

impl DataSet {
    fn new(name: &str, classes: u32, train: Examples, test: Examples) -> DataSet {
        let digest = digest(&[&train, &test]);
        DataSet { name: name.to_string(), classes, train, test, digest }
    }

    pub fn info(&self) -> DataInfo {
        DataInfo {
            id: DataId { name: self.name.clone(), digest: self.digest.clone() },
            classes: self.classes,
            channels: self.test.channels,
            height: self.test.height,
            width: self.test.width,
            train_count: self.train.count(),
            test_count: self.test.count(),
        }
    }
}

impl Examples {
    pub fn count(&self) -> u32 {
        u32::try_from(self.labels.len()).unwrap_or(u32::MAX)
    }

    /// Numbers per example: channels times height times width.
    pub fn pixels_per_example(&self) -> usize {
        self.channels as usize * self.height as usize * self.width as usize
    }

    /// The pixels of the examples at `indices`, in that order, as numbers in `[0,1]`, NCHW.
    ///
    /// # Panics
    /// When an index is not below [`Examples::count`].
    pub fn gather(&self, indices: impl IntoIterator<Item = usize>) -> Vec<f32> {
        let size = self.pixels_per_example();
        let bytes = indices.into_iter().flat_map(|index| &self.pixels[index * size..(index + 1) * size]);
        bytes.map(|&byte| self.unit(byte)).collect()
    }

    /// All pixels as numbers in `[0,1]`, NCHW.
    pub fn to_f32(&self) -> Vec<f32> {
        self.pixels.iter().map(|&byte| self.unit(byte)).collect()
    }

    /// Divides, instead of multiplying by the inverse, so that `scale` becomes exactly 1.
    fn unit(&self, byte: u8) -> f32 {
        f32::from(byte) / f32::from(self.scale)
    }
}

/// Lengths go in before contents, so that no two different data sets feed the same bytes.
fn digest(splits: &[&Examples]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"epsweep data 1");
    for split in splits {
        for length in [split.count(), split.channels, split.height, split.width, u32::from(split.scale)] {
            hasher.update(&length.to_le_bytes());
        }
        hasher.update(&split.pixels).update(&split.labels);
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Examples {
        Examples { channels: 1, height: 1, width: 2, pixels: vec![0, 4, 8, 16], labels: vec![3, 1], scale: 16 }
    }

    #[test]
    fn examples_are_gathered_in_the_order_asked_for() {
        let examples = two();
        assert_eq!(examples.gather([1, 0, 1]), [0.5, 1.0, 0.0, 0.25, 0.5, 1.0]);
        assert_eq!(examples.gather(1..2), [0.5, 1.0]);
        assert_eq!(examples.to_f32(), examples.gather(0..2));
    }

    #[test]
    fn the_digest_sees_pixels_labels_shapes_and_the_split() {
        let base = two();
        let label = Examples { labels: vec![3, 2], ..two() };
        let pixel = Examples { pixels: vec![0, 4, 8, 15], ..two() };
        let shape = Examples { height: 2, width: 1, ..two() };
        let all = [[&base, &base], [&base, &label], [&label, &base], [&base, &pixel], [&base, &shape]];
        let digests: std::collections::HashSet<String> = all.iter().map(|splits| digest(splits)).collect();
        assert_eq!(digests.len(), all.len());
    }
}
