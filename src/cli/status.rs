//! `epsweep status [SWEEP]`.

use super::connect::{Target, bounded};
use super::printer;
use crate::program::{Exit, Failure};
use crate::proto::{StatusRequest, SweepStatus};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep's name [default: the latest]
    #[arg(default_value = "", hide_default_value = true)]
    sweep: String,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn status(args: Args) -> Result<Exit, Failure> {
    let mut client = args.target.connect().await?;
    let request = StatusRequest { sweep: args.sweep };
    let response = client.status(bounded(request)).await.map_err(|status| args.target.failed(&status))?.into_inner();
    let status = response.status.unwrap_or_default();
    if args.json {
        printer::json(&printer::status_json(&status));
    } else {
        print(&status);
    }
    Ok(Exit::Done)
}

/// The status for people.
pub fn print(status: &SweepStatus) {
    printer::line(format!("{}: {}", status.sweep, status.state));
    printer::line(format!("  {:.0} %: {}", status.progress * 100.0, printer::status_line(status)));
    if !status.paused.is_empty() {
        printer::line(format!("  paused {}; `epsweep resume {}` goes on", status.paused, status.sweep));
    }
    for line in &status.set_aside {
        printer::line(format!("  {line}"));
    }
    for failure in &status.failures {
        printer::line(format!("  failed: {failure}"));
    }
    if !status.report.is_empty() {
        printer::line(format!("  report: {}", status.report));
    }
}
