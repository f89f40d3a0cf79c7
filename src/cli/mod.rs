//! The command line of `epsweep`: one file per verb, one printer. Nothing imports this room.

mod audit;
mod backup;
mod bucket;
mod cancel;
mod certs;
mod compact;
mod connect;
mod data;
mod elsewhere;
mod gc;
mod health;
mod launch;
mod list;
mod logs;
mod pause;
mod plan;
mod printer;
mod priority;
mod progress;
mod report;
mod resume;
mod retry;
mod run;
mod salvage;
mod schema;
mod serve;
mod status;
mod submit;
mod watch;
mod why;
mod witnesses;

use crate::program::{AFTER_HELP, Output, block_on, finish, style_errors};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Traces the accuracy-robustness trade-off of neural networks.
#[derive(Debug, Parser)]
#[command(name = "epsweep", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Validate a sweep file and show what it would compute; runs nothing
    Plan(plan::Args),
    /// Run a sweep on this machine, with a report at the end; run again to resume
    Run(run::Args),
    /// Run a sweep on a cluster: render its jobs, and submit them
    #[command(subcommand)]
    Launch(launch::Target),
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
    /// Say what everything that does not run waits for
    Why(why::Args),
    /// Show what has happened to tasks, attempt by attempt
    Logs(logs::Args),
    /// Ask whether a coordinator serves, for probes
    Health(health::Args),
    /// Start nothing more of a sweep until it is resumed
    Pause(pause::Args),
    /// Go on with a paused sweep
    Resume(resume::Args),
    /// Give tasks that failed for good another chance
    Retry(retry::Args),
    /// Change a sweep's share of the slots
    Priority(priority::Args),
    /// Stop a sweep; what has been computed stays
    Cancel(cancel::Args),
    /// Write every table, plot and page anew from the ledger
    Report(report::Args),
    /// Check every stored adversarial example anew
    Audit(audit::Args),
    /// Export the stored adversarial examples as NumPy arrays
    Witnesses(witnesses::Args),
    /// List, fetch and verify data sets
    Data(data::Args),
    /// Copy a ledger and its files, also while a coordinator runs; the copy is verified
    Backup(backup::Args),
    /// Make a ledger smaller: what the history need not hold of answered tasks goes
    Compact(compact::Args),
    /// Remove checkpoints and witnesses that no ledger names
    Gc(gc::Args),
    /// Copy what is readable of a damaged ledger to a new one
    Salvage(salvage::Args),
    /// Make certificates for a coordinator, its workers and clients
    Certs(certs::Args),
    /// Print the JSON Schema of the sweep file
    Schema(schema::Args),
}

/// The whole program.
pub fn main() -> ExitCode {
    style_errors();
    let Cli { output, verb } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(), // clap's own codes: 0 for --help, 2 for mistakes
    };
    let result = match verb {
        Verb::Certs(args) => certs::certs(&args),
        Verb::Plan(args) => plan::plan(&args),
        Verb::Run(args) => block_on(run::run(args, output)),
        Verb::Launch(target) => launch::launch(target),
        Verb::Serve(args) => block_on(serve::serve(args, output)),
        Verb::Submit(args) => block_on(submit::submit(args)),
        Verb::List(args) => block_on(list::list(args)),
        Verb::Status(args) => block_on(status::status(args)),
        Verb::Watch(args) => block_on(watch::watch(args)),
        Verb::Why(args) => block_on(why::why(args)),
        Verb::Logs(args) => block_on(logs::logs(args)),
        Verb::Health(args) => block_on(health::health(args)),
        Verb::Pause(args) => block_on(pause::pause(args)),
        Verb::Resume(args) => block_on(resume::resume(args)),
        Verb::Retry(args) => block_on(retry::retry(args)),
        Verb::Priority(args) => block_on(priority::priority(args)),
        Verb::Cancel(args) => block_on(cancel::cancel(args)),
        Verb::Report(args) => report::report(&args),
        Verb::Audit(args) => block_on(audit::audit(&args, &output)),
        Verb::Witnesses(args) => block_on(witnesses::witnesses(&args)),
        Verb::Data(args) => data::data(&args),
        Verb::Backup(args) => block_on(backup::backup(&args)),
        Verb::Compact(args) => compact::compact(&args),
        Verb::Gc(args) => block_on(gc::gc(args)),
        Verb::Salvage(args) => salvage::salvage(&args),
        Verb::Schema(args) => schema::schema(&args),
    };
    finish(result)
}
