//! `epsweep compact DIR`: a smaller ledger that says the same.

use super::printer;
use crate::ledger::{Ledger, path_in};
use crate::program::{Exit, Failure};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory that `epsweep run --out` or `epsweep serve --state` was given; no coordinator may be at work on it
    dir: PathBuf,
}

pub fn compact(args: &Args) -> Result<Exit, Failure> {
    Ledger::read(&args.dir).map_err(Failure::usage)?;
    let mut ledger = Ledger::open(&args.dir).map_err(Failure::usage)?;
    let size = || std::fs::metadata(path_in(&args.dir)).map_or(0, |file| file.len());
    ledger.fold().map_err(Failure::internal)?;
    let before = size();
    let compacted = ledger.compact().map_err(Failure::internal)?;
    ledger.shrink().map_err(Failure::internal)?;
    printer::line(format!(
        "{} of {} records kept; {:.1} MB, {:.1} MB before",
        compacted.after,
        compacted.before,
        size() as f64 / 1e6,
        before as f64 / 1e6
    ));
    Ok(Exit::Done)
}
