//! What an audit says while it goes on: lines of JSON from the worker's program, which has the network,
//! to `epsweep audit`, which has the terminal.

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AuditEvent {
    /// So many witnesses are to be checked.
    Start { witnesses: u64 },
    /// So many have been.
    Progress { witnesses: u64 },
    /// Something does not hold.
    Fault(Finding),
    /// All is said.
    End(AuditSummary),
}

/// One thing that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Finding {
    /// Short key of the training run; empty where not even that is known.
    pub trial: String,
    pub epoch: u32,
    pub attack: String,
    /// Position in the test set; `None` where it concerns the whole file.
    pub example: Option<u32>,
    /// The witnesses' file, below the run's directory.
    pub file: String,
    /// What is wrong, in words that continue the place.
    pub what: String,
    /// By how much, where that has a size.
    pub by: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AuditSummary {
    pub witnesses: u64,
    /// Witnesses with which nothing is wrong.
    pub hold: u64,
    /// Those among them whose margin is so small that another order of summation may turn it.
    pub within_rounding: u64,
    /// Findings, of witnesses or otherwise.
    pub faults: u64,
    /// Evaluation tasks, and the checkpoints that they attacked.
    pub evaluations: u64,
    pub checkpoints: u64,
    pub seconds: f64,
}
