//! `epsweep pause SWEEP`.

use super::connect::{Target, bounded};
use super::printer;
use crate::program::{Exit, Failure, note};
use crate::proto::PauseRequest;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep's name
    sweep: String,
    #[command(flatten)]
    target: Target,
}

pub async fn pause(args: Args) -> Result<Exit, Failure> {
    let mut client = args.target.connect().await?;
    let request = PauseRequest { sweep: args.sweep.clone() };
    let response = client.pause(bounded(request)).await.map_err(|status| args.target.failed(&status))?.into_inner();
    printer::line(format!(
        "{}: paused; {} leased may finish, nothing more of it starts",
        args.sweep,
        printer::count(response.running, "task")
    ));
    note(format_args!("go on with: epsweep resume {} --to {}", args.sweep, args.target.to));
    Ok(Exit::Done)
}
