//! The one thread that owns the engine and the ledger.

use super::answer::Answer;
use super::live::{Fatal, LiveSweep};
use super::log::remember;
use super::prepare::{Prepared, replan};
use crate::artifacts::{ArtifactError, Store};
use crate::engine::{
    Admission, Effect, Engine, Event, Failure, Grant, Lease, Millis, Settings, Status, SweepId, SweepState, Verdict,
};
use crate::ledger::{Cost, Ledger, LedgerError, NewSweep, StoredSweep, WorkerInfo};
use crate::plan::{CertifyQuestion, MeasureQuestion, Plan, Question, TaskKey};
use crate::proto;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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

    // ---- what the services ask for ---------------------------------------------------------------

    /// Admits a sweep in place of any earlier one of its name.
    pub fn submit(&mut self, prepared: &Prepared) -> proto::SubmitResponse {
        let plan = &prepared.plan;
        let name = &plan.sweep.name;
        let earlier: Vec<_> =
            self.sweeps.values().filter(|live| live.plan.sweep.name == *name).map(|live| live.id).collect();
        for id in earlier {
            self.step(Event::Cancel(id));
        }
        let new = NewSweep {
            yaml: &prepared.yaml,
            source: &prepared.source,
            base_dir: &prepared.base_dir,
            plan,
            at_ms: unix_ms(),
        };
        let stored = self.ledger.add_sweep(&new);
        let id = self.keep(stored);
        self.admit_live(id, plan.clone(), true);
        let answered = self
            .engine
            .progress(id)
            .map_or(0, |progress| progress.train.of(Status::Done) + progress.evaluate.of(Status::Done));
        tracing::info!(sweep = name, trials = plan.trials.len(), tasks = plan.tasks.len(), answered, "sweep submitted");
        proto::SubmitResponse {
            sweep: name.clone(),
            trials: plan.trials.len() as u32,
            tasks: plan.tasks.len() as u64,
            answered,
        }
    }

    fn admit_live(&mut self, id: SweepId, plan: Arc<Plan>, revive: bool) {
        let admission = Admission::of(&plan, id, revive);
        self.sweeps.insert(id, LiveSweep::new(id, plan));
        self.step(Event::Admit(admission));
    }

    /// Cancels a sweep; returns how many of its tasks will not run, or `None` when there is none of that name.
    pub fn cancel(&mut self, name: &str) -> Option<u64> {
        let id = self.find(name).filter(|_| !name.is_empty())?; // an empty name is an unset variable
        let progress = self.engine.progress(id)?;
        if progress.state != SweepState::Running {
            return Some(0);
        }
        self.step(Event::Cancel(id));
        self.finish(id, "cancelled");
        Some(
            [progress.train, progress.evaluate]
                .iter()
                .map(|c| c.total() - c.of(Status::Done) - c.of(Status::Failed))
                .sum(),
        )
    }

    pub fn register(&mut self, worker: WorkerInfo, running: Vec<Lease>) {
        let written = self.ledger.store_worker(&worker, unix_ms());
        self.keep(written);
        tracing::info!(
            worker = worker.worker,
            host = worker.host,
            slots = worker.slots,
            device = worker.device,
            "worker registered"
        );
        self.step(Event::Register { worker: worker.worker.into(), slots: worker.slots, running });
    }

    /// Leases for a worker; `None` when it must register first.
    pub fn acquire(&mut self, worker: &str, request: u64, free_slots: u32, prefetch: u32) -> Option<Vec<proto::Lease>> {
        let effects = self.step(Event::Acquire { worker: worker.into(), request, free_slots, prefetch });
        let mut grants = Vec::new();
        for effect in effects {
            match effect {
                Effect::UnknownWorker => return None,
                Effect::Granted(granted) => grants = granted,
                _ => {}
            }
        }
        Some(grants.into_iter().filter_map(|grant| self.write_lease(grant)).collect())
    }

    fn write_lease(&mut self, grant: Grant) -> Option<proto::Lease> {
        let Grant { lease, sweep, keep, .. } = grant;
        let live = self.sweeps.get(&sweep)?;
        let (checkpoint, known) = match live.question(lease.task)? {
            Question::Train(_) => (String::new(), Vec::new()),
            Question::Certify(CertifyQuestion { train, epoch, .. })
            | Question::Measure(MeasureQuestion { train, epoch, .. }) => {
                let checkpoint = self.ledger.checkpoint(train, epoch);
                (self.keep(checkpoint).unwrap_or_default(), Vec::new())
            }
            Question::Evaluate(question) => {
                let checkpoint = self.ledger.checkpoint(question.train, question.epoch);
                let known = self.ledger.known(question.family());
                let mut known = self.keep(known);
                known.retain(|known| question.can_build_on(known));
                (self.keep(checkpoint).unwrap_or_default(), known)
            }
        };
        self.sweeps.get(&sweep)?.lease(lease, keep, checkpoint, known)
    }

    /// Renews leases; `None` when the worker must register first.
    pub fn heartbeat(&mut self, worker: &str, running: Vec<Lease>) -> Option<Vec<Lease>> {
        self.step(Event::Heartbeat { worker: worker.into(), running }).into_iter().find_map(|effect| match effect {
            Effect::Renewed { revoked } => Some(revoked),
            _ => None,
        })
    }

    /// Takes an answer in. An `Err` says why it cannot be one.
    pub fn commit(&mut self, request: proto::CommitRequest) -> Result<Verdict, String> {
        let lease: Lease = request.lease.clone().unwrap_or_default().try_into()?;
        let live = self.sweeps.values().rev().find(|live| live.position(lease.task).is_some());
        let Some(live) = live else { return Ok(Verdict::Unwanted) };
        let question = live.question(lease.task).expect("its position is known");
        let sweep = live.plan.sweep.name.clone();
        let (trial, kind) = live.words(lease.task).unwrap_or_default();
        let answer = Answer::check(&question, request.answer, &self.store)?;
        let epochs = match &answer {
            Answer::Train(checkpoints) => Some(checkpoints.iter().map(|checkpoint| checkpoint.epoch).collect()),
            Answer::Evaluate(_) | Answer::Measure(_) => None,
        };
        let (worker, seconds) = (request.worker, request.seconds);
        let effects = self.step(Event::Commit { worker: worker.as_str().into(), lease, epochs, seconds });
        let verdict = effects
            .iter()
            .find_map(|effect| if let Effect::Verdict(verdict) = effect { Some(*verdict) } else { None })
            .unwrap_or(Verdict::Unwanted);
        let (task, attempt) = (lease.task.short(), lease.attempt);
        tracing::info!(sweep, trial, task, attempt, worker, kind, seconds, verdict = ?verdict, "committed");
        if verdict == Verdict::Accepted {
            let passes = request.passes.unwrap_or_default();
            let cost = Cost {
                task: lease.task,
                attempt: lease.attempt,
                kind: kind.into(),
                worker,
                seconds,
                forwards: passes.forwards,
                backwards: passes.backwards,
                examples: passes.examples,
            };
            let stored = self.store_answer(lease.task, &answer, &cost);
            self.keep(stored);
        }
        Ok(verdict)
    }

    fn store_answer(&mut self, task: TaskKey, answer: &Answer, cost: &Cost) -> Result<(), LedgerError> {
        match answer {
            Answer::Train(checkpoints) => self.ledger.store_checkpoints(task, checkpoints)?,
            Answer::Evaluate(levels) => self.ledger.store_levels(task, levels)?,
            Answer::Measure(answer) => self.ledger.store_measure(task, answer)?,
        }
        self.ledger.store_cost(cost)
    }

    pub fn fail(&mut self, worker: &str, lease: Lease, failure: Failure, message: String) {
        self.step(Event::Fail { worker: worker.into(), lease, failure, message });
    }

    pub fn leave(&mut self, worker: &str) {
        tracing::info!(worker, "worker left");
        self.step(Event::Leave { worker: worker.into() });
    }

    /// A worker process is known to be dead: its tasks need not wait for their deadlines.
    pub fn lost(&mut self, worker: &str) {
        tracing::warn!(worker, "worker died");
        self.step(Event::Lost { worker: worker.into() });
    }

    /// Grants nothing from now on, and tells workers to leave.
    pub fn drain(&mut self) {
        self.draining = true;
        self.woken = true;
        self.step(Event::Drain);
    }

    /// The artifact folder cannot be written: everything stops as it does for the ledger.
    pub fn storage_failed(&mut self, dir: PathBuf, source: std::io::Error) {
        self.broken.get_or_insert(LedgerError::Unwritable { dir, source });
    }

    /// The last call before the program ends.
    pub fn close(&mut self) {
        let folded = self.ledger.fold();
        self.keep(folded);
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// The newest sweep of that name; the newest of all for an empty name.
    fn find(&self, name: &str) -> Option<SweepId> {
        self.sweeps.values().rev().find(|live| name.is_empty() || live.plan.sweep.name == name).map(|live| live.id)
    }

    pub fn set_report(&mut self, name: &str, report: String) {
        if let Some(live) = self.find(name).and_then(|id| self.sweeps.get_mut(&id)) {
            live.report = Some(report);
            self.woken = true;
        }
    }

    pub fn status(&self, name: &str) -> Option<proto::SweepStatus> {
        let id = self.find(name)?;
        Some(self.sweeps[&id].status(&self.engine.progress(id)?, self.engine.fleet(), &self.fatal))
    }

    /// The newest revision of every sweep, oldest first.
    pub fn list(&self) -> Vec<proto::SweepStatus> {
        let mut newest = BTreeMap::new();
        for live in self.sweeps.values() {
            newest.insert(live.plan.sweep.name.clone(), live.id);
        }
        let mut ids: Vec<_> = newest.into_values().collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.status(&self.sweeps[&id].plan.sweep.name)).collect()
    }
}

/// Unix time in milliseconds, for people: nothing is decided by it.
fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}
