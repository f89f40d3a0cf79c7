//! `epsweep report DIR`.

use super::printer;
use crate::coordinator::{PublishError, publish};
use crate::program::{Exit, Failure, note};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of a run, or the state directory of `epsweep serve`
    dir: PathBuf,
    /// Which sweep, where there are several [default: the latest]
    #[arg(long, value_name = "NAME")]
    sweep: Option<String>,
    /// Where to write [default: DIR/report]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn report(args: &Args) -> Result<Exit, Failure> {
    let into = args.out.clone().unwrap_or_else(|| args.dir.join("report"));
    let published = publish(&args.dir, args.sweep.as_deref(), &into).map_err(|error| match error {
        PublishError::Ledger(_) => Failure::usage(error),
        _ => Failure::internal(error),
    })?;
    note(format_args!("{}: {} of {} trials complete", published.sweep, published.finished, published.trials));
    for file in &published.files {
        printer::line(file.display());
    }
    Ok(Exit::Done)
}
