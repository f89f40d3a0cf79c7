//! The command line: one file per verb, one printer, documented exit codes.

mod cancel;
mod connect;
mod data;
mod list;
mod plan;
mod printer;
mod progress;
mod report;
mod run;
mod schema;
mod serve;
mod status;
mod submit;
mod watch;
#[cfg(feature = "torch")]
pub mod worker;

use crate::telemetry::LogFormat;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// What a process says when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Internal = 1,
    /// The command line or the file is wrong.
    Usage = 2,
    /// Finished, with failed trials.
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

/// Traces the accuracy-robustness trade-off of neural networks.
#[derive(Debug, Parser)]
#[command(name = "epsweep", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 internal error; 2 the command line or the file is wrong; \
3 finished, with failed trials; 4 coordinator unreachable; 130 interrupted.\n\
RUST_LOG filters the log; NO_COLOR is respected.";

/// How a program speaks: the same for every verb.
#[derive(Debug, Clone, clap::Args)]
struct Output {
    /// How log lines look on stderr.
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
    /// Say only what went wrong.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Say more; twice for everything.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Output {
    /// The log level of stderr for a program that shows its progress otherwise (`calm`), or not.
    fn level(&self, calm: bool) -> &'static str {
        match (self.quiet, self.verbose, calm) {
            (true, ..) => "error",
            (_, 0, true) => "warn",
            (_, 0, false) | (_, 1, true) => "info",
            _ => "debug",
        }
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Validate a sweep file and show what it would compute; runs nothing
    Plan(plan::Args),
    /// Run a sweep on this machine, with a report at the end; run again to resume
    Run(run::Args),
    /// Run a coordinator that takes sweeps over gRPC
    Serve(serve::Args),
    /// Hand a sweep to a running coordinator
    Submit(submit::Args),
    /// List the sweeps of a running coordinator
    List(list::Args),
    /// Show how far a sweep is
    Status(status::Args),
    /// Follow a sweep until it ends
    Watch(watch::Args),
    /// Stop a sweep; what has been computed stays
    Cancel(cancel::Args),
    /// Write every table, plot and page anew from the ledger
    Report(report::Args),
    /// List and verify data sets
    Data(data::Args),
    /// Print the JSON Schema of the sweep file
    Schema(schema::Args),
}

/// The whole program.
pub fn main() -> ExitCode {
    install_panic_and_error_style();
    let Cli { output, verb } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(), // clap's own codes: 0 for --help, 2 for mistakes
    };
    let result = match verb {
        Verb::Plan(args) => plan::plan(&args),
        Verb::Run(args) => block_on(run::run(args, output)),
        Verb::Serve(args) => block_on(serve::serve(args, output)),
        Verb::Submit(args) => block_on(submit::submit(args)),
        Verb::List(args) => block_on(list::list(args)),
        Verb::Status(args) => block_on(status::status(args)),
        Verb::Watch(args) => block_on(watch::watch(args)),
        Verb::Cancel(args) => block_on(cancel::cancel(args)),
        Verb::Report(args) => report::report(&args),
        Verb::Data(args) => data::data(&args),
        Verb::Schema(args) => schema::schema(&args),
    };
    finish(result)
}

fn finish(result: Result<Exit, Failure>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("{:?}", failure.report);
            failure.exit.into()
        }
    }
}

/// Errors as snippets where there is a terminal, plain without colours where NO_COLOR says so.
fn install_panic_and_error_style() {
    let _ = miette::set_hook(Box::new(|_| {
        Box::new(miette::MietteHandlerOpts::new().context_lines(1).width(100).build())
    }));
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the runtime starts")
        .block_on(future)
}
