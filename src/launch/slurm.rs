//! A sweep as jobs of Slurm: one that coordinates, and an array of workers.
//!
//! ```text
//!   login node                         Slurm
//!   epsweep launch slurm ──► DIR/slurm ──► coordinator's job   epsweep run --listen --address-file DIR/slurm/address
//!        render, sbatch                └──► workers' array      epsweep-worker --connect @DIR/slurm/address
//! ```
//!
//! The folder lies on the file system that all nodes share. What is secret (keys) and what is only known later (the
//! address) travels through files there that nobody else can read: never through command lines or the environment.

mod answers;
mod ask;
mod elastic;
mod folder;
mod script;
mod time;

pub use answers::{JobState, Queue, QueueEntry, Submission};
pub use ask::{Slurm, SlurmError};
pub use elastic::{Demand, Fleet, keep_staffed};
pub use folder::{Folder, FolderError};
pub use script::Scripts;
pub use time::{TimeLimit, parse_time};

use std::path::PathBuf;

/// What the coordinator's certificate is for: its host is only known when its job runs, so workers and clients check
/// this name instead, against a CA that exists for this sweep alone.
pub const TLS_NAME: &str = "coordinator.epsweep.internal";

/// What one job asks of Slurm.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub partition: Option<String>,
    pub account: Option<String>,
    pub qos: Option<String>,
    pub constraint: Option<String>,
    pub time: Option<String>,
    pub mem: Option<String>,
    pub cpus: u32,
    pub gpus: u32,
    /// Further options, as `sbatch` takes them.
    pub extra: Vec<String>,
}

/// A sweep to be launched.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The sweep's name, as jobs are called after it.
    pub name: String,
    pub file: PathBuf,
    /// The run's directory. Absolute.
    pub out: PathBuf,
    /// Worker jobs at a time.
    pub workers: u32,
    pub worker: Request,
    pub coordinator: Request,
    /// One job on one node for everything.
    pub one_job: bool,
    /// Shell commands before the programs start, such as `module load cuda`.
    pub setup: Vec<String>,
    pub epsweep: PathBuf,
    pub epsweep_worker: PathBuf,
    /// Workers without work leave after so many seconds.
    pub idle_exit: Option<u64>,
    /// The coordinator submits workers while tasks wait, with so many in the queue.
    pub elastic: Option<u32>,
    /// Where the coordinator listens; 0: a free port.
    pub port: u16,
}

/// What is left of the time of the job that this process runs in; `None` where there is none, or while unknown.
pub async fn time_left_of_this_job() -> Option<TimeLimit> {
    let named = |name| std::env::var(name).ok();
    // An array bears the number of one of its elements: asked for that, Slurm tells of all.
    let element = || Some(format!("{}_{}", named("SLURM_ARRAY_JOB_ID")?, named("SLURM_ARRAY_TASK_ID")?));
    let job = element().or_else(|| named("SLURM_JOB_ID"))?;
    Slurm::find().ok()?.time_left(&job).await
}

impl Launch {
    /// What Slurm calls the coordinator's job. No other sweep's jobs, and none of another folder, bear these names.
    pub fn job_name(&self) -> String {
        let digest = blake3::hash(self.out.as_os_str().as_encoded_bytes()).to_hex();
        format!("epsweep-{}-{}", self.name, &digest[..8])
    }

    /// What Slurm calls the workers' jobs.
    pub fn workers_name(&self) -> String {
        format!("{}-workers", self.job_name())
    }
}
