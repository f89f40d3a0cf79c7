//! `epsweep cancel SWEEP`.

use super::connect::{Target, bounded};
use super::printer;
use crate::program::{Exit, Failure};
use crate::proto::CancelRequest;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep's name
    sweep: String,
    #[command(flatten)]
    target: Target,
}

pub async fn cancel(args: Args) -> Result<Exit, Failure> {
    let mut client = args.target.connect().await?;
    let request = CancelRequest { sweep: args.sweep.clone() };
    let response = client.cancel(bounded(request)).await.map_err(|status| args.target.failed(&status))?.into_inner();
    printer::line(format!("{}: {} tasks will not run; what was computed stays", args.sweep, response.cancelled));
    Ok(Exit::Done)
}
