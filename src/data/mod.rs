//! Data sets: decoded images with labels, in memory, without libtorch.
//!
//! A data set is identified by a digest over its decoded content, never by where it lies: the same
//! images in another folder, or gzipped, answer the same questions. Pixels stay bytes where they
//! came as bytes, 4 times smaller than floats, and become numbers in `[0,1]` when they are asked for.

mod cifar;
mod digits;
mod error;
pub mod fetch;
mod folder;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod idx;
pub mod known;
mod mnist;
mod npy;
mod npz;

use crate::plan::question::DataId;
use crate::spec::{CifarLabels, Dataset};
pub use error::DataError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Larger sides are not images of this field but damaged headers or forgotten `size` options.
const MAX_SIDE: u32 = 1024;
/// Labels are bytes.
const MAX_CLASSES: usize = 256;

/// A training set and a test set of labelled images.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSet {
    /// `digits`, `mnist`, `cifar10` and so on: the kind of reader.
    pub name: String,
    /// Labels are `0..classes`.
    pub classes: u32,
    pub train: Examples,
    pub test: Examples,
    /// BLAKE3 over shapes, pixels and labels of both splits, hexadecimal.
    pub digest: String,
}

/// Images of one size with their labels, in a fixed order.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    pub channels: u32,
    pub height: u32,
    pub width: u32,
    /// NCHW, without padding.
    pub pixels: Pixels,
    /// One per example.
    pub labels: Vec<u8>,
}

/// Pixels as they came.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// 0 is black and `scale` is white: 255 for MNIST, 16 for digits.
    Bytes { bytes: Vec<u8>, scale: u8 },
    /// Numbers in `[0,1]`.
    Floats(Vec<f32>),
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
    /// The files that the sweep brings along beside its data, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given: BTreeMap<String, Given>,
}

/// A file that a sweep brings along: a TorchScript module, weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// BLAKE3 of its content, hexadecimal: the id of the artifact that holds it.
    pub digest: String,
    pub bytes: u64,
}

/// Reads a data set. `dataset` comes out of a validated sweep, so its paths are absolute.
///
/// # Errors
/// When a file is missing, damaged or does not fit the others; the message names it.
pub fn load(dataset: &Dataset) -> Result<DataSet, DataError> {
    match dataset {
        Dataset::Digits {} => digits::load(),
        Dataset::Mnist { dir } => mnist::load("mnist", dir),
        Dataset::FashionMnist { dir } => mnist::load("fashion_mnist", dir),
        Dataset::Cifar10 { dir } => cifar::load(&cifar::TEN, dir),
        Dataset::Cifar100 { dir, labels: CifarLabels::Fine } => cifar::load(&cifar::HUNDRED, dir),
        Dataset::Cifar100 { dir, labels: CifarLabels::Coarse } => cifar::load(&cifar::HUNDRED_COARSE, dir),
        Dataset::Npz { file: Some(file), layout, .. } => npz::load_one(file, *layout),
        Dataset::Npz { train: Some(train), test: Some(test), layout, .. } => npz::load_two(train, test, *layout),
        Dataset::Npz { .. } => Err(DataError::unusable(
            "npz",
            "neither one file nor two are named",
            "write `{npz: {file: all.npz}}` or `{npz: {train: train.npz, test: test.npz}}`",
        )),
        Dataset::Folder { dir, size } => folder::load(dir, *size),
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
            given: BTreeMap::new(),
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
        indices.into_iter().flat_map(|index| self.pixels.range(index * size..(index + 1) * size)).collect()
    }

    /// All pixels as numbers in `[0,1]`, NCHW.
    pub fn to_f32(&self) -> Vec<f32> {
        self.pixels.range(0..self.pixels.len())
    }
}

impl Pixels {
    /// Bytes whose white is 255.
    pub fn bytes(bytes: Vec<u8>) -> Pixels {
        Pixels::Bytes { bytes, scale: 255 }
    }

    /// How many numbers, over all examples.
    pub fn len(&self) -> usize {
        match self {
            Pixels::Bytes { bytes, .. } => bytes.len(),
            Pixels::Floats(floats) => floats.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Divides, instead of multiplying by the inverse, so that `scale` becomes exactly 1.
    fn range(&self, range: std::ops::Range<usize>) -> Vec<f32> {
        match self {
            Pixels::Bytes { bytes, scale } => {
                bytes[range].iter().map(|&byte| f32::from(byte) / f32::from(*scale)).collect()
            }
            Pixels::Floats(floats) => floats[range].to_vec(),
        }
    }
}

/// Lengths go in before contents, so that no two different data sets feed the same bytes. A scale
/// of 0 says that floats follow.
fn digest(splits: &[&Examples]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"epsweep data 1");
    for split in splits {
        let scale = match split.pixels {
            Pixels::Bytes { scale, .. } => scale,
            Pixels::Floats(_) => 0,
        };
        for length in [split.count(), split.channels, split.height, split.width, u32::from(scale)] {
            hasher.update(&length.to_le_bytes());
        }
        match &split.pixels {
            Pixels::Bytes { bytes, .. } => {
                hasher.update(bytes);
            }
            Pixels::Floats(floats) => {
                for block in floats.chunks(4096) {
                    let bytes: Vec<u8> = block.iter().flat_map(|value| value.to_le_bytes()).collect();
                    hasher.update(&bytes);
                }
            }
        }
        hasher.update(&split.labels);
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Examples {
        let pixels = Pixels::Bytes { bytes: vec![0, 4, 8, 16], scale: 16 };
        Examples { channels: 1, height: 1, width: 2, pixels, labels: vec![3, 1] }
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
        let pixel = Examples { pixels: Pixels::Bytes { bytes: vec![0, 4, 8, 15], scale: 16 }, ..two() };
        let floats = Examples { pixels: Pixels::Floats(vec![0.0, 0.25, 0.5, 1.0]), ..two() };
        assert_eq!(floats.to_f32(), base.to_f32());
        let shape = Examples { height: 2, width: 1, ..two() };
        let all =
            [[&base, &base], [&base, &label], [&label, &base], [&base, &pixel], [&base, &shape], [&base, &floats]];
        let digests: std::collections::HashSet<String> = all.iter().map(|splits| digest(splits)).collect();
        assert_eq!(digests.len(), all.len());
    }
}
