//! `epsweep submit FILE --to ADDR`.

use super::connect::{Target, bounded};
use super::{plan, printer};
use crate::program::{Exit, Failure, note};
use crate::proto::SubmitRequest;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep file; its relative paths must mean the same at the coordinator and the workers
    file: PathBuf,
    /// Its weight, 1 to 1000, when the slots are shared out [default: that of the sweep it replaces, or 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    priority: Option<u32>,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn submit(args: Args) -> Result<Exit, Failure> {
    let (yaml, base_dir) = plan::read(&args.file)?;
    // Mistakes in the file are best shown here, before anything is sent.
    crate::spec::parse(&yaml, &args.file.display().to_string(), &base_dir).map_err(Failure::usage)?;
    let request = SubmitRequest {
        yaml,
        source: args.file.display().to_string(),
        base_dir: base_dir.display().to_string(),
        priority: args.priority.unwrap_or(0),
    };
    let mut client = args.target.connect().await?;
    let response = client.submit(bounded(request)).await.map_err(|status| args.target.failed(&status))?.into_inner();
    if args.json {
        printer::json(&serde_json::json!({
            "sweep": response.sweep, "trials": response.trials, "tasks": response.tasks, "answered": response.answered,
        }));
    } else {
        printer::line(format!(
            "{}: {} trials, {} tasks, {} of them already answered",
            response.sweep, response.trials, response.tasks, response.answered
        ));
        note(format_args!("follow it with: epsweep watch {} --to {}", response.sweep, args.target.to));
    }
    Ok(Exit::Done)
}
