//! The input of every statistic: what a sweep has found so far, as plain data.

use crate::measure::Measured;
use crate::outcome::Level;
use crate::plan::facts::Facts;
use crate::spec::{NamedCertificate, NamedMeasure};
use crate::trust::Trust;

/// All results of one sweep. Read from the ledger, possibly before the sweep has finished.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    pub sweep: String,
    /// Column names of the varied settings.
    pub axes: Vec<String>,
    /// `linf` or `l2`.
    pub norm: String,
    /// As the user asked: ascending, distinct, at least 0; 0 stands for clean accuracy.
    pub epsilons: Vec<f64>,
    /// Names of the attacks, in the order of the file.
    pub attacks: Vec<String>,
    /// The certificates, in the order of the file; mostly none.
    pub certificates: Vec<CertificateName>,
    /// The measures, in the order of the file; mostly none.
    pub measures: Vec<NamedMeasure>,
    /// Size of the evaluated part of the test set.
    pub examples: usize,
    /// In plan order.
    pub trials: Vec<TrialResults>,
}

impl Results {
    /// The grid that levels refer to: the positive epsilons.
    pub fn positive_epsilons(&self) -> &[f64] {
        &self.epsilons[self.epsilons.partition_point(|&e| e <= 0.0)..]
    }
}

/// A certificate by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateName {
    pub name: String,
    /// Whether it speaks of the very network that is attacked, and surely.
    pub deterministic: bool,
}

impl CertificateName {
    pub fn of(named: &NamedCertificate) -> CertificateName {
        CertificateName { name: named.name.clone(), deterministic: named.certificate.is_deterministic() }
    }
}

/// One trial: one training run with one seed.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialResults {
    /// Short task key of the training run.
    pub trial: String,
    /// Trials that differ only in their seed share their configuration: a short digest of the recipe.
    pub config: String,
    /// One formatted value per axis.
    pub axes: Vec<String>,
    pub seed: u64,
    pub status: TrialStatus,
    /// One per evaluated epoch for which a checkpoint exists, ascending.
    pub checkpoints: Vec<CheckpointResults>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TrialStatus {
    /// Trained and fully evaluated.
    Done,
    /// Something is still to be computed.
    Pending,
    /// A task of it failed for good; the text says why.
    Failed(String),
    Cancelled,
}

/// One trial's weights at one epoch, and what the attacks found there.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointResults {
    /// The one that was asked for.
    pub epoch: u32,
    /// Mean training loss over that epoch.
    pub train_loss: f64,
    /// Seconds of training up to the end of that epoch.
    pub train_seconds: f64,
    pub facts: Facts,
    /// One list per attack of [`Results::attacks`], one [`Level`] per test example;
    /// [`Level::UNKNOWN`] where a shard is still missing.
    pub levels: Vec<Vec<Level>>,
    /// One per attack, over all its shards: what its evaluation noticed. `None` where it was done by
    /// an earlier release; empty where nothing is known of any attack.
    pub trust: Vec<Option<Trust>>,
    /// One list per certificate of [`Results::certificates`], or none at all: the position of the
    /// first epsilon at which an example is *not* certified.
    pub certified: Vec<Vec<Level>>,
    /// One per measure of [`Results::measures`], or none at all; `None` where it was not taken at this
    /// epoch, or not yet of all units.
    pub measured: Vec<Option<Measured>>,
}

impl CheckpointResults {
    /// The epoch whose weights these are: early stopping may have chosen another than was asked for.
    pub fn weights_epoch(&self) -> u32 {
        self.facts.epoch.unwrap_or(self.epoch)
    }
}
