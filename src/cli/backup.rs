//! `epsweep backup DIR TO`: a verified copy of a ledger and its artifacts, also while a coordinator runs.

use super::bucket::{Artifacts, Wanted};
use super::printer;
use crate::artifacts::{ArtifactError, ArtifactId, Store};
use crate::ledger::Ledger;
use crate::program::{Exit, Failure};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory that `epsweep run --out` or `epsweep serve --state` was given
    dir: PathBuf,
    /// Where the copy goes; what an earlier backup has put there is not copied again
    to: PathBuf,
    /// Leave out checkpoints and witnesses
    #[arg(long)]
    ledger_only: bool,
    #[command(flatten)]
    artifacts: Artifacts,
}

pub async fn backup(args: &Args) -> Result<Exit, Failure> {
    let ledger = Ledger::read(&args.dir).map_err(Failure::usage)?;
    let records = ledger.back_up(&args.to).map_err(Failure::internal)?;
    let mut copied = 0;
    if !args.ledger_only {
        // The copy names what belongs to it; artifacts that came later do no harm.
        let copy = Ledger::read(&args.to).map_err(Failure::internal)?;
        let (from, to) = (args.dir.join("checkpoints"), args.to.join("checkpoints"));
        let (checkpoints, witnesses) = copy.artifacts().map_err(Failure::internal)?;
        let wanted = Wanted { checkpoints: checkpoints.clone(), witnesses: witnesses.clone() };
        args.artifacts.bring(&args.dir, &wanted).await?;
        let stores = Store::open(&from).and_then(|from| Ok((from, Store::open(&to)?)));
        let (from, to) = stores.map_err(|error| Failure::internal(miette::Report::msg(error)))?;
        copied += copy_all(&from, &to, &checkpoints)?;
        copied += copy_all(&from.witnesses(), &to.witnesses(), &witnesses)?;
    }
    printer::line(format!("{}: {records} records, {copied} new files; verified", args.to.display()));
    Ok(Exit::Done)
}

/// Copies the artifacts that are not there yet, verified on their way; returns how many.
fn copy_all(from: &Store, to: &Store, ids: &[String]) -> Result<u64, Failure> {
    let mut copied = 0;
    for id in ids.iter().filter_map(|id| ArtifactId::parse(id)).filter(|id| !to.contains(id)) {
        match from.read(&id).and_then(|content| to.put(&content)) {
            Ok(_) => copied += 1,
            // The ledger says what it was, and it can be computed again.
            Err(error @ (ArtifactError::Missing { .. } | ArtifactError::Damaged { .. })) => {
                crate::program::note(format_args!("not in the backup: {error}"));
            }
            Err(error) => return Err(Failure::internal(miette::Report::msg(error))),
        }
    }
    Ok(copied)
}
