//! The command line and the coordinator. Never loads libtorch.

fn main() -> std::process::ExitCode {
    epsweep::cli::main()
}
