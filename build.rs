//! Compiles proto/ with protox (no protoc needed) and lets binaries find libtorch without LD_LIBRARY_PATH.

use prost::Message;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = ["proto/epsweep/v1/worker.proto", "proto/epsweep/v1/client.proto"];
    let descriptors = protox::compile(protos, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds_with_config(descriptors, Default::default())?;
    println!("cargo::rerun-if-changed=proto");

    // EPSWEEP_LIBTORCH is set beside LIBTORCH_USE_PYTORCH by scripts/setup_libtorch.py.
    for variable in ["LIBTORCH", "EPSWEEP_LIBTORCH"] {
        println!("cargo::rerun-if-env-changed={variable}");
        if let Ok(root) = std::env::var(variable) {
            println!("cargo::rustc-link-arg=-Wl,-rpath,{root}/lib");
        }
    }
    Ok(())
}
