//! `epsweep-worker`: its options, its signals, its exit codes.

use super::audit::{self, AuditCli};
use super::compute::Lab;
use super::device;
use super::limit::{self, Limit};
use super::shell::{self, LinkError, Options, WorkerError};
use clap::Parser;
use epsweep::artifacts::Place;
use epsweep::launch::compute::Compute;
use epsweep::program::{
    AFTER_HELP, Exit, Failure, Output, block_on, finish, interrupt_signal, note, style_errors, terminate_signal,
    warning_signal,
};
use epsweep::telemetry;
use epsweep::telemetry::metrics::MetricsAddress;
use epsweep::telemetry::traces::Traces;
use epsweep::transport::{Credentials, Proof, Role};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// Of the default cache, in GiB.
const CACHE_SIZE: u64 = 20;

/// Joins a coordinator and computes what it is leased, until it is told to leave.
#[derive(Debug, Parser)]
#[command(name = "epsweep-worker", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    /// The coordinator, HOST:PORT, or @FILE for a file that says it: waited for, and read again at every connection
    #[arg(long, value_name = "ADDR", env = "EPSWEEP_COORDINATOR")]
    connect: String,
    /// Tasks at a time, one thread each [default: one for each GPU, 1 on a CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: Option<u32>,
    /// Name in logs and tables [default: host-pid]
    #[arg(long)]
    name: Option<String>,
    /// Where checkpoints and unfinished training runs are kept [default: ~/.cache/epsweep/worker]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Bound on the checkpoints and witnesses kept there, in GiB; those not used for longest go [default: 20 for the
    /// default folder, none for another]
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    cache_size: Option<u64>,
    /// The folder or s3://BUCKET/PREFIX of the coordinator's --artifacts, if this machine can reach it: artifacts then
    /// do not travel through the coordinator
    #[arg(long, value_name = "PLACE", env = "EPSWEEP_ARTIFACTS")]
    artifacts: Option<String>,
    #[command(flatten)]
    proof: Proof,
    /// Seconds to wait for a coordinator that has never answered
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    connect_timeout: u64,
    /// Seconds to wait for a coordinator that has gone away
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    reconnect_timeout: u64,
    /// Seconds between two copies of a training run's state that go to the coordinator, for others to go on from;
    /// 0: none, the cache outlives this worker
    #[arg(long, value_name = "SECONDS", default_value_t = 300.0, value_parser = seconds)]
    save_every: f64,
    /// Also write JSON lines to this file
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Leave when stdin closes: the parent has died
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
    /// Leave when there has been nothing to do for so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_exit: Option<f64>,
    /// The first of so many GPUs are other workers' turn
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    device_offset: usize,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    metrics: MetricsAddress,
    #[command(flatten)]
    traces: Traces,
    #[command(flatten)]
    output: Output,
}

/// Seconds from 0 to a year.
fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "a number of seconds is expected, such as 300 or 0.5".to_string())?;
    (0.0..=365.0 * 86400.0).contains(&value).then_some(value).ok_or_else(|| "it lies outside 0 to a year".to_string())
}

/// The whole program.
pub fn main() -> ExitCode {
    style_errors();
    // Not for people: `epsweep audit` starts it.
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "audit") {
        return finish(audit::main(&AuditCli::parse_from([program].into_iter().chain(args.skip(1)))));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    if let Err(failure) = device::with_environment(&cli.compute) {
        return finish(Err(failure));
    }
    finish(block_on(work(cli)))
}

async fn work(cli: Cli) -> Result<Exit, Failure> {
    telemetry::keep_tail();
    telemetry::init(cli.output.log_format, cli.output.level(false), cli.log_file.as_deref()).map_err(Failure::usage)?;
    let devices = device::open(&cli.compute, cli.slots, cli.device_offset)?;
    let host =
        nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "host".into());
    let shutdown = CancellationToken::new();
    let interrupted = watch_signals(&cli, &shutdown)?;
    let ends = cli.limit.find().await;
    if let Some(ends) = ends {
        limit::leave_in_time(ends, shutdown.clone());
    }
    let name = cli.name.unwrap_or_else(|| default_name(&host));
    let tracer = cli.traces.open("epsweep-worker", &name).map_err(Failure::usage)?;
    let options = Options {
        connect: cli.connect,
        name,
        host,
        slots: cli.slots.unwrap_or(devices.all.len() as u32),
        device: devices.name.clone(),
        compute: Arc::new(Lab::new(devices)),
        first_request: SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_millis() as u64),
        cache_size: cli.cache_size.or(cli.cache.is_none().then_some(CACHE_SIZE)).map(|size| size << 30),
        cache: cli.cache.unwrap_or_else(default_cache),
        place: Place::open(cli.artifacts.as_deref()).await.map_err(Failure::usage)?,
        credentials: Credentials::load(&cli.proof, Role::Worker).map_err(Failure::usage)?,
        libtorch: env!("EPSWEEP_LIBTORCH_VERSION").into(),
        save_every: (cli.save_every > 0.0).then(|| Duration::from_secs_f64(cli.save_every)),
        metrics: cli.metrics.address,
        tracer: tracer.clone(),
        patience: (Duration::from_secs(cli.connect_timeout), Duration::from_secs(cli.reconnect_timeout)),
        ends,
        idle_exit: cli.idle_exit.map(Duration::from_secs_f64),
    };
    let ended = shell::run(options, shutdown).await;
    tracer.close().await;
    match ended {
        Ok(()) if interrupted.is_cancelled() => {
            note(format_args!("interrupted; unfinished training runs are kept: start the same command again to go on"));
            Ok(Exit::Interrupted)
        }
        Ok(()) => Ok(Exit::Done),
        Err(WorkerError::Link(error @ LinkError::Unreachable { .. })) => Err(Failure::unreachable(error)),
        Err(error @ (WorkerError::Link(_) | WorkerError::Metrics(_))) => Err(Failure::usage(error)),
        Err(error @ (WorkerError::Place(_) | WorkerError::NotShared { .. })) => Err(Failure::usage(error)),
        Err(error) => Err(Failure::internal(error)),
    }
}

/// SIGTERM, SIGUSR1, Ctrl-C and, where asked for, a closed stdin end the worker. The returned token says that it was Ctrl-C.
fn watch_signals(cli: &Cli, shutdown: &CancellationToken) -> Result<CancellationToken, Failure> {
    let interrupted = CancellationToken::new();
    let (mut interrupt, mut terminate, mut warning) = (interrupt_signal()?, terminate_signal()?, warning_signal()?);
    let (by_hand, shutdown) = (interrupted.clone(), shutdown.clone());
    let parent_gone = CancellationToken::new();
    if cli.exit_with_stdin {
        let gone = parent_gone.clone();
        // A thread of its own: the runtime would wait for a pending read when it shuts down.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            gone.cancel();
        });
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => by_hand.cancel(),
            _ = terminate.recv() => {}
            _ = warning.recv() => {}
            () = parent_gone.cancelled() => {}
        }
        shutdown.cancel();
    });
    Ok(interrupted)
}

/// Names end up in file names and tables, so anything unusual becomes a dash.
fn default_name(host: &str) -> String {
    let host: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).take(40).collect();
    format!("{host}-{}", std::process::id())
}

fn default_cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).unwrap_or_else(std::env::temp_dir);
    cache.join("epsweep").join("worker")
}
