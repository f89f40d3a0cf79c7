//! Starting workers, and whole sweeps: as processes of this machine, and on a cluster.

pub mod kubernetes;
pub mod local;
pub mod slurm;
