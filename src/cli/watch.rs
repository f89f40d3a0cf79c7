//! `epsweep watch [SWEEP]`: follows a sweep until it ends.

use super::connect::Target;
use super::progress::Progress;
use super::{printer, status};
use crate::program::{Exit, Failure};
use crate::proto::{SweepStatus, WatchRequest};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep's name [default: the latest]
    #[arg(default_value = "", hide_default_value = true)]
    sweep: String,
    #[command(flatten)]
    target: Target,
    /// Print one JSON object per change
    #[arg(long)]
    json: bool,
}

pub async fn watch(args: Args) -> Result<Exit, Failure> {
    let mut client = args.target.connect().await?;
    let request = WatchRequest { sweep: args.sweep };
    let mut stream = client.watch(request).await.map_err(|status| args.target.failed(&status))?.into_inner();
    let mut progress = Progress::new(args.json);
    let mut last = SweepStatus::default();
    while let Some(response) = stream.message().await.map_err(|status| args.target.failed(&status))? {
        last = response.status.unwrap_or_default();
        if args.json {
            printer::line(printer::status_json(&last));
        }
        progress.show(&last);
    }
    progress.finish();
    if !args.json {
        status::print(&last);
    }
    match last.state.as_str() {
        "failed" => Ok(Exit::FailedTrials),
        "running" | "paused" | "" => {
            Err(args.target.failed(&tonic::Status::unavailable("it ended the stream before the sweep")))
        }
        _ => Ok(Exit::Done),
    }
}
