//! `epsweep logs SWEEP [TASK]`: what has happened to tasks, attempt by attempt.

use super::connect::{Target, bounded};
use super::printer;
use crate::program::{Exit, Failure, note};
use crate::proto::{AttemptEvent, LogsRequest};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep's name
    sweep: String,
    /// The first digits of a task's or a trial's id [default: every task that has ever failed]
    #[arg(default_value = "", hide_default_value = true)]
    task: String,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn logs(args: Args) -> Result<Exit, Failure> {
    let mut client = args.target.connect().await?;
    let request = LogsRequest { sweep: args.sweep.clone(), task: args.task };
    let response = client.logs(bounded(request)).await.map_err(|status| args.target.failed(&status))?.into_inner();
    if args.json {
        printer::json(&response.events.iter().map(json).collect::<Vec<_>>());
        return Ok(Exit::Done);
    }
    if response.events.is_empty() {
        note(format_args!("no task of {} has ever failed", args.sweep));
    }
    let mut task = String::new();
    for event in &response.events {
        if event.task != task {
            task.clone_from(&event.task);
            printer::line(format!("{task}: {} {}", event.kind, event.trial));
        }
        print(event);
    }
    Ok(Exit::Done)
}

fn print(event: &AttemptEvent) {
    let mut line = format!("  {}", time(event.at_ms));
    let attempt = if event.attempt > 0 { format!(" attempt {}", event.attempt) } else { String::new() };
    let on = if event.worker.is_empty() { String::new() } else { format!(" on {}", event.worker) };
    let last = if event.fatal { ", for good" } else { "" };
    let failure = if event.failure.is_empty() { String::new() } else { format!(" ({}{last})", event.failure) };
    let message = if event.message.is_empty() { String::new() } else { format!(": {}", event.message) };
    line.push_str(&format!("{attempt} {}{on}{failure}{message}", event.event));
    printer::line(line);
    event.log.lines().for_each(|text| printer::line(format!("    | {text}")));
}

fn json(event: &AttemptEvent) -> serde_json::Value {
    serde_json::json!({
        "task": event.task, "kind": event.kind, "trial": event.trial, "attempt": event.attempt, "at": time(event.at_ms),
        "event": event.event, "worker": event.worker, "failure": event.failure, "fatal": event.fatal,
        "message": event.message, "log": event.log,
    })
}

/// `2026-11-22T18:04:05Z`.
fn time(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms).map_or_else(|_| String::new(), |at| at.strftime("%FT%TZ").to_string())
}
