//! `epsweep priority SWEEP N`.

use super::connect::{Target, bounded};
use super::printer;
use crate::program::{Exit, Failure};
use crate::proto::SetPriorityRequest;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep's name
    sweep: String,
    /// 1 to 1000: a sweep of priority 20 is given twice the time of one of 10 while both have work
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    priority: u32,
    #[command(flatten)]
    target: Target,
}

pub async fn priority(args: Args) -> Result<Exit, Failure> {
    let mut client = args.target.connect().await?;
    let request = SetPriorityRequest { sweep: args.sweep.clone(), priority: args.priority };
    let response = client.set_priority(bounded(request)).await;
    let before = response.map_err(|status| args.target.failed(&status))?.into_inner().before;
    printer::line(format!("{}: priority {}, {before} before", args.sweep, args.priority));
    Ok(Exit::Done)
}
