//! Worker processes on this machine, for `epsweep run`.
//!
//! Each child stands in a process group of its own, so that Ctrl-C reaches only the coordinator,
//! which then ends them in order: TERM, a grace period, KILL. Each holds the read end of a pipe
//! whose write end is ours: should we be killed outright, the pipe closes and they leave too.

use super::compute::Compute;
use super::cores::Pin;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

/// How to start one worker.
#[derive(Debug, Clone)]
pub struct LocalWorker {
    pub program: PathBuf,
    pub connect: String,
    /// Its name; also the name of its log file.
    pub name: String,
    /// The run's directory.
    pub dir: PathBuf,
    pub compute: Compute,
    /// Tasks at a time; `None`: one for each GPU.
    pub slots: Option<u32>,
    /// Which worker of this run it is, from 0: they take cores and GPUs in turn.
    pub turn: usize,
    /// The collector that it sends traces to.
    pub otlp: Option<String>,
    /// File that holds the coordinator's token.
    pub token_file: PathBuf,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LaunchError {
    #[error("epsweep-worker is neither beside {beside} nor on the PATH", beside = .beside.display())]
    #[diagnostic(help("build it with `make build`, install both programs, or set EPSWEEP_WORKER to its path"))]
    NoWorker { beside: PathBuf },
    #[error("cannot start {program}", program = .program.display())]
    Start { program: PathBuf, source: std::io::Error },
}

/// Finds the worker program: EPSWEEP_WORKER, else beside this program, else on the PATH.
///
/// # Errors
/// When there is none.
pub fn find_worker() -> Result<PathBuf, LaunchError> {
    if let Some(path) = std::env::var_os("EPSWEEP_WORKER") {
        return Ok(path.into());
    }
    let here = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_path_buf)).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(here.clone()).chain(std::env::split_paths(&path));
    folders
        .map(|folder| folder.join("epsweep-worker"))
        .find(|program| program.is_file())
        .ok_or(LaunchError::NoWorker { beside: here })
}

/// A child that is killed when dropped.
#[derive(Debug)]
pub struct Running {
    pub name: String,
    child: Child,
    /// The pipe that closes when we are gone. Taken out of `child`, whose `wait` would close it.
    _alive: Option<ChildStdin>,
}

impl LocalWorker {
    /// Starts the process.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(&self) -> Result<Running, LaunchError> {
        let log = crate::telemetry::log_file(&self.dir, &self.name);
        let mut child = Command::new(&self.program)
            .args(["--connect", &self.connect, "--name", &self.name])
            .args(self.compute.args())
            .args(self.slots.iter().flat_map(|slots| ["--slots".into(), slots.to_string()]))
            .args(self.otlp.iter().flat_map(|url| ["--otlp", url]))
            .args(["--device-offset", &self.turn.to_string()])
            .arg("--cache")
            .arg(&self.dir) // its cache is the coordinator's own folder: nothing is stored twice
            .arg("--log-file")
            .arg(log)
            .arg("--token-file")
            .arg(&self.token_file)
            .arg("--exit-with-stdin")
            // The next one finds the state on this machine's disk.
            .args(["--save-every", "0"])
            // What a worker says is in its log file; what it dies of is shown.
            .env("RUST_LOG", "error")
            .env("OMP_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| LaunchError::Start { program: self.program.clone(), source })?;
        let alive = child.stdin.take();
        Ok(Running { name: self.name.clone(), child, _alive: alive })
    }
}

impl Running {
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the process to end by itself.
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// TERM, `grace`, KILL.
    pub async fn stop(mut self, grace: Duration) {
        if let Some(pid) = self.child.id() {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
        }
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// A worker's process has ended while it was still needed.
#[derive(Debug)]
pub struct Death {
    pub name: String,
    pub status: Option<ExitStatus>,
}

impl Death {
    /// Whether the worker refused its command line, such as a GPU that is not there.
    pub fn is_refusal(&self) -> bool {
        self.status.and_then(|status| status.code()) == Some(i32::from(crate::program::Exit::Usage as u8))
    }
}

/// The workers of one run, kept at their number.
#[derive(Debug)]
pub struct Fleet {
    stop: tokio_util::sync::CancellationToken,
    tasks: tokio_util::task::TaskTracker,
}

/// A worker that died is replaced this often; then its slot stays empty.
const RESTARTS: u32 = 20;

impl Fleet {
    /// Starts `count` workers named after `template.name`. Deaths are reported through `deaths`;
    /// each is followed by a replacement under a new name.
    ///
    /// Each of `cores` belongs to one of them, where they are to be bound.
    ///
    /// # Errors
    /// When the first ones cannot be started.
    pub fn start(
        template: &LocalWorker,
        count: u32,
        cores: Option<&[usize]>,
        deaths: &mpsc::UnboundedSender<Death>,
    ) -> Result<Fleet, LaunchError> {
        let fleet = Fleet { stop: Default::default(), tasks: Default::default() };
        for turn in 0..count as usize {
            let pin = cores.map(|cores| Pin::Listed(vec![cores[turn]]));
            let compute = Compute { pin, ..template.compute.clone() };
            let name = format!("{}-{}", template.name, turn + 1);
            let worker = LocalWorker { name, compute, turn, ..template.clone() };
            let running = worker.start()?;
            tracing::info!(worker = running.name, pid = running.pid(), "worker started");
            fleet.tasks.spawn(keep_alive(worker, running, deaths.clone(), fleet.stop.clone()));
        }
        fleet.tasks.close();
        Ok(fleet)
    }

    /// Waits until every worker has ended by itself.
    pub async fn finished(&self) {
        self.tasks.wait().await;
    }

    /// Ends all workers.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

async fn keep_alive(
    template: LocalWorker,
    mut running: Running,
    deaths: mpsc::UnboundedSender<Death>,
    stop: tokio_util::sync::CancellationToken,
) {
    for restart in 1..=RESTARTS {
        let status = tokio::select! {
            status = running.wait() => status.ok(),
            () = stop.cancelled() => return running.stop(Duration::from_secs(12)).await,
        };
        if status.is_some_and(|status| status.success()) {
            return; // it was told to leave
        }
        let name = running.name.clone();
        tracing::warn!(worker = name, status = status.map(|status| status.to_string()), "worker died");
        let death = Death { name, status };
        let refused = death.is_refusal();
        if deaths.send(death).is_err() || refused {
            return; // who refuses once would only say the same again
        }
        tokio::time::sleep(Duration::from_millis(100) * restart).await;
        let worker = LocalWorker { name: format!("{}.{restart}", template.name), ..template.clone() };
        match worker.start() {
            Ok(next) => running = next,
            Err(error) => return tracing::error!(%error, "cannot replace a worker"),
        }
    }
    tracing::error!(worker = template.name, "died {RESTARTS} times, and is not replaced again");
}
