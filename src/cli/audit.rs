//! `epsweep audit DIR`: re-verifies every stored witness. The network is the worker's business: its
//! program does the work and reports in lines of JSON; here they become a bar, a list and an exit code.

use super::bucket::{Artifacts, Wanted};
use super::printer;
use crate::launch::local::find_worker;
use crate::ledger::Ledger;
use crate::program::{Exit, Failure, Output, note};
use crate::witness::audit::{AuditEvent, AuditSummary, Finding};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of a run, or the state directory of `epsweep serve`
    dir: PathBuf,
    /// Only this sweep's witnesses [default: all there are]
    #[arg(long, value_name = "NAME")]
    sweep: Option<String>,
    /// What to compute on: cpu, or cuda:K
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    artifacts: Artifacts,
}

pub async fn audit(args: &Args, output: &Output) -> Result<Exit, Failure> {
    if args.artifacts.bucket()?.is_some() {
        let ledger = Ledger::read(&args.dir).map_err(Failure::usage)?;
        let (checkpoints, witnesses) = ledger.artifacts().map_err(Failure::internal)?;
        args.artifacts.bring(&args.dir, &Wanted { checkpoints, witnesses }).await?;
    }
    let mut child = start(args)?;
    let lines = BufReader::new(child.stdout.take().expect("its stdout is a pipe")).lines();
    let bar = bar(output.quiet || args.json);
    let (mut findings, mut summary) = (Vec::new(), None);
    for line in lines {
        let Some(event) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else { continue };
        match event {
            AuditEvent::Start { witnesses } => bar.set_length(witnesses),
            AuditEvent::Progress { witnesses } => bar.set_position(witnesses),
            AuditEvent::Fault(finding) => findings.push(finding),
            AuditEvent::End(end) => summary = Some(end),
        }
    }
    bar.finish_and_clear();
    let status = child.wait().map_err(|error| Failure::internal(miette::miette!("the worker's program: {error}")))?;
    let Some(summary) = summary else {
        // It has said why, on the stderr that we share.
        return match status.code() {
            Some(code) if code == Exit::Usage as i32 => Ok(Exit::Usage),
            Some(code) if code == Exit::Internal as i32 => Ok(Exit::Internal),
            _ => Err(Failure::internal(miette::miette!("the audit broke off: epsweep-worker ended with {status}"))),
        };
    };
    show(args, &findings, &summary);
    Ok(if summary.faults == 0 { Exit::Done } else { Exit::FailedTrials })
}

fn start(args: &Args) -> Result<Child, Failure> {
    let program = find_worker().map_err(Failure::usage)?;
    let mut command = Command::new(&program);
    command.arg("audit").arg(&args.dir).args(["--device", &args.device]);
    if let Some(sweep) = &args.sweep {
        command.args(["--sweep", sweep]);
    }
    command.env("OMP_NUM_THREADS", "1").stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().map_err(|error| Failure::usage(miette::miette!("cannot start {}: {error}", program.display())))
}

fn bar(quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:32}] {human_pos} of {human_len} witnesses")
        .expect("a valid template")
        .progress_chars("━╸─");
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
}

fn show(args: &Args, findings: &[Finding], summary: &AuditSummary) {
    if args.json {
        let mut all = serde_json::to_value(summary).expect("a summary is numbers");
        all["findings"] = serde_json::to_value(findings).expect("findings are text and numbers");
        return printer::json(&all);
    }
    if !findings.is_empty() {
        let row = |finding: &Finding| {
            let example = finding.example.map(|example| example.to_string()).unwrap_or_default();
            let (trial, attack) = (finding.trial.clone(), finding.attack.clone());
            vec![trial, finding.epoch.to_string(), attack, example, finding.what.clone(), finding.file.clone()]
        };
        let rows: Vec<_> = findings.iter().map(row).collect();
        printer::table(&["trial", "epoch", "attack", "example", "what is wrong", "file"], &rows);
    }
    let AuditSummary { witnesses, hold, within_rounding, evaluations, checkpoints, .. } = *summary;
    printer::line(format!(
        "{hold} of {} hold ({}, {}, {})",
        printer::count(witnesses, "witness").replace("witnesss", "witnesses"),
        printer::count(evaluations, "evaluation"),
        printer::count(checkpoints, "checkpoint"),
        printer::duration(summary.seconds)
    ));
    if within_rounding > 0 {
        note(format_args!(
            "{within_rounding} of them lie so near the border between two classes that rounding may decide"
        ));
    }
    if summary.faults > 0 {
        note(format_args!("{} found", printer::count(summary.faults, "fault")));
    }
}
