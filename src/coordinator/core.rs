//! The one thread that owns the engine and the ledger.

mod requests;

use super::live::{Fatal, LiveSweep};
use super::log::remember;
use super::prepare::replan;
use crate::artifacts::{ArtifactError, Store};
use crate::engine::{Admission, Effect, Engine, Event, Millis, Settings, SweepId};
use crate::ledger::{Ledger, LedgerError, StoredSweep};
use crate::plan::Plan;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};

/// How often time is told to the engine when nothing else happens.
const TICK: Duration = Duration::from_millis(500);
/// At most this many requests share one commit, so that the first need not wait for a flood.
const GROUP: usize = 4096;

/// The coordinator stops answering because its ledger failed, or because it is shutting down.
#[derive(Debug, thiserror::Error)]
#[error("the coordinator is shutting down")]
pub struct CoreGone;

/// Something the program around the coordinator may act on.
#[derive(Debug)]
pub enum Notice {
    /// A sweep has ended: write its report.
    Finished { sweep: SweepId, name: String },
    /// The ledger failed; nothing more will be answered.
    Broken(LedgerError),
}

type Reply = Box<dyn FnOnce() + Send>;
type Job = Box<dyn FnOnce(&mut Core) -> Reply + Send>;

/// The way to the core thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    jobs: Sender<Job>,
    /// Counts up whenever tasks may have become ready or a sweep has changed.
    pub(super) wake: watch::Receiver<u64>,
    pub(super) store: Store,
}

impl Handle {
    /// Runs `f` on the core thread; returns its value once everything it wrote is durable.
    ///
    /// # Errors
    /// When the core has stopped.
    pub async fn call<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Result<R, CoreGone> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |core| {
            let value = f(core);
            Box::new(move || drop(reply.send(value)))
        });
        self.jobs.send(job).map_err(|_| CoreGone)?;
        answer.await.map_err(|_| CoreGone)
    }
}

/// The engine with its ledger, its plans and a clock.
pub struct Core {
    engine: Engine,
    ledger: Ledger,
    store: Store,
    pub(super) sweeps: BTreeMap<SweepId, LiveSweep>,
    started: Instant,
    wake: watch::Sender<u64>,
    woken: bool,
    notices: mpsc::UnboundedSender<Notice>,
    /// Sweeps that have ended in this group: told to others once that is on disk.
    ended: Vec<(SweepId, String)>,
    fatal: Fatal,
    broken: Option<LedgerError>,
    /// No lease is granted and workers are told to leave.
    draining: bool,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum OpenError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
}

/// What becomes of the sweeps and leases that a ledger holds when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// `serve`: sweeps go on, and workers may still be at work.
    Resume,
    /// `run`: its workers ended with it, and the file it is given says what to do.
    Fresh,
}

impl Core {
    /// Opens the state directory, replays its history and starts the thread.
    ///
    /// # Errors
    /// When the directory cannot be written, is in use, or holds something unreadable.
    pub fn start(
        dir: &Path,
        recovery: Recovery,
        settings: Settings,
    ) -> Result<(Handle, mpsc::UnboundedReceiver<Notice>), OpenError> {
        let ledger = Ledger::open(dir)?;
        let store = Store::open(&dir.join("checkpoints"))?;
        let (wake, woken) = watch::channel(0);
        let (notices, notice) = mpsc::unbounded_channel();
        let mut core = Core {
            engine: Engine::new(settings),
            ledger,
            store: store.clone(),
            sweeps: BTreeMap::new(),
            started: Instant::now(),
            wake,
            woken: false,
            notices,
            ended: Vec::new(),
            fatal: Fatal::new(),
            broken: None,
            draining: false,
        };
        core.recover(recovery)?;
        let (jobs, queue) = channel();
        std::thread::Builder::new()
            .name("core".into())
            .spawn(move || core.run(&queue))
            .expect("a thread can be started");
        Ok((Handle { jobs, wake: woken, store }, notice))
    }

    fn recover(&mut self, recovery: Recovery) -> Result<(), LedgerError> {
        let now = self.now();
        let (engine, fatal) = (&mut self.engine, &mut self.fatal);
        let mut records = 0u64;
        self.ledger.replay(|record| {
            engine.replay(&record, now);
            remember(fatal, &record);
            records += 1;
        })?;
        if recovery == Recovery::Fresh {
            let effects = self.engine.release_all(now);
            self.perform(effects);
        } else {
            for stored in self.ledger.sweeps()? {
                match replan(&stored) {
                    Ok(plan) if stored.state == "running" => self.admit_live(stored.id, Arc::new(plan), false),
                    Ok(plan) => self.remember_ended(&stored, Arc::new(plan)),
                    Err(error) => {
                        tracing::error!(sweep = stored.name, %error, "stored sweep is no longer valid; submit it anew")
                    }
                }
            }
        }
        if records > 0 {
            tracing::info!(records, seconds = self.started.elapsed().as_secs_f64(), "ledger replayed");
        }
        self.broken.take().map_or_else(|| self.ledger.commit(), Err)
    }

    /// A sweep that had ended before the restart: it can be listed, and nothing of it runs.
    fn remember_ended(&mut self, stored: &StoredSweep, plan: Arc<Plan>) {
        let (id, now) = (stored.id, self.now());
        self.engine.apply(Event::Admit(Admission::of(&plan, id, false)), now);
        self.engine.apply(Event::Cancel(id), now); // of no effect on one that is complete
        let page = self.ledger.dir().join("reports").join(&stored.name).join("index.html");
        let mut live = LiveSweep::new(id, plan);
        live.report = page.exists().then(|| page.display().to_string());
        self.sweeps.insert(id, live);
    }

    /// Takes what has piled up, applies it, commits once, releases the replies.
    fn run(mut self, queue: &Receiver<Job>) {
        let mut last_tick = Instant::now();
        loop {
            let mut replies = Vec::new();
            match queue.recv_timeout(TICK) {
                Ok(job) => replies.push(job(&mut self)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while replies.len() < GROUP
                && let Ok(job) = queue.try_recv()
            {
                replies.push(job(&mut self));
            }
            if last_tick.elapsed() >= TICK {
                last_tick = Instant::now();
                self.step(Event::Tick);
            }
            if let Err(error) = self.broken.take().map_or_else(|| self.ledger.commit(), Err) {
                // Nobody is told anything that is not on disk: the replies are dropped, and the callers see us gone.
                let _ = self.notices.send(Notice::Broken(error));
                return;
            }
            for reply in replies {
                reply();
            }
            for (sweep, name) in std::mem::take(&mut self.ended) {
                let _ = self.notices.send(Notice::Finished { sweep, name });
            }
            if std::mem::take(&mut self.woken) {
                self.wake.send_modify(|version| *version += 1);
            }
        }
    }

    fn now(&self) -> Millis {
        self.started.elapsed().as_millis() as Millis
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
                    let written = self.ledger.append(&record, unix_ms());
                    self.keep(written);
                }
                Effect::Wake => self.woken = true,
                Effect::Finished(sweep) => self.finish(sweep, "finished"),
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
