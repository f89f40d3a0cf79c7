//! `epsweep retry --failed SWEEP`.

use super::connect::{Target, bounded};
use super::printer;
use crate::program::{Exit, Failure};
use crate::proto::RetryRequest;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep's name
    sweep: String,
    /// Give every task that failed for good another chance, except those that diverged
    #[arg(long, required = true)]
    failed: bool,
    #[command(flatten)]
    target: Target,
}

pub async fn retry(args: Args) -> Result<Exit, Failure> {
    let mut client = args.target.connect().await?;
    let request = RetryRequest { sweep: args.sweep.clone() };
    let response = client.retry(bounded(request)).await.map_err(|status| args.target.failed(&status))?.into_inner();
    let diverged = match response.diverged {
        0 => String::new(),
        diverged => format!("; {} diverged, and would again", printer::count(diverged, "task")),
    };
    printer::line(format!(
        "{}: {} will be tried again{diverged}",
        args.sweep,
        printer::count(response.retried, "task")
    ));
    Ok(Exit::Done)
}
