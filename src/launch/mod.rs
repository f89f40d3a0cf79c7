//! Starting workers, and whole sweeps: as processes of this machine, and as jobs of a batch system.

pub mod local;
pub mod slurm;
