//! The worker: the only program that links libtorch.
//!
//! Its two rooms are compiled into this program and not into the library, so that `epsweep` is free
//! of libtorch by construction.

#[path = "../lab/mod.rs"]
mod lab;
#[path = "../worker/mod.rs"]
mod worker;

fn main() -> std::process::ExitCode {
    worker::cli::main()
}
