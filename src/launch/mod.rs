//! Starting workers, and whole sweeps: as processes of this machine, and on a cluster.

pub mod compute;
pub mod cores;
pub mod kubernetes;
pub mod local;
pub mod slurm;
