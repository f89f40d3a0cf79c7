//! Questions: the content that a task's identity is computed from.
//!
//! `TaskKey = BLAKE3(canonical bytes)`, where the canonical bytes are the question's JSON with
//! fields in declaration order and no white space. A lease carries exactly these bytes, so a worker
//! can check that the question is the one its key names, and a worker in another language needs a
//! JSON parser and nothing else. Where data lies on disk is not part of the question; its digest is.

use crate::outcome::Known;
use crate::spec::{
    Attack, Certificate, GivenFile, Measure, Method, Model, Norm, Normalization, Optimizer, Options, Precision,
    Schedule, Search, Witnesses,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Raised whenever the same question would get another answer: new training arithmetic, another
/// random stream, a repaired attack. Old answers are then never mistaken for new ones.
pub const ALGORITHM_VERSION: u32 = 3;

/// The identity of a task: BLAKE3 of its question.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey(pub [u8; 32]);

impl TaskKey {
    /// Hashes the canonical bytes of a question.
    pub fn of(canonical: &[u8]) -> TaskKey {
        TaskKey(*blake3::hash(canonical).as_bytes())
    }

    /// The first 12 hexadecimal digits: what people see. 2^48 leaves collisions to a sweep of millions.
    pub fn short(&self) -> String {
        self.digits()[..12].iter().map(|&digit| char::from(digit)).collect()
    }

    /// Hexadecimal ones. Keys are written for every lease and every answer.
    fn digits(&self) -> [u8; 64] {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        digits
    }

    /// Parses the 64 hexadecimal digits that `Display` writes.
    pub fn parse(text: &str) -> Option<TaskKey> {
        blake3::Hash::from_hex(text).ok().map(|hash| TaskKey(*hash.as_bytes()))
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).expect("digits are ASCII"))
    }
}

impl fmt::Debug for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskKey({})", self.short())
    }
}

impl Serialize for TaskKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for TaskKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        TaskKey::parse(&text).ok_or_else(|| serde::de::Error::custom("a task key is 64 hexadecimal digits"))
    }
}

/// Anything a worker can be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    Train(TrainQuestion),
    Evaluate(EvaluateQuestion),
    Certify(CertifyQuestion),
    Measure(MeasureQuestion),
}

impl Question {
    /// The bytes that are hashed and sent.
    pub fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("questions hold only finite numbers, strings and lists")
    }

    pub fn key(&self) -> TaskKey {
        TaskKey::of(&self.canonical())
    }
}

/// The examples a question is about: a name to find a reader by, and what the bytes must hash to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataId {
    /// `digits`, `mnist`: the kind of reader.
    pub name: String,
    /// BLAKE3 over the decoded images and labels of both splits, hexadecimal.
    pub digest: String,
}

/// Train one model. The answer is its checkpoints.
///
/// Which epochs are kept is not part of the question: the weights after epoch 5 are the same
/// whether or not those after epoch 3 were written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainQuestion {
    pub version: u32,
    pub data: DataId,
    pub model: Model,
    /// Left out where there is none, so that older questions keep their keys; as is `weights`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalization>,
    /// What the weights begin as, by content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<GivenFile>,
    pub method: Method,
    pub optimizer: Optimizer,
    pub schedule: Schedule,
    pub epochs: u32,
    pub batch_size: u32,
    #[serde(default, skip_serializing_if = "Options::is_default")]
    pub options: Options,
    /// Seeds the initial weights, the order of examples and the training attack.
    pub seed: u64,
}

/// Attack one checkpoint over one shard of the test set. The answer is one [`Level`] per example.
///
/// [`Level`]: crate::outcome::Level
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateQuestion {
    pub version: u32,
    /// The training run, and the epoch of it, whose weights are attacked.
    pub train: TaskKey,
    pub epoch: u32,
    pub data: DataId,
    pub model: Model,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalization>,
    pub norm: Norm,
    pub attack: Attack,
    /// Left out where it is the search that older questions took for granted, so that their keys stay.
    #[serde(default, skip_serializing_if = "Search::is_ascending")]
    pub search: Search,
    /// Positive, ascending, distinct.
    pub epsilons: Vec<f64>,
    /// First example of the test set, and one past the last.
    pub examples: [u32; 2],
    pub batch_size: u32,
    /// Seeds the random starts, together with the example's index, the epsilon and the restart.
    pub seed: u64,
    /// Which adversarial examples belong to the answer. They change no level, but an answer without
    /// them is another answer. Left out where there are none, so that the keys of older questions stay.
    #[serde(default, skip_serializing_if = "Witnesses::is_none")]
    pub witnesses: Witnesses,
    /// What the search computes with; verdicts are in 32 bits. Left out where the search is too.
    #[serde(default, skip_serializing_if = "Precision::is_full")]
    pub search_precision: Precision,
    /// Searches begin where those at other epsilons ended. Left out where they do not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warm_starts: bool,
}

/// Certify one checkpoint over one shard of the test set. The answer is one [`Level`] per example: the
/// position of the first epsilon that is not certified.
///
/// [`Level`]: crate::outcome::Level
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifyQuestion {
    pub version: u32,
    /// The training run, and the epoch of it, whose weights are certified.
    pub train: TaskKey,
    pub epoch: u32,
    pub data: DataId,
    pub model: Model,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalization>,
    pub norm: Norm,
    pub certificate: Certificate,
    /// Positive, ascending, distinct.
    pub epsilons: Vec<f64>,
    /// First example of the test set, and one past the last.
    pub examples: [u32; 2],
    /// Seeds the noise of smoothing, together with the example's index; bounds need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// Measure something on one checkpoint. The answer is a [`MeasureAnswer`].
///
/// [`MeasureAnswer`]: crate::measure::MeasureAnswer
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureQuestion {
    pub version: u32,
    /// The training run, and the epoch of it, whose weights are measured.
    pub train: TaskKey,
    pub epoch: u32,
    pub data: DataId,
    pub model: Model,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalization>,
    pub measure: Measure,
    /// The first unit, and one past the last: examples of the test set where each has a domain of its
    /// own, classes otherwise.
    pub units: [u32; 2],
    /// Seeds the samples, together with the domain and the unit's index.
    pub seed: u64,
}

impl EvaluateQuestion {
    /// The same question with the epsilon grid and the witnesses left out: answers of one family can be
    /// reused for one another epsilon by epsilon, see [`crate::outcome::Known`].
    pub fn family(&self) -> TaskKey {
        let bare = EvaluateQuestion { epsilons: Vec::new(), witnesses: Witnesses::None, ..self.clone() };
        Question::Evaluate(bare).key()
    }

    /// Whether an earlier answer of the same family may be handed on. What was asked before must change no
    /// answer.
    ///
    /// Ascending search takes breaks over too, and an example that broke at an epsilon which is no longer
    /// asked for might withstand the next larger one of today's grid: the earlier grid must be part of today's.
    /// Bisection takes over nothing but failures, each a fact about its own epsilon, and goes the way it
    /// would go without them. Where a failing attack can still find something for another epsilon
    /// (under L1), or fails otherwise elsewhere in the grid (thrifty), they are no such facts.
    /// Exhaustive search is the reference, and relies on nothing. A break that is only known leaves no
    /// adversarial example: where those are wanted, all is found anew; as where a search begins where others ended.
    pub fn can_build_on(&self, known: &Known) -> bool {
        match self.search {
            _ if !self.witnesses.is_none() || self.warm_starts => false,
            Search::Ascending => known.epsilons.iter().all(|epsilon| self.epsilons.contains(epsilon)),
            Search::Bisect => self.norm != Norm::L1 && !self.attack.is_thrifty(),
            Search::Exhaustive => false,
        }
    }
}
