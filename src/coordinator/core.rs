//! The one thread that owns the engine and the ledger.
//!
//! Who waits for requests is one thing, what a round does with them another: a thread waits ([`Core::start`]), or a task of the
//! caller's runtime ([`Core::start_here`]), whose clock may be a simulated one.

mod clock;
mod handle;
mod lost;
mod recovery;
mod requests;
mod snapshot;
mod space;
mod steer;
mod unfinished;
mod why;

pub use handle::{Handle, Unanswered};
pub use recovery::Recovery;
pub(super) use space::{free_bytes, is_full};
pub use steer::{PRIORITIES, Refused, no_such_sweep};

use clock::Clock;
use handle::{Jobs, Queued, Reply, Waker};
use space::Waiting;

use super::live::{Fatal, LiveSweep};
use super::log::{Round, remember};
use super::metrics::Metrics;
use super::traces::Traces;
use crate::artifacts::{ArtifactError, Store};
use crate::engine::{Effect, Engine, Event, Millis, Settings, SweepId};
use crate::ledger::{Damaged, Ledger, LedgerError};
use crate::telemetry::in_bulk;
use crate::telemetry::traces::Tracer;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// How often time is told to the engine when nothing else happens.
const TICK: Duration = Duration::from_millis(500);
/// It is told then at the latest, however much there is to answer.
const TICK_AT_LAST: Millis = 5_000;
/// At most this many requests share one commit, and for no longer are they taken, so that the first need not wait
/// for a flood: one of them may hand thousands of answers in.
const GROUP: usize = 4096;
const GROUP_TIME: Duration = Duration::from_millis(50);

/// Something the program around the coordinator may act on.
#[derive(Debug)]
pub enum Notice {
    /// A sweep has ended: write its report.
    Finished { sweep: SweepId, name: String },
    /// A sweep has paused itself: too much of it fails.
    Halted { sweep: SweepId, why: String },
    /// The ledger failed; nothing more will be answered.
    Broken(LedgerError),
}

/// The engine with its ledger, its plans and a clock.
pub struct Core {
    engine: Engine,
    settings: Settings,
    ledger: Ledger,
    store: Store,
    pub(super) sweeps: BTreeMap<SweepId, LiveSweep>,
    clock: Clock,
    /// When the engine was last told the time.
    ticked: Millis,
    wake: Waker,
    woken: bool,
    notices: mpsc::UnboundedSender<Notice>,
    /// Sweeps that have ended in this group: told to others once that is on disk.
    ended: Vec<(SweepId, String)>,
    /// Sweeps that have paused themselves in this group, and why.
    halted: Vec<(SweepId, String)>,
    fatal: Fatal,
    /// Rows of the history that the last replay had to leave out.
    damaged: Vec<Damaged>,
    /// The ledger failed in this group: nothing of the group counts.
    broken: Option<LedgerError>,
    /// Nothing is changed until there is space.
    waiting: Option<Waiting>,
    /// States of training runs that were uploaded and that no run has named yet, and since when.
    unnamed: HashMap<String, Millis>,
    /// No lease is granted and workers are told to leave.
    draining: bool,
    /// Lines of the log in this round.
    pub(super) said: Round,
    pub(super) metrics: Arc<Metrics>,
    traces: Traces,
}

/// The core's thread ends; why has been told as a [`Notice`].
struct Stop;

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum OpenError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
}

impl Core {
    /// Replays the ledger's history and starts the thread.
    ///
    /// # Errors
    /// When the directory cannot be written, or the ledger holds something unreadable.
    pub fn start(
        ledger: Ledger,
        recovery: Recovery,
        settings: Settings,
    ) -> Result<(Handle, mpsc::UnboundedReceiver<Notice>), OpenError> {
        let store = Store::open(&ledger.dir().join("checkpoints"))?;
        Core::start_with(ledger, store, recovery, settings)
    }

    /// The same, with artifacts in a place of their own.
    ///
    /// # Errors
    /// As [`Core::start`].
    pub fn start_with(
        ledger: Ledger,
        store: Store,
        recovery: Recovery,
        settings: Settings,
    ) -> Result<(Handle, mpsc::UnboundedReceiver<Notice>), OpenError> {
        let (core, handle, queue, notice) = Core::open(ledger, store, recovery, settings, None)?;
        std::thread::Builder::new()
            .name("core".into())
            .spawn(move || core.run(&queue))
            .expect("a thread can be started");
        Ok((handle, notice))
    }

    /// The same as a task of the current runtime, by its clock: with a runtime of one thread that stops its clock, all that the
    /// core does happens in simulated time, and the same way every time. The disk is waited for on the runtime's thread.
    ///
    /// # Errors
    /// As [`Core::start`].
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn start_here(
        ledger: Ledger,
        store: Store,
        recovery: Recovery,
        settings: Settings,
    ) -> Result<(Handle, mpsc::UnboundedReceiver<Notice>), OpenError> {
        let bell = Arc::new(Notify::new());
        let (core, handle, queue, notice) = Core::open(ledger, store, recovery, settings, Some(bell.clone()))?;
        tokio::spawn(core.run_here(queue, bell));
        Ok((handle, notice))
    }

    /// Replays the history; requests are not taken yet. `bell` rings with every request that is sent.
    #[allow(clippy::type_complexity)] // what its two callers start with
    fn open(
        ledger: Ledger,
        store: Store,
        recovery: Recovery,
        settings: Settings,
        bell: Option<Arc<Notify>>,
    ) -> Result<(Core, Handle, Receiver<Queued>, mpsc::UnboundedReceiver<Notice>), OpenError> {
        store.clean()?;
        let wake = Waker::default();
        let woken = wake.listener();
        let (notices, notice) = mpsc::unbounded_channel();
        let (metrics, dir) = (Arc::new(Metrics::new()), ledger.dir().to_path_buf());
        let mut core = Core {
            engine: Engine::new(settings),
            settings,
            ledger,
            store: store.clone(),
            sweeps: BTreeMap::new(),
            clock: Clock::start(),
            ticked: 0,
            wake,
            woken: false,
            notices,
            ended: Vec::new(),
            halted: Vec::new(),
            fatal: Fatal::new(),
            damaged: Vec::new(),
            broken: None,
            waiting: None,
            unnamed: HashMap::new(),
            draining: false,
            said: Round::default(),
            metrics: metrics.clone(),
            traces: Traces::default(),
        };
        core.recover(recovery)?;
        let (jobs, queue) = channel();
        Ok((core, Handle { jobs: Jobs::new(jobs, bell), wake: woken, store, dir, metrics }, queue, notice))
    }

    /// Waits on a thread of its own.
    fn run(mut self, queue: &Receiver<Queued>) {
        loop {
            let first = match queue.recv_timeout(TICK) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let Ok(()) = self.round(first, queue) else { return };
        }
    }

    /// Waits as a task.
    async fn run_here(mut self, queue: Receiver<Queued>, bell: Arc<Notify>) {
        loop {
            let mut next = queue.try_recv();
            if matches!(next, Err(TryRecvError::Empty)) {
                let _ = tokio::time::timeout(TICK, bell.notified()).await;
                next = queue.try_recv();
            }
            let first = match next {
                Ok(job) => Some(job),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return,
            };
            let Ok(()) = self.round(first, &queue) else { return };
        }
    }

    /// Takes what has piled up, applies it, commits once, releases the replies.
    fn round(&mut self, first: Option<Queued>, queue: &Receiver<Queued>) -> Result<(), Stop> {
        let round = Instant::now();
        self.clock.advance(self.waiting.is_some());
        // What waits in the queue may be a sign of life: time passes only when that has been heard.
        let (replies, heard_all) = in_bulk(|| {
            let answered = self.answer_group(first, queue);
            self.log_round();
            answered
        });
        let overdue = self.now() >= self.ticked + TICK_AT_LAST;
        if self.waiting.is_none() && self.now() >= self.ticked + TICK.as_millis() as Millis && (heard_all || overdue) {
            self.ticked = self.now();
            self.step(Event::Tick);
            self.drop_stale_states();
        }
        let durable = self.settle()?;
        self.traces.settled(durable.is_ok());
        self.metrics.round(replies.len(), round.elapsed());
        for reply in replies {
            reply(durable.clone());
        }
        self.tell();
        Ok(())
    }

    /// Tells others what has become durable.
    fn tell(&mut self) {
        if self.waiting.is_none() {
            for (sweep, why) in self.halted.drain(..) {
                let _ = self.notices.send(Notice::Halted { sweep, why });
            }
            for (sweep, name) in self.ended.drain(..) {
                let _ = self.notices.send(Notice::Finished { sweep, name });
            }
        }
        if std::mem::take(&mut self.woken) {
            self.wake.wake();
        }
    }

    /// Runs what has piled up; false when there is more than one commit should wait for.
    fn answer_group(&mut self, first: Option<Queued>, queue: &Receiver<Queued>) -> (Vec<Reply>, bool) {
        let (started, mut replies, mut next) = (Instant::now(), Vec::new(), first);
        while let Some(queued) = next {
            replies.push(self.answer(queued));
            if replies.len() >= GROUP || started.elapsed() >= GROUP_TIME {
                return (replies, false);
            }
            next = queue.try_recv().ok();
        }
        (replies, true)
    }

    fn answer(&mut self, Queued { changes, job }: Queued) -> Reply {
        match &self.waiting {
            Some(waiting) if changes => {
                let why = waiting.why();
                job(Err(why))
            }
            _ => job(Ok(self)),
        }
    }

    /// Makes the group durable. The inner error is what its callers hear: none of it has happened, and they
    /// may ask again. The outer one ends the thread.
    fn settle(&mut self) -> Result<Result<(), Unanswered>, Stop> {
        let committed = match self.broken.take() {
            Some(error) => Err(error),
            None if self.waiting.as_ref().is_some_and(|waiting| waiting.settled) => return self.try_to_go_on().map(Ok),
            None => self.commit_ledger(),
        };
        if let Err(error) = committed {
            return self.start_over(error).map(Err);
        }
        self.settle_waiting();
        Ok(Ok(()))
    }

    fn commit_ledger(&mut self) -> Result<(), LedgerError> {
        if !self.ledger.is_writing() {
            return Ok(());
        }
        let started = Instant::now();
        self.ledger.commit()?;
        self.metrics.committed(started.elapsed());
        Ok(())
    }

    fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Applies one event and performs its durable effects; returns the rest.
    fn step(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.engine.apply(event, self.now());
        self.perform(effects)
    }

    fn perform(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let mut rest = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist(record) => {
                    remember(&mut self.fatal, &record);
                    self.log(&record);
                    self.metrics.record(&record);
                    self.traces.record(&record);
                    let written = self.ledger.append(&record, unix_ms());
                    self.keep(written);
                }
                Effect::Wake => self.woken = true,
                Effect::Finished(sweep) => self.finish(sweep, "finished"),
                Effect::Paused(sweep, why) => {
                    self.set_paused(sweep, Some(why.clone()));
                    self.halted.push((sweep, why));
                }
                other => rest.push(other),
            }
        }
        rest
    }

    /// Remembers the first failure of the ledger; the thread stops at the end of the group.
    fn keep<T: Default>(&mut self, result: Result<T, LedgerError>) -> T {
        result.unwrap_or_else(|error| {
            self.broken.get_or_insert(error);
            T::default()
        })
    }

    /// What the engine holds of itself, for tests.
    ///
    /// # Panics
    /// When parts of its state contradict each other.
    pub fn sanity_check(&self) {
        self.engine.sanity_check();
    }

    /// Sends traces from now on.
    pub fn trace_to(&mut self, tracer: Tracer) {
        self.traces = Traces::new(tracer);
    }

    fn finish(&mut self, sweep: SweepId, state: &str) {
        let written = self.ledger.end_sweep(sweep, state, unix_ms());
        self.keep(written);
        self.woken = true;
        if let Some(live) = self.sweeps.get(&sweep) {
            let name = live.plan.sweep.name.clone();
            tracing::info!(sweep = name, failed = live.failures(&self.fatal).count(), "sweep {state}");
            self.ended.push((sweep, name));
        }
    }
}

/// Unix time in milliseconds, for people: nothing is decided by it.
fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}

#[cfg(test)]
mod tests;
