//! `epsweep why SWEEP [TASK]`: what anything that does not run waits for.

use super::connect::{Target, bounded};
use super::printer;
use crate::program::{Exit, Failure};
use crate::proto::{WhyGroup, WhyRequest};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep's name
    sweep: String,
    /// The first digits of a task's or a trial's id [default: everything that does not run, grouped]
    #[arg(default_value = "", hide_default_value = true)]
    task: String,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn why(args: Args) -> Result<Exit, Failure> {
    let mut client = args.target.connect().await?;
    let request = WhyRequest { sweep: args.sweep, task: args.task };
    let response = client.why(bounded(request)).await.map_err(|status| args.target.failed(&status))?.into_inner();
    if args.json {
        let group = |group: &WhyGroup| {
            serde_json::json!({
                "tasks": group.tasks, "kind": group.kind, "code": group.code, "reason": group.reason,
                "task": group.task, "trial": group.trial,
            })
        };
        let groups: Vec<_> = response.groups.iter().map(group).collect();
        printer::json(&serde_json::json!({"notes": response.notes, "groups": groups}));
        return Ok(Exit::Done);
    }
    response.notes.iter().for_each(printer::line);
    if !response.groups.is_empty() {
        let rows: Vec<Vec<String>> = response
            .groups
            .into_iter()
            .map(|group| vec![group.tasks.to_string(), group.kind, group.task, group.reason])
            .collect();
        printer::table(&["tasks", "kind", "for example", "why"], &rows);
    }
    Ok(Exit::Done)
}
