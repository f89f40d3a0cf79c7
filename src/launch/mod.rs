//! Starting workers: as processes of this machine today.

pub mod local;
