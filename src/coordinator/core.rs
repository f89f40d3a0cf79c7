//! The one thread that owns the engine and the ledger.

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
use handle::{Queued, Reply};
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
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};

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
    wake: watch::Sender<u64>,
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
        store.clean()?;
        let (wake, woken) = watch::channel(0);
        let (notices, notice) = mpsc::unbounded_channel();
        let (metrics, dir) = (Arc::new(Metrics::new()), ledger.dir().to_path_buf());
        let mut core = Core {
            engine: Engine::new(settings),
            settings,
            ledger,
            store: store.clone(),
            sweeps: BTreeMap::new(),
            clock: Clock::start(),
            wake,
            woken: false,
            notices,
            ended: Vec::new(),
            halted: Vec::new(),
            fatal: Fatal::new(),
            damaged: Vec::new(),
            broken: None,
            waiting: None,
            draining: false,
            said: Round::default(),
            metrics: metrics.clone(),
            traces: Traces::default(),
        };
        core.recover(recovery)?;
        let (jobs, queue) = channel();
        std::thread::Builder::new()
            .name("core".into())
            .spawn(move || core.run(&queue))
            .expect("a thread can be started");
        Ok((Handle { jobs, wake: woken, store, dir, metrics }, notice))
    }

    /// Takes what has piled up, applies it, commits once, releases the replies.
    fn run(mut self, queue: &Receiver<Queued>) {
        let mut last_tick = self.now();
        loop {
            let first = match queue.recv_timeout(TICK) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let round = Instant::now();
            self.clock.advance(self.waiting.is_some());
            // What waits in the queue may be a sign of life: time passes only when that has been heard.
            let (replies, heard_all) = in_bulk(|| {
                let answered = self.answer_group(first, queue);
                self.log_round();
                answered
            });
            let overdue = self.now() >= last_tick + TICK_AT_LAST;
            if self.waiting.is_none() && self.now() >= last_tick + TICK.as_millis() as Millis && (heard_all || overdue)
            {
                last_tick = self.now();
                self.step(Event::Tick);
            }
            let Ok(durable) = self.settle() else { return };
            self.traces.settled(durable.is_ok());
            self.metrics.round(replies.len(), round.elapsed());
            for reply in replies {
                reply(durable.clone());
            }
            let halted = if self.waiting.is_none() { std::mem::take(&mut self.halted) } else { Vec::new() };
            for (sweep, why) in halted {
                let _ = self.notices.send(Notice::Halted { sweep, why });
            }
            let ended = if self.waiting.is_none() { std::mem::take(&mut self.ended) } else { Vec::new() };
            for (sweep, name) in ended {
                let _ = self.notices.send(Notice::Finished { sweep, name });
            }
            if std::mem::take(&mut self.woken) {
                self.wake.send_modify(|version| *version += 1);
            }
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
