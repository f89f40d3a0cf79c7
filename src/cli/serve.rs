//! `epsweep serve`: a coordinator that takes sweeps over gRPC, and writes each one's report.

use super::printer::{self, option, quoted};
use super::run::open;
use crate::artifacts::Place;
use crate::coordinator::{Handle, Notice, Recovery, Server, ServerOptions, publish};
use crate::engine::Settings;
use crate::program::{Exit, Failure, Output, interrupt_signal, note, terminate_signal};
use crate::telemetry::metrics::{MetricsAddress, Page};
use crate::telemetry::traces::{Tracer, Traces};
use crate::transport::Access;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen, HOST:PORT; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070")]
    listen: String,
    /// Where the ledger, the checkpoints and the reports go
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// File of tokens that workers and clients must present: one alone, or lines NAME ROLES TOKEN with roles
    /// worker, client, read-only. Read again when it changes
    #[arg(long, value_name = "FILE", env = "EPSWEEP_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Folder with ca.pem, cert.pem and key.pem (or ca.crt, tls.crt and tls.key): TLS, with a certificate of that CA
    /// on both sides; needed beyond loopback. Read again when they change
    #[arg(long, value_name = "DIR", env = "EPSWEEP_TLS_DIR")]
    tls_dir: Option<PathBuf>,
    /// Seconds of silence after which a worker's tasks are given to others
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    lease: u64,
    /// A sweep pauses itself when more than this many of its tasks have failed for good, diverged ones not
    /// counted [default: a twentieth of its tasks, at least 10]
    #[arg(long, value_name = "TASKS")]
    failure_budget: Option<u32>,
    /// A task that failed for a reason that may pass, wherever it could be tried, waits so long for its first retry, and
    /// four times as long for each further one
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=3600))]
    retry_delay: u64,
    #[command(flatten)]
    metrics: MetricsAddress,
    #[command(flatten)]
    traces: Traces,
    /// Where checkpoints and witnesses are kept: a folder, or s3://BUCKET/PREFIX with credentials from the
    /// environment [default: in the state directory]
    #[arg(long, value_name = "PLACE", env = "EPSWEEP_ARTIFACTS")]
    artifacts: Option<String>,
}

pub async fn serve(args: Args, output: Output) -> Result<Exit, Failure> {
    let access = Access::from_files(args.token_file.as_deref(), args.tls_dir.as_deref()).map_err(Failure::usage)?;
    let settings = Settings {
        lease_ms: args.lease * 1000,
        failure_budget: args.failure_budget,
        retry_ms: args.retry_delay * 1000,
        ..Settings::default()
    };
    let place = Place::open(args.artifacts.as_deref()).await.map_err(Failure::usage)?;
    let (core, mut notices) =
        open(&args.state, &place, Recovery::Resume, settings, (&output, output.level(false))).await?;
    let artifacts = place.mark().await.map_err(Failure::usage)?;
    let options = ServerOptions { listen: args.listen.clone(), access, settings, artifacts };
    let server = Server::start(core.clone(), options).await.map_err(Failure::usage)?;
    let _page = show_metrics(&core, &args.metrics).await?;
    let tracer = send_traces(&core, &args.traces).await?;
    let address = server.address;
    tracing::info!(address = %server.address, state = %args.state.display(), "listening");
    printer::line(format!("listening on {}", server.address));
    let (mut interrupt, mut terminate) = (interrupt_signal()?, terminate_signal()?);
    let exit = loop {
        tokio::select! {
            notice = notices.recv() => match notice {
                Some(Notice::Finished { name, .. }) => {
                    let (core, state) = (core.clone(), args.state.clone());
                    tokio::spawn(async move { write_report(&core, &state, name).await });
                }
                Some(Notice::Halted { .. }) => {} // logged, and shown by status
                Some(Notice::Broken(error)) => return Err(Failure::internal(error)),
                None => return Err(Failure::internal(miette::miette!("the coordinator stopped unexpectedly"))),
            },
            _ = interrupt.recv() => break Exit::Interrupted,
            _ = terminate.recv() => break Exit::Done,
        }
    };
    server.stop().await;
    let _ = core.call(|core| core.close()).await;
    tracer.close().await;
    note(format_args!(
        "stopped; workers wait for it to come back: epsweep serve --listen {address} --state {}{}{}{}{}{}",
        quoted(&args.state),
        option("--token-file", args.token_file.as_deref()),
        option("--tls-dir", args.tls_dir.as_deref()),
        option("--metrics", args.metrics.address.as_deref().map(Path::new)),
        option("--otlp", args.traces.collector.as_deref().map(Path::new)),
        option("--artifacts", args.artifacts.as_deref().map(Path::new)),
    ));
    Ok(exit)
}

/// Shows metrics where that was asked for, until the result is dropped.
pub async fn show_metrics(core: &Handle, metrics: &MetricsAddress) -> Result<Option<Page>, Failure> {
    let Some(address) = &metrics.address else { return Ok(None) };
    let core = core.clone();
    let look = move || {
        let core = core.clone();
        async move { core.metrics().await }
    };
    Page::serve(address, look).await.map(Some).map_err(Failure::usage)
}

/// Sends traces where that was asked for; what is left is sent by closing the result.
pub async fn send_traces(core: &Handle, traces: &Traces) -> Result<Tracer, Failure> {
    let tracer = traces.open("epsweep", &std::process::id().to_string()).map_err(Failure::usage)?;
    if tracer.is_on() {
        let sends = tracer.clone();
        let _ = core.call(move |core| core.trace_to(sends)).await; // one that has stopped says why by itself
    }
    Ok(tracer)
}

async fn write_report(core: &Handle, state: &Path, name: String) {
    let (state, into) = (state.to_path_buf(), state.join("reports").join(&name));
    let sweep = name.clone();
    let published = tokio::task::spawn_blocking(move || publish(&state, Some(&sweep), &into)).await;
    match published {
        Ok(Ok(published)) => {
            let page = published.dir.join("index.html").display().to_string();
            tracing::info!(sweep = name, report = page, "report written");
            let _ = core.call(move |core| core.set_report(&name, page)).await;
        }
        Ok(Err(error)) => {
            tracing::error!(sweep = name, error = format!("{error:?}"), "the report could not be written")
        }
        Err(error) => tracing::error!(sweep = name, %error, "the report could not be written"),
    }
}
