//! `epsweep list`.

use super::connect::{Target, bounded};
use super::printer;
use crate::program::{Exit, Failure};
use crate::proto::ListRequest;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn list(args: Args) -> Result<Exit, Failure> {
    let mut client = args.target.connect().await?;
    let sweeps =
        client.list(bounded(ListRequest {})).await.map_err(|status| args.target.failed(&status))?.into_inner().sweeps;
    if args.json {
        printer::json(&sweeps.iter().map(printer::status_json).collect::<Vec<_>>());
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = sweeps
        .iter()
        .map(|status| {
            vec![status.sweep.clone(), status.state.clone(), status.trials.to_string(), printer::status_line(status)]
        })
        .collect();
    printer::table(&["sweep", "state", "trials", "progress"], &rows);
    Ok(Exit::Done)
}
