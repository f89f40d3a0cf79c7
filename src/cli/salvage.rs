//! `epsweep salvage DIR TO`: what is readable of a damaged ledger, in a new one.

use super::printer;
use crate::ledger::{Ledger, path_in};
use crate::program::{Exit, Failure};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory with the damaged ledger; nothing in it is changed
    dir: PathBuf,
    /// A directory that holds no ledger yet
    to: PathBuf,
}

pub fn salvage(args: &Args) -> Result<Exit, Failure> {
    if path_in(&args.to).exists() {
        return Err(Failure::usage(miette::miette!("{} holds a ledger already", args.to.display())));
    }
    let mut ledger = Ledger::open(&args.to).map_err(Failure::usage)?;
    let tables = ledger.salvage(&args.dir).map_err(Failure::internal)?;
    ledger.fold().map_err(Failure::internal)?;
    let rows: Vec<Vec<String>> = tables
        .iter()
        .map(|table| {
            let state = if table.incomplete { "rows are missing" } else { "whole" };
            vec![table.table.clone(), table.rows.to_string(), state.to_string()]
        })
        .collect();
    printer::table(&["table", "rows", "state"], &rows);
    crate::program::note(format_args!(
        "what is missing is computed again; move or link {0}/checkpoints and {0}/witnesses to {1} before you use it",
        args.dir.display(),
        args.to.display()
    ));
    Ok(Exit::Done)
}
