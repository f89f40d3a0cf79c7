//! The generated types of proto/epsweep/v1.

#[allow(clippy::too_many_lines)]
mod generated {
    tonic::include_proto!("epsweep.v1");
}

pub use generated::*;

/// Encoded descriptors, for the reflection service.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");

use crate::engine;
use crate::plan::TaskKey;

impl From<engine::Lease> for LeaseRef {
    fn from(lease: engine::Lease) -> LeaseRef {
        LeaseRef { task: lease.task.0.to_vec().into(), attempt: lease.attempt }
    }
}

impl TryFrom<LeaseRef> for engine::Lease {
    type Error = String;

    fn try_from(lease: LeaseRef) -> Result<engine::Lease, String> {
        let bytes: [u8; 32] = lease.task[..].try_into().map_err(|_| "a task key is 32 bytes".to_string())?;
        Ok(engine::Lease { task: TaskKey(bytes), attempt: lease.attempt })
    }
}
