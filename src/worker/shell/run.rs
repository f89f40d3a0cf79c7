//! The worker's main loop.

use super::answers::Answers;
use super::asking::{Asking, Want};
use super::cache;
use super::error::WorkerError;
use super::fetch::{self, Fetches};
use super::held::{Added, Held};
use super::link::{Identity, Link, LinkError, bounded, parse_leases};
use super::metrics::{Metrics, Now};
use super::post::Post;
use super::slots::{self, Compute, Done, Job, Shared};
use super::traces::Attempt;
use epsweep::artifacts::{ArtifactId, Place, Store};
use epsweep::blocking;
use epsweep::engine::{Failure, Lease};
use epsweep::proto::{self, AcquireRequest, AcquireResponse, FailRequest, FailureKind, HeartbeatRequest, LeaveRequest};
use epsweep::telemetry;
use epsweep::telemetry::metrics::{MetricFamily, Page};
use epsweep::telemetry::traces::{Ended, Tracer};
use epsweep::transport::Credentials;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an Acquire waits at the coordinator.
const POLL: Duration = Duration::from_secs(20);
/// A worker that must go waits this long for its slots to stop at the next batch.
const GRACE: Duration = Duration::from_secs(10);

/// How a worker was started.
#[derive(Debug, Clone)]
pub struct Options {
    pub connect: String,
    pub name: String,
    pub host: String,
    /// What it computes on, as the ledger shows it.
    pub device: String,
    pub slots: u32,
    /// What its slots do.
    pub compute: Arc<dyn Compute>,
    /// The number of its first request for work: above every number of an earlier process of its name, whose last request
    /// may still be on its way and must not pass for newer than the first of this one.
    pub first_request: u64,
    /// Checkpoints and unfinished training runs.
    pub cache: PathBuf,
    /// Bytes that its checkpoints and witnesses may take.
    pub cache_size: Option<u64>,
    /// Where the coordinator keeps its artifacts, if this worker reaches it by itself.
    pub place: Place,
    pub credentials: Credentials,
    pub libtorch: String,
    /// How often the state of a training run is sent to the coordinator; `None`: never, the cache outlives this worker.
    pub save_every: Option<Duration>,
    /// How long the coordinator may stay silent before the first answer, and later.
    pub patience: (Duration, Duration),
    /// When this worker must have left.
    pub ends: Option<Instant>,
    /// It leaves by itself when it has had nothing to do for so long.
    pub idle_exit: Option<Duration>,
    /// Where metrics are shown.
    pub metrics: Option<String>,
    /// Takes the spans of tasks.
    pub tracer: Tracer,
}

/// The running worker, shared by its tasks.
#[derive(Clone)]
pub(super) struct Worker {
    pub link: Link,
    held: Arc<Held>,
    pub shared: Arc<Shared>,
    pub answers: Arc<Answers>,
    pub post: Arc<Post>,
    fetches: Arc<Fetches>,
    jobs: UnboundedSender<Job>,
    pub compute: Arc<dyn Compute>,
    slots: u32,
    first_request: u64,
    ends: Option<Instant>,
    idle_exit: Option<Duration>,
    /// Unfinished training runs go to the coordinator.
    saves: bool,
    /// The worker must go now.
    shutdown: CancellationToken,
    /// Finish what is held, then go.
    drain: CancellationToken,
    deliveries: TaskTracker,
    /// A lease has ended: there may be room for another.
    released: Arc<Notify>,
}

/// Works until the coordinator drains, or `shutdown` is cancelled.
///
/// # Errors
/// When the cache cannot be used, or the coordinator refuses or stays silent for too long.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<(), WorkerError> {
    let held = Arc::new(Held::default());
    let (device, libtorch) = (options.device.clone(), options.libtorch.clone());
    let identity = Identity {
        worker: options.name.clone(),
        host: options.host,
        slots: options.slots,
        device: options.device,
        libtorch: options.libtorch,
    };
    let named = held.clone();
    let link = Link::new(
        &options.connect,
        &options.credentials,
        identity,
        options.patience,
        Arc::new(move || named.leases()),
    )?;
    let shared = Arc::new(Shared {
        checkpoints: options.place.seen_from(&options.cache)?,
        passing: Store::open(&options.cache.join("passing"))?,
        partial: options.cache.join("training"),
        save_every: options.save_every,
        metrics: Metrics::new(),
        tracer: options.tracer.clone(),
    });
    let answers = Answers::open(&options.cache, &options.name)
        .map_err(|source| WorkerError::Answers { cache: options.cache.clone(), source })?;
    // What lies in a folder that others share is not this worker's to remove.
    let bound = options.cache_size.filter(|_| !matches!(options.place, Place::Folder(_)));
    let _bound = cache::keep_within(bound, &shared.checkpoints, &options.cache);
    let (done, mut finished) = unbounded_channel();
    let jobs = slots::start(options.slots, &options.compute, &shared, &done);
    let worker = Worker {
        post: Arc::new(Post::open(link.clone())),
        fetches: Arc::default(),
        link,
        held,
        shared,
        answers: Arc::new(answers),
        jobs,
        compute: options.compute,
        slots: options.slots,
        first_request: options.first_request,
        ends: options.ends,
        idle_exit: options.idle_exit,
        saves: options.save_every.is_some(),
        shutdown: shutdown.clone(),
        drain: CancellationToken::new(),
        deliveries: TaskTracker::new(),
        released: Arc::new(Notify::new()),
    };
    let _page = match &options.metrics {
        Some(address) => {
            let worker = worker.clone();
            let look = move || std::future::ready(Some(worker.families(&device, &libtorch)));
            Some(Page::serve(address, look).await?)
        }
        None => None,
    };
    let welcome = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        welcome = worker.join(&options.cache) => welcome?,
    };
    if options.place.mark().await?.is_some_and(|mark| mark != welcome.artifacts) {
        return Err(WorkerError::NotShared { place: options.place });
    }
    tracing::info!(worker = options.name, coordinator = options.connect, slots = options.slots, "registered");
    let beating = tokio::spawn(worker.clone().heartbeats(Duration::from_millis(welcome.heartbeat_ms.max(50).into())));
    let saving = options.save_every.map(|every| tokio::spawn(worker.clone().save_trainings(every)));
    let result = worker.clone().serve(&mut finished).await;
    if let Some(saving) = saving {
        saving.abort();
    }
    worker.wind_down(&mut finished).await;
    beating.abort();
    tracing::info!(worker = options.name, "left");
    Ok(result?)
}

impl Worker {
    /// Old answers come first: once registered, this worker might be given their tasks anew.
    async fn join(&self, cache: &Path) -> Result<proto::RegisterResponse, LinkError> {
        self.hand_in_leftovers(cache).await?;
        self.link.register().await
    }

    /// Acquires, hands to the slots, delivers; returns when drained, told to go, or given up.
    async fn serve(self, finished: &mut tokio::sync::mpsc::UnboundedReceiver<Done>) -> Result<(), LinkError> {
        let mut asking = Asking::new(self.slots, self.first_request);
        let (failed, mut failures) = unbounded_channel();
        let mut idle_since = Instant::now();
        loop {
            let held = self.held.count();
            let drained = self.drain.is_cancelled();
            if held > 0 {
                idle_since = Instant::now();
            }
            match drained {
                true if held == 0 => return Ok(()),
                true => asking.stop(),
                false => asking.update(held, |want| Box::pin(self.clone().acquire(want))),
            }
            tokio::select! {
                biased; // the same events are always taken in the same order
                () = self.shutdown.cancelled() => return Ok(()),
                () = self.drain.cancelled(), if !drained => {}
                Some(error) = failures.recv() => return Err(error),
                Some(done) = finished.recv() => {
                    let (worker, failed) = (self.clone(), failed.clone());
                    self.deliveries.spawn(async move {
                        if let Err(error) = worker.deliver(done).await {
                            let _ = failed.send(error);
                        }
                    });
                }
                () = self.released.notified() => idle_since = Instant::now(),
                () = self.has_been_idle(idle_since), if held == 0 => {
                    tracing::info!("nothing to do for too long: leaving");
                    return Ok(());
                }
                acquired = asking.answered() => {
                    let AcquireResponse { leases, drain } = acquired?;
                    if drain {
                        self.drain.cancel();
                    }
                    let granted = leases.len();
                    leases.into_iter().for_each(|lease| self.start(lease));
                    asking.granted(granted, self.held.count());
                }
            }
        }
    }

    /// Waits until it has had nothing to do for as long as it may; for ever where that is without limit.
    async fn has_been_idle(&self, since: Instant) {
        match self.idle_exit {
            Some(longest) => tokio::time::sleep_until(since + longest).await,
            None => std::future::pending().await,
        }
    }

    /// What this worker shows to Prometheus.
    fn families(&self, device: &str, libtorch: &str) -> Vec<MetricFamily> {
        let (held, queued) = self.held.beat();
        self.shared.metrics.families(&Now {
            slots: self.slots,
            running: held.len().saturating_sub(queued.len()),
            queued: queued.len(),
            connected: self.link.is_connected(),
            device: device.into(),
            libtorch: libtorch.into(),
        })
    }

    pub(super) fn held_leases(&self) -> Vec<Lease> {
        self.held.leases()
    }

    async fn acquire(self, want: Want) -> Result<AcquireResponse, LinkError> {
        let Want { request, free_slots, prefetch } = want;
        let worker = self.link.worker();
        let message = AcquireRequest {
            worker,
            request,
            free_slots,
            prefetch,
            wait_ms: POLL.as_millis() as u32,
            seconds_left: None,
        };
        self.link
            .call(POLL + CALL_TIMEOUT, |mut client, timeout| {
                let left = self.ends.map(|ends| ends.saturating_duration_since(Instant::now()));
                let message = AcquireRequest { seconds_left: left.map(|left| left.as_secs_f64()), ..message.clone() };
                async move { client.acquire(bounded(message, timeout)).await }
            })
            .await
    }

    /// Fetches what the task needs, then queues it for a slot.
    fn start(&self, sent: proto::Lease) {
        let Some(Ok(lease)) = sent.id.clone().map(Lease::try_from) else {
            tracing::error!("the coordinator sent a lease without a valid id");
            return;
        };
        let Added { stop, begun, earlier } = self.held.add(lease);
        let worker = self.clone();
        let mut trace = Attempt::of(&self.shared.tracer, lease, &sent, &self.link.worker());
        trace.begin("fetch");
        let mut job = Job { lease, sent, stop, begun, trace };
        let wanted = match job.sent.kind.as_str() {
            "train" => job.sent.inputs.clone(),
            _ => vec![job.sent.checkpoint.clone()],
        };
        if wanted.is_empty() && job.sent.training.is_empty() && earlier.is_empty() {
            return self.queue(job);
        }
        self.deliveries.spawn(async move {
            // They may be at work in the folder that this one is to go on in.
            for attempt in earlier {
                attempt.cancelled().await;
            }
            if !job.sent.training.is_empty() {
                worker.take_over(lease, &job.sent.training).await;
            }
            match worker.fetch(&wanted).await {
                Ok(()) => worker.queue(job),
                Err(message) => {
                    job.trace.end(Ended::Badly(&message));
                    let message = format!("cannot fetch what the task needs: {message}");
                    let _ = worker.report_failure(lease, Failure::BadInput, message).await;
                    worker.release(lease);
                }
            }
        });
    }

    fn queue(&self, mut job: Job) {
        job.trace.begin("wait");
        let _ = self.jobs.send(job);
    }

    async fn fetch(&self, wanted: &[String]) -> Result<(), String> {
        for name in wanted {
            let id = ArtifactId::parse(name).ok_or("the lease names no artifact")?;
            let fetched = self.fetches.artifact(&self.link, &self.shared.checkpoints, &id).await;
            fetched.map_err(|error| fetch::chain(&error))?;
        }
        Ok(())
    }

    /// Hands a finished task in; the lease is held, and so renewed, until that has been answered.
    async fn deliver(&self, mut done: Done) -> Result<(), LinkError> {
        let lease = done.lease;
        let result = match done.result {
            // Leave hands it back, and whoever is given it goes on from here.
            _ if done.stopped && self.shutdown.is_cancelled() => match done.partial {
                Some(_) if self.saves => self.save_training(lease).await,
                _ => Ok(()),
            },
            Err((failure, message)) => self.report_failure(lease, failure, message).await,
            Ok(answer) => {
                self.shared.metrics.unsent.inc();
                let handed_in = self.hand_in(lease, done.seconds, answer).await;
                self.shared.metrics.unsent.dec();
                if handed_in.is_ok() {
                    self.held.stop_task(lease.task);
                }
                done.trace.end(if handed_in.is_ok() { Ended::Well } else { Ended::Badly("it was not taken") });
                handed_in
            }
        };
        if let (Ok(()), Some(partial), false) = (&result, &done.partial, done.stopped) {
            let partial = partial.clone();
            let _ = blocking::run(move || std::fs::remove_dir_all(partial)).await;
        }
        self.release(lease); // last: another attempt may wait for the folder
        result
    }

    fn release(&self, lease: Lease) {
        self.held.remove(lease);
        self.released.notify_one();
    }

    async fn report_failure(&self, lease: Lease, failure: Failure, message: String) -> Result<(), LinkError> {
        tracing::warn!(
            task = lease.task.short(),
            attempt = lease.attempt,
            failure = failure.name(),
            reason = message,
            "task failed"
        );
        let kind = match failure {
            Failure::Diverged => FailureKind::Diverged,
            Failure::OutOfMemory => FailureKind::OutOfMemory,
            Failure::BadInput => FailureKind::BadInput,
            Failure::Preempted => FailureKind::Preempted,
            Failure::LostWorker | Failure::Bug => FailureKind::Bug,
        };
        let log = if failure == Failure::Preempted { String::new() } else { telemetry::tail() };
        let (worker, lease) = (self.link.worker(), Some(lease.into()));
        let message = FailRequest { worker, lease, kind: kind.into(), message, log };
        self.link
            .call(CALL_TIMEOUT, |mut client, timeout| {
                let message = message.clone();
                async move { client.fail(bounded(message, timeout)).await }
            })
            .await
            .map(drop)
    }

    /// A heartbeat that hangs must not take the lease with it: it gives up in time for another.
    async fn heartbeats(self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            let (running, queued) = self.held.beat();
            let [running, queued] = [running, queued].map(|leases| leases.into_iter().map(Into::into).collect());
            let message = HeartbeatRequest { worker: self.link.worker(), running, queued };
            let answer = self
                .link
                .call(2 * interval, |mut client, timeout| {
                    let message = message.clone();
                    async move { client.heartbeat(bounded(message, timeout)).await }
                })
                .await;
            let Ok(answer) = answer else { continue }; // the main loop decides when to give up
            for lease in parse_leases(answer.revoked) {
                tracing::info!(task = lease.task.short(), attempt = lease.attempt, "revoked");
                self.held.stop(lease);
            }
            if answer.drain {
                self.drain.cancel();
            }
        }
    }

    /// Stops the slots at their next batch, hands in what is finished, gives the rest back.
    async fn wind_down(self, finished: &mut tokio::sync::mpsc::UnboundedReceiver<Done>) {
        self.held.stop_all();
        let deadline = Instant::now() + GRACE;
        while self.held.count() > 0 {
            tokio::select! {
                biased;
                Some(done) = finished.recv() => {
                    let worker = self.clone();
                    let lease = done.lease;
                    // A coordinator that is gone cannot be told; its ledger knows that the lease is out.
                    let _ = tokio::time::timeout_at(deadline, worker.deliver(done)).await;
                    self.held.remove(lease);
                }
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        let message = LeaveRequest { worker: self.link.worker() };
        let _ = self.link.client().leave(bounded(message, Duration::from_secs(2))).await;
    }
}
