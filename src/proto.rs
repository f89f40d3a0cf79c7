//! The generated types of proto/epsweep/v1.
tonic::include_proto!("epsweep.v1");
/// Encoded descriptors, for the reflection service.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");
