//! `epsweep resume SWEEP`.

use super::connect::{Target, bounded};
use super::printer;
use crate::program::{Exit, Failure};
use crate::proto::ResumeRequest;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep's name
    sweep: String,
    #[command(flatten)]
    target: Target,
}

pub async fn resume(args: Args) -> Result<Exit, Failure> {
    let mut client = args.target.connect().await?;
    let request = ResumeRequest { sweep: args.sweep.clone() };
    let response = client.resume(bounded(request)).await.map_err(|status| args.target.failed(&status))?.into_inner();
    let what = if response.was_paused { "goes on" } else { "was not paused" };
    printer::line(format!("{}: {what}", args.sweep));
    Ok(Exit::Done)
}
