//! `epsweep run FILE`: a coordinator on loopback and worker processes, from the file to the report.

use super::plan;
use super::printer::{self, option, quoted};
use super::progress::Progress;
use crate::coordinator::{
    Core, Handle, Notice, OpenError, Prepared, Recovery, Server, ServerOptions, Unanswered, publish,
};
use crate::engine::Settings;
use crate::launch::local::{Fleet, LocalWorker, find_worker};
use crate::ledger::{Ledger, LedgerError};
use crate::program::{Exit, Failure, Output, interrupt_signal, note, terminate_signal};
use crate::proto::{SubmitResponse, SweepStatus};
use crate::telemetry::{self, LogFormat};
use crate::transport::{Access, RunToken};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep file
    file: PathBuf,
    /// Worker processes, one thread each [default: the cores of this machine]
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// Where the ledger, the checkpoints and the report go [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What the workers compute on: cpu, or cuda:K
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Workers that were told to leave get this long.
const FAREWELL: Duration = Duration::from_secs(5);

/// How a run ended.
enum Ending {
    Finished,
    Interrupted,
    /// So much failed that the sweep paused itself.
    Halted(String),
    Broken(LedgerError),
    NoWorkers,
    /// A worker did not accept how it was started.
    Refused,
}

pub async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    if args.workers == Some(0) {
        return Err(Failure::usage(miette::miette!("--workers 0 would compute nothing")));
    }
    let prepared = plan::prepare(&args.file)?;
    let name = prepared.plan.sweep.name.clone();
    let dir = args.out.clone().unwrap_or_else(|| plan::default_dir(&name));
    let (core, mut notices) = open(&dir, Recovery::Fresh, Settings::default(), (&output, output.level(true)))?;
    core.keep_given(&prepared).map_err(|error| Failure::internal(miette::Report::msg(error)))?;
    let submitted = submit(&core, prepared).await.ok_or_else(|| broken(notices.try_recv().ok()))?;
    if !output.quiet {
        note(format_args!(
            "{name}: {} trials, {} tasks, {} of them already answered, in {}",
            submitted.trials,
            submitted.tasks,
            submitted.answered,
            dir.display()
        ));
    }
    let ending = if submitted.answered == submitted.tasks {
        Ending::Finished
    } else {
        work(&args, &output, &dir, &name, &core, &mut notices).await?
    };
    let status = core.read({
        let name = name.clone();
        move |core| core.status(&name)
    });
    let status = status.await.ok().flatten().unwrap_or_default();
    let _ = core.call(|core| core.close()).await;
    conclude(ending, &args, &dir, &name, &status)
}

/// Hands the sweep in, once there is space to store it; `None` when the coordinator has stopped.
async fn submit(core: &Handle, prepared: Prepared) -> Option<SubmitResponse> {
    let prepared = Arc::new(prepared);
    loop {
        let prepared = prepared.clone();
        match core.call(move |core| core.submit(&prepared)).await {
            Ok(submitted) => return Some(submitted),
            Err(Unanswered::Waits(_)) => tokio::time::sleep(Duration::from_secs(1)).await, // the log says what for
            Err(Unanswered::Gone) => return None,
        }
    }
}

/// Opens the state directory, and its log before anything can be said of the ledger; whose fault a failure is
/// decides the exit code.
pub fn open(
    dir: &Path,
    recovery: Recovery,
    settings: Settings,
    (output, level): (&Output, &'static str),
) -> Result<(Handle, mpsc::UnboundedReceiver<Notice>), Failure> {
    let fault = |error: OpenError| match error {
        OpenError::Ledger(
            LedgerError::Unwritable { .. } | LedgerError::Locked { .. } | LedgerError::Version { .. },
        ) => Failure::usage(error),
        _ => Failure::internal(error),
    };
    let ledger = Ledger::open(dir).map_err(|error| fault(error.into()))?;
    telemetry::init(output.log_format, level, Some(&telemetry::log_file(dir, "coordinator")))
        .map_err(Failure::usage)?;
    Core::start(ledger, recovery, settings).map_err(fault)
}

/// Starts the workers and waits for the end of the sweep, or of our patience.
async fn work(
    args: &Args,
    output: &Output,
    dir: &Path,
    name: &str,
    core: &Handle,
    notices: &mut mpsc::UnboundedReceiver<Notice>,
) -> Result<Ending, Failure> {
    let dir = std::path::absolute(dir).map_err(|error| Failure::internal(miette::miette!("{error}")))?;
    let token = RunToken::new(&dir)
        .map_err(|error| Failure::internal(miette::miette!("cannot make a token in {}: {error}", dir.display())))?;
    let access = Access::run(&token);
    let options = ServerOptions { listen: "127.0.0.1:0".into(), access, settings: Settings::default() };
    let server = Server::start(core.clone(), options).await.map_err(Failure::internal)?;
    let template = LocalWorker {
        program: find_worker().map_err(Failure::usage)?,
        connect: server.address.to_string(),
        name: format!("local-{}", std::process::id()),
        dir,
        device: args.device.clone(),
        token_file: token.path().to_path_buf(),
    };
    let (deaths, mut died) = mpsc::unbounded_channel();
    let fleet =
        Fleet::start(&template, args.workers.unwrap_or_else(plan::cores), &deaths).map_err(Failure::internal)?;
    let mut progress = Progress::new(output.quiet || output.log_format == LogFormat::Json);
    let mut refresh = tokio::time::interval(Duration::from_millis(250));
    let (mut interrupt, mut terminate) = (interrupt_signal()?, terminate_signal()?);
    let ending = loop {
        tokio::select! {
            notice = notices.recv() => match notice {
                Some(Notice::Finished { .. }) => break Ending::Finished,
                Some(Notice::Halted { why, .. }) => break Ending::Halted(why),
                Some(Notice::Broken(error)) => break Ending::Broken(error),
                None => break Ending::NoWorkers,
            },
            Some(death) = died.recv() => {
                if death.is_refusal() {
                    break Ending::Refused;
                }
                let _ = core.call(move |core| core.lost(&death.name)).await;
            }
            () = fleet.finished() => break Ending::NoWorkers,
            _ = interrupt.recv() => break Ending::Interrupted,
            _ = terminate.recv() => break Ending::Interrupted,
            _ = refresh.tick() => {
                let name = name.to_string();
                if let Ok(Some(status)) = core.read(move |core| core.status(&name)).await {
                    progress.show(&status);
                }
            }
        }
    };
    progress.finish();
    if matches!(ending, Ending::Finished) {
        let _ = core.call(|core| core.drain()).await;
        let _ = tokio::time::timeout(FAREWELL, fleet.finished()).await;
    }
    if matches!(ending, Ending::Interrupted) {
        note(format_args!("interrupted: stopping the workers (once more to stop at once)"));
        tokio::spawn(async move {
            interrupt.recv().await;
            std::process::exit(Exit::Interrupted as i32);
        });
    }
    fleet.stop().await;
    server.stop().await;
    Ok(ending)
}

/// Writes the report of whatever there is, and says how the run ended.
fn conclude(ending: Ending, args: &Args, dir: &Path, name: &str, status: &SweepStatus) -> Result<Exit, Failure> {
    match ending {
        Ending::Broken(error) => return Err(broken(Some(Notice::Broken(error)))),
        Ending::Refused => {
            return Err(Failure::usage(miette::miette!("the workers could not start; why stands above")));
        }
        Ending::Finished | Ending::Interrupted | Ending::NoWorkers | Ending::Halted(_) => {}
    }
    let published = publish(dir, Some(name), &dir.join("report")).map_err(Failure::internal)?;
    let page = dir.join("report").join("index.html");
    match ending {
        Ending::Interrupted => {
            note(format_args!(
                "{} of {} trials are complete; go on with: {}",
                published.finished,
                published.trials,
                again(args)
            ));
            Ok(Exit::Interrupted)
        }
        Ending::Halted(why) => {
            status.failures.iter().take(3).for_each(|failure| note(format_args!("failed: {failure}")));
            note(format_args!("the sweep was paused {why}; see to the cause, then go on with: {}", again(args)));
            Ok(Exit::FailedTrials)
        }
        Ending::NoWorkers => Err(Failure::internal(miette::miette!(
            help = format!("their logs are in {}; go on with: {}", dir.join("logs").display(), again(args)),
            "no worker is left; {} of {} trials are complete",
            published.finished,
            published.trials
        ))),
        _ => {
            printer::line(page.display());
            if status.state == "failed" {
                for failure in &status.failures {
                    note(format_args!("failed: {failure}"));
                }
                note(format_args!(
                    "{} of {} trials failed; the report shows the rest",
                    published.failed, published.trials
                ));
                return Ok(Exit::FailedTrials);
            }
            Ok(Exit::Done)
        }
    }
}

/// The command that goes on where this one stopped.
fn again(args: &Args) -> String {
    let out = option("--out", args.out.as_deref());
    let workers = args.workers.map(|workers| format!(" --workers {workers}")).unwrap_or_default();
    let device = if args.device == "cpu" { String::new() } else { format!(" --device {}", args.device) };
    format!("epsweep run {}{workers}{out}{device}", quoted(&args.file))
}

fn broken(notice: Option<Notice>) -> Failure {
    match notice {
        Some(Notice::Broken(error)) => Failure::internal(error),
        _ => Failure::internal(miette::miette!("the coordinator stopped unexpectedly")),
    }
}
