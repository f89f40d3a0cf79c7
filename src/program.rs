//! What both programs share at their edges: exit codes, options for output, error style, signals.

use crate::telemetry::LogFormat;
use std::io::Write;
use std::process::ExitCode;

/// What a process says when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Internal = 1,
    /// The command line or the file is wrong.
    Usage = 2,
    /// Finished, with failed trials, or with witnesses that do not hold.
    FailedTrials = 3,
    Unreachable = 4,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error with the exit code it leads to.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub report: miette::Report,
}

impl Failure {
    pub fn usage(error: impl Into<miette::Report>) -> Failure {
        Failure { exit: Exit::Usage, report: error.into() }
    }

    pub fn internal(error: impl Into<miette::Report>) -> Failure {
        Failure { exit: Exit::Internal, report: error.into() }
    }

    pub fn unreachable(error: impl Into<miette::Report>) -> Failure {
        Failure { exit: Exit::Unreachable, report: error.into() }
    }
}

/// What stands below `--help` of both programs.
pub const AFTER_HELP: &str = "Exit codes: 0 done; 1 internal error; 2 the command line or the file is wrong; \
3 finished, with failed trials or witnesses that do not hold; 4 coordinator unreachable; 130 interrupted.\n\
RUST_LOG filters the log; NO_COLOR is respected; EPSWEEP_WORKER names the worker program that `run` starts.";

const GLOBAL: &str = "Global options";

/// How a program speaks: the same for every verb.
#[derive(Debug, Clone, clap::Args)]
pub struct Output {
    /// How log lines look on stderr.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT", help_heading = GLOBAL)]
    pub log_format: LogFormat,
    /// Say only what went wrong.
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    pub quiet: bool,
    /// Say more; twice for everything.
    #[arg(long, short, global = true, action = clap::ArgAction::Count, help_heading = GLOBAL)]
    pub verbose: u8,
}

impl Output {
    /// The log level of stderr for a program that shows its progress otherwise (`calm`), or not.
    pub fn level(&self, calm: bool) -> &'static str {
        match (self.quiet, self.verbose, calm) {
            (true, ..) => "error",
            (_, 0, true) => "warn",
            (_, 0, false) | (_, 1, true) => "info",
            _ => "debug",
        }
    }
}

/// Says something to people, on stderr. Nobody listening (`2>&1 | head`) is no error.
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Ctrl-C, from now on: a signal that comes while nobody waits is kept.
///
/// # Errors
/// When the operating system refuses.
pub fn interrupt_signal() -> Result<tokio::signal::unix::Signal, Failure> {
    listen(tokio::signal::unix::SignalKind::interrupt())
}

/// Prints what went wrong, if anything, and turns the rest into an exit code.
pub fn finish(result: Result<Exit, Failure>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            note(format_args!("{:?}", failure.report));
            failure.exit.into()
        }
    }
}

/// Errors as snippets where there is a terminal, plain without colours where NO_COLOR says so.
pub fn style_errors() {
    let _ =
        miette::set_hook(Box::new(|_| Box::new(miette::MietteHandlerOpts::new().context_lines(1).width(100).build())));
}

/// Runs an asynchronous program.
///
/// # Panics
/// When the operating system gives no threads.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the runtime starts")
        .block_on(future)
}

/// SIGTERM, which batch systems send, ends a program like Ctrl-C.
///
/// # Errors
/// When the operating system refuses.
pub fn terminate_signal() -> Result<tokio::signal::unix::Signal, Failure> {
    listen(tokio::signal::unix::SignalKind::terminate())
}

/// SIGUSR1, by which batch systems can be asked to say that the time is nearly over (`sbatch --signal`).
///
/// # Errors
/// When the operating system refuses.
pub fn warning_signal() -> Result<tokio::signal::unix::Signal, Failure> {
    listen(tokio::signal::unix::SignalKind::user_defined1())
}

fn listen(kind: tokio::signal::unix::SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    tokio::signal::unix::signal(kind)
        .map_err(|error| Failure::internal(miette::miette!("cannot listen for signals: {error}")))
}
