//! `epsweep launch`: a sweep on a cluster. One file per kind of cluster.

mod kubernetes;
mod slurm;

use crate::program::{Exit, Failure, block_on};

/// What to launch on.
#[derive(Debug, clap::Subcommand)]
pub enum Target {
    /// Run a sweep as jobs of Slurm: one coordinates, an array of workers computes
    Slurm(slurm::Args),
    /// Render the manifests that run a sweep on Kubernetes, and apply them on request
    Kubernetes(kubernetes::Args),
}

pub fn launch(target: Target) -> Result<Exit, Failure> {
    match target {
        Target::Slurm(args) => block_on(slurm::slurm(args)),
        Target::Kubernetes(args) => kubernetes::kubernetes(args),
    }
}
