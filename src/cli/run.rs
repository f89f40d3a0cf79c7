//! `epsweep run FILE`: a coordinator on loopback and worker processes, from the file to the report.

use super::elsewhere::Elsewhere;
use super::plan;
use super::printer::{self, option, quoted};
use super::progress::Progress;
use crate::artifacts::{Place, new_identity};
use crate::coordinator::{
    Core, Handle, Notice, OpenError, Prepared, Recovery, Server, ServerOptions, Unanswered, publish,
};
use crate::engine::Settings;
use crate::launch::compute::{Compute, Place as Computes};
use crate::launch::cores::Pin;
use crate::launch::local::{Death, Fleet, LocalWorker, find_worker};
use crate::ledger::{Ledger, LedgerError};
use crate::program::{Exit, Failure, Output, interrupt_signal, note, terminate_signal, warning_signal};
use crate::proto::{SubmitResponse, SweepStatus};
use crate::telemetry::metrics::MetricsAddress;
use crate::telemetry::traces::Traces;
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
    /// Worker processes, one thread each [default: the cores of this machine; one for all GPUs of --device]
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// Where the ledger, the checkpoints and the report go [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
    /// Where checkpoints and witnesses are kept: a folder, or s3://BUCKET/PREFIX [default: with the ledger]
    #[arg(long, value_name = "PLACE", env = "EPSWEEP_ARTIFACTS")]
    artifacts: Option<String>,
    #[command(flatten)]
    elsewhere: Elsewhere,
    #[command(flatten)]
    metrics: MetricsAddress,
    #[command(flatten)]
    traces: Traces,
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

impl Args {
    /// Where all are on one machine, a file that is missing now is missing in a second: whoever waits hears it at once.
    fn settings(&self) -> Settings {
        let usual = Settings::default();
        Settings { retry_ms: if self.elsewhere.listen.is_some() { usual.retry_ms } else { 0 }, ..usual }
    }
}

pub async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    if args.workers == Some(0) {
        let help = "--listen takes workers that others start";
        return Err(Failure::usage(miette::miette!(help = help, "--workers 0 would compute nothing")));
    }
    args.compute.place().map_err(Failure::usage)?;
    let prepared = plan::prepare(&args.file)?;
    let name = prepared.plan.sweep.name.clone();
    let dir = args.out.clone().unwrap_or_else(|| plan::default_dir(&name));
    // Workers from elsewhere may have outlived the process before this one.
    let recovery = if args.elsewhere.listen.is_some() { Recovery::Resume } else { Recovery::Fresh };
    let place = Place::open(args.artifacts.as_deref()).await.map_err(Failure::usage)?;
    let settings = args.settings();
    let (core, mut notices) = open(&dir, &place, recovery, settings, (&output, output.level(true))).await?;
    let _page = super::serve::show_metrics(&core, &args.metrics).await?;
    let tracer = super::serve::send_traces(&core, &args.traces).await?;
    core.keep_given(&prepared).await.map_err(|error| Failure::internal(miette::Report::msg(error)))?;
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
    let run = Run { args: &args, output: &output, dir: &dir, name: &name, core: &core, place: &place };
    let ending = match &args.elsewhere.listen {
        _ if submitted.answered == submitted.tasks => Ending::Finished,
        Some(listen) => run.with_workers_from_elsewhere(listen, &mut notices).await?,
        None => run.with_workers_of_its_own(&mut notices).await?,
    };
    let status = core.read({
        let name = name.clone();
        move |core| core.status(&name)
    });
    let status = status.await.ok().flatten().unwrap_or_default();
    let _ = core.call(|core| core.close()).await;
    tracer.close().await;
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
pub async fn open(
    dir: &Path,
    place: &Place,
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
    let mut ledger = Ledger::open(dir).map_err(|error| fault(error.into()))?;
    telemetry::init(output.log_format, level, Some(&telemetry::log_file(dir, "coordinator")))
        .map_err(Failure::usage)?;
    let store = place.store(dir).map_err(Failure::usage)?;
    if !matches!(place, Place::Own) {
        let identity = ledger.identity(&new_identity()).map_err(|error| fault(error.into()))?;
        let at = dir.canonicalize().map_err(|error| Failure::usage(miette::Report::from_err(error)))?;
        let host = nix::unistd::gethostname().unwrap_or_default();
        let whereabouts = format!("{}:{}", host.to_string_lossy(), at.display());
        place.enrol(&identity, &whereabouts).await.map_err(Failure::usage)?;
    }
    Core::start_with(ledger, store, recovery, settings).map_err(fault)
}

/// How many workers there are to be, of how many slots (`None`: one for each GPU), on which cores.
struct Crew {
    count: u32,
    slots: Option<u32>,
    cores: Option<Vec<usize>>,
}

fn crew(args: &Args) -> Result<Crew, Failure> {
    let Compute { pin, .. } = &args.compute;
    let (count, slots) = match (args.compute.place().map_err(Failure::usage)?, args.workers) {
        (_, Some(workers)) => (workers, Some(1)),
        (Computes::Cpu, None) => (pin.as_ref().and_then(Pin::listed).map_or_else(plan::cores, |n| n as u32), Some(1)),
        // How many GPUs there are, only libtorch knows.
        (Computes::Gpus(_), None) => (1, None),
    };
    let cores = pin.as_ref().map(|pin| pin.cores(count as usize)).transpose().map_err(Failure::usage)?;
    Ok(Crew { count, slots, cores })
}

/// A run under way.
struct Run<'a> {
    args: &'a Args,
    output: &'a Output,
    dir: &'a Path,
    name: &'a str,
    core: &'a Handle,
    place: &'a Place,
}

impl Run<'_> {
    /// Starts the workers and waits for the end of the sweep, or of our patience.
    async fn with_workers_of_its_own(&self, notices: &mut mpsc::UnboundedReceiver<Notice>) -> Result<Ending, Failure> {
        let dir = std::path::absolute(self.dir).map_err(|error| Failure::internal(miette::miette!("{error}")))?;
        let token = RunToken::new(&dir)
            .map_err(|error| Failure::internal(miette::miette!("cannot make a token in {}: {error}", dir.display())))?;
        let access = Access::run(&token);
        let options =
            ServerOptions { listen: "127.0.0.1:0".into(), access, settings: Settings::default(), artifacts: None };
        let server = Server::start(self.core.clone(), options).await.map_err(Failure::internal)?;
        let Crew { count, slots, cores } = crew(self.args)?;
        let template = LocalWorker {
            program: find_worker().map_err(Failure::usage)?,
            connect: server.address.to_string(),
            name: format!("local-{}", std::process::id()),
            dir,
            compute: Compute { pin: None, ..self.args.compute.clone() },
            slots,
            turn: 0,
            otlp: self.args.traces.collector.clone(),
            token_file: token.path().to_path_buf(),
        };
        let (deaths, died) = mpsc::unbounded_channel();
        let fleet = Fleet::start(&template, count, cores.as_deref(), &deaths).map_err(Failure::internal)?;
        let ending = self.until_the_end(notices, died, fleet.finished()).await?;
        if matches!(ending, Ending::Finished) {
            let _ = self.core.call(|core| core.drain()).await;
            let _ = tokio::time::timeout(FAREWELL, fleet.finished()).await;
        }
        if matches!(ending, Ending::Interrupted) {
            note(format_args!("interrupted: stopping the workers (once more to stop at once)"));
            let mut interrupt = interrupt_signal()?;
            tokio::spawn(async move {
                interrupt.recv().await;
                std::process::exit(Exit::Interrupted as i32);
            });
        }
        fleet.stop().await;
        server.stop().await;
        Ok(ending)
    }

    /// Takes the workers that come, and waits for the same.
    async fn with_workers_from_elsewhere(
        &self,
        listen: &str,
        notices: &mut mpsc::UnboundedReceiver<Notice>,
    ) -> Result<Ending, Failure> {
        let artifacts = self.place.mark().await.map_err(Failure::usage)?;
        let open = self.args.elsewhere.open(self.core, listen, artifacts).await?;
        let (_nobody, died) = mpsc::unbounded_channel();
        let ending = self.until_the_end(notices, died, std::future::pending()).await?;
        open.close(self.core, matches!(ending, Ending::Finished | Ending::Halted(_))).await;
        Ok(ending)
    }

    async fn until_the_end(
        &self,
        notices: &mut mpsc::UnboundedReceiver<Notice>,
        mut died: mpsc::UnboundedReceiver<Death>,
        all_left: impl Future<Output = ()>,
    ) -> Result<Ending, Failure> {
        let Run { output, core, name, .. } = *self;
        let mut progress = Progress::new(output.quiet || output.log_format == LogFormat::Json);
        let mut refresh = tokio::time::interval(Duration::from_millis(250));
        let (mut interrupt, mut terminate, mut warning) = (interrupt_signal()?, terminate_signal()?, warning_signal()?);
        tokio::pin!(all_left);
        let ending = loop {
            tokio::select! {
                notice = notices.recv() => match notice {
                    Some(Notice::Finished { name: ended, .. }) if ended != name => {} // an older one in the same folder
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
                () = &mut all_left => {
                    // The last one's death may not have been looked at yet.
                    let refused = std::iter::from_fn(|| died.try_recv().ok()).any(|death| death.is_refusal());
                    break if refused { Ending::Refused } else { Ending::NoWorkers };
                }
                _ = interrupt.recv() => break Ending::Interrupted,
                _ = terminate.recv() => break Ending::Interrupted,
                _ = warning.recv() => break Ending::Interrupted,
                _ = refresh.tick() => {
                    let name = name.to_string();
                    if let Ok(Some(status)) = core.read(move |core| core.status(&name)).await {
                        progress.show(&status);
                    }
                }
            }
        };
        progress.finish();
        Ok(ending)
    }
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
    let compute: String = args.compute.args().iter().map(|word| format!(" {word}")).collect();
    let metrics = option("--metrics", args.metrics.address.as_deref().map(Path::new));
    let otlp = option("--otlp", args.traces.collector.as_deref().map(Path::new));
    let artifacts = option("--artifacts", args.artifacts.as_deref().map(Path::new));
    format!(
        "epsweep run {}{workers}{out}{compute}{artifacts}{metrics}{otlp}{}",
        quoted(&args.file),
        args.elsewhere.again()
    )
}

fn broken(notice: Option<Notice>) -> Failure {
    match notice {
        Some(Notice::Broken(error)) => Failure::internal(error),
        _ => Failure::internal(miette::miette!("the coordinator stopped unexpectedly")),
    }
}
