//! What a report is made from, besides the results: plain data, read from the ledger by others.

use std::io;
use std::path::PathBuf;

/// One attempt of one task, as `costs.csv` lists it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CostRow {
    /// Short task key.
    pub task: String,
    /// `train`, `evaluate` or `measure`.
    pub kind: String,
    /// Name of the worker.
    pub worker: String,
    /// Number of the lease, from 1.
    pub attempt: u32,
    /// Time on the worker.
    pub seconds: f64,
    /// One example passing through the network once.
    pub forwards: u64,
    /// One example's gradient.
    pub backwards: u64,
    /// Distinct examples that the task worked on.
    pub examples: u64,
}

/// Where the numbers come from. Texts may be empty where they are not known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Provenance {
    /// The sweep as the user wrote it.
    pub yaml: String,
    /// Version of epsweep.
    pub epsweep: String,
    /// Version of libtorch, as the workers reported it.
    pub libtorch: String,
    /// Version of the algorithms that enters every task key.
    pub algorithm: String,
    /// Name of the data set.
    pub data: String,
    pub data_digest: String,
    /// Timestamps, as they should be printed.
    pub started: String,
    pub finished: String,
    /// Seconds during which any task was at work; 0 when not known.
    pub wall_seconds: f64,
    /// One per worker that took part.
    pub workers: Vec<WorkerLine>,
    /// Tasks of the plan.
    pub tasks: u64,
    /// How many of them an earlier sweep had answered already.
    pub reused: u64,
    /// Attempts that were repeated after a failure or a lost worker.
    pub retries: u64,
    /// What failed for good.
    pub failures: Vec<Failure>,
    /// The command that makes these numbers again, such as `epsweep run sweep.yaml`.
    pub command: String,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct WorkerLine {
    pub name: String,
    /// `cpu`, `cuda:0 (NVIDIA H100)`, ...
    pub device: String,
    pub slots: u32,
    /// Tasks that it committed.
    pub tasks: u64,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Failure {
    /// Short key of the trial.
    pub trial: String,
    pub reason: String,
}

/// What [`super::write`] has done.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Paths of the files, in the order of writing; the page comes last.
    pub files: Vec<PathBuf>,
    /// Trials that are trained and fully evaluated ...
    pub finished: usize,
    /// ... of so many.
    pub trials: usize,
    /// Where certificates contradict attacks: a bug of the program, one line each.
    pub contradictions: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot encode the table as CSV")]
    Csv(#[from] csv::Error),
    #[error("cannot encode the table as Parquet")]
    Parquet(#[from] parquet::errors::ParquetError),
}
