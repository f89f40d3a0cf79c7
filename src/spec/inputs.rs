//! What a network is given beside its architecture: files that the sweep brings along, and the
//! normalisation of its input.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What stands before the digest of a file whose content is known.
const CONTENT: &str = "blake3:";

/// A file that a sweep brings along. In a sweep's file it is a path; in a question `blake3:` and the
/// hash of its content, in hexadecimal, which is also the id of the artifact that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct GivenFile(String);

impl GivenFile {
    /// The path; `None` once the content stands in its place.
    pub fn path(&self) -> Option<&Path> {
        self.digest().is_none().then(|| Path::new(&self.0))
    }

    /// The BLAKE3 of the content, in hexadecimal; `None` before the file was read.
    pub fn digest(&self) -> Option<&str> {
        self.0.strip_prefix(CONTENT)
    }

    /// The file whose content hashes to `digest`.
    pub fn of_content(digest: &str) -> GivenFile {
        GivenFile(format!("{CONTENT}{digest}"))
    }

    /// A relative path starts at `base`.
    pub(super) fn beneath(&self, base: &Path) -> GivenFile {
        let path: PathBuf = base.join(&self.0);
        GivenFile(path.to_string_lossy().into_owned())
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// What happens to pixels before they enter a network. Epsilons stay in pixel units of `[0,1]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Normalize {
    /// The network sees pixels in `[0,1]`.
    None {},
    /// Mean and standard deviation of MNIST's training set, as its PyTorch example has them.
    Mnist {},
    /// Those of CIFAR-10's training set, per channel.
    Cifar10 {},
    /// Those of CIFAR-100's training set, per channel.
    Cifar100 {},
    /// Numbers of one's own, one per channel; `{mean: [...], std: [...]}` is short for it.
    Channels { mean: Vec<f64>, std: Vec<f64> },
}

/// `(x - mean) / std`, channel by channel: part of the network, so that attacks see through it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    pub mean: Vec<f64>,
    /// Each above 0.
    pub std: Vec<f64>,
}

impl Normalize {
    /// The numbers: equal ones are the same question, whatever they were called.
    pub fn numbers(&self) -> Option<Normalization> {
        let of = |mean: &[f64], std: &[f64]| Some(Normalization { mean: mean.to_vec(), std: std.to_vec() });
        match self {
            Normalize::None {} => None,
            Normalize::Mnist {} => of(&[0.1307], &[0.3081]),
            Normalize::Cifar10 {} => of(&[0.4914, 0.4822, 0.4465], &[0.2471, 0.2435, 0.2616]),
            Normalize::Cifar100 {} => of(&[0.5071, 0.4865, 0.4409], &[0.2673, 0.2564, 0.2762]),
            Normalize::Channels { mean, std } => of(mean, std),
        }
    }
}
