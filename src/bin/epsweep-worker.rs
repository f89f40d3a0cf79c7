//! The worker: the only program that links libtorch.

fn main() -> std::process::ExitCode {
    epsweep::cli::worker::main()
}
