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

    let mut version = None;
    // EPSWEEP_LIBTORCH is set beside LIBTORCH_USE_PYTORCH by scripts/setup_libtorch.py.
    for variable in ["LIBTORCH", "EPSWEEP_LIBTORCH"] {
        println!("cargo::rerun-if-env-changed={variable}");
        if let Ok(root) = std::env::var(variable) {
            println!("cargo::rustc-link-arg=-Wl,-rpath,{root}/lib");
            version = version.or_else(|| libtorch_version(&root));
        }
    }
    println!("cargo::rustc-env=EPSWEEP_LIBTORCH_VERSION={}", version.unwrap_or_default());
    Ok(())
}

/// The release that a libtorch's headers name; workers report it with their results.
fn libtorch_version(root: &str) -> Option<String> {
    let header = std::fs::read_to_string(format!("{root}/include/torch/headeronly/version.h"))
        .or_else(|_| std::fs::read_to_string(format!("{root}/include/torch/csrc/api/include/torch/version.h")))
        .ok()?;
    let part = |name: &str| {
        let line = header.lines().find(|line| line.starts_with(&format!("#define TORCH_VERSION_{name} ")))?;
        line.split_whitespace().nth(2).map(str::to_string)
    };
    Some([part("MAJOR")?, part("MINOR")?, part("PATCH")?].join("."))
}
